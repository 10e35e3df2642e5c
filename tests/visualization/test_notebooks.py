"""In notebooks, figures show as pictures without a magic command, and without pyplot."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import captum_canonical as cc
from benchmark_tools import Net
from captum_canonical import visualization
from dataset_tools import CornerAligner, write_photos
from face_tools import mesh_of, noise

FACE = cc.CanonicalFace.default(32)
MAPS = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def benchmarked() -> cc.BenchmarkResult:
    from captum.attr import Saliency

    net = Net().eval()
    photos, faces = noise(4, (28, 24)), mesh_of(FACE, 4, (28, 24))
    return cc.benchmark(net, photos, {"s": Saliency(net)}, 1, faces=faces, canonical_face=FACE, fills=["zero"], folds=2)


def randomized() -> cc.RandomizationTest:
    from captum.attr import Saliency

    return cc.model_randomization(Saliency(Net().eval()), noise(2, (28, 24)), target=1, keep_maps=[0], seeds=(0,))


def strata() -> dict[str, cc.ModelSaliency]:
    return cc.ModelSaliency.from_maps(MAPS, None, FACE, group=["a", "b"]).strata("group")


def sheet() -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), 2)
        return visualization.contact_sheet(cc.AlignedFaces(folder, CornerAligner(), size=16))


FIGURES: dict[str, Callable[[], Figure]] = {
    "contact_sheet": lambda: sheet(),
    "show_mesh": lambda: visualization.show_mesh(FACE.image, mesh_of(FACE, 1)),
    "show_canonical": lambda: visualization.show_canonical(MAPS[:1], FACE),
    "show_on_photo": lambda: visualization.show_on_photo(MAPS[:1], noise(1, 32)[0]),
    "montage": lambda: visualization.montage({"a": MAPS}, noise(2, 32)),
    "show_strata": lambda: visualization.show_strata(strata()),
    "show_benchmark": lambda: visualization.show_benchmark(benchmarked()),
    "show_curves": lambda: visualization.show_curves(benchmarked()),
    "show_randomization": lambda: visualization.show_randomization(randomized()),
}


def test_all_functions_are_here() -> None:
    assert set(FIGURES) == set(visualization.__all__)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_picture(name: str) -> None:
    """As IPython shows it, whose formatters know nothing of matplotlib unless something tells them."""
    formatters = pytest.importorskip("IPython.core.formatters")
    figure = FIGURES[name]()
    shown, _ = formatters.DisplayFormatter().format(figure)
    picture = np.asarray(Image.open(io.BytesIO(shown["image/png"])).convert("L"))
    high, wide = (round(float(side) * figure.dpi) for side in figure.get_size_inches()[::-1])
    assert abs(picture.shape[0] - high) <= 1 and abs(picture.shape[1] - wide) <= 1 and picture.std() > 5


@pytest.mark.slow
def test_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real kernel, with pyplot imported before, after, and not at all: one picture each."""
    client = pytest.importorskip("nbclient")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    begin = "import torch, captum_canonical as cc\nface = cc.CanonicalFace.default(32)"
    show = "cc.visualization.show_canonical(torch.rand(1, 1, 32, 32), face)"
    cells = [begin, show, "import matplotlib.pyplot as plt", show, "_ = plt.plot([1, 2])", show]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells[1::2]:
        pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
        assert len(pictures) == 1 and base64.b64decode(pictures[0])[1:4] == b"PNG"
