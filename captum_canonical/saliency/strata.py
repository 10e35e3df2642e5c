"""Strata of photographs: groups, right and wrong predictions, confidence, pose."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError
from captum_canonical.run_folder.folder import Records
from captum_canonical.statistics.labels import is_missing, label_of, without_missing

UNKNOWN = "not known"
CONFIDENCE_BINS = 3
POSE_EDGES = (-90.0, -15.0, 15.0, 90.0)
"""Degrees of yaw: turned to one side, roughly frontal, turned to the other."""
MANY = 12
"""Columns of numbers with more than this many different values are binned."""

By = str | Sequence[Any]
Bins = int | Sequence[float] | None


def strata_of(records: Records, count: int, by: By, bins: Bins = None) -> dict[str, list[int]]:
    """Name of each stratum -> indices of its photographs, in order.

    Args:
        records: column -> one entry for each photograph.
        count: number of photographs.
        by, bins: see :meth:`ModelSaliency.strata`.

    Raises:
        CanonicalError: a column is unknown or has only unknown values, or the bins are not valid.

    Example::

        >>> records = {"label": [0, 1, 1, None], "predicted": [0, 0, 1, 1]}
        >>> strata_of(records, 4, "correct")
        {'correct': [0, 2], 'wrong': [1], 'not known': [3]}
        >>> strata_of({"score": [0.1, 0.4, 0.9]}, 3, "confidence", bins=[0, 0.5, 1])
        {'score 0 to 0.5': [0, 1], 'score 0.5 to 1': [2]}
    """
    if not isinstance(by, str) and not hasattr(by, "__len__"):
        raise CanonicalError(f"strata: expected a column among {sorted(records)}, or several, got {by!r}.")
    if isinstance(by, str):
        labels, order = _labels(records, by, bins)
    elif len(by) != count or (len(by) and all(isinstance(name, str) and _known(records, name) for name in by)):
        labels, order = _crossed(records, by, bins)
    else:
        labels, order = _by_value("stratum", without_missing(by, count, "strata"), bins)
    if count and set(labels) <= {UNKNOWN}:
        raise CanonicalError(f"strata: expected known values of the photographs in {by!r}, but nothing is known.")
    found: dict[str, list[int]] = {name: [] for name in order}
    for number, label in enumerate(labels):
        found.setdefault(label, []).append(number)
    return {name: numbers for name, numbers in found.items() if numbers}


def _known(records: Records, name: str) -> bool:
    return name in records or name in ("correct", "true_predicted", "confidence", "pose")


def _crossed(records: Records, names: Sequence[Any], bins: Bins) -> tuple[list[str], list[str]]:
    unknown = [name for name in names if not isinstance(name, str) or not _known(records, name)]
    if unknown or not names:
        raise CanonicalError(
            f"strata: expected a column, several of them, or one entry for each photograph with a map, got "
            f"{len(names)} entries such as {list(names)[:3]}; columns are {sorted(records)}."
        )
    parts = [_labels(records, name, bins)[0] for name in names]
    labels = [UNKNOWN if UNKNOWN in each else ", ".join(each) for each in zip(*parts, strict=True)]
    return labels, sorted(set(labels) - {UNKNOWN})


def _labels(records: Records, by: str, bins: Bins) -> tuple[list[str], list[str]]:
    """The stratum of each photograph, and the strata in order."""
    if by == "correct":
        pairs = zip(_classes(records, "label"), _classes(records, "predicted"), strict=True)
        words = [UNKNOWN if None in pair else "correct" if pair[0] == pair[1] else "wrong" for pair in pairs]
        return words, ["correct", "wrong"]
    if by == "true_predicted":
        pairs = zip(_classes(records, "label"), _classes(records, "predicted"), strict=True)
        words = [UNKNOWN if None in pair else f"{pair[0]} taken for {pair[1]}" for pair in pairs]
        return words, sorted(set(words) - {UNKNOWN})
    if by == "confidence":
        return _binned("score", _column(records, "score"), CONFIDENCE_BINS if bins is None else bins)
    if by == "pose":
        return _binned("yaw", _column(records, "yaw"), POSE_EDGES if bins is None else bins)
    return _by_value(by, _column(records, by), bins)


def _column(records: Records, name: str) -> list[Any]:
    if name not in records:
        raise CanonicalError(f"strata: expected a column among {sorted(records)}, got {name!r}.")
    return records[name]


def _classes(records: Records, name: str) -> list[Hashable | None]:
    return [label_of(value) for value in _column(records, name)]


def _by_value(name: str, values: list[Any], bins: Bins) -> tuple[list[str], list[str]]:
    values = [None if is_missing(value) else value for value in values]
    known = [value for value in values if value is not None]
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in known)
    measured = numbers and any(value != int(value) for value in known)
    if bins is not None or (measured and len(set(known)) > min(MANY, len(known) / 2)):  # few values, or the same again
        return _binned(name, values, CONFIDENCE_BINS if bins is None else bins)
    ordered = sorted(set(known)) if numbers else sorted(set(known), key=str)
    order = list(dict.fromkeys(str(label_of(value)) for value in ordered))
    return [UNKNOWN if value is None else str(label_of(value)) for value in values], order


def _binned(name: str, values: list[Any], bins: int | Sequence[float]) -> tuple[list[str], list[str]]:
    """Bins [edge, next edge), the last one including its upper edge; values outside of all bins are not known."""
    texts = [value for value in values if not isinstance(value, Real) and not is_missing(value)]
    if texts:
        raise CanonicalError(f"bins: expected numbers in {name!r}, got {texts[0]!r}; texts are strata without bins.")
    numbers = np.array([np.nan if is_missing(value) else value for value in values], np.float64)
    edges = _edges(name, numbers, bins)
    names = [f"{name} {low} to {high}" for low, high in pairwise(_edge_texts(edges))]
    place = np.searchsorted(edges, numbers, side="right") - 1
    place = np.where(numbers == edges[-1], len(names) - 1, place)
    inside = np.isfinite(numbers) & (place >= 0) & (place < len(names))
    return [names[at] if good else UNKNOWN for at, good in zip(place, inside, strict=True)], names


def _edge_texts(edges: list[float]) -> list[str]:
    """Edges with as many digits as it takes to distinguish them: some scores are all between 0.9991 and 0.9998.

    Example::

        >>> _edge_texts([0.0, 0.5, 1.0]), _edge_texts([0.99912, 0.99943, 0.99981])
        (['0', '0.5', '1'], ['0.9991', '0.9994', '0.9998'])
    """
    texts = [f"{edge:.3g}" for edge in edges]
    for digits in range(4, 18):
        if len(set(texts)) == len(set(edges)):
            break
        texts = [f"{edge:.{digits}g}" for edge in edges]
    return texts


def _edges(name: str, numbers: np.ndarray, bins: int | Sequence[float]) -> list[float]:
    if isinstance(bins, int):
        finite = numbers[np.isfinite(numbers)]
        if bins < 1 or not len(finite):
            raise CanonicalError(f"strata: expected at least one bin and a number in {name!r}, got {bins} and none.")
        return np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1))).tolist() * (1 if np.ptp(finite) else 2)
    try:
        edges = [float(edge) for edge in bins]
    except (TypeError, ValueError):
        raise CanonicalError(f"bins: expected how many there are, or their edges as numbers, got {bins!r}.") from None
    if len(edges) < 2 or any(high <= low for low, high in pairwise(edges)):
        raise CanonicalError(f"strata: expected at least two rising edges of bins of {name!r}, got {edges}.")
    return edges
