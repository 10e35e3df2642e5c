"""Python objects that references name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.networks.references import import_path_kept, load_reference
from command_tools import SIDE

X = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_modules_that_need_more_say_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_module.py").write_text("import absent_package.part\n")
    (tmp_path / "faulty_module.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with import_path_kept():
        with pytest.raises(MissingDependencyError, match="pip install absent_package"):
            load_reference("needy_module:net", "--model")
        with pytest.raises(CanonicalError, match="importing faulty_module fails: ZeroDivisionError"):
            load_reference("faulty_module:net", "--model")


def test_a_script_finds_the_modules_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts_of_mine").mkdir()
    (tmp_path / "scripts_of_mine" / "beside_it.py").write_text("value = 7\n")
    (tmp_path / "scripts_of_mine" / "script.py").write_text("from beside_it import value\n")
    monkeypatch.chdir(tmp_path)
    with import_path_kept():
        assert load_reference("scripts_of_mine.script:value", "--model") == 7


def test_the_current_folder_takes_no_other_module_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("colorsys", "modules_of_mine"):
        (tmp_path / f"{name}.py").write_text("value = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with import_path_kept():
        assert load_reference("modules_of_mine:value", "--model") == 7
        with pytest.raises(CanonicalError, match=r"colorsys \(.*lib.*colorsys.py\) has no 'value'"):
            load_reference("colorsys:value", "--model")
