"""The methods that the paper compares, built for a task, and the benchmarks that all tables are read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from captum.attr import Attribution, IntegratedGradients, LayerAttribution, LayerGradCam
from torch import Tensor

import captum_canonical as cc
from studies.paper.study import Results, Settings, Task

FACTORIAL = ("gender", "gender_mini", "expression", "age")
"""Tasks for which everything is varied: methods, averaging, alignment, link, pooling, classes."""
POOLED, ONE_MAP = "pooled left-right", "one map for all classes"
OCCLUSION, LOG_ODDS = "Occlusion", "Occlusion (log-odds)"
CAMS = ("Grad-CAM", "Grad-CAM++", "Score-CAM")
GRADIENTS = "Integrated gradients"
PER_IMAGE, MEAN = "per image", "canonical mean"
ALIGNMENTS = ("canonical", "keypoint", "none")
FEWEST = 5
"""Photographs of a class, for a canonical mean of that class to be made without those of a fold."""


class Remembered(Attribution):
    """A method that is a function of the photograph and its target, and explains
    each photograph once: its map is then carried over by several alignments.
    """

    def __init__(self, method: Attribution) -> None:
        super().__init__(method.forward_func)
        self.method, self.layer = method, getattr(method, "layer", None)
        self._known: dict[bytes, Tensor] = {}

    def attribute(self, inputs: Tensor, target: Tensor, **arguments: Any) -> Tensor:
        """The map of one photograph."""
        key = inputs.detach().numpy().tobytes() + target.numpy().tobytes()
        if key not in self._known:
            self._known[key] = self.method.attribute(inputs, target=target, **arguments).detach()
        return self._known[key]


class RememberedOcclusion(cc.CanonicalOcclusion):
    """The same of canonical occlusion, for several runs on the same photographs."""

    def attribute(self, inputs: Tensor, target: Tensor, **arguments: Any) -> Any:  # type: ignore[override]
        """The map of one photograph, and its coverage."""
        known = self.__dict__.setdefault("_known", {})
        key = inputs.detach().numpy().tobytes() + target.numpy().tobytes()
        if key not in known:
            known[key] = super().attribute(inputs, target=target, **arguments)
        return known[key]


class OnPhoto(Attribution):
    """A layer method whose maps are brought to the photograph's size."""

    def __init__(self, method: Attribution) -> None:
        super().__init__(method.forward_func)
        self.method, self.layer = method, method.layer

    def attribute(self, inputs: Tensor, target: Tensor, **arguments: Any) -> Tensor:
        """(N, 1, H, W)."""
        maps = self.method.attribute(inputs, target=target, **arguments)
        return LayerAttribution.interpolate(maps, tuple(inputs.shape[2:]), "bilinear").detach()


def others(task: Task, settings: Settings) -> dict[str, tuple[Attribution, dict[str, Any]]]:
    """The paper's baselines, and integrated gradients: of what the task explains."""
    forward, layer = task.explained, task.layer
    steps = {"n_steps": settings.gradient_steps, "baselines": task.fill.expand(1, *task.photos.shape[1:])}
    return {
        "Grad-CAM": (LayerGradCam(forward, layer), {}),
        "Grad-CAM++": (cc.LayerGradCamPlusPlus(forward, layer), {}),
        "Score-CAM": (cc.LayerScoreCam(forward, layer), {}),
        GRADIENTS: (IntegratedGradients(forward), steps),
    }


def occlusions(task: Task, alignment: str) -> dict[str, Any]:
    """What occlusion measures the drop of: confidence, as in the paper, and once log-odds too where there are any."""
    links = task.explained is not task.confidence and alignment == "canonical"
    return {OCCLUSION: task.confidence} | ({LOG_ODDS: task.explained} if links else {})


def occluding(
    task: Task, forward: Any, settings: Settings, mesh: cc.FaceMesh | None = None, face: cc.CanonicalFace | None = None
) -> tuple[Any, dict]:
    """Canonical occlusion with its arguments."""
    everywhere = face is not None and (face.topology or "").startswith("grid")  # no alignment: all cells of its grid
    points = face.num_points if everywhere else settings.points
    arguments = {"patch_size": task.patch, "num_points": points, "baselines": task.fill}
    return RememberedOcclusion(forward, mesh, face), arguments


def varied(results: Results, task: Task) -> dict[str, Any]:
    """Every method with every alignment (``"Grad-CAM, keypoint"``); occlusion of log-odds with the canonical."""
    methods: dict[str, Any] = {}
    known = {name: (Remembered(method), own) for name, (method, own) in others(task, results.settings).items()}
    for alignment, (mesh, face) in results.alignments(task).items():
        for name, forward in occlusions(task, alignment).items():
            methods[f"{name}, {alignment}"] = occluding(task, forward, results.settings, mesh, face)
        for name, (method, arguments) in known.items():
            methods[f"{name}, {alignment}"] = (cc.CanonicalProjector(method, mesh, face), arguments)
    return methods


def canonical_only(results: Results, task: Task) -> dict[str, Any]:
    """The paper's four: the CAMs' own maps are in no alignment, their means on the canonical face."""
    methods = {f"{OCCLUSION}, canonical": occluding(task, task.confidence, results.settings)}
    baselines = others(task, results.settings)
    return methods | {f"{name}, none": baselines[name] for name in CAMS}


def scored(results: Results, name: str) -> cc.BenchmarkResult:
    """The benchmark of a task; what was varied between runs on the same photographs is joined."""
    task = compared(results, name)
    if name not in FACTORIAL:
        classes = name != "recognition"
        return results.benchmark(name, lambda: run(results, task, canonical_only(results, task), per_target=classes))
    methods = varied(results, task)
    few = {name: method for name, method in methods.items() if isinstance(method[0], RememberedOcclusion)}
    few = {name: method for name, method in few.items() if name.endswith("canonical")}
    runs = {
        "": results.benchmark(name, lambda: run(results, task, methods)),
        POOLED: results.benchmark(f"{name}_pooled", lambda: run(results, task, few, symmetric=True, controls=False)),
        ONE_MAP: results.benchmark(
            f"{name}_one_map", lambda: run(results, task, few, per_target=False, controls=False)
        ),
    }
    return cc.BenchmarkResult.join(runs)


def compared(results: Results, name: str) -> Task:
    """The task with the photographs whose class is frequent enough for a mean of its own."""
    task = results.task(name)
    if name == "recognition":  # everybody a class
        return task
    least = min(FEWEST, int(task.target.bincount().max()))
    return task.rows(task.frequent(least))


def run(results: Results, task: Task, methods: Mapping[str, Any], **changed: Any) -> cc.BenchmarkResult:
    """A benchmark with the settings of this run; canonical means per class unless that is changed."""
    settings = results.settings
    return cc.benchmark(
        task.confidence,
        task.photos,
        methods,
        task.target,
        faces=task.mesh,
        canonical_face=results.canonical,
        identities=task.identities,
        fills=settings.fills,
        spaces=(),  # the paper's three metrics need no curves
        resamples=settings.resamples,
        permutations=settings.permutations,
        random_patch=task.patch,
        random_points=settings.points,
        **{"per_target": True, **changed},
    )


def one_by_one(method: Attribution, task: Task, rows: range, **arguments: Any) -> Tensor:
    """(N, 1, H, W) the maps of some photographs, channels added."""
    found = []
    for row in rows:
        one = task.rows([row])
        found.append(method.attribute(one.photos.clone(), target=one.target, **arguments).detach().sum(1, keepdim=True))
    return torch.cat(found)
