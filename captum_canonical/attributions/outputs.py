"""Captum's methods on networks that return a dictionary, a tuple or several heads, of which they take tensors only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical._captum import as_output, output_in_words
from captum_canonical.errors import CanonicalError
from captum_canonical.restore import NetworkState


class TensorOutput(nn.Module):
    """A network as one that returns the tensor that counts, of whatever shape (:func:`as_output`).

    Raises:
        CanonicalError: there is none, or it is not clear which.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.training = getattr(model, "training", False)

    def forward(self, *inputs: Any) -> Tensor:
        """The tensor."""
        output = self.model(*inputs)
        found = as_output(output)
        if not isinstance(found, Tensor):
            raise CanonicalError(
                f"forward_func must return one tensor, got {output_in_words(output)}; "
                "adapters.as_network(net, output=...) takes a part by its key or place."
            )
        return found


def attribute_with(method: Attribution, *args: Any, **kwargs: Any) -> Any:
    """``method.attribute(...)``; if Captum cannot use what the network returns, of the tensor that counts.

    A network that returns a tensor is run as it is; the method and its network are afterwards as before.

    Raises:
        CanonicalError: the network returns several things, and it is not clear which one counts.

    Example::

        >>> from captum.attr import Saliency
        >>> attribute_with(Saliency(lambda x: {"logits": x.sum((2, 3))}), torch.ones(1, 1, 1, 2), target=0)
        tensor([[[[1., 1.]]]])
    """
    network = getattr(method, "forward_func", None)
    state = NetworkState([network] if isinstance(network, nn.Module) else [])
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    random = torch.get_rng_state()
    try:
        return method.attribute(*args, **kwargs)
    except (AttributeError, TypeError, AssertionError, RuntimeError) as error:
        if network is None or isinstance(network, TensorOutput):
            raise
        state.restore()  # hooks of a method that stopped half way; NoiseTunnel has drawn already
        torch.set_rng_state(random)
        torch.cuda.set_rng_state_all(cuda)
        try:
            return _with_network(method, network, TensorOutput(network)).attribute(*args, **kwargs)
        except CanonicalError as reason:
            raise reason from error
        except Exception:
            state.restore()
            raise error from None


def _with_network(method: Any, network: Any, found: TensorOutput) -> Any:
    """A copy of a method, and of those inside it, that runs another network; layers stay as they are."""
    twin = copy.copy(method)
    for name, value in vars(method).items():
        if isinstance(value, Attribution):
            setattr(twin, name, _with_network(value, network, found))
        elif value is network and name != "layer":
            setattr(twin, name, found)
    return twin
