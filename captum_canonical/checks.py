"""Checks of arguments; their messages say what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError


def check_integer(name: str, value: Any, least: int, most: int | None = None, expected: str | None = None) -> int:
    """The value as an ``int``, if it is an integer from ``least`` to ``most``; a bool is none.

    Args:
        name: of the argument, for the message.
        value: anything.
        least, most: the range. None: without an upper end.
        expected: the range in other words, for the message.

    Raises:
        CanonicalError: it is not.

    Example::

        >>> check_integer("folds", 1, 2)
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: folds: expected an integer from 2 on, got 1.
    """
    bad = isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least
    if bad or (most is not None and int(value) > most):
        expected = expected or (f"an integer from {least} " + ("on" if most is None else f"to {most}"))
        raise CanonicalError(f"{name}: expected {expected}, got {value!r}.")
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    expected: str | None = None,
) -> float:
    """The value as a ``float``, if it is a real number between these ends; NaN and bool are none.

    Args:
        name: of the argument, for the message.
        value: anything.
        above, least: the lower end, which does not belong to the range, or does.
        below, most: the upper end, likewise.
        expected: the range in other words, for the message.

    Raises:
        CanonicalError: it is not.

    Example::

        >>> check_number("level", 95, above=0, below=1)
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: level: expected a number above 0 and below 1, got 95.
    """
    number = float("nan") if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    ends = {"above": above, "at least": least, "below": below, "at most": most}
    inside = (
        number == number
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    )
    if not inside:
        span = " and ".join(f"{words} {end:g}" for words, end in ends.items() if end is not None)
        raise CanonicalError(f"{name}: expected {expected or f'a number {span}'.rstrip()}, got {value!r}.")
    return number


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises CanonicalError unless the value is one of the choices.

    Example::

        >>> check_choice("space", "face", ("image", "canonical"))
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: space: expected 'image' or 'canonical', got 'face'.
    """
    if not isinstance(value, str) or value not in choices:
        *others, last = (repr(choice) for choice in choices)
        raise CanonicalError(f"{name}: expected {' or '.join(filter(None, [', '.join(others), last]))}, got {value!r}.")


def parse_device(name: str, value: Any) -> torch.device:
    """A device as PyTorch writes them, whether or not this machine has it.

    Example::

        >>> parse_device("device", "cuda")
        device(type='cuda')
    """
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise CanonicalError(f"{name}: expected a device, such as 'cpu' or 'cuda:0', got {value!r}.") from error


def check_device(name: str, value: Any) -> torch.device:
    """A device that this machine has.

    Raises:
        CanonicalError: it is none.

    Example::

        >>> check_device("device", "gpu")
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: device: expected one that PyTorch finds here, such as 'cpu', got 'gpu'.
    """
    try:
        return torch.empty(0, device=value).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise CanonicalError(f"{name}: expected one that PyTorch finds here, such as 'cpu', got {value!r}.") from error


def exact_device(device: torch.device) -> torch.device:
    """Where geometry and scores are computed in float64: the device itself, or the CPU for Apple's MPS, which has none.

    Example::

        >>> exact_device(torch.device("mps")), exact_device(torch.device("cuda", 1))
        (device(type='cpu'), device(type='cuda', index=1))
    """
    return torch.device("cpu") if device.type == "mps" else device


def check_dtype(name: str, value: Any) -> torch.dtype:
    """A floating-point type of PyTorch, as itself or by its name.

    Example::

        >>> check_dtype("dtype", "bfloat16")
        torch.bfloat16
        >>> check_dtype("dtype", "int8")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: dtype: expected a floating-point type, such as ..., got 'int8'.
    """
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise CanonicalError(
            f"{name}: expected a floating-point type, such as torch.float16 or 'bfloat16', got {value!r}."
        )
    return found


def check_representable(name: str, values: Tensor | float, dtype: torch.dtype) -> None:
    """Raises CanonicalError if integers, such as uint8 pixels, cannot take these values; other types can.

    Example::

        >>> check_representable("baselines", 0.5, torch.uint8)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: baselines: expected values that torch.uint8 images can hold, got 0.5...
    """
    if dtype.is_floating_point or dtype.is_complex:
        return
    wanted = torch.as_tensor(values).detach().double()
    wrong = wanted[wanted.to(dtype).double() != wanted]
    if wrong.numel():
        raise CanonicalError(
            f"{name}: expected values that {dtype} images can hold, got {wrong.flatten()[0].item():g}; give the "
            "images as floating point (images.float()), or whole numbers in their range."
        )


def check_callable(name: str, value: Any) -> None:
    """Raises CanonicalError unless the value is a network or another callable; a class is none.

    Example::

        >>> check_callable("forward_func", torch.nn.Linear)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: forward_func: expected a network or a callable ... the class Linear.
    """
    if not callable(value) or isinstance(value, type):
        got = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise CanonicalError(f"{name}: expected a network or a callable that returns scores of images, got {got}.")


def check_path(name: str, value: Any) -> Path:
    """The value as a path, if it is a text or a path.

    Example::

        >>> check_path("out", None)
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: out: expected the path of a file or folder, got None.
    """
    if not isinstance(value, (str, PathLike)) or not str(value).strip():
        raise CanonicalError(f"{name}: expected the path of a file or folder, got {value!r:.80}.")
    return Path(value)


def check_tensor(name: str, value: Any) -> Tensor:
    """The value as a tensor, if it is one, an array, or a list of numbers or of tensors of one shape.

    Example::

        >>> check_tensor("maps", [torch.zeros(2), torch.ones(2)]).shape
        torch.Size([2, 2])
        >>> check_tensor("maps", "maps.npy")
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: maps: expected a tensor or an array of numbers, got a str.
    """
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, (list, tuple)) and value and all(isinstance(each, Tensor) for each in value):
            return torch.stack(list(value))
        # torch takes no negative strides, which a mirrored view has.
        return torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = type(value).__name__
        raise CanonicalError(f"{name}: expected a tensor or an array of numbers, got a {got}.") from error


def check_images(name: str, value: Any) -> None:
    """Raises CanonicalError unless the value is a batch of images (N, C, H, W), floating point and not empty.

    Example::

        >>> check_images("inputs", torch.zeros(2, 8, 8))
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: inputs: expected floating point images (N, C, H, W), got torch.float32 \
(2, 8, 8).
    """
    good = isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point() and bool(value.numel())
    if not good or value.is_meta:
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise CanonicalError(f"{name}: expected floating point images (N, C, H, W), got {got}.")


def check_several(name: str, value: Any, expected: str) -> tuple[Any, ...]:
    """The value as a tuple, if it is a sequence of several things and no text.

    Example::

        >>> check_several("seeds", 3, "different integers")
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: seeds: expected a sequence of different integers, got 3.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise CanonicalError(f"{name}: expected a sequence of {expected}, got {value!r:.80}.")
    return tuple(value)


def check_size(name: str, value: Any) -> tuple[int, int]:
    """(H, W), at least one pixel each.

    Example::

        >>> check_size("size", (16, 0))
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: size: expected (height, width) of at least one pixel, got (16, 0).
    """
    sides: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else ()
    whole = all(not isinstance(side, bool) and isinstance(side, Integral) and int(side) >= 1 for side in sides)
    if len(sides) != 2 or not whole:
        raise CanonicalError(f"{name}: expected (height, width) of at least one pixel, got {value!r:.80}.")
    return int(sides[0]), int(sides[1])
