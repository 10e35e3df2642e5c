"""How a layer holds its maps: channels first, channels last or as tokens; and the same with channels first."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError

KINDS = ("channels_first", "channels_last", "tokens")
GRID_CELLS, GRID_RATIO = 1.5, 1.25  # by which the proportions of a layer's grid may differ from the image's
PREFIXES = (0, 1, 2, 4, 5)
"""Tokens before those of the patches: none, or a class token, another of distillation (DeiT), four registers."""
MOST_REGISTERS = 16  # where the size of the patches is known
CHANNELS_BEFORE = (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)
"""Layers whose results in three dimensions are (N, C, positions): these are no tokens."""
HINT = 'layout="tokens:HEIGHTxWIDTH:PREFIX"'

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How a layer holds its maps.

    Attributes:
        kind: ``"channels_first"`` (N, C, h, w), ``"channels_last"`` (N, h, w, C), or ``"tokens"``
            (N, prefix + h * w, C), row after row.
        grid: (h, w) of tokens. Default: the one in the proportions of the image.
        prefix: tokens before the first patch (class, distillation, registers). Default: what is left of the grid.

    Example::

        >>> Layout.of("tokens:16x12:5")
        Layout(kind='tokens', grid=(16, 12), prefix=5)
    """

    kind: str
    grid: Size | None = None
    prefix: int | None = None

    @classmethod
    def of(cls, value: LayoutLike) -> Layout:
        """A layout, or the one that a text names: a kind, and for tokens ``:HEIGHTxWIDTH`` and ``:PREFIX`` behind it.

        Raises:
            CanonicalError: it is neither.
        """
        found = re.fullmatch(r"(\w+)(?::(\d+)x(\d+)(?::(\d+))?)?", value) if isinstance(value, str) else None
        if found:
            kind, height, width, prefix = found.groups()
            value = cls(kind, (int(height), int(width)) if height else None, int(prefix) if prefix else None)
        extra = isinstance(value, Layout) and (value.grid, value.prefix) != (None, None)
        if not isinstance(value, Layout) or value.kind not in KINDS or (extra and value.kind != "tokens"):
            raise CanonicalError(
                f'layout: expected "channels_first", "channels_last" or "tokens", got {value!r}. Behind "tokens" may '
                'stand the grid of the patches, height x width, and the number of tokens before them: "tokens:14x14:1".'
            )
        return value

    def channels_first(self, tensor: Tensor) -> Tensor:
        """(N, C, h, w), a view of the layer's tensor; of tokens their grid and prefix must be known."""
        if self.kind == "channels_last":
            return tensor.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            assert self.grid is not None and self.prefix is not None
            return tensor[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return tensor

    def restored(self, maps: Tensor, tensor: Tensor) -> Tensor:
        """The layer's tensor with other maps (N, C, h, w); tokens before the patches stay."""
        if self.kind == "channels_last":
            return maps.permute(0, 2, 3, 1)
        if self.kind == "tokens":
            return torch.cat([tensor[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)
        return maps


LayoutLike = Layout | str


def layout_of(
    shape: Sequence[int], images: Sequence[Size], given: Layout | None = None, modules: Iterable[nn.Module] = ()
) -> Layout | None:
    """How a layer's tensor lies on the images; None for one without positions, (N, C), or in five dimensions.

    A tensor in four dimensions has its grid where the proportions are those of an image, up to a cell or two that
    padding and rounding take. Where both ends would do, channels are first in a network without any norm over the last
    dimension; in others the grid is at the end that is the image's size over a whole number, or the layer's kind tells.

    Tokens lie in the grid of the network's own patches (its first convolution without overlap), or of patches merged
    from them; where these are not known, in one that cuts off no pixel and leaves 0, 1, 2, 4 or 5 tokens before it.

    Args:
        shape: of the layer's tensor.
        images: (height, width) of each input that is an image.
        given: the layout, where it is known.
        modules: the layer, then the network's other modules, for shapes that could be both.

    Raises:
        CanonicalError: the shape leaves a doubt, or no grid has the proportions of the images.

    Example::

        >>> layout_of((2, 7, 7, 768), [(224, 224)])
        Layout(kind='channels_last', grid=None, prefix=None)
        >>> layout_of((2, 201, 384), [(224, 224)])
        Layout(kind='tokens', grid=(14, 14), prefix=5)
    """
    if len(shape) not in (3, 4) or not images:
        return None
    modules = list(modules)
    if given is not None:
        return _given(shape, images, given, modules)
    return _of_tokens(shape, images, None, modules) if len(shape) == 3 else _of_grid(shape, images, modules)


def _given(shape: Sequence[int], images: Sequence[Size], layout: Layout, modules: list[nn.Module]) -> Layout:
    if len(shape) != (3 if layout.kind == "tokens" else 4):
        raise CanonicalError(f"layout: {layout.kind!r} does not fit the layer's tensor {tuple(shape)}.")
    if layout.kind == "tokens":
        return _of_tokens(shape, images, layout, modules)
    _check_proportions((shape[2], shape[3]) if layout.kind == "channels_first" else (shape[1], shape[2]), images)
    return layout


def _check_proportions(grid: Size, images: Sequence[Size]) -> None:
    if not any(_proportional(grid, image) for image in images):
        turned = f" If it is {grid[1]} high, write {grid[1]}x{grid[0]}." if grid[0] != grid[1] else ""
        raise CanonicalError(
            f"layout: a grid of {_text(grid)} (height x width) cannot lie on images of {_text(images[0])}.{turned} A "
            "network that brings images to a size of its own is given them in that size."
        )


# --------------------------------------------------------------------------------------------------------- channels
def _of_grid(shape: Sequence[int], images: Sequence[Size], modules: list[nn.Module]) -> Layout:
    grids = {"channels_first": (shape[2], shape[3]), "channels_last": (shape[1], shape[2])}
    last = any(_normalises_last(module) for module in modules)
    # (heads, tokens, numbers) occur where a norm does, and 64 maps of 56 x 56 are no image of 224 x 160, channels last.
    fits = {"channels_first": _near if last else _proportional, "channels_last": _near}
    fitting: list[str | None] = [kind for kind in grids if any(fits[kind](grids[kind], image) for image in images)]
    if len(fitting) == 2:
        exact: list[str | None] = [kind for kind in grids if any(_strided(grids[kind], image) for image in images)]
        unknown = last or len(modules) < 2
        fitting = exact if len(exact) == 1 and unknown else [_by_modules(modules)]
    if not fitting or _attends(shape, images, modules):
        raise CanonicalError(
            f"the layer's tensor {tuple(shape)} holds no maps of images of {_text(images[0])} (height x width): "
            f"{_text(grids['channels_first'])} (channels first) has not their proportions, nor has "
            f"{_text(grids['channels_last'])} (channels last); choose another layer."
        )
    if fitting[0] is None:
        raise CanonicalError(
            f"the layer's tensor {tuple(shape)} may have its channels first or last: say which it is by "
            'layout="channels_first" or layout="channels_last".'
        )
    return Layout(fitting[0])


def _attends(shape: Sequence[int], images: Sequence[Size], modules: list[nn.Module]) -> bool:
    """Whether these look like the weights of an attention, (N, heads, tokens, tokens): as square as maps are."""
    square = shape[2] == shape[3] and not any(_strided((shape[2], shape[3]), image) for image in images)
    return (
        square
        and any(_grids(image, shape[2], PREFIXES, _patch(modules)) for image in images)
        and any(_normalises_last(module) for module in modules)
    )


def _by_modules(modules: list[nn.Module]) -> str | None:
    """What the layer's own kind says, or that there is no norm over the last dimension at all; else None."""
    if not any(_normalises_last(module) for module in modules):
        return "channels_first"
    first, last = (nn.Conv2d, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.modules.pooling._MaxPoolNd), nn.Linear
    if isinstance(modules[0], first):
        return "channels_first"
    return "channels_last" if isinstance(modules[0], last) or _normalises_last(modules[0]) else None


def _normalises_last(module: nn.Module) -> bool:
    name = type(module).__name__
    return (isinstance(module, nn.LayerNorm) or "LayerNorm" in name or "RMSNorm" in name) and "2d" not in name


def _near(grid: Size, image: Size) -> bool:
    height, width = grid[1] * image[0] / image[1], grid[0] * image[1] / image[0]
    return min(abs(grid[0] - height), abs(grid[1] - width)) <= GRID_CELLS


def _proportional(grid: Size, image: Size) -> bool:
    ratio = grid[0] * image[1] / (grid[1] * image[0])
    if _near(grid, image) or 1 / GRID_RATIO <= ratio <= GRID_RATIO:
        return True
    # Without padding both sides lose the same number of pixels: what is left of their difference gives the stride.
    stride = (image[0] - image[1]) / (grid[0] - grid[1]) if grid[0] != grid[1] else 0.0
    return stride >= 1 and all(cell * stride <= side for cell, side in zip(grid, image, strict=True))


def _strided(grid: Size, image: Size) -> bool:
    """Whether the grid is the image's size over a whole number, rounded up or down."""
    strides = range(1, min(image) + 1)
    return any(
        all(cells in (side // stride, -(-side // stride)) for cells, side in zip(grid, image, strict=True))
        for stride in strides
    )


# ----------------------------------------------------------------------------------------------------------- tokens
def _of_tokens(shape: Sequence[int], images: Sequence[Size], given: Layout | None, modules: list[nn.Module]) -> Layout:
    layer = modules[0] if modules else None
    flattened = isinstance(layer, nn.Flatten) and layer.start_dim in (2, -2)
    if given is None and (flattened or isinstance(layer, CHANNELS_BEFORE)):
        raise CanonicalError(
            f"the layer's tensor {tuple(shape)} has its channels before its positions, as {type(layer).__name__} "
            "returns them; choose the layer before it."
        )
    given = given or Layout("tokens")
    count, what = shape[1], f"the layer's tensor {tuple(shape)}"
    if given.grid is not None:
        prefix = count - given.grid[0] * given.grid[1]
        if prefix < 0 or given.prefix not in (None, prefix):
            raise CanonicalError(
                f"layout: {what} has {count} tokens, a grid of {_text(given.grid)} has {count - prefix}, which leaves "
                f"{prefix} before it" + ("." if given.prefix is None else f", not {given.prefix}.")
            )
        _check_proportions(given.grid, images)
        return replace(given, prefix=prefix)
    prefixes = PREFIXES if given.prefix is None else (given.prefix,)
    grids = {grid for image in images for grid in _grids(image, count, prefixes, _patch(modules))}
    found = [Layout("tokens", grid, count - grid[0] * grid[1]) for grid in sorted(grids)]
    if len(found) == 1:
        return found[0]
    texts = " or ".join(f'layout="tokens:{_grid(each)}:{each.prefix}"' for each in found)
    if found:
        raise CanonicalError(f"{what} has {count} tokens, which leaves a doubt: write {texts}.")
    raise CanonicalError(
        f"{what} has {count} tokens, of which no grid has the proportions of images of {_text(images[0])} (height x "
        f"width); write {HINT}, where the grid is that of the patches and PREFIX the number of tokens before them "
        "(class, registers), or choose another layer."
    )


def _grids(image: Size, count: int, prefixes: Sequence[int], patch: Size | None) -> set[Size]:
    """Grids that leave as many tokens: of the network's patches, or else of any patches that cut off no pixel."""
    if patch is None:
        strides = [(side, side) for side in range(1, min(image) + 1) if image[0] % side == image[1] % side == 0]
    else:
        strides = [(patch[0] * times, patch[1] * times) for times in (1, 2, 4, 8, 16)]  # patches may be merged
    down, up = ([(turn(image[0] / a), turn(image[1] / b)) for a, b in strides] for turn in (math.floor, math.ceil))
    found = {grid for grid in (*down, *up) if min(grid) and grid != (1, 1) and count - prod(grid) in prefixes}
    if not found and patch is not None and prefixes is PREFIXES:
        found = {grid for grid in (down[0], up[0]) if 0 <= count - prod(grid) <= MOST_REGISTERS}
    return found


def _patch(modules: list[nn.Module]) -> Size | None:
    """The size of the patches that the network cuts its image into: of its first convolution without overlap."""
    for module in modules[1:] or modules:
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1):
            return module.kernel_size[0], module.kernel_size[1]
    return None


def _grid(layout: Layout) -> str:
    assert layout.grid is not None
    return f"{layout.grid[0]}x{layout.grid[1]}"


def _text(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"
