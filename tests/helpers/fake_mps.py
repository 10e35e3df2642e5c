"""A device that refuses float64, as Apple's MPS does, played on the CPU: tensors know whether they lie on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("mps")
_INDEXING = (Tensor.__getitem__, Tensor.__setitem__, torch.index_put, Tensor.index_put_)
_ACROSS = (Tensor.copy_, Tensor.type_as)
_TO_PYTHON = (Tensor.numpy, Tensor.__array__)


def is_on(value: object) -> bool:
    return isinstance(value, Tensor) and getattr(value, "_on_fake_mps", False)


def put(value: Any) -> Any:
    """The tensor on the device; in a network all parameters and buffers."""
    for each in [*value.parameters(), *value.buffers()] if isinstance(value, nn.Module) else [value]:
        if each.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        each._on_fake_mps = True
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _is_mps(value: object) -> bool:
    return (isinstance(value, torch.device) and value.type == "mps") or (isinstance(value, str) and value[:3] == "mps")


class FakeMPS(TorchFunctionMode):
    """Inside, ``device="mps"`` is such a device.

    Float64 on it, NumPy arrays of it, and operations on tensors here and there raise what torch raises.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors([args, kwargs]))
        on = [is_on(each) for each in given]
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return DEVICE if on[0] else func(*args, **kwargs)
        if func in _TO_PYTHON and on[0]:
            raise TypeError("can't convert mps:0 device type tensor to numpy.")
        if func in (Tensor.cpu, Tensor.to):
            return self._moved(func, args, kwargs, on)
        if any(on) and not all(on) and func not in _ACROSS:
            self._check_places(func, given, on)
        wanted = _is_mps(kwargs.get("device"))
        result = func(*args, **({**kwargs, "device": "cpu"} if wanted else kwargs))
        here = wanted or (any(on) and func not in _INDEXING) or (bool(on) and on[0])
        return self._put(result) if here else result

    def _moved(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], on: list[bool]) -> Any:
        places = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, (str, torch.device))]
        other = on[1] if len(on) > 1 else None  # x.to(other)
        target = other if other is not None else any(map(_is_mps, places)) if places else on[0]
        target = False if func is Tensor.cpu else target
        rest = ["cpu" if _is_mps(each) else each for each in args[1:]]
        named = {name: "cpu" if _is_mps(each) else each for name, each in kwargs.items()}
        if on[0] and not target and torch.float64 in (*rest, *named.values()):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype: move it first, then convert it.")
        result = func(args[0], *rest, **named)
        if result is args[0] and target != on[0]:
            result = result.view_as(result)  # another tensor, as a copy is
        return put(result) if target else _off(result)

    def _check_places(self, func: Any, given: list[Tensor], on: list[bool]) -> None:
        numbers = all(there or not each.ndim for each, there in zip(given, on, strict=True))
        if numbers or (func in _INDEXING and on[0]):
            return
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found mps:0 and cpu")

    def _put(self, result: Any) -> Any:
        for each in _tensors(result):
            put(each)
        return result


def _off(value: Tensor) -> Tensor:
    vars(value).pop("_on_fake_mps", None)
    return value
