"""The base class of confidences, and the simplest one: of the classes that a network distinguishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical._captum import as_output
from captum_canonical.checks import check_callable, check_choice
from captum_canonical.errors import CanonicalError
from captum_canonical.modules import has_modes, of_any_batch


class Confidence(nn.Module):
    """Base class of scores that are computed from the outputs of a network, one row for each image.

    A confidence of your own is a subclass that defines :meth:`confidence`, the arithmetic on the network's outputs,
    and, where the network does not take all arguments or runs several times, :meth:`split`. It inherits ``forward``,
    which runs the network and then the arithmetic. Incremental inference does the same, but computes only the changed
    windows of the network. A subclass with a ``forward`` of its own is explained by dense inference, unless torch.fx
    can trace that method.

    The module keeps nothing between calls, and gradients flow through it. Its ``training`` flag is always the
    network's own, since it has no mode of its own; a callable that is no module counts as evaluating.

    Args:
        model: the network, or any other callable that returns a tensor.

    Attributes:
        output_name: what the network returns, for messages; a class attribute.

    Example::

        >>> import torch
        >>> class Margin(Confidence):
        ...     output_name = "logits"
        ...     def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        ...         return logits - logits.mean(1, keepdim=True)
        >>> Margin(torch.nn.Identity())(torch.tensor([[3.0, 1.0]]))
        tensor([[ 1., -1.]])
    """

    output_name = "outputs"

    def __init__(self, model: Callable[..., Tensor]) -> None:
        super().__init__()
        check_callable(type(self).__name__, model)
        self.model = of_any_batch(model)

    def confidence(self, *arguments: Any, **named: Any) -> Tensor:
        """The scores (N, ...) of the images; to be defined by a subclass. No score may depend on the other images.

        Args:
            *arguments: the (N, K) outputs of each run of the network, then the other arguments that :meth:`split`
                returns.
        """
        raise NotImplementedError(f"{type(self).__name__} must define confidence(), the scores from the outputs")

    def split(self, *arguments: Any, **named: Any) -> tuple[Sequence[tuple[Any, ...]], tuple[Any, ...]]:
        """Which arguments of a call go where; by default the network gets them all, in one run.

        Returns:
            the arguments of each run of the network, and those of ``confidence`` after the outputs.
        """
        return [arguments], ()

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        """The scores (N, ...) of the images."""
        runs, others = self.split(*arguments, **named)
        return self.score([self.model(*run) for run in runs], others)

    def score(self, outputs: Sequence[Any], others: Sequence[Any]) -> Tensor:
        """The scores (N, ...), from one output for each run of the network and the other arguments."""
        return self.confidence(*(self.matrix(output) for output in outputs), *others)

    def outputs(self, *inputs: Any) -> Tensor:
        """(N, K) the outputs of one run of the network."""
        return self.matrix(self.model(*inputs))

    def matrix(self, output: Any) -> Tensor:
        """An output of the network as (N, K), whether it came as (N,), (N, K) or (N, K, 1, 1), or in NumPy's arrays."""
        output = as_output(output)
        if not isinstance(output, Tensor) or not output.ndim or prod(output.shape[2:]) != 1:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise CanonicalError(
                f"{type(self).__name__}: expected {self.output_name} of shape (N, K) or (N,) from the network, got "
                f"{got}; wrap the network in a function that returns them."
            )
        return output.reshape(len(output), prod(output.shape[1:]))

    @property
    def training(self) -> bool:  # an attribute in nn.Module
        """The network's own mode."""
        model = self.__dict__.get("_modules", {}).get("model")
        return isinstance(model, nn.Module) and (has_modes(model) and model.training)

    @training.setter
    def training(self, mode: bool) -> None:
        """Nothing to set: ``train()`` and ``eval()`` reach the network by themselves."""

    def train(self, mode: bool = True) -> Confidence:
        """As for any module; an exported program, which has no modes, is left as it is."""
        return super().train(mode) if not isinstance(self.model, nn.Module) or has_modes(self.model) else self


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

    output_name = "logits"

    def __init__(self, model: Callable[..., Tensor], link: str = "probability") -> None:
        super().__init__(model)
        check_choice("ClassConfidence: link", link, ("probability", "log_odds"))
        self.link = link

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
