"""Values that programs write where an identity or a group is missing."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import torch


class NAType:
    """Like the type of ``pd.NA``: it has no truth value when it is compared."""

    def __eq__(self, other: object) -> NAType:  # type: ignore[override]
        return self

    def __ne__(self, other: object) -> NAType:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


MISSING = [
    None,
    math.nan,
    np.nan,
    np.float32("nan"),
    torch.tensor(math.nan),
    np.datetime64("NaT"),
    np.ma.masked,
    NAType(),
    "",
    " ",
    "\t",
    "\N{NO-BREAK SPACE}",
    "\ufeff",
    "\u200b \u200b",
    Decimal("NaN"),
    np.float16("nan"),
]
