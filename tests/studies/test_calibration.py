"""Do tests err as rarely and intervals hold as often as they say? On simulated maps and on maps of a real network.

The studies are those of ``benchmarks/calibration.py``. What takes minutes runs with::

    pytest -m slow tests/studies/test_calibration.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from calibration import (
    SPLITS,
    covered_concentration,
    covered_shares,
    errors_of_skewed_maps,
    errors_of_splits,
    errors_of_unequal_spread,
    with_tables,
)
from captum_canonical import CanonicalFace, ModelSaliency, compare_groups, compare_models, region_table
from captum_canonical.saliency.regions import RegionMasks
from simulated_maps import SIZE, people, smooth_noise, true_map
from unequal_numbers import DESIGNS, unequal

MOST = int(stats.binom.ppf(0.975, SPLITS, 0.05))
"""False findings in 200 splits that an error of 5 % allows for: 16 (upper end of its 95 % binomial interval)."""
MANY_SPLITS = 600  # allow for 41: 6.8 %, where 200 allow for 8 %


FACE_SIZE = SIZE


# ----------------------------------------------------------------------------------------- nothing is to be found
def test_groups_that_do_not_differ_on_simulated_maps(face: CanonicalFace) -> None:
    """200 A/A splits of 60 people at 24 x 24 pixels, 199 permutations each."""
    generator = torch.Generator().manual_seed(0)
    maps, _ = people(face, 60, generator)
    coverage = torch.rand(maps.shape, generator=generator) > 0.1
    pixels, regions = errors_of_splits(maps, coverage.float(), face, permutations=199)
    assert pixels <= MOST and regions <= MOST, (pixels, regions)


@pytest.mark.slow
def test_groups_that_do_not_differ_at_full_size() -> None:
    """200 A/A splits of 200 people at 224 x 224 pixels, 999 permutations each."""
    large = CanonicalFace.default(224)
    maps, _ = people(large, 200, torch.Generator().manual_seed(0))
    pixels, regions = errors_of_splits(maps, None, large, permutations=999)
    print(f"of {SPLITS} splits at full size differ in pixels {pixels}, in regions {regions}")
    assert pixels <= MOST and regions <= MOST, (pixels, regions)


def test_groups_that_do_not_differ_on_maps_of_a_real_network(shared: Path) -> None:
    """200 A/A splits of 60 CIS maps of the expression network at 40 x 40 pixels: labels mean nothing."""
    maps, coverage, face = real_maps(shared, 40, 64)
    pixels, regions = errors_of_splits(maps, coverage, face, permutations=199)
    assert pixels <= MOST and regions <= MOST, (pixels, regions)


@pytest.mark.slow
def test_groups_that_do_not_differ_on_maps_of_a_real_network_at_full_size(shared: Path) -> None:
    """600 A/A splits of the same at 224 x 224 pixels, 256 points, 999 permutations each."""
    maps, coverage, face = real_maps(shared, 224, 256)
    pixels, regions = errors_of_splits(maps, coverage, face, permutations=999, splits=MANY_SPLITS)
    print(f"of {MANY_SPLITS} splits of real maps at full size differ in pixels {pixels}, in regions {regions}")
    most = int(stats.binom.ppf(0.975, MANY_SPLITS, 0.05))
    assert pixels <= most and regions <= most, (pixels, regions)


def real_maps(shared: Path, size: int, points: int) -> tuple[Tensor, Tensor, CanonicalFace]:
    """CIS maps of 60 photographs, in log-odds of the predicted expression."""
    from captum_canonical import CanonicalOcclusion
    from studies.face_nets.photographs import find_faces
    from studies.face_nets.tasks import ask

    faces = find_faces(sorted((shared / "data/celeba_prnet/images").glob("*.jpg")))
    asked = ask("expression", shared / "models", faces)
    face = CanonicalFace.default(size)
    occlusion = CanonicalOcclusion(asked.confidence.eval(), asked.mesh, face)
    maps, coverage = occlusion.attribute(
        asked.photos, asked.target, baselines=asked.fill, num_points=points, return_coverage=True
    )
    return maps, coverage, face


def test_maps_that_are_not_symmetric_about_0_are_seldom_said_to_be_other(face: CanonicalFace) -> None:
    """Signs of maps are flipped, as if each were as likely as its negative; 40 people for whom that is not so."""
    assert errors_of_skewed_maps(face, 40) <= MOST


def test_more_spread_in_the_smaller_group_is_seldom_taken_for_a_difference(face: CanonicalFace) -> None:
    """15 people three times as spread out as 45 others, which the docstring of compare_groups warns of: 8 %.

    With Welch's t itself instead of the normal deviate that is as unlikely, it were 27 %.
    """
    assert errors_of_unequal_spread(face) <= 0.13 * SPLITS


def test_maps_and_models_without_effect(face: CanonicalFace) -> None:
    """200 data sets of 30 people: the mean is said to be other than 0, or two networks to differ, in 5 % at most."""
    generator = torch.Generator().manual_seed(2)
    single = paired = clusters = 0
    for seed in range(SPLITS):
        one, other = (
            ModelSaliency.from_maps(smooth_noise(30, generator), None, face, name=[str(n) for n in range(30)])
            for _ in range(2)
        )
        single += bool(one.significance(199, seed=seed).mask.any())
        clusters += bool(one.significance(199, seed=seed, clusters=True, forming=0.01).mask.any())
        found = compare_models(one, other, permutations=199, seed=seed)
        paired += bool(found.significance.mask.any())
    assert max(single, paired, clusters) <= MOST, (single, paired, clusters)


# ----------------------------------------------------------------------------------------------- something is found
def test_a_difference_in_one_region_is_found_there(face: CanonicalFace) -> None:
    generator = torch.Generator().manual_seed(3)
    found_there = 0
    for seed in range(20):
        maps, _ = people(face, 80, generator)
        maps[:40, :, face.region_mask("chin")] += 0.4
        sides = ModelSaliency.from_maps(maps, None, face).strata(["one"] * 40 + ["other"] * 40)
        found = compare_groups(sides["one"], sides["other"], permutations=499, seed=seed)
        found_there += bool(found.different_regions) and found.different_regions[0].region == "chin"
        inside = found.significance.mask[0] & face.region_mask("chin")
        assert inside.sum() >= 0.9 * found.significance.mask.sum()
    assert found_there >= 19


# -------------------------------------------------------------------------------------------------------- intervals
def test_intervals_of_shares_hold_the_truth_in_95_percent(face: CanonicalFace) -> None:
    """1,000 data sets of 100 identities; the generator is :func:`simulated_maps.people`."""
    held = covered_shares(face, 100, 1000)
    assert 0.93 <= float(held.mean()) <= 0.97, held
    # Single regions, each within the binomial interval (1.4 points) about that.
    assert 0.93 - 0.014 <= float(held.min()) and float(held.max()) <= 0.97 + 0.014, held


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [0.1, 0.0])
def test_intervals_of_shares_of_40_identities(face: CanonicalFace, elsewhere: float) -> None:
    """On a map that is 0 in half of the face, where the share of noise is never below 0, too."""
    held = covered_shares(face, 40, 1000, elsewhere)
    print(f"40 identities, {elsewhere} elsewhere: {float(held.mean()):.3f} of the intervals hold the true share")
    assert 0.925 <= float(held.mean()) <= 0.97, held


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [0.1, 0.0])
@pytest.mark.parametrize("count", [100, 40, 20])
def test_intervals_of_the_concentration(face: CanonicalFace, count: int, elsewhere: float) -> None:
    """Also where half of the face truly has nothing, and noise adds spots."""
    held = covered_concentration(face, count, 1000, elsewhere)
    print(f"{count} identities, {elsewhere} elsewhere: {held}")
    assert min(held.values()) >= 0.91, held


def test_intervals_by_identity_are_wider_and_right_where_photographs_repeat_people(face: CanonicalFace) -> None:
    """40 people with 5 photographs each: intervals by photograph pretend to have seen 200 people."""
    generator = torch.Generator().manual_seed(5)
    regions = RegionMasks.of(face, "the test")
    number = regions.names.index("eye_left")
    mass = regions.masks.double() @ true_map(face).flatten()
    truth = float(mass[number] / mass.sum())
    wider, held = [], {"people": 0, "photographs": 0}
    for _ in range(100):
        maps, who = people(face, 40, generator, photos=5)
        widths = {}
        for name, identities in (("people", who), ("photographs", None)):
            row = region_table(ModelSaliency.from_maps(maps, None, face, identities)).rows[number]
            low, high = row.share_interval
            widths[name] = high - low
            held[name] += low <= truth <= high
        wider.append(widths["people"] / widths["photographs"])
    assert min(wider) > 1.0 and sum(wider) / 100 > 1.3
    assert held["people"] >= 88 and held["photographs"] <= 85, held


# ------------------------------------------------------------------------------------ unequal numbers of photographs
ROOT = Path(__file__).resolve().parents[2]
MEASURED = json.loads((ROOT / "benchmarks/results/calibration.json").read_text())
UNEQUAL = MEASURED["unequal"]


@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_hold_the_truth_with_unequal_numbers_of_photographs(design: str) -> None:
    """What was measured; the quick version of it is in tests/statistics and tests/saliency."""
    check_coverage(UNEQUAL["designs"][design])


def test_intervals_of_the_concentration_hold_the_truth_or_are_refused() -> None:
    """What was measured, for equal and unequal numbers of photographs; effects are exponential."""
    designs = MEASURED["concentration"]["designs"]
    assert list(designs) == list(DESIGNS)
    for name, held in designs.items():
        worth = UNEQUAL["designs"][name]["effective"]
        assert bool(held["photographs"]) == (worth >= 20) and bool(held["people"]) == (len(DESIGNS[name]) >= 20), name
    rates = [rate for held in designs.values() for found in held.values() for rate in found.values()]
    for truth in ("everywhere", "half"):
        rates += [rate for held in MEASURED[truth]["concentration"].values() for rate in held.values()]
    assert min(rates) >= 0.91, min(rates)


@pytest.mark.slow
def test_intervals_with_unequal_numbers_are_measured_again() -> None:
    measured = unequal(100, 2000)
    for design in measured["designs"].values():
        check_coverage(design, 0.03)


def check_coverage(design: dict[str, Any], tolerance: float = 0.0) -> None:
    for each in design["numbers"]["normal"]:
        assert 0.93 <= each["people"] + tolerance and each["people"] - tolerance <= 0.97, each
        # A person with most photographs is taken for anybody, which can only be too careful.
        assert 0.93 <= each["photographs"] + tolerance and each["photographs"] - tolerance <= 0.98, each
    for each in design["numbers"]["skewed"]:
        assert 0.90 <= min(each["people"], each["photographs"]) + tolerance, each
    for weights in ("people", "photographs"):
        assert 0.91 <= min(design["maps"][weights].values()) + tolerance, design["maps"]
    assert 0.91 <= min(design["differences"].values()) + tolerance, design["differences"]


# --------------------------------------------------------------------------------------------------- documentation
def test_the_page_has_the_tables_of_the_script() -> None:
    page = (ROOT / "docs/results/calibration.md").read_text()
    assert with_tables(page, MEASURED) == page
    assert (UNEQUAL["sets"], UNEQUAL["numbers_sets"]) == (300, 10_000) and list(UNEQUAL["designs"]) == list(DESIGNS)


def test_the_documentation_says_what_was_measured() -> None:
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((root / "benchmarks/results/calibration.json").read_text())
    page = (root / "docs/results/calibration.md").read_text()
    rates = [measured["splits"]["pixels"], measured["splits"]["regions"], measured["spread"]]
    rates += [measured["skew"][count] for count in ("20", "40", "100")]
    rows = [line.split("|")[2].strip() for line in page.splitlines() if line.startswith("| `")]
    assert rows[: len(rates)] == [f"{100 * rate:.1f} %" for rate in rates]
    for count in ("100", "40", "20", "10"):
        shares = [measured[truth]["shares"][count] for truth in ("everywhere", "half")]
        cells = [f"{100 * s['mean']:.1f} % ({100 * s['least']:.1f} to {100 * s['most']:.1f})" for s in shares]
        assert f"| {count} | {' | '.join(cells)} |" in page
    for count in ("100", "40", "20"):
        held = [measured[truth]["concentration"][count].values() for truth in ("everywhere", "half")]
        cells = [", ".join(f"{100 * each:.1f}" for each in row) + " %" for row in held]
        assert f"| {count} | {' | '.join(cells)} |" in page
    assert measured["everywhere"]["sets"] == measured["half"]["sets"] == 1000
    assert measured["splits"]["number"] == SPLITS


def test_the_documentation_says_what_tests_cost() -> None:
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((root / "benchmarks/results/significance.json").read_text())
    assert (measured["maps"], measured["size"], measured["permutations"]) == (1000, 224, 10_000)
    rows = [line for line in (root / "docs/results/calibration.md").read_text().splitlines() if line.endswith(" |")]
    for row, name in zip(rows[-3:], ("pixels", "clusters", "groups"), strict=True):
        most = measured["tests"][name]
        costs = (most["most_wall_seconds"], most["most_processor_seconds"], most["most_peak_megabytes"])
        assert row.split(" | ")[1:] == [f"{costs[0]:.1f}", f"{costs[1]:.1f}", f"{costs[2]:.0f} |"]
    pixels = measured["tests"]["pixels"]
    assert pixels["most_wall_seconds"] < 20 and pixels["most_peak_megabytes"] < 1000
