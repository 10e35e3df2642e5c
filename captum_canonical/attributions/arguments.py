"""Checks of what canonical occlusion is called with, and its defaults."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor

from captum_canonical._captum import BaselineType, format_baselines
from captum_canonical.checks import check_integer, check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

PAPER_PATCH, PAPER_INPUT = 15, 224  # pixels: the paper hides 15 x 15 in inputs of 224 x 224


def patch_side(patch_size: float | None, inputs: Tensor) -> float:
    """The side of the patch in pixels of an input."""
    if patch_size is None:
        height = inputs.shape[-2] if inputs.ndim == 4 else PAPER_INPUT
        return 2 * int(PAPER_PATCH * height / PAPER_INPUT / 2) + 1
    return pixels("patch_size", patch_size)


def pixels(name: str, side: Any) -> float:
    """A side of at least one pixel."""
    return check_number(name, side, least=1, below=inf, expected="at least 1 pixel")


def prefix_of(face: CanonicalFace, num_points: int | None) -> Tensor:
    """(P,) bool, the points to evaluate."""
    chosen = torch.ones(face.num_points, dtype=torch.bool)
    if num_points is None:
        return chosen
    count = check_integer("num_points", num_points, 1, face.num_points, f"1 to {face.num_points} (this face's points)")
    chosen[face.point_order[count:]] = False
    return chosen


def rows_for(perturbations_per_eval: int | None, num_images: int) -> int | None:
    """Rows of a forward call; None leaves it to the inference."""
    if perturbations_per_eval is None:
        return None
    return num_images * check_integer("perturbations_per_eval", perturbations_per_eval, 1)


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
