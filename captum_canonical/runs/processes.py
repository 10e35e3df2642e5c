"""The processes of a run: one, or those that ``torchrun`` started."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist

from captum_canonical.errors import CanonicalError

Result = TypeVar("Result")


class Processes:
    """One process that may talk to others; all of them make the same calls in the same order.

    Args:
        group: a gloo group, or None for a process on its own.

    Attributes:
        rank: number of this process, from 0 on.
        count: how many there are.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.count = 1 if group is None else dist.get_world_size(group)

    def gather(self, text: str = "") -> list[str]:
        """What each process says; none goes on before all have said it.

        Raises:
            CanonicalError: a process has ended, or nothing was heard of it in time.
        """
        if self._group is None:
            return [text]
        try:
            return self._gather(text.encode())
        except RuntimeError as error:
            raise CanonicalError(
                "explain_dataset: another process of this run has ended, or was not heard of in time; the photographs "
                "that are finished are kept, and the same call goes on from there, with as many processes as you like. "
                f"({error})"
            ) from error

    def _gather(self, content: bytes) -> list[str]:
        """As numbers: the usual gather of objects would unpickle what it receives."""
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor([len(content)]), group=self._group)
        longest = max(1, max(int(length) for length in lengths))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(content)] = torch.frombuffer(bytearray(content or b" "), dtype=torch.uint8)[: len(content)]
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
        dist.all_gather(texts, padded, group=self._group)
        pairs = zip(texts, lengths, strict=True)
        return [bytes(text[: int(length)].tolist()).decode() for text, length in pairs]

    def together(self, work: Callable[[], Result]) -> Result:
        """Does this process's part of the work; an error of one process is one of all of them.

        Raises:
            CanonicalError: the work of another process failed; what happened here is raised as it is.
        """
        try:
            result = work()
        except Exception as error:
            self.gather(f"{type(error).__name__}: {error}")
            raise
        for rank, failure in enumerate(self.gather()):
            if failure:
                raise CanonicalError(f"explain_dataset: process {rank} of {self.count} failed: {failure}")
        return result

    def from_first(self, work: Callable[[], str]) -> str:
        """What process 0 finds, sent to all processes."""
        text = ""

        def first() -> None:
            nonlocal text
            text = work() if self.rank == 0 else ""

        self.together(first)
        return self.gather(text)[0]


@contextmanager
def joined(timeout: float) -> Iterator[Processes]:
    """All processes that ``torchrun`` started, or those of a group that is there already.

    Args:
        timeout: seconds after which a process that says nothing counts as dead.
    """
    if not dist.is_available():
        yield Processes()
        return
    wait = timedelta(seconds=timeout)
    begun = _launched() and not dist.is_initialized()
    if begun:
        # Each call has keys of its own: in those of the call before it, processes would find addresses that are gone.
        store = dist.PrefixStore(f"explain_dataset {next(_calls)}", _store())
        rank, number = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        dist.init_process_group("gloo", store=store, rank=rank, world_size=number, timeout=wait)
    group = None
    try:
        if dist.is_initialized() and dist.get_world_size() > 1:
            group = dist.new_group(backend="gloo", timeout=wait)
        yield Processes(group)
    finally:
        if begun:
            dist.destroy_process_group()
        elif group is not None:
            dist.destroy_process_group(group)


_calls = itertools.count()


def _launched() -> bool:
    """Whether ``torchrun``, or whoever sets the same variables, started this process and others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


@cache
def _store() -> dist.Store:
    """Where processes find each other, one for all calls: it cannot be opened twice at the same address."""
    store, _, _ = next(dist.rendezvous("env://"))
    return store
