"""The groups of options that several commands share."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from captum_canonical.cli.console import escape
from captum_canonical.cli.option_values import (
    ClassNames,
    column_value,
    columns,
    crop,
    input_size,
    integer_from,
    layout,
    numbers,
    output_part,
    quality_limits,
)
from captum_canonical.data.crop_templates import CROP_TEMPLATES
from captum_canonical.data.label_formats import FORMATS
from captum_canonical.networks.settings import KINDS, LINKS


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with status 2."""
        self.exit(2, f"{self.prog}: error: {escape(message)} (see {self.prog} --help)\n")


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
    add_alignment(group)


def add_alignment(group: argparse._ActionsContainer) -> None:
    """Adds the options of how faces are found."""
    group.add_argument("--cache", type=Path, metavar="DIR", help="keep the meshes found, for any later command")
    group.add_argument(
        "--aligner",
        default="face-mesh",
        help="name of an aligner (default face-mesh; captum-canonical info lists them), or package.module:object: "
        "an aligner, a function of images, or a class or function that makes one without arguments",
    )
    add_face_landmarker(group)
    group.add_argument(
        "--face",
        choices=["largest", "central", "surest"],
        help="of several in a photograph (default largest); central is that of data sets made face by face, as LFW",
    )
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
    group.add_argument(
        "--output",
        type=output_part,
        metavar="PART",
        help="of several things that the network returns: a key, a place from 0, columns such as 2:9, or several of "
        "these with commas, for a part of a part (default: the logits, or the only one)",
    )
    group.add_argument(
        "--classes",
        action=ClassNames,
        metavar="NAME,...",
        help="names of the classes as the outputs are; of heads that lie side by side HEAD=NAME,... or HEAD=NUMBER, "
        "once for each, in their order",
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ...")
    types = ["float32", "float16", "bfloat16", "float64"]
    group.add_argument("--dtype", choices=types, help="of the network and its input (default: as it is loaded)")


def add_method(parser: ArgumentParser) -> None:
    """Adds the options of the explanation."""
    group = parser.add_argument_group("explanation")
    group.add_argument(
        "--kind",
        choices=list(KINDS),
        help="of network: "
        + "; ".join(f"{name} returns {what}" for name, what in KINDS.items())
        + " (default: classifier or heads)",
    )
    group.add_argument("--head", metavar="HEAD", help="the head to explain, of those in --classes")
    group.add_argument(
        "--gallery",
        type=Path,
        metavar="PATH",
        help="photographs of the people that an encoder knows: a folder with one folder for each of them, or a table "
        "with the column identity; a photograph that is explained is not compared with itself",
    )
    group.add_argument(
        "--target",
        default="predicted",
        help="predicted (default), given, a class index or name, or a column of --group with the class of each "
        "photograph; of an encoder: the nearest photograph of the gallery, "
        "or with given the nearest of the same person (identity)",
    )
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
