"""A file of torch.export is a graph and tensors: what else Python could be made to run is refused before it is read."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.networks.load import load_network

X = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Convolution, a part without gradients, and sizes that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = self.first(x)
        y = nn.functional.interpolate(y, scale_factor=2.0)
        return self.last(y.mean((2, 3))) * (x.shape[0] // 2)


def _export(path: Path, shapes: Any) -> nn.Module:
    net = Network().eval()
    torch.export.save(torch.export.export(net, (X,), dynamic_shapes=shapes), path)
    return net


def _change(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(content)
                change(program)
                content = json.dumps(program).encode()
            new.writestr(name, content)


@pytest.mark.parametrize(
    "shapes",
    [
        None,
        {"x": {0: torch.export.Dim("n", min=2, max=64)}},
        {"x": {0: torch.export.Dim("half", min=2, max=30) * 2}},
        {"x": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}},
    ],
    ids=["fixed", "range", "even", "all of it"],
)
def test_what_torch_writes_is_read(shapes: Any, tmp_path: Path) -> None:
    net = _export(tmp_path / "net.pt2", shapes)
    assert_close(load_network(str(tmp_path / "net.pt2")).network(X), net(X), rtol=0, atol=1e-6)


def _first(program: dict[str, Any]) -> dict[str, Any]:
    return program["graph_module"]["graph"]["nodes"][0]


def _sizes(program: dict[str, Any]) -> Any:
    return program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]


def _operation(program: dict[str, Any], name: str) -> None:
    argument = {"name": "", "arg": {"as_string": "mark"}, "kind": 1}
    _first(program).update(target=name, inputs=[argument])


@pytest.mark.parametrize(
    "change",
    [
        lambda program: program.update(guards_code=["__import__('os').mkdir('mark') is None"]),
        lambda program: program.update(guards_code=["L['x'].__class__.__name__ == 'Tensor'"]),
        lambda program: _sizes(program).update(expr_str="__import__('os').mkdir('mark')"),
        lambda program: _sizes(program).update(expr_str="exec(chr(112)+chr(97)+chr(115)+chr(115))"),
        lambda program: program["range_constraints"].update({"exec('1')": {"min_val": 2, "max_val": 4}}),
        lambda program: _operation(program, "torch.os.mkdir"),
        lambda program: _operation(program, "torch.ops.aten.from_file.default"),
        lambda program: _operation(program, "_operator.call"),
        lambda program: program["graph_module"].update(note=json.dumps({"__enum__": True, "fqn": "antigravity.X"})),
    ],
    ids=["condition", "attribute", "size", "letters", "range", "function", "file", "call", "import"],
)
def test_programs_in_exported_files_are_not_run(
    change: Callable[[dict[str, Any]], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _export(tmp_path / "net.pt2", {"x": {0: torch.export.Dim("n", min=2, max=64)}})
    _change(tmp_path / "net.pt2", tmp_path / "changed.pt2", change)
    with pytest.raises(CanonicalError, match="might run any code; it is not loaded"):
        load_network("changed.pt2").network(X)
    assert not os.path.exists("mark")
