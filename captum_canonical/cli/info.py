"""``captum-canonical info``: versions, what can find faces here, and a map that is known beforehand."""

from __future__ import annotations

import platform
from argparse import Namespace, _SubParsersAction
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch

from captum_canonical import __version__
from captum_canonical.cli.console import Outcome, seconds, shown, table
from captum_canonical.cli.options import add_common, examples
from captum_canonical.cli.self_test import SelfTest, self_test
from captum_canonical.errors import CanonicalError, MissingDependencyError

PACKAGES = (
    "torch",
    "captum",
    "numpy",
    "scipy",
    "opencv-python",
    "torchmetrics",
    "pillow",
    "matplotlib",
    "mediapipe",
    "face-alignment",
    "safetensors",
)


def add(commands: _SubParsersAction[Any]) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "info",
        help="versions, aligners available, and a self-test",
        description="Lists versions and the aligners that work here, and computes a map that is known beforehand, in a "
        "few seconds. Exit status 1 if it comes out wrong.",
        **examples("captum-canonical info", "captum-canonical info --json --no-self-test"),
    )
    parser.add_argument("--no-self-test", action="store_true", help="only versions and aligners")
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> Outcome:
    """Looks around, and tests."""
    versions = {name: _version(name) for name in PACKAGES}
    aligners = {"mediapipe": _mediapipe(), "face-alignment": _face_alignment()}
    test = None if arguments.no_self_test else self_test()
    values: dict[str, Any] = {
        "captum-canonical": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "packages": versions,
        "aligners": {name: {"available": works, "says": says} for name, (works, says) in aligners.items()},
    }
    if test is not None:
        values["self_test"] = {
            "passed": test.passed,
            "seconds": test.seconds,
            "checks": {check.name: check.difference for check in test.checks},
        }
    return Outcome(_text(values, test), values, 0 if test is None or test.passed else 1)


def _text(values: dict[str, Any], test: SelfTest | None) -> str:
    lines = [f"captum-canonical {__version__}, Python {values['python']}, {values['platform']}"]
    lines.append(f"devices: {', '.join(values['devices'])}; {values['threads']} threads")
    lines.append(table([["package", "version"], *([name, each or "-"] for name, each in values["packages"].items())]))
    for name, each in values["aligners"].items():
        lines.append(f"aligner {name}: {'works' if each['available'] else 'not available'}: {shown(each['says'])}")
    if test is not None:
        lines += [
            f"self-test: {check.name}: {'ok' if check.passed else 'WRONG'} ({check.difference:.1e})"
            for check in test.checks
        ]
        lines.append(f"self-test {'passed' if test.passed else 'FAILED'} in {seconds(test.seconds)}")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    found = ["cpu"]
    found += [f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def _mediapipe() -> tuple[bool, str]:
    """Whether MediaPipe looks at an image, and if not, why."""
    from captum_canonical.adapters import MediaPipeAligner

    return _tried(lambda: MediaPipeAligner(on_missing="skip")([np.zeros((64, 64, 3), np.uint8)]), "offline")


def _face_alignment() -> tuple[bool, str]:
    from captum_canonical.adapters import FaceAlignmentAligner

    if _version("face-alignment") is None:
        return False, "the package face-alignment is not installed (pip install face-alignment)."
    return _tried(FaceAlignmentAligner, "installed; downloads its weights, some 400 MB, at the first use")


def _tried(action: Callable[[], object], says: str) -> tuple[bool, str]:
    try:
        action()
    except (CanonicalError, MissingDependencyError) as error:
        return False, str(error)
    except Exception as error:  # a foreign package that does not fit this machine
        return False, f"{type(error).__name__}: {error}"
    return True, says
