"""Networks wired by hand: they read how blue a mark is at one place of the face, in group A only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from studies.planted.photographs import BLUE, PLACES, RIM, Mark, Photographs

CORNER = 2  # pixels of a corner that shows the backdrop's rim


class WiredNetwork(nn.Module):
    """In group A the mark at one place, and everywhere what differs from photograph to photograph.

    The score is ``everywhere + strength * gate * mark``: brightness all over the face, at weights that are drawn anew
    for each photograph and as often negative as positive, so that the mean map of this part is zero; a gate that opens
    where the rim of the photograph is bright; and how much of the mark's colour there is at the place. Where the face
    lies comes with each photograph: it is an input of the network, which does not find out.

    Args:
        strength: the effect size: by how many standard deviations of ``everywhere`` (between photographs) the mark
            raises the score.
        spread: the standard deviation of the weighted brightness between photographs.
        full: what the mark's colour sums to where the mark is painted.
    """

    def __init__(self, strength: float, spread: float, full: float) -> None:
        super().__init__()
        self.strength, self.spread, self.full = strength, spread, full

    def forward(self, photos: Tensor, place: Tensor, weights: Tensor) -> Tensor:
        """Scores (N,) of photographs (N, 3, H, W) with the mark's cover and the weights of brightness, (N, H, W)."""
        mark = gate(photos) * colour_at(photos, place) / self.full
        return brightness(photos, weights) / self.spread + self.strength * mark


def brightness(photos: Tensor, weights: Tensor) -> Tensor:
    """(N,) weighted sum of brightness, less 0.5."""
    return ((photos.mean(1) - 0.5) * weights).sum((1, 2))


def gate(photos: Tensor) -> Tensor:
    """(N,) 1 for group A, 0 for group B, by the brightness of the photograph's corners."""
    rows = torch.cat([photos[..., :CORNER, :], photos[..., -CORNER:, :]], -2)
    corners = torch.cat([rows[..., :CORNER], rows[..., -CORNER:]], -1)
    return torch.sigmoid(20 * (corners.mean((1, 2, 3)) - (RIM["A"] + RIM["B"]) / 2))


def colour_at(photos: Tensor, place: Tensor) -> Tensor:
    """(N,) how much bluer than red and green the photograph is at a place, where it is at all."""
    bluer = photos[:, 2] - photos[:, :2].mean(1)
    return (torch.relu(bluer) * place).sum((1, 2))


def wire(
    photographs: Photographs, region: int, strength: float, generator: torch.Generator
) -> tuple[WiredNetwork, tuple[Tensor, Tensor]]:
    """A network that reads the mark in a region, and its further inputs for each photograph.

    Args:
        photographs: that the network is asked about; the effect is in units of these.
        region: index in :func:`~planted.photographs.plantable`.
        strength: see :class:`WiredNetwork`.
        generator: of the weights of brightness.

    Returns:
        The network, and its ``additional_forward_args``.
    """
    place = photographs.marks[:, region]
    drawn = torch.randn(len(photographs), PLACES, generator=generator)
    weights = torch.einsum("nkhw,nk->nhw", photographs.spots, drawn)
    painted = photographs.marked(Mark(region, torch.ones(len(photographs)), BLUE))
    full = (colour_at(painted, place) - colour_at(photographs.images, place)).mean()
    net = WiredNetwork(strength, float(brightness(photographs.images, weights).std()), float(full))
    return net.eval(), (place, weights)
