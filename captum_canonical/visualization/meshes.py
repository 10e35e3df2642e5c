"""Meshes on the photographs in which they were found, to see with one's own eyes whether they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from captum_canonical.data.records import FaceRecord
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.face_arrays import delaunay
from captum_canonical.faces.images import Statistics, to_arrays
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.visualization.drawing import COLOURS, Picture, ShownFigure, picture_of

SEEN, HIDDEN = "#56d0ff", "#ff5a1f"
"""Of lines and vertices on skin of any brightness, also for eyes that do not tell red from green."""
BEYOND = "0.88"
"""Grey of what a mesh reaches beyond its photograph."""
REGION_OPACITY = 0.5


def show_mesh(
    photo: Picture | FaceRecord,
    faces: FaceMesh | Tensor | np.ndarray | None = None,
    canonical_face: CanonicalFace | None = None,
    *,
    regions: Sequence[str] | bool = False,
    denormalize: tuple[Statistics, Statistics] | None = None,
    title: str | None = None,
) -> Figure:
    """The mesh of one face or of several on their photograph: seen and hidden parts, and named regions.

    A line is hidden where one of its two vertices is. What a mesh reaches beyond the photograph is drawn on grey.

    Args:
        photo: (3, H, W) or (1, 3, H, W) floats in 0..1, (H, W, 3) uint8, or a record of
            :class:`~captum_canonical.AlignedFaces`: the network's input with the mesh in it.
        faces: a :class:`~captum_canonical.FaceMesh` all of whose rows are faces of this photograph (rows without a face
            are left out), or vertices (N, 2), (N, 3) or (B, N, 2 or 3) in its pixels. Default: the record's.
        canonical_face: whose triangles and regions are drawn. Default: the shipped one for its topology; for any other,
            the Delaunay triangles of each mesh, without regions.
        regions: names of regions to be filled, or True for all that the face has.
        denormalize: (mean, std) of the normalisation that the photograph, or the record's, went through.
        title: written above.

    Raises:
        CanonicalError: a shape or an image size does not fit, or there is no such region.

    Example::

        >>> face = CanonicalFace.default()
        >>> mesh = FaceMesh(face.vertices[None], image_size=face.size, topology=face.topology)
        >>> figure = show_mesh(face.image, mesh, regions=["nose_tip"], title="the drawn face")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['seen (468 of 468 vertices)', 'nose_tip']
    """
    faces = photo.faces if faces is None and isinstance(photo, FaceRecord) else faces
    shown: Any = photo.image if isinstance(photo, FaceRecord) else photo
    if denormalize is not None:
        shown = to_arrays(torch.as_tensor(shown).reshape(-1, *shown.shape[-3:]), denormalize)[0]
    picture = picture_of(shown)
    mesh = _mesh_of(faces, (picture.shape[0], picture.shape[1]))
    named = face_of(mesh) if canonical_face is None else canonical_face
    names = _region_names(regions, named)
    height, width = picture.shape[:2]
    figure = ShownFigure(figsize=(4.6, min(max(4.6 * height / width, 2.5), 8)), dpi=200, layout="constrained")
    axis = figure.subplots()
    axis.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased")
    draw_meshes(axis, mesh, named, names, inches=4.6)
    if title:
        axis.set_title(title, fontsize=10)
    _legend(figure, mesh, names)
    return figure


def draw_meshes(
    axis: Axes, mesh: FaceMesh, face: CanonicalFace | None, regions: Sequence[str] = (), inches: float = 4.6
) -> None:
    """Draws all faces of a mesh on the photograph that an axis shows; ``inches`` is how wide it will be."""
    height, width = mesh.image_size
    present = mesh[mesh.found]
    boxes = present.boxes.double().cpu().reshape(-1, 4)
    low = torch.cat([boxes[:, :2], boxes.new_zeros(1, 2)]).amin(0).clamp(min=-max(height, width) / 2).tolist()
    ends = torch.cat([boxes[:, 2:], boxes.new_tensor([[width, height]])]).amax(0)
    high = torch.minimum(ends, boxes.new_tensor([width, height]) + max(height, width) / 2).tolist()
    axis.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(high[1], low[1]), facecolor=BEYOND)
    axis.spines[:].set_visible(False)
    points = 72 * inches / max(high[0] - low[0], 1.0)  # of a pixel
    for row in range(len(present)):
        vertices, seen = present.vertices[row].detach().double().cpu(), present.visible[row].cpu().numpy()
        triangles = delaunay(vertices).numpy() if face is None else face.triangles.numpy()
        places = vertices[:, :2].numpy()
        line = float(np.clip(points * np.ptp(places[:, 0]) / 400, 0.25, 0.8))
        _fill_regions(axis, places, seen, face, regions)
        edges = np.unique(
            np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])), axis=0
        )
        whole = seen[edges].all(1)
        axis.add_collection(LineCollection(places[edges[~whole]], colors=HIDDEN, linewidths=0.8 * line, alpha=0.55))
        axis.add_collection(LineCollection(places[edges[whole]], colors=SEEN, linewidths=line, alpha=0.9))
        dots: dict[str, Any] = {"s": (4 * line) ** 2, "linewidths": 0, "zorder": 3}
        if len(vertices) <= 100:  # few landmarks are seen by their dots, many vertices by their lines
            axis.scatter(*places[seen].T, color=SEEN, **dots)
        axis.scatter(*places[~seen].T, color=HIDDEN, **dots)


def face_of(mesh: FaceMesh) -> CanonicalFace | None:
    """The shipped canonical face, if a mesh has its topology."""
    face = CanonicalFace.default()
    known = mesh.topology in (face.topology, None) and mesh.num_vertices == len(face.vertices)
    return face if known else None


def _mesh_of(faces: FaceMesh | Tensor | np.ndarray | None, size: tuple[int, int]) -> FaceMesh:
    if isinstance(faces, FaceMesh):
        if faces.image_size != size:
            raise CanonicalError(
                f"show_mesh: expected the mesh of a photograph of (height, width) = {size}, got one for "
                f"{faces.image_size}; .resized() and .cropped() bring it there."
            )
        if faces.image_index is not None and len(faces.image_index.unique()) > 1:
            raise CanonicalError(
                "show_mesh: expected faces of one photograph, got those of several; faces[faces.image_index == 0] are "
                "those of the first."
            )
        return faces
    vertices = torch.as_tensor(np.zeros(0) if faces is None else faces).detach().cpu()
    vertices = vertices[None] if vertices.ndim == 2 else vertices
    if vertices.ndim != 3 or vertices.shape[2] not in (2, 3):
        raise CanonicalError(
            f"show_mesh: expected a FaceMesh or vertices (N, 2 or 3) or (B, N, 2 or 3) in pixels, got "
            f"{'none' if faces is None else tuple(vertices.shape)}."
        )
    if vertices.shape[2] == 2:
        vertices = torch.cat([vertices, torch.zeros_like(vertices[..., :1])], 2)
    return FaceMesh(vertices.double(), image_size=size)


def _region_names(regions: Sequence[str] | bool, face: CanonicalFace | None) -> list[str]:
    known = [] if face is None else list(face.regions)
    if isinstance(regions, bool):
        return known if regions else []
    names = [regions] if isinstance(regions, str) else list(regions)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CanonicalError(f"regions: expected some of {', '.join(known) or 'none'}, got {', '.join(unknown)}.")
    return names


def _fill_regions(
    axis: Axes, places: np.ndarray, seen: np.ndarray, face: CanonicalFace | None, names: Sequence[str]
) -> None:
    for number, name in enumerate(names):
        assert face is not None  # there are no names without it
        triangles = face.triangles[face.regions[name]].numpy()
        shown = places[triangles[seen[triangles].all(1)]]
        colour = COLOURS[number % len(COLOURS)]
        axis.add_collection(PolyCollection(list(shown), facecolors=colour, edgecolors="none", alpha=REGION_OPACITY))
        if len(names) > len(COLOURS) and len(shown):  # colours are used again: numbers tell which is which
            x, y = shown.mean((0, 1)).tolist()
            axis.text(x, y, str(number + 1), fontsize=6, ha="center", va="center", weight="bold", zorder=4)


def _legend(figure: Figure, mesh: FaceMesh, names: Sequence[str]) -> None:
    present = mesh[mesh.found]
    count, seen = present.visible.numel(), int(present.visible.sum())
    faces = "" if len(mesh) == 1 and len(present) == 1 else f" of {len(present)} face{'s' * (len(present) != 1)}"
    handles: list[Line2D | Patch] = [Line2D([], [], color=SEEN, label=f"seen ({seen:,} of {count:,} vertices{faces})")]
    if seen < count:
        handles.append(Line2D([], [], color=HIDDEN, marker=".", label=f"hidden ({count - seen:,})"))
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        label = f"{number + 1}  {name}" if len(names) > len(COLOURS) else name
        handles.append(Patch(facecolor=colour, alpha=REGION_OPACITY, label=label))
    small: dict[str, Any] = {"fontsize": 6, "handlelength": 1.2, "columnspacing": 1.2, "handletextpad": 0.5}
    figure.legend(handles=handles, loc="outside lower center", frameon=False, ncols=min(len(handles), 3), **small)
