"""pytorch-grad-cam and Quantus where they are installed, else stand-ins of as much of them as our tests and pages use.

The stand-ins are written from what the packages document: arguments, types, shapes and value ranges, and what calls
what. They show that code in our documentation fits those; that it fits the packages themselves is tested where they are
installed (CONTRIBUTING.md has the command, `.ci/run` runs it).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

NAMES = ("pytorch_grad_cam", "quantus")


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def provide(name: str, monkeypatch: pytest.MonkeyPatch, real: bool | None = None) -> None:
    """Makes ``import name`` work in a test: the package (``real``), a stand-in (False), or what there is (None)."""
    if real is None:
        real = installed(name)
    if not real:
        for module in STAND_INS[name]():
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return
    with monkeypatch.context() as only_here:  # others look for a torchvision too, and must not find this one
        if name == "pytorch_grad_cam" and not installed("torchvision"):
            for module in _torchvision():
                only_here.setitem(sys.modules, module.__name__, module)
        importlib.import_module(name)


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def _torchvision() -> Iterator[ModuleType]:
    """The names that pytorch-grad-cam imports; its CAMs call none of them. torchvision must match torch's own build."""
    functional = _module("torchvision.transforms.functional", resize=None)
    transforms = _module("torchvision.transforms", Compose=None, Normalize=None, ToTensor=None, functional=functional)
    yield from (functional, transforms, _module("torchvision", transforms=transforms))


# ------------------------------------------------------------------------------------------------- pytorch-grad-cam
class ClassifierOutputTarget:
    """The score of a class, from the output of one image."""

    def __init__(self, category: int) -> None:
        self.category = category

    def __call__(self, output: Tensor) -> Tensor:
        return output[..., self.category]


class GradCAM:
    """Hooks on layers from its making to the end of its block; each map clipped at 0, scaled to 0..1 and enlarged."""

    def __init__(self, model: nn.Module, target_layers: list[nn.Module]) -> None:
        self.model, self.activations = model.eval(), []
        self.handles = [layer.register_forward_hook(self._note) for layer in target_layers]

    def _note(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self.activations.append(output)

    def __enter__(self) -> GradCAM:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def __call__(self, input_tensor: Tensor, targets: list[Callable[[Tensor], Tensor]]) -> np.ndarray:
        """(N, H, W) float32."""
        self.activations.clear()
        outputs = self.model(input_tensor)
        score = sum(target(output) for target, output in zip(targets, outputs, strict=True))
        gradients = torch.autograd.grad(score, self.activations)
        maps = [self._weigh(a, g).sum(1).clamp(min=0) for a, g in zip(self.activations, gradients, strict=True)]
        large = [F.interpolate(_scaled(each)[:, None], input_tensor.shape[2:], mode="bilinear")[:, 0] for each in maps]
        return _scaled(torch.stack(large).mean(0)).detach().numpy()

    def _weigh(self, activations: Tensor, gradients: Tensor) -> Tensor:
        return gradients.mean((2, 3), keepdim=True) * activations


class HiResCAM(GradCAM):
    """Each position with its own gradient."""

    def _weigh(self, activations: Tensor, gradients: Tensor) -> Tensor:
        return gradients * activations


def _scaled(maps: Tensor) -> Tensor:
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-7)


def _grad_cam() -> Iterator[ModuleType]:
    targets = _module("pytorch_grad_cam.utils.model_targets", ClassifierOutputTarget=ClassifierOutputTarget)
    utils = _module("pytorch_grad_cam.utils", model_targets=targets)
    yield from (targets, utils, _module("pytorch_grad_cam", GradCAM=GradCAM, HiResCAM=HiResCAM, utils=utils))


# --------------------------------------------------------------------------------------------------------- Quantus
def correlation_spearman(a: np.ndarray, b: np.ndarray, batched: bool = False) -> Any:
    """Of two vectors, or of the rows of two (B, P)."""
    if batched:
        return np.array([spearmanr(first, second)[0] for first, second in zip(a, b, strict=True)])
    return spearmanr(a, b)[0]


class MPRT:
    """Layers of a copy of the network drawn anew, from the last one on; the maps compared with those of the network."""

    def __init__(self, similarity_func: Callable[..., Any] = correlation_spearman, **quiet: bool) -> None:
        self.similarity_func = similarity_func

    def __call__(
        self,
        model: nn.Module,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        explain_func: Callable[..., np.ndarray],
        explain_func_kwargs: dict[str, Any] | None = None,
        batch_size: int = 64,
        device: str | None = None,
    ) -> dict[str, list[float]]:
        """Similarities of each image, by the name of the layer; first those of the network itself."""
        arguments = {"device": device, **(explain_func_kwargs or {})}

        def maps(network: nn.Module) -> list[np.ndarray]:
            rows = [slice(start, start + batch_size) for start in range(0, len(x_batch), batch_size)]
            made = [explain_func(model=network, inputs=x_batch[r], targets=y_batch[r], **arguments) for r in rows]
            return [each.reshape(len(each), -1) / np.abs(each).max() for each in made]

        original, drawn = maps(model), copy.deepcopy(model)
        scores = {"original": self._similar(original, maps(model))}
        layers = [(name, part) for name, part in drawn.named_modules() if hasattr(part, "reset_parameters")]
        for name, layer in reversed(layers):
            layer.reset_parameters()
            scores[name] = self._similar(original, maps(drawn))
        return scores

    def _similar(self, first: list[np.ndarray], second: list[np.ndarray]) -> list[float]:
        pairs = zip(first, second, strict=True)
        return [value for a, b in pairs for value in self.similarity_func(a, b, batched=True).tolist()]


def _quantus() -> Iterator[ModuleType]:
    yield _module("quantus", MPRT=MPRT)


STAND_INS: dict[str, Callable[[], Iterator[ModuleType]]] = {"pytorch_grad_cam": _grad_cam, "quantus": _quantus}
