"""Confidence of classifiers: probabilities or log-odds of the classes, from logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_canonical.checks import check_choice
from captum_canonical.confidence.base import Confidence
from captum_canonical.confidence.outputs import Classes, NetworkOutput, Output
from captum_canonical.errors import CanonicalError


class ClassConfidence(Confidence):
    """Probabilities or log-odds of the classes, from a network that returns logits.

    Probabilities are what the paper explains; their drops vanish for images that the network is sure of. Log-odds do
    not saturate: z_t - log(sum over the other classes of exp(z)), which is log(p_t / (1 - p_t)).

    A network with a single logit, (N,) or (N, 1), tells two classes apart: its result has the columns [negative,
    positive], so ``target=1`` explains the positive side and ``target=0`` the negative one. A network that returns
    probabilities already needs no wrapper.

    Args:
        model: images to logits, (N, K), (N, 1) or (N,).
        link: ``"probability"``, softmax or sigmoid, or ``"log_odds"``.
        output: which part of what the network returns, as :class:`NetworkOutput` takes it. Default: the only tensor, or
            what is called "logits".
        classes: names of the classes, or of those of each head, as :class:`NetworkOutput` takes them. Classes of one
            head compete with each other only.

    Raises:
        CanonicalError: unknown link, output or head, outputs of another shape, or of another number than the classes.

    Example::

        >>> logits = lambda x: torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
        >>> ClassConfidence(logits)(None)[1]
        tensor([1.0000e+00, 3.7835e-44, 3.7835e-44])
        >>> ClassConfidence(logits, link="log_odds")(None)
        tensor([[  -0.6931,   -0.6931,   -0.6931],
                [  99.3069, -100.0000, -100.0000]])
    """

    output_name = "logits"

    def __init__(
        self,
        model: Callable[..., Any],
        link: str = "probability",
        output: Output = None,
        classes: Classes = None,
    ) -> None:
        super().__init__(model if output is None and classes is None else NetworkOutput(model, output, classes))
        check_choice("ClassConfidence: link", link, ("probability", "log_odds"))
        self.link = link
        if self.classes is not None and len(self.classes) == 1:
            raise CanonicalError(
                f"classes: a single logit tells two classes apart, whose columns are [negative, positive]; name both, "
                f"such as ['not {self.classes[0]}', {self.classes[0]!r}]; got only {self.classes[0]!r}."
            )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if they were given here or to the network's :class:`NetworkOutput`."""
        return self.model.classes if isinstance(self.model, NetworkOutput) else None

    def confidence(self, logits: Tensor) -> Tensor:
        """(N, K) confidence of each class; (N, 2) for a network with one logit."""
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
