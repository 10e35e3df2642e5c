"""What the pixels become that an explanation image hides: zero, a mean, a blurred copy, or imputed from the others.

References:
    Rong et al.: A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD), ICML 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError

SMALLEST_BLOCK = 16
"""Pixels that are eliminated in the order in which they are read."""

Fill = Callable[[Tensor, Tensor], Tensor]
"""Images (N, C, H, W) and which pixels (N, 1, H, W) bool are hidden -> what these become (N, C, H, W).

One whose attribute ``uses_hidden`` is False gives the same for all hidden pixels, and is called once per image.
"""


@dataclass(frozen=True, eq=False)
class ConstantFill:
    """Hidden pixels become one value: a number, or a tensor (mean face) that broadcasts against the images.

    0 is the paper's choice. In inputs that were normalised it is no black but the grey of the training set.

    Example::

        >>> ConstantFill(0.5)(torch.rand(1, 1, 1, 2), torch.ones(1, 1, 1, 2, dtype=torch.bool)), ConstantFill().name
        (tensor([[[[0.5000, 0.5000]]]]), 'zero')
    """

    value: float | Tensor = 0.0
    uses_hidden: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """For reports."""
        if isinstance(self.value, Tensor):
            return f"constant {tuple(self.value.shape)}"
        return "zero" if self.value == 0 else f"constant {self.value:g}"

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W) of the value."""
        value = torch.as_tensor(self.value, dtype=images.dtype, device=images.device)
        try:
            return value.expand(images.shape)
        except RuntimeError as error:
            raise CanonicalError(
                f"fill: a tensor of shape {tuple(value.shape)} does not broadcast against images of shape "
                f"{tuple(images.shape)}."
            ) from error


@dataclass(frozen=True)
class MeanFill:
    """Hidden pixels become the mean of their channel over the whole of their image.

    Example::

        >>> MeanFill()(torch.tensor([[[[0.0, 1.0]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool))
        tensor([[[[0.5000, 0.5000]]]])
    """

    name: ClassVar[str] = "mean"
    uses_hidden: ClassVar[bool] = False

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W), constant in each channel of each image."""
        return images.double().mean((2, 3), keepdim=True).to(images.dtype).expand(images.shape)


@dataclass(frozen=True)
class BlurFill:
    """Hidden pixels become those of the image blurred by a Gaussian (cut off and renormalised at the border).

    Args:
        sigma: standard deviation in pixels. Default: 1/16 of the height, 14 pixels at 224.

    Example::

        >>> blurred = BlurFill(sigma=2.0)(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool))
        >>> blurred.shape, bool(blurred.std() < 0.2)
        (torch.Size([1, 3, 16, 16]), True)
    """

    sigma: float | None = None
    uses_hidden: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """For reports."""
        return "blur" if self.sigma is None else f"blur {self.sigma:g}"

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W)."""
        height, width = images.shape[2:]
        sigma = height / 16 if self.sigma is None else float(self.sigma)
        if not 0 < sigma < float("inf"):
            raise CanonicalError(f"BlurFill: expected a sigma above 0 pixels, got {self.sigma!r}.")
        rows, columns = (_blur_matrix(length, sigma).to(images) for length in (height, width))
        return rows @ images @ columns.T


def _blur_matrix(length: int, sigma: float) -> Tensor:
    """(L, L) float64, row i the weights of all pixels in the blurred pixel i; each row sums to 1."""
    place = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


@dataclass(frozen=True)
class ImputedFill:
    """ROAD's noisy linear imputation: hidden pixels become the weighted mean of their neighbours, plus noise.

    Each hidden pixel is a mean of its eight neighbours, hidden or not, with weights 1/6 (sides) and 1/12 (corners),
    renormalised at the border of the image: one sparse linear system per image, solved exactly. An image that is
    hidden entirely becomes its channel means.

    The noise is one field for each size of image, the same for all images, maps and calls, so that nothing depends on
    batches and methods are compared under the same noise.

    Args:
        noise: standard deviation in the images' own unit. Default: 0.01, as in the authors' code.
        seed: of the noise.

    Example::

        >>> hidden = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
        >>> hidden[..., 1, 1] = True
        >>> ImputedFill(noise=0.0)(torch.full((1, 1, 3, 3), 0.25), hidden)[0, 0, 1].tolist()
        [0.25, 0.25, 0.25]
    """

    noise: float = 0.01
    seed: int = 0
    name: ClassVar[str] = "imputed"
    uses_hidden: ClassVar[bool] = True

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W); pixels that are not hidden are the images' own."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = self.noise * torch.randn(images.shape[1:], generator=generator, dtype=torch.float64)
        filled = images.detach().double().cpu().clone()

        def impute(image: Tensor, mask: Tensor) -> None:
            if mask.any():
                image[:, mask] = _imputed(image, mask) + noise[:, mask]

        # Each image is a system of its own; SuperLU lets other threads of Python run while it works.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(impute, filled, hidden[:, 0].cpu()))
        return filled.to(images)


def _imputed(image: Tensor, hidden: Tensor) -> Tensor:
    """(C, K) float64, the values of the K hidden pixels of an image (C, H, W) without noise."""
    from scipy.sparse import csc_matrix  # 0.2 s to import, needed by this fill only
    from scipy.sparse.linalg import splu

    if hidden.all():
        return image.mean((1, 2))[:, None].expand(-1, hidden.numel())
    mask = np.pad(hidden.numpy(), 1)
    known = np.pad(image.numpy() * ~hidden.numpy(), ((0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones(hidden.shape), 1)
    count = int(hidden.sum())
    unknown = np.full(mask.shape, -1)
    unknown[mask] = np.arange(count)
    y, x = np.nonzero(mask)
    own = np.arange(count)
    weights, right = np.zeros(count), np.zeros((count, len(image)))
    rows, columns, values = [own], [own], [weights]
    for dy, dx in ((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx):
        weight = 1 / 12 if dy and dx else 1 / 6
        there = (y + dy, x + dx)
        weights += weight * inside[there]  # in place: the diagonal, already in `values`
        right += weight * known[:, there[0], there[1]].T
        both = unknown[there] >= 0
        rows.append(own[both])
        columns.append(unknown[there][both])
        values.append(np.full(int(both.sum()), -weight))
    order = np.argsort(_dissection(*hidden.shape)[hidden.numpy()])
    place = np.empty_like(order)
    place[order] = own
    entries = (np.concatenate(values), (place[np.concatenate(rows)], place[np.concatenate(columns)]))
    matrix = csc_matrix(entries, shape=(count, count))
    # Symmetric and diagonally dominant: no pivoting is needed.
    factors = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return torch.from_numpy(factors.solve(right[order])[place].T.copy())


@lru_cache(maxsize=8)
def _dissection(height: int, width: int) -> np.ndarray:
    """(H, W) int64, when each pixel of a grid is eliminated: halves before the line that separates them.

    Nested dissection (George 1973) keeps the factors of such systems sparse, and takes no time per system.
    """
    rank = np.empty((height, width), np.int64)
    blocks, last = [(0, height, 0, width)], height * width
    while blocks:
        top, bottom, left, right = blocks.pop()
        tall = bottom - top >= right - left
        middle = (top + bottom) // 2 if tall else (left + right) // 2
        small = (bottom - top) * (right - left) <= SMALLEST_BLOCK
        line = (
            (slice(top, bottom), slice(left, right))
            if small
            else ((middle, slice(left, right)) if tall else (slice(top, bottom), middle))
        )
        size = rank[line].size
        rank[line] = np.arange(last - size, last).reshape(rank[line].shape)
        last -= size
        if not small:
            halves = (
                ((top, middle, left, right), (middle + 1, bottom, left, right))
                if tall
                else ((top, bottom, left, middle), (top, bottom, middle + 1, right))
            )
            blocks += [half for half in halves if half[0] < half[1] and half[2] < half[3]]
    return rank


FILLS: Mapping[str, Fill] = {"zero": ConstantFill(), "mean": MeanFill(), "blur": BlurFill(), "imputed": ImputedFill()}


def as_fill(fill: str | float | Tensor | Fill) -> Fill:
    """The fill that a name (``"zero"``, ``"mean"``, ``"blur"``, ``"imputed"``), a number or a tensor stands for.

    Raises:
        CanonicalError: an unknown name, or something that is no fill.
    """
    if isinstance(fill, str) and fill in FILLS:
        return FILLS[fill]
    if isinstance(fill, (int, float, Tensor)) and not isinstance(fill, bool):
        return ConstantFill(fill)
    if isinstance(fill, str) or not callable(fill):
        raise CanonicalError(f"fill: expected one of {sorted(FILLS)}, a number, a tensor or a callable, got {fill!r}.")
    return fill


def fill_name(fill: str | float | Tensor | Fill) -> str:
    """A name of the fill for tables and reports."""
    made: Any = as_fill(fill)
    return str(getattr(made, "name", None) or getattr(made, "__name__", None) or type(made).__name__)


def fill_pixels(images: Tensor, hidden: Tensor, fill: str | float | Tensor | Fill) -> Tensor:
    """What pixels become where they are hidden, (N, C, H, W); elsewhere the result has no meaning.

    Args:
        images: (N, C, H, W).
        hidden: (N, 1, H, W) bool.
        fill: a name, a number, a tensor or a callable, see :func:`as_fill`.

    Raises:
        CanonicalError: the fill is unknown, or returns another shape.
    """
    made = as_fill(fill)
    filled = made(images, hidden)
    if not isinstance(filled, Tensor) or filled.shape != images.shape:
        raise CanonicalError(
            f"fill {fill_name(made)!r}: expected images of shape {tuple(images.shape)}, got "
            f"{tuple(filled.shape) if isinstance(filled, Tensor) else type(filled).__name__}."
        )
    return filled.to(images)


def filled_once(images: Tensor, fill: str | float | Tensor | Fill) -> Tensor | None:
    """(N, C, H, W), what any pixels of the images become, or None where that depends on which are hidden.

    Batches of the images take their rows from it, so that a tensor may have an entry for each image.
    """
    if getattr(as_fill(fill), "uses_hidden", True):
        return None
    return fill_pixels(images, torch.ones_like(images[:, :1], dtype=torch.bool), fill)
