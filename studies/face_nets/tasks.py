"""What the networks are asked: a confidence for each of the tasks of the paper's Fig. 1, and the maps of its drops.

What is explained is each network's own answer for the unchanged photograph, so nothing has to be labelled:

- recognition (two networks): cosine similarity to the nearest other photograph of the same person (Eq. 7, leave one
  out);
- gender (three networks), race, expression, and age in FairFace's classes: log-odds of the answer. Probabilities
  saturate: drops of 1 - 1e-6 are all tiny;
- age, as a number: membership in the answer's bin of ten years; and how many years hiding moves the answer;
- head pose: membership in one of nine bins of yaw x pitch (Fig. 19), which follow from the landmark network's points;
  and how many degrees hiding moves them. Membership may rise or fall as an answer moves, so that its mean over many
  photographs can be near 0 where the answer depends on the face most: look at both, and at the split-half correlation.

Patches are 15 of 112 pixels wide, twice the paper's share: these networks hardly notice smaller ones. A patch takes the
colour that the network's normalisation maps to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.adapters.landmarks import LANDMARKS_68
from studies.face_nets.networks import FAIRFACE, HeadPose, load
from studies.face_nets.photographs import TIGHT, WITH_HAIR, Face, crop

AGE_BINS = range(0, 101, 10)
POSE_BINS = [(-90, -10, 10, 90), (-90, -10, 10, 90)]  # degrees of yaw and of pitch
PATCH = 15 / 112  # of the input's side
BATCH = 16  # photographs


@dataclass(frozen=True, eq=False)
class Task:
    """A network and what it is asked.

    Attributes:
        label: for people, in two lines.
        unit: of the confidence.
        net: takes the photographs; knows their size, channels and normalisation.
        confidence: what maps are drops of.
        crop: the margin around the face, or the name of a template.
    """

    label: str
    unit: str
    net: Any
    confidence: nn.Module
    crop: float | str = TIGHT

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Arguments of :class:`~captum_canonical.AlignedFaces`."""
        crop = {"crop": self.crop} if isinstance(self.crop, str) else {"margin": self.crop}
        return {"size": self.net.size, "channels": "L" if self.net.channels == 1 else "RGB", **crop}


@dataclass(frozen=True, eq=False)
class Question:
    """A task put to photographs: the confidence in the target, or in the value, that goes with each."""

    label: str
    unit: str
    confidence: nn.Module
    target: Tensor | None
    value: Tensor | None
    photos: Tensor
    mesh: cc.FaceMesh
    fill: Tensor


def classification(label: str, name: str, margin: float = TIGHT) -> Callable[[Path], Task]:
    """The log-odds of a network's classes."""

    def build(models: Path) -> Task:
        net = load(models, name)
        return Task(label, "log-odds", net, cc.ClassConfidence(net, link="log_odds"), margin)

    return build


def head(label: str, name: str) -> Callable[[Path], Task]:
    """The log-odds of the classes of one of FairFace's heads."""

    def build(models: Path) -> Task:
        net = load(models, "fairface")
        return Task(label, "log-odds", net, cc.ClassConfidence(net, "log_odds", name, FAIRFACE), "arcface")

    return build


def _age(models: Path) -> tuple[nn.Module, nn.Module]:
    net = load(models, "age_gender", head="age")
    return net, net


def _pose(models: Path) -> tuple[nn.Module, nn.Module]:
    net = load(models, "face_landmark_68")
    return net, HeadPose(net, cc.CanonicalFace.default().vertices[list(LANDMARKS_68)])


def membership(
    label: str, networks: Callable[[Path], tuple[nn.Module, nn.Module]], bins: Any
) -> Callable[[Path], Task]:
    """The membership of a network's value in bins."""

    def build(models: Path) -> Task:
        net, regressor = networks(models)
        return Task(label, "membership", net, cc.BinnedConfidence(regressor, bins))

    return build


def shift(label: str, unit: str, networks: Callable[[Path], tuple[nn.Module, nn.Module]]) -> Callable[[Path], Task]:
    """How far a network's value moves."""

    def build(models: Path) -> Task:
        net, regressor = networks(models)
        return Task(label, unit, net, cc.RegressionConfidence(regressor))

    return build


TASKS: dict[str, Callable[[Path], Task]] = {
    "gender": classification("gender\nTinyXception", "age_gender"),
    "gender_mini": classification("gender\nmini-XCEPTION", "gender_xception", WITH_HAIR),
    "gender_head": head("gender\nMobileFaceNet", "gender"),
    "race_head": head("race\nMobileFaceNet", "race"),
    "age_head": head("age, 9 classes\nMobileFaceNet", "age"),
    "age": membership("age\n10 bins", _age, AGE_BINS),
    "age_shift": shift("age\nshift", "years", _age),
    "expression": classification("expression\ndense net", "face_expression"),
    "pose": membership("head pose\n9 bins", _pose, POSE_BINS),
    "pose_shift": shift("head pose\nshift", "degrees", _pose),
}
RECOGNITION = {  # name -> label, network, and the template that it was trained on
    "recognition": ("recognition\ndlib ResNet", "face_recognition", "dlib"),
    "recognition_mobile": ("recognition\nMobileFaceNet", "mobilefacenet", "arcface"),
}
FIGURE_1: dict[str, tuple[str, ...]] = {
    "recognition": tuple(RECOGNITION),
    "gender": ("gender", "gender_mini"),
    "age": ("age", "age_shift"),
    "expression": ("expression",),
    "pose": ("pose", "pose_shift"),
}
"""The paper's five tasks, and the names to :func:`ask` for."""
TASKS_AND_HEADS = FIGURE_1 | {"fairface": ("race_head", "gender_head", "age_head")}
"""The same, and the heads whose weights have to be trained first (``train_heads.py``)."""


def ask(name: str, models: Path, faces: list[Face]) -> Question:
    """Puts a task to photographs, whose own answers are explained.

    Args:
        name: a key of :data:`TASKS`, or of :data:`RECOGNITION`, for which faces need identities.
        models: folder of the converted networks.
        faces: who and what is asked about.
    """
    if name in RECOGNITION:
        return _recognition(models, faces, *RECOGNITION[name])
    task = TASKS[name](models)
    photos, mesh = crop(faces, task.net, task.crop)
    target = value = None
    if isinstance(task.confidence, cc.ClassConfidence):
        target = task.confidence(photos).argmax(1)
    elif isinstance(task.confidence, cc.BinnedConfidence):
        target = task.confidence.target(photos)
    else:
        value = task.confidence.value(photos)
    return Question(task.label, task.unit, task.confidence, target, value, photos, mesh, task.net.normalize.mean)


def _recognition(models: Path, faces: list[Face], label: str, name: str, template: str) -> Question:
    net = load(models, name)
    photos, mesh = crop(faces, net, template)
    who = [face.identity for face in faces]
    confidence = cc.ZeroShotConfidence(net, net(photos), who)
    target = confidence.target(photos, who, exclude=range(len(who)))
    return Question(label, "cosine", confidence, target, None, photos, mesh, net.normalize.mean)


def patch_side(size: int) -> int:
    """The odd side, in pixels, of the patches for an input of ``size`` pixels."""
    return 2 * int(PATCH * size / 2) + 1


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
