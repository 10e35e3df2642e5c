"""Label tables on the command line: formats, columns of groups, parts of a table, and the real ones of ../shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from captum_canonical.cli.command import main
from command_tools import Capture, explain_command, run_error, run_json, write_photos

ALIGNER = ["--aligner", "command_tools:DrawnAligner", "--quiet"]
LABELS = """file,age,gender,race
val/1.jpg,03-Sep,Male,White
val/2.jpg,20-29,Female,Black
val/3.jpg,Oct-19,Female,White
val/4.jpg,20-29,Male,Black
val/gone.jpg,20-29,Female,Indian
"""


@pytest.fixture
def fairface(tmp_path: Path) -> Path:
    write_photos(tmp_path / "val", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    (tmp_path / "labels.csv").write_text(LABELS)
    return tmp_path / "labels.csv"


def test_from_a_table_as_downloaded_to_a_report(fairface: Path, tmp_path: Path, capsys: Capture) -> None:
    labels = ["--labels", str(fairface), "--group", "gender", "--group", "race", "--group", "age"]
    arguments = explain_command(tmp_path, tmp_path / "run", *labels, points=8)
    values = run_json(arguments, capsys)
    counts = values["photographs"]["group_columns"]
    assert counts["gender"]["Male"]["found"] == sum(counts["gender"]["Male"].values()) == 2
    assert counts["gender"]["Female"]["unreadable"] == 1 and set(counts["age"]) == {"3-9", "20-29", "10-19"}
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "2 of 5 ages are dates, which a spreadsheet made of them" in said.err
    assert "left out: val/gone.jpg: expected a photograph, but there is no such file." in said.out
    page = tmp_path / "page.html"
    report = ["report", str(tmp_path / "run"), "--out", str(page), "--by", "race", "--by", "gender,race"]
    assert main(report) == 0
    assert "Gender and race" in page.read_text("utf-8") and "Female, Black" in page.read_text("utf-8")
    assert "--by: expected a column among" in run_error(["report", str(tmp_path / "run"), "--by", "smile"], capsys)


def test_a_part_of_a_table_and_options_that_do_not_fit(fairface: Path, tmp_path: Path, capsys: Capture) -> None:
    command = ["align", "--labels", str(fairface), "--cache", str(tmp_path / "meshes"), *ALIGNER]
    where = ["--where", "race=White", "--where", "race=Black", "--where", "gender=Male", "--group", "race"]
    groups = run_json([*command, *where], capsys)["groups"]
    assert {name: count["found"] for name, count in groups.items()} == {"White": 1, "Black": 1}
    for options, part in [
        (
            ["--group", "gendre"],
            "expected a column 'gendre', got ['file', 'age', 'gender', 'race']; did you mean 'gender'?",
        ),
        (["--group", "race", "--columns", "group=race"], "--group: expected only once"),
        (["--where", "race"], "expected COLUMN=VALUE"),
        (["--where", "race=Green"], "--where: expected values of 'race' (Black, Indian, White), got Green"),
        (["--images", str(tmp_path / "val" / "1.jpg")], "expected the folder that the paths in --labels start at"),
        (["--format", "vgg"], "invalid choice: 'vgg'"),
        (["--images", str(tmp_path / "meshes")], "--images: expected the folder that the paths in"),
    ]:
        assert part in run_error([*command, *options], capsys)


def test_labels_in_names_and_what_is_not_used(tmp_path: Path, capsys: Capture) -> None:
    names = ["25_1_0_20170116171048641.jpg", "8_0_3_20170116171048642.jpg", "61_1_20170109142408075.jpg"]
    photos = write_photos(tmp_path / "photos", names)
    (photos / "notes.txt").write_text("mine")
    command = ["align", "--images", str(photos), "--cache", str(tmp_path / "meshes"), *ALIGNER]
    left = tmp_path / "left.csv"
    values = run_json([*command, "--group", "gender", "--left-out", str(left)], capsys)
    assert values["photographs"] == 2 and set(values["groups"]) == {"Female", "Male"}
    assert [each["kind"] for each in values["unused"]] == ["no label", "not a photograph"]
    assert [line.split(",")[2] for line in left.read_text().splitlines()[1:]] == ["no label", "not a photograph"]
    assert main([*command, "--group", "gender"]) == 0
    said = capsys.readouterr().out
    assert "2 files or lines not used: 1 no label, 1 not a photograph" in said and "61_1_2017" in said
    assert run_json(command, capsys)["photographs"] == 3, "without labels every photograph is used"


def test_several_tables(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["000001.jpg", "000002.jpg"])
    (tmp_path / "attr.txt").write_text("2\nMale Smiling\n000001.jpg -1  1\n000002.jpg  1 -1\n")
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2937\n")
    labels = ["--labels", tmp_path / "attr.txt", "--labels", tmp_path / "identity_CelebA.txt"]
    more = ["--columns", "target=Smiling", "--group", "Male", "--target", "given"]
    run = tmp_path / "run"
    assert (
        run_json(explain_command(photos, run, *labels, *more, "--classes", "a,b,c", points=8), capsys)["explained"] == 2
    )


# -------------------------------------------------------------------------------------------------- the real tables
def test_the_tables_of_fairface(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    data = shared / "data" / "fairface"
    where = ["--where", "age=more than 70", "--group", "gender", "--group", "race"]
    command = ["align", "--cache", str(tmp_path / "meshes"), *ALIGNER]
    values = run_json([*command, "--labels", str(data / "photos.csv"), *where], capsys)
    assert values["photographs"] == values["found"] == 27 and set(values["groups"]) == {"Female", "Male"}
    assert sum(count["found"] for count in values["group_columns"]["race"].values()) == 27
    (tmp_path / "val").symlink_to(data / "images")
    downloaded = ["--labels", str(data / "labels_as_downloaded.csv"), "--images", str(tmp_path), "--group", "age"]
    values = run_json([*command, *downloaded], capsys)
    assert values["photographs"] == 39 and {"3-9", "10-19"} < set(values["groups"])
    assert values["groups"]["3-9"]["found"] + values["groups"]["3-9"]["unreadable"] == 6
    line = run_error([*command, "--labels", str(data / "labels_as_downloaded.csv")], capsys)
    assert "none of the 39 photographs is there, such as" in line


def test_the_table_of_lfw(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    data = shared / "data" / "lfw"
    command = ["align", "--cache", str(tmp_path / "meshes"), *ALIGNER, "--labels", str(data / "photos.csv")]
    values = run_json(
        [*command, "--where", "identity=Abdullah_Gul", "--where", "identity=Abel_Pacheco", "--group", "gender"], capsys
    )
    assert values["found"] == values["photographs"] >= 10 and set(values["groups"]) == {"male"}
