"""Work in batches that are halved where a GPU's memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

logger = logging.getLogger("captum_canonical")
Result = TypeVar("Result")


class Halving:
    """Runs parts of the work; from the first one that does not fit into memory on, in halves.

    Args:
        make_room: frees what can be done without.

    Example::

        >>> halving = Halving()
        >>> [(part.start, result) for part, result in halving.run(slice(2, 6), lambda part: part.stop)]
        [(2, 6)]
    """

    def __init__(self, make_room: Callable[[], object] = lambda: None) -> None:
        self._make_room = make_room
        self._limit: int | None = None

    def run(self, part: slice, work: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
        """(rows, result) of ``work(rows)`` for all rows of the part, in their order.

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
            # Outside of the except clause, whose traceback holds on to tensors.
            self._less(count)
            waiting.append(rows)

    def _less(self, count: int) -> None:
        if self._limit is None:
            logger.warning("out of memory with %d rows at once: going on with half as many.", count)
        self._limit = count // 2
        self._make_room()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
