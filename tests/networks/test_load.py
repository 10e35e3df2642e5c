"""Networks by name: the same network from every form, with its weights, or a sentence that says why not."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import command_tools
from captum_canonical.errors import CanonicalError
from captum_canonical.networks import load_network
from captum_canonical.networks.references import import_path_kept, load_reference
from captum_canonical.networks.weights import read_weights
from captum_canonical.runs.explain import network_fingerprint
from command_tools import SIDE

X = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
@pytest.mark.filterwarnings("error")
def test_files_are_the_network(name: str, files: Path, expected: torch.Tensor) -> None:
    loaded = load_network(str(files / name))
    assert_close(loaded.network(X), expected, rtol=0, atol=1e-5)
    assert_close(loaded.network(X[:1]), expected[:1], rtol=0, atol=1e-5)
    assert loaded.key is not None and loaded.key.startswith("file ")
    assert isinstance(loaded.network, nn.Module)
    assert not any(module.training for module in loaded.network.modules())
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "run.pth"])
def test_weights_are_put_into_what_a_factory_returns(name: str, files: Path, expected: torch.Tensor) -> None:
    loaded = load_network("command_tools:net", files / name)
    assert_close(loaded.network(X), expected, rtol=0, atol=1e-6)
    assert loaded.key is None, "its weights tell it from others"
    assert isinstance(loaded.network, nn.Module) and not loaded.network.training


def test_a_class_of_networks_is_a_factory_and_a_network_is_itself() -> None:
    assert_close(load_network("command_tools:Net").network(X), command_tools.net()(X))


def test_factories_may_take_the_weights(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_weights.py").write_text(
        "from pathlib import Path\nimport command_tools\nmade = []\n\n\n"
        "def make(weights: Path | None = None):\n    made.append(weights)\n    return command_tools.net()\n"
    )
    monkeypatch.chdir(tmp_path)
    with import_path_kept():
        load_network("own_weights:make", files / "weights.pt")
        assert load_reference("own_weights:made", "--model") == [files / "weights.pt"]
    assert str(tmp_path) not in sys.path


def weights_of_another_kind(weights: str | None = None, progress: bool = True) -> nn.Module:
    """As in torchvision, ``weights`` is a name of weights to download."""
    assert weights is None and progress
    return command_tools.net()


def from_a_path(weights: os.PathLike[str]) -> nn.Module:
    made = command_tools.net()
    made.load_state_dict(torch.load(weights, weights_only=True))
    return made


def test_weights_are_never_given_to_a_parameter_that_means_something_else(files: Path, expected: torch.Tensor) -> None:
    for factory in (weights_of_another_kind, from_a_path, command_tools.net, command_tools.net()):
        loaded = load_network(factory, files / "weights.pt")
        assert_close(loaded.network(X), expected, rtol=0, atol=1e-6)
    with pytest.raises(CanonicalError, match=r"returns no torch module.*has a parameter weights: Path"):
        load_network(lambda: abs, files / "weights.pt")


def test_factories_that_draw_weights_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_network(weights_of_another_kind)
    monkeypatch.setattr(weights_of_another_kind, "__module__", "torchvision.models.resnet")
    with pytest.warns(UserWarning, match="weights_of_another_kind: the network has random weights"):
        load_network(weights_of_another_kind)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_networks_are_loaded_as_what_they_hold(wrap: Any, files: Path, expected: torch.Tensor) -> None:
    net = command_tools.net()
    loaded = load_network(wrap(net), files / "weights.pt")
    assert loaded.network is net
    assert_close(net(X), expected, rtol=0, atol=1e-6)


class Versioned(nn.Linear):
    """Weights of version 1 lie the other way round; without a version it cannot tell, as MNASNet cannot."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *more: Any) -> None:
        version = metadata["version"]
        if version == 1:
            state[f"{prefix}weight"] = state[f"{prefix}weight"].flip(0)
        super()._load_from_state_dict(state, prefix, metadata, *more)


@pytest.mark.parametrize("form", ["torch", "old", "prefix", "safetensors"])
def test_versions_of_modules_are_known(form: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    net, path = Versioned(2, 2), tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    weights: Any = net.state_dict()
    if form == "old":
        weights._metadata[""]["version"] = 1
    if form == "prefix":
        weights = nn.DataParallel(net).state_dict()
    (save_file if form == "safetensors" else torch.save)(weights, path)
    loaded = load_network(Versioned(2, 2), path).network
    assert_close(loaded.weight, net.weight.flip(0) if form == "old" else net.weight, check_stride=False)  # type: ignore[attr-defined]


def test_nothing_is_loaded_by_half(files: Path, tmp_path: Path) -> None:
    net = command_tools.net()
    before = net(X)
    weights = torch.load(files / "weights.pt", weights_only=True)
    weights["extra"] = weights.pop("trunk.bias")
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(CanonicalError, match=r"lacks trunk.bias and has unknown extra; .*nothing was loaded"):
        load_network(net, tmp_path / "w.pt")
    assert_close(net(X), before, rtol=0, atol=0)
    with pytest.raises(CanonicalError, match="expected a file of weights, got a folder"):
        load_network(net, tmp_path)


# -------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("no_such_module:net", "no module 'no_such_module', neither installed nor in the current folder"),
        ("command_tools:nett", "command_tools.py) has no 'nett'; it has net"),
        ("command_tools:broken", "fails: RuntimeError: no"),
        ("command_tools:leaves", "fails: SystemExit: npm is missing"),
        ("command_tools:four", "got int from it"),
        ("command_tools:SIDE", "expected a function or class, got int"),
        ("command_tools:misspelt", "got 'sice'; 'size'?"),
        ("command_tools:needs_a_package", "a package that is not installed: No module named 'no_such_package'"),
        ("command_tools", "neither a reference of that form nor a file"),
        ("nowhere/net.pt2", "neither a reference of that form nor a file"),
        ("{files}/weights.safetensors", "weights without a network"),
        ("{files}/weights.pt", "holds no TorchScript that can be read"),
        ("{files}/pickled.pt", "holds no TorchScript that can be read"),
        (__file__, "holds no TorchScript that can be read"),
    ],
)
def test_what_is_no_network(model: str, part: str, files: Path) -> None:
    with pytest.raises(CanonicalError) as error:
        load_network(model.format(files=files))
    assert part in str(error.value)


def test_weights_of_another_network(files: Path, tmp_path: Path) -> None:
    weights = torch.load(files / "weights.pt", weights_only=True)
    for change, part in (
        (lambda w: w.pop("head.bias"), "lacks head.bias"),
        (lambda w: w.update(extra=torch.ones(1)), "has unknown extra"),
        (lambda w: w.update({"head.bias": torch.ones(5)}), "another network"),
    ):
        changed = dict(weights)
        change(changed)
        torch.save(changed, tmp_path / "w.pt")
        with pytest.raises(CanonicalError, match=part):
            load_network("command_tools:net", tmp_path / "w.pt")
    with pytest.raises(CanonicalError, match="no such file"):
        load_network("command_tools:net", tmp_path / "nowhere.pt")
    with pytest.raises(CanonicalError, match="holds its weights"):
        load_network(str(files / "net.pt"), files / "weights.pt")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(CanonicalError, match="no readable safetensors"):
        load_network("command_tools:net", tmp_path / "w.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CanonicalError, match="names and tensors"):
        read_weights(tmp_path / "list.pt")


def test_exported_programs_are_told_apart_by_settings_and_weights() -> None:
    """What torch adds to a program's module, operations and a check of inputs, does not stop the comparison."""

    def digest(slope: float, seed: int) -> str:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.LeakyReLU(slope)).eval()
        program = torch.export.export(net, (torch.ones(2, 3, 2, 2),))
        return network_fingerprint(load_network(program).network, None)

    assert digest(0.1, 0) == digest(0.1, 0)
    assert len({digest(0.1, 0), digest(0.2, 0), digest(0.1, 1)}) == 3
