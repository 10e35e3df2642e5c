"""What a network looks at, over a data set: the result of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.model_saliency import CanonicalModelSaliency, ModelSaliency
from captum_canonical.runs import Records, RunFolder

SUMMARY = "summary.npz"


class DatasetSaliency:
    """The mean map of a run and everything behind it, read from the run folder.

    Attributes:
        folder: the maps of single photographs (:class:`~captum_canonical.runs.RunFolder`).
        symmetric: whether maps are pooled with their mirror images.

    Example::

        >>> result = DatasetSaliency.open("results/gender")  # doctest: +SKIP
        >>> result.saliency.mean.shape, result.n, result.missing  # doctest: +SKIP
        (torch.Size([1, 224, 224]), 997, '')
    """

    def __init__(self, folder: RunFolder, symmetric: bool = False) -> None:
        self.folder = folder
        self.symmetric = symmetric

    @classmethod
    def open(cls, path: str | PathLike[str], symmetric: bool = False) -> DatasetSaliency:
        """What a run has found, finished or not.

        Args:
            path: the ``out`` of :func:`explain_dataset`.
            symmetric: pool each map with its mirror image, see :class:`CanonicalModelSaliency`.

        Raises:
            CanonicalError: there is no run, or it is damaged.
        """
        return cls(RunFolder.open(path), symmetric)

    @cached_property
    def saliency(self) -> ModelSaliency:
        """Mean, variance, coverage and n of the maps, summed in the order of the run: always the same to the byte."""
        return model_saliency(self.folder.chunks(), self.folder.canonical_face, self.symmetric)

    @property
    def n(self) -> int:
        """Photographs with a map."""
        return self.folder.n

    @property
    def records(self) -> Records:
        """Column -> one entry for each row of the folder's maps."""
        return self.folder.records

    @property
    def left_out(self) -> dict[int, str]:
        """Place in the source of the data -> name and reason of each photograph without a map."""
        return self.folder.left_out

    @property
    def complete(self) -> bool:
        """Whether the run is finished."""
        return self.folder.complete

    @property
    def missing(self) -> str:
        """What is not there yet, in words."""
        return self.folder.missing

    @property
    def canonical_face(self) -> CanonicalFace:
        """The face that the maps are written on."""
        return self.folder.canonical_face

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """What the stopping rule said each time it was judged (:meth:`Verdict.as_json`); empty without a rule."""
        return list(self.folder.stopping.get("verdicts", []))

    def __repr__(self) -> str:
        lines = [f"DatasetSaliency of {self.n} photographs in {self.folder.path}"]
        lines += [f"{len(self.left_out)} photographs left out"] if self.left_out else []
        lines += [verdict["says"] for verdict in self.verdicts[-1:]]
        lines += [self.missing] if self.missing else []
        return "\n".join(lines)

    def save_summary(self) -> Path:
        """Writes ``summary.npz`` into the folder: mean, standard_error, variance, count, coverage and n."""
        path = self.folder.path / SUMMARY
        parts = self.saliency._asdict() | {"standard_error": self.saliency.standard_error}
        arrays = {name: np.asarray(value) for name, value in parts.items()}
        temporary = path.with_name(f".{SUMMARY}.partial")
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
        return path


def model_saliency(
    chunks: Iterable[tuple[Tensor, Tensor]], face: CanonicalFace, symmetric: bool = False
) -> ModelSaliency:
    """The mean of maps that come a few at a time, in this process alone.

    Args:
        chunks: maps (N, 1, H, W) and coverage (N, 1, H, W).
        face: that they are on.
        symmetric: as in :class:`CanonicalModelSaliency`.

    Example::

        >>> import torch
        >>> maps = torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 1, 4, 4)
        >>> model_saliency([(maps, torch.ones_like(maps))], CanonicalFace.default(4)).mean.unique()
        tensor([2.], dtype=torch.float64)
    """
    metric = CanonicalModelSaliency(face, symmetric, sync_on_compute=False)
    for maps, coverage in chunks:
        metric.update(maps, coverage)
    if not int(metric.images):  # compute() would warn about it
        nothing = metric.hits[None] * 0
        return ModelSaliency(nothing, nothing + math.nan, nothing.long(), nothing, 0)
    return metric.compute()
