"""Maps of simulated people on a small canonical face, whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical.faces.canonical_face import CanonicalFace

SIZE = 24


def smooth_noise(count: int, generator: torch.Generator, size: int = SIZE) -> Tensor:
    """(N, 1, S, S) with a standard deviation of 1 and about as coarse as maps of occluded patches."""
    weights = torch.exp(-(torch.arange(-3, 4.0) ** 2) / 4.5)
    weights = weights / weights.square().sum().sqrt()
    noise = torch.randn(count, 1, size + 6, size + 6, generator=generator)
    return F.conv2d(F.conv2d(noise, weights[None, None, :, None]), weights[None, None, None, :])


def true_map(face: CanonicalFace, elsewhere: float = 0.1) -> Tensor:
    """(H, W) float64: both eyes, nose and mouth, one side more than the other.

    Args:
        face: with the shipped regions.
        elsewhere: what all pixels have besides; with 0, half of the face has nothing at all.
    """
    rows, columns = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in face.size), indexing="ij")
    total = torch.zeros(face.size, dtype=torch.float64)
    for region, height in (("eye_left", 0.5), ("eye_right", 0.4), ("nose_tip", 0.3), ("upper_lip", 0.2)):
        inside = face.region_mask(region)
        distance = (rows - rows[inside].mean()) ** 2 + (columns - columns[inside].mean()) ** 2
        total += height * torch.exp(-distance / (2 * (face.size[0] / 10) ** 2))
    return total + elsewhere if elsewhere else torch.where(total > 0.02, total, 0.0)


def people(
    face: CanonicalFace,
    count: int,
    generator: torch.Generator,
    photos: int | Sequence[int] = 1,
    noise: float = 0.3,
    elsewhere: float = 0.1,
) -> tuple[Tensor, list[str]]:
    """Maps (N, 1, H, W) of so many people, with as many photographs each as ``photos`` says, and who is on each.

    A person's map is the true one times an exponentially distributed number (some networks' scores hardly move for
    most, and a lot for some people) plus smooth noise; with several photographs, half of the noise's variance is the
    person's own, the other half each photograph's.
    """
    truth = true_map(face, elsewhere).float()
    size = face.size[0]
    strength = torch.empty(count, 1, 1, 1).exponential_(generator=generator)
    own = smooth_noise(count, generator, size)
    numbers = torch.tensor(photos).expand(count)
    several = int(numbers.max()) > 1
    maps = (strength * truth + noise * own * (0.5**0.5 if several else 1)).repeat_interleave(numbers, 0)
    if several:
        maps = maps + noise * 0.5**0.5 * smooth_noise(len(maps), generator, size)
    return maps, [f"person {number}" for number, each in enumerate(numbers.tolist()) for _ in range(each)]
