"""Makes the figures of docs/gallery.md, on the package's drawn face and scikit-image's astronaut (NASA, public domain).

    python tools/make_gallery.py [--out docs/gallery] [--only NAME ...]

The network is that of examples/quickstart.py, trained anew: it learned to notice a mark at the outer eye corners of
turned, moved and re-lit copies of the astronaut. Copies of one photograph stand for photographs of many people, which
they are not: intervals and tests in these figures show what the package draws, not a finding about faces. It takes some
five minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from captum.attr import IntegratedGradients, LayerGradCam
from matplotlib.figure import Figure
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.faces.images import crop_to_face
from studies.known_answer import PATCH, Faces, copies, load_faces, train


@dataclass(frozen=True)
class Study:
    """The network and the copies of the astronaut that all figures are about."""

    seed: int = 0
    count: int = 64

    @cached_property
    def astronaut(self) -> Faces:
        """The crop that copies are made of."""
        return load_faces(None)

    @cached_property
    def net(self) -> nn.Sequential:
        """The trained network: one logit."""
        return train(self.astronaut, self.seed, mark=True)

    @cached_property
    def last_layer(self) -> nn.Module:
        """What Grad-CAM looks into."""
        return [layer for layer in self.net if isinstance(layer, nn.Conv2d)][-1]

    @cached_property
    def copies(self) -> tuple[Tensor, Tensor, cc.FaceMesh]:
        """Photographs, whether each carries the mark, and meshes; every second one does."""
        return copies(self.astronaut, self.count, torch.Generator().manual_seed(10_000 + self.seed))

    @cached_property
    def marked(self) -> tuple[Tensor, cc.FaceMesh]:
        """The copies with the mark, and their meshes."""
        photos, labels, mesh = self.copies
        return photos[labels > 0.5], mesh[torch.nonzero(labels > 0.5).flatten()]

    @cached_property
    def maps(self) -> cc.ModelSaliency:
        """Maps of all copies, with their groups."""
        photos, labels, mesh = self.copies
        maps, coverage = cc.CanonicalOcclusion(self.net, mesh).attribute(photos, **self.settings(photos))
        group = ["mark" if label else "no mark" for label in labels]
        return cc.ModelSaliency.from_maps(maps, coverage, cc.CanonicalFace.default(), group=group)

    def settings(self, photos: Tensor) -> dict[str, object]:
        """Arguments of canonical occlusion: the copies' mean colour, the example's patch."""
        return {"baselines": mean_colour(photos), "patch_size": PATCH, "return_coverage": True}


def mean_colour(photos: Tensor) -> Tensor:
    return photos.mean((0, 2, 3), keepdim=True).expand_as(photos).contiguous()


# --------------------------------------------------------------------------------------------------------- figures
def canonical_face(study: Study) -> Figure:
    """The drawing, its triangles, its named regions, and the first occlusion points."""
    face = cc.CanonicalFace.default(448)
    picture = face.image.permute(1, 2, 0)
    figure = Figure(figsize=(10, 2.9), dpi=150, layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, title in zip(axes, ("drawn face", "468 vertices", "named regions", "64 and 256 points"), strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    x, y = face.vertices[:, 0], face.vertices[:, 1]
    axes[1].triplot(x, y, face.triangles, linewidth=0.3, color="black")
    regions = torch.full(face.size, torch.nan)
    stems = list(dict.fromkeys(name.removesuffix("_left").removesuffix("_right") for name in face.regions))
    for name in face.regions:  # both sides in one colour
        regions[face.region_mask(name)] = stems.index(name.removesuffix("_left").removesuffix("_right")) * 7 % 20
    axes[2].imshow(regions, cmap="tab20", alpha=0.65, interpolation="nearest")
    points = face.points(face.vertices)[face.point_order]
    axes[3].plot(points[:256, 0], points[:256, 1], ".", markersize=3, color="#4c72b0")
    axes[3].plot(points[:64, 0], points[:64, 1], ".", markersize=6, color="#c44e52")
    return figure


def mesh(study: Study) -> Figure:
    """A mesh on its photograph, with what is hidden, and some regions."""
    from skimage.data import astronaut

    photo = astronaut()
    part, moved = crop_to_face(photo, FaceMeshAligner()([photo]), margin=0.15, size=512)
    regions = ["forehead", "eye_right", "eye_left", "nose_tip", "upper_lip", "lower_lip", "chin"]
    return cc.visualization.show_mesh(part, moved, regions=regions)


def methods(study: Study) -> Figure:
    """Three methods on the canonical face, for three copies."""
    photos, mesh = study.marked[0][:3], study.marked[1][[0, 1, 2]]
    fill = mean_colour(photos)
    maps = {
        "occlusion": cc.CanonicalOcclusion(study.net, mesh).attribute(photos, baselines=fill, patch_size=PATCH),
        "Grad-CAM": cc.CanonicalProjector(LayerGradCam(study.net, study.last_layer), mesh).attribute(photos),
        "integrated gradients": cc.CanonicalProjector(IntegratedGradients(study.net), mesh).attribute(
            photos, baselines=fill
        ),
    }
    shares = {name: each / each.abs().amax() for name, each in maps.items()}
    return cc.visualization.montage(
        shares, photos, backgrounds=cc.CanonicalFace.default(), vmax=1.0, unit="share of the method's largest value"
    )


def on_the_photograph(study: Study) -> Figure:
    """One map on the canonical face, and the same put back on the photograph that it is from."""
    photos, mesh = study.marked[0][:2], study.marked[1][[0, 1]]
    maps, coverage = cc.CanonicalOcclusion(study.net, mesh).attribute(photos, **study.settings(photos))
    back = cc.CanonicalProjector(None, mesh).reproject(maps)
    return cc.visualization.montage(
        {"on the canonical face": maps, "on the photograph": back},
        photos,
        coverage={"on the canonical face": coverage},
        backgrounds={"on the canonical face": cc.CanonicalFace.default()},
        unit="drop in logit",
    )


def resolution(study: Study) -> Figure:
    """Better and better maps of one copy, each with the change that is expected to come."""
    photo, mesh = study.marked[0][:1], study.marked[1][[0]]
    maps = {}
    for rough in cc.CanonicalOcclusion(study.net, mesh).refine(photo, baselines=mean_colour(photo), patch_size=PATCH):
        maps[f"{rough.num_points} points, expected change {float(rough.expected_change[0]):.0%}"] = rough.attributions
    return cc.visualization.montage(maps, photo, backgrounds=cc.CanonicalFace.default(), unit="drop in logit")


def fill_and_patch(study: Study) -> Figure:
    """Mean maps of eight copies: rows are fills, columns patch sizes."""
    photos, mesh = study.marked[0][:8], study.marked[1][list(range(8))]
    blurred = nn.functional.interpolate(nn.functional.avg_pool2d(photos, 8), photos.shape[-2:], mode="bilinear")
    fills = {"black": torch.zeros_like(photos), "mean colour": mean_colour(photos), "blurred": blurred}
    columns: dict[str, list[Tensor]] = {}
    for size in (3, 5, 9):
        method = cc.CanonicalOcclusion(study.net, mesh)
        columns[f"patch of {size} pixels"] = [
            method.attribute(photos, baselines=fill, patch_size=size).mean(0) for fill in fills.values()
        ]
    return cc.visualization.montage(
        columns, backgrounds=cc.CanonicalFace.default(), row_labels=list(fills), unit="mean drop in logit"
    )


def model(study: Study) -> Figure:
    """Two groups on one scale: means and standard errors."""
    strata = study.maps.strata("group")
    return cc.visualization.montage(
        {f"{name} ({part.n} copies)": [part.mean, part.standard_error] for name, part in strata.items()},
        backgrounds=cc.CanonicalFace.default(),
        row_labels=["mean", "standard error"],
        unit="drop in logit",
    )


def difference(study: Study) -> Figure:
    """The difference of two groups, and where it is more than chance."""
    strata = study.maps.strata("group")
    found = cc.compare_groups(strata["mark"], strata["no mark"], names=("mark", "no mark"), permutations=999)
    face = cc.CanonicalFace.default()
    figure = cc.visualization.show_canonical(
        found.difference, face, unit="difference in drop of logit", title="mark minus no mark; outlined: p ≤ 0.05"
    )
    y, x = (torch.arange(side) + 0.5 for side in face.size)
    mask = found.significance.mask[0].float()
    figure.axes[0].contour(x, y, mask, levels=[0.5], colors="black", linewidths=0.8)
    return figure


@lru_cache
def scored(study: Study) -> cc.BenchmarkResult:
    photos, mesh = study.marked[0][:16], study.marked[1][list(range(16))]
    fill = mean_colour(photos)
    log_odds = cc.ClassConfidence(study.net, link="log_odds")
    return cc.benchmark(
        cc.ClassConfidence(study.net),
        photos,
        {
            "occlusion": (cc.CanonicalOcclusion(log_odds), {"baselines": fill, "patch_size": PATCH}),
            "Grad-CAM": LayerGradCam(log_odds, study.last_layer),
            "integrated gradients": (IntegratedGradients(log_odds), {"baselines": fill}),
        },
        target=1,
        faces=mesh,
        fills=("mean", "blur"),
    )


def benchmark(study: Study) -> Figure:
    """Methods and controls with intervals."""
    return scored(study).plot("deletion_auc")


def curves(study: Study) -> Figure:
    """The confidence while the face disappears and appears."""
    return cc.visualization.show_curves(scored(study))


def randomization(study: Study) -> Figure:
    """A map while layer after layer is drawn anew."""
    photos, mesh = study.marked[0][:4], study.marked[1][list(range(4))]
    test = cc.model_randomization(
        cc.CanonicalOcclusion(study.net, mesh),
        photos,
        baselines=mean_colour(photos),
        patch_size=PATCH,
        num_points=256,
        keep_maps=[0],
    )
    return cc.visualization.show_randomization(test, cc.CanonicalFace.default(), unit="drop in logit")


FIGURES: dict[str, Callable[[Study], Figure]] = {
    each.__name__: each
    for each in (
        canonical_face,
        mesh,
        methods,
        on_the_photograph,
        resolution,
        fill_and_patch,
        model,
        difference,
        benchmark,
        curves,
        randomization,
    )
}


def main() -> None:
    """Draws the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES), metavar="NAME")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    study = Study()
    for name in arguments.only:
        FIGURES[name](study).savefig(arguments.out / f"{name}.png", metadata={"Software": None})
        print(arguments.out / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
