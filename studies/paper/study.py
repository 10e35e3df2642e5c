"""What all figures share: the photographs, the networks, maps that are computed once, and the folder of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.adapters.keypoints import KeypointAligner, PixelGrid, keypoints_468
from captum_canonical.faces.photos import list_photos
from studies.face_nets.photographs import Face, crop, find_faces, read_identities
from studies.face_nets.tasks import RECOGNITION, ask, image_maps, patch_side

# Task -> its title, and the layer that the CAM methods look into: the last with many channels and places.
TITLES_AND_LAYERS: dict[str, tuple[str, Callable[[Any], nn.Module]]] = {
    "recognition": ("Recognition, dlib ResNet", lambda net: net.conv256_down_out),
    "gender": ("Gender, TinyXception", lambda net: net.relu_out),
    "gender_mini": ("Gender, mini-XCEPTION", lambda net: net.block4),
    "age": ("Age (bins of 10 years), TinyXception", lambda net: net.relu_out),
    "expression": ("Expression, dense net", lambda net: net.dense3),
    "pose": ("Head pose (9 bins), landmark net", lambda net: net.landmarks.dense3),
}
CLASS_NAMES = {"gender": ("male", "female"), "gender_mini": ("woman", "man")}


@dataclass(frozen=True)
class Settings:
    """How much is computed. All of it is written into the page."""

    photos: int | None = None  # the first so many; None: all
    points: int = 256  # occlusion points of each face
    fills: tuple[str, ...] = ("zero", "mean", "blur", "imputed")  # the first as in the paper
    resamples: int = 1000
    permutations: int = 10_000
    gradient_steps: int = 16  # of integrated gradients
    noise_samples: int = 8  # of SmoothGrad
    seeds: tuple[int, ...] = (0, 1, 2)  # of random weights
    splits: int = 100


QUICK = Settings(
    photos=10,
    points=48,
    fills=("zero", "mean"),
    resamples=200,
    permutations=500,
    gradient_steps=8,
    noise_samples=4,
    seeds=(0,),
    splits=20,
)


@dataclass(frozen=True, eq=False)
class Task:
    """One network and what it is asked.

    Attributes:
        name, title: for files, and for people.
        explained: what maps are drops of: log-odds of classes, which do not saturate; else the same as below.
        confidence: what methods are scored by, 0..1 (cosine for recognition).
        unit: of ``explained``.
        layer: for CAM methods.
        target, photos, mesh: of N faces.
        fill: what patches become: the colour that the network's normalisation maps to 0.
        identities: who is on each photograph, if anybody knows.
    """

    name: str
    title: str
    explained: nn.Module
    confidence: nn.Module
    unit: str
    layer: nn.Module
    target: Tensor
    photos: Tensor
    mesh: cc.FaceMesh
    fill: Tensor
    identities: tuple[str, ...] | None = None

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return patch_side(self.photos.shape[-1])

    @property
    def net(self) -> Any:
        """The network inside the confidence."""
        return self.explained.model

    def rows(self, rows: Any) -> Task:
        """The same of some photographs."""
        index = torch.arange(len(self.photos))[rows]
        parts = {"target": self.target[index], "photos": self.photos[index], "mesh": self.mesh[index]}
        if self.identities is not None:
            parts["identities"] = tuple(self.identities[row] for row in index.tolist())
        return Task(**{**vars(self), **parts})

    def frequent(self, least: int) -> Tensor:
        """Photographs whose target at least so many share."""
        return torch.nonzero(self.target.bincount()[self.target] >= least).flatten()

    def class_name(self, target: int) -> str:
        """What the target is called."""
        if self.name == "age":
            return f"{10 * target}-{10 * target + 10} years"
        if self.name == "pose":
            return f"{('left', 'middle', 'right')[target // 3]}, {('down', 'level', 'up')[target % 3]}"
        names = CLASS_NAMES.get(self.name) or getattr(self.net, "classes", ())
        return names[target] if names else str(target)


@dataclass(eq=False)
class Results:
    """One run of the script.

    Attributes:
        images, models, identities: folders.
        out: where files go; what lies there already is not computed again.
        settings: how much is computed.
        answers: a CSV of people's answers to the survey, or None.
        command: what the page says it was made with.
    """

    images: Path
    models: Path
    identities: Path | None
    out: Path
    settings: Settings
    answers: Path | None = None
    command: str = "reproduce_paper.py"
    _tasks: dict[str, Task] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses a folder of other settings.

        Raises:
            SystemExit: the folder holds results that were made with other settings.
        """
        known = {"images": self.images, "models": self.models, "identities": self.identities}
        folders = {name: str(folder.resolve()) if folder else None for name, folder in known.items()}
        asked_for = json.loads(json.dumps(asdict(self.settings) | folders))
        path = self.out / "cache" / "settings.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and (known := json.loads(path.read_text())) != asked_for:
            different = {key: (known.get(key), asked_for[key]) for key in asked_for if known.get(key) != asked_for[key]}
            raise SystemExit(f"{self.out} holds results of other settings: {different}; choose another --out.")
        path.write_text(json.dumps(asked_for, indent=1))

    # --------------------------------------------------------------------------------------------------- photographs
    @cached_property
    def canonical(self) -> cc.CanonicalFace:
        """The canonical face of all maps."""
        return cc.CanonicalFace.default()

    @cached_property
    def faces(self) -> list[Face]:
        """The largest face of each photograph."""
        faces = find_faces(list_photos(self.images)[: self.settings.photos])
        if len(faces) < 4:
            raise SystemExit(f"{self.images}: expected at least 4 photographs with a face, found {len(faces)}.")
        return faces

    @cached_property
    def people(self) -> tuple[list[Face], str]:
        """Faces with somebody's name, two or more of each, and a sentence about who they are."""
        if self.identities is not None:
            faces = read_identities(self.identities, None)
            return faces, f"{len(faces)} photographs of {len({face.identity for face in faces})} people."
        mirrored = [
            Face(face.photo[:, ::-1].copy(), face.mesh.flipped(self.canonical.permutation), f"person {number}")
            for number, face in enumerate(self.faces)
        ]
        named = [Face(face.photo, face.mesh, f"person {number}") for number, face in enumerate(self.faces)]
        return named + mirrored, (
            "STAND-IN: no --identities were given, so each photograph's own mirror image stands for a second "
            "photograph of its person, which is far easier than recognition."
        )

    # -------------------------------------------------------------------------------------------------------- tasks
    def task(self, name: str) -> Task:
        """The network of a task with its photographs."""
        if name not in self._tasks:
            title, layer = TITLES_AND_LAYERS[name]
            asked = ask(name, self.models, self.people[0] if name == "recognition" else self.faces)
            confidence = asked.confidence
            if isinstance(confidence, cc.ClassConfidence):
                confidence = cc.ClassConfidence(confidence.model)
            rest = (asked.target, asked.photos, asked.mesh, asked.fill)
            # Channels last: depthwise convolutions on processors take a third of the time.
            made = layer(asked.confidence.to(memory_format=torch.channels_last).model)
            known = name == "recognition" and self.identities is not None
            who = tuple(face.identity for face in self.people[0]) if known else None
            task = Task(name, title, asked.confidence, confidence, asked.unit, made, *rest, who)
            # Photographs whose mirror images stand in for other photographs are explained, their mirror images not.
            stand_in = name == "recognition" and not known
            self._tasks[name] = task.rows(list(range(len(self.faces)))) if stand_in else task
        return self._tasks[name]

    def maps(self, name: str, patch: int | None = None) -> tuple[Tensor, Tensor]:
        """(N, 1, H_F, W_F) the CIS maps of a task, and their coverage: computed once."""
        task = self.task(name)
        side = patch or task.patch

        def compute() -> dict[str, np.ndarray]:
            arguments = {"baselines": task.fill, "patch_size": side, "num_points": self.settings.points}
            maps, coverage = image_maps(task.explained, task.photos, task.mesh, target=task.target, **arguments)
            return {"maps": maps.numpy(), "coverage": coverage.numpy().astype(np.float32)}

        found = self.arrays(f"maps_{name}_{side}", compute)
        return torch.from_numpy(found["maps"]), torch.from_numpy(found["coverage"])

    def alignments(self, task: Task) -> dict[str, tuple[cc.FaceMesh, cc.CanonicalFace]]:
        """Dense meshes, five keypoints, and none: a grid over the whole crop, drawn on the mean of the crops.

        The grid's cells lie as densely as the occlusion points on a face, so that no alignment has the finer maps.
        """
        points = keypoints_468(task.mesh.vertices[..., :2])
        surface = torch.ones(1, 1, *self.canonical.size)
        share = float(cc.CanonicalProjector(None).reproject(surface, task.mesh).double().mean())
        side = round((self.settings.points / share) ** 0.5)
        grid, mean = PixelGrid(side, side), task.photos.mean(0).expand(3, -1, -1)
        return {
            "canonical": (task.mesh, self.canonical),
            "keypoint": (KeypointAligner()(task.photos, points=points), self.canonical),
            "none": (grid(task.photos), grid.canonical_face(mean)),
        }

    # -------------------------------------------------------------------------------------------------------- files
    def arrays(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays that are computed once for this folder."""
        path = self.out / "cache" / f"{name}.npz"
        if not path.exists():
            with open(path.with_suffix(".part"), "wb") as file:
                np.savez(file, **compute())
            path.with_suffix(".part").replace(path)
        with np.load(path, allow_pickle=False) as found:
            return dict(found)

    def benchmark(self, name: str, compute: Callable[[], cc.BenchmarkResult]) -> cc.BenchmarkResult:
        """A benchmark that is run once for this folder."""
        path = self.out / "cache" / f"benchmark_{name}.json"
        if not path.exists():
            text = compute().to_json(per_image=True)
            path.with_suffix(".part").write_text(text, encoding="utf-8")
            path.with_suffix(".part").replace(path)
        return cc.BenchmarkResult.from_json(path)


def mean_map(maps: Tensor, coverage: Tensor, face: cc.CanonicalFace) -> Tensor:
    """(H_F, W_F) the CMS of CIS maps (Eq. 6)."""
    metric = cc.CanonicalModelSaliency(face)
    metric.update(maps, coverage)
    return metric.compute().mean[0].nan_to_num()


def on_face(values: Tensor, face: cc.CanonicalFace) -> Tensor:
    """The values without those beyond the face, where only the edges of patches reach."""
    return values * face.raster.covered


def crop_people(net: nn.Module, faces: list[Face]) -> tuple[Tensor, cc.FaceMesh, list[str]]:
    """The network's photographs of some faces, their meshes, and who is on them."""
    photos, mesh = crop(faces, net, RECOGNITION["recognition"][-1])
    return photos, mesh, [face.identity for face in faces]
