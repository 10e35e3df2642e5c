"""Checks of what canonical occlusion is called with, and its defaults."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from captum_canonical._captum import BaselineType, format_baselines
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

PAPER_PATCH, PAPER_INPUT = 15, 224  # pixels: the paper hides 15 x 15 in inputs of 224 x 224


def patch_side(patch_size: float | None, inputs: Tensor) -> float:
    """The side of the patch in pixels of an input."""
    if patch_size is None:
        height = inputs.shape[-2] if inputs.ndim == 4 else PAPER_INPUT
        return 2 * int(PAPER_PATCH * height / PAPER_INPUT / 2) + 1
    return at_least_one_pixel("patch_size", patch_size)


def at_least_one_pixel(name: str, side: Any) -> float:
    """A side that is one."""
    if isinstance(side, bool) or not isinstance(side, Real) or not 1 <= float(side) < float("inf"):
        raise CanonicalError(f"{name}: expected at least 1 pixel, got {side!r}.")
    return float(side)


def is_count(value: Any) -> bool:
    """Whether it is an integer from 1 on."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 1


def prefix_of(face: CanonicalFace, num_points: int | None) -> Tensor:
    """(P,) bool, the points to evaluate."""
    chosen = torch.ones(face.num_points, dtype=torch.bool)
    if num_points is None:
        return chosen
    if not is_count(num_points) or num_points > face.num_points:
        raise CanonicalError(f"num_points: expected 1 to {face.num_points} (this face's points), got {num_points!r}.")
    chosen[face.point_order[int(num_points) :]] = False
    return chosen


def rows_for(perturbations_per_eval: int | None, num_images: int) -> int | None:
    """Rows of a forward call; None leaves it to the inference."""
    if perturbations_per_eval is None:
        return None
    if not is_count(perturbations_per_eval):
        raise CanonicalError(f"perturbations_per_eval: expected an integer from 1 on, got {perturbations_per_eval!r}.")
    return num_images * int(perturbations_per_eval)


def fills_for(baselines: BaselineType, inputs: tuple[Tensor, ...]) -> tuple[Tensor | float, ...]:
    """What hidden pixels of each input become."""
    try:
        fills = format_baselines(baselines, inputs)
    except AssertionError as error:
        raise CanonicalError(f"baselines: {error}") from error
    if len(fills) != len(inputs):
        raise CanonicalError(f"baselines: expected one for each of the {len(inputs)} inputs, got {len(fills)}.")
    for fill, x in zip(fills, inputs, strict=True):
        if isinstance(fill, Tensor):
            try:
                fits = torch.broadcast_shapes(fill.shape, x.shape) == x.shape
            except RuntimeError:
                fits = False
            if not fits or fill.device != x.device:
                raise CanonicalError(
                    f"baselines: a tensor of shape {tuple(fill.shape)} on {fill.device} does not broadcast against the "
                    f"input of shape {tuple(x.shape)} on {x.device}."
                )
        elif not isinstance(fill, (int, float)):
            raise CanonicalError(f"baselines: expected a number or a tensor, got {type(fill).__name__}.")
    return fills


def check_tolerance(tolerance: Any) -> float:
    """A share from 0 on."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not float(tolerance) >= 0:
        raise CanonicalError(f"tolerance: expected a share from 0 on, got {tolerance!r}.")
    return float(tolerance)
