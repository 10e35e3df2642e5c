"""Tools for tests of the command line: running commands, photographs, an aligner, and networks named by reference."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from captum_canonical import CanonicalFace, FaceMesh
from captum_canonical.cli.command import main

Capture = pytest.CaptureFixture[str]

SIDE = 48  # pixels of a photograph, and of the networks' input


# ---------------------------------------------------------------------------------------------------------- commands
def explain_command(
    photos: Path | str, out: Path | str, *more: Any, model: str = "with_settings", points: int | None = 40
) -> list[str]:
    """Arguments of ``explain``; ``model`` is one of the factories below, another reference, or a file."""
    reference = model if ":" in model or "." in model else f"command_tools:{model}"
    arguments = ["explain", "--images", photos, "--aligner", "command_tools:DrawnAligner", "--out", out]
    arguments += [] if points is None else ["--points", points]
    return [str(each) for each in [*arguments, "--model", reference, "--batch-size", 2, "--quiet", *more]]


def run_json(arguments: list[str], capsys: Capture) -> dict[str, Any]:
    """The JSON that a command prints; it must succeed."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def run_error(arguments: list[str], capsys: Capture, code: int = 2) -> str:
    """The single line on stderr of a command that must fail with an exit code."""
    capsys.readouterr()
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith("\n") and "Traceback" not in printed.err
    lines = [line for line in printed.err.splitlines() if "warning" not in line]
    assert len(lines) == 1, printed.err
    return lines[0]


# ------------------------------------------------------------------------------------------- photographs and aligner
class DrawnAligner:
    """Finds the drawn face, as large as the photograph, in every photograph that is not black."""

    calls: ClassVar[list[str]] = []

    def __call__(self, images: Sequence[np.ndarray], *, names: Sequence[str]) -> FaceMesh:
        (image,) = images
        self.calls.extend(names)
        face = CanonicalFace.default()
        size = (image.shape[0], image.shape[1])
        found = torch.tensor([bool(image.max() > 0)])
        return FaceMesh(face.resized(size).vertices[None], image_size=size, topology=face.topology, found=found)


def photo(number: int) -> np.ndarray:
    """(SIDE, SIDE, 3) the drawn face with noise of its own."""
    random = np.random.default_rng(number)
    drawn = CanonicalFace.default(SIDE).image.permute(1, 2, 0).numpy() * 255
    return np.clip(drawn * 0.8 + random.normal(0, 12, drawn.shape), 1, 255).astype(np.uint8)


def write_photos(folder: Path, names: Sequence[str], first: int = 0) -> Path:
    """Photographs of these names; those of names with ``black`` in them show nothing."""
    for number, name in enumerate(names, first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(number) * ("black" not in name)).save(path, "png")
    return folder


# ---------------------------------------------------------------------------------------------------------- networks
class Net(nn.Module):
    """(N, 3) logits; its trunk allows incremental inference."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.trunk = nn.Conv2d(3, 6, 5, stride=2)
            self.deep = nn.Conv2d(6, 8, 3, stride=2)
            self.head = nn.Linear(8 * 10 * 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.trunk(x).relu()).relu().flatten(1))


def net() -> nn.Module:
    return Net()


def with_settings() -> tuple[nn.Module, dict[str, Any]]:
    return Net(), {"size": SIDE, "crop": "none", "classes": ("a", "b", "c"), "fill": 0.5, "patch_size": 5}


def broken() -> nn.Module:
    raise RuntimeError("no\nluck")


def leaves() -> nn.Module:
    raise SystemExit("npm is missing")


def four() -> int:
    return 4


def misspelt() -> tuple[nn.Module, dict[str, Any]]:
    return Net(), {"sice": 3}


def needs_a_package() -> nn.Module:
    import no_such_package  # noqa: F401

    return Net()


def probabilities() -> nn.Module:
    return nn.Sequential(Net(), nn.Softmax(1))


class Counting:
    """A black box that counts the images that go through it."""

    rows: ClassVar[int] = 0
    interrupt_at: ClassVar[int | None] = None

    def __init__(self) -> None:
        self.net = Net().eval()

    def __call__(self, x: Tensor) -> Tensor:
        type(self).rows += len(x)
        if self.interrupt_at is not None and self.rows >= self.interrupt_at:
            type(self).interrupt_at = None
            signal.raise_signal(signal.SIGINT)
        return self.net(x)


def counting() -> Counting:
    return Counting()
