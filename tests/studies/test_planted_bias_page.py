"""The page about planted marks: what is counted, what is said of it, and a run that goes on."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from studies.planted import command, figures, page, study, trained
from studies.planted.finding import CMS, GRAD_CAM, IMAGE, Finding
from studies.planted.study import TRAINED, WIRED, Outcome
from studies.planted.trials import Effect

RIGHT = Finding(CMS, "chin", "chin", ("chin", "jaw_left"), True, (), False, (9.0, 0.1))
WRONG = replace(RIGHT, top="forehead", different=(), pixels=False, again=("chin",), again_pixels=True)


def outcome(network: str, effect: float, seed: int, right: tuple[str, ...], methods: tuple[str, ...]) -> Outcome:
    """A trial in which some methods are right and the others take the decoy."""
    names = ("mark in A", "mark in B", "moved in A", "moved in B", "decoy in A", "decoy in B")
    changes = {name: Effect(number + effect, 0.0, 1.0) for number, name in enumerate(names)}
    findings = tuple(replace(RIGHT if method in right else WRONG, method=method) for method in methods)
    accuracy = {"A": 0.9, "B": 0.5} if network == TRAINED else None
    return Outcome(network, effect, seed, "chin", "forehead", True, changes, findings, accuracy)


@pytest.fixture
def outcomes() -> list[Outcome]:
    """10 trials of each network and of two sizes of effect: CMS is right where there is one, Grad-CAM nowhere."""
    found = []
    for network, methods in page.SHOWN:
        for seed in range(10):
            found.append(outcome(network, 0.0, seed, (), methods))
            found.append(outcome(network, 1.0, seed, (CMS, IMAGE) if seed < 9 else (CMS,), methods))
    return found


def test_the_page_counts_what_the_trials_say(outcomes: list[Outcome], tmp_path: Path) -> None:
    text = page.write_page(outcomes, tmp_path, "RUN", "two faces", 90.0).read_text(encoding="utf-8")
    assert "Written by `RUN` (20 trials of wired and 20 of trained networks, 2 minutes of one core)." in text
    always, never = "10/10 [0.69, 1.00]", "0/10 [0.00, 0.31]"
    assert text.count(f"| CMS | {always} | {never} | {always} | {always} | {never} | {never} | 2.0 |") == 2
    assert f"| Grad-CAM | {never} | {always} | {never} | {never} | {always} | {always} | 0.0 |" in text
    assert "| 1 | 10/10 [0.69, 1.00] | +1.00 | +2.00 | +3.00 | +5.00 | +6.00 | 90% | 50% |" in text
    # 2 / 2 ** 10, the sign test of 10 to 0, times the 9 rows that are corrected for.
    assert f"| trained | 1 | {study.TOP} | Grad-CAM | 10 | 0 | 0.018 |" in text
    assert f"| wired | 1 | {study.TOP} | image-space mean | 1 | 0 | 1 |" in text
    assert f"CMS finds it more often: Grad-CAM ({study.TOP}; trained, effect 1); " in text
    assert "CMS finds it less often: nowhere." in text and "No difference detected: in 6 of 9 rows." in text


def test_curves_are_drawn(outcomes: list[Outcome], tmp_path: Path) -> None:
    figures.draw_curves(outcomes, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 20_000


def test_a_trial_comes_back_from_its_file(outcomes: list[Outcome]) -> None:
    assert [Outcome.from_json(json.loads(json.dumps(each.as_json()))) for each in outcomes] == outcomes


def test_a_record_of_other_settings_is_refused(outcomes: list[Outcome], tmp_path: Path) -> None:
    record = command.Record(tmp_path / "record.json", {"trials": 1})
    record.add(outcomes[0])
    record.add(outcomes[0])
    assert command.Record(tmp_path / "record.json", {"trials": 1}).outcomes == [outcomes[0]]
    with pytest.raises(SystemExit, match="holds trials of other settings"):
        command.Record(tmp_path / "record.json", {"trials": 2})


def test_the_script_runs_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly trained networks: what is tested is that all parts fit, and that nothing is run twice."""
    quickly = lambda learning, trial, effect: trained.train(learning, trial, effect, steps=3)  # noqa: E731
    monkeypatch.setattr(study, "train", quickly)
    monkeypatch.setattr(command, "train", quickly)
    monkeypatch.setattr(command, "LEARNING", 20)
    monkeypatch.setattr(command, "EXAMPLES", (0,))
    monkeypatch.setattr(command, "QUICK", {WIRED: {4.0: 1}, TRAINED: {1.0: 1}})
    monkeypatch.setattr(sys, "argv", ["planted_bias.py", "--quick", "--out", str(tmp_path)])
    command.main()
    written = json.loads((tmp_path / "planted_bias.json").read_text())
    assert [(each["network"], each["effect"], each["seed"]) for each in written["outcomes"]] == [
        (WIRED, 4.0, 0),
        (TRAINED, 1.0, 0),
    ]
    assert [each["method"] for each in written["outcomes"][1]["findings"]] == [CMS, IMAGE, GRAD_CAM]
    assert all((tmp_path / name).exists() for name in (page.PAGE, page.CURVES, page.MAPS))
    monkeypatch.setattr(command, "wired_outcome", None)
    monkeypatch.setattr(command, "trained_outcome", None)
    command.main()
    assert json.loads((tmp_path / "planted_bias.json").read_text()) == written
