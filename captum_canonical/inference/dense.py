"""Scores of many images in each of which one patch is hidden: a reused batch into which the patches are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_canonical._captum import TargetType, run_forward, select_targets
from captum_canonical.errors import CanonicalError, warn_if_training
from captum_canonical.inference.out_of_memory import OutOfMemoryRetry


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
        self.forward_func = forward_func
        self.additional_forward_args = additional_forward_args
        self.num_images = num_images
        self.target = target
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
        output = run_forward(self.forward_func, inputs, args)
        rows = len(images)
        if not isinstance(output, Tensor):
            raise CanonicalError(
                f"forward_func must return one tensor, got {type(output).__name__}; wrap the network so that it does."
            )
        if output.ndim == 0 and rows == 1:
            output = output.reshape(1)
        if output.ndim == 0 or len(output) != rows:
            raise CanonicalError(
                f"forward_func must return one row of scores per input row: got shape {tuple(output.shape)} for {rows} "
                "rows. A score of the batch as a whole cannot be attributed to single images."
            )
        return self._select(output, images)

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
    return output.detach().reshape(-1).to(torch.float64, copy=True)


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
    if isinstance(target, list) and len(target) == num_images:
        return target
    shape = tuple(target.shape) if isinstance(target, Tensor) else len(target) if isinstance(target, list) else target
    raise CanonicalError(
        f"target: expected None, an int, a tuple of ints, or one int or tuple for each of the {num_images} images (a "
        f"1-D integer tensor or a list), got {type(target).__name__} ({shape})."
    )


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


@dataclass(frozen=True)
class Patches:
    """What is hidden in each evaluation.

    Concretely, evaluation j hides, in image ``image[j]``, the pixels ``boxes[i][j]`` of every input i at once.

    Attributes:
        image: (J,) int64 on the CPU.
        boxes: for each input (J, 4) int64 left, top, right, bottom, none of them empty, or None if it is left alone.
    """

    image: Tensor
    boxes: tuple[Tensor | None, ...]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: slice | Tensor) -> Patches:
        """Some of them; a tensor of indices lies on the CPU."""

        def of(box: Tensor) -> Tensor:
            return box[chosen if isinstance(chosen, slice) else chosen.to(box.device)]

        return Patches(self.image[chosen], tuple(None if box is None else of(box) for box in self.boxes))


class DenseInference:
    """Runs the whole network on every occluded image, several images at a time.

    Memory outside the network is one batch of ``rows`` images, however many patches there are.

    Args:
        scorer: gives the scores of a batch.
        inputs: the clean inputs of the model, each (N, ...).
        fills: for each input what hidden pixels become: a number, or a tensor that broadcasts against the input.
        rows: images per forward call.
    """

    def __init__(
        self, scorer: Scorer, inputs: tuple[Tensor, ...], fills: tuple[Tensor | float, ...], rows: int
    ) -> None:
        self.scorer, self.inputs, self.fills, self.rows = scorer, inputs, fills, rows

    def clean_scores(self) -> Tensor:
        """(N,) float64."""
        images = torch.arange(len(self.inputs[0]))
        scores = self.scorer(tuple(x.clone() for x in self.inputs), images)
        check_finite(scores, images, "clean")
        return scores

    def forwards(self, patches: Patches) -> int:
        """How many forward calls the patches take."""
        return -(-len(patches) // self.rows)

    def occluded_scores(self, patches: Patches, tick: Callable[[], object] = lambda: None) -> Tensor:
        """(J,) float64, the score with each patch hidden; ``tick`` is called after each forward call."""
        count = min(self.rows, len(patches))
        batches = [_OccludedRows(x, fill, count) for x, fill in zip(self.inputs, self.fills, strict=True)]

        def run(part: slice) -> Tensor:
            some = patches[part]
            shown = tuple(batch.occlude(some.image, boxes) for batch, boxes in zip(batches, some.boxes, strict=True))
            return self.scorer(shown, some.image)

        scores = []
        retry = OutOfMemoryRetry()
        for start in range(0, len(patches), self.rows):
            part = slice(start, min(start + self.rows, len(patches)))
            scores += [found for _, found in retry.run(part, run)]
            tick()
        if not scores:
            return torch.zeros(0, dtype=torch.float64, device=self.inputs[0].device)
        result = torch.cat(scores)
        check_finite(result, patches.image, "occluded")
        return result


def check_finite(scores: Tensor, images: Tensor, which: str) -> None:
    """Raises CanonicalError if a score of these images is NaN or infinite; ``which`` version they are, in a word."""
    broken = images[~torch.isfinite(scores).cpu()].unique().tolist()
    if broken:
        raise CanonicalError(
            f"forward_func returned NaN or infinity for the {which} version of images {broken[:10]}; a map of such "
            "scores has no meaning."
        )


class _OccludedRows:
    """Rows of one input, filled again for each forward call.

    Whole images are copied each time. Undoing only the patches saves next to nothing, and would go wrong as soon as a
    network writes into its input.
    """

    def __init__(self, clean: Tensor, fill: Tensor | float, rows: int) -> None:
        self.clean = clean.detach()
        self.fill = fill.detach().expand(clean.shape) if isinstance(fill, Tensor) else fill
        self.buffer = self._empty(rows)

    def _empty(self, rows: int) -> Tensor:
        """Rows that lie in memory as the clean images do: what is channels last runs channels last."""
        last = torch.channels_last
        turned = (
            self.clean.ndim == 4 and self.clean.is_contiguous(memory_format=last) and not self.clean.is_contiguous()
        )
        buffer = self.clean.new_empty((rows, *self.clean.shape[1:]))
        return buffer.contiguous(memory_format=last) if turned else buffer

    def occlude(self, images: Tensor, boxes: Tensor | None) -> Tensor:
        """The first len(images) rows, showing these images with the boxes hidden."""
        places = images.to(self.clean.device)
        rows = self.buffer[: len(images)]
        torch.index_select(self.clean, 0, places, out=rows)
        if boxes is not None:
            row, image, channel, y, x = _pixels(boxes.to(self.clean.device), places, self.clean.shape[1])
            if isinstance(self.fill, Tensor):
                rows[row, channel, y, x] = self.fill[image, channel, y, x].to(rows.dtype)
            else:
                rows[row, channel, y, x] = self.fill
        return rows


def _pixels(boxes: Tensor, images: Tensor, channels: int) -> tuple[Tensor, ...]:
    """Index tensors (row, image, channel, y, x) that broadcast to every channel of every pixel of the boxes (R, 4).

    Boxes may differ in size: smaller ones name their last row or column again.
    """
    left, top, right, bottom = (side[:, None, None, None] for side in boxes.unbind(1))
    extent = (boxes[:, 2:] - boxes[:, :2]).amax(0).tolist()
    device = boxes.device
    y = torch.minimum(top + torch.arange(extent[1], device=device)[:, None], bottom - 1)
    x = torch.minimum(left + torch.arange(extent[0], device=device), right - 1)
    row = torch.arange(len(boxes), device=device)[:, None, None, None]
    return row, images[:, None, None, None], torch.arange(channels, device=device)[:, None, None], y, x
