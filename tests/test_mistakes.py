"""Plausible mistakes in all public functions end in the package's own error, or in a right result: never in nonsense.

The cases are made by `mistakes.py` from the calls in `mistakes_in_*.py`. A tenth of them is tried in each run of the
suite, all of them with `-m slow`, which prints the shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import captum_canonical as cc
import mistakes_in_maps
import mistakes_in_runs
import mistakes_in_tools
from mistakes import BAD, OWN, Case, Recipe, cases_of, outcome_of

LEAST = 0.98
SILENT = "silent nonsense"


def recipes(folder: Path) -> list[Recipe]:
    return [
        *mistakes_in_maps.attributions(),
        *mistakes_in_maps.results(),
        *mistakes_in_runs.runs(folder),
        *mistakes_in_tools.recipes(),
    ]


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    monkeypatch.chdir(tmp_path)
    return list(cases_of(recipes(tmp_path)))


def check(cases: Sequence[Case]) -> str:
    outcomes = [(str(case), outcome_of(case)) for case in cases]
    counts = Counter(outcome.kind for _, outcome in outcomes)
    bad = [f"{name}: {outcome.kind}, {outcome.says:.150}" for name, outcome in outcomes if outcome.kind in BAD]
    share = 1 - len(bad) / len(cases)
    assert share >= LEAST and not counts[SILENT], "\n".join([f"{share:.1%}", *bad])
    named = sum(outcome.names_argument for _, outcome in outcomes)
    assert named >= 0.8 * counts[OWN]
    return f"{len(cases)} mistakes, {share:.1%} well: {dict(counts)}, {named} errors name the argument"


def test_a_tenth_of_the_mistakes(cases: list[Case]) -> None:
    """Others in each of ten days would not be the same test for everybody: it is every tenth."""
    assert len({case.recipe.name for case in cases}) > 60
    check(cases[3::10])


@pytest.mark.slow
def test_all_mistakes(cases: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    said = check(cases)
    with capsys.disabled():
        print(f"\n{said}")


def test_the_calls_that_are_spoiled_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else any mistake would end in an error."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for recipe in recipes(tmp_path):
        if any(isinstance(each, str) and each == "/no" for each in recipe.arguments.values()):  # only mistakes exist
            continue
        recipe.call(**recipe.arguments)


def test_nonsense_and_foreign_errors_are_noticed() -> None:
    """The harness itself: what takes anything, and what ends in an error of Python."""
    kinds = {"images": mistakes_in_maps.images}
    photos = mistakes_in_maps.PHOTOS
    careless = Recipe("careless", lambda images: torch.zeros(1), {"images": photos}, kinds)
    assert {outcome_of(case).kind for case in cases_of([careless])} == {SILENT, "right result"}
    foreign = Recipe("foreign", lambda images: images.no_such_thing, {"images": photos}, kinds)
    assert {outcome_of(case).kind for case in cases_of([foreign])} == {"other error"}


def test_every_public_name_is_tried_or_takes_nothing(tmp_path: Path) -> None:
    tried = " ".join(recipe.name for recipe in recipes(tmp_path))
    errors = {name for name in cc.__all__ if name.endswith("Error")} - {"StandardError"}
    packages = {"adapters", "faithfulness", "visualization"}
    results = {"BenchmarkResult", "RandomizationTest", "RefinedMaps", "ModelSaliency", "from_maps"}  # made by functions
    untried = [name for name in cc.__all__ if name not in tried and name not in errors | packages | results]
    assert not untried
