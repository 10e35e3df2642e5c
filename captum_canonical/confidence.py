"""One number per image: what is explained when a face network is not a plain classifier.

Each class wraps a network into a ``forward_func`` for Captum. All are modules without a state of their own, so that
gradients flow through them and methods that look into a layer of the network (Grad-CAM) find it.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758,
    section III-E.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import Any
from warnings import warn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError


class ConfidenceWrapper(nn.Module):
    """A module around a network or any other callable.

    Its ``training`` flag is always the network's own: a wrapper has no mode, and must not look like a network in
    training mode around one that is not. A callable that is no module counts as evaluating.
    """

    def __init__(self, model: Callable[..., Tensor]) -> None:
        super().__init__()
        if not callable(model):
            raise CanonicalError(f"{type(self).__name__}: expected a network or a callable, got {type(model)}.")
        self.model = model

    @property
    def training(self) -> bool:  # an attribute in nn.Module
        """The network's own mode."""
        model = self.__dict__.get("_modules", {}).get("model")
        return model is not None and model.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Nothing to set: ``train()`` and ``eval()`` reach the network by themselves."""

    def matrix(self, inputs: tuple[Any, ...], what: str) -> Tensor:
        """The network's output as (N, K), whether it came as (N,), (N, K) or (N, K, 1, 1)."""
        output = self.model(*inputs)
        if not isinstance(output, Tensor) or not output.ndim or prod(output.shape[2:]) != 1:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise CanonicalError(
                f"{type(self).__name__}: expected {what} of shape (N, K) or (N,) from the network, got {got}; wrap the "
                "network in a function that returns them."
            )
        return output.reshape(len(output), prod(output.shape[1:]))


class ClassConfidence(ConfidenceWrapper):
    """Probabilities or log-odds of the classes, from a network that returns logits.

    Probabilities are what the paper explains; their drops vanish for images that the network is sure of. Log-odds do
    not saturate: z_t - log(sum over the other classes of exp(z)), which is log(p_t / (1 - p_t)).

    A network with a single logit, (N,) or (N, 1), tells two classes apart: its result has the columns [negative,
    positive], so ``target=1`` explains the positive side and ``target=0`` the negative one. A network that returns
    probabilities already needs no wrapper.

    Args:
        model: images to logits, (N, K), (N, 1) or (N,).
        link: ``"probability"``, softmax or sigmoid, or ``"log_odds"``.

    Raises:
        CanonicalError: unknown link, or outputs of another shape.

    Example::

        >>> logits = lambda x: torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
        >>> ClassConfidence(logits)(None)[1]
        tensor([1.0000e+00, 3.7835e-44, 3.7835e-44])
        >>> ClassConfidence(logits, link="log_odds")(None)
        tensor([[  -0.6931,   -0.6931,   -0.6931],
                [  99.3069, -100.0000, -100.0000]])
    """

    def __init__(self, model: Callable[..., Tensor], link: str = "probability") -> None:
        super().__init__(model)
        if link not in ("probability", "log_odds"):
            raise CanonicalError(f'ClassConfidence: expected link "probability" or "log_odds", got {link!r}.')
        self.link = link

    def forward(self, *inputs: Any) -> Tensor:
        """(N, K) confidence of each class; (N, 2) for a network with one logit."""
        logits = self.matrix(inputs, "logits")
        if logits.shape[1] == 1:  # relative to the negative class, whose logit is 0 by definition
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        return logits.softmax(1) if self.link == "probability" else _log_odds(logits)


def _log_odds(logits: Tensor) -> Tensor:
    """z_t - logsumexp of the others for every t, in O(K).

    log(1 - p_t) loses all digits as p_t approaches 1, which only the largest logit can: for that one the sum over the
    others is formed itself, for the rest p_t <= 1/2.
    """
    largest = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), True)
    without_largest = logits.masked_fill(largest, -torch.inf).logsumexp(1, keepdim=True)
    total = logits.logsumexp(1, keepdim=True)
    log_probability = (logits - total).masked_fill(largest, -torch.inf)
    without_own = total + torch.log1p(-log_probability.exp())
    return logits - torch.where(largest, without_largest, without_own)


class ZeroShotConfidence(ConfidenceWrapper):
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
        >>> confidence = ZeroShotConfidence(nn.Identity(), gallery, ["ada", "ada", "bob"])
        >>> photos = torch.tensor([[3.0, 3.0]])  # stand-ins: here the features themselves
        >>> confidence.target(photos, ["ada"])
        tensor([1])
        >>> confidence(photos)[0, 1]
        tensor(0.9899)

        With a real encoder: ``CanonicalOcclusion(confidence, faces).attribute(x, target=confidence.target(x, labels))``
    """

    gallery_features: Tensor

    def __init__(
        self,
        encoder: Callable[..., Tensor],
        gallery_features: Tensor,
        gallery_labels: Sequence[Hashable] | Tensor,
    ) -> None:
        super().__init__(encoder)
        features = torch.as_tensor(gallery_features).detach()
        labels = _labels(gallery_labels)
        if features.ndim != 2 or len(features) != len(labels) or not torch.isfinite(features).all():
            raise CanonicalError(
                f"ZeroShotConfidence: expected finite gallery_features (G, D) and G gallery_labels, got "
                f"{tuple(features.shape)} and {len(labels)}."
            )
        self.register_buffer("gallery_features", F.normalize(features, dim=1), persistent=False)
        self.gallery_labels = labels

    def forward(self, *photos: Any) -> Tensor:
        """(N, G) cosine similarity of each photograph to each gallery image, -1..1."""
        features = self.matrix(photos, "features")
        if features.shape[1] != self.gallery_features.shape[1]:
            raise CanonicalError(
                f"ZeroShotConfidence: the encoder gave {features.shape[1]} features, the gallery has "
                f"{self.gallery_features.shape[1]}; make both with the same encoder."
            )
        return F.normalize(features, dim=1) @ self.gallery_features.to(features).T

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


def _labels(labels: Sequence[Hashable] | Tensor) -> list[Hashable]:
    entries = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    return [entry.item() if isinstance(entry, Tensor) else entry for entry in entries]


class VerificationConfidence(ConfidenceWrapper):
    """How surely two photographs are told to show the same person, or different ones (Eq. 8, sign mended).

    c * (cos - threshold), with c = +1 for a pair of the same person and -1 for a pair of different people. The paper
    prints c * (threshold - cos), which falls as a pair of the same person grows more alike, so that the regions that
    make them alike would come out as evidence against it; hence the sign here. The threshold cancels in any drop, and
    moves only the confidence itself. Set it to the equal error rate of held-out pairs:
    :func:`captum_canonical.statistics.equal_error_threshold` finds it from their :meth:`similarity`.

    Explain a pair with a mesh for each photograph: ``CanonicalOcclusion(confidence, (faces_a, faces_b)).attribute((a,
    b), additional_forward_args=same)``. The encoder runs on one photograph after the other, so a method that looks
    into a layer sees the run on the second; swap the photographs to see the first, the confidence is the same.

    Args:
        encoder: photographs to features, (N, D).
        threshold: cosine similarity above which a pair counts as the same person.

    Example::

        >>> confidence = VerificationConfidence(nn.Identity(), threshold=0.5)
        >>> a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.8, 0.6]])
        >>> confidence(a, b, torch.tensor([True, False]))
        tensor([ 0.3000, -0.3000])
    """

    def __init__(self, encoder: Callable[..., Tensor], threshold: float = 0.0) -> None:
        super().__init__(encoder)
        if not -1 <= threshold <= 1:
            raise CanonicalError(f"VerificationConfidence: expected a cosine -1..1 as threshold, got {threshold}.")
        self.threshold = float(threshold)

    def similarity(self, photo_a: Tensor, photo_b: Tensor) -> Tensor:
        """(N,) cosine similarity of the features of each pair, -1..1."""
        first, second = self.matrix((photo_a,), "features"), self.matrix((photo_b,), "features")
        if first.shape != second.shape:
            raise CanonicalError(
                f"VerificationConfidence: expected as many photographs on both sides, got features of shape "
                f"{tuple(first.shape)} and {tuple(second.shape)}."
            )
        return F.cosine_similarity(first, second)

    def forward(self, photo_a: Tensor, photo_b: Tensor, same: Tensor | bool) -> Tensor:
        """(N,) confidence in the truth ``same``: (N,) bool, or +1 for the same person and -1 for different ones."""
        similarity = self.similarity(photo_a, photo_b)
        truth = torch.as_tensor(same, device=similarity.device)
        sign = 2.0 * truth - 1.0 if truth.dtype == torch.bool else truth
        if (truth.ndim and truth.shape != similarity.shape) or not (sign.abs() == 1).all():
            raise CanonicalError(
                f"VerificationConfidence: expected same as bool or +1 / -1 of shape {tuple(similarity.shape)}, got "
                f"{truth.dtype} of shape {tuple(truth.shape)} with values {truth.unique().tolist()[:5]}."
            )
        return sign.to(similarity.dtype) * (similarity - self.threshold)
