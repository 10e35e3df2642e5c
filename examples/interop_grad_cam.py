"""Heat maps of pytorch-grad-cam on the canonical face, beside the same method of Captum and canonical occlusion.

    pip install grad-cam
    python examples/interop_grad_cam.py [--out DIR] [--copies 24] [--steps 350] [--seed 0]

The network of ``quickstart.py`` learned to notice a mark at the outer eye corners, so the right answer is known; half
of the copies that are explained carry the mark. pytorch-grad-cam scales each heat map to 0..1 by itself: it says where
the network looks, and no longer how much it saw. The mean over copies without the mark is then as strong as that over
copies with it. Captum's Grad-CAM of the same layer keeps its unit. ``--out`` receives both means as a picture, and a
benchmark whose settings say which maps were scaled.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.attr import Attribution, LayerGradCam
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.adapters.external import ExternalAttribution
from studies.known_answer import PATCH, REGION_RADIUS, copies, discs, load_faces, share_in_region, train

MARKED = 1  # the class that is explained, in all copies
GROUPS = ("with the mark", "without")
SHOWN = ("average_drop", "deletion_auc", "insertion_auc")


def external(cam: Callable[..., GradCAM], net: nn.Module, layer: nn.Module) -> ExternalAttribution:
    """A method of pytorch-grad-cam as a Captum method."""

    def explain(photos: Tensor, target: Tensor) -> np.ndarray:
        with cam(net, [layer]) as method:  # its hooks go when the block ends
            return method(photos, [ClassifierOutputTarget(label) for label in target.tolist()])

    return ExternalAttribution(explain, scale="normalised", forward_func=net)


def methods_of(net: nn.Module, layer: nn.Module, fill: Tensor) -> dict[str, tuple[Attribution, dict[str, object]]]:
    """What is compared, as :func:`benchmark` takes it. The projector and the benchmark make no difference of them."""
    return {
        "pytorch-grad-cam: GradCAM": (external(GradCAM, net, layer), {}),
        "pytorch-grad-cam: HiResCAM": (external(HiResCAM, net, layer), {}),
        "Captum: LayerGradCam": (LayerGradCam(net, layer), {"relu_attributions": True}),
        "CanonicalOcclusion": (cc.CanonicalOcclusion(net), {"baselines": fill, "patch_size": PATCH}),
    }


def model_map(
    method: Attribution, arguments: dict[str, object], photos: Tensor, faces: cc.FaceMesh
) -> cc.ModelSaliency:
    """The mean map over photographs on the canonical face."""
    canonical = method if isinstance(method, cc.CanonicalOcclusion) else cc.CanonicalProjector(method)
    maps, coverage = canonical.attribute(photos, target=MARKED, faces=faces, return_coverage=True, **arguments)
    metric = cc.CanonicalModelSaliency(cc.CanonicalFace.default())
    metric.update(maps, coverage)
    return metric.compute()


def draw(means: dict[str, list[Tensor]], path: Path) -> None:
    """Each method in units of its own: shares of the largest value of its mean over marked copies."""
    columns = {name: [mean / pair[0].abs().max().clamp(min=1e-12) for mean in pair] for name, pair in means.items()}
    figure = cc.visualization.montage(
        columns,
        backgrounds=cc.CanonicalFace.default(),
        row_labels=[f"copies {group}" for group in GROUPS],
        vmax=1.0,
        unit="mean map / largest value with the mark",
    )
    figure.savefig(path)


def main() -> None:
    """Trains, explains, prints the table, draws the figure, runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("interop_output"))
    parser.add_argument("--copies", type=int, default=24, help="held-out copies of each group")
    parser.add_argument("--steps", type=int, default=350, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    faces = load_faces(None)
    trained = train(faces, arguments.seed, mark=True, steps=arguments.steps)
    net = cc.ClassConfidence(trained, link="log_odds")
    layer = [part for part in trained if isinstance(part, nn.Conv2d)][-1]
    photos, labels, mesh = copies(faces, 2 * arguments.copies, torch.Generator().manual_seed(10_000 + arguments.seed))
    methods = methods_of(net, layer, photos.mean((0, 2, 3), keepdim=True))

    face = cc.CanonicalFace.default()
    covered = face.raster.covered
    region = (discs(face.vertices[None].float(), REGION_RADIUS, face.size)[0] > 0.5) & covered
    print(f"the planted region is {float(region.sum() / covered.sum()):.1%} of the face\n")
    print(f"{'method':28}{'share in region':>16}{'largest mean: ' + GROUPS[0]:>30}{GROUPS[1]:>12}")
    means: dict[str, list[Tensor]] = {}
    for name, (method, options) in methods.items():
        rows = [torch.nonzero(labels == label).flatten() for label in (1, 0)]
        means[name] = [model_map(method, options, photos[row], mesh[row]).mean for row in rows]
        share = share_in_region(means[name][0], region, covered)
        print(f"{name:28}{share:>16.2f}{float(means[name][0].max()):>30.3f}{float(means[name][1].max()):>12.3f}")
    draw(means, arguments.out / "grad_cam.png")

    result = cc.benchmark(
        cc.ClassConfidence(trained),
        photos,
        methods,
        target=MARKED,
        faces=mesh,
        fills=("mean", "blur"),
        random_patch=PATCH,
    )
    result.to_json(arguments.out / "grad_cam.json")
    print(f"\n{result.table(measures=SHOWN)}")
    scales = {name: method.get("scale", "raw") for name, method in result.settings["methods"].items()}
    print("\n".join(f"{name}: {scale}" for name, scale in scales.items()))
    print(f"\n{arguments.out / 'grad_cam.png'}, {arguments.out / 'grad_cam.json'}")


if __name__ == "__main__":
    main()
