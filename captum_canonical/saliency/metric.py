"""Canonical Model Saliency: the mean of maps over a data set, with its uncertainty, in one pass (Eq. 6).

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.saliency.moments import (
    Pixels,
    check_symmetric,
    checked_maps,
    merge_moments,
    moments_of,
    pool_with_mirror_image,
)
from captum_canonical.saliency.result import ModelSaliency


class CanonicalModelSaliency(Metric):
    """Running mean and variance of maps on one canonical face (CMS, Eq. 6): a :class:`torchmetrics.Metric`.

    The mean counts images, not hits: each pixel is averaged over the images in which it was covered, with equal
    weights. Maps are never normalised. ``update`` in batches of any size and order, ``merge_state`` of shards, and
    processes under ``torch.distributed`` (where ``compute`` is collective: all call it) give the same result.

    Sums are kept in float64 whatever the metric is cast to. The cost and memory do not grow with the number of images.

    Args:
        canonical_face: the face that the maps are written on.
        symmetric: pool each map with its mirror image, left with right. A pixel takes the mean of its side and the
            other where both were covered, the covered one where only one was, with the hits of both; the image still
            counts once. This removes random differences between the sides, and hides true ones.
        **kwargs: for :class:`torchmetrics.Metric`, such as ``process_group``.

    Raises:
        CanonicalError: ``symmetric`` on a face that is not its own mirror image.

    Example::

        >>> face = CanonicalFace.default(size=4)
        >>> cms = CanonicalModelSaliency(face)
        >>> maps = torch.tensor([1.0, 3.0, 8.0])[:, None, None, None].expand(3, 1, 4, 4)
        >>> coverage = torch.ones(3, 1, 4, 4)
        >>> coverage[2, :, :, 0] = 0  # the left column was not seen in the third image
        >>> cms.update(maps[:2], coverage[:2])
        >>> cms.update(maps[2:], coverage[2:])
        >>> saliency = cms.compute()
        >>> saliency.mean[0, 0]
        tensor([2., 4., 4., 4.], dtype=torch.float64)
        >>> saliency.count[0, 0], saliency.n
        (tensor([2, 3, 3, 3]), 3)
    """

    full_state_update = False  # forward() merges the batch's own state; True would rule out merge_state
    is_differentiable = False
    higher_is_better = None

    moments: Tensor
    hits: Tensor
    images: Tensor

    def __init__(self, canonical_face: FaceLike, symmetric: bool = False, **kwargs: Any) -> None:
        # A cached result on some ranks only would leave the others waiting in the next, collective, compute().
        super().__init__(**{"compute_with_cache": False, **kwargs})
        canonical_face = CanonicalFace.of(canonical_face)
        if symmetric:
            check_symmetric(canonical_face, "CanonicalModelSaliency")
        self.canonical_face = canonical_face
        self.symmetric = symmetric
        size = canonical_face.size
        moments, hits = torch.zeros(3, *size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        self.add_state("moments", moments, dist_reduce_fx=merge_moments, persistent=True)
        self.add_state("hits", hits, dist_reduce_fx="sum", persistent=True)
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum", persistent=True)

    def update(self, maps: Tensor, coverage: Tensor | None = None) -> None:
        """Adds the maps of N images.

        Args:
            maps: (N, 1, H, W) on the canonical face.
            coverage: (N, 1, H, W) number of hits (or bool), 0 where nothing was seen; what the map holds there does
                not matter. Default: every pixel of every map was hit once.

        Raises:
            CanonicalError: a shape does not fit, or a value is not finite where covered; nothing is added then.
        """
        values, hits = checked_maps(
            maps, coverage, self.canonical_face.size, "CanonicalModelSaliency.update", self.moments.device
        )
        if self.symmetric:
            values, hits = pool_with_mirror_image(values, hits)
        self.moments = merge_moments(torch.stack([self.moments, moments_of(values, hits > 0)]))
        self.hits = self.hits + hits.sum(0)
        self.images = self.images + (hits > 0).flatten(1).any(1).sum()

    def compute(self) -> ModelSaliency:
        """The mean of all maps so far, over all processes."""
        pixels = Pixels.of_moments(self.moments, self.hits)
        return ModelSaliency(*pixels, int(self.images), canonical_face=self.canonical_face, symmetric=self.symmetric)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Adds the images of another metric on the same face, such as that of another shard."""
        if isinstance(incoming_state, CanonicalModelSaliency):
            ours, theirs = self._identity(), incoming_state._identity()
            if ours != theirs:
                raise CanonicalError(
                    f"CanonicalModelSaliency.merge_state: expected a metric with (height, width), topology, symmetric "
                    f"= {ours}, got {theirs}."
                )
        super().merge_state(incoming_state)

    @property
    def update_called(self) -> bool:
        """Whether there may be anything to compute: also after merge_state, load_state_dict or on an idle rank."""
        distributed = self.distributed_available_fn is not None and self.distributed_available_fn()
        return self._update_count > 0 or distributed or bool(self.images > 0)

    # ---------------------------------------------------------------------------------------------- internals
    def _identity(self) -> tuple[tuple[int, int], str | None, bool]:
        return self.canonical_face.size, self.canonical_face.topology, self.symmetric

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> CanonicalModelSaliency:
        """Moves to another device, but never casts: Metric keeps its type under .float(), not under .to(float32)."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), *args, **kwargs)  # type: ignore[return-value]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        expected = {name: tuple(getattr(self, name).shape) for name in self._defaults}
        got = {name: tuple(state_dict[prefix + name].shape) for name in expected if prefix + name in state_dict}
        if got != {name: shape for name, shape in expected.items() if name in got}:
            raise CanonicalError(
                f"CanonicalModelSaliency: expected a state of shapes {expected} as the canonical face has, got {got}."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        for name in got:
            setattr(self, name, getattr(self, name).to(self._defaults[name]))
