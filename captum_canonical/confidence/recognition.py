"""Confidence of face encoders: recognition in a gallery, and verification of pairs with its threshold.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758,
    section III-E.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from warnings import warn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical.checks import check_number, check_several, check_tensor
from captum_canonical.confidence.base import Confidence
from captum_canonical.errors import CanonicalError


class ZeroShotConfidence(Confidence):
    """Recognition by the nearest neighbour in a gallery (Eq. 7): cosine similarity to each gallery image.

    Which gallery image counts is decided once, by :meth:`target` on the clean photograph; while parts of the
    photograph are hidden it stays the same. Searching again would report the similarity of somebody else.

    Args:
        encoder: photographs to features, (N, D).
        gallery_features: (G, D), the encoder's features of the gallery images.
        gallery_labels: G labels: integers, or names.

    Raises:
        CanonicalError: features or labels of other shapes, or not finite.

    Example::

        >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> confidence = ZeroShotConfidence(torch.nn.Identity(), gallery, ["ada", "ada", "bob"])
        >>> photos = torch.tensor([[3.0, 3.0]])  # here the features themselves
        >>> confidence.target(photos, ["ada"])
        tensor([1])
        >>> confidence(photos)[0, 1]
        tensor(0.9899)

        With a real encoder: ``CanonicalOcclusion(confidence, faces).attribute(x, target=confidence.target(x, labels))``
    """

    output_name = "features"
    gallery_features: Tensor

    def __init__(
        self,
        encoder: Callable[..., Tensor],
        gallery_features: Tensor,
        gallery_labels: Sequence[Hashable] | Tensor,
    ) -> None:
        super().__init__(encoder)
        features = check_tensor("gallery_features", gallery_features).detach()
        labels = _labels(gallery_labels)
        if features.ndim != 2 or len(features) != len(labels) or not torch.isfinite(features).all():
            raise CanonicalError(
                f"ZeroShotConfidence: expected finite gallery_features (G, D) and G gallery_labels, got "
                f"{tuple(features.shape)} and {len(labels)}."
            )
        self.register_buffer("gallery_features", F.normalize(features, dim=1), persistent=False)
        self.gallery_labels = labels

    def confidence(self, features: Tensor) -> Tensor:
        """(N, G) cosine similarity of each photograph's features to each gallery image, -1..1."""
        if features.shape[1] != self.gallery_features.shape[1]:
            raise CanonicalError(
                f"ZeroShotConfidence: the encoder gave {features.shape[1]} features, the gallery has "
                f"{self.gallery_features.shape[1]}; make both with the same encoder."
            )
        return F.normalize(features, dim=1) @ self.gallery_features.to(features).T

    @torch.no_grad()
    def nearest(self, similarity: Tensor, labels: Sequence[Hashable] | Tensor | None = None) -> Tensor:
        """The nearest gallery image of each photograph but itself, which a cosine of 1 gives away.

        Args:
            similarity: (N, G) the scores of the clean photographs.
            labels: N labels that the gallery image must have. Default: any.

        Returns:
            (N,) int64 index into the gallery.

        Raises:
            CanonicalError: there is no other image, or none of the label; the message names it.

        Example::

            >>> gallery = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
            >>> confidence = ZeroShotConfidence(torch.nn.Identity(), gallery, ["ada", "bob", "ada"])
            >>> confidence.nearest(confidence(gallery)), confidence.nearest(confidence(gallery[:1]), ["ada"])
            (tensor([1, 2, 1]), tensor([2]))
        """
        open_to = similarity < _itself(similarity)
        if labels is not None:
            wanted = _labels(labels)
            open_to &= torch.tensor(
                [[own == label for own in self.gallery_labels] for label in wanted], device=similarity.device
            )
        without = torch.nonzero(~open_to.any(1)).flatten().tolist()
        if without:
            of = "" if labels is None else f" of {wanted[without[0]]!r}"
            raise CanonicalError(
                f"gallery: expected another photograph{of} than the one that is explained; add one, or leave this "
                "photograph out."
            )
        return similarity.masked_fill(~open_to, -torch.inf).argmax(1)

    @torch.no_grad()
    def target(
        self,
        photos: Tensor,
        labels: Sequence[Hashable] | Tensor,
        exclude: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """The gallery image to explain each photograph by: the nearest of its own label.

        Args:
            photos: (N, ...) clean photographs.
            labels: N labels of the photographs.
            exclude: (N,) index of the photograph itself in the gallery, -1 where it is not in there. A query in its
                own gallery would be explained by its similarity to itself.

        Returns:
            (N,) int64 index into the gallery.

        Raises:
            CanonicalError: a label has no (other) image in the gallery; the message names it.
        """
        similarity = self(photos)
        wanted, count = _labels(labels), similarity.shape[1]
        without = [-1] * len(wanted) if exclude is None else [int(index) for index in exclude]
        if not len(wanted) == len(without) == len(similarity) or not all(-1 <= index < count for index in without):
            raise CanonicalError(
                f"ZeroShotConfidence.target: expected {len(similarity)} labels, and as many indices -1..{count - 1} "
                f"to exclude, got {len(wanted)} and {without}."
            )
        for row, (label, own) in enumerate(zip(wanted, without, strict=True)):
            same = [entry == label and index != own for index, entry in enumerate(self.gallery_labels)]
            if not any(same):
                raise CanonicalError(
                    f"ZeroShotConfidence.target: the gallery has no {'other ' if own >= 0 else ''}image of label "
                    f"{label!r} (photograph {row}); add one or leave this photograph out."
                )
            similarity[row, ~torch.tensor(same, device=similarity.device)] = -torch.inf
        nearest, index = similarity.max(1)
        if (nearest > 1 - 1e-6).any():
            rows = torch.nonzero(nearest > 1 - 1e-6).flatten().tolist()
            warn(
                f"ZeroShotConfidence.target: photographs {rows} have a cosine similarity of 1 to a gallery image, so "
                "they probably are in the gallery; exclude= takes their index there.",
                stacklevel=3,
            )
        return index


def _itself(similarity: Tensor) -> float:
    """The cosine from which a gallery image is the photograph itself: 1 but for rounding, also of half precision."""
    return 1 - max(1e-4, min(10 * torch.finfo(similarity.dtype).eps, 0.02))


def _labels(labels: Sequence[Hashable] | Tensor) -> list[Hashable]:
    entries = labels.tolist() if hasattr(labels, "tolist") else list(check_several("labels", labels, "labels"))
    return [entry.item() if isinstance(entry, Tensor) else entry for entry in entries]


class VerificationConfidence(Confidence):
    """How surely two photographs show the same person, or different ones (Eq. 8 with its sign corrected).

    c * (cos - threshold), with c = +1 for a pair of the same person and -1 for a pair of different people. The paper
    prints c * (threshold - cos), which falls as a pair of the same person grows more alike, so that the regions that
    make them alike would come out as evidence against it; hence the sign here. The threshold cancels in any drop, and
    moves only the confidence itself. Set it to the equal error rate of held-out pairs:
    :func:`captum_canonical.confidence.equal_error_threshold` finds it from their :meth:`similarity`.

    Explain a pair with a mesh for each photograph: ``CanonicalOcclusion(confidence, (faces_a, faces_b)).attribute((a,
    b), additional_forward_args=same)``. The encoder runs on one photograph after the other, so a method that looks
    into a layer sees the run on the second; swap the photographs to see the first, the confidence is the same.

    Args:
        encoder: photographs to features, (N, D).
        threshold: cosine similarity above which a pair counts as the same person.

    Example::

        >>> confidence = VerificationConfidence(torch.nn.Identity(), threshold=0.5)
        >>> a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.8, 0.6]])
        >>> confidence(a, b, torch.tensor([True, False]))
        tensor([ 0.3000, -0.3000])
    """

    output_name = "features"

    def __init__(self, encoder: Callable[..., Tensor], threshold: float = 0.0) -> None:
        super().__init__(encoder)
        who = "VerificationConfidence: threshold"
        check_number(who, threshold, least=-1, most=1, expected="a cosine -1..1 as threshold")
        self.threshold = float(threshold)

    def split(
        self, photo_a: Tensor, photo_b: Tensor, same: Tensor | bool
    ) -> tuple[list[tuple[Tensor]], tuple[Tensor | bool]]:
        """The encoder runs on each photograph."""
        return [(photo_a,), (photo_b,)], (same,)

    def confidence(self, features_a: Tensor, features_b: Tensor, same: Tensor | bool) -> Tensor:
        """(N,) confidence in the truth ``same``: (N,) bool, or +1 for the same person and -1 for different ones."""
        similarity = self._cosine(features_a, features_b)
        truth = check_tensor("same", same).to(similarity.device)
        sign = 2.0 * truth - 1.0 if truth.dtype == torch.bool else truth
        if (truth.ndim and truth.shape != similarity.shape) or not (sign.abs() == 1).all():
            raise CanonicalError(
                f"VerificationConfidence: expected same as bool or +1 / -1 of shape {tuple(similarity.shape)}, got "
                f"{truth.dtype} of shape {tuple(truth.shape)} with values {truth.unique().tolist()[:5]}."
            )
        return sign.to(similarity.dtype) * (similarity - self.threshold)

    def similarity(self, photo_a: Tensor, photo_b: Tensor) -> Tensor:
        """(N,) cosine similarity of the features of each pair, -1..1."""
        return self._cosine(self.outputs(photo_a), self.outputs(photo_b))

    def _cosine(self, first: Tensor, second: Tensor) -> Tensor:
        if first.shape != second.shape:
            raise CanonicalError(
                f"VerificationConfidence: expected as many photographs on both sides, got features of shape "
                f"{tuple(first.shape)} and {tuple(second.shape)}."
            )
        return F.cosine_similarity(first, second)


def equal_error_threshold(similarity: Tensor | np.ndarray, same: Tensor | np.ndarray) -> tuple[float, float]:
    """The threshold at which as many pairs of different people are accepted as pairs of one person are rejected.

    A pair is accepted if its similarity is above the threshold. Only thresholds halfway between neighbouring
    similarities, and the two outermost similarities, are tried: the one with the smallest difference of the two rates
    is taken, among several the one with the smallest sum.

    Args:
        similarity: (P,) of held-out pairs, such as :meth:`VerificationConfidence.similarity` gives.
        same: (P,) bool, whether the pair shows one person.

    Returns:
        The threshold, and the equal error rate: the mean of both rates there, 0..1.

    Raises:
        CanonicalError: other shapes, values that are not finite, or pairs of one kind only.

    Example::

        >>> equal_error_threshold(torch.tensor([0.0, 0.25, 0.75, 0.5, 1.0, 1.0]), torch.arange(6) >= 3)
        (0.625, 0.3333333333333333)
    """
    values, truth = check_tensor("similarity", similarity).detach().double().cpu(), check_tensor("same", same).cpu()
    good = values.ndim == 1 and truth.shape == values.shape and truth.dtype == torch.bool
    if not good or not torch.isfinite(values).all() or not truth.any() or truth.all():
        raise CanonicalError(
            f"equal_error_threshold: expected P finite similarities and P bools of both kinds, got "
            f"{tuple(values.shape)} and {truth.dtype} {tuple(truth.shape)}, {int(truth.sum())} of them true."
        )
    levels = values.unique()
    thresholds = torch.cat([levels[:1], (levels[1:] + levels[:-1]) / 2, levels[-1:]])
    accepted = _share_up_to(-thresholds, -values[~truth], right=False)
    rejected = _share_up_to(thresholds, values[truth], right=True)
    gap, error = (accepted - rejected).abs().tolist(), ((accepted + rejected) / 2).tolist()
    best = min(range(len(thresholds)), key=lambda index: (gap[index], error[index]))
    return float(thresholds[best]), error[best]


def _share_up_to(thresholds: Tensor, values: Tensor, right: bool) -> Tensor:
    """Share of the values below each threshold; with ``right`` those equal to it as well."""
    return torch.searchsorted(values.sort().values, thresholds, right=right).double() / len(values)
