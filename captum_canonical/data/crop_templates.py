"""Crops by templates: where a few points of the face lie in the crops that a network was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.landmarks import FIVE_POINTS, FIVE_POINTS_468, LANDMARKS_OF, TOPOLOGY_OF
from captum_canonical.checks import check_integer, check_number, check_several, check_size
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.images import check_one_face
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.similarity import Similarity, crop_by_similarity, fit_similarity

Groups = Sequence[int | Sequence[int]]
"""For each point one index, or several whose mean it is."""


@dataclass(frozen=True)
class CropTemplate:
    """Where a few points of the face lie in every crop: the preprocessing of networks that recognise faces.

    The photograph is turned, scaled and shifted by the similarity that takes the face's points nearest to the
    template's, in least squares (Umeyama 1991). ``AlignedFaces(crop=...)`` takes a template, or the name of one of
    :data:`CROP_TEMPLATES`.

    Args:
        points: (K, 2) x and y of at least two points in the crop. Pixel (row r, column c) covers [c, c + 1) x
            [r, r + 1) here; a template made for ``cv2.warpAffine``, for which the middles of pixels are whole numbers,
            has 0.5 added to both.
        size: (H, W) of the crop in which the points are, or one number for a square.
        landmarks: which points of the face they are, by their numbers among iBUG's 68 landmarks (300-W, from 0): for
            each one number, or several of which the mean counts. Meshes of the topologies ``mediapipe-468``,
            ``ibug-68`` (the landmarks themselves), ``prnet-2194`` and ``prnet-43867`` have them. Default: the five of
            most templates: eye on the image's left (the mean of its six landmarks), other eye, tip of the nose, corners
            of the mouth; these may also be all that a mesh has (``keypoints-5``).
        vertices: which points they are as vertices of a mesh of any other topology, in place of ``landmarks``.
        upright: only scale and shift, without turning the photograph, for networks whose crops are the boxes of a
            detector.
        stretch: how many times wider than it is the face is in the crop, for boxes that were squeezed into a square;
            by default the similarity is all that is done.
        name: for messages and reports.

    Raises:
        CanonicalError: an argument is not as above.

    Example::

        >>> eyes = CropTemplate([(20, 24), (44, 24)], 64, landmarks=[range(36, 42), range(42, 48)], name="eyes")
        >>> eyes, eyes.resized(128).points
        (<CropTemplate eyes, 64 x 64 px>, ((40.0, 48.0), (88.0, 48.0)))
    """

    points: Sequence[Sequence[float]]
    size: int | tuple[int, int]
    landmarks: Groups | None = None
    vertices: Groups | None = None
    upright: bool = False
    stretch: float = 1.0
    name: str = "own"

    def __post_init__(self) -> None:
        try:
            points = tuple((float(x), float(y)) for x, y in self.points)
        except (TypeError, ValueError):
            points = ()
        if len(points) < 2 or not np.isfinite(points).all():
            raise CanonicalError(f"CropTemplate.points: expected two or more finite pairs (x, y), got {self.points!r}.")
        if len(set(points)) < 2:
            raise CanonicalError(f"CropTemplate.points: expected points in different places, got {self.points!r}.")
        if self.landmarks is not None and self.vertices is not None:
            raise CanonicalError("CropTemplate: expected either landmarks= or vertices=, got both.")
        by_vertices = self.vertices is not None
        chosen = _groups(self.vertices, "vertices", None) if by_vertices else _groups(self.landmarks, "landmarks", 67)
        if len(chosen) != len(points):
            raise CanonicalError(
                f"CropTemplate: expected as many points as landmarks or vertices, got {len(points)} and {len(chosen)}."
            )
        check_number("CropTemplate.stretch", self.stretch, above=0)
        values = {"points": points, "size": pair_of(self.size), "vertices" if by_vertices else "landmarks": chosen}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<CropTemplate {self}>"

    def __str__(self) -> str:
        height, width = pair_of(self.size)
        return f"{self.name}, {height} x {width} px"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides crops, as what JSON can hold."""
        groups = {name: getattr(self, name) for name in ("landmarks", "vertices") if getattr(self, name) is not None}
        return {"points": self.points, "upright": self.upright, "stretch": self.stretch, **groups}

    def resized(self, size: int | tuple[int, int]) -> CropTemplate:
        """The same crop with another number of pixels.

        Raises:
            CanonicalError: the size has another shape than the template's.
        """
        (height, width), (own_height, own_width) = pair_of(size), pair_of(self.size)
        if height * own_width != width * own_height:
            raise CanonicalError(
                f"size: expected the shape of the template ({self}), got {height} x {width}; a crop of another shape "
                "has points of its own, CropTemplate(points, size)."
            )
        factor = width / own_width
        return replace(self, points=[(factor * x, factor * y) for x, y in self.points], size=(height, width))

    def points_of(self, mesh: FaceMesh) -> Tensor:
        """(B, K, 2) float64, where the template's points lie in the images of a mesh.

        Raises:
            AlignmentError: the mesh's landmarks are not known, or it has fewer vertices than are named.
        """
        own = None if self.vertices is None else _groups(self.vertices, "vertices", None)
        groups = own or self._as_vertices(mesh.topology, mesh.num_vertices)
        if max(map(max, groups)) >= mesh.num_vertices:
            raise AlignmentError(
                f"crop template {self.name}: expected meshes with the vertices {groups}, got {mesh.num_vertices} of "
                f"them (topology {mesh.topology})."
            )
        plane = mesh.vertices[..., :2].detach().cpu().double()
        return torch.stack([plane[:, list(group)].mean(1) for group in groups], 1)

    def _as_vertices(self, topology: str | None, count: int) -> tuple[tuple[int, ...], ...]:
        landmarks, named = _groups(self.landmarks, "landmarks", 67), topology or TOPOLOGY_OF.get(count, "")
        if landmarks == FIVE_POINTS and named == "mediapipe-468":
            return FIVE_POINTS_468
        known = LANDMARKS_OF.get(named)
        if known is not None:
            return tuple(tuple(known[number] for number in group) for group in landmarks)
        if count == 5 and topology in ("keypoints-5", None) and landmarks == FIVE_POINTS:
            return tuple((number,) for number in range(5))
        raise AlignmentError(
            f"crop template {self.name}: expected meshes whose landmarks are known ({', '.join(LANDMARKS_OF)}), got "
            f"{count} vertices of topology {topology}; name the vertices, CropTemplate(points, size, vertices=...)."
        )

    def similarity(self, mesh: FaceMesh) -> Similarity:
        """From pixels of each image of a mesh to those of the crop before it is stretched.

        Raises:
            AlignmentError: as in :meth:`points_of`, or the points of a face coincide.
        """
        points = self.points_of(mesh)
        target = torch.tensor([(x / self.stretch, y) for x, y in self.points], dtype=torch.float64)
        found = fit_similarity(points, target.expand(len(points), -1, -1))
        if not self.upright:
            return found
        shift = target.mean(0) - found.scale[:, None] * points.mean(1)
        return Similarity(found.scale, torch.eye(2, dtype=torch.float64).expand_as(found.rotation), shift)

    def crop(
        self, photo: np.ndarray, mesh: FaceMesh, fill: str | float | Sequence[float] = "edge"
    ) -> tuple[np.ndarray, FaceMesh]:
        """The crop of one face, and its mesh in it.

        Args:
            photo: (H, W, 3) uint8.
            mesh: one row, made for this photograph.
            fill: what is beyond the photo, see :func:`~captum_canonical.faces.images.crop_photo`. How pixels are made:
                :func:`~captum_canonical.faces.similarity.crop_by_similarity`.

        Returns:
            The crop, ``size`` x 3 uint8, and the mesh with ``image_size=size``: x and y move as the pixels do, depth is
            scaled by the same factor (the mean of both where they differ).

        Raises:
            AlignmentError: the mesh has not one row, or belongs to another image size; or as in :meth:`similarity`.
            NoFaceError: the mesh's row says that no face was found.

        Example::

            >>> from captum_canonical import CanonicalFace
            >>> face = CanonicalFace.default()
            >>> mesh = FaceMesh(face.vertices[None], image_size=face.size, topology=face.topology)
            >>> drawing = (255 * face.image.permute(1, 2, 0)).byte().numpy()
            >>> template = CROP_TEMPLATES["arcface"]
            >>> chip, moved = template.crop(drawing, mesh)
            >>> chip.shape, template.points_of(moved)[0, 2].round().tolist()  # where the tip of the nose is
            ((112, 112, 3), [57.0, 74.0])
        """
        check_one_face("crop template", photo, mesh)
        similarity, size = self.similarity(mesh), pair_of(self.size)
        moved, stretch = similarity.move(mesh, size), self.stretch
        moved = replace(moved, vertices=moved.vertices * moved.vertices.new_tensor([stretch, 1, (1 + stretch) / 2]))
        return crop_by_similarity(photo, similarity, size, fill, stretch), moved


def pair_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W) of a size, one number being a square's.

    Raises:
        CanonicalError: it is no size.
    """
    return check_size("size", (size, size) if isinstance(size, Integral) else size)


def _groups(value: Any, name: str, most: int | None) -> tuple[tuple[int, ...], ...]:
    if value is None:
        return FIVE_POINTS
    what = f"CropTemplate.{name}"
    points = check_several(what, value.tolist() if isinstance(value, Tensor) else value, "indices, or of several each")
    groups = [tuple(each) if isinstance(each, Iterable) else (each,) for each in points]
    if not all(groups):
        raise CanonicalError(f"{what}: expected at least one index for each point, got {value!r}.")
    return tuple(tuple(check_integer(name, index, 0, most) for index in group) for group in groups)


def _dlib(x: float, y: float, padding: float = 0.25, side: int = 150) -> tuple[float, float]:
    """A point of dlib's mean face, in shares of a square around it, in pixels of a chip with that padding."""
    return tuple((padding + share) / (1 + 2 * padding) * side + 0.5 for share in (x, y))  # type: ignore[return-value]


_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_DLIB = {
    45: (0.8595674595992, 0.2134981538014),
    42: (0.6460604764104, 0.2289674387677),
    36: (0.1205750620789, 0.2137274526848),
    39: (0.3340850613712, 0.2290642403242),
    33: (0.4901123135679, 0.6277975316475),
}  # corners of the eyes, and base of the nose
_FACENET = ((51.3, 65.2), (108.7, 65.2), (80.0, 88.1), (55.2, 111.3), (104.8, 111.3))

CROP_TEMPLATES: Mapping[str, CropTemplate] = MappingProxyType(
    {
        template.name: template
        for template in (
            CropTemplate([(x + 0.5, y + 0.5) for x, y in _ARCFACE], 112, name="arcface"),
            CropTemplate([_dlib(*place) for place in _DLIB.values()], 150, landmarks=list(_DLIB), name="dlib"),
            CropTemplate(_FACENET, 160, upright=True, stretch=4 / 3, name="facenet"),
        )
    }
)
"""Templates by name. ``"arcface"``: the five points of ArcFace and its successors (Deng et al. 2019). ``"dlib"``: the
corners of the eyes and the base of the nose, with the padding of 0.25 of dlib's network (``get_face_chip_details``).
``"facenet"``: FaceNet's networks were trained on boxes of the detector MTCNN with 32 pixels more, squeezed into a
square of 160. These are the mean places of the five points there in 300 photographs of LFW, on which such boxes and
these crops overlap by 84 % (intersection over union)."""


def template_of(crop: object) -> CropTemplate | None:
    """The template that ``crop=`` is or names, if any.

    Example::

        >>> template_of("arcface"), template_of("face")
        (<CropTemplate arcface, 112 x 112 px>, None)
    """
    if isinstance(crop, str):
        return CROP_TEMPLATES.get(crop)
    return crop if isinstance(crop, CropTemplate) else None
