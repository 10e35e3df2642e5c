"""Whether additional arguments with as many rows as there are images belong to the images, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.inference.dense import Scorer

TRIED = 8  # images
SAME, OTHER = 1e-5, 1e-4  # of the largest score: below is rounding, above is another score
SAME_HALF, OTHER_HALF = 2e-2, 5e-2


@torch.no_grad()
def check_per_image(scorer: Scorer, inputs: tuple[Tensor, ...]) -> None:
    """Raises CanonicalError if an additional argument that is taken as one entry per image is none.

    A gallery of N embeddings looks like N entries of N images. It is found by trying a few images in two orders while
    the argument stays as it is: if each image keeps its score, the argument does not belong to the images; and if the
    scores change when all of its rows are alike, they depend on it. Nothing is run if no argument has N rows.

    Example::

        >>> gallery, photos = torch.eye(3), torch.rand(3, 3)
        >>> check_per_image(Scorer(lambda x, rows: (x * rows).sum(1), None, (gallery,), 3), (photos,))
        >>> check_per_image(Scorer(lambda x, rows: x @ rows.T, 0, (gallery,), 3), (photos,))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: additional_forward_args: (3, 3) means ...
    """
    count = scorer.num_images
    candidates = [place for place, arg in enumerate(scorer.additional_forward_args) if scorer.is_per_image(arg)]
    order = torch.arange(min(count, TRIED)) if count > 1 else torch.zeros(2, dtype=torch.int64)
    for size in range(1, len(candidates) + 1):
        for kept in combinations(candidates, size):
            try:
                shared = _same_for_all(scorer, inputs, order, kept)
            except Exception:  # as many rows as images are needed: these are the images' own
                shared = False
            if shared:
                shapes = " and ".join(str(tuple(scorer.additional_forward_args[place].shape)) for place in kept)
                raise CanonicalError(
                    f"additional_forward_args: {shapes} means as many rows as there are images ({count}), so that "
                    "each row would follow its image, but the scores show that all images use all "
                    "of it, as they do a gallery. Bind it to forward_func (functools.partial(net, gallery=gallery), or "
                    "a module that holds it), or explain another number of images at once."
                )


def _same_for_all(scorer: Scorer, inputs: tuple[Tensor, ...], order: Tensor, kept: tuple[int, ...]) -> bool:
    """Whether these arguments, left as they are, leave each image its score in any order, and matter."""

    def score(images: Tensor, rows: Tensor | None) -> Tensor:
        args = [
            scorer.of_rows(arg, images if place not in kept else rows)
            for place, arg in enumerate(scorer.additional_forward_args)
        ]
        shown = tuple(x.detach()[images.to(x.device)] for x in inputs)
        return scorer.score(shown, images, tuple(args))

    clean = score(order, None)
    half = any(x.dtype in (torch.half, torch.bfloat16) for x in inputs)
    scale = float(clean.abs().max())
    same, other = (SAME_HALF, OTHER_HALF) if half else (SAME, OTHER)
    if len(order.unique()) > 1 and _difference(score(order.roll(1), None).roll(-1), clean) > same * scale:
        return False
    return any(_difference(found, clean) > other * scale for found in _with_equal_rows(score, order))


def _with_equal_rows(score: Any, order: Tensor) -> Iterator[Tensor]:
    for row in order[[0, -1]]:
        yield score(order, row.expand(len(order)))


def _difference(scores: Tensor, expected: Tensor) -> float:
    return float((scores - expected).abs().max())
