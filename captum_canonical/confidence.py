"""One number per image: what is explained when a face network is not a plain classifier.

Each class wraps a network into a ``forward_func`` for Captum. All are modules without a state of their own, so that
gradients flow through them and methods that look into a layer of the network (Grad-CAM) find it.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758,
    section III-E.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from math import isfinite, prod, sqrt
from typing import Any
from warnings import warn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError


class _Wrapper(nn.Module):
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
        model = self.__dict__.get("_modules", {}).get("model")
        return model is not None and model.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Nothing to set: ``train()`` and ``eval()`` reach the network by themselves."""

    def _matrix(self, inputs: tuple[Any, ...], what: str) -> Tensor:
        """The network's output as (N, K), whether it came as (N,), (N, K) or (N, K, 1, 1)."""
        output = self.model(*inputs)
        if not isinstance(output, Tensor) or not output.ndim or prod(output.shape[2:]) != 1:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise CanonicalError(
                f"{type(self).__name__}: expected {what} of shape (N, K) or (N,) from the network, got {got}; wrap the "
                "network in a function that returns them."
            )
        return output.reshape(len(output), prod(output.shape[1:]))


class ClassConfidence(_Wrapper):
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
        logits = self._matrix(inputs, "logits")
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


class ZeroShotConfidence(_Wrapper):
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
        features = self._matrix(photos, "features")
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


class VerificationConfidence(_Wrapper):
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
        first, second = self._matrix((photo_a,), "features"), self._matrix((photo_b,), "features")
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


class BinnedConfidence(_Wrapper):
    """Soft membership in bins of a real-valued output, such as age, or yaw and pitch.

    The paper trained classifiers on binned labels. On a regressor, hard bins are useless: nearly every patch leaves
    the prediction in its bin, for a drop of 0. Here the membership in a bin is the probability that the prediction
    plus an error of standard deviation ``bandwidth`` falls into it, so it changes with every prediction.

    The outermost bins are open: their outer edges count as infinite, and the memberships of an image sum to 1. With
    several outputs the bins are all combinations, the last output running fastest: output (yaw, pitch) with three bins
    each has the nine bins of Fig. 19, and bin ``3 * yaw_bin + pitch_bin``.

    Args:
        model: images to real values, (N, D), or (N,) for one output.
        bins: for each output its increasing edges, K + 1 for K bins, in the output's unit; for one output the edges
            themselves do.
        bandwidth: standard deviation of the assumed error in the output's unit, one number or one for each output.
            Default: a quarter of the output's narrowest bin.
        kernel: distribution of that error, ``"gaussian"`` or ``"logistic"`` (heavier tails).

    Raises:
        CanonicalError: edges, bandwidth or outputs not as above.

    Example::

        >>> ages = BinnedConfidence(nn.Identity(), bins=range(0, 101, 10), bandwidth=5.0)
        >>> ages(torch.tensor([[30.0]]))[0, 1:5]
        tensor([0.0227, 0.4772, 0.4772, 0.0227])
        >>> ages.bin_of(torch.tensor([30.0, 120.0]))
        tensor([3, 9])
        >>> pose = BinnedConfidence(nn.Identity(), bins=[(-90, -15, 15, 90), (-90, -10, 10, 90)])
        >>> pose.target(torch.tensor([[0.0, 20.0]])), pose.bandwidth
        (tensor([5]), (7.5, 5.0))
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        bins: Sequence[float] | Sequence[Sequence[float]] | Tensor,
        bandwidth: float | Sequence[float] | None = None,
        kernel: str = "gaussian",
    ) -> None:
        super().__init__(model)
        if kernel not in ("gaussian", "logistic"):
            raise CanonicalError(f'BinnedConfidence: expected kernel "gaussian" or "logistic", got {kernel!r}.')
        self.kernel = kernel
        self.edges = _edges(bins)
        self.bandwidth = _bandwidth(bandwidth, self.edges)

    @property
    def num_bins(self) -> int:
        """K, the number of bins: the product over the outputs."""
        return prod(len(edges) - 1 for edges in self.edges)

    def forward(self, *inputs: Any) -> Tensor:
        """(N, K) membership in each bin, 0..1, with sum 1."""
        values = self._values(self._matrix(inputs, "real values"))
        joint = values.new_ones(len(values), 1)
        for output, (edges, bandwidth) in enumerate(zip(self.edges, self.bandwidth, strict=True)):
            inner = (values.new_tensor(edges[1:-1]) - values[:, output, None]) / bandwidth
            low, high = F.pad(inner, (1, 0), value=-torch.inf), F.pad(inner, (0, 1), value=torch.inf)
            membership = _between(low, high, self.kernel)
            joint = (joint[:, :, None] * membership[:, None, :]).flatten(1)
        return joint

    @torch.no_grad()
    def target(self, *inputs: Any) -> Tensor:
        """(N,) int64, the bin of the prediction for each clean photograph."""
        return self.bin_of(self._matrix(inputs, "real values"))

    def bin_of(self, values: Tensor) -> Tensor:
        """(N,) int64, the bin of values (N, D), or (N,) for one output; a bin holds its lower edge."""
        values = self._values(values[:, None] if values.ndim == 1 else values)
        index = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        for output, edges in enumerate(self.edges):
            inner = values.new_tensor(edges[1:-1])
            index = index * (len(edges) - 1) + torch.bucketize(values[:, output].contiguous(), inner, right=True)
        return index

    def _values(self, values: Tensor) -> Tensor:
        if values.ndim != 2 or values.shape[1] != len(self.edges):
            raise CanonicalError(
                f"BinnedConfidence: edges are given for {len(self.edges)} outputs, the values are of shape "
                f"{tuple(values.shape)}; give one sequence of edges for each output."
            )
        return values if values.dtype.is_floating_point else values.float()


def _between(low: Tensor, high: Tensor, kernel: str) -> Tensor:
    """The kernel's mass between two places in units of its standard deviation; exact in both tails."""
    # In the upper tail both distribution functions are nearly 1 and their difference loses its digits: mirror it.
    mirrored = low > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    if kernel == "gaussian":  # by erfc: torch.special.ndtr has no digits left in the lower tail
        return (torch.erfc(-high / sqrt(2)) - torch.erfc(-low / sqrt(2))) / 2
    scale = torch.pi / sqrt(3)  # a logistic distribution of scale 1 has the standard deviation pi / sqrt(3)
    return torch.sigmoid(high * scale) - torch.sigmoid(low * scale)


def _edges(bins: Any) -> tuple[tuple[float, ...], ...]:
    outputs = [bins] if all(not hasattr(entry, "__len__") or getattr(entry, "ndim", 1) == 0 for entry in bins) else bins
    edges = tuple(tuple(float(edge) for edge in output) for output in outputs)
    for output in edges:
        increasing = all(low < high for low, high in pairwise(output))
        if len(output) < 3 or not increasing or not all(isfinite(edge) for edge in output[1:-1]):
            raise CanonicalError(
                f"BinnedConfidence: expected increasing edges of at least two bins for each output, got {output}; 0, "
                "10, 20 are the edges of two bins."
            )
    return edges


def _bandwidth(bandwidth: float | Sequence[float] | None, edges: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    if bandwidth is None:
        widths = [[high - low for low, high in pairwise(output)] for output in edges]
        values = tuple(min(output) / 4 for output in widths)
    elif isinstance(bandwidth, Sequence):
        values = tuple(float(value) for value in bandwidth)
    else:
        values = (float(bandwidth),) * len(edges)
    if len(values) != len(edges) or not all(0 < value < float("inf") for value in values):
        raise CanonicalError(
            f"BinnedConfidence: expected a positive, finite bandwidth for each of {len(edges)} outputs, got {values}; "
            "bins with infinite edges only have no width to take a default from."
        )
    return values


class RegressionConfidence(_Wrapper):
    """How close a regressor's prediction is to a given value: -|f(x) - value|, in the output's unit.

    A number that is predicted is no confidence: hiding the chin may move an age up or down, and both matter. What
    ``value`` is decides what a drop means:

    - the prediction for the clean photograph (:meth:`value`): how far hiding moves the prediction away. Never negative,
      so noise does not average out, and without a gradient where it starts: for occlusion, not for gradient methods.
    - the true value: by how much hiding makes the prediction worse (negative: better).

    To see what speaks for a higher prediction (positive) or a lower one (negative), explain the regressor itself.

    Args:
        model: images to real values, (N, D), or (N,) for one output. With several outputs the deviation is the
            Euclidean distance.
        deviation: ``"absolute"``, or ``"squared"`` for its square.

    Example::

        >>> confidence = RegressionConfidence(nn.Flatten(0))
        >>> confidence(torch.tensor([[31.0], [48.0]]), torch.tensor([30.0, 50.0]))
        tensor([-1., -2.])

        In a call: ``CanonicalOcclusion(confidence, faces).attribute(x, additional_forward_args=confidence.value(x))``
    """

    def __init__(self, model: Callable[..., Tensor], deviation: str = "absolute") -> None:
        super().__init__(model)
        if deviation not in ("absolute", "squared"):
            raise CanonicalError(
                f'RegressionConfidence: expected deviation "absolute" or "squared", got {deviation!r}.'
            )
        self.deviation = deviation

    @torch.no_grad()
    def value(self, *inputs: Any) -> Tensor:
        """The prediction for clean photographs, (N,) or (N, D), to be given as the value."""
        prediction = self._matrix(inputs, "real values")
        return prediction[:, 0] if prediction.shape[1] == 1 else prediction

    def forward(self, photos: Tensor, value: Tensor | float) -> Tensor:
        """(N,) negative deviation of the predictions from ``value``: a number, (N,) or (N, D)."""
        prediction = self._matrix((photos,), "real values")
        wanted = torch.as_tensor(value, dtype=prediction.dtype, device=prediction.device)
        shape = tuple(wanted.shape)
        if shape == (len(prediction),) and prediction.shape[1] == 1:
            wanted = wanted[:, None]
        if shape and wanted.shape != prediction.shape:
            raise CanonicalError(
                f"RegressionConfidence: expected a number or a value for each of the {tuple(prediction.shape)} "
                f"predictions, got {shape}."
            )
        distance = torch.linalg.vector_norm(prediction - wanted, dim=1)
        return -distance if self.deviation == "absolute" else -distance.square()
