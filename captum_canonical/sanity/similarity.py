"""How alike two maps are: rank correlation, structural similarity, and how much of the largest values they share.

References:
    Wang et al.: Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004 (SSIM).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.units import is_constant

MEASURES = ("spearman", "ssim", "top_share", "mass_overlap")
TOP = 0.1
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang 2004, section III-C


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two vectors, ties with their mean rank; NaN if either is constant.

    Example::

        >>> round(spearman(torch.tensor([1.0, 2.0, 2.0, 9.0]), torch.tensor([0.0, 5.0, 4.0, 6.0])), 4)
        0.9487
    """
    if is_constant(first) or is_constant(second):
        return float("nan")
    ranks = torch.stack([_ranks(first), _ranks(second)])
    ranks = F.normalize(ranks - ranks.mean(1, keepdim=True), dim=1)
    return float((ranks[0] @ ranks[1]).clamp(-1, 1))


def top_share(first: Tensor, second: Tensor) -> float:
    """Share of the highest 10 % of one vector that belongs to the highest 10 % of the other; NaN if one is constant.

    Example::

        >>> top_share(torch.arange(20.0), torch.arange(20.0) ** 2), top_share(torch.arange(20.0), -torch.arange(20.0))
        (1.0, 0.0)
    """
    if is_constant(first) or is_constant(second):
        return float("nan")
    both = torch.minimum(_top(first), _top(second))
    return float(both.sum() / _top_count(first))


def mass_overlap(first: Tensor, second: Tensor) -> float:
    """Overlap of the positive parts of two vectors, as shares of their sums, 0..1; NaN if one has none.

    Example::

        >>> mass_overlap(torch.tensor([3.0, 1.0, -5.0]), torch.tensor([1.0, 1.0, 2.0]))  # 1/4 + 1/4 + 0
        0.5
    """
    first, second = first.double().clamp(min=0), second.double().clamp(min=0)
    if not first.any() or not second.any():
        return float("nan")
    return float(torch.minimum(first / first.sum(), second / second.sum()).sum())


def structural_similarity(first: Tensor, second: Tensor, data_range: float, area: Tensor | None = None) -> float:
    """Mean structural similarity (SSIM) of two maps over the windows that lie inside them.

    Weights and constants are those of Wang et al. 2004: a Gaussian window of 11 x 11 (the largest odd size that fits
    into smaller maps) and standard deviation 1.5, K1 = 0.01 and K2 = 0.03. Nothing is clipped or scaled. SSIM was made
    for values of 0 or more. Here a window in which both the mean and the structure are reversed counts as the negative
    of their product: the product itself would call a map and its negative alike.

    Args:
        first: (C, H, W).
        second: (C, H, W); channels are compared one by one.
        data_range: L, the difference of values that the constants are shares of.
        area: (C, H, W) bool, the centres of windows that count. Default: all.

    Returns:
        -1..1; NaN if ``data_range`` is not positive or no window counts.

    Example::

        >>> maps = torch.rand(1, 16, 16)
        >>> round(structural_similarity(maps, maps, data_range=1.0), 6)
        1.0
    """
    size = _window(first)
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    x, y = first.double(), second.double()
    planes = torch.stack([x, y, x * x, y * y, x * y]).flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    mean_x, mean_y, square_x, square_y, product = planes.view(5, len(x), *planes.shape[-2:])
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    variances = (square_x - mean_x**2) + (square_y - mean_y**2)
    structure = (2 * (product - mean_x * mean_y) + c2) / (variances + c2)
    reversed_twice = (luminance < 0) & (structure < 0)
    local = torch.where(reversed_twice, -1, 1) * luminance * structure
    if area is not None:
        inside = slice(size // 2, -(size // 2) or None)
        local = local[area[:, inside, inside]]
    return float(local.mean()) if data_range > 0 and local.numel() else float("nan")


def _ranks(values: Tensor) -> Tensor:
    _, level, count = torch.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count - 1) / 2).double()[level]


def _top_count(values: Tensor) -> int:
    return max(1, round(TOP * len(values)))


def _top(values: Tensor) -> Tensor:
    """(P,) float64, how much of each value belongs to the highest 10 %; those that tie at the threshold equally."""
    count = _top_count(values)
    threshold = values.topk(count).values[-1]
    above, at = (values > threshold).double(), (values == threshold).double()
    return above + at * (count - above.sum()) / at.sum()


def _window(maps: Tensor) -> int:
    side = min(WINDOW, *maps.shape[-2:])
    return side - (side + 1) % 2


@dataclass(frozen=True, eq=False)
class MapComparison:
    """The unrandomised maps, (N, C, H, W) float64, and the values of them that others are compared with."""

    original: Tensor
    area: Tensor
    ranges: Tensor
    flags: tuple[str, ...]
    window: int

    @classmethod
    def of(cls, maps: Tensor, area: Tensor) -> MapComparison:
        """From maps and (N, C, H, W) bool, the values to compare."""
        flags, ranges = [], []
        for values, inside in zip(maps, area, strict=True):
            flags.append(_flag(values[inside]))
            fine = flags[-1] in ("", "constant", "zero")
            ranges.append(float(values[inside].amax() - values[inside].amin()) if fine else float("nan"))
        return cls(maps, area, torch.tensor(ranges, dtype=torch.float64), tuple(flags), _window(maps))

    def measure(self, maps: Tensor) -> Tensor:
        """(5, N) float64: the measures, and the relative magnitude."""
        if maps.shape != self.original.shape:
            raise CanonicalError(
                f"model_randomization: expected maps of one shape from all runs, got {tuple(self.original.shape)} and "
                f"{tuple(maps.shape)}."
            )
        return torch.tensor([self._of_image(n, image) for n, image in enumerate(maps)], dtype=torch.float64).T

    def _of_image(self, n: int, image: Tensor) -> list[float]:
        inside = self.area[n]
        first, second = self.original[n][inside], image[inside]
        if self.flags[n] in ("no area", "not finite") or not torch.isfinite(second).all():
            return [float("nan")] * (len(MEASURES) + 1)
        data_range = 0.0 if self.flags[n] else float(self.ranges[n])
        # What lies outside does not count, but windows overlap it.
        masked = torch.where(inside, self.original[n], 0.0), torch.where(inside, image, 0.0)
        return [
            spearman(first, second),
            structural_similarity(*masked, data_range, inside),
            top_share(first, second),
            mass_overlap(first, second),
            float(second.abs().sum() / first.abs().sum()) if first.any() else float("nan"),
        ]


def _flag(values: Tensor) -> str:
    if not len(values):
        return "no area"
    if not torch.isfinite(values).all():
        return "not finite"
    return ("constant" if values.any() else "zero") if is_constant(values) else ""
