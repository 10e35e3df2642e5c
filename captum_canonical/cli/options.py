"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from captum_canonical.cli.console import shown
from captum_canonical.cli.methods import LINKS


class Parser(ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exits with status 2."""
        self.exit(2, f"{self.prog}: error: {shown(message)} (see {self.prog} --help)\n")


# ------------------------------------------------------------------------------------------------------ reading
def numbers(text: str) -> float | tuple[float, ...]:
    """One number, or several with commas between them.

    Example::

        >>> numbers("0.5"), numbers("0.48,0.46,0.41")
        (0.5, (0.48, 0.46, 0.41))
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected a number, or numbers with commas between them, got {text!r}") from None
    return found[0] if len(found) == 1 else found


def input_size(text: str) -> int | tuple[int, int]:
    """Pixels, or HEIGHTxWIDTH.

    Example::

        >>> input_size("112"), input_size("128x96")
        (112, (128, 96))
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(parts) > 2:
        raise ArgumentTypeError(f"expected pixels or HEIGHTxWIDTH, got {text!r}")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def crop_box(text: str) -> str | tuple[float, ...]:
    """``face``, ``none`` or LEFT,TOP,RIGHT,BOTTOM."""
    if text in ("face", "none"):
        return text
    box = numbers(text)
    if not isinstance(box, tuple) or len(box) != 4:
        raise ArgumentTypeError(f"expected face, none or LEFT,TOP,RIGHT,BOTTOM, got {text!r}")
    return box


def columns(text: str) -> dict[str, str]:
    """``path=file,identity=who``."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise ArgumentTypeError(f"expected NAME=COLUMN with commas between them, such as path=file, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def at_least(least: int) -> Callable[[str], int]:
    """A whole number from ``least`` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"expected a whole number from {least} on, got {text!r}")
        return int(text)

    return read


def stopping_rule(text: str) -> Any:
    """``standard-error=0.05`` or ``split-half=0.95``."""
    from captum_canonical.errors import CanonicalError
    from captum_canonical.runs.stopping import SplitHalf, StandardError

    rules: dict[str, Callable[[float], Any]] = {"standard-error": StandardError, "split-half": SplitHalf}
    name, _, value = text.partition("=")
    try:
        return rules[name](float(value))
    except (KeyError, ValueError) as error:
        told = f" ({error})" if isinstance(error, CanonicalError) else ""
        raise ArgumentTypeError(f"expected standard-error=0.05 or split-half=0.95, got {text!r}{told}") from None


# ---------------------------------------------------------------------------------------------------- the options
def add_common(parser: ArgumentParser) -> None:
    """Options of every command."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="write the result as JSON on stdout")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    group.add_argument("--verbose", action="store_true", help="say on stderr what is decided, such as which inference")
    group.add_argument("--debug", action="store_true", help="show where an error comes from")


def add_photos(parser: ArgumentParser) -> None:
    """Which photographs, and what finds the faces in them."""
    group = parser.add_argument_group("photographs")
    group.add_argument("--images", metavar="PATH", help="folder of photographs (with sub-folders), .csv, or photograph")
    group.add_argument(
        "--csv",
        metavar="FILE",
        help="table in UTF-8 with a column path and perhaps target, group and identity; paths start at --images if "
        "both are given, else at the table's folder",
    )
    group.add_argument("--columns", type=columns, metavar="NAME=COLUMN,...", help="other names of the table's columns")
    group.add_argument("--subfolder", choices=["target", "group", "identity"], help="what names of sub-folders mean")
    group.add_argument("--cache", type=Path, metavar="DIR", help="keep the meshes found, for any later command")
    group.add_argument(
        "--aligner", default="mediapipe", help="mediapipe (default), face-alignment or package.module:factory"
    )
    group.add_argument("--face-landmarker", type=Path, metavar="FILE", help="face_landmarker.task for newer mediapipe")


def add_network(parser: ArgumentParser) -> None:
    """Which network, and what it wants to see."""
    group = parser.add_argument_group(
        "network",
        "A factory may bring all but --model along (see the documentation); options given here win over it. Loading "
        "a Python reference, a TorchScript or a torch.export file runs its code: use only what you trust. Pickled "
        "objects are never loaded.",
    )
    group.add_argument(
        "--model", required=True, help="package.module:factory, a TorchScript file, or a torch.export file (.pt2)"
    )
    group.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, or a file of tensors by torch.save")
    group.add_argument("--size", type=input_size, help="of the input in pixels, such as 224 or 128x96")
    group.add_argument("--crop", type=crop_box, help="face (default), none, or LEFT,TOP,RIGHT,BOTTOM in pixels")
    group.add_argument("--margin", type=float, help="around the face, as a share of its longer side (default 0.25)")
    group.add_argument("--channels", choices=["RGB", "BGR", "L"], help="order of colours, or L for grey (default RGB)")
    group.add_argument("--mean", type=numbers, help="of the normalisation (image - mean) / std of images in 0..1")
    group.add_argument("--std", type=numbers, help="likewise; numbers with commas are for the channels")
    group.add_argument("--classes", type=names, metavar="NAME,...", help="names of the classes as the outputs are")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ...")


def add_method(parser: ArgumentParser) -> None:
    """What is explained, and how."""
    group = parser.add_argument_group("explanation")
    group.add_argument("--target", default="predicted", help="predicted (default), given, a class index or name")
    group.add_argument(
        "--link",
        choices=LINKS,
        help="of a network that returns logits: log_odds (default), which do not saturate, or "
        "probability; none explains the outputs as they are",
    )
    group.add_argument("--patch-size", type=float, metavar="PIXELS", help="of hidden patches (default: 15 of 224)")
    group.add_argument(
        "--fill", type=numbers, help="colour of hidden patches in 0..1 (default: --mean, or black without one)"
    )
    group.add_argument("--points", type=at_least(1), help="occlusion points of each face (default: all, 1024)")
    group.add_argument("--layer", help="name of the layer that CAM methods look into")
    group.add_argument("--canonical-face", type=Path, metavar="FILE", help=".npz of CanonicalFace.save (default: ours)")
    group.add_argument("--seed", type=at_least(0), default=0, help="of the order, and of methods that draw (default 0)")


def examples(*lines: str) -> dict[str, Any]:
    """The part of a parser's arguments that shows examples below its help."""
    return {"epilog": "examples:\n" + "\n".join(f"  {line}" for line in lines), "formatter_class": _Help}


class _Help(argparse.HelpFormatter):
    """Wraps what is one line, and keeps the lines of what are several."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "\n".join(indent + line for line in text.splitlines())
