"""Photographs whose faces are looked for together: the same results as one by one, and no more of them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_canonical.adapters.detector import Detection, DetectorAligner, Finder
from captum_canonical.data import alignment
from captum_canonical.errors import AlignmentError, CanonicalError
from dataset_tools import dataset, write_photos

SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])


class Batches(DetectorAligner):
    """A square at a place that the photograph's mean colour tells; writes down how many it was given at once."""

    num_vertices = 4

    def __init__(self, error: Exception | None = None, at: int = -1) -> None:
        super().__init__()
        self.error, self.at, self.given = error, at, []

    def cache_key(self) -> str:
        return "batches"

    @contextmanager
    def open(self) -> Iterator[Finder]:
        yield self.find

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        brightness = int(image[0, 0, 0])
        if brightness == self.at and self.error is not None:
            raise self.error
        return [] if brightness == 0 else [SQUARE * 10 + brightness / 10]

    def find_all(self, images: Sequence[np.ndarray], device: torch.device) -> list[list[Detection]]:
        self.given.append(len(images))
        return super().find_all(images, device)


def folder_of(folder: Path, count: int) -> Path:
    """Photographs of growing size, the first black, of which number n has brightness n."""
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (40 + number, 50), (number, number, number)).save(folder / f"{number:03}.png")
    return folder


def test_photographs_of_any_size_are_given_together_and_each_gets_its_own_mesh(tmp_path: Path) -> None:
    aligner = Batches()
    with pytest.warns(UserWarning, match="1 of 70"):
        data = dataset(folder_of(tmp_path / "photos", 70), aligner).align()
    assert aligner.given == [32, 32, 6]
    assert list(data.left_out) == [0] and data.left_out[0].kind == "no face"
    for place in data.places:
        mesh = data.mesh(place)
        assert mesh.image_size == (50, 40 + place)
        assert mesh.vertices[0, 0, 0].item() == pytest.approx(place / 10)


def test_few_large_photographs_are_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "PIXELS_AT_ONCE", 5000)
    aligner = Batches()
    with pytest.warns(UserWarning, match="1 of 7"):
        dataset(folder_of(tmp_path / "photos", 7), aligner).align()
    assert aligner.given == [3, 3, 1]


def test_a_file_with_the_same_bytes_is_looked_at_once(tmp_path: Path) -> None:
    (path,) = write_photos(tmp_path, 1)
    aligner = Batches()
    data = dataset([path] * 5, aligner).align()
    assert sum(aligner.given) == 1 and len(data) == 5


@pytest.mark.parametrize("error", [CanonicalError("broken"), RuntimeError("broken"), KeyboardInterrupt()])
def test_an_error_in_the_middle_keeps_what_was_found(tmp_path: Path, error: BaseException) -> None:
    aligner = Batches(error, at=40)  # type: ignore[arg-type]
    data = dataset(folder_of(tmp_path / "photos", 50), aligner, cache=tmp_path / "cache")
    with pytest.raises(type(error)):
        data.align()
    found = 32 if isinstance(error, KeyboardInterrupt) else 40  # one without a face among them
    assert len(data._alignment.meshes) == found - 1 and len(list((tmp_path / "cache").iterdir())) == found
    aligner.error, aligner.given = None, []
    with pytest.warns(UserWarning, match="1 of 50"):
        assert len(data) == 49
    assert sum(aligner.given) == 50 - found


def test_one_photograph_that_cannot_be_aligned_is_left_out_alone(tmp_path: Path) -> None:
    aligner = Batches(AlignmentError("no mesh of this one"), at=3)
    with pytest.warns(UserWarning, match="2 of 6"):
        data = dataset(folder_of(tmp_path / "photos", 6), aligner).align()
    assert {place: left.kind for place, left in data.left_out.items()} == {0: "no face", 3: "not aligned"}
    assert data.left_out[3].reason == "no mesh of this one" and data.places == (1, 2, 4, 5)


def test_an_aligner_with_its_own_call_is_called(tmp_path: Path) -> None:
    class Own(Batches):
        def __call__(self, images: object, *, names: object = None) -> object:
            calls.append(names)
            return super().__call__(images, names=names)  # type: ignore[arg-type]

    calls: list[object] = []
    dataset(write_photos(tmp_path, 3), Own()).align()
    assert [len(each) for each in calls] == [1, 1, 1]  # type: ignore[arg-type]
