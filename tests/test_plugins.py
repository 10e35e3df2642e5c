"""Plug-ins by name, registered and of other packages' entry points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from captum_canonical.errors import CanonicalError
from captum_canonical.plugins import Registry
from plugin_tools import install

GROUP = "captum_canonical.tests"


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape", GROUP)

    @registry.register("round")
    class Round: ...

    return registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package of one module that offers plug-ins by their names."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name, code, **points: install(tmp_path, name, code, GROUP, points)


def test_registered_names(shapes: Registry) -> None:
    assert shapes.names() == ("round",) and "round" in shapes and "flat" not in shapes
    assert shapes.load("round").__name__ == "Round"
    with pytest.raises(CanonicalError, match=r"shape: expected one of \['round'\], got 'flat'"):
        shapes.load("flat")


def test_a_name_is_taken_once(shapes: Registry) -> None:
    first = shapes.load("round")
    assert shapes.register("round")(first) is first

    class Other: ...

    with pytest.raises(
        CanonicalError, match=r"shape 'round': the name is taken by .*Round; choose another one for .*Other"
    ):
        shapes.register("round")(Other)
    assert shapes.load("round") is first


def test_entry_points_are_imported_when_they_are_asked_for(shapes: Registry, package: Callable[..., None]) -> None:
    package("plugin_of_squares", "class Square: ...", square="plugin_of_squares:Square")
    assert shapes.names() == ("round", "square") and "plugin_of_squares" not in sys.modules
    assert shapes.load("square").__module__ == "plugin_of_squares"


def test_a_broken_package_is_an_error_of_its_own_names_only(shapes: Registry, package: Callable[..., None]) -> None:
    package("plugin_broken", "1 / 0", broken="plugin_broken:Broken", also="plugin_broken:Also")
    package("plugin_of_lines", "class Line: ...", line="plugin_of_lines:Line", gone="plugin_of_lines:Gone")
    assert (
        shapes.load("round") and shapes.load("line") and shapes.names() == ("also", "broken", "gone", "line", "round")
    )
    with pytest.raises(
        CanonicalError, match=r"shape 'broken': plugin_broken:Broken of the package plugin_broken.*Zero"
    ):
        shapes.load("broken")
    with pytest.raises(CanonicalError, match=r"'gone'.*AttributeError"):
        shapes.load("gone")


def test_clashes_of_names(shapes: Registry, package: Callable[..., None]) -> None:
    package("plugin_one", "class Round: ...", round="plugin_one:Round", oval="plugin_one:Round")
    package("plugin_two", "class Oval: ...", oval="plugin_two:Oval")
    assert shapes.load("round").__module__ == __name__  # the registered one
    with pytest.raises(CanonicalError, match=r"'oval': plugin_one:Round of the package plugin_one and plugin_two:Oval"):
        shapes.load("oval")


def test_our_own_are_found_in_a_fresh_process() -> None:
    code = (
        "import sys, captum_canonical; from captum_canonical.plugins import ALIGNERS, FILLS\n"
        "assert not {'captum_canonical.adapters', 'captum_canonical.faithfulness'} & set(sys.modules)\n"
        "assert {'zero', 'mean', 'blur', 'imputed'} <= set(FILLS.names())\n"
        "assert {'mediapipe', 'face-alignment'} <= set(ALIGNERS.names())\n"
        "assert not {'mediapipe', 'face_alignment'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
