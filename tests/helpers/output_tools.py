"""Small networks that return what networks of others return: dictionaries, tuples, data classes, several heads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

RACES, GENDERS, AGES = ("r0", "r1", "r2"), ("female", "male"), ("young", "old")
HEADS = {"race": RACES, "gender": GENDERS, "age": AGES}  # 3 + 2 + 2 columns side by side
COLUMNS = {"race": slice(0, 3), "gender": slice(3, 5), "age": slice(5, 7)}


class ModelOutput(OrderedDict):
    """A twin of Hugging Face's: a dictionary whose entries are attributes, without those that are None."""

    def __init__(self, **entries: Any) -> None:
        super().__init__({name: each for name, each in entries.items() if each is not None})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class Found:
    logits: Tensor
    features: Tensor | None = None


class Named(NamedTuple):
    features: Tensor
    logits: Tensor


class SevenLogits(nn.Module):
    """(N, 3, H, W) -> (N, 7): the three heads of :data:`HEADS` in one vector."""

    def __init__(self, seed: int = 4) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv, self.relu = nn.Conv2d(3, 6, 3, 2, padding=1), nn.ReLU()
            self.second, self.last = nn.Conv2d(6, 8, 3, 2, padding=1), nn.ReLU()
            self.head = nn.Linear(8, 7)
            for module in (self.conv, self.second, self.head):
                nn.init.kaiming_normal_(module.weight)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.second(self.relu(self.conv(x)))).mean((2, 3)))


class Returns(SevenLogits):
    """The same weights; what is returned depends on ``kind``."""

    def __init__(self, kind: str, seed: int = 4) -> None:
        super().__init__(seed)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        made = {
            "tensor": lambda: logits,
            "model output": lambda: ModelOutput(loss=None, logits=logits, hidden_states=(x, logits)),
            "data class": lambda: Found(logits, x),
            "named tuple": lambda: Named(x, logits),
            "tuple of one": lambda: (logits,),
            "dictionary of one": lambda: {"scores": logits},
            "nested": lambda: {"out": {"logits": logits, "x": x}},
            "tuple": lambda: (x, logits),
            "dictionary": lambda: {"scores": logits, "x": x},
            "heads": lambda: {name: logits[:, columns] for name, columns in COLUMNS.items()},
        }
        return made[self.kind]()


FOUND = ("model output", "data class", "named tuple", "tuple of one", "dictionary of one", "nested")
"""Kinds of which it is clear what counts."""
