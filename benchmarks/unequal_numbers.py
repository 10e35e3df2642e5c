"""Do intervals hold the truth when people have unequal numbers of photographs? Studies of ``calibration.py``."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from captum_canonical import CanonicalFace, ModelSaliency, compare_groups, region_table
from captum_canonical.saliency.regions import RegionMasks
from captum_canonical.statistics.bootstrap import effective_number, ratios
from captum_canonical.tables import Column, Table
from simulated_maps import SIZE, people, true_map

DESIGNS: dict[str, list[int]] = {
    "10 with 1, one with 40": [1] * 10 + [40],
    "20 with 1, one with 20": [1] * 20 + [20],
    "100, about as in LFW, one with 530": [1] * 71 + [2] * 13 + [3] * 5 + [4] * 3 + [5, 5, 6, 7, 9, 14, 35, 530],
    "40 with 5 each": [5] * 40,
    "40 with 1 each": [1] * 40,
    "100 with 1 each": [1] * 100,
}
ALIKE = (0.5, 0.7, 0.9, 1.0)
"""Share of the variance of a photograph's number that is the person's."""


# ------------------------------------------------------------------------------------------------ single numbers
def sample(
    sizes: list[int], sets: int, skewed: bool, alike: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(N, sets) numbers of photographs with a mean of 0 and a variance of 1, and the person on each."""
    units = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    effects = torch.randn(len(sizes), sets, dtype=torch.float64, generator=generator)
    if skewed:
        effects = effects.exponential_(generator=generator) - 1
    noise = torch.randn(len(units), sets, dtype=torch.float64, generator=generator)
    return alike**0.5 * effects[units] + (1 - alike) ** 0.5 * noise, units


def means_of_people(values: Tensor, units: Tensor) -> Tensor:
    """(U, sets)."""
    sums = torch.zeros(int(units.max()) + 1, values.shape[1], dtype=torch.float64).index_add_(0, units, values)
    return sums / units.bincount()[:, None]


def held_by_numbers(sizes: list[int], sets: int, skewed: bool, alike: float) -> dict[str, float]:
    """How often intervals of the mean hold the truth: by weights, and by estimators that were not chosen."""
    values, units = sample(sizes, sets, skewed, alike, torch.Generator().manual_seed(8))
    means, count = means_of_people(values, units), len(sizes)
    found = {
        "people": ratios(means, torch.ones(count, 1).double()),
        "photographs": ratios(values, torch.ones(len(units), 1).double(), units=units),
    }
    held = {name: float(((one.low <= 0) & (0 <= one.high)).double().mean()) for name, one in found.items()}
    others = {"sum of squares": _sum_of_squares, "CR2": _bias_reduced, "bootstrap-t": _studentised_bootstrap}
    weights = torch.tensor(sizes).double() / sum(sizes)
    return held | {name: other(means, weights) for name, other in others.items()}


def _held(mean: Tensor, variance: Tensor, freedom: float) -> float:
    return float((mean.abs() <= float(stats.t.ppf(0.975, freedom)) * variance.sqrt()).double().mean())


def _sum_of_squares(means: Tensor, weights: Tensor) -> float:
    """Squared influences of people, with U - 1 degrees of freedom: the estimator until now."""
    mean, count = weights @ means, len(means)
    return _held(mean, count / (count - 1) * (weights.square() @ (means - mean).square()), count - 1)


def _bias_reduced(means: Tensor, weights: Tensor) -> float:
    """CR2 with Satterthwaite's degrees of freedom, for photographs of one person that are all alike."""
    mean, together = weights @ means, weights.square().sum()
    scale = weights.square() / (1 - 2 * weights + together)
    products = torch.eye(len(weights)) - weights - weights[:, None] + together
    form = scale.sqrt()[:, None] * products * scale.sqrt()
    return _held(mean, scale @ (means - mean).square(), float(form.trace() ** 2 / form.square().sum()))


def _studentised_bootstrap(means: Tensor, weights: Tensor, sets: int = 200, draws: int = 499) -> float:
    """People are drawn with all their photographs; the sum of squares scales the deviation of each draw."""
    generator, held = np.random.default_rng(0), 0

    def spread(some: np.ndarray, heavy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = heavy / heavy.sum(-1, keepdims=True)
        mean = (share * some).sum(-1, keepdims=True)
        return mean[..., 0], np.sqrt((share**2 * (some - mean) ** 2).sum(-1))

    number = len(weights)
    for column in means[:, :sets].T.numpy():
        drawn = generator.integers(number, size=(draws, number))
        middle, error = spread(column, weights.numpy())
        centres, errors = spread(column[drawn], weights.numpy()[drawn])
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = np.nanquantile((centres - middle) / errors, [0.025, 0.975])
        held += middle - high * error <= 0 <= middle - low * error
    return held / min(sets, means.shape[1])


# ------------------------------------------------------------------------------------------------------ whole maps
def held_by_maps(sizes: list[int], sets: int) -> dict[str, dict[str, float]]:
    """Weights -> measure -> how often intervals of :func:`region_table` hold the truth, mean over the regions."""
    face, generator = CanonicalFace.default(SIZE), torch.Generator().manual_seed(9)
    regions = RegionMasks.of(face, "the study")
    mass = regions.masks.double() @ true_map(face).flatten()
    truth = {"mean": mass / regions.masks.sum(1), "share": mass / mass.sum()}
    held = {weights: dict.fromkeys(truth, 0.0) for weights in ("people", "photographs")}
    for _ in range(sets):
        maps, who = people(face, len(sizes), generator, photos=sizes)
        result = ModelSaliency.from_maps(maps, None, face, who)
        for weights in held:
            rows = region_table(result, weights=weights).rows
            for measure, true in truth.items():
                low, high = (torch.tensor([getattr(row, f"{measure}_interval")[end] for row in rows]) for end in (0, 1))
                held[weights][measure] += float(((low <= true) & (true <= high)).double().mean()) / sets
    return held


def held_by_differences(sizes: list[int], sets: int) -> dict[str, float]:
    """How often intervals of :func:`compare_groups` hold the true difference, which is 0, mean over the regions."""
    face, generator = CanonicalFace.default(SIZE), torch.Generator().manual_seed(10)
    held = {"mean": 0.0, "share": 0.0}
    for _ in range(sets):
        sides = []
        for side in "ab":
            maps, who = people(face, len(sizes), generator, photos=sizes)
            sides.append(ModelSaliency.from_maps(maps, None, face, [f"{side} {name}" for name in who]))
        for region in compare_groups(*sides, permutations=1).regions:
            for measure in held:
                low, high = getattr(region, f"{measure}_interval")
                held[measure] += (low <= 0 <= high) / sets
    return {measure: total / len(CanonicalFace.default(SIZE).regions) for measure, total in held.items()}


def held_by_concentration(sizes: list[int], sets: int) -> dict[str, dict[str, float]]:
    """Weights -> measure -> how often its interval holds the truth; empty where there is none, with too few people."""
    face, generator = CanonicalFace.default(SIZE), torch.Generator().manual_seed(11)
    truth = ModelSaliency.from_maps(true_map(face)[None, None], None, face).concentration()
    held: dict[str, dict[str, float]] = {"people": {}, "photographs": {}}
    for _ in range(sets):
        maps, who = people(face, len(sizes), generator, photos=sizes)
        result = ModelSaliency.from_maps(maps, None, face, who)
        for weights, found in held.items():
            for name, (low, high) in result.weighted(weights).concentration().intervals.items():
                found[name] = found.get(name, 0.0) + (low <= getattr(truth, name) <= high) / sets
    return held


# ------------------------------------------------------------------------------------------------------- all of them
def unequal(sets: int, numbers_sets: int = 10_000) -> dict[str, Any]:
    """All designs: so many data sets of maps, half as many pairs of them, and more of single numbers."""
    found: dict[str, Any] = {"sets": sets, "numbers_sets": numbers_sets, "designs": {}}
    for name, sizes in DESIGNS.items():
        numbers = {
            shape: [held_by_numbers(sizes, numbers_sets, shape == "skewed", alike) for alike in ALIKE]
            for shape in ("normal", "skewed")
        }
        maps = held_by_maps(sizes, sets)
        effective = float(effective_number(torch.tensor(sizes).double()[:, None]))
        design = {"effective": effective, "numbers": numbers, "maps": maps}
        found["designs"][name] = design | {"differences": held_by_differences(sizes, sets // 2)}
        print(name, {key: design[key] for key in ("effective", "maps")}, flush=True)
    return found


def concentrations(sets: int) -> dict[str, Any]:
    """Of all designs."""
    return {"sets": sets, "designs": {name: held_by_concentration(sizes, sets) for name, sizes in DESIGNS.items()}}


def concentration_table(measured: dict[str, Any]) -> Table[Any]:
    """The table of ``docs/results/calibration.md``."""
    rows = [
        (name, *(percents(design[weights].values()) or "no interval" for weights in ("people", "photographs")))
        for name, design in measured["designs"].items()
    ]
    return Table.of_cells(("people", "people weigh equally", "photographs weigh equally"), rows)


def percents(rates: Iterable[float]) -> str:
    """Several rates in percent.

    Example::

        >>> percents([0.95, 0.961])
        '95.0, 96.1'
    """
    return ", ".join(f"{100 * rate:.1f}" for rate in rates)


def tables(measured: dict[str, Any]) -> list[Table[Any]]:
    """The tables of ``docs/results/calibration.md``: single numbers, maps, and the estimators that were not chosen."""
    rows = [{"people": name, **design} for name, design in measured["designs"].items()]

    def cell(row: dict[str, Any], shape: str, name: str) -> str:
        percents = [100 * each[name] for each in row["numbers"][shape]]
        return f"{min(percents):.1f} to {max(percents):.1f}"

    def flat(row: dict[str, Any]) -> dict[str, Any]:
        numbers = {f"{s} {n}": cell(row, s, n) for s in row["numbers"] for n in row["numbers"][s][0]}
        maps = {f"map {w} {m}": f"{100 * x:.1f}" for w, each in row["maps"].items() for m, x in each.items()}
        groups = {f"groups {m}": f"{100 * x:.1f}" for m, x in row["differences"].items()}
        return {"people": row["people"], "effective": f"{row['effective']:.1f}", **numbers, **maps, **groups}

    def table(columns: dict[str, str]) -> Table[Any]:
        first = {"people": "people", "effective": "worth"}
        return Table(
            [Column(key, title, itemgetter(key)) for key, title in (first | columns).items()],
            [flat(row) for row in rows],
        )

    return [
        table(
            {
                f"{shape} {weights}": f"{weights} weigh equally, {shape}"
                for weights in ("people", "photographs")
                for shape in ("normal", "skewed")
            }
        ),
        table(
            {
                "map people mean": "means, people",
                "map people share": "shares, people",
                "map photographs mean": "means, photographs",
                "map photographs share": "shares, photographs",
                "groups mean": "groups, means",
                "groups share": "groups, shares",
            }
        ),
        table({f"normal {name}": name for name in ("photographs", "sum of squares", "CR2", "bootstrap-t")}),
    ]
