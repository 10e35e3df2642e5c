"""Hidden pixels imputed from their neighbours.

References:
    Rong et al.: A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD), ICML 2022.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from captum_canonical.faithfulness.fills import Fill
from captum_canonical.plugins import FILLS

SMALLEST_BLOCK = 16
"""Pixels that are eliminated in the order in which they are read."""


@FILLS.register("imputed")
@dataclass(frozen=True)
class ImputedFill(Fill):
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

    name = "imputed"
    noise: float = 0.01
    seed: int = 0

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
