"""The same network in several files."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import command_tools
from command_tools import SIDE

X = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network in all forms, with other weights than the factory draws."""
    folder = tmp_path_factory.mktemp("networks")
    net = command_tools.net().eval()
    with torch.no_grad():
        net.head.bias += torch.tensor([0.5, -0.25, 0.125])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old
        torch.jit.script(net).save(folder / "net.pt")
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(net, (X,), dynamic_shapes=({0: batch},)), folder / "net.pt2")
    torch.save(net.state_dict(), folder / "weights.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, folder / "run.pth")
    torch.save(net, folder / "pickled.pt")
    from safetensors.torch import save_file

    save_file(net.state_dict(), folder / "weights.safetensors")
    torch.save(net(X).detach(), folder / "expected.pt")
    return folder


@pytest.fixture
def expected(files: Path) -> torch.Tensor:
    return torch.load(files / "expected.pt", weights_only=True)
