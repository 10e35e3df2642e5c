"""The base class of confidences: scores of each image from the outputs of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from captum_canonical._captum import as_output, output_in_words
from captum_canonical.checks import check_callable
from captum_canonical.errors import CanonicalError
from captum_canonical.modules import has_modes, of_any_batch, widened


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
        return self.score([self._run(*run) for run in runs], others)

    def score(self, outputs: Sequence[Any], others: Sequence[Any]) -> Tensor:
        """The scores (N, ...), from one output for each run of the network and the other arguments."""
        return self.confidence(*(self.matrix(output) for output in outputs), *others)

    def outputs(self, *inputs: Any) -> Tensor:
        """(N, K) the outputs of one run of the network."""
        return self.matrix(self._run(*inputs))

    def _run(self, *inputs: Any) -> Any:
        """What counts of one run's result; of a black box, a number for the only photograph is a row."""
        output = self.select(self.model(*inputs))
        one = all(isinstance(x, Tensor) and x.ndim and len(x) == 1 for x in inputs[:1])
        return output.reshape(1) if inputs and one and isinstance(output, Tensor) and not output.ndim else output

    def select(self, output: Any) -> Any:
        """What counts of all that one run of the network returns, in whatever form.

        By default the logits of Hugging Face's ModelOutput and the like, or the only member of a dictionary or tuple;
        :class:`NetworkOutput` takes a given part.
        """
        return as_output(output)

    def matrix(self, output: Any) -> Tensor:
        """What counts as (N, K), whether it came as (N,), (N, K) or (N, K, 1, 1), or in NumPy's arrays.

        Half precision becomes float32: confidences are computed, and their drops taken, without rounding again.
        """
        output = as_output(output)
        if not isinstance(output, Tensor) or not output.ndim or prod(output.shape[2:]) != 1:
            raise CanonicalError(
                f"{type(self).__name__}: expected {self.output_name} of shape (N, K) or (N,) from the network, got "
                f"{output_in_words(output)}; adapters.as_network(net, output=...) takes a part by its key, place or "
                "columns."
            )
        return widened(output).reshape(len(output), prod(output.shape[1:]))

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
