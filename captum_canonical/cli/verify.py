"""``captum-canonical verify``: how well an encoder tells pairs of one person from pairs of two."""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_device
from captum_canonical.cli.console import CommandResult, escape, format_duration
from captum_canonical.cli.gallery import encode
from captum_canonical.cli.option_values import integer_from, numbers
from captum_canonical.cli.options import add_alignment, add_common, add_network, examples
from captum_canonical.cli.photographs import load_photographs
from captum_canonical.confidence.recognition import equal_error_threshold
from captum_canonical.data.pairs import PhotoPair, read_pairs
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError
from captum_canonical.modules import device_of
from captum_canonical.networks.load import load_network
from captum_canonical.statistics.verification import acceptance_at, held_out_accuracy
from captum_canonical.tables import csv_text

FALSE_ACCEPTANCE = (0.1, 0.01, 0.001)


def add_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``verify``."""
    parser = commands.add_parser(
        "verify",
        help="accuracy of a face encoder on a list of pairs",
        description="Compares the encoder's features of the two photographs of each pair by their cosine. Each fold is "
        "answered with the threshold that is best on the others; a pair with a photograph without a face counts as "
        "answered wrong there, and is left out of the rates.",
        **examples(
            "captum-canonical verify --model my_net:encoder --crop arcface --pairs pairs.txt --images lfw \\",
            "    --face central --cache meshes",
        ),
    )
    group = parser.add_argument_group("pairs")
    group.add_argument(
        "--pairs",
        type=Path,
        required=True,
        metavar="FILE",
        help="LFW's pairs.txt, or a table with the columns first, second, same (1 or 0) and perhaps fold",
    )
    group.add_argument(
        "--images", type=Path, metavar="DIR", help="where the photographs are (default: the list's folder)"
    )
    group.add_argument("--folds", type=integer_from(2), help="to make where the list has none (default 10)")
    group.add_argument(
        "--far",
        type=numbers,
        default=FALSE_ACCEPTANCE,
        metavar="RATE,...",
        help="false acceptance rates to give the true acceptance rate at (default 0.1,0.01,0.001)",
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="write the cosine of each pair into a .csv file")
    group.add_argument("--batch-size", type=integer_from(1), default=32, help="photographs at once (default 32)")
    add_alignment(parser.add_argument_group("faces"))
    add_network(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> CommandResult:
    """Measures the encoder."""
    start = time.perf_counter()
    rates = arguments.far if isinstance(arguments.far, tuple) else (arguments.far,)
    if not all(0 < rate < 1 for rate in rates):
        raise CanonicalError(f"--far: expected rates between 0 and 1, such as 0.01,0.001, got {arguments.far}.")
    pairs = read_pairs(arguments.pairs, arguments.images, arguments.folds)
    if len({pair.same for pair in pairs}) == 2 and len({pair.fold for pair in pairs}) < 2:
        raise CanonicalError(
            f"--pairs {arguments.pairs}: expected pairs in at least two folds, because each is answered with the "
            f"threshold of the others, got {len(pairs)} pairs in one; give --folds 10, or more pairs."
        )
    device = None if arguments.device is None else check_device("--device", arguments.device)
    loaded = load_network(arguments.model, arguments.weights, arguments.device, arguments.dtype, arguments.size)
    settings = loaded.settings.overridden(arguments)
    paths = sorted({path for pair in pairs for path in (pair.first, pair.second)})
    data = load_photographs(arguments, settings, [PhotoRow(path) for path in paths]).align(not arguments.quiet)
    if not len(data):
        raise CanonicalError(f"--pairs: no face was found in any of {len(paths)} photographs.")
    encoder = replace(settings, kind="encoder").part(loaded.network)
    device = device or device_of(loaded.network) or torch.device("cpu")
    found = encode(encoder, data, device, arguments.batch_size, not arguments.quiet)
    unit = torch.nn.functional.normalize(found.double(), dim=1)
    vectors = {data.rows[place].path: row for place, row in zip(data.places, unit, strict=True)}
    similarity = np.array([_cosine(vectors, pair) for pair in pairs])
    if arguments.out is not None:
        _write(arguments.out, pairs, similarity)
    values = {**measured(pairs, similarity, rates), "photographs": len(paths), "without_face": len(data.left_out)}
    values["seconds"] = time.perf_counter() - start
    return CommandResult(_text(values), values)


def measured(pairs: list[PhotoPair], similarity: np.ndarray, rates: tuple[float, ...]) -> dict[str, Any]:
    """Accuracy, equal error rate and rates of acceptance; what cannot be known is None."""
    same, fold = np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs])
    known = ~np.isnan(similarity)
    if not same[known].any() or same[known].all():
        raise CanonicalError("--pairs: expected pairs of one person and pairs of two, with faces in both photographs.")
    accuracy = held_out_accuracy(similarity, same, fold)
    threshold, error = equal_error_threshold(torch.from_numpy(similarity[known]), torch.from_numpy(same[known]))
    accepted = {f"{rate:g}": acceptance_at(similarity, same, rate) for rate in rates}
    return {
        "pairs": len(pairs),
        "genuine": int(same.sum()),
        "pairs_without_face": int((~known).sum()),
        "accuracy": accuracy.mean,
        "accuracy_standard_error": accuracy.standard_error,
        "folds": [
            {"fold": int(number), "accuracy": float(share), "threshold": float(level)}
            for number, share, level in zip(accuracy.folds, accuracy.accuracy, accuracy.threshold, strict=True)
        ],
        "equal_error_rate": error,
        "equal_error_threshold": threshold,
        "true_acceptance": {
            rate: {"rate": None if np.isnan(share) else share, "threshold": level if np.isfinite(level) else None}
            for rate, (share, level) in accepted.items()
        },
    }


def _cosine(vectors: dict[Path, Tensor], pair: PhotoPair) -> float:
    first, second = vectors.get(pair.first), vectors.get(pair.second)
    return float("nan") if first is None or second is None else float(first @ second)


def _text(values: dict[str, Any]) -> str:
    lines = [
        f"{values['pairs']:,} pairs, {values['genuine']:,} of one person, of {values['photographs']:,} photographs",
        f"accuracy {values['accuracy']:.2%} +- {values['accuracy_standard_error']:.2%} (mean and standard error of "
        f"{len(values['folds'])} folds)",
        f"equal error rate {values['equal_error_rate']:.2%}, at a cosine of {values['equal_error_threshold']:.3f}",
    ]
    if values["pairs_without_face"]:
        lines[0] += (
            f"; no face in {values['without_face']:,} of them: {values['pairs_without_face']:,} pairs count as "
            "answered wrong, and are left out of the rates"
        )
    for rate, found in values["true_acceptance"].items():
        known = "too few pairs of two people" if found["rate"] is None else f"{found['rate']:.2%}"
        lines.append(f"TAR at FAR {float(rate):.4g}: {known}")
    return "\n".join([*lines, f"({format_duration(values['seconds'])})"])


def _write(file: Path, pairs: list[PhotoPair], similarity: np.ndarray) -> None:
    rows = [
        (pair.first.name, pair.second.name, int(pair.same), pair.fold, "" if np.isnan(value) else f"{value:.6f}")
        for pair, value in zip(pairs, similarity.tolist(), strict=True)
    ]
    try:
        file.write_text(csv_text(["first", "second", "same", "fold", "cosine"], rows), encoding="utf-8", newline="")
    except OSError as error:
        raise CanonicalError(f"--out {escape(file)}: {error.strerror}.") from error
