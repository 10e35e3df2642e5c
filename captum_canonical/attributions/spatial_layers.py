"""The last layer of a network that still has positions, found by running the network once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_canonical._captum import as_output, format_forward_args, run_forward
from captum_canonical.attributions.layouts import Layout, layout_of
from captum_canonical.errors import CanonicalError
from captum_canonical.modules import as_written
from captum_canonical.restore import network_kept, random_state_kept

PARTS = (
    nn.Linear,  # whose tensors may be parts of an attention
    nn.Dropout,
    nn.Identity,
    nn.Softmax,
    nn.modules.pooling._AdaptiveAvgPoolNd,  # to a size that the image does not decide
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


class _Found(NamedTuple):
    name: str
    tensor: Tensor
    layout: Layout


def last_spatial_layer(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...], additional_forward_args: object | None = None
) -> str:
    """The name of the last layer whose output has positions that count: where CAM methods usually look.

    Found by one forward pass of the first image and one backward pass, because behind the last attention of a network
    with a class token nothing depends on the patches any more. Linear layers, dropout and pools to a fixed size are
    left out. Of modules with the same output it is the outermost, such as ``"layer4"`` of a ResNet.

    Args:
        model: the network, or a confidence around it.
        inputs: (N, C, H, W), or a tuple of inputs.
        additional_forward_args: as in Captum.

    Raises:
        CanonicalError: no layer has positions.

    Example::

        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> last_spatial_layer(net, torch.rand(1, 3, 32, 32))
        '1'
    """
    if not isinstance(model, nn.Module):
        raise CanonicalError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if not given or not all(isinstance(x, Tensor) and x.ndim and not x.is_meta for x in given):
        kinds = ", ".join(type(x).__name__ for x in given)
        raise CanonicalError(f"inputs: expected images (N, C, H, W) with contents, or a tuple of inputs, got {kinds}.")
    if not all(x.isfinite().all() for x in given):
        raise CanonicalError("inputs: expected finite numbers, got NaN or infinity.")
    args, count = format_forward_args(additional_forward_args), len(given[0])
    photos = tuple(x[:1].detach().clone() for x in given)
    first = tuple(x[:1] if isinstance(x, Tensor) and x.ndim and len(x) == count else x for x in args)
    with network_kept(model), random_state_kept(), as_written(model), torch.enable_grad():
        found = _run(model, tuple(x.requires_grad_(x.is_floating_point()) for x in photos), first)
    if not found:
        raise CanonicalError("the network has no layer whose output has positions: no layer can be looked into.")
    same = [each.name for each in found if each.tensor is found[-1].tensor]
    return min(same, key=lambda name: name.count("."))


def _run(model: nn.Module, photos: tuple[Tensor, ...], args: tuple[Any, ...]) -> list[_Found]:
    """The layers with positions in the order in which they finish, up to the last one whose positions count."""
    sizes, found = [(x.shape[2], x.shape[3]) for x in photos if x.ndim == 4], list[_Found]()
    named = {name: module for name, module in model.named_modules() if name and not isinstance(module, PARTS)}

    def note(name: str, module: nn.Module, output: Any) -> None:
        tensors = list(tensors_in(output).values())  # beside others this one may not be what the network goes on with
        layout = _layout(tensors[0], sizes, [module, *named.values()]) if len(tensors) == 1 else None
        if layout is not None:
            found.append(_Found(name, tensors[0], layout))

    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in named.items()
    ]
    try:
        output = next(_scores(run_forward(model, photos, args)), None)
    finally:
        for handle in handles:
            handle.remove()
    gradients = _gradients(output, found)
    counts = [place for place, each in enumerate(gradients) if each is not None and each.any()]
    return found[: counts[-1] + 1] if counts else found


def _layout(tensor: Tensor, sizes: list[tuple[int, int]], modules: list[nn.Module]) -> Layout | None:
    try:
        layout = layout_of(tensor.shape, sizes, None, modules)
    except CanonicalError:
        return None
    return layout if layout is not None and layout.channels_first(tensor)[0, 0].numel() > 1 else None


def _gradients(output: Tensor | None, found: list[_Found]) -> list[Tensor | None]:
    """Of a sum of all scores with different weights, at the positions of each layer; none where none can be had."""
    if output is None or not output.requires_grad:
        return []
    score = (output.flatten() * torch.linspace(1, 2, output.numel()).to(output)).sum()
    able = [each for each in found if each.tensor.requires_grad]
    gradients = dict(
        zip(
            map(id, able),
            torch.autograd.grad(score, [each.tensor for each in able], allow_unused=True) if able else (),
            strict=True,
        )
    )
    return [None if (own := gradients.get(id(each))) is None else each.layout.channels_first(own) for each in found]


def _scores(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in whatever a network returns."""
    output = as_output(output)
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output
    elif isinstance(output, (tuple, list, Mapping)):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _scores(part)


def tensors_in(held: Any) -> dict[Any, Tensor]:
    """The floating-point tensors of what a layer gets or returns, by their place in it."""
    if isinstance(held, Tensor):
        held = {None: held}
    elif isinstance(held, (tuple, list)):
        held = dict(enumerate(held))
    elif not isinstance(held, Mapping):
        return {}
    return {place: x for place, x in held.items() if isinstance(x, Tensor) and x.is_floating_point()}
