"""``--layer`` and ``--layout``: where methods look that look into a layer."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.attributions.layers import find_layer
from captum_canonical.attributions.spatial_layers import last_spatial_layer
from captum_canonical.cli.console import print_message
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.errors import CanonicalError


def choose_layer(
    network: object, arguments: Namespace, needing: list[str], data: AlignedFaces, device: torch.device
) -> nn.Module | None:
    """The module that ``--layer`` names, or the last one with positions; None if no method needs a layer.

    Args:
        network: as it was loaded.
        arguments: the options of the command.
        needing: names of the methods that look into a layer.
        data: the photographs.
        device: of the network.

    Raises:
        CanonicalError: an option does not fit, or the network has no such module.
    """
    if not needing:
        given = [name for name in ("layer", "layout") if getattr(arguments, name) is not None]
        if given:
            raise CanonicalError(f"--{given[0]}: the method looks into no layer; leave the option out.")
        return None
    if not isinstance(network, nn.Module):
        raise CanonicalError(f"--method {needing[0]}: expected a torch module whose layers can be looked into.")
    if arguments.layer is not None:
        return find_layer(network, arguments.layer, "--layer")
    try:
        name = last_spatial_layer(network, _noise(network, data.preprocessing, device))
    except Exception as error:  # of the network, or it has none
        raise CanonicalError(
            f"--layer: {needing[0]} looks into a layer, and none was found ({type(error).__name__}: {error}); name one."
        ) from error
    if not arguments.quiet:
        print_message(f"--layer {name}: the last layer with positions, where {needing[0]} looks")
    return find_layer(network, name)


def layer_arguments(arguments: Namespace) -> dict[str, Any]:
    """Arguments of ``attribute`` of a method that looks into a layer."""
    return {} if arguments.layout is None else {"layout": arguments.layout}


def _noise(network: nn.Module, preprocessing: Any, device: torch.device) -> Tensor:
    """An input of the network, the same each time; what a layer looks like does not depend on the photograph."""
    channels = 1 if preprocessing["channels"] == "L" else 3
    noise = torch.rand(1, channels, *preprocessing["size"], generator=torch.Generator().manual_seed(0))
    parameter = next(network.parameters(), noise)
    return noise.to(device, parameter.dtype if parameter.is_floating_point() else noise.dtype)
