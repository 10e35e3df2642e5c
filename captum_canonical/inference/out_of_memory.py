"""Out-of-memory retry: batches that do not fit into a GPU's memory run again in halves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

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
