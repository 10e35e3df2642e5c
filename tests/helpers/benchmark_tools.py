"""A small benchmark: its network and photographs, and methods that fail or answer always the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from captum.attr import (
    Attribution,
    Saliency,
)
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalFace, FaceMesh
from captum_canonical.benchmarking.measures import MEASURES, BenchmarkSettings
from captum_canonical.benchmarking.photos import BenchmarkPhotos, prepare
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.run import benchmark

IN_IMAGES = tuple(measure for measure in MEASURES if not measure.endswith("_canonical"))

SIZE = (28, 24)

COUNT = 6

ROWS = [
    *(f"{name}, {kind}" for name in ("saliency",) for kind in ("per image", "canonical mean")),
    "random, per image",
    "random, canonical mean",
    "uniform, per image",
    "mean face, per image",
    "edges, per image",
    "edges, canonical mean",
]


class Net(nn.Module):
    """Two probabilities."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4 * 13 * 11, 2)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        scores = self.head(self.relu(self.norm(self.conv(x))).flatten(1))
        return (scores if gain is None else scores * gain[:, None]).softmax(1)


class Fails(Attribution):
    """A method that breaks off, leaving a hook and a mode behind."""

    def __init__(self, net: nn.Module, error: BaseException, after: int = 0) -> None:
        super().__init__(net)
        self.error, self.left = error, after

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        torch.rand(3), np.random.rand(3), random.random()
        if self.left:
            self.left -= 1
            return inputs
        inputs.requires_grad_(True)
        self.forward_func.conv.register_forward_hook(lambda *_: None)
        self.forward_func.conv.leftover = 1
        self.forward_func.train()
        self.forward_func(inputs)
        raise self.error


class Fixed(Attribution):
    """The same map for every image."""

    def __init__(self, result: Any) -> None:
        super().__init__(lambda x: x)
        self.result = result

    def attribute(self, inputs: Tensor) -> Any:
        return self.result


def meshes(face: CanonicalFace, count: int) -> FaceMesh:
    """Faces that fill their images, each a little elsewhere."""
    at = face.resized(SIZE).vertices
    shift = torch.randn(count, 1, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return FaceMesh(at * 0.9 + 1.2 + shift * torch.tensor([1.0, 1.0, 0.0]), image_size=SIZE, topology=face.topology)


def run(net: Any, x: Tensor, faces: Any, face: CanonicalFace, methods: Any = None, **arguments: Any) -> BenchmarkResult:
    quick = {"fills": ["mean"], "folds": 3, "fractions": [0, 0.5, 1], "target": 1, **arguments}
    return benchmark(net, x, methods or {"saliency": Saliency(net)}, faces=faces, canonical_face=face, **quick)


def same(one: BenchmarkResult, two: BenchmarkResult, labels: list[str], **tolerance: float) -> None:
    for label in labels:
        assert one[label].per_image.keys() == two[label].per_image.keys()
        for key, values in one[label].per_image.items():
            assert_close(two[label].per_image[key], values, equal_nan=True, **tolerance)


def mouth(x: Tensor) -> Tensor:
    """A network wired by hand, a confidence that reads the mouth of a face that fills its image."""
    return x[:, :, 17:24, 8:16].mean((1, 2, 3))


def settings_of(**changed: Any) -> BenchmarkSettings:
    chosen = {
        "fills": ("mean",),
        "folds": 3,
        "budget": 0.1,
        "sign": "positive",
        "fractions": (0, 1),
        "spaces": ("image",),
    }
    flags = {"unbounded": False, "symmetric": False, "per_target": False, "batch_size": 4}
    options: Any = {**chosen, **flags, "resamples": 9, "permutations": 9, "seed": 0, **changed}
    return BenchmarkSettings(**options)


def prepared(
    x: Tensor, faces: FaceMesh, face: CanonicalFace, identities: Any = None, **changed: Any
) -> BenchmarkPhotos:
    target = [0, 0, 0, 1, 1, 1] if changed else 1
    return prepare(Net().eval(), x, target, faces, face, identities, None, settings_of(**changed))
