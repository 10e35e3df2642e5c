"""Canonical maps in Quantus: its metrics call ours as they call any explanation function.

    pip install quantus
    python examples/interop_quantus.py [--out DIR] [--copies 12] [--points 256] [--steps 350] [--seed 0]

The network of ``quickstart.py`` learned to notice a mark at the outer eye corners, so there is a ground truth to give
to Quantus's localisation metrics: the discs around the marks. Canonical occlusion, re-projected onto each copy, and
Grad-CAM, as it is and carried to the canonical face and back, get a row each in a table of four kinds of metrics
(faithfulness, localisation, complexity, randomisation), in ``--out``/quantus.csv, with a picture of the maps that were
judged.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import quantus
import torch
from captum.attr import LayerGradCam
from scipy.stats import spearmanr
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.adapters.explain_func import as_explain_func
from studies.known_answer import PATCH, REGION_RADIUS, copies, discs, load_faces, train

MARKED = 1  # the class that is explained
ExplainFunc = Callable[..., np.ndarray]


class TwoLogits(nn.Module):
    """The network's single logit as those of two classes; their softmax, which Quantus takes, is the probability."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, photos: Tensor) -> Tensor:
        logit = self.net(photos)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def last_convolution(net: nn.Module) -> nn.Module:
    """Of whatever network a metric gives: randomisation metrics give copies."""
    return [part for part in net.modules() if isinstance(part, nn.Conv2d)][-1]


def explain_funcs(photos: Tensor, faces: cc.FaceMesh, num_points: int) -> dict[str, ExplainFunc]:
    """The methods as Quantus calls them: each is made for the network that a metric gives."""
    fill = photos.mean((0, 2, 3), keepdim=True)
    return {
        "CanonicalOcclusion": as_explain_func(
            cc.CanonicalOcclusion, faces, photos, baselines=fill, patch_size=PATCH, num_points=num_points
        ),
        "Grad-CAM, canonical": as_explain_func(
            lambda net: cc.CanonicalProjector(LayerGradCam(net, last_convolution(net))),
            faces,
            photos,
            relu_attributions=True,
        ),
        "Grad-CAM": as_explain_func(lambda net: LayerGradCam(net, last_convolution(net)), relu_attributions=True),
    }


def scores_of(net: nn.Module, explain_func: ExplainFunc, photos: Tensor, truth: Tensor) -> dict[str, float]:
    """One number of each kind of metric, means over the photographs."""
    quiet = {"disable_warnings": True, "display_progressbar": False}
    metrics = {
        "pixel flipping (lower)": quantus.PixelFlipping(features_in_step=64, perturb_baseline="mean", **quiet),
        "rank accuracy (higher)": quantus.RelevanceRankAccuracy(**quiet),
        "sparseness (higher)": quantus.Sparseness(**quiet),
        "MPRT (lower)": quantus.MPRT(similarity_func=similarity_on_the_face, **quiet),
        "MPRT, whole image": quantus.MPRT(**quiet),
    }
    data = {"model": net, "x_batch": photos.numpy(), "y_batch": np.full(len(photos), MARKED)}
    data |= {"s_batch": truth.numpy(), "explain_func": explain_func}
    return {title: _mean(metric(**data)) for title, metric in metrics.items()}


def similarity_on_the_face(original: np.ndarray, randomised: np.ndarray, **_: object) -> np.ndarray:
    """Rank correlation of (B, P) maps where a face was seen: outside both are 0, which would pass for similarity."""
    pairs = zip(original, randomised, strict=True)
    return np.array([spearmanr(first[first != 0], second[first != 0])[0] for first, second in pairs])


def _mean(found: list[float] | Mapping[str, list[float]]) -> float:
    """Over photographs, of a curve its height; of MPRT with all layers randomised."""
    return float(np.mean(list(found.values())[-1] if isinstance(found, Mapping) else found))


def write(rows: Mapping[str, Mapping[str, float]], path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", *next(iter(rows.values()))])
        writer.writerows([name, *(f"{value:.4f}" for value in row.values())] for name, row in rows.items())


def draw(maps: Mapping[str, np.ndarray], photos: Tensor, path: Path) -> None:
    """Units differ, so every map is shown in shares of its method's largest value over these photographs."""
    shown = {name: torch.from_numpy(each / max(np.abs(each).max(), 1e-12)) for name, each in maps.items()}
    figure = cc.visualization.montage(shown, photos, vmax=1.0, unit="share of the method's largest value")
    figure.savefig(path)


def main() -> None:
    """Trains, explains, prints the table, writes it and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("interop_output"))
    parser.add_argument("--copies", type=int, default=12, help="held-out copies with the mark")
    parser.add_argument("--points", type=int, default=256, help="of canonical occlusion")
    parser.add_argument("--steps", type=int, default=350, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    faces = load_faces(None)
    trained = train(faces, arguments.seed, mark=True, steps=arguments.steps)
    net = TwoLogits(trained).eval()
    photos, labels, mesh = copies(faces, 2 * arguments.copies, torch.Generator().manual_seed(10_000 + arguments.seed))
    marked = torch.nonzero(labels == MARKED).flatten()
    photos, mesh = photos[marked], mesh[marked]
    truth = (discs(mesh.vertices.float(), REGION_RADIUS, mesh.image_size) > 0.5)[:, None]
    print(f"{len(photos)} copies; the discs around the marks are {float(truth.float().mean()):.1%} of each\n")

    rows, maps = {}, {}
    for name, explain_func in explain_funcs(photos, mesh, arguments.points).items():
        maps[name] = explain_func(net, photos[:3].numpy(), np.full(len(photos[:3]), MARKED))
        rows[name] = scores_of(net, explain_func, photos, truth)
    titles = list(next(iter(rows.values())))
    print("  ".join([f"{'method':20}", *titles]))
    for name, row in rows.items():
        print("  ".join([f"{name:20}", *(f"{row[title]:>{len(title)}.3f}" for title in titles)]))
    write(rows, arguments.out / "quantus.csv")
    draw(maps, photos[:3], arguments.out / "quantus.png")
    print(f"\n{arguments.out / 'quantus.csv'}, {arguments.out / 'quantus.png'}")


if __name__ == "__main__":
    main()
