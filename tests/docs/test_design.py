"""The page about the design names what is there: the storeys of setup.cfg, and files of the package."""

from __future__ import annotations

import re

import pytest

from documentation import ROOT
from tools import draw_storeys

PACKAGE = ROOT / "captum_canonical"
FOLDERS = [ROOT, PACKAGE, PACKAGE / "inference", ROOT / "tests" / "helpers"]
PAGES = [ROOT / "docs" / "design.md", ROOT / "CONTRIBUTING.md"]


def test_the_picture_is_that_of_the_list() -> None:
    drawn = draw_storeys.svg(draw_storeys.storeys())
    assert draw_storeys.PICTURE.read_text(encoding="utf-8") == drawn, "run python tools/draw_storeys.py"


def test_the_picture_has_a_box_for_every_module_of_the_top_level() -> None:
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for row in draw_storeys.storeys() for name in row} == modules - {"__init__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: str) -> None:
    """In the repository, in the package, or in one of two folders that the pages speak of."""
    named = re.findall(r"`([\w/.]+(?:\.(?:py|svg|md|cfg)|/))`", page.read_text(encoding="utf-8"))
    assert len(named) > 5
    missing = [name for name in named if not any((f / name).exists() for f in FOLDERS)]
    assert not missing
