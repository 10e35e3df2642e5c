"""Controls: maps that do not depend on the network, which any method must beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical.attributions.arguments import patch_side, prefix_of
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.benchmarking.photos import BenchmarkPhotos, held_out_folds
from captum_canonical.benchmarking.settings import BenchmarkSettings
from captum_canonical.faces.splat import fill_in, footprints, splat


def random_maps(photos: BenchmarkPhotos, seed: int, patch_size: float | None, num_points: int | None) -> Tensor:
    """(N, 1, H_F, W_F) normal noise at the occlusion points, blurred as canonical occlusion blurs its drops.

    The map of an image depends on its place in the data, the seed, the patch and the points only.
    """
    face = photos.face
    side = patch_side(patch_size, photos.images) * face.size[0] / photos.images.shape[-2]
    places = face.points(face.vertices)
    generator = torch.Generator()
    drops = torch.stack(
        [torch.randn(face.num_points, generator=generator.manual_seed(seed + row)) for row in photos.kept.tolist()]
    )
    drawn = prefix_of(face, num_points).expand(drops.shape)
    drops, painted = fill_in(drops.double(), drawn, torch.ones_like(drawn), places)
    maps, _ = splat(footprints(places[None, :, :2], side, face.size), drops, painted, face.size)
    return maps.to(photos.images.device, torch.float32)


def uniform_maps(photos: BenchmarkPhotos) -> Tensor:
    """(N, 1, H, W), 1 on the face."""
    return photos.area.float()


def prior_maps(photos: BenchmarkPhotos) -> Tensor:
    """(N, 1, H, W), the mean face mask of the other folds: the share of their photos in which a pixel shows the face.

    Raises:
        CanonicalError: there are no other folds.
    """
    masks = photos.area.double()
    maps = torch.zeros_like(masks)
    for held_out, others in held_out_folds(photos):
        maps[held_out.to(maps.device)] = masks[others.to(maps.device)].mean(0, keepdim=True)
    return maps.float()


def edge_maps(photos: BenchmarkPhotos) -> Tensor:
    """(N, 1, H, W) magnitude of Sobel's gradient of the mean over the channels; the border repeats its pixels."""
    grey = F.pad(photos.images.double().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)
    x, y = (F.conv2d(grey, kernel[None, None]) for kernel in (across, across.T))
    return torch.hypot(x, y).float()


Control = Callable[[BenchmarkPhotos, BenchmarkSettings], tuple[Tensor, Any, Any]]

CONTROLS: dict[str, Control] = {
    "random": lambda photos, s: _from_canonical(photos, random_maps(photos, s.seed, s.random_patch, s.random_points)),
    "uniform": lambda photos, settings: (uniform_maps(photos), None, None),
    "mean face": lambda photos, settings: (prior_maps(photos), None, None),
    "edges": lambda photos, settings: _from_image(photos, edge_maps(photos)),
}
"""Name -> maps in image space, and on the canonical face with their coverage, or None where there is but one map."""


def _from_canonical(photos: BenchmarkPhotos, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projector = CanonicalProjector(None, canonical_face=photos.face)
    return projector.reproject(maps, photos.faces), maps, torch.ones_like(maps)  # type: ignore[return-value]


def _from_image(photos: BenchmarkPhotos, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projector = CanonicalProjector(None, canonical_face=photos.face)
    return (maps, *projector.project(maps, photos.faces, return_coverage=True))
