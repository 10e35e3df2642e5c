"""The result of a model randomisation test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_canonical.sanity.similarity import MEASURES, TOP
from captum_canonical.tables import Table


class Summary(NamedTuple):
    """One measure for each layer of a :class:`RandomizationTest`.

    Attributes:
        mean: (L,) float64 over the seeds and images where it is defined; NaN where it is nowhere.
        over_seeds: (L,) standard deviation (ddof 1) over the seeds, of the mean over images; NaN for one seed.
        over_images: (L,) standard deviation (ddof 1) over the images, of the mean over seeds; NaN for one image.
        undefined: (L,) int64, for how many of the S * N maps it is not defined; ``mean`` is without them.
    """

    mean: Tensor
    over_seeds: Tensor
    over_images: Tensor
    undefined: Tensor


@dataclass(frozen=True, eq=False)
class RandomizationTest:
    """How similar the maps of N images stay while L layers of the network are randomised, with S seeds.

    Concretely ``similarity["ssim"][i, s, n]`` compares the map of image n with ``layers[0]`` to ``layers[i]`` all
    randomised by ``seeds[s]`` (for ``order="independent"`` only ``layers[i]``) with that of the network as it was.
    All measures are 1 for equal maps.

    Attributes:
        layers: names of the layers, in the order of randomisation.
        order: ``"top_down"``, ``"bottom_up"`` or ``"independent"``.
        seeds: of the random weights.
        similarity: for each measure (L, S, N) float64, NaN where it is not defined. No map is clipped or scaled before.
            ``"spearman"``: rank correlation, -1..1; not defined if a map is constant. ``"ssim"``: mean structural
            similarity, -1..1; its constants are 0.01 and 0.03 of ``ssim_range``; not defined if the unrandomised map is
            constant. It falls with the size of the values too. ``"top_share"``: share of the highest 10 % of the
            values that stays among the highest 10 %, 0..1, about 0.1 by chance (ties at the threshold share what
            is left); not defined if a map is constant. ``"mass_overlap"``: each map's positive part as shares of its
            sum, and the sum of the smaller of both shares, 0..1; not defined if a map has no positive value.
        magnitude: (L, S, N) sum of the magnitudes of the map over that of the unrandomised map; no similarity.
        control: for each measure (N,), the same network run again: below 1 for methods that draw random numbers,
            which cannot be expected to stay more similar than that.
        flags: for each image ``""``, or why its unrandomised map cannot tell anything: ``"zero"``, ``"constant"``,
            ``"not finite"`` or ``"no area"``.
        reinitialised: how each layer was: ``"reset_parameters"`` (its module's own), ``"normal"`` or
            ``"permutation"``; with "unchanged" where that left all values as they were, and ``"shared"`` for layers
            that are not in ``layers`` because all they hold belongs to layers before them.
        ssim_range: (N,) largest minus smallest value of the unrandomised map.
        ssim_window: side of SSIM's Gaussian window: 11, or less for small maps.
        examples: indices of the images whose maps were kept.
        original: (K, C, H, W) float32, the unrandomised maps of the examples.
        maps: (L, S, K, C, H, W) float32, their maps with randomised layers.

    Example::

        >>> from torch import nn
        >>> from captum.attr import Saliency
        >>> from captum_canonical import model_randomization
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> test = model_randomization(Saliency(net), torch.rand(3, 1, 16, 16), target=1, seeds=(0, 1))
        >>> test.layers, test.similarity["spearman"].shape, test.summary("spearman").mean.shape
        (('3', '1'), torch.Size([2, 2, 3]), torch.Size([2]))
    """

    layers: tuple[str, ...]
    order: str
    seeds: tuple[int, ...]
    similarity: Mapping[str, Tensor]
    magnitude: Tensor
    control: Mapping[str, Tensor]
    flags: tuple[str, ...]
    reinitialised: Mapping[str, str]
    ssim_range: Tensor
    ssim_window: int
    examples: tuple[int, ...]
    original: Tensor
    maps: Tensor

    def summary(self, measure: str = "spearman") -> Summary:
        """Mean and spread of a measure, or of ``"magnitude"``, for each layer."""
        values = self.magnitude if measure == "magnitude" else self.similarity[measure]
        return Summary(
            values.flatten(1).nanmean(1),
            _spread(values.nanmean(2)),
            _spread(values.nanmean(1)),
            values.isnan().flatten(1).sum(1),
        )

    def table(self) -> str:
        """One line for each layer: mean, spread over the seeds, spread over the images; then notes."""
        measures = (*MEASURES, "magnitude")
        summaries = {measure: self.summary(measure) for measure in measures}
        again = [f"{float(self.control[measure].nanmean()):.3f}" for measure in measures]
        undefined = _any_undefined(self.similarity).flatten(1).sum(1).tolist()
        rows: list[list[Any]] = [["(none, run again)", *again, int(_any_undefined(self.control).sum())]]
        rows += [
            [layer, *(_with_spreads(summaries[measure], i) for measure in measures), undefined[i]]
            for i, layer in enumerate(self.layers)
        ]
        table = Table.of_cells(["randomised", *measures, "undefined"], rows)
        return "\n".join([table.text(), *self._notes()])

    def _notes(self) -> list[str]:
        images = len(self.flags)
        notes = [
            f"{self.order}, {len(self.seeds)} seeds, {images} images: mean ± over seeds ± over images.",
            f"SSIM: Gaussian window {self.ssim_window}, data range that of each unrandomised map. top_share: "
            f"{TOP} by chance.",
            f"undefined: number of the {len(self.seeds) * images} maps ({images} in the first line) that lack at least "
            "one measure and are left out of its mean.",
        ]
        notes += [f"image {n}: its map is {flag}." for n, flag in enumerate(self.flags) if flag]
        others = {name: how for name, how in self.reinitialised.items() if how != "reset_parameters"}
        return notes + [f"{name}: {how}." for name, how in others.items()]

    __str__ = table


def _any_undefined(similarity: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([similarity[measure] for measure in MEASURES]).isnan().any(0)


def _with_spreads(summary: Summary, layer: int) -> str:
    # The spread of one seed or one image is not known.
    spreads = (float(each[layer]) for each in (summary.over_seeds, summary.over_images))
    return " ".join([f"{summary.mean[layer]:.3f}", *("±-" if math.isnan(each) else f"±{each:.3f}" for each in spreads)])


def _spread(means: Tensor) -> Tensor:
    """(L,) standard deviation of the entries of (L, K) that are not NaN; NaN for fewer than two."""
    known = ~means.isnan()
    count = known.sum(1)
    deviations = torch.where(known, means - means.nanmean(1, keepdim=True), 0.0)
    return torch.where(count > 1, (deviations.square().sum(1) / (count - 1)).sqrt(), torch.nan)
