"""The commands of the documentation, run as a reader would run them: in a folder with photographs, page by page."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import captum_canonical as cc
from captum_canonical.cli.command import main
from documentation import ROOT, Block, blocks_of, commands_of, written_files
from documentation_setup import write_files
from studies.face_nets.download import CACHE
from studies.face_nets.networks import FAIRFACE

COMMANDS = ROOT / "docs" / "command-line.md"
MACHINES = ROOT / "docs" / "howto" / "several-machines.md"


def prepare(page: Path, folder: Path) -> None:
    """The photographs, and the files that the page's blocks say they are."""
    write_files(folder)
    for block in blocks_of(page):
        for name in written_files(block):
            (folder / name).write_text(block.text, encoding="utf-8")


def shell(page: Path) -> list[list[str]]:
    return [words for block in blocks_of(page) if block.kind == "sh" for words in commands_of(block)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_the_command_line(
    here: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    """From photographs to pages and comparisons, each command after the ones above it."""
    prepare(COMMANDS, here)
    own = [words for words in shell(COMMANDS) if words[0] == "captum-canonical"]
    ran = [words for words in own[3:] if not any("examples." in word for word in words)]  # these are below
    for words in ran:
        assert main(words[1:]) == 0, f"{' '.join(words)}\n{capsys.readouterr().err}"
    assert (here / "page.html").stat().st_size > 100_000
    assert (here / "left_out.csv").is_file() and (here / "scores" / "table.md").is_file()
    assert len(ran) == 10
    record_property("documentation commands started", len(ran))


def test_the_example_s_network(
    shared: Path, here: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    """The three lines at the top, of README.md too, with few points and the weights that are here already."""
    for page in (COMMANDS, ROOT / "README.md"):
        (block,) = [each for each in blocks_of(page) if "real_networks:gender" in each.text and each.kind == "sh"]
        commands = [words[1:] for words in commands_of(block)]
        assert [words[0] for words in commands] == ["info", "explain", "report"]
        assert commands[1] == "explain --images photos --model examples.real_networks:gender --out run".split()
    write_files(here)
    (here / "examples").symlink_to(ROOT / "examples")
    commands[1] += ["--weights", str(shared / "models"), "--points", "16"]
    for words in commands:
        assert main(words) == 0, capsys.readouterr().err
    assert (here / "run" / "report.html").stat().st_size > 100_000
    record_property("documentation commands started", 2 * len(commands))


def test_the_networks_to_try(
    shared: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """Heads are trained on the drawn photographs, and explained, as the encoder is, at few points."""
    (block,) = [each for each in blocks_of(COMMANDS) if "train_fairface_heads" in each.text and each.kind == "sh"]
    training, *commands = commands_of(block)
    write_files(here)
    (here / "examples").symlink_to(ROOT / "examples")
    (here / CACHE).mkdir()
    shutil.copy(shared / "models" / "mobilefacenet.safetensors", here / CACHE)
    monkeypatch.setattr(sys, "argv", training[1:])
    runpy.run_path(str(ROOT / training[1]), run_name="__main__")
    for words in commands:
        assert main([*words[1:], "--points", "16"]) == 0, capsys.readouterr().err
    heads, nearest = (cc.ModelSaliency.open(here / words[words.index("--out") + 1]) for words in commands)
    assert heads.n == nearest.n == 16 and set(heads.records["predicted"]) <= set(FAIRFACE["race"])
    record_property("documentation commands started", 1 + len(commands))


def test_several_processes(here: Path, record_property: Callable[[str, object], None]) -> None:
    """The script of the page, alone and in two processes; those of several computers differ in where they meet."""
    prepare(MACHINES, here)
    alone, together, *others = [words for words in shell(MACHINES) if words[-1] == "explain.py"]
    assert (alone, together) == (["python", "explain.py"], "torchrun --nproc-per-node 4 explain.py".split())
    assert len(others) == 2
    together = [*together[:2], "2", *together[3:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for words in (together, alone):  # the second finds a finished run, and reads it
        done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("16 photographs") == 1
    assert (here / "run" / "summary.npz").is_file()
    record_property("documentation commands started", 2)


def test_a_block_may_hold_several_commands() -> None:
    block = Block(COMMANDS, 1, "sh", "captum-canonical info  # and then\ncaptum-canonical report \\\n    run\n")
    assert list(commands_of(block)) == [["captum-canonical", "info"], ["captum-canonical", "report", "run"]]
