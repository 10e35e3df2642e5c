"""``captum-canonical verify``: an encoder on a list of pairs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from captum_canonical.faces.photos import read_photo
from captum_canonical.statistics.verification import acceptance_at, held_out_accuracy
from command_tools import Capture, run_error, run_json

PEOPLE, EACH, SIZE = 6, 2, 24


class Colours(nn.Module):
    """Three features: the mean colour."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def colours() -> Any:
    return Colours().eval(), {"size": SIZE, "crop": "none"}


def features_first() -> Any:
    class Both(Colours):
        def forward(self, x: Tensor) -> Any:
            return {"features": super().forward(x), "x": x}

    return Both().eval(), {"size": SIZE, "crop": "none"}


def one_number() -> Any:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 1, 1)).eval(), {"size": SIZE, "crop": "none"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """People of different colours, two noisy photographs each, the last one's second black; LFW's list."""
    random = np.random.default_rng(1)
    shades = random.uniform(40, 215, (PEOPLE, 3))
    for person in range(PEOPLE):
        for number in range(1, EACH + 1):
            shade = shades[person] + random.uniform(-30, 30, 3)
            pixels = (
                np.full((SIZE, SIZE, 3), shade) if (person, number) != (PEOPLE - 1, 2) else np.zeros((SIZE, SIZE, 3))
            )
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"P{person}_{number:04}.jpg")
    lines = ["2\t3"]
    for fold in range(2):
        lines += [f"P{person}\t1\t2" for person in range(3 * fold, 3 * fold + 3)]
        lines += [f"P{person}\t1\tP{(person + 2) % PEOPLE}\t1" for person in range(3 * fold, 3 * fold + 3)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    return tmp_path


def command(folder: Path, model: str = "colours", *more: object) -> list[str]:
    given = ["verify", "--pairs", folder / "pairs.txt", "--model", f"test_verify:{model}", "--quiet", *more]
    return [str(each) for each in [*given, "--aligner", "command_tools:DrawnAligner"]]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_numbers_are_those_of_cosines_by_hand(folder: Path, capsys: Capture) -> None:
    found = run_json(command(folder, "colours", "--out", folder / "scores.csv", "--far", "0.5,0.01"), capsys)
    rows = list(csv.DictReader((folder / "scores.csv").open(encoding="utf-8")))
    values = []
    for row in rows:
        pixels = [read_photo(folder / row[name]).reshape(-1, 3).mean(0) for name in ("first", "second")]
        black = any(each.max() == 0 for each in pixels)
        cosine = np.nan if black else pixels[0] @ pixels[1] / np.linalg.norm(pixels[0]) / np.linalg.norm(pixels[1])
        assert row["cosine"] == "" if black else abs(float(row["cosine"]) - cosine) < 1e-4
        values.append(np.nan if black else float(row["cosine"]))
    same, fold = np.array([row["same"] == "1" for row in rows]), np.array([int(row["fold"]) for row in rows])
    expected = held_out_accuracy(np.array(values), same, fold)
    assert found["accuracy"] == pytest.approx(expected.mean) and found["pairs"] == 12 and found["genuine"] == 6
    assert [each["accuracy"] for each in found["folds"]] == pytest.approx(expected.accuracy.tolist())
    assert found["pairs_without_face"] == 1 and found["without_face"] == 1 and found["photographs"] == 12
    assert found["true_acceptance"]["0.5"]["rate"] == pytest.approx(acceptance_at(np.array(values), same, 0.5)[0])
    assert found["true_acceptance"]["0.01"]["rate"] is None


def test_a_person_reads_the_same(folder: Path, capsys: Capture) -> None:
    from captum_canonical.cli.command import main

    assert main(command(folder)) == 0
    text = capsys.readouterr().out
    assert "12 pairs, 6 of one person, of 12 photographs; no face in 1 of them: 1 pairs count as answered wrong" in text
    assert "TAR at FAR 0.001: too few pairs of two people" in text and "equal error rate" in text


def test_features_are_taken_from_a_dictionary(folder: Path, capsys: Capture) -> None:
    plain = run_json(command(folder), capsys)
    found = run_json(command(folder, "features_first", "--output", "features"), capsys)
    assert found["accuracy"] == plain["accuracy"] and found["equal_error_threshold"] == plain["equal_error_threshold"]
    assert "dict of 'features'" in run_error(command(folder, "features_first"), capsys)


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("one_number", (), "expected finite features, several numbers for each photograph, got (1"),
        ("colours", ("--far", "1.5"), "--far: expected rates between 0 and 1"),
        ("colours", ("--images", "nowhere"), "no such photograph in 12 lines"),
    ],
)
def test_what_does_not_fit(folder: Path, model: str, more: tuple[str, ...], message: str, capsys: Capture) -> None:
    assert message in run_error(command(folder, model, *more, "--batch-size", "1"), capsys)


def test_pairs_in_one_fold_are_refused_before_the_network_is_loaded(folder: Path, capsys: Capture) -> None:
    text = (folder / "pairs.txt").read_text()
    (folder / "pairs.txt").write_text(text.replace("2\t3", "1\t6", 1))
    message = run_error(command(folder, "not_there"), capsys)
    assert "at least two folds" in message and "--folds 10" in message


def test_pairs_of_one_kind_are_refused(folder: Path, capsys: Capture) -> None:
    (folder / "pairs.txt").write_text("2 1\nP0 1 2\nP1 1 2\n")
    assert "pairs of one person and pairs of two" in run_error(command(folder), capsys)


# ------------------------------------------------------------------------------------------------- a real encoder
def lfw_command(shared: Path, pairs: Path, *more: object) -> list[str]:
    """The encoder and the crop of the documentation, on photographs of LFW."""
    options = {
        "--model": "examples.real_networks:encoder",
        "--weights": shared / "models",
        "--crop": "arcface",
        "--pairs": pairs,
        "--images": shared / "data/lfw/images",
        "--face": "central",
    }
    return ["verify", *(str(each) for option in options.items() for each in option), *map(str, more)]


def test_a_real_encoder_tells_people_apart(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    """Five pairs of each kind in each of two folds."""
    header, *lines = (shared / "data/lfw/pairs.txt").read_text().splitlines()
    assert header.split() == ["5", "300"]
    chosen = [line for first in (295, 595, 895, 1195) for line in lines[first : first + 5]]
    (tmp_path / "pairs.txt").write_text("\n".join(["2\t5", *chosen]))
    values = run_json(lfw_command(shared, tmp_path / "pairs.txt"), capsys)
    assert values["pairs"] == 20 and values["genuine"] == 10 and values["without_face"] == 0
    assert values["accuracy"] == 1.0


@pytest.mark.slow
def test_all_pairs_of_lfw(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    values = run_json(lfw_command(shared, shared / "data/lfw/pairs.txt", "--cache", tmp_path), capsys)
    assert values["pairs"] == 3000 and values["accuracy"] >= 0.99
