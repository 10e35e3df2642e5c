"""Networks of the zoo (benchmarks/zoo.py) by the names that a command line can take, ``zoo_networks:own_fairface``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import captum_canonical as cc
from zoo import ZOO


def __getattr__(name: str) -> Callable[[], Any]:
    found = next((each for each in ZOO if each.replace(":", "_") == name), None)
    if found is None:
        raise AttributeError(name)
    return lambda: (explained(ZOO[found].build()), {"size": ZOO[found].size})


def explained(net: nn.Module) -> nn.Module:
    """The network, or of several heads in a dictionary the first."""
    heads = getattr(net, "together", True)
    return net if heads else cc.adapters.as_network(net, "race")


def command_line_form(name: str, net: nn.Module, folder: Path) -> list[Any]:
    """The options by which the command line loads a network of the zoo that is in memory."""
    package, _, short = name.partition(":")
    if package == "transformers":
        net.save_pretrained(folder / "net")  # type: ignore[operator]
        return ["--model", f"hf:{folder / 'net'}"]
    if package == "own":
        return ["--model", f"zoo_networks:own_{short}"]
    torch.save(net.state_dict(), folder / "weights.pth")
    model = f"timm:{short}" if package == "timm" else f"torchvision.models:{short}"
    return ["--model", model, "--weights", folder / "weights.pth"]
