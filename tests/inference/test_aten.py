"""Exported programs run on windows as the networks do that they were made from."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from captum_canonical.inference.graph import NotIncrementalError
from incremental_tools import Call, Conv, assert_equal_to_dense, engines, images, patches
from random_networks import Residual

torch.manual_seed(0)
NETS = {
    "batch norm": Conv(nn.BatchNorm2d(8), nn.ReLU()),
    "in place": Conv(nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Hardswish(inplace=True), nn.SiLU(inplace=True)),
    "pools": Conv(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1)),
    "residual": Conv(Residual(nn.Conv2d(8, 8, 3, padding=1, groups=8), "add"), nn.Dropout(), nn.PReLU(8)),
    "channels last": Conv(
        Call(
            lambda x: torch.nn.functional.gelu(nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,))).permute(
                0, 3, 1, 2
            )
        )
    ),
}


def exported(net: nn.Module) -> nn.Module:
    dim = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(net, (images(),), dynamic_shapes=({0: dim},)).module()


@pytest.mark.parametrize("name", NETS)
def test_exported_programs_stay_windowed(name: str) -> None:
    if not hasattr(torch, "export") or torch.__version__ < "2.5":
        pytest.skip("needs torch 2.5: exported programs of earlier versions differ")
    engine = assert_equal_to_dense(exported(NETS[name]), images())
    hidden = patches()
    expected, _ = engines(NETS[name], images())
    assert_close(engine.plan(hidden).ratio, expected.plan(hidden).ratio)


def test_a_hook_of_the_users_own_is_found_on_an_exported_program() -> None:
    net = exported(NETS["batch norm"])
    net.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(NotIncrementalError, match="has hooks"):
        engines(net, images())
