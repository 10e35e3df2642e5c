"""What is planted must be found: a mark that counts in one group only, beside a decoy that counts nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import captum_canonical as cc
from studies.planted import study
from studies.planted.finding import CMS, POINTS, canonical, find
from studies.planted.photographs import (
    BLUE,
    MARK,
    PATCH,
    RED,
    SIZE,
    Mark,
    Photographs,
    draw_photographs,
    mark_masks,
    plantable,
    sources,
)
from studies.planted.study import (
    AGAIN,
    AGAIN_PIXELS,
    DECOY,
    FAR_DECOY,
    GROUPED,
    PIXELS,
    TOP,
    Outcome,
    Rate,
    most_by_chance,
    rate,
)
from studies.planted.trials import EACH, GROUPS, Effect, Trial, interventions, make_trial, uses_mark
from studies.planted.wired import gate, wire

SEEDS = range(40)
LEAST = 38
"""Seeds of 40 that are 95 %."""
STRENGTH = 4.0


@pytest.fixture(scope="module")
def pool() -> Photographs:
    """360 photographs, of which each trial draws 60."""
    return draw_photographs(sources(), [*"A" * 120, *"B" * 240], torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def learning() -> Photographs:
    """600 photographs that networks learn from."""
    return draw_photographs(sources(), [*"AB" * 300], torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def wired(pool: Photographs) -> list[Outcome]:
    return [study.wired_outcome(pool, seed, STRENGTH, methods=(CMS,)) for seed in SEEDS]


# ------------------------------------------------------------------------------------------------------ photographs
def covered_by_patches(count: int) -> dict[str, float]:
    """The share of each mark that some patch hides, of so many on the canonical face."""
    face = cc.CanonicalFace.default()
    points = face.points(face.vertices)[face.point_order[:count], :2]
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in face.size), indexing="ij")
    away = torch.stack([torch.maximum((x - place[0]).abs(), (y - place[1]).abs()) for place in points.unbind()])
    hidden = (away < PATCH * face.size[0] / SIZE / 2).any(0)
    return {name: float(mask[hidden].sum() / mask.sum()) for name, mask in mark_masks().items()}


def test_patches_cover_most_of_every_mark() -> None:
    assert min(covered_by_patches(POINTS).values()) > 0.6
    assert covered_by_patches(POINTS // 2)["chin"] < 0.5  # what fewer points would do


def test_marks_lie_in_their_regions_and_on_the_photographed_face(pool: Photographs) -> None:
    face = cc.CanonicalFace.default()
    assert len(plantable()) == len(set(plantable())) >= 12
    for name, mask in mark_masks().items():
        assert float(mask[face.region_mask(name)].sum() / mask.sum()) > 0.9, name
        assert float(mask.sum()) == pytest.approx(3.14159 * MARK**2, rel=0.15)
    on_face = cc.CanonicalProjector(None).reproject(torch.ones(1, 1, *face.size), pool.mesh)[:, 0] > 0
    seen = pool.marks.sum((2, 3)) > 5  # pixels of 64 x 64
    assert seen.double().mean() > 0.9
    assert not (pool.marks.sum(1)[~on_face] > 1e-4).any()


def test_mark_and_decoy_are_of_equal_contrast(pool: Photographs) -> None:
    """They change brightness, and the three colours in all, by as much."""
    blue, red = (torch.tensor(colour) for colour in (BLUE, RED))
    assert float(blue.sum()) == pytest.approx(float(red.sum()))
    assert float(blue.square().sum()) == pytest.approx(float(red.square().sum()))
    grey = replace(pool, images=torch.full_like(pool.images, 0.5), light=torch.ones_like(pool.light))
    every = torch.ones(len(pool))
    changes = [(grey.marked(Mark(3, every, colour)) - 0.5) for colour in (BLUE, RED)]
    torch.testing.assert_close(changes[0].norm(), changes[1].norm())
    torch.testing.assert_close(changes[0].mean(1), changes[1].mean(1), rtol=0, atol=1e-6)


def test_only_the_rim_tells_groups_apart(pool: Photographs) -> None:
    opened = gate(pool.images)
    assert float(opened[pool.in_a].min()) > 0.99 and float(opened[~pool.in_a].max()) < 0.01
    inside = pool.images[:, :, 16:-16, 16:-16].mean((1, 2, 3))
    difference = inside[pool.in_a].mean() - inside[~pool.in_a].mean()
    error = (inside[pool.in_a].var() / 120 + inside[~pool.in_a].var() / 240).sqrt()
    assert abs(float(difference / error)) < 3


def test_a_trial_is_the_same_again_and_balanced(pool: Photographs) -> None:
    one, other = make_trial(pool, 7), make_trial(pool, 7)
    torch.testing.assert_close(one.photos, other.photos, rtol=0, atol=0)
    assert list(one.photographs.groups) == list(GROUPS) and one.planted != one.decoy
    assert one.labels.view(3, EACH).sum(1).tolist() == [EACH / 2] * 3
    torch.testing.assert_close(one.carries[:EACH], one.labels[:EACH])  # in A the mark is the class
    agreement = torch.stack([(t.carries == t.labels)[EACH:] for t in (make_trial(pool, s) for s in SEEDS)])
    assert 0.45 < float(agreement.double().mean()) < 0.55  # in B it is not
    assert {make_trial(pool, seed).planted for seed in SEEDS} == set(range(len(plantable())))


# ---------------------------------------------------------------------------------------------------- interventions
def test_interventions_of_a_score_that_can_be_worked_out(pool: Photographs) -> None:
    """A score that is the sum of blue changes by what the mark's blue sums to, in both groups alike."""
    trial = make_trial(pool, 1)  # a blue mark, a red decoy
    grey = replace(trial.photographs, images=torch.full_like(trial.photographs.images, 0.5))
    found = interventions(replace(trial, photographs=grey), lambda photos: photos[:, 2].sum((1, 2)))
    for group, here in (("A", grey.in_a), ("B", ~grey.in_a)):
        cover = (grey.light[:, 2] * grey.marks[:, trial.planted]).sum((1, 2))[here].mean()
        assert found[f"mark in {group}"].mean == pytest.approx(BLUE[2] * float(cover), rel=1e-3)
    assert found["decoy in A"].mean < 0 < found["moved in A"].mean


@pytest.mark.parametrize(
    ("mark", "other", "uses"), [((3.0, 2.0), 0.5, True), ((3.0, -0.1), 0.5, False), ((3.0, 2.0), -1.5, False)]
)
def test_what_counts_as_using_a_mark(mark: tuple[float, float], other: float, uses: bool) -> None:
    rest = {name: Effect(other, other, other) for name in ("mark in B", "decoy in A", "decoy in B")}
    assert uses_mark({"mark in A": Effect(mark[0], mark[1], 4.0), **rest}) is uses


def test_a_wired_score_rises_by_its_strength(pool: Photographs) -> None:
    trial = make_trial(pool, 12, same_colour=True)
    net, extra = wire(trial.photographs, trial.planted, 2.5, torch.Generator().manual_seed(0))
    found = interventions(trial, lambda photos: net(photos, *extra))
    assert found["mark in A"].mean == pytest.approx(2.5, rel=0.15)  # over A; it is set over all photographs
    spread = net(trial.photographs.images, *extra)[~trial.photographs.in_a].std()
    assert float(spread) == pytest.approx(1.0, rel=0.35)


# ----------------------------------------------------------------------------------------------------------- finding
def in_regions(trial: Trial, region: str, in_b: float = 0.0) -> cc.ModelSaliency:
    """Maps that are noise, and 1 more in one region, in group A (and by so much in B)."""
    maps = 0.3 * torch.randn(len(GROUPS), 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    raised = torch.where(trial.photographs.in_a, 1.0, in_b)
    maps[:, :, canonical().region_mask(region)] += raised.view(-1, 1, 1)
    return cc.ModelSaliency.from_maps(maps, None, canonical(), group=trial.groups)


@pytest.mark.parametrize("place", ["planted", "decoy"])
def test_finding_reads_what_is_in_the_maps(pool: Photographs, place: str) -> None:
    trial = make_trial(pool, 3)
    region = trial.names[0 if place == "planted" else 1]
    finding = find("known", in_regions(trial, region), trial)
    assert finding.top == finding.peak == region
    assert finding.different == (region,) and finding.pixels is (place == "planted")
    assert not finding.again and not finding.again_pixels
    high, low = finding.density if place == "planted" else finding.density[::-1]
    assert high > 2 > low


def test_less_in_group_a_is_not_taken_for_the_mark(pool: Photographs) -> None:
    trial = make_trial(pool, 3)
    finding = find("known", in_regions(trial, trial.names[0], in_b=2.0), trial)
    assert trial.names[0] not in finding.different and not finding.pixels


def test_what_differs_within_group_b_is_reported(pool: Photographs) -> None:
    trial = make_trial(pool, 3)
    result = in_regions(trial, trial.names[0], in_b=1.0)
    maps = torch.tensor(result.single_maps("a test").maps)
    maps[2 * EACH :, :, canonical().region_mask(trial.names[1])] += 1  # in the second half of B only
    finding = find("known", cc.ModelSaliency.from_maps(maps, None, canonical(), group=trial.groups), trial)
    assert trial.names[1] in finding.again and finding.again_pixels
    assert not finding.different and not finding.pixels


# ------------------------------------------------------------------------------------------------- 40 wired networks
def test_wired_networks_use_the_mark_and_not_the_decoy(wired: list[Outcome]) -> None:
    assert all(outcome.uses_mark for outcome in wired)
    for outcome in wired:  # the same paint elsewhere does nothing, nor does the mark in the other group
        others = [abs(effect.mean) for name, effect in outcome.interventions.items() if name != "mark in A"]
        assert max(others) < 0.05 * outcome.interventions["mark in A"].mean


def test_cms_finds_the_planted_place_and_never_the_decoy(wired: list[Outcome]) -> None:
    assert rate(wired, CMS, TOP).count >= LEAST
    assert rate(wired, CMS, DECOY).count == 0


def test_the_group_test_finds_the_place(wired: list[Outcome]) -> None:
    assert rate(wired, CMS, GROUPED).count >= LEAST
    assert rate(wired, CMS, PIXELS).count >= LEAST
    # Where mark and decoy adjoin, patches over the mark reach into the decoy's region.
    assert rate(wired, CMS, FAR_DECOY).count <= most_by_chance(len(SEEDS))


def test_the_group_test_finds_nothing_in_the_group_without_the_mark(wired: list[Outcome]) -> None:
    for question in (AGAIN, AGAIN_PIXELS):
        assert rate(wired, CMS, question).count <= most_by_chance(len(SEEDS)), question


def test_nothing_is_found_where_nothing_is_wired(pool: Photographs) -> None:
    outcomes = [study.wired_outcome(pool, seed, 0.0, methods=(CMS,)) for seed in range(8)]
    assert rate(outcomes, CMS, TOP).count <= 3  # one of 15 regions by chance
    assert rate(outcomes, CMS, PIXELS).count <= 1 and rate(outcomes, CMS, GROUPED).count <= 1


# ------------------------------------------------------------------------------------------------- trained networks
def trained(learning: Photographs, pool: Photographs, seeds: range) -> list[Outcome]:
    return [study.trained_outcome(learning, pool, seed, 1.0, methods=(CMS,)) for seed in seeds]


def test_trained_networks_are_found_out(learning: Photographs, pool: Photographs) -> None:
    outcomes = trained(learning, pool, range(2))
    assert all(outcome.uses_mark for outcome in outcomes)
    for outcome in outcomes:  # 40 photographs that it has not seen
        assert outcome.accuracy is not None and outcome.accuracy["A"] >= 0.9 and outcome.accuracy["B"] < 0.75
    assert rate(outcomes, CMS, TOP).count == 2 and rate(outcomes, CMS, DECOY).count == 0


@pytest.mark.slow
def test_forty_trained_networks_are_found_out(learning: Photographs, pool: Photographs) -> None:
    """Six minutes: pytest -m slow tests/studies/test_planted_bias.py."""
    outcomes = trained(learning, pool, SEEDS)
    assert study.used(outcomes).count >= LEAST
    assert rate(outcomes, CMS, TOP).count >= LEAST and rate(outcomes, CMS, DECOY).count == 0
    for question in (AGAIN, AGAIN_PIXELS):
        assert rate(outcomes, CMS, question).count <= most_by_chance(len(SEEDS)), question


# ------------------------------------------------------------------------------------------------------------- rates
def test_rates_have_exact_intervals() -> None:
    """Of 40 successes in 40 trials the lower end is 0.025 ** (1 / 40)."""
    low, high = Rate(40, 40).interval
    assert low == pytest.approx(0.025 ** (1 / 40)) and high == 1
    assert most_by_chance(40) == 5


def test_duels_count_what_only_one_method_found(wired: list[Outcome]) -> None:
    found = wired[0].findings[0]
    right, wrong = replace(found, top=wired[0].planted), replace(found, method="other", top="")
    outcomes = [replace(wired[0], findings=(right, wrong))] * 6
    duel = study.duel(outcomes, CMS, "other", TOP)
    assert (duel.first, duel.second) == (6, 0) and duel.p_value == pytest.approx(2 / 2**6)
    assert study.duel(outcomes, CMS, CMS, TOP).p_value == 1
