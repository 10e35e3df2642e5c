"""Networks of timm by name: as many classes and colours as the weights have, and its own preprocessing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.testing import assert_close

import captum_canonical as cc
import peer_packages
from captum_canonical.errors import CanonicalError, MissingDependencyError

X = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = peer_packages.timm()
    monkeypatch.setitem(sys.modules, "timm", made)
    return made


@pytest.mark.parametrize(("classes", "colours"), [(10, 3), (7, 3), (2, 1), (0, 3)])
def test_the_weights_decide_what_is_made(classes: int, colours: int, tmp_path: Path) -> None:
    net = peer_packages.Small(classes, colours)
    torch.save({"state_dict": {f"model.{name}": each for name, each in net.state_dict().items()}}, tmp_path / "w.ckpt")
    loaded = cc.load_network("timm:small.tag", tmp_path / "w.ckpt")
    assert_close(loaded.network(X[:, :colours]), net(X[:, :colours]).detach())
    settings = loaded.settings
    assert settings.size == (32, 48) and settings.channels == ("L" if colours == 1 else "RGB")
    if colours == 1:
        assert settings.mean == pytest.approx(0.4) and settings.std == pytest.approx(0.3)
    else:
        assert settings.mean == (0.5, 0.4, 0.3) and settings.std == (0.2, 0.3, 0.4)


def test_nothing_is_downloaded_unless_asked(package: ModuleType) -> None:
    with pytest.warns(UserWarning, match="timm:small: the network has random weights"):
        cc.load_network("timm:small")
    cc.load_network("timm:small", "pretrained")
    assert [each["pretrained"] for each in package.made] == [False, True]


def test_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CanonicalError, match=r"timm:smal: .*no network of this name; close to it are small, smaller"):
        cc.load_network("timm:smal")
    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3), "other": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CanonicalError, match=r"lacks conv1.bias and has unknown other; .* nothing was loaded"):
        cc.load_network("timm:small", tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"model timm:small: .*pip install timm"):
        cc.load_network("timm:small")
