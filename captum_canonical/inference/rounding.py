"""How much of a drop is rounding, where a network computes in half precision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_canonical.errors import user_stacklevel
from captum_canonical.inference.scorer import Scorer
from captum_canonical.modules import NARROW

COPIES = 5  # of each image
FEWEST_SCORES = 8  # different ones, of which it is no chance that all of them are numbers of a narrow type
NEGLIGIBLE = 1e-3  # of the largest value of a map

_collector: ContextVar[list[Tensor] | None] = ContextVar("_collector", default=None)


def narrow_type(scorer: Scorer, inputs: tuple[Tensor, ...], scores: Tensor) -> torch.dtype | None:
    """The half precision that scores were computed in, None for a wider one.

    It is that of an input, a parameter or ``torch.autocast``; that in which a confidence got the network's outputs; or
    that of which all scores are numbers, as those of a network are that uses autocast inside. What such a network
    computes from its outputs in float32 hides that.

    Args:
        scorer: whose forward function is asked.
        inputs: of the model.
        scores: (K,) all that are known.

    Example::

        >>> net, photo = nn.Linear(4, 1), torch.rand(1, 4)
        >>> narrow_type(Scorer(net, 0, (), 1), (photo,), torch.rand(20)), narrow_type(
        ...     Scorer(net.bfloat16(), 0, (), 1), (photo.bfloat16(),), torch.rand(20))
        (None, torch.bfloat16)
    """
    network = scorer.forward_func
    held = [*network.parameters(), *network.buffers()] if isinstance(network, nn.Module) else []
    found = [x.dtype for x in (*inputs, *held)] + _autocast(inputs[0].device) + [*scorer.narrow_outputs]
    for narrow in NARROW:
        if narrow in found:
            return narrow
    known = scores[scores.isfinite()].unique()
    broad = known[known != known.round()]  # whole numbers, such as 0 and 1, are numbers of any type
    if len(broad) >= FEWEST_SCORES:
        return next((narrow for narrow in NARROW if torch.equal(broad.to(narrow).to(broad.dtype), broad)), None)
    return None


def _autocast(device: torch.device) -> list[torch.dtype]:
    if hasattr(torch, "get_autocast_dtype"):
        return [torch.get_autocast_dtype(device.type)] if torch.is_autocast_enabled(device.type) else []
    if device.type == "cpu":
        return [torch.get_autocast_cpu_dtype()] if torch.is_autocast_cpu_enabled() else []
    return [torch.get_autocast_gpu_dtype()] if torch.is_autocast_enabled() else []


@dataclass(frozen=True, eq=False)
class Rounding:
    """What rounding does to the drops of N images.

    Attributes:
        narrow: the half precision that scores are computed in, or None.
        noise: (N,) float64 on the CPU, how far rounding alone moves the score of an image, a standard deviation.
    """

    narrow: torch.dtype | None
    noise: Tensor

    @classmethod
    def measured(cls, scorer: Scorer, inputs: tuple[Tensor, ...], scores: Tensor) -> Rounding:
        """Of a forward function; nothing is run if it computes in a wider type.

        Each image is scored again in a few copies whose pixels are rounded otherwise: they differ by up to half a step
        of the narrow type, as much as writing them in it does. The spread of these scores is what the network makes of
        rounding; it is no less than what the step of the score itself makes.

        Args:
            scorer: gives the scores.
            inputs: of the model, each (N, ...).
            scores: (K,) scores that are known already.
        """
        narrow, images = narrow_type(scorer, inputs, scores), torch.arange(len(inputs[0]))
        if narrow is None:
            return cls(None, torch.zeros(len(images), dtype=torch.float64))
        generator = torch.Generator().manual_seed(0)
        found = torch.stack(
            [
                scorer(tuple(_rounded_otherwise(x, narrow, generator) for x in inputs), images).cpu()
                for _ in range(COPIES)
            ]
        )
        step = torch.finfo(narrow).eps * found.abs().mean(0)
        return cls(narrow, torch.maximum(found.std(0), step / 12**0.5))

    def tell(self, maps: Tensor | tuple[Tensor, ...]) -> None:
        """Warns of the noise of drops, which are the difference of two scores, as a share of the largest value of maps.

        Where :func:`rounding_collected` collects shares, there is no warning.

        Args:
            maps: (N, ...) of each input.
        """
        if self.narrow is None:
            return
        each = (maps,) if isinstance(maps, Tensor) else maps
        largest = torch.stack([values.detach().abs().flatten(1).amax(1).cpu().double() for values in each]).amax(0)
        shares = 2**0.5 * self.noise / largest
        collector = _collector.get()
        if collector is not None:
            collector.append(shares)
        else:
            warn_of_rounding(shares, f"the scores are computed in {str(self.narrow).removeprefix('torch.')}")


def _rounded_otherwise(x: Tensor, narrow: torch.dtype, generator: torch.Generator) -> Tensor:
    if not x.is_floating_point():
        return x.clone()
    shift = torch.rand(x.shape, generator=generator).to(x.device) - 0.5
    return (x.detach().float() * (1 + torch.finfo(narrow).eps * shift)).to(x.dtype)


def warn_of_rounding(shares: Tensor, where: str) -> None:
    """Warns with :func:`rounding_text`, if there is any to speak of."""
    if text := rounding_text(shares, where):
        warnings.warn(text, stacklevel=user_stacklevel())


def rounding_text(shares: Tensor, where: str) -> str:
    """What the noise of drops, (N,) as shares of the largest value of each map, means; empty if it is negligible.

    Example::

        >>> rounding_text(torch.tensor([0.1, 0.2, 0.25]), "the scores are computed in bfloat16")[:101]
        'the scores are computed in bfloat16: rounding moves a drop by about 20 % of the largest value of its '
    """
    known = shares[~shares.isnan()]  # an empty map of an image without scores
    if not len(known) or float(known.max()) < NEGLIGIBLE:
        return ""
    median, worst = float(known.median()), float(known.max())
    much = f"{100 * median:.2g} %" if median < 1 else "all"
    others = f", {100 * min(worst, 1):.2g} % in the worst of {len(known)} images" if len(known) > 1 else ""
    return (
        f"{where}: rounding moves a drop by about {much} of the largest value of its map (a standard deviation"
        f"{others}); single values may be off by three times as much. Use float32 (net.float() and images.float(), "
        "without autocast), or explain log-odds (ClassConfidence), whose drops are larger."
    )


@contextmanager
def rounding_collected() -> Iterator[list[Tensor]]:
    """Inside, shares are put into the list that is given, in place of warnings."""
    found: list[Tensor] = []
    token = _collector.set(found)
    try:
        yield found
    finally:
        _collector.reset(token)


def shares_of_images(found: Sequence[Tensor], count: int) -> list[float | None]:
    """For each of ``count`` images the largest share that was collected, at most 1, None where nothing was.

    Example::

        >>> shares_of_images([torch.tensor([0.25, torch.inf]), torch.tensor([0.125, 0.25])], 2), shares_of_images([], 1)
        ([0.25, 1.0], [None])
    """
    fitting = [shares.nan_to_num(0.0).reshape(count, -1).amax(1) for shares in found if not len(shares) % count]
    return torch.stack(fitting).amax(0).clamp(max=1).tolist() if fitting else [None] * count
