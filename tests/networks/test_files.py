"""Files of weights and networks: nothing that hides in one is run."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.networks import load_network
from captum_canonical.networks.files import FORCE
from captum_canonical.networks.weights import read_weights
from command_tools import SIDE

X = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Evil:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


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
