"""Networks that ask for shapes while they are traced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum_canonical.inference.graph import NotIncrementalError, trace
from incremental_tools import Call, Conv, assert_equal_to_dense, engines, images


def _checks(x: Tensor) -> Tensor:
    if x.shape[1] != 8 or x.dtype == torch.float16 or not x.is_floating_point():
        raise ValueError("8 channels expected")
    assert x.ndim == x.dim() == len(x.shape) == len(x.size()) == 4
    assert x.shape[1:].numel() == 8 * x.size(2) * x.size(-1)
    return x


def _unpacks(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    rows = x.view(batch, channels, height * width).mul(2 if height == width else 0)
    return rows.reshape(batch, channels, height, width)


def _crops(x: Tensor) -> Tensor:
    side = int(x.shape[2] * 0.75)
    return x[..., :side, : max(side, 3)]


def _parts(x: Tensor) -> Tensor:
    parts = x.chunk(2, 1)
    return torch.cat([part * (place + 1) for place, part in enumerate(parts)] if len(parts) == 2 else [], 1)


def _unbinds(x: Tensor) -> Tensor:
    first, second = x.unflatten(1, (2, 4)).unbind(1)
    return torch.cat([second, first], 1)


def _rows_and_channels(x: Tensor) -> Tensor:
    rows = x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])
    return rows.reshape(-1, 8, rows.shape[2], rows.shape[3])


class Guarded(nn.Conv2d):
    """A convolution of its own kind, which pads by hand as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        missing = max((-(-x.shape[-1] // 2) - 1) * 2 + 3 - x.shape[-1], 0)
        padded = nn.functional.pad(x, (missing // 2, missing - missing // 2) * 2) if missing > 0 else x
        return super().forward(padded)


ASK = {
    "checks": Call(_checks),
    "unpacks": Call(_unpacks),
    "crops": Call(_crops),
    "parts": Call(_parts),
    "unbinds": Call(_unbinds),
    "rows and channels": Call(_rows_and_channels),
    "pads": Guarded(8, 8, 3, 2),
}


@pytest.mark.parametrize("name", ASK)
def test_questions_about_shapes_are_answered(name: str) -> None:
    assert_equal_to_dense(Conv(nn.ReLU(), ASK[name]), images())


def test_padding_by_hand_stays_windowed() -> None:
    engine = assert_equal_to_dense(Conv(nn.ReLU(), ASK["pads"]), images())
    assert all(
        type(s.operator).__name__ in ("Slide", "Shift", "Pointwise")
        for s in engine.network.steps.values()
        if s.hidden and s.is_map and s.node.op != "placeholder" and s.size != (1, 1)
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x if x.shape[0] == 1 else -x,
        lambda x: x * len(x),
        lambda x: torch.cat([row for row in x])[None],
        lambda x: x.reshape(int(x.shape[0]), 8, *x.shape[2:]),
    ],
)
def test_the_number_of_images_stays_unknown(ask: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotIncrementalError, match=r"cannot be traced"):
        engines(Conv(Call(ask)), images())


def test_shapes_are_asked_only_where_a_network_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace of a network that does not costs no more than one by torch.fx."""
    runs: list[object] = []
    convolve = nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda *args: (runs.append(args), convolve(*args))[1])
    for net, expected in ((Conv(nn.ReLU()), 0), (Conv(Call(_checks)), 2)):
        runs.clear()
        trace(net, (None,), (images(),))
        assert len(runs) == expected  # the first convolution, for batches of two sizes


def test_other_contents_in_buffers_are_not_looked_at() -> None:
    """A network that decides by what a tensor holds is not traced."""
    with pytest.raises(NotIncrementalError, match="cannot be traced"):
        engines(Conv(Call(lambda x: x if float(x.mean()) > 0 else -x)), images())
