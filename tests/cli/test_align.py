"""``align``: counts by group, photographs that are left out, and the cache of meshes."""

from __future__ import annotations

import csv
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from captum_canonical.adapters.face_alignment import FaceAlignmentAligner
from captum_canonical.adapters.keypoints import KeypointAligner
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.cli.command import main
from captum_canonical.cli.photographs import aligner_of
from captum_canonical.plugins import ALIGNERS
from command_tools import Capture, DrawnAligner, explain_command, run_error, run_json, write_photos
from plugin_tools import install


def test_align_gives_an_account_by_group_and_keeps_the_meshes(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["dark/1.png", "dark/2 black.png", "light/1.png", "light/2.png"])
    (photos / "dark" / "3.jpg").write_text("no photograph")
    arguments = ["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--quiet"]
    arguments += ["--subfolder", "group", "--cache", str(tmp_path / "meshes"), "--left-out", str(tmp_path / "left.csv")]
    values = run_json(arguments, capsys)
    assert values["photographs"] == 5 and values["found"] == 3
    assert values["groups"]["dark"] == {
        "found": 1,
        "no_face": 1,
        "not_aligned": 0,
        "unreadable": 1,
        "low_quality": 0,
        "several_faces": 0,
    }
    assert values["groups"]["light"]["found"] == 2
    assert [each["kind"] for each in values["left_out"]] == ["no face", "unreadable"]
    with open(tmp_path / "left.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["dark/2 black.png", "dark/3.jpg"] and "not an image" in rows[1]["reason"]

    assert len(DrawnAligner.calls) == 4
    assert main(arguments) == 0
    assert len(DrawnAligner.calls) == 4, "meshes come from the cache"
    said = capsys.readouterr().out
    assert "faces found in 3 of 5 photographs" in said and "left out: dark/2 black.png" in said
    assert [line.split() for line in said.splitlines() if line.startswith("dark ")] == [["dark", "1", "1", "0", "1"]]


@pytest.mark.parametrize("kind", ["png", "jpg", "pdf", "svg"])
def test_the_sheet_of_doubtful_faces(kind: str, tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["1.png", "2 black.png", "3.png"])
    sheet = tmp_path / f"sheet.{kind}"
    arguments = ["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--quiet"]
    arguments += ["--cache", str(tmp_path / "meshes"), "--sheet"]
    assert run_json([*arguments, str(sheet)], capsys)["sheet"] == str(sheet)
    start = {"png": b"\x89PNG", "jpg": b"\xff\xd8\xff", "pdf": b"%PDF", "svg": b"<?xml"}[kind]
    assert sheet.read_bytes().startswith(start)
    assert main([*arguments, str(sheet)]) == 0 and "look at the doubtful ones" in capsys.readouterr().out
    assert "--sheet sheet.doc: expected a file that ends in .png" in run_error([*arguments, "sheet.doc"], capsys)
    assert "no such folder" in run_error([*arguments, str(tmp_path / "no such folder" / "sheet.png")], capsys)


def test_names_that_a_spreadsheet_would_run_are_texts(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["1.png"])
    (photos / "=1+1").mkdir()
    (photos / "=1+1" / "@SUM(1).png").write_text("no photograph")
    arguments = ["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--subfolder", "group"]
    run_json([*arguments, "--cache", str(tmp_path / "meshes"), "--left-out", str(tmp_path / "left.csv")], capsys)
    with open(tmp_path / "left.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["group"]) == ("'=1+1/@SUM(1).png", "'=1+1")


def test_meshes_serve_any_input_size(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    cache = str(tmp_path / "meshes")
    aligner = ["--aligner", "command_tools:DrawnAligner", "--quiet"]
    run_json(["align", "--images", str(photos), "--cache", cache, *aligner], capsys)
    DrawnAligner.calls.clear()
    run_json(explain_command(photos, tmp_path / "run", "--cache", cache), capsys)
    assert DrawnAligner.calls == []


# ------------------------------------------------------------------------------------------------- which aligner
NAMED = """
from captum_canonical.adapters import KeypointAligner, MediaPipeAligner, PixelGrid
from command_tools import DrawnAligner

mediapipe = MediaPipeAligner(max_faces=3)
grid = PixelGrid(3, 4)
keypoints = KeypointAligner(DrawnAligner())

def make_grid():
    return PixelGrid(3, 4)

def make_keypoints(on_missing="raise"):
    assert on_missing == "skip"
    return KeypointAligner(DrawnAligner())

def make_mediapipe(device="cpu"):
    return MediaPipeAligner()

def drawn(images, *, names=None):
    return DrawnAligner()(images, names=names)

def plain(images):
    return DrawnAligner()(images, names=["it"])

def fails():
    raise RuntimeError("no network")
"""


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of aligners in the current folder."""
    (tmp_path / "named_aligners.py").write_text(NAMED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "named_aligners", raising=False)
    return "named_aligners"


@pytest.mark.parametrize("name", ["grid", "make_grid", "keypoints", "make_keypoints", "drawn", "plain"])
def test_align_takes_instances_factories_and_functions(named: str, name: str, photos: Path, capsys: Capture) -> None:
    arguments = ["align", "--images", str(photos), "--cache", "meshes", "--aligner", f"{named}:{name}", "--quiet"]
    assert run_json(arguments, capsys)["found"] == 5
    meshes = {path: path.stat().st_mtime_ns for path in Path("meshes").iterdir()}
    assert run_json(arguments, capsys)["found"] == len(meshes) == 5
    assert {path: path.stat().st_mtime_ns for path in Path("meshes").iterdir()} == meshes


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mediapipe", MediaPipeAligner),
        ("face-alignment", FaceAlignmentAligner),
        ("named_aligners:mediapipe", MediaPipeAligner),
        ("named_aligners:make_mediapipe", MediaPipeAligner),
        ("captum_canonical.adapters:MediaPipeAligner", MediaPipeAligner),
        ("captum_canonical.adapters:KeypointAligner", KeypointAligner),
    ],
)
def test_aligners_that_options_name(named: str, text: str, kind: type) -> None:
    arguments = Namespace(aligner=text, device="cuda", face=None, face_landmarker=Path("face.task"))
    aligner = aligner_of(arguments)
    assert type(aligner) is kind
    if not text.startswith(named):
        inner = aligner.aligner if isinstance(aligner, KeypointAligner) else aligner
        assert inner.on_missing == "skip"
        assert str(getattr(inner, "device", "cuda")) == "cuda"
        assert getattr(inner, "model_asset_path", Path("face.task")) == Path("face.task")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dlib", f"expected {', '.join(ALIGNERS.names())} or package.module:aligner, got 'dlib'"),
        ("captum_canonical.adapters:PixelGrid", "PixelGrid needs rows, cols; name an instance of it"),
        ("named_aligners:fails", "--aligner named_aligners:fails fails: RuntimeError: no network"),
        ("named_aligners:NAMES", "has no 'NAMES'"),
        ("math:pi", "expected a callable from images to a FaceMesh, got float"),
    ],
)
def test_what_is_no_aligner(named: str, text: str, message: str, photos: Path, capsys: Capture) -> None:
    assert message in run_error(["align", "--images", str(photos), "--cache", "meshes", "--aligner", text], capsys)


def test_a_function_is_known_by_its_file(named: str, photos: Path, capsys: Capture) -> None:
    arguments = ["align", "--images", str(photos), "--cache", "meshes", "--aligner", f"{named}:drawn", "--quiet"]
    run_json(arguments, capsys)
    Path(f"{named}.py").write_text(f"{NAMED}# another version")
    del sys.modules[named]
    run_json(arguments, capsys)
    assert len(list(Path("meshes").iterdir())) == 10


def test_an_aligner_of_another_package(photos: Path, tmp_path: Path, monkeypatch: Any, capsys: Capture) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from captum_canonical.adapters import PixelGrid\n\ndef three(): return PixelGrid(3, 3)"
    install(tmp_path, "package_of_an_aligner", code, ALIGNERS.group, {"thirds": "package_of_an_aligner:three"})
    arguments = ["align", "--images", str(photos), "--cache", str(tmp_path / "meshes"), "--aligner", "thirds"]
    assert run_json(arguments, capsys)["found"] == 5


def test_messages_name_options(tmp_path: Path, capsys: Capture) -> None:
    """Arguments of the library's functions are options here."""
    photos = write_photos(tmp_path / "photos", ["1.png", "2 black.png"])
    arguments = ["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--quiet"]
    assert main([*arguments, "--cache", str(tmp_path / "meshes")]) == 0
    printed = capsys.readouterr()
    assert "warning: 1 of 2 photographs are left out (1 no face; the first is 2 black.png: " in printed.err
    assert "left_out" not in printed.err and "AlignedFaces" not in printed.err
    (tmp_path / "t.csv").write_text("file\n1.png\n")
    line = run_error([*arguments, "--labels", str(tmp_path / "t.csv"), "--cache", str(tmp_path / "meshes")], capsys)
    assert "--columns path=NAME" in line


@pytest.mark.parametrize(("number", "text"), [(1, "1 photograph is a copy of others"), (2, "2 photographs are copies")])
def test_copies_are_counted(number: int, text: str, tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["0.png"])
    for place in range(number):
        (photos / f"copy{place}.png").write_bytes((photos / "0.png").read_bytes())
    cache = str(tmp_path / "meshes")
    assert main(["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--cache", cache]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--sheet", "--left-out"])
def test_folders_of_the_files_to_write_are_looked_for_first(option: str, tmp_path: Path, capsys: Capture) -> None:
    write_photos(tmp_path / "photos", ["1.png"])
    arguments = ["align", "--images", str(tmp_path / "photos"), "--cache", str(tmp_path / "meshes")]
    assert main([*arguments, option, str(tmp_path / "nowhere/x.png")]) != 0
    assert f"make {tmp_path / 'nowhere'} first" in capsys.readouterr().err
    assert not (tmp_path / "meshes").exists()
