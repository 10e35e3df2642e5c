"""The doubtful faces of a data set on one sheet, and photographs that are left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from captum_canonical.checks import check_integer
from captum_canonical.data.aligned_faces import MAX_PIXELS, AlignedFaces
from captum_canonical.data.alignment import UNREADABLE
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.images import crop_photo
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photos import load_photo
from captum_canonical.faces.quality import head_pose
from captum_canonical.visualization.drawing import ShownFigure, wrapped
from captum_canonical.visualization.meshes import BEYOND, HIDDEN, SEEN, draw_meshes, face_of

LIMITS = {"outside": 0.1, "size": 64.0, "yaw": 45.0, "pitch": 30.0, "disagreement": 0.035}
"""From where on a face is doubtful: share of vertices beyond the photograph, longer side in pixels (below), degrees,
disagreement with the mirrored photograph (:data:`~captum_canonical.faces.quality.QUALITY`)."""
AROUND, SIDE = 1.5, 192  # times the longer side of the face's box; pixels of a tile
LETTERS = 24  # of a label in one line


@dataclass(frozen=True)
class Doubt:
    """Why a face is doubtful.

    Attributes:
        place: of its photograph among all of the source.
        measures: in words -> how much of its limit it has; from 1 on it is doubtful.
    """

    place: int
    measures: dict[str, float]

    @property
    def degree(self) -> float:
        """Of the worst measure."""
        return max(self.measures.values())

    @property
    def text(self) -> str:
        """The worst measures, at most two, and the second only if it is doubtful too."""
        first, *others = sorted(self.measures.items(), key=lambda item: -item[1])
        return ", ".join([first[0], *(text for text, degree in others[:1] if degree >= 1)])


def doubt_of(place: int, mesh: FaceMesh) -> Doubt:
    """What a mesh of one row says against itself, by the :data:`LIMITS`.

    Example::

        >>> from captum_canonical import CanonicalFace
        >>> face = CanonicalFace.default()
        >>> mesh = FaceMesh(face.vertices[None] / 8, image_size=(28, 28), topology=face.topology)
        >>> doubt_of(0, mesh).text
        '25 px'
    """
    plane, (height, width) = mesh.vertices[0, :, :2].double(), mesh.image_size
    outside = float(((plane < 0) | (plane > plane.new_tensor([width, height]))).any(1).double().mean())
    size = float((plane.amax(0) - plane.amin(0)).max())
    measures = {
        f"{outside:.0%} outside": outside / LIMITS["outside"],
        f"{size:.0f} px": LIMITS["size"] / max(size, 1e-3),
    }
    face = face_of(mesh)
    pose = () if face is None else head_pose(mesh, face)[0].tolist()
    for name, degrees in zip(("yaw", "pitch"), pose, strict=False):
        if np.isfinite(degrees):
            measures[f"{name} {round(degrees)}\N{DEGREE SIGN}"] = abs(degrees) / LIMITS[name]
    disagreement = float(mesh.quality_of("disagreement")[0])
    if np.isfinite(disagreement):
        measures[f"{disagreement:.1%} off when mirrored"] = disagreement / LIMITS["disagreement"]
    return Doubt(place, measures)


def contact_sheet(data: AlignedFaces, limit: int = 48, *, columns: int = 8, title: str | None = None) -> Figure:
    """The most doubtful faces of a data set with their meshes, worst first, and photographs that are left out.

    Each tile shows the part around the face, grey beyond the photograph, with what is against it: vertices outside, a
    small face, a head that looks away. Most of these faces are found well; what to look for are meshes that do not
    fit. Photographs that are left out, at most a third of the tiles, come last, each with its reason.

    Args:
        data: whose faces are found first, if they are not known.
        limit: tiles at most.
        columns: tiles in a row.
        title: written above. Default: how many there are.

    Raises:
        CanonicalError: an argument is out of its range.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> from captum_canonical import CanonicalFace
        >>> face = CanonicalFace.default()
        >>> mesh = FaceMesh(face.vertices[None], image_size=face.size, topology=face.topology)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray((255 * face.image.permute(1, 2, 0)).byte().numpy()).save(f"{folder}/drawn.png")
        ...     figure = contact_sheet(AlignedFaces(folder, faces=mesh, size=64))
        >>> figure.get_suptitle()
        '1 photograph: 1 face'
    """
    check_integer("limit", limit, 1)
    check_integer("columns", columns, 1)
    doubts = sorted((doubt_of(place, data.mesh(place)) for place in data.places), key=lambda each: -each.degree)
    left_out = list(data.left_out)
    missing = left_out[: max(limit // 3, limit - len(doubts))]
    shown = doubts[: limit - len(missing)]
    cells = len(shown) + len(missing)
    columns = min(columns, max(cells, 1))
    rows = max(1, -(-cells // columns))
    figure = ShownFigure(figsize=(1.6 * columns, 2.05 * rows + 0.5), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, doubt in zip(axes.flat, shown, strict=False):
        _draw_face(axis, data, doubt)
    for axis, place in zip(axes.flat[len(shown) :], missing, strict=False):
        _draw_left_out(axis, data, place)
    lines = [Line2D([], [], color=SEEN, label="seen"), Line2D([], [], color=HIDDEN, label="hidden")]
    figure.legend(handles=lines[: 2 * bool(shown)], loc="outside lower center", fontsize=7, frameon=False, ncols=2)
    figure.suptitle(title or _title(data, len(shown), len(missing)), fontsize=10)
    return figure


def _title(data: AlignedFaces, shown: int, missing: int) -> str:
    """Such as "167 photographs: the 40 most doubtful of 159 faces, then the 8 left out"."""
    total, found, left_out = len(data.rows), len(data), len(data.left_out)
    faces = (
        f"all {found:,} faces, the most doubtful first"
        if shown == found
        else f"the {shown} most doubtful of {found:,} faces"
    )
    parts = ["1 face" if found == 1 else faces] if shown else []
    if missing:
        parts.append(f"the {missing} left out" if missing == left_out else f"{missing} of {left_out:,} left out")
    return f"{total:,} photograph{'s' if total != 1 else ''}: {', then '.join(parts)}"


def _draw_face(axis: Axes, data: AlignedFaces, doubt: Doubt) -> None:
    label = _label(data, doubt.place, doubt.text)
    try:
        photo, mesh = data.photo_and_mesh(doubt.place)
    except CanonicalError:
        _draw_note(axis, label, "the file has changed")
        return
    left, top, right, bottom = mesh.boxes[0].double().tolist()
    side = max(right - left, bottom - top, 1.0) * AROUND
    low = ((left + right - side) / 2, (top + bottom - side) / 2)
    tile = crop_photo(photo, (*low, low[0] + side, low[1] + side), (SIDE, SIDE), 255 * float(BEYOND))
    shift, scale = mesh.vertices.new_tensor([*low, 0.0]), SIDE / side
    moved = replace(mesh, vertices=(mesh.vertices - shift) * scale, image_size=(SIDE, SIDE))
    _draw_tile(axis, tile, label)
    draw_meshes(axis, moved, face_of(moved), inches=1.5)


def _draw_left_out(axis: Axes, data: AlignedFaces, place: int) -> None:
    left = data.left_out[place]
    label = _label(data, place, left.kind)
    try:
        photo = None if left.kind == UNREADABLE else load_photo(left.path, MAX_PIXELS).pixels
    except CanonicalError:
        photo = None
    if photo is None:
        _draw_note(axis, label, left.reason)
        return
    (height, width), side = photo.shape[:2], max(photo.shape[:2])
    low = ((width - side) / 2, (height - side) / 2)
    tile = crop_photo(photo, (*low, low[0] + side, low[1] + side), (SIDE, SIDE), 255 * float(BEYOND))
    _draw_tile(axis, tile, label)
    axis.set_xlabel(wrapped(_cut(left.reason), LETTERS + 6), fontsize=5.5, labelpad=2, parse_math=False)


def _draw_tile(axis: Axes, tile: np.ndarray, label: str) -> None:
    axis.set_axis_on()
    axis.imshow(tile, extent=(0, SIDE, SIDE, 0), interpolation="antialiased")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(label, fontsize=6.5, pad=2, parse_math=False)


def _draw_note(axis: Axes, label: str, text: str) -> None:
    _draw_tile(axis, np.full((SIDE, SIDE, 3), round(255 * float(BEYOND)), np.uint8), label)
    axis.text(
        SIDE / 2, SIDE / 2, wrapped(_cut(text), LETTERS), fontsize=5.5, ha="center", va="center", parse_math=False
    )


def _cut(text: str, letters: int = 160) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}\N{HORIZONTAL ELLIPSIS}"


def _label(data: AlignedFaces, place: int, text: str) -> str:
    name = Path(data.rows[place].name).name
    short = name if len(name) <= LETTERS else f"{name[:10]}\N{HORIZONTAL ELLIPSIS}{name[-(LETTERS - 11) :]}"
    return f"{short}\n{text}"
