"""The hooks and modes of a network, to be put back after a method that failed half way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from captum_canonical.incremental.graph import HOOKS


@contextmanager
def network_kept(network: object) -> Iterator[None]:
    """Whatever fails inside, hooks, modes, buffers and gradients are as before; anything but a module is let be.

    Captum removes its hooks, except where a method stops half way.
    """
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    parameters = list(network.parameters()) if isinstance(network, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    hooks = [
        (each, dict(each)) for module in modules for name in HOOKS if (each := getattr(module, name, None)) is not None
    ]
    gradients = [(parameter, parameter.requires_grad, parameter.grad) for parameter in parameters]
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]
    try:
        yield
    finally:
        for each, known in hooks:
            if dict(each) != known:
                each.clear()
                each.update(known)
        for module, training in modes:
            if module.training != training:
                module.training = training
        for parameter, flag, gradient in gradients:
            parameter.requires_grad_(flag)
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
