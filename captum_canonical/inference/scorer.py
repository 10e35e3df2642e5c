"""The score of each image: the entry of a network's output that a target names, and which arguments follow an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from captum_canonical._captum import TargetType, output_in_words, run_forward, select_targets
from captum_canonical.checks import check_callable, exact_device
from captum_canonical.errors import CanonicalError
from captum_canonical.modules import narrow_outputs, warn_if_training


class Scorer:
    """The score of each row of a batch: the entry of ``forward_func``'s output that ``target`` names.

    Per-image targets and arguments follow their image into whatever row it is put.

    Args:
        forward_func: takes the inputs and the additional arguments, returns one row of scores per input row.
        target: any target that Captum takes, for the N original images.
        additional_forward_args: passed on; a tensor whose first dimension is N has one entry per image.
        num_images: N.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        target: TargetType,
        additional_forward_args: tuple[Any, ...],
        num_images: int,
    ) -> None:
        check_callable("forward_func", forward_func)
        self.forward_func = forward_func
        self.additional_forward_args = additional_forward_args
        self.num_images = num_images
        self.target = target
        self.narrow_outputs: set[torch.dtype] = set()  # of the network's last run
        self._per_image = _per_image_target(target, num_images)
        warn_if_training(forward_func)

    def __call__(self, inputs: tuple[Tensor, ...], images: Tensor) -> Tensor:
        """Scores (R,) float64 of R rows that show these images.

        Args:
            inputs: for each input of the model R rows.
            images: (R,) int64 on the CPU, the image of each row.
        """
        return self.score(inputs, images, tuple(self.of_rows(arg, images) for arg in self.additional_forward_args))

    def score(self, inputs: tuple[Tensor, ...], images: Tensor, args: tuple[Any, ...]) -> Tensor:
        """Scores of rows with these additional arguments, which are passed on as they are."""
        with narrow_outputs() as self.narrow_outputs:
            output = run_forward(self.forward_func, inputs, args)
        rows = len(images)
        if not isinstance(output, Tensor):
            raise CanonicalError(
                f"forward_func must return one tensor, got {output_in_words(output)}; "
                "adapters.as_network(net, output=...) takes a part by its key or place."
            )
        if output.ndim == 0 and rows == 1:
            output = output.reshape(1)
        if output.ndim == 0 or len(output) != rows:
            raise CanonicalError(
                f"forward_func must return one row of scores per input row: got shape {tuple(output.shape)} for {rows} "
                "rows. A score of the batch as a whole cannot be attributed to single images."
            )
        scores = self._select(output, images)
        return (
            scores.to(exact_device(inputs[0].device)) if inputs else scores
        )  # no inputs: incremental inference has the output

    def is_per_image(self, value: Any) -> bool:
        """Whether an additional argument is taken as one entry per image."""
        return isinstance(value, Tensor) and bool(value.ndim) and len(value) == self.num_images

    def of_rows(self, value: Any, images: Tensor | None) -> Any:
        """A per-image tensor brought to the rows; anything else, or without rows, as it is."""
        return value[images.to(value.device)] if images is not None and self.is_per_image(value) else value

    def _select(self, output: Tensor, images: Tensor) -> Tensor:
        if self.target is None:
            if output.numel() != len(output):
                raise CanonicalError(
                    f"forward_func returns {tuple(output.shape[1:])} scores per image: say which one to explain with "
                    "target=, for example an int, or a tensor with one class per image."
                )
            return _scores(output)
        if self._per_image is None:
            target: Any = self.target
        elif isinstance(self._per_image, Tensor):
            target = self._per_image[images].to(output.device)
        else:
            target = [self._per_image[image] for image in images.tolist()]
        _check_range(target, output)
        try:
            scores = select_targets(output, target)
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise CanonicalError(
                f"target {self.target!r} does not fit an output of shape {tuple(output.shape)}: {error}"
            ) from error
        if scores.numel() != len(output):
            raise CanonicalError(
                f"target {self.target!r} leaves {tuple(scores.shape[1:])} scores per image of an output of shape "
                f"{tuple(output.shape)}: it must name a single one, as a tuple of {output.ndim - 1} indices."
            )
        return _scores(scores)


def _scores(output: Tensor) -> Tensor:
    """A copy: the network may return its input, which is about to be written again."""
    return output.detach().reshape(-1).to(exact_device(output.device)).to(torch.float64, copy=True)


def _per_image_target(target: Any, num_images: int) -> Tensor | list[Any] | None:
    """The target of each image, or None if one target holds for all of them."""
    if target is None or isinstance(target, tuple) or (isinstance(target, int) and not isinstance(target, bool)):
        return None
    if isinstance(target, Tensor) and not target.dtype.is_floating_point and target.dtype != torch.bool:
        flat = target.detach().cpu()
        if flat.numel() == 1:
            return flat.reshape(1).expand(num_images)
        if flat.ndim == 1 and len(flat) == num_images:
            return flat
    if isinstance(target, list) and len(target) == num_images and all(map(_is_index, target)):
        return target
    shape = tuple(target.shape) if isinstance(target, Tensor) else len(target) if isinstance(target, list) else target
    raise CanonicalError(
        f"target: expected None, an int, a tuple of ints, or one int or tuple for each of the {num_images} images (a "
        f"1-D integer tensor or a list), got {type(target).__name__} ({shape})."
    )


def _is_index(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return all(isinstance(part, int) and not isinstance(part, bool) for part in parts)


def _check_range(target: Any, output: Tensor) -> None:
    """Raises on an index beyond the scores; on a GPU it would end in a device-side assertion instead."""
    if isinstance(target, int) and output.ndim > 1:
        indices = torch.tensor([[target]])
    elif isinstance(target, Tensor) and output.ndim == 2:
        indices = target.reshape(-1, 1)
    elif isinstance(target, tuple) and len(target) == output.ndim - 1:
        indices = torch.tensor([target])
    elif isinstance(target, list):
        rows = [t if isinstance(t, tuple) else (t,) for t in target]
        if {len(row) for row in rows} != {output.ndim - 1}:
            return  # Captum's own check says what is wrong
        indices = torch.tensor(rows)
    else:
        return
    sizes = torch.tensor(output.shape[1 : 1 + indices.shape[1]], device=indices.device)
    if ((indices >= sizes) | (indices < -sizes)).any():
        raise CanonicalError(
            f"target is out of range: {target if not isinstance(target, Tensor) else target.tolist()} for "
            f"{tuple(output.shape[1:])} scores per image."
        )


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
