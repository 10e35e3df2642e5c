"""Masks of explanation images: which pixels of a photograph are hidden, equally many for every map.

Pure functions on tensors: nothing is written to disk, scaled to 8 bits or compressed in between, so a map that claims
nothing gives back exactly the photograph.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758, Eqs. 9-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captum_canonical.checks import check_choice, check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.units import SAME, is_constant

Sign = Literal["positive", "abs", "raw"]

NEGLIGIBLE = 1e-12
"""Relevance below this share of the map's maximum counts as none: it is rounding of an interpolation."""


@dataclass(frozen=True, eq=False)
class ExplanationMasks:
    """How much of each pixel an explanation image hides (negative) or shows (positive).

    Attributes:
        values: (N, 1, H, W) float64 in 0..1, 0 outside the area.
        flags: for each map, what is unusual about it. ``""``: nothing. ``"zero"``: 0 everywhere, and ``"negative"``:
            nothing positive; the mask is 0, the negative image is the photograph itself. ``"constant"``: one value
            everywhere; the mask is uniform (0 if ``sign="raw"``). ``"spread"``: positive on fewer pixels than the
            budget; the mask is 1 there, and what is left is spread evenly over the rest of the area. ``"no area"``.
        inside: (N,) float64, the share of the map's relevance that lies in the area; NaN if it has none.
        s: (N,) float64, the mass that all maps of an image have in common in Eq. 10; None for a fixed budget.
    """

    values: Tensor
    flags: tuple[str, ...]
    inside: Tensor
    s: Tensor | None = None

    @property
    def mass(self) -> Tensor:
        """(N,) float64, the sum of each mask, in pixels."""
        return self.values.sum((1, 2, 3))

    @property
    def empty(self) -> Tensor:
        """(N,) bool, masks that are 0 everywhere: their negative explanation image is the photograph."""
        return ~(self.values != 0).flatten(1).any(1)


def explanation_masks(
    maps: Tensor,
    area: Tensor | None = None,
    *,
    mass: Literal["budget", "top"] = "budget",
    budget: float = 0.1,
    sign: Sign = "positive",
) -> ExplanationMasks:
    r"""Masks H whose sum is the same share of the face whatever the map: clip(a h, 0, 1) with a fitting a.

    Eq. 10 gives all maps of an image one sum, but which one depends on the maps that are compared. Here it is a fixed
    share of the area, so another method changes no other method's numbers, and water-filling keeps H in 0..1 (the
    released code lets it exceed 1, or shrinks broad maps). The scale of a map does not matter, nor do values outside
    the area.

    Args:
        maps: (N, 1, H, W) in image space.
        area: (N or 1, 1, H, W) bool, the face. Default: the whole image.
        mass: ``"budget"``, or ``"top"``: H is 1 on the highest pixels and 0 on the others, which compares the order
            of the pixels only; pixels that tie at the threshold share what is left for them. Use it with an imputed
            fill, which is about pixels that are gone as a whole.
        budget: share of the area, above 0 and at most 1.
        sign: what counts as relevance: ``"positive"`` max(h, 0), evidence for the target; ``"abs"`` the magnitude;
            ``"raw"`` h minus its minimum over the area, as Eq. 10 has it, which turns "no evidence" into relevance as
            soon as anything is negative.

    Returns:
        The masks. Their sum is exactly ``budget`` times the area, unless there is no relevance at all: see the flags.

    Raises:
        CanonicalError: shapes do not fit, a map is not finite, or an argument is out of range.

    Example::

        >>> masks = explanation_masks(torch.tensor([[[[4.0, 1.0], [1.0, -7.0]]]]), budget=0.5)
        >>> masks.values
        tensor([[[[1.0000, 0.5000],
                  [0.5000, 0.0000]]]], dtype=torch.float64)
    """
    try:
        check_choice("mass", mass, ("budget", "top"))
        check_number("budget", budget, above=0, most=1)
    except CanonicalError:
        raise CanonicalError(
            f"explanation_masks: expected mass 'budget' or 'top' and a budget above 0 and at most 1, got {mass!r} and "
            f"{budget!r}."
        ) from None
    relevance, areas, inside, flags = _relevance(maps, area, sign)
    values = torch.zeros_like(relevance)
    for row, (levels, face) in enumerate(zip(relevance, areas, strict=True)):
        chosen = levels[face]
        count = budget * len(chosen)
        if not (chosen > 0).any():
            continue
        if flags[row] == "" and int((chosen > 0).sum()) < count:
            flags[row] = "spread"
        values[row, face] = _top(chosen, count) if mass == "top" else _water_filled(chosen, count)
    return ExplanationMasks(values.view(maps.shape), tuple(flags), inside)


def equal_mass_masks(
    maps: Mapping[str, Tensor], area: Tensor | None = None, *, sign: Sign = "positive"
) -> dict[str, ExplanationMasks]:
    """The paper's masks (Eq. 10): all maps of an image scaled to one sum s, so s depends on the maps that are compared.

    s is the smallest sum of any H' (the map divided by its maximum) with any relevance: then no factor s / sum(H')
    exceeds 1, every H stays in 0..1 and no method is privileged. The released code takes the sum of its own map. Where
    Eq. 10 subtracts min(h) we take 0, no evidence, for it; ``sign="raw"`` subtracts it.

    Args:
        maps: for each method (N, 1, H, W), all of one shape.
        area, sign: as in :func:`explanation_masks`.

    Returns:
        For each method its masks, with s in ``masks["name"].s``; 0 where no map has any relevance.

    Raises:
        CanonicalError: as :func:`explanation_masks`; no maps, or maps of several shapes.

    Example::

        >>> maps = {"narrow": torch.tensor([[[[2.0, 0.0, 0.0]]]]), "broad": torch.tensor([[[[1.0, 1.0, 0.0]]]])}
        >>> masks = equal_mass_masks(maps)
        >>> {name: mask.values.flatten().tolist() for name, mask in masks.items()}
        {'narrow': [1.0, 0.0, 0.0], 'broad': [0.5, 0.5, 0.0]}
    """
    shapes = {name: tuple(getattr(values, "shape", ())) for name, values in maps.items()}
    if len(set(shapes.values())) != 1:
        raise CanonicalError(f"equal_mass_masks: expected one or more maps of one shape, got {shapes}.")
    parts = {name: _relevance(values, area, sign) for name, values in maps.items()}
    sums = torch.stack([relevance.sum(1) for relevance, *_ in parts.values()])
    s = torch.where(sums > 0, sums, torch.inf).amin(0)
    s = torch.where(s < torch.inf, s, 0.0)
    masks = {}
    for (name, (relevance, _, inside, flags)), total in zip(parts.items(), sums, strict=True):
        values = relevance * (s / total.clamp(min=1e-300))[:, None]
        masks[name] = ExplanationMasks(values.clamp(max=1.0).view(maps[name].shape), tuple(flags), inside, s)
    return masks


def removal_order(values: Tensor) -> tuple[Tensor, Tensor]:
    """When each pixel goes if the highest go first.

    Args:
        values: (P,).

    Returns:
        Two (P,) float64: how many pixels are higher, and how many are at least as high. Pixels
        that tie (their values round to the same multiple of :data:`SAME` times the largest magnitude) go together: once
        k pixels are gone, clip((k - first) / (last - first), 0, 1) of each is.

    Example::

        >>> removal_order(torch.tensor([3.0, 1.0, 5.0, 3.0]))
        (tensor([1., 3., 0., 1.], dtype=torch.float64), tensor([3., 4., 1., 3.], dtype=torch.float64))
    """
    scale = values.abs().amax() if len(values) else 1.0
    rounded = torch.nan_to_num(values.double() / scale / SAME).round()
    _, level, size = torch.unique(rounded, return_inverse=True, return_counts=True)
    last = size.flip(0).cumsum(0).flip(0)
    return (last - size)[level].double(), last[level].double()


def check_maps(maps: Tensor, area: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maps as (N, P) float64 and their area as (N, P) bool.

    Raises:
        CanonicalError: a shape does not fit, the area is not bool, or a map is not finite in it.
    """
    good = isinstance(maps, Tensor) and maps.ndim == 4 and maps.shape[1] == 1 and not maps.dtype.is_complex
    if not good or not maps.numel():
        raise CanonicalError(
            f"maps: expected one or more maps of shape (N, 1, H, W), got "
            f"{tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__}."
        )
    if area is None:
        area = torch.ones(1, 1, *maps.shape[2:], dtype=torch.bool)
    if not isinstance(area, Tensor) or area.dtype != torch.bool or area.shape not in (maps.shape, (1, *maps.shape[1:])):
        raise CanonicalError(
            f"area: expected bool of shape {tuple(maps.shape)} or {(1, *maps.shape[1:])}, got "
            f"{getattr(area, 'dtype', type(area).__name__)} of shape {tuple(getattr(area, 'shape', ()))}."
        )
    areas = area.to(maps.device).expand(maps.shape).flatten(1)
    values = maps.detach().double().flatten(1)
    broken = torch.nonzero(~torch.isfinite(values).all(1)).flatten().tolist()
    if broken:
        raise CanonicalError(f"maps: expected finite values, got NaN or infinity in rows {broken[:10]}.")
    return values, areas


def _top(values: Tensor, count: float) -> Tensor:
    first, last = removal_order(values)
    return ((count - first) / (last - first)).clamp(0, 1)


def _water_filled(values: Tensor, count: float) -> Tensor:
    """clip(a v, 0, 1) with sum ``count``; where too few are positive, these are 1 and the others share the rest."""
    positive = values > 0
    if int(positive.sum()) <= count:
        rest = (count - int(positive.sum())) / max(1, int((~positive).sum()))
        return positive.to(values) + rest * (~positive).to(values)
    ordered = values.sort(descending=True).values
    below = ordered.flip(0).cumsum(0).flip(0)  # sum from each on
    left = count - torch.arange(len(ordered), dtype=torch.float64, device=values.device)
    full = int((left * ordered <= below).int().argmax())  # so many reach 1: the first that would not
    return (values * (left[full] / below[full])).clamp(max=1.0)


def _relevance(maps: Tensor, area: Tensor | None, sign: Sign) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """(N, P) float64 relevance in 0..1, 0 off the area; (N, P) area; (N,) share inside it; flags."""
    check_choice("sign", sign, ("positive", "abs", "raw"))
    values, areas = check_maps(maps, area)
    relevance = {
        "positive": lambda: values.clamp(min=0),
        "abs": lambda: values.abs(),
        "raw": lambda: _above_the_minimum(values, areas),
    }[sign]()
    inside = (relevance * areas).sum(1) / relevance.sum(1)  # NaN where there is nothing
    relevance = relevance * areas
    relevance = relevance / relevance.amax(1, keepdim=True).clamp(min=1e-300)
    relevance = torch.where(relevance < NEGLIGIBLE, 0.0, relevance)
    flags = [_flag(own[area], shares[area], sign) for own, shares, area in zip(values, relevance, areas, strict=True)]
    return relevance, areas, inside, flags


def _above_the_minimum(values: Tensor, areas: Tensor) -> Tensor:
    """Values minus their minimum over the area, 0 where that is rounding."""
    lowest = torch.where(areas, values, torch.inf).amin(1, keepdim=True)
    above = values - torch.where(lowest < torch.inf, lowest, 0.0)
    return torch.where(above > SAME * (values * areas).abs().amax(1, keepdim=True), above, 0.0)


def _flag(values: Tensor, relevance: Tensor, sign: Sign) -> str:
    if not len(values):
        return "no area"
    if not (values != 0).any():
        return "zero"
    if is_constant(values) and (sign != "positive" or bool(values.amin() > 0)):
        return "constant"
    return "" if (relevance > 0).any() else "negative"
