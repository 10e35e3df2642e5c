"""Confidence of networks that return real numbers, such as an age or the yaw and pitch of a head.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758,
    section IV-A.1 (which trained classifiers on binned ages and poses instead).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isfinite, prod, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical.checks import check_choice, check_several, check_tensor
from captum_canonical.confidence.base import Confidence
from captum_canonical.errors import CanonicalError


class BinnedConfidence(Confidence):
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

        >>> ages = BinnedConfidence(torch.nn.Identity(), bins=range(0, 101, 10), bandwidth=5.0)
        >>> ages(torch.tensor([[30.0]]))[0, 1:5]
        tensor([0.0227, 0.4772, 0.4772, 0.0227])
        >>> ages.bin_of(torch.tensor([30.0, 120.0]))
        tensor([3, 9])
        >>> pose = BinnedConfidence(torch.nn.Identity(), bins=[(-90, -15, 15, 90), (-90, -10, 10, 90)])
        >>> pose.target(torch.tensor([[0.0, 20.0]])), pose.bandwidth
        (tensor([5]), (7.5, 5.0))
    """

    output_name = "real values"

    def __init__(
        self,
        model: Callable[..., Tensor],
        bins: Sequence[float] | Sequence[Sequence[float]] | Tensor,
        bandwidth: float | Sequence[float] | None = None,
        kernel: str = "gaussian",
    ) -> None:
        super().__init__(model)
        check_choice("BinnedConfidence: kernel", kernel, ("gaussian", "logistic"))
        self.kernel = kernel
        self.edges = _edges(bins)
        self.bandwidth = _bandwidth(bandwidth, self.edges)

    @property
    def num_bins(self) -> int:
        """K, the number of bins: the product over the outputs."""
        return prod(len(edges) - 1 for edges in self.edges)

    def confidence(self, values: Tensor) -> Tensor:
        """(N, K) membership in each bin, 0..1, with sum 1."""
        values = self._values(values)
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
        return self.bin_of(self.outputs(*inputs))

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
    bins = check_several("bins", bins, "edges")
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


class RegressionConfidence(Confidence):
    """How close a regressor's prediction is to a given value: ``-|f(x) - value|``, in the output's unit.

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

        >>> confidence = RegressionConfidence(torch.nn.Flatten(0))
        >>> confidence(torch.tensor([[31.0], [48.0]]), torch.tensor([30.0, 50.0]))
        tensor([-1., -2.])

        In a call: ``CanonicalOcclusion(confidence, faces).attribute(x, additional_forward_args=confidence.value(x))``
    """

    output_name = "real values"

    def __init__(self, model: Callable[..., Tensor], deviation: str = "absolute") -> None:
        super().__init__(model)
        check_choice("RegressionConfidence: deviation", deviation, ("absolute", "squared"))
        self.deviation = deviation

    @torch.no_grad()
    def value(self, *inputs: Any) -> Tensor:
        """The prediction for clean photographs, (N,) or (N, D), to be given as the value."""
        prediction = self.outputs(*inputs)
        return prediction[:, 0] if prediction.shape[1] == 1 else prediction

    def split(self, photos: Tensor, value: Tensor | float) -> tuple[list[tuple[Tensor]], tuple[Tensor | float]]:
        """The network gets the photographs only."""
        return [(photos,)], (value,)

    def confidence(self, prediction: Tensor, value: Tensor | float) -> Tensor:
        """(N,) negative deviation of the predictions from ``value``: a number, (N,) or (N, D)."""
        wanted = check_tensor("value", value).to(prediction)
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
