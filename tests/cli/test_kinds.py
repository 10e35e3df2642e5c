"""Kinds of networks on the command line: parts of outputs, heads, regressors, encoders with a gallery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.cli.command import main
from captum_canonical.cli.option_values import output_part
from captum_canonical.networks.settings import NetworkSettings
from command_tools import SIDE, Capture, Net, explain_command, run_error, run_json, write_photos

SETTINGS: dict[str, Any] = {"size": SIDE, "crop": "none", "patch_size": 5}
HEADS = ("--classes", "sex=female,male", "--classes", "hair=1")


class Features(nn.Module):
    """(N, 128): 12 x 12 grey values, some of them; of length 1 if asked for."""

    def __init__(self, width: int = 128, normalised: bool = False) -> None:
        super().__init__()
        self.width, self.normalised = width, normalised

    def forward(self, x: Tensor) -> Tensor:
        values = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 4).flatten(1)[:, : self.width] - 0.4
        return nn.functional.normalize(values, dim=1) if self.normalised else values


class Several(Net):
    def forward(self, x: Tensor) -> Any:
        return {"logits3": super().forward(x), "grey": x.mean((1, 2, 3))}


def encoder() -> Any:
    return Features().eval(), SETTINGS


def short_encoder() -> Any:
    return Features(40, normalised=True).eval(), SETTINGS


def several() -> Any:
    return Several().eval(), SETTINGS


def heads() -> Any:
    return Net().eval(), {**SETTINGS, "classes": {"sex": ("female", "male"), "hair": 1}}


def model(name: str) -> str:
    return f"test_kinds:{name}"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def explained(arguments: list[str], capsys: Capture) -> cc.ModelSaliency:
    found = run_json(arguments, capsys)
    return cc.ModelSaliency.open(found["run"])


# ------------------------------------------------------------------------------------------------ parts and heads
def test_a_part_is_explained_as_the_network_that_returns_it(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    part = explained(explain_command(photos, tmp_path / "a", "--output", "logits3", model=model("several")), capsys)
    plain = explained(explain_command(photos, tmp_path / "b", "--patch-size", 5, "--fill", 0), capsys)
    assert_close(part.mean, plain.mean, rtol=1e-4, atol=1e-6)
    assert part.run.settings["output"] == "logits3"
    again = explain_command(photos, tmp_path / "a", "--output", "grey", "--link", "none", model=model("several"))
    assert "output: logits3 there, grey now" in run_error(again, capsys)


def test_unknown_parts_are_listed(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    error = run_error(explain_command(photos, tmp_path / "run", model=model("several")), capsys)
    assert "--output: the network returns dict of 'logits3' (1, 3), 'grey' (1,); name one" in error
    error = run_error(explain_command(photos, tmp_path / "run", "--output", "logit", model=model("several")), capsys)
    assert "there is no 'logit'; 'logits3'?" in error


@pytest.mark.parametrize("from_factory", [True, False])
def test_a_head_by_its_name(from_factory: bool, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    more = ["--head", "sex", "--target", "male", *(() if from_factory else HEADS)]
    made = model("heads") if from_factory else "with_settings"
    result = explained(explain_command(photos, tmp_path / "run", *more, model=made), capsys)
    assert result.run.classes == ["female", "male"] and set(result.photos.records["target"]) == {"male"}
    net = Net().eval()
    x = torch.rand(2, 3, SIDE, SIDE)
    settings = NetworkSettings(classes={"sex": ("f", "m"), "hair": 1}, head="sex", link="probability")
    assert_close(settings.confidence(net)(x), net(x)[:, :2].softmax(1))
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html"), "--no-photos"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "male" in page and "sex" in page
    other = explain_command(photos, tmp_path / "run", *more, "--head", "hair", "--target", "predicted", model=made)
    assert "output: sex there, hair now" in run_error(other, capsys)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("heads", (), "--head: expected one of the heads sex, hair, got none"),
        ("heads", ("--head", "age"), "--head: expected one of the heads sex, hair, got 'age'"),
        ("several", ("--head", "age"), "--head age: the heads are not known; give each with its classes"),
        ("several", ("--kind", "heads"), "--kind heads: give each head with its classes"),
        ("heads", ("--head", "sex", "--classes", "sex=4", "--classes", "hair=1"), "columns, 3, got 5 (sex 4, hair 1)"),
        ("heads", ("--head", "sex", "--target", "blond"), "a class (female, male), got 'blond'"),
        ("encoder", ("--gallery", "."), "--gallery: expected with --kind encoder only"),
        ("encoder", ("--kind", "encoder"), "--kind encoder: expected --gallery, a folder"),
        ("encoder", ("--kind", "encoder", "--gallery", "nowhere"), "--gallery nowhere: there is no such folder"),
        ("encoder", ("--kind", "regressor"), "the regressor returns 128 numbers for each photograph; name one of them"),
    ],
)
def test_what_does_not_fit_is_said(
    name: str, more: tuple[str, ...], message: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert message in run_error(explain_command(photos, tmp_path / "run", *more, model=model(name)), capsys)


def test_parts_are_read() -> None:
    assert output_part("-1") == (-1,) and output_part("a:b") == ("a:b",) and output_part(":7") == (slice(None, 7),)


# --------------------------------------------------------------------------------------------------- regressors
def test_a_regressor_s_value_is_explained(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    more = ("--kind", "regressor", "--output", "grey")
    result = explained(explain_command(photos, tmp_path / "run", *more, model=model("several")), capsys)
    assert json.loads((tmp_path / "run/command.json").read_text())["unit"] == "drop in the predicted value"
    assert float(result.mean[result.coverage > 0].mean()) > 0  # black patches make a photograph darker
    one = explain_command(photos, tmp_path / "b", "--kind", "regressor", "--target", 2, "--output", "logits3")
    assert explained([*one[:-1], "logits3", "--model", model("several")], capsys).n == 5


# ----------------------------------------------------------------------------------------------------- encoders
@pytest.mark.parametrize(("name", "words"), [("encoder", "128 numbers"), ("short_encoder", "40 numbers of length 1")])
def test_an_encoder_is_not_explained_as_classes(
    name: str, words: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    for command in ("explain", "benchmark"):
        arguments = explain_command(photos, tmp_path / "run", model=model(name))
        error = run_error([command, *arguments[1:]], capsys)
        assert f"--kind: the network returns {words} without names, the features of an encoder" in error
        assert "--kind encoder with --gallery" in error and "--kind classifier" in error
    assert (
        explained(explain_command(photos, tmp_path / "run", "--kind", "classifier", model=model(name)), capsys).n == 5
    )


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder with a folder for each of three people, two photographs in each: a pattern with noise."""
    for person in range(3):
        folder = tmp_path / "people" / f"person{person}"
        folder.mkdir(parents=True)
        pattern = np.random.default_rng(person).uniform(50, 200, (12, 12)).repeat(4, 0).repeat(4, 1)
        for number in range(2):
            noise = np.random.default_rng(10 * person + number + 5).normal(0, 8, pattern.shape)
            pixels = np.clip(pattern + noise, 1, 255).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(folder / f"{person}{number}.png")
    return tmp_path / "people"


@pytest.mark.parametrize("target", ["predicted", "given"])
def test_recognition_leaves_the_photograph_itself_out(
    target: str, people: Path, tmp_path: Path, capsys: Capture
) -> None:
    more = ("--kind", "encoder", "--gallery", people, "--target", target, "--subfolder", "identity")
    arguments = explain_command(people, tmp_path / "run", *more, model=model("encoder"))
    result = explained(arguments, capsys)
    records = result.run.records
    assert len(result.run.classes or []) == 6
    for name, place, score in zip(records["name"], records["target"], records["score"], strict=True):
        person, number = Path(name).stem[-2:]
        assert result.run.classes[place] == f"person{person}, {2 - int(number)}"  # the other one of the same person
        assert score < 1 - 1e-5
    assert json.loads((tmp_path / "run/command.json").read_text())["unit"] == "drop in cosine similarity"
    assert explained(arguments, capsys).n == 6  # goes on
    (people / "person0" / "00.png").unlink()
    assert "network" in run_error(arguments, capsys)


def test_dry_run_and_benchmark_of_an_encoder(people: Path, tmp_path: Path, capsys: Capture) -> None:
    more = ("--kind", "encoder", "--gallery", people, "--subfolder", "identity")
    arguments = explain_command(people, tmp_path / "run", *more, model=model("encoder"))
    assert run_json([*arguments, "--dry-run"], capsys)["found"] == 6
    found = run_json(["benchmark", *arguments[1:], "--fills", "zero", "--folds", "3"], capsys)
    assert found["rows"] and not [row for row in found["rows"] if row["failure"]]


def test_a_target_for_each_photograph_from_a_column(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = [f"{number:02}.png,{'abcab'[number]}" for number in range(5)]
    (photos / "labels.csv").write_text("\n".join(["path,asked", *rows]))
    arguments = explain_command(photos, tmp_path / "run", "--labels", photos / "labels.csv", "--group", "asked")
    result = explained([*arguments, "--target", "asked"], capsys)
    found = dict(zip(result.photos.records["name"], result.photos.records["target"], strict=True))
    assert list(dict(sorted(found.items())).values()) == list("abcab")
    benchmark = ["benchmark", *arguments[1:], "--target", "asked", "--fills", "zero", "--folds", "2"]
    assert not [row for row in run_json(benchmark, capsys)["rows"] if row["failure"]]
    assert run_json([*arguments, "--target", "asked", "--dry-run"], capsys)["found"] == 5
    assert "or a column (asked), got 'nothing'" in run_error([*arguments, "--target", "nothing"], capsys)


def test_a_gallery_from_a_table(people: Path, tmp_path: Path, capsys: Capture) -> None:
    paths = sorted(people.rglob("*.png"))
    lines = [f"{path.relative_to(people)},{path.parent.name}" for path in paths]
    (tmp_path / "who.csv").write_text("\n".join(["file,identity", *lines]))
    more = ["--labels", tmp_path / "who.csv", "--columns", "path=file", "--target", "given"]
    more += ["--kind", "encoder", "--gallery", tmp_path / "who.csv"]
    result = explained(explain_command(people, tmp_path / "run", *more, model=model("encoder")), capsys)
    assert result.n == 6 and set(result.run.records["status"]) == {"done"}


def test_a_gallery_without_folders_knows_photographs_by_their_names(
    photos: Path, people: Path, tmp_path: Path, capsys: Capture
) -> None:
    gallery = write_photos(tmp_path / "gallery", ["one.png", "two.png"], first=20)
    more = ("--kind", "encoder", "--gallery", gallery)
    result = explained(explain_command(people, tmp_path / "run", *more, model=model("encoder")), capsys)
    assert result.run.classes == ["one.png", "two.png"]
