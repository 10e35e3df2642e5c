"""What may come together in a run: new labels, several processes, damage, turned photographs, people known later."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import captum_canonical as cc
from captum_canonical.adapters import FaceMeshAligner
from captum_canonical.cli.command import main
from captum_canonical.run_folder.folder import RunFolder
from run_tools import COUNT, Network, explain, labelled, summary, together

OLD = {"groups": ["old"] * COUNT, "identities": ["somebody"] * COUNT, "names": [f"old {n}" for n in range(COUNT)]}
NEW = {
    "groups": [f"new {n % 2}" for n in range(COUNT)],
    "identities": [f"person {n // 2}" if n < 10 else None for n in range(COUNT)],
    "names": [f"new {n}" for n in range(COUNT)],
}


def interrupted(out: Path, data: Any, after: int = 6) -> None:
    """A call that Ctrl-C ends when so many photographs have been explained."""
    seen: set[int] = set()

    def stop(number: int) -> None:
        seen.add(number)
        if len(seen) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(out, Network(stop), data)
    assert 0 < cc.ModelSaliency.open(out).n < COUNT


# ---------------------------------------------------------------------------------------- labels between two calls
@pytest.mark.parametrize("killed", [False, True])
def test_labels_that_change_between_two_calls_of_two_processes(tmp_path: Path, killed: bool) -> None:
    """All processes and all photographs have the new ones, those that the first call explained too."""
    out = tmp_path / "run"
    deadly = int(torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))[2 * 3]) if killed else -1
    codes, output = together(
        tmp_path, "labelled_run", 2, out=out, labels=OLD, number=-1, by_rank=[{}, {"number": deadly}]
    )
    assert codes == ([1, -9] if killed else [0, 0]), output
    before = cc.ModelSaliency.open(out)
    assert set(before.records["group"]) == {"old"} and before.run.complete != killed
    codes, output = together(tmp_path, "labelled_run", 2, out=out, labels=NEW, number=-1)
    assert codes == [0, 0], output
    result = cc.ModelSaliency.open(out)
    for column, name in (("group", "groups"), ("identity", "identities"), ("name", "names")):
        assert result.run.records[column] == [NEW[name][place] for place in result.run.records["place"]]
    assert {name: part.n for name, part in result.strata("group").items()} == {"new 0": 7, "new 1": 6}
    assert "8 people" in result.significance(permutations=99).sentence
    explain(tmp_path / "alone", data=labelled(**NEW))
    assert result.run.records == RunFolder.open(tmp_path / "alone").records
    torch.testing.assert_close(result.mean, cc.ModelSaliency.open(tmp_path / "alone").mean, rtol=1e-5, atol=1e-7)


def test_groups_written_in_two_ways_are_one_group_after_a_call_that_goes_on(tmp_path: Path) -> None:
    """As a table writes them the first time, and another program the second: 1, 1.0, "1" and "1.0" are one group."""
    first = ["1", "1.0", " 1 "] * 4 + ["1"]
    second: list[Any] = [1, 1.0, np.float64(1.0), "1.0", np.int64(1), torch.tensor(1)] * 2 + [None]
    interrupted(tmp_path / "run", labelled(groups=first))
    assert [*cc.ModelSaliency.open(tmp_path / "run").strata("group")] == ["1"]
    result = explain(tmp_path / "run", data=labelled(groups=second))
    assert {name: part.n for name, part in result.strata("group").items()} == {"1": 12, "not known": 1}
    page = cc.report(result, tmp_path / "page.html", photos=False, view_3d=False).read_text("utf-8")
    assert page.count('<th scope="row">1</th>') <= 1 and ">1.0<" not in page


def test_identities_that_are_added_later_are_the_units_of_comparisons_and_folds(tmp_path: Path) -> None:
    halves = ["a"] * 7 + ["b"] * 6
    people = [f"person {n // 3}" for n in range(7)] + [f"other {n // 3}" for n in range(6)]
    interrupted(tmp_path / "run", labelled(groups=halves))
    nobody = explain(tmp_path / "run", data=labelled(groups=halves))
    sides = nobody.strata("group")
    assert (
        cc.compare_groups(sides["a"], sides["b"], permutations=50).significance.units
        == "7 photographs and 6 photographs"
    )
    known = explain(tmp_path / "run", data=labelled(groups=halves, identities=people))
    sides = known.strata("group")
    found = cc.compare_groups(sides["a"], sides["b"], permutations=50)
    assert found.significance.units == "3 people and 2 people"
    both = explain(tmp_path / "run", data=labelled(groups=halves, identities=["Ann"] * COUNT))
    with pytest.raises(cc.CanonicalError, match="expected at least two people in each group, got 1 person"):
        cc.compare_groups(*both.strata("group").values(), permutations=50)
    shared = explain(tmp_path / "run", data=labelled(groups=halves, identities=[f"p {n % 4}" for n in range(COUNT)]))
    with pytest.raises(cc.CanonicalError, match="expected different people in the two groups, but 4 are in both"):
        cc.compare_groups(*shared.strata("group").values(), permutations=50)


def test_identities_that_are_added_later_are_in_one_fold_of_the_benchmark(tmp_path: Path) -> None:
    batch, network = labelled(), Network()
    people = [f"person {n // 2}" for n in range(8)] + [None] * 5
    known = explain(tmp_path / "run", data=labelled(identities=people)).run
    by_place = dict(zip(known.records["place"], known.records["identity"], strict=True))
    method = cc.CanonicalOcclusion(network, canonical_face=cc.CanonicalFace.default(32))
    methods = {"occlusion": (method, {"num_points": 8})}
    folds = {}
    for name, identities in (("unknown", None), ("known", [by_place[place] for place in range(COUNT)])):
        result = cc.benchmark(
            network, batch.images, methods, 0, faces=batch.faces, canonical_face=cc.CanonicalFace.default(32),
            identities=identities, fills=["zero"], folds=3, seed=1,
        )  # fmt: skip
        folds[name] = result.settings["fold of each image"]
    assert [folds["known"][n] == folds["known"][n + 1] for n in range(0, 8, 2)] == [True] * 4
    assert any(folds["unknown"][n] != folds["unknown"][n + 1] for n in range(0, 8, 2))
    assert len(set(folds["known"][8:])) > 1  # unknown people are not one person


# ------------------------------------------------------------------------------------------- nothing is finished yet
def without_arguments(member: Any) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(member).parameters.values()
    return all(each.default is not each.empty or each.kind in kinds for each in parameters)


def test_a_run_with_no_finished_photograph_in_every_property_a_report_and_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each public name either holds for no photograph or says that there is none, and which call goes on."""

    def stop(number: int) -> None:
        raise KeyboardInterrupt

    for name in ("run", "other"):
        with pytest.raises(KeyboardInterrupt):
            explain(tmp_path / name, Network(stop), labelled(groups=["a"] * COUNT))
    result = cc.ModelSaliency.open(tmp_path / "run")
    refused = set()
    for held in (result, result.run, result.photos):
        for name in dir(held):
            try:
                member = getattr(held, name) if not name.startswith("_") else None
                if callable(member) and without_arguments(member):
                    member()
            except cc.CanonicalError as error:
                assert "no photograph of this run has a map. 13 of 13 photographs are not finished" in str(error), name
                refused.add(name)
    arrays = {"mean", "standard_error", "variance", "count", "coverage", "pixels"}
    assert refused == arrays | {"significance", "concentration", "save_summary"}
    assert all(column == [] for column in result.records.values()) and (result.n, len(result.photos)) == (0, 0)
    page = cc.report(result, tmp_path / "page.html", view_3d=False).read_text("utf-8")
    assert "No photograph has a map yet" in page and "13 of 13 photographs are not finished" in page
    commands = [["report"], ["report", "--weights", "people"], ["compare", str(tmp_path / "other")]]
    for command, *more in commands:
        assert main([command, str(tmp_path / "run"), *more]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and "no photograph is explained in this run yet. 13 of 13" in printed.err
    assert not (tmp_path / "run/report.html").exists()


# ---------------------------------------------------------------------------------------------------------- damage
def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("finished", [True, False])
def test_damaged_rows_are_computed_anew_by_two_processes(tmp_path: Path, finished: bool) -> None:
    """Of a finished run and of one that was cut off; the run was that of one process."""
    explain(tmp_path / "alone")
    out = tmp_path / "run"
    if finished:
        explain(out)
    else:
        interrupted(out, None, 9)
    size = (out / "maps.npy").stat().st_size - 128
    for row, name in ((1, "maps.npy"), (2, "maps.npy"), (5, "coverage.npy")):
        flipped(out / name, 128 + size // COUNT * row // (1 if name == "maps.npy" else 2) + 9)
    with pytest.warns(UserWarning, match="3 damaged and left out"):
        assert cc.ModelSaliency.open(out).run.records["status"].count("damaged") == 3
    codes, output = together(tmp_path, "explain", 2, out=out)
    assert codes == [0, 0], output
    assert sum("damaged in " in each for each in output) == 1  # by the first process, once
    result, alone = cc.ModelSaliency.open(out), cc.ModelSaliency.open(tmp_path / "alone")
    assert result.run.complete and result.run.records == alone.run.records
    torch.testing.assert_close(result.mean, alone.mean, rtol=1e-5, atol=1e-7)
    assert not result.run.damaged
    np.testing.assert_array_equal(result.run.coverage, alone.run.coverage)


DAMAGE: dict[str, Any] = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "no text": lambda content: b"\xff\xfe\x00" + content[3:],
    "one byte in the middle": lambda content: content[:700] + bytes([content[700] ^ 1]) + content[701:],
    "a line of another run": lambda content: content.replace(b'"row": 3', b'"row": 4'),
    "a line is missing": lambda content: b"".join(content.splitlines(True)[1:]),
    "line breaks of another system": lambda content: content.replace(b"\n", b"\r\n"),
    "no line breaks": lambda content: content.replace(b"\n", b" "),
    "deep brackets": lambda content: b"[" * 100_000 + content,
    "an array": lambda content: b"[1, 2]\n" + content,
    "a row that there is not": lambda content: content.replace(b'"row": 3', b'"row": 99'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_records_are_noticed_and_put_right(kind: str, tmp_path: Path) -> None:
    """Every photograph is there with its own numbers, or missing and computed anew; nothing else."""
    out = tmp_path / "run"
    whole = explain(out)
    path, before = out / "records-0.jsonl", summary(out)
    expected = dict(zip(whole.run.records["place"], zip(*whole.run.records.values(), strict=True), strict=True))
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    run = RunFolder.open(out)
    rows = list(zip(*run.records.values(), strict=True))
    assert all(row == expected[place] for row, place in zip(rows, run.records["place"], strict=True))
    assert len(rows) == COUNT or "are not finished" in run.missing
    if run.complete:
        assert kind in ("an array", "deep brackets", "line breaks of another system"), kind
    else:
        with pytest.raises(cc.CanonicalError, match=r"not written|no photograph of this run"):
            cc.ModelSaliency.open(out).save_summary()
    assert summary(out) == before
    again = explain(out)
    assert again.run.complete and again.run.records == whole.run.records and summary(out) == before


@pytest.mark.parametrize("kind", ["folder", "link to nothing"])
def test_records_that_are_no_file(kind: str, tmp_path: Path) -> None:
    explain(tmp_path / "run")
    path = tmp_path / "run/records-0.jsonl"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(cc.CanonicalError, match=r"records-0.jsonl: expected the records of a run"):
        cc.ModelSaliency.open(tmp_path / "run")


# ------------------------------------------------------------------------------------------------ turned photographs
class MeanColour(nn.Module):
    """Two scores that do not depend on how a photograph is held."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.amax(1).mean((1, 2))
        return torch.stack([bright, 1 - bright], 1)


def test_turned_photographs_in_strata_and_a_report(tmp_path: Path) -> None:
    """The same face held in four ways, found by the package's aligner, has one map and one pose."""
    drawn = np.full((120, 120, 3), 128, np.uint8)
    drawn[10:106, 8:104] = (cc.CanonicalFace.default(96).image.permute(1, 2, 0) * 255).byte().numpy()
    rows = []
    for quarters in (0, 1, 2, 3):
        for copy in (0, 1):
            path = tmp_path / f"{quarters}-{copy}.png"
            image = np.rot90(drawn, quarters).copy()
            image[0, 0] = copy  # no two files are equal
            Image.fromarray(image).save(path)
            rows.append({"path": path, "group": f"turned {90 * quarters}", "identity": f"{quarters} {copy}"})
    data = cc.AlignedFaces(rows, FaceMeshAligner(), size=64, crop=None)
    result = cc.explain_dataset(
        MeanColour().eval(), data, tmp_path / "run", target=0, canonical_face=cc.CanonicalFace.default(64),
        num_points=200, inference="dense", show_progress=False,
    )  # fmt: skip
    assert result.n == 8 and not result.run.left_out
    poses = torch.tensor([result.records["yaw"], result.records["pitch"]])
    assert len(result.strata("pose")) == 1 and bool((poses.amax(1) - poses.amin(1) < 3).all()), poses
    maps = result.strata("group")
    assert {name: part.n for name, part in maps.items()} == {f"turned {angle}": 2 for angle in (0, 90, 180, 270)}
    upright = maps["turned 0"]
    for name, other in maps.items():
        seen = (upright.count[0] > 0) & (other.count[0] > 0)
        agreement = torch.corrcoef(torch.stack([upright.mean[0][seen], other.mean[0][seen]]))[0, 1]
        assert agreement > 0.9, (name, float(agreement))
    page = cc.report(result, tmp_path / "page.html", view_3d=False).read_text("utf-8")
    assert "Nothing was left out." in page and page.count("turned 180") > 1 and "turned 270" in page
