"""Scores of many images in each of which one patch is hidden: a reused batch into which the patches are written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from captum_canonical.checks import exact_device
from captum_canonical.errors import CanonicalError
from captum_canonical.inference.scorer import Scorer

logger = logging.getLogger("captum_canonical")
Result = TypeVar("Result")


class OutOfMemoryRetry:
    """Runs work on batches of rows; a batch that does not fit into memory, and all later ones, are halved.

    Args:
        free_memory: called before a retry, to free what is not needed.

    Example::

        >>> retry = OutOfMemoryRetry()
        >>> [(part.start, result) for part, result in retry.run(slice(2, 6), lambda part: part.stop)]
        [(2, 6)]
    """

    def __init__(self, free_memory: Callable[[], object] = lambda: None) -> None:
        self._free_memory = free_memory
        self._limit: int | None = None

    def run(self, part: slice, work: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
        """``(rows, work(rows))`` for all rows of ``part``, in one or more pieces, in order.

        Raises:
            torch.cuda.OutOfMemoryError: a single row does not fit.
        """
        waiting = [part]
        while waiting:
            rows = waiting.pop()
            count = rows.stop - rows.start
            if self._limit is not None and count > self._limit:
                middle = rows.start + self._limit
                waiting += [slice(middle, rows.stop), slice(rows.start, middle)]
                continue
            try:
                result = work(rows)
            except torch.cuda.OutOfMemoryError:
                if count == 1:
                    raise
            else:
                yield rows, result
                continue
            # Outside of the except clause, whose traceback keeps tensors alive.
            self._halve(count)
            waiting.append(rows)

    def _halve(self, count: int) -> None:
        if self._limit is None:
            logger.warning("out of memory with %d rows at once: going on with half as many.", count)
        self._limit = count // 2
        self._free_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Patches:
    """What is hidden in each evaluation.

    Concretely, evaluation j hides, in image ``image[j]``, the pixels ``boxes[i][j]`` of every input i at once.

    Attributes:
        image: (J,) int64 on the CPU.
        boxes: for each input (J, 4) int64 left, top, right, bottom, none of them empty, or None if it is left alone.
    """

    image: Tensor
    boxes: tuple[Tensor | None, ...]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: slice | Tensor) -> Patches:
        """Some of them; a tensor of indices lies on the CPU."""

        def of(box: Tensor) -> Tensor:
            return box[chosen if isinstance(chosen, slice) else chosen.to(box.device)]

        return Patches(self.image[chosen], tuple(None if box is None else of(box) for box in self.boxes))


class DenseInference:
    """Runs the whole network on every occluded image, several images at a time.

    Memory outside the network is one batch of ``rows`` images, however many patches there are.

    Args:
        scorer: gives the scores of a batch.
        inputs: the clean inputs of the model, each (N, ...).
        fills: for each input what hidden pixels become: a number, or a tensor that broadcasts against the input.
        rows: images per forward call.
    """

    def __init__(
        self, scorer: Scorer, inputs: tuple[Tensor, ...], fills: tuple[Tensor | float, ...], rows: int
    ) -> None:
        self.scorer, self.inputs, self.fills, self.rows = scorer, inputs, fills, rows

    def clean_scores(self) -> Tensor:
        """(N,) float64."""
        images = torch.arange(len(self.inputs[0]))
        scores = self.scorer(tuple(x.clone() for x in self.inputs), images)
        check_finite(scores, images, "clean")
        return scores

    def forwards(self, patches: Patches) -> int:
        """How many forward calls the patches take."""
        return -(-len(patches) // self.rows)

    def occluded_scores(self, patches: Patches, tick: Callable[[], object] = lambda: None) -> Tensor:
        """(J,) float64, the score with each patch hidden; ``tick`` is called after each forward call."""
        count = min(self.rows, len(patches))
        batches = [_OccludedRows(x, fill, count) for x, fill in zip(self.inputs, self.fills, strict=True)]

        def run(part: slice) -> Tensor:
            some = patches[part]
            shown = tuple(batch.occlude(some.image, boxes) for batch, boxes in zip(batches, some.boxes, strict=True))
            return self.scorer(shown, some.image)

        scores = []
        retry = OutOfMemoryRetry()
        for start in range(0, len(patches), self.rows):
            part = slice(start, min(start + self.rows, len(patches)))
            scores += [found for _, found in retry.run(part, run)]
            tick()
        if not scores:
            return torch.zeros(0, dtype=torch.float64, device=exact_device(self.inputs[0].device))
        result = torch.cat(scores)
        check_finite(result, patches.image, "occluded")
        return result


def check_finite(scores: Tensor, images: Tensor, which: str) -> None:
    """Raises CanonicalError if a score of these images is NaN or infinite; ``which`` version they are, in a word."""
    broken = images[~torch.isfinite(scores).cpu()].unique().tolist()
    if broken:
        raise CanonicalError(
            f"forward_func returned NaN or infinity for the {which} version of images {broken[:10]}; a map of such "
            "scores has no meaning."
        )


class _OccludedRows:
    """Rows of one input, filled again for each forward call.

    Whole images are copied each time. Undoing only the patches saves next to nothing, and would go wrong as soon as a
    network writes into its input.
    """

    def __init__(self, clean: Tensor, fill: Tensor | float, rows: int) -> None:
        self.clean = clean.detach()
        self.fill = fill.detach().expand(clean.shape) if isinstance(fill, Tensor) else fill
        self.buffer = self._empty(rows)

    def _empty(self, rows: int) -> Tensor:
        """Rows that lie in memory as the clean images do: what is channels last runs channels last."""
        last = torch.channels_last
        turned = (
            self.clean.ndim == 4 and self.clean.is_contiguous(memory_format=last) and not self.clean.is_contiguous()
        )
        buffer = self.clean.new_empty((rows, *self.clean.shape[1:]))
        return buffer.contiguous(memory_format=last) if turned else buffer

    def occlude(self, images: Tensor, boxes: Tensor | None) -> Tensor:
        """The first len(images) rows, showing these images with the boxes hidden."""
        places = images.to(self.clean.device)
        rows = self.buffer[: len(images)]
        torch.index_select(self.clean, 0, places, out=rows)
        if boxes is not None:
            row, image, channel, y, x = _pixels(boxes.to(self.clean.device), places, self.clean.shape[1])
            if isinstance(self.fill, Tensor):
                rows[row, channel, y, x] = self.fill[image, channel, y, x].to(rows.dtype)
            else:
                rows[row, channel, y, x] = self.fill
        return rows


def _pixels(boxes: Tensor, images: Tensor, channels: int) -> tuple[Tensor, ...]:
    """Index tensors (row, image, channel, y, x) that broadcast to every channel of every pixel of the boxes (R, 4).

    Boxes may differ in size: smaller ones name their last row or column again.
    """
    left, top, right, bottom = (side[:, None, None, None] for side in boxes.unbind(1))
    extent = (boxes[:, 2:] - boxes[:, :2]).amax(0).tolist()
    device = boxes.device
    y = torch.minimum(top + torch.arange(extent[1], device=device)[:, None], bottom - 1)
    x = torch.minimum(left + torch.arange(extent[0], device=device), right - 1)
    row = torch.arange(len(boxes), device=device)[:, None, None, None]
    return row, images[:, None, None, None], torch.arange(channels, device=device)[:, None, None], y, x
