"""Do tests err as rarely, and do intervals hold as often, as they say? On simulated maps whose truth is known.

    python benchmarks/calibration.py [--studies splits ...] [--sets 1000] [--splits 200] [--json FILE]

- ``splits``: random halves of the same 60 people (24 x 24 pixels, a tenth of them not covered, 199 permutations) are
  compared: in how many does :func:`compare_groups` find any pixel, or any region, that differs?
- ``spread``: how often groups of 15 and 45 people with the same mean, the smaller group three times as spread out, are
  said to differ.
- ``skew``: how often maps with a mean of 0 that are not symmetric about it are said to be other than 0, by number of
  people.
- ``everywhere`` and ``half``: how often the 95 % interval of a region's share of the positive mass holds the true one
  (mean over the regions, least and most), by number of people, and the same of entropy, effective area and Gini
  coefficient; where the true map is above 0 in all pixels, and where it is 0 in half of the face.
- ``unequal``: how often intervals hold the truth when people have unequal numbers of photographs
  (``unequal_numbers.py``), and ``concentration`` those of entropy, effective area and Gini coefficient.

``--page docs/results/calibration.md`` writes all tables into the page, from the file of ``--json``.

The generator is ``people`` of ``simulated_maps.py``. The tests call the same functions (``tests/studies``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_canonical import CanonicalFace, ModelSaliency, compare_groups, region_table
from captum_canonical.saliency.regions import RegionMasks
from captum_canonical.tables import Table
from simulated_maps import SIZE, people, smooth_noise, true_map
from timing import machine
from unequal_numbers import concentration_table, concentrations, percents, tables, unequal

SPLITS = 200
STUDIES = ("splits", "spread", "skew", "everywhere", "half", "unequal", "concentration")


def errors_of_splits(
    maps: Tensor, coverage: Tensor | None, face: CanonicalFace, permutations: int, splits: int = SPLITS
) -> tuple[int, int]:
    """In how many random halves of the same photographs pixels, and regions, are said to differ."""
    pixels = regions = 0
    generator = torch.Generator().manual_seed(7)
    result = ModelSaliency.from_maps(maps, coverage, face)
    for seed in range(splits):
        half = torch.randperm(len(maps), generator=generator) % 2
        sides = result.strata(["one" if number else "other" for number in half.tolist()])
        found = compare_groups(sides["one"], sides["other"], permutations=permutations, seed=seed)
        pixels += bool(found.significance.mask.any())
        regions += bool(found.different_regions or found.different_shares)
    return pixels, regions


def errors_of_unequal_spread(face: CanonicalFace, splits: int = SPLITS) -> int:
    """In how many data sets groups of one mean, the smaller one three times as spread out, are said to differ."""
    generator = torch.Generator().manual_seed(1)
    wrong = 0
    for seed in range(splits):
        maps = smooth_noise(60, generator)
        maps[:15] *= 3
        sides = ModelSaliency.from_maps(maps, None, face).strata(["one"] * 15 + ["other"] * 45)
        found = compare_groups(sides["one"], sides["other"], permutations=199, seed=seed)
        wrong += bool(found.significance.mask.any())
    return wrong


def errors_of_skewed_maps(face: CanonicalFace, count: int, splits: int = SPLITS) -> int:
    """In how many data sets maps whose mean is 0, and which are anything but symmetric about it, are said to be other.

    Signs of whole maps are flipped, which supposes that a map is as likely as its negative. Here most people's maps are
    a little negative and few are very positive.
    """
    generator = torch.Generator().manual_seed(2)
    wrong = 0
    for seed in range(splits):
        strength = torch.empty(count, 1, 1, 1).exponential_(generator=generator) - 1
        maps = 3 * strength * true_map(face).float() + smooth_noise(count, generator)
        wrong += bool(ModelSaliency.from_maps(maps, None, face).significance(199, seed=seed).mask.any())
    return wrong


def covered_shares(face: CanonicalFace, count: int, sets: int, elsewhere: float = 0.1) -> Tensor:
    """(R,) how often the 95 % interval of each region's share holds the true one."""
    regions = RegionMasks.of(face, "the study")
    mass = regions.masks.double() @ true_map(face, elsewhere).flatten()
    truth = mass / mass.sum()
    generator = torch.Generator().manual_seed(4)
    held = torch.zeros(len(regions.names))
    for _ in range(sets):
        maps, who = people(face, count, generator, elsewhere=elsewhere)
        rows = region_table(ModelSaliency.from_maps(maps, None, face, who)).rows
        low, high = (torch.tensor([row.share_interval[end] for row in rows]) for end in (0, 1))
        held += (low <= truth) & (truth <= high)
    return held / sets


def covered_concentration(face: CanonicalFace, count: int, sets: int, elsewhere: float = 0.1) -> dict[str, float]:
    """Name of the measure -> how often its 95 % interval holds the true value."""
    truth = ModelSaliency.from_maps(true_map(face, elsewhere)[None, None], None, face).concentration()
    generator = torch.Generator().manual_seed(4)
    held = dict.fromkeys(("entropy", "effective_area", "gini"), 0)
    for _ in range(sets):
        maps, who = people(face, count, generator, elsewhere=elsewhere)
        found = ModelSaliency.from_maps(maps, None, face, who).concentration()
        for name, (low, high) in found.intervals.items():
            held[name] += low <= getattr(truth, name) <= high
    return {name: number / sets for name, number in held.items()}


def intervals(sets: int, elsewhere: float) -> dict[str, Any]:
    """Coverage of shares and of the concentration, by number of people."""
    face = CanonicalFace.default(SIZE)
    shares = {}
    for count in (100, 40, 20, 10):
        held = covered_shares(face, count, sets, elsewhere)
        shares[count] = {"mean": float(held.mean()), "least": float(held.min()), "most": float(held.max())}
    concentration = {count: covered_concentration(face, count, sets, elsewhere) for count in (100, 40, 20)}
    return {"sets": sets, "shares": shares, "concentration": concentration}


def splits(number: int) -> dict[str, Any]:
    """Error rates of pixels and regions."""
    face, generator = CanonicalFace.default(SIZE), torch.Generator().manual_seed(0)
    maps, _ = people(face, 60, generator)
    coverage = torch.rand(maps.shape, generator=generator) > 0.1
    pixels, regions = errors_of_splits(maps, coverage.float(), face, 199, number)
    return {"number": number, "pixels": pixels / number, "regions": regions / number}


def error_table(measured: dict[str, Any]) -> Table[Any]:
    """How often something is found where there is nothing."""
    found = measured["splits"]
    splits = f"{found['number']} halves of the same 60 people, 199 permutations"
    rows = [
        (f"`compare_groups`, pixels: {splits}", found["pixels"]),
        ("`compare_groups`, regions: the same", found["regions"]),
        ("`compare_groups`, pixels: 15 people three times as spread out as 45 others", measured["spread"]),
        ("`significance`: 20 people, maps not symmetric about their mean of 0", measured["skew"]["20"]),
        *((f"`significance`: {count} people, the same", measured["skew"][count]) for count in ("40", "100")),
    ]
    cells = [(test, f"{100 * rate:.1f} %") for test, rate in rows]
    return Table.of_cells(("test", "false findings, 5 % wanted"), cells)


def interval_tables(measured: dict[str, Any]) -> tuple[Table[Any], Table[Any]]:
    """Of shares by region, and of the concentration."""
    truths = {"map above 0 everywhere": "everywhere", "nothing in half of the face": "half"}
    shares, concentration = (
        {title: measured[name][what] for title, name in truths.items()} for what in ("shares", "concentration")
    )

    def cell(held: dict[str, float]) -> str:
        return f"{100 * held['mean']:.1f} % ({100 * held['least']:.1f} to {100 * held['most']:.1f})"

    return (
        Table.of_cells(
            ("people", *truths),
            [(n, *(cell(held[n]) for held in shares.values())) for n in ("100", "40", "20", "10")],
        ),
        Table.of_cells(
            ("people", *truths),
            [(n, *(f"{percents(h[n].values())} %" for h in concentration.values())) for n in ("100", "40", "20")],
        ),
    )


def with_tables(page: str, measured: dict[str, Any]) -> str:
    """The page with all tables between its comments."""
    shares, concentration = interval_tables(measured)
    blocks = {"errors": error_table(measured), "shares": shares, "concentration": concentration}
    blocks |= {f"unequal numbers {number}": each for number, each in enumerate(tables(measured["unequal"]), 1)}
    blocks["unequal concentration"] = concentration_table(measured["concentration"])
    for name, table in blocks.items():
        start, end = (f"<!-- {name}{side} -->" for side in ("", " end"))
        before, rest = page.split(start)
        page = f"{before}{start}\n{table.markdown().strip()}\n{end}{rest.split(end)[1]}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=STUDIES)
    parser.add_argument("--sets", type=int, default=1000, help="simulated data sets for each interval")
    parser.add_argument("--splits", type=int, default=SPLITS, help="splits or data sets for each error rate")
    parser.add_argument("--json", type=Path, help="add the result to this file")
    parser.add_argument("--page", type=Path, help="write all tables into this page")
    arguments = parser.parse_args()
    face, number = CanonicalFace.default(SIZE), arguments.splits
    works: dict[str, Callable[[], Any]] = {
        "splits": lambda: splits(number),
        "spread": lambda: errors_of_unequal_spread(face, number) / number,
        "skew": lambda: {count: errors_of_skewed_maps(face, count, number) / number for count in (20, 40, 100)},
        "everywhere": lambda: intervals(arguments.sets, 0.1),
        "half": lambda: intervals(arguments.sets, 0.0),
        "unequal": lambda: unequal(arguments.sets),
        "concentration": lambda: concentrations(arguments.sets),
    }
    result = {}
    for name in arguments.studies:
        result[name] = works[name]()
        print(name, json.dumps(result[name]), flush=True)
    if arguments.json:
        there = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        arguments.json.write_text(json.dumps({**there, **machine(), **result}, indent=1) + "\n")
        if arguments.page:
            page, measured = arguments.page.read_text(), json.loads(arguments.json.read_text())
            arguments.page.write_text(with_tables(page, measured))


if __name__ == "__main__":
    main()
