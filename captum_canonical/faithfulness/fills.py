"""What the hidden pixels of an image become: a constant, the image's mean, a blurred copy, or a custom fill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_canonical.checks import check_representable
from captum_canonical.errors import CanonicalError
from captum_canonical.plugins import FILLS


class Fill(ABC):
    """Base class of fills: a callable from images and a mask of hidden pixels to what these pixels become.

    A fill with a name (``FILLS.register``, or an entry point in the group ``captum_canonical.fills``) is used by that
    name wherever fills are given, on the command line too; its class must need no arguments.

    Attributes:
        name: what tables and reports call the fill. Default: the name of the class.
        uses_hidden: whether the values depend on which pixels are hidden, as imputed ones do. If not, the fill is
            called once for each image with all pixels hidden, and pixels may be hidden partly; if it does (the
            default), it is called for each mask, and pixels are hidden as a whole.

    Example::

        >>> class MirrorFill(Fill):
        ...     name = "mirror"
        ...     uses_hidden = False
        ...     def __call__(self, images, hidden):
        ...         return images.flip(3)
        >>> fill_pixels(torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool), MirrorFill())
        tensor([[[[2., 1.]]]])
        >>> fill_pixels(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[True, False]]]]), 0)
        tensor([[[[0., 2.]]]])
    """

    uses_hidden: bool = True

    @property
    def name(self) -> str:
        """For tables and reports."""
        return type(self).__name__

    @abstractmethod
    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """The values of hidden pixels; those of other pixels are not used.

        Args:
            images: (N, C, H, W), which must not be changed.
            hidden: (N, 1, H, W) bool.

        Returns:
            (N, C, H, W).
        """


FillLike = str | float | Tensor | Fill | Callable[[Tensor, Tensor], Tensor]
"""A fill, its name, a constant (a number, or a tensor that broadcasts against the images), or a function
``fill(images, hidden)``, which is taken to depend on which pixels are hidden."""


@FILLS.register("zero")
@dataclass(frozen=True, eq=False)
class ConstantFill(Fill):
    """Hidden pixels become one value: a number, or a tensor (mean face) that broadcasts against the images.

    0 is the paper's choice. In inputs that were normalised it is no black but the grey of the training set.

    Example::

        >>> ConstantFill(0.5)(torch.rand(1, 1, 1, 2), torch.ones(1, 1, 1, 2, dtype=torch.bool)), ConstantFill().name
        (tensor([[[[0.5000, 0.5000]]]]), 'zero')
    """

    uses_hidden = False
    value: float | Tensor = 0.0

    @property
    def name(self) -> str:
        """For tables and reports."""
        if isinstance(self.value, Tensor):
            return f"constant {tuple(self.value.shape)}"
        return "zero" if self.value == 0 else f"constant {self.value:g}"

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W) of the value."""
        value = torch.as_tensor(self.value, dtype=images.dtype, device=images.device)
        try:
            return value.expand(images.shape)
        except RuntimeError as error:
            raise CanonicalError(
                f"fill: a tensor of shape {tuple(value.shape)} does not broadcast against images of shape "
                f"{tuple(images.shape)}."
            ) from error


@FILLS.register("mean")
@dataclass(frozen=True)
class MeanFill(Fill):
    """Hidden pixels become the mean of their channel over the whole of their image.

    Example::

        >>> MeanFill()(torch.tensor([[[[0.0, 1.0]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool))
        tensor([[[[0.5000, 0.5000]]]])
    """

    name = "mean"
    uses_hidden = False

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W), constant in each channel of each image."""
        return images.double().mean((2, 3), keepdim=True).to(images.dtype).expand(images.shape)


@FILLS.register("blur")
@dataclass(frozen=True)
class BlurFill(Fill):
    """Hidden pixels become those of the image blurred by a Gaussian (cut off and renormalised at the border).

    Args:
        sigma: standard deviation in pixels. Default: 1/16 of the height, 14 pixels at 224.

    Example::

        >>> blurred = BlurFill(sigma=2.0)(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool))
        >>> blurred.shape, bool(blurred.std() < 0.2)
        (torch.Size([1, 3, 16, 16]), True)
    """

    uses_hidden = False
    sigma: float | None = None

    @property
    def name(self) -> str:
        """For tables and reports."""
        return "blur" if self.sigma is None else f"blur {self.sigma:g}"

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W)."""
        height, width = images.shape[2:]
        sigma = height / 16 if self.sigma is None else float(self.sigma)
        if not 0 < sigma < float("inf"):
            raise CanonicalError(f"BlurFill: expected a sigma above 0 pixels, got {self.sigma!r}.")
        rows, columns = (_blur_matrix(length, sigma).to(images) for length in (height, width))
        return rows @ images @ columns.T


def _blur_matrix(length: int, sigma: float) -> Tensor:
    """(L, L) float64, row i the weights of all pixels in the blurred pixel i; each row sums to 1."""
    place = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


@dataclass(frozen=True)
class FunctionFill(Fill):
    """A function ``fill(images, hidden)`` as a fill."""

    function: Callable[[Tensor, Tensor], Tensor]

    @property
    def name(self) -> str:
        """For tables and reports."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
        """(N, C, H, W), what the function returns."""
        return self.function(images, hidden)


def as_fill(fill: FillLike) -> Fill:
    """The fill that a name (such as ``"mean"``), a number, a tensor or a function stands for.

    Raises:
        CanonicalError: an unknown name, or something that is no fill.
    """
    if isinstance(fill, str) and fill in FILLS:
        fill = FILLS.load(fill)
    if isinstance(fill, type) and issubclass(fill, Fill):
        fill = fill()
    if isinstance(fill, Fill):
        return fill
    if isinstance(fill, (int, float, Tensor)) and not isinstance(fill, bool):
        return ConstantFill(fill)
    if isinstance(fill, (str, type)) or not callable(fill):
        raise CanonicalError(
            f"fill: expected one of {list(FILLS.names())}, a number, a tensor or a callable, got {fill!r}."
        )
    return FunctionFill(fill)


def fill_name(fill: FillLike) -> str:
    """What tables and reports call the fill."""
    made = as_fill(fill)
    return fill if isinstance(fill, str) else made.name


def fill_pixels(images: Tensor, hidden: Tensor, fill: FillLike) -> Tensor:
    """The images with the hidden pixels filled and all others as they are, (N, C, H, W).

    Args:
        images: (N, C, H, W).
        hidden: (N, 1, H, W) bool.
        fill: a fill, its name, a number, a tensor or a function, see :func:`as_fill`.

    Raises:
        CanonicalError: the fill is unknown, returns another shape, or values that integer images cannot hold.
    """
    filled = as_fill(fill)(images if images.is_floating_point() else images.double(), hidden)
    if not isinstance(filled, Tensor) or filled.shape != images.shape:
        raise CanonicalError(
            f"fill {fill_name(fill)!r}: expected images of shape {tuple(images.shape)}, got "
            f"{tuple(filled.shape) if isinstance(filled, Tensor) else type(filled).__name__}."
        )
    gone = hidden.to(images.device) > 0
    check_representable(f"fill {fill_name(fill)!r}", filled.to(images.device)[gone.expand_as(filled)], images.dtype)
    return torch.where(gone, filled.to(images), images)


def filled_once(images: Tensor, fill: FillLike) -> Tensor | None:
    """(N, C, H, W), what any pixels of the images become, or None where that depends on which are hidden.

    Batches of the images take their rows from it, so that a tensor may have an entry for each image.
    """
    if as_fill(fill).uses_hidden:
        return None
    return fill_pixels(images, torch.ones_like(images[:, :1], dtype=torch.bool), fill)
