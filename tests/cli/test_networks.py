"""Networks that a command line names: the same maps from every form, and nothing that hides in a file is run."""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import command_tools
from captum_canonical.cli import results
from captum_canonical.cli.command import main
from captum_canonical.cli.console import CommandResult
from captum_canonical.cli.network_files import FORCE, read_weights
from captum_canonical.cli.networks import import_path_kept, load_network, load_reference
from captum_canonical.errors import CanonicalError, MissingDependencyError
from command_tools import SIDE

X = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Evil:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


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
        "import command_tools\nmade = []\n\n\ndef make(weights=None):\n    made.append(weights)\n"
        "    return command_tools.net()\n"
    )
    monkeypatch.chdir(tmp_path)
    with import_path_kept():
        load_network("own_weights:make", files / "weights.pt")
        assert load_reference("own_weights:made", "--model") == [files / "weights.pt"]
    assert str(tmp_path) not in sys.path


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


def test_modules_that_need_more_say_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_module.py").write_text("import absent_package.part\n")
    (tmp_path / "faulty_module.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with import_path_kept():
        with pytest.raises(MissingDependencyError, match="pip install absent_package"):
            load_reference("needy_module:net", "--model")
        with pytest.raises(CanonicalError, match="importing faulty_module fails: ZeroDivisionError"):
            load_reference("faulty_module:net", "--model")


def test_a_script_finds_the_modules_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts_of_mine").mkdir()
    (tmp_path / "scripts_of_mine" / "beside_it.py").write_text("value = 7\n")
    (tmp_path / "scripts_of_mine" / "script.py").write_text("from beside_it import value\n")
    monkeypatch.chdir(tmp_path)
    with import_path_kept():
        assert load_reference("scripts_of_mine.script:value", "--model") == 7


def test_the_current_folder_takes_no_other_module_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("colorsys", "modules_of_mine"):
        (tmp_path / f"{name}.py").write_text("value = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with import_path_kept():
        assert load_reference("modules_of_mine:value", "--model") == 7
        with pytest.raises(CanonicalError, match=r"colorsys \(.*lib.*colorsys.py\) has no 'value'"):
            load_reference("colorsys:value", "--model")


def test_commands_without_a_reference_import_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def report(_: object) -> CommandResult:
        seen.append([str(Path(place).resolve()) for place in sys.path])
        return CommandResult("", {})

    monkeypatch.setattr(results, "run_report", report)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "run"]) == 0
    assert str(tmp_path.resolve()) not in seen[0]


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


def test_safetensors_that_is_not_installed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingDependencyError, match="pip install safetensors"):
        read_weights(files / "weights.safetensors")


# ------------------------------------------------------------------------------------------------ nothing is unpickled
def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"weight": Evil(mark)}, tmp_path / "evil.pt")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil(mark)))
    for name in ("evil.pt", "evil.bin"):
        with pytest.raises(CanonicalError, match="pickled objects are not loaded"):
            read_weights(tmp_path / name)
    assert not mark.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert mark.exists(), "the pickle would have run"


def _rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes], more: dict[str, bytes]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        names = old.namelist()
        for name in names:
            new.writestr(name, change(name, old.read(name)))
        for name, content in more.items():
            new.writestr(f"{names[0].split('/')[0]}/{name}", content)


def _pickled_weight(name: str, content: bytes) -> bytes:
    if name.endswith("model_weights_config.json"):
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()
    return content


def test_exported_files_are_never_unpickled(files: Path, tmp_path: Path, expected: torch.Tensor) -> None:
    mark = tmp_path / "ran"
    torch.save((Evil(mark),), tmp_path / "evil.pt")
    evil, opaque = (tmp_path / "evil.pt").read_bytes(), pickle.dumps(Evil(mark))
    same: Callable[[str, bytes], bytes] = lambda _, content: content  # noqa: E731
    constants = json.dumps({"config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}}})

    _rewritten(files / "net.pt2", tmp_path / "good.pt2", same, {})
    assert_close(load_network(str(tmp_path / "good.pt2")).network(X), expected, rtol=0, atol=1e-5)

    cases: dict[str, tuple[Callable[[str, bytes], bytes], dict[str, bytes]]] = {
        "inputs": (lambda name, content: evil if "sample_inputs" in name else content, {}),
        "weights": (lambda name, content: evil if name.endswith("weight_0") else _pickled_weight(name, content), {}),
        "constants": (
            lambda name, content: constants.encode() if name.endswith("constants_config.json") else content,
            {"data/constants/opaque_obj_0": opaque},
        ),
        "machine code": (same, {"data/aotinductor/model/model.so": b"\x7fELF"}),
        "old weights": (same, {"data/weights/model.pt": evil}),
        "twice": (same, {"data/weights/weight_0": evil}),
    }
    for name, (change, more) in cases.items():
        path = tmp_path / f"{name}.pt2"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)  # of zipfile, about the name that comes twice
            _rewritten(files / "net.pt2", path, change, more)
        with pytest.raises(CanonicalError, match=r"\.pt2: "):
            load_network(str(path))
        assert not mark.exists(), name
    assert FORCE not in os.environ
    with suppress(TypeError):  # of torch's own log line
        torch.export.load(str(tmp_path / "inputs.pt2"))
    assert mark.exists(), "the pickle would have run"


def test_a_damaged_exported_file(files: Path, tmp_path: Path) -> None:
    content = (files / "net.pt2").read_bytes()
    (tmp_path / "half.pt2").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pt2").write_text("no archive")
    for name in ("half.pt2", "text.pt2"):
        with pytest.raises(CanonicalError, match=r"no readable torch\.export file"):
            load_network(str(tmp_path / name))
