"""The generators of torch, NumPy and Python: seeded for what is run inside, untouched for whoever called."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Whatever is drawn inside, the generators of torch, numpy and Python go on as if nothing had been.

    Example::

        >>> _ = torch.manual_seed(0)
        >>> with random_state_kept():
        ...     seed_generators(7)
        ...     first = torch.rand(1)
        >>> torch.initial_seed(), bool(first != torch.rand(1))
        (0, True)
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])


def seed_generators(number: int) -> None:
    """Seeds them all."""
    torch.random.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # else it would be seeded later, when somebody uses it
        torch.cuda.manual_seed_all(number)
    np.random.seed(number % 2**32)
    random.seed(number)
