"""Results of benchmarks kept in JSON with the values of single images, read back, and joined."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_canonical.benchmarking.scoring import Row
from captum_canonical.benchmarking.settings import MEASURES, Settings
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.fills import Fill
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.files import json_text, write_file

if TYPE_CHECKING:
    from captum_canonical.benchmarking.result import BenchmarkResult

FACTS = ("name", "kind", "control", "failure", "flags", "evaluations", "seconds", "scoring_evaluations")
"""What a row says beside its scores."""


@dataclass(frozen=True)
class KnownFill(Fill):
    """A fill of which a saved result knows no more than its name."""

    name: str = ""

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Not possible."""
        raise CanonicalError(f"fill {self.name!r} was read from a file, which holds its name only.")


def write(result: BenchmarkResult, path: str | PathLike[str] | None, per_image: bool) -> str:
    """The result as JSON, and into a file; see :meth:`BenchmarkResult.to_json`."""
    document = _document(result) | ({"images": images_of(result)} if per_image else {})
    text = json_text(document)
    if path is not None:
        write_file(path, text + "\n")
    return text


def _document(result: BenchmarkResult) -> dict[str, Any]:
    pairs = [(measure, fill) for measure in result.measures for fill in result.fills]
    return {
        "settings": result.settings,
        "notes": list(result.notes),
        "smallest_corrected_p": result.smallest_corrected_p,
        "left_out": {str(row): why for row, why in result.left_out.items()},
        "rows": [_scores(result, row, pairs) for row in result.rows],
        "comparisons": [
            {"measure": measure, "fill": fill, **vars(comparison)}
            for measure, fill in pairs
            for comparison in result.comparisons(measure, fill)
        ],
        "wins": _wins(result),
    }


def _scores(result: BenchmarkResult, row: Row, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    scores = []
    for measure, fill in pairs if row.failure is None else []:
        low, high = result.interval(row.label, measure, fill)
        n = int((~row.per_image[measure, fill].isnan()).sum()) if (measure, fill) in row.per_image else 0
        direction = MEASURES[measure].direction
        value = row.value(measure, fill)
        scores.append(
            {
                "measure": measure,
                "fill": fill,
                "direction": direction,
                "value": value,
                "low": low,
                "high": high,
                "n": n,
            }
        )
    curves = {
        fill: {"fractions": c.fractions.tolist(), "morf": c.morf.mean(0).tolist(), "lerf": c.lerf.mean(0).tolist()}
        for fill, c in row.curves.items()
    }
    return {**{fact: getattr(row, fact) for fact in FACTS}, "scores": scores, "mean_curves": curves}


def _wins(result: BenchmarkResult) -> list[dict[str, Any]]:
    if "average_drop" not in result.measures:
        return []
    found = []
    for fill in result.fills:
        wins = result.wins(fill)
        percent = dict(zip(wins.methods, wins.percent.tolist(), strict=True))
        found.append(
            {"fill": fill, "explanation": "negative", "percent": percent, "ties": wins.ties, "n": wins.n}
            | {"pairwise": wins.pairwise.tolist()}
        )
    return found


def images_of(result: BenchmarkResult) -> dict[str, Any]:
    """What tests and intervals need: the values of single images, as what JSON can hold (NaN as None)."""
    return {
        "clean_scores": result.clean_scores.tolist(),
        "units": result.units.tolist(),
        "interval_units": result.interval_units.tolist(),
        "rows": [
            {
                "values": [[*key, _listed(values)] for key, values in row.per_image.items()],
                "explained": [[*key, _listed(values)] for key, values in row.explained.items()],
                "curves": [
                    [fill, curve.space, curve.fractions.tolist(), curve.morf.tolist(), curve.lerf.tolist(), curve.flags]
                    for curves in (row.curves, row.canonical_curves)
                    for fill, curve in curves.items()
                ],
            }
            for row in result.rows
        ],
    }


def read(source: str | PathLike[str]) -> BenchmarkResult:
    """The result in a JSON file, or in a string that holds one.

    Raises:
        CanonicalError: it is none, or was written without the values of single images.
    """
    from captum_canonical.benchmarking.result import BenchmarkResult

    text = source if isinstance(source, str) and source.lstrip().startswith("{") else Path(source).read_text("utf-8")
    try:
        document = json.loads(text)
        images = document["images"]
        rows = tuple(_row(facts, own) for facts, own in zip(document["rows"], images["rows"], strict=True))
        numbers = {name: torch.tensor(images[name]) for name in ("units", "interval_units")}
        return BenchmarkResult(
            rows=rows,
            settings=document["settings"],
            notes=tuple(document["notes"]),
            clean_scores=_tensor(images["clean_scores"]),
            left_out={int(place): why for place, why in document["left_out"].items()},
            mean_maps={},
            canonical_faces={},
            _settings=_settings(document["settings"]),
            **numbers,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CanonicalError(
            f"expected a benchmark's JSON with the values of single images (to_json(path, per_image=True)): "
            f"{type(error).__name__}: {error}"
        ) from error


def join(results: Mapping[str, BenchmarkResult]) -> BenchmarkResult:
    """The rows of several results as one; see :meth:`BenchmarkResult.join`."""
    first = next(iter(results.values()), None)
    if first is None:
        raise CanonicalError("join: expected one or more results.")
    rows: list[Row] = []
    for name, result in results.items():
        _check_alike(name, first, result)
        rows += [
            replace(row, name=f"{row.name}, {name}" if name else row.name) for row in result.rows if not row.control
        ]
    rows += [row for row in first.rows if row.control]
    labels = [row.label for row in rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise CanonicalError(f"join: expected results with names of their own, got {twice} more than once.")
    return replace(
        first,
        rows=tuple(rows),
        settings={**first.settings, "joined": {name: result.settings for name, result in results.items()}},
        notes=(*first.notes, "Rows of several runs on the same photographs; the controls are those of the first."),
        mean_maps=_renamed(results, "mean_maps"),
        canonical_faces=_renamed(results, "canonical_faces"),
    )


def _renamed(results: Mapping[str, BenchmarkResult], attribute: str) -> dict[str, Any]:
    return {
        f"{method}, {name}" if name else method: value
        for name, result in results.items()
        for method, value in getattr(result, attribute).items()
    }


def _check_alike(name: str, first: BenchmarkResult, other: BenchmarkResult) -> None:
    one, two = first.clean_scores, other.clean_scores
    same = (
        # Runs may differ by rounding: which routine a library takes depends on where tensors lie in memory.
        one.shape == two.shape
        and float((one - two).abs().max()) <= 1e-5 * float(one.abs().max())
        and torch.equal(first.units, other.units)
        and first.fills == other.fills
        and first._settings.scored_alike(other._settings)
    )
    if not same:
        raise CanonicalError(
            f"join: {name!r} is not about the same photographs, clean scores, identities, fills, budget, sign, "
            "fractions and seed as the first result."
        )


def _row(facts: dict[str, Any], own: dict[str, Any]) -> Row:
    row = Row(**{fact: facts[fact] for fact in FACTS})
    row.per_image = {(measure, fill): _tensor(values) for measure, fill, values in own["values"]}
    unknown = {measure for measure, _ in row.per_image} - set(MEASURES)
    if unknown:
        raise ValueError(f"unknown measures {sorted(unknown)}")
    row.explained = {(explanation, fill): _tensor(values) for explanation, fill, values in own["explained"]}
    for fill, space, fractions, morf, lerf, flags in own["curves"]:
        curves = row.curves if space == "image" else row.canonical_curves
        curves[fill] = RemovalCurves(_tensor(fractions), _tensor(morf), _tensor(lerf), tuple(flags), fill, space)
    return row


def _settings(told: dict[str, Any]) -> Settings:
    values = {name: told[name] for name in Settings.__dataclass_fields__ if name in told}
    lists = {name: tuple(told[name]) for name in ("fractions", "spaces")}
    return Settings(**{**values, **lists, "fills": tuple(KnownFill(name) for name in told["fills"])})


def _listed(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _tensor(values: list[Any]) -> Tensor:
    return torch.tensor(
        [float("nan") if value is None else value for value in values] if not _nested(values) else values,
        dtype=torch.float64,
    )


def _nested(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], list)
