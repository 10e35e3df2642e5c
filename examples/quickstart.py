"""Does the map find what the network uses? A network with a known answer, from one photograph, in under three minutes.

    python examples/quickstart.py [--images DIR] [--out DIR] [--seed 0]

A small network learns to notice a mark painted at the outer eye corners, so the right answer is known. Captum's
Occlusion and Grad-CAM, carried onto the canonical face, and CanonicalOcclusion are asked where it looks; so is a
control network that was trained on copies without the mark. Needs nothing but what pip installs: the photograph is
scikit-image's astronaut (NASA, public domain).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from captum.attr import LayerGradCam, Occlusion
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from studies.known_answer import PATCH, REGION_RADIUS, accuracy, copies, discs, load_faces, share_in_region, train


# ------------------------------------------------------------------------------------------------------------ maps
def model_maps(net: nn.Sequential, photos: Tensor, mesh: cc.FaceMesh) -> Iterator[tuple[str, cc.ModelSaliency]]:
    """The mean map over the copies of each method, all on the canonical face."""
    fill = photos.mean((0, 2, 3), keepdim=True)
    last_convolution = [layer for layer in net if isinstance(layer, nn.Conv2d)][-1]
    occlusion = {"baselines": fill, "sliding_window_shapes": (3, PATCH, PATCH), "strides": (3, 2, 2)}
    methods = {
        "CanonicalOcclusion": (cc.CanonicalOcclusion(net, mesh), {"baselines": fill, "patch_size": PATCH}),
        "Occlusion": (cc.CanonicalProjector(Occlusion(net), mesh), occlusion | {"perturbations_per_eval": 16}),
        "Grad-CAM": (cc.CanonicalProjector(LayerGradCam(net, last_convolution), mesh), {"relu_attributions": True}),
    }
    for name, (method, arguments) in methods.items():
        maps, coverage = method.attribute(photos, target=0, return_coverage=True, **arguments)
        metric = cc.CanonicalModelSaliency(cc.CanonicalFace.default())
        metric.update(maps, coverage)
        yield name, metric.compute()


def main() -> None:
    """Trains, explains, prints the table, draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs (default: the astronaut)")
    parser.add_argument("--out", type=Path, default=Path("quickstart_output"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=32, help="held-out copies that the model-level maps average")
    arguments = parser.parse_args()
    start = time.perf_counter()

    faces = load_faces(arguments.images)
    canonical = cc.CanonicalFace.default()
    on_face = canonical.raster.covered
    region = (discs(canonical.vertices[None].float(), REGION_RADIUS, canonical.size)[0] > 0.5) & on_face
    area = float(region.sum() / on_face.sum())
    held_out = torch.Generator().manual_seed(10_000 + arguments.seed)
    photos, labels, mesh = copies(faces, 2 * arguments.copies, held_out)
    carries = labels > 0.5

    results = {}
    for kind, mark in [("network", True), ("control", False)]:
        net = train(faces, arguments.seed, mark)
        right = accuracy(net, photos, labels)
        print(f"{kind}: {right:.0%} of held-out copies right ({time.perf_counter() - start:.0f} s)")
        for name, saliency in model_maps(net, photos[carries], mesh[torch.nonzero(carries).flatten()]):
            results[kind, name] = saliency

    print(f"\npositive saliency in the planted region, {area:.1%} of the face; 1 is the network's on the whole face")
    print(f"{'method':22}{'network':>10}{'control':>10}")
    for name in dict.fromkeys(name for _, name in results):
        # A control whose map is nearly 0 everywhere has no shares of its own: they would be ratios of rounding errors.
        network, control = (results[kind, name].mean for kind in ("network", "control"))
        shares = [share_in_region(each, region, on_face, of=network) for each in (network, control)]
        print(f"{name:22}{shares[0]:>10.2f}{shares[1]:>10.2f}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(photos[[1, 0]], results, region, arguments.out / "quickstart.png")
    print(f"\n{arguments.out / 'quickstart.png'} ({time.perf_counter() - start:.0f} s)")


def draw(photos: Tensor, results: dict[tuple[str, str], cc.ModelSaliency], region: Tensor, path: Path) -> None:
    """The model-level maps of both networks. Units differ between methods, so each column has its own."""
    methods = list(dict.fromkeys(name for _, name in results))
    columns = {}
    for name in methods:
        top = results["network", name].mean.abs().max().clamp(min=1e-12)
        columns[name] = [results[kind, name].mean / top for kind in ("network", "control")]
    figure = cc.visualization.montage(
        columns,
        photos,
        backgrounds=cc.CanonicalFace.default(),
        row_labels=["trained with the mark", "control: without"],
        vmax=1.0,
        unit="mean map / the network's largest value",
    )
    y, x = (torch.arange(side) + 0.5 for side in region.shape)
    for place, axis in enumerate(figure.axes[:-1]):
        if place % (len(methods) + 1):  # not the photographs
            axis.contour(x, y, region.float(), levels=[0.5], colors="black", linewidths=0.8)
    figure.savefig(path)


if __name__ == "__main__":
    main()
