"""A network with a known answer: it learns to notice a mark painted at the outer eye corners.

It learns from copies of scikit-image's astronaut (NASA, public domain), or of the photographs of a folder. The quick
start, the examples with other packages, ``report_page.py`` and the gallery of the documentation use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.faces.photos import list_photos, read_photo

SIZE = 64  # pixels of a training copy
SOURCE = 192  # pixels of the crop that copies are made from
OUTER_EYE_CORNERS = (33, 263)  # vertices of the person's right and left eye
MARK_RADIUS = 0.07  # of the distance between the outer eye corners, as the rest below
MARK_OFFSET = 0.11  # outwards from the corner, where an eyeliner's wing would be
REGION_RADIUS = 0.14  # of the discs in which we expect the saliency: mark plus half a patch. Fixed before training.
MARK_COLOUR = (0.25, 0.05, 0.3)
PATCH = 5


# ---------------------------------------------------------------------------------------------------------- copies
@dataclass(frozen=True)
class Faces:
    """Square crops around faces, without and with the mark, and their meshes."""

    clean: Tensor  # (B, 3, SOURCE, SOURCE)
    marked: Tensor
    mesh: cc.FaceMesh


def load_faces(folder: Path | None) -> Faces:
    """The astronaut, or every photograph of a folder in which a face is found, cropped around the face."""
    if folder is None:
        from skimage import data

        photos = [data.astronaut()]
    else:
        photos = [read_photo(path) for path in list_photos(folder)]
    aligner = FaceMeshAligner(on_missing="skip")
    crops, meshes = [], []
    for photo in photos:
        mesh = aligner([photo])
        if mesh.missing:
            continue
        left, top, right, bottom = mesh.boxes[0].tolist()
        side = round(1.35 * max(right - left, bottom - top))  # the size of an image is whole
        corner = ((left + right - side) / 2, (top + bottom - side) / 2)
        mesh = mesh.cropped(*corner, side, side).resized((SOURCE, SOURCE))
        crops.append(sample(torch.from_numpy(photo).permute(2, 0, 1)[None] / 255, corner, side))
        meshes.append(mesh)
    clean, mesh = torch.cat(crops), cc.FaceMesh.cat(meshes)
    return Faces(clean, paint_marks(clean, mesh.vertices), mesh)


def sample(photo: Tensor, corner: tuple[float, float], side: float) -> Tensor:
    """The square at ``corner`` of a photograph (1, 3, H, W), resized to SOURCE."""
    height, width = photo.shape[-2:]
    step = (torch.arange(SOURCE) + 0.5) * side / SOURCE
    x, y = 2 * (corner[0] + step) / width - 1, 2 * (corner[1] + step) / height - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    return F.grid_sample(photo, grid, padding_mode="border", align_corners=False)


def mark_centres(vertices: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2, 2) where the marks go, and (B,) the distance between the outer eye corners, in pixels."""
    corners = vertices[:, OUTER_EYE_CORNERS, :2]
    across = corners[:, 1] - corners[:, 0]
    outwards = torch.stack([-across, across], 1)
    return corners + MARK_OFFSET * outwards, across.norm(dim=1)


def discs(vertices: Tensor, radius: float, size: tuple[int, int]) -> Tensor:
    """(B, H, W) soft discs at the marks' places; ``radius`` in eye distances."""
    centres, unit = mark_centres(vertices)
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    distance = (torch.stack([x, y], -1)[None, None] - centres[:, :, None, None]).norm(dim=-1)
    return (radius * unit[:, None, None, None] - distance + 0.5).clamp(0, 1).amax(1)


def paint_marks(photos: Tensor, vertices: Tensor) -> Tensor:
    """The photographs with a dark disc beyond each outer eye corner."""
    opacity = 0.8 * discs(vertices.float(), MARK_RADIUS, photos.shape[-2:])[:, None]
    return photos * (1 - opacity) + torch.tensor(MARK_COLOUR).view(3, 1, 1) * opacity


def copies(
    faces: Faces, count: int, generator: torch.Generator, mark: bool = True
) -> tuple[Tensor, Tensor, cc.FaceMesh]:
    """Turned, scaled, shifted, mirrored, re-lit, noisy copies; every second one is labelled 1 and carries the mark.

    With the mark they come in pairs that differ by it (and their noise) only. Without it every copy is drawn by itself:
    pairs would be equal, and teach the control network nothing at all, not even to tell copies apart.

    Returns:
        copies (count, 3, SIZE, SIZE), labels (count,) 0, 1, 0, 1, ..., and the mesh in each copy.
    """
    twins = 2 if mark else 1

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = low + (high - low) * torch.rand(count // twins, *shape, generator=generator)
        return drawn.repeat_interleave(twins, 0)

    which = torch.randint(len(faces.clean), (count // twins,), generator=generator).repeat_interleave(twins)
    labels = (torch.arange(count) % 2).float()
    angle, scale = uniform(-0.35, 0.35), uniform(0.85, 1.15) * torch.where(uniform(0, 1) < 0.5, 1.0, -1.0)
    # From a copy's coordinates (-1..1) to those of the source crop: a mirrored copy has a negative x scale.
    cos, sin = torch.cos(angle), torch.sin(angle)
    linear = torch.stack([cos * scale, -sin * scale.abs(), sin * scale, cos * scale.abs()], 1).view(-1, 2, 2)
    shift = uniform(-0.12, 0.12, 2, 1)
    grid = F.affine_grid(torch.cat([linear, shift], 2), [count, 3, SIZE, SIZE], align_corners=False)
    strength = (labels * uniform(0.7, 1.0))[:, None, None, None] if mark else 0.0
    source = faces.clean[which] + strength * (faces.marked - faces.clean)[which]
    photos = F.grid_sample(F.avg_pool2d(source, 2), grid, padding_mode="border", align_corners=False)
    photos = (photos - 0.5) * uniform(0.9, 1.1, 3, 1, 1) + 0.5 + uniform(-0.05, 0.05, 1, 1, 1)
    photos = (photos + 0.03 * torch.randn(photos.shape, generator=generator)).clamp(0, 1)
    return photos, labels, moved_mesh(faces.mesh[which], linear, shift)


def moved_mesh(mesh: cc.FaceMesh, linear: Tensor, shift: Tensor) -> cc.FaceMesh:
    """The mesh in copies whose pixels come from ``linear @ place + shift`` of the source, all in -1..1."""
    place = 2 * mesh.vertices[..., :2] / SOURCE - 1
    inside = torch.linalg.solve(linear, (place.transpose(1, 2) - shift)).transpose(1, 2)
    depth = mesh.vertices[..., 2:] * SIZE / SOURCE / linear[:, 0].norm(dim=1)[:, None, None]
    vertices = torch.cat([(inside + 1) * SIZE / 2, depth], 2)
    mirrored = torch.linalg.det(linear) < 0
    swap = cc.CanonicalFace.default().permutation
    vertices = torch.where(mirrored[:, None, None], vertices[:, swap], vertices)
    visible = torch.where(mirrored[:, None], mesh.visible[:, swap], mesh.visible)
    return cc.FaceMesh(vertices, visible, (SIZE, SIZE), mesh.topology)


# --------------------------------------------------------------------------------------------------------- network
def train(faces: Faces, seed: int, mark: bool, steps: int = 350) -> nn.Sequential:
    """A four-layer network that tells marked copies from unmarked ones, or (control) the same without marks."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for wide_in, wide_out in [(3, 16), (16, 32), (32, 32), (32, 64)]:
        layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers[-1] = nn.AdaptiveAvgPool2d(1)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        photos, labels, _ = copies(faces, 32, generator, mark)
        loss = F.binary_cross_entropy_with_logits(net(photos)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def accuracy(net: nn.Module, photos: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(((net(photos)[:, 0] > 0) == (labels > 0.5)).float().mean())


def share_in_region(saliency: Tensor, region: Tensor, face: Tensor, of: Tensor | None = None) -> float:
    """How much positive saliency lies in the region, as a share of that of another map, or of its own, on the face."""
    positive, whole = (each[0].clamp(min=0) * face for each in (saliency, saliency if of is None else of))
    return float((positive * region).sum() / whole.sum())  # NaN where no saliency is positive
