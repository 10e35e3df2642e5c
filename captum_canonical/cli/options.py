"""Parsers of option values, and the groups of options that several commands share."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from captum_canonical.cli.console import escape
from captum_canonical.data.crop_templates import CROP_TEMPLATES
from captum_canonical.data.label_formats import FORMATS
from captum_canonical.networks.settings import LINKS


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {escape(message)} (see {self.prog} --help)\n")


# ------------------------------------------------------------------------------------------------- option values
def numbers(text: str) -> float | tuple[float, ...]:
    """Parses one number, or several separated by commas.

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
    """Parses a number of pixels, or HEIGHTxWIDTH.

    Example::

        >>> input_size("112"), input_size("128x96")
        (112, (128, 96))
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(parts) > 2:
        raise ArgumentTypeError(f"expected pixels or HEIGHTxWIDTH, got {text!r}")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


CROPS = ("face", "none", *CROP_TEMPLATES)


def crop(text: str) -> str | tuple[float, ...]:
    """Parses one of :data:`CROPS`, or LEFT,TOP,RIGHT,BOTTOM.

    Example::

        >>> crop("arcface"), crop("37,82,140,185")
        ('arcface', (37.0, 82.0, 140.0, 185.0))
    """
    if text in CROPS:
        return text
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected {', '.join(CROPS)} or LEFT,TOP,RIGHT,BOTTOM, got {text!r}") from None
    return left, top, right, bottom


def layout(text: str) -> str:
    """Checks the layout of a layer, which :class:`~captum_canonical.Layout` reads.

    Example::

        >>> layout("tokens:14x14:1")
        'tokens:14x14:1'
    """
    from captum_canonical.attributions.layouts import Layout
    from captum_canonical.errors import CanonicalError

    try:
        Layout.of(text)
    except CanonicalError as error:
        raise ArgumentTypeError(str(error).removeprefix("layout: ")) from None
    return text


def columns(text: str) -> dict[str, str]:
    """Parses ``path=file,identity=who``."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise ArgumentTypeError(f"expected NAME=COLUMN with commas between them, such as path=file, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def column_value(text: str) -> tuple[str, str]:
    """Parses ``partition=test``."""
    name, _, value = text.partition("=")
    if not name.strip() or not value.strip():
        raise ArgumentTypeError(f"expected COLUMN=VALUE, such as partition=test, got {text!r}")
    return name.strip(), value.strip()


def quality_limits(text: str) -> dict[str, tuple[float | None, float | None]]:
    """Parses ``size=40:,yaw=-30:30``, the least and the greatest value of measures of how well a face is seen.

    Example::

        >>> quality_limits("size=40:,yaw=-30:30,faces=:1")
        {'size': (40.0, None), 'yaw': (-30.0, 30.0), 'faces': (None, 1.0)}
    """
    from captum_canonical.errors import CanonicalError
    from captum_canonical.faces.quality import checked_limits

    try:
        pairs = [part.split("=") for part in text.split(",")]
        ends = {name.strip(): [float(end) if end.strip() else None for end in pair.split(":")] for name, pair in pairs}
        return checked_limits({name: tuple(each) for name, each in ends.items()})  # type: ignore[misc]
    except CanonicalError as error:
        raise ArgumentTypeError(str(error)) from None
    except ValueError:
        raise ArgumentTypeError(
            f"expected NAME=LEAST:GREATEST,..., such as size=40:,yaw=-30:30, got {text!r}"
        ) from None


def names(text: str) -> list[str]:
    """Parses names separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integer_from(minimum: int) -> Callable[[str], int]:
    """A parser of integers of at least ``minimum``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise ArgumentTypeError(f"expected a whole number from {minimum} on, got {text!r}")
        return int(text)

    return parse


def stopping_rule(text: str) -> Any:
    """Parses ``standard-error=0.05`` or ``split-half=0.95``."""
    from captum_canonical.errors import CanonicalError
    from captum_canonical.runs.stopping import SplitHalf, StandardError

    rules: dict[str, Callable[[float], Any]] = {"standard-error": StandardError, "split-half": SplitHalf}
    name, _, value = text.partition("=")
    try:
        return rules[name](float(value))
    except (KeyError, ValueError) as error:
        reason = f" ({error})" if isinstance(error, CanonicalError) else ""
        raise ArgumentTypeError(f"expected standard-error=0.05 or split-half=0.95, got {text!r}{reason}") from None


# ---------------------------------------------------------------------------------------------- groups of options
def add_common(parser: ArgumentParser) -> None:
    """Adds the options of every command."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="write the result as JSON on stdout")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    group.add_argument(
        "--verbose", action="store_true", help="log decisions on stderr, such as which inference is used"
    )
    group.add_argument("--debug", action="store_true", help="show where an error comes from")


def add_photos(parser: ArgumentParser) -> None:
    """Adds the options of the photographs and their alignment."""
    group = parser.add_argument_group("photographs")
    group.add_argument(
        "--images", metavar="PATH", help="folder of photographs (with sub-folders), photograph, or label table"
    )
    group.add_argument(
        "--labels",
        "--csv",
        action="append",
        metavar="FILE",
        help="label table as it was downloaded (CelebA, LFW, FairFace, UTKFace, RAF-DB), or any with a column path and "
        "perhaps target, group and identity; again for further tables of the same photographs; paths start at --images "
        "if both are given, else at the table's folder",
    )
    group.add_argument("--format", choices=list(FORMATS), help="of the labels (default: by their contents)")
    group.add_argument("--columns", type=columns, metavar="NAME=COLUMN,...", help="other names of the table's columns")
    group.add_argument(
        "--group",
        action="append",
        metavar="COLUMN",
        help="column of groups; again for further ones, such as gender, race",
    )
    group.add_argument(
        "--where",
        type=column_value,
        action="append",
        metavar="COLUMN=VALUE",
        help="only these photographs; may be repeated",
    )
    group.add_argument("--subfolder", choices=["target", "group", "identity"], help="what names of sub-folders mean")
    group.add_argument("--cache", type=Path, metavar="DIR", help="keep the meshes found, for any later command")
    group.add_argument(
        "--aligner",
        default="face-mesh",
        help="name of an aligner (default face-mesh; captum-canonical info lists them), or package.module:object: "
        "an aligner, a function of images, or a class or function that makes one without arguments",
    )
    add_face_landmarker(group)
    group.add_argument(
        "--quality",
        type=quality_limits,
        metavar="NAME=LEAST:GREATEST,...",
        help="leave out faces that are seen badly, such as size=40:,yaw=-30:30,faces=:1; names are size, yaw, pitch, "
        "outside, sharpness, detection, presence, disagreement, turn and faces",
    )


def add_face_landmarker(group: argparse._ActionsContainer) -> None:
    """Adds the file that newer releases of MediaPipe need."""
    group.add_argument("--face-landmarker", type=Path, metavar="FILE", help="face_landmarker.task for newer mediapipe")


def add_network(parser: ArgumentParser) -> None:
    """Adds the options of the network and its preprocessing."""
    group = parser.add_argument_group(
        "network",
        "A factory may bring all but --model along (see the documentation); options given here win over it. Loading "
        "a Python reference, a TorchScript or a torch.export file runs its code: use only what you trust. Pickled "
        "objects are never loaded.",
    )
    group.add_argument(
        "--model",
        required=True,
        help="package.module:factory, timm:NAME, hf:FOLDER (of Hugging Face), or a file: ONNX (.onnx), torch.export "
        "(.pt2), TorchScript",
    )
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=".safetensors, or a file of tensors by torch.save; for timm also pretrained, which downloads",
    )
    group.add_argument(
        "--size", type=input_size, help="of the input in pixels, such as 224 or 128x96 (default: that of a template)"
    )
    group.add_argument(
        "--crop",
        type=crop,
        metavar="CROP",
        help="face (default); the template that a recognition network was trained on, "
        f"{', '.join(CROP_TEMPLATES)}; none; or LEFT,TOP,RIGHT,BOTTOM in pixels",
    )
    group.add_argument("--margin", type=float, help="around the face, as a share of its longer side (default 0.25)")
    group.add_argument("--channels", choices=["RGB", "BGR", "L"], help="order of colours, or L for grey (default RGB)")
    group.add_argument("--mean", type=numbers, help="of the normalisation (image - mean) / std of images in 0..1")
    group.add_argument("--std", type=numbers, help="likewise; numbers with commas are for the channels")
    group.add_argument("--classes", type=names, metavar="NAME,...", help="names of the classes as the outputs are")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ...")
    types = ["float32", "float16", "bfloat16", "float64"]
    group.add_argument("--dtype", choices=types, help="of the network and its input (default: as it is loaded)")


def add_method(parser: ArgumentParser) -> None:
    """Adds the options of the explanation."""
    group = parser.add_argument_group("explanation")
    group.add_argument("--target", default="predicted", help="predicted (default), given, a class index or name")
    group.add_argument(
        "--link",
        choices=list(LINKS),
        help="of a network that returns logits: log_odds (default), which do not saturate, or "
        "probability; none explains the outputs as they are",
    )
    group.add_argument("--patch-size", type=float, metavar="PIXELS", help="of hidden patches (default: 15 of 224)")
    group.add_argument(
        "--fill", type=numbers, help="colour of hidden patches in 0..1 (default: --mean, or black without one)"
    )
    group.add_argument("--points", type=integer_from(1), help="occlusion points of each face (default: all, 1024)")
    group.add_argument(
        "--layer", help="name of the layer that CAM methods look into (default: the last one with positions)"
    )
    group.add_argument(
        "--layout",
        type=layout,
        help="of that layer, where its shape leaves a doubt: channels_first, channels_last, tokens, or "
        "tokens:14x14:1 with the grid (height x width) and the number of tokens before it",
    )
    group.add_argument("--canonical-face", type=Path, metavar="FILE", help=".npz of CanonicalFace.save (default: ours)")
    group.add_argument(
        "--seed", type=integer_from(0), default=0, help="of the order, and of methods that draw (default 0)"
    )


def examples(*lines: str) -> dict[str, Any]:
    """Arguments of a parser that show examples below its help."""
    return {"epilog": "examples:\n" + "\n".join(f"  {line}" for line in lines), "formatter_class": _Help}


class _Help(argparse.HelpFormatter):
    """Wraps texts of one line, and keeps the line breaks of others."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "\n".join(indent + line for line in text.splitlines())
