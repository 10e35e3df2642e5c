"""Aligners that find faces in images: the choice of faces, images without one, and the depth test."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.aligner import Aligner
from captum_canonical.adapters.face_direction import wrong_way_up
from captum_canonical.adapters.face_networks import one_thread
from captum_canonical.errors import CanonicalError, NoFaceError, user_stacklevel
from captum_canonical.faces.images import Images, Statistics, count_and_size, to_arrays
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.quality import with_quality
from captum_canonical.faces.warp import visible_vertices

NOT_CENTRAL = "faces were found, but none that contains the middle of the photograph."
TURNED = (
    "the mesh lies on the face upside down or on its side, as it does where the photograph is turned; turn the "
    "photograph, or use FaceMeshAligner, which looks for turned faces"
)
Finder = Callable[[np.ndarray], "list[np.ndarray]"]
"""One HxWx3 uint8 RGB image -> one (N, 3) array of vertices in pixels for each face in it."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A face that an aligner found.

    Attributes:
        vertices: (N, 3) in pixels of the image, z towards the camera.
        quality: what the aligner knows about it, some of :data:`~captum_canonical.faces.quality.REPORTED`.
    """

    vertices: np.ndarray
    quality: Mapping[str, float] = field(default_factory=dict)


class DetectorAligner(Aligner):
    """Base class of aligners that look for faces: a subclass only says where the faces of one image are.

    A subclass sets ``topology`` and ``num_vertices`` and implements :meth:`open`. Everything else is done
    here: turning tensors into images, choosing faces, images without one, and the depth test. A mesh of the topology
    ``mediapipe-468`` that lies on its face upside down or on its side, as the package's own detector sees it, is
    refused: that face counts as missing, with the reason in an error, a warning or :attr:`AlignedFaces.left_out`.

    Args:
        on_missing: for an image without a face, ``"raise"`` a :class:`NoFaceError` that names it, or ``"skip"`` it: its
            row stays in the mesh, with ``found=False`` and nothing seen, and is listed in :attr:`FaceMesh.missing`.
        face: of several faces in an image the ``"largest"`` (area of the box around its vertices), the ``"central"``
            one (the largest whose box contains the middle of the image; there may be none), the ``"surest"`` of the
            detector, or ``"all"``, largest first, with :attr:`FaceMesh.image_index` saying whose image each row is.
        denormalize: (mean, std) of a model's normalisation, each a number or one per channel, so that tensors made by
            ``(image - mean) / std`` can be given as they are.

    Attributes:
        num_vertices: of each face.

    Raises:
        CanonicalError: an argument is not one of the words above.

    Example::

        >>> from contextlib import contextmanager
        >>> class Middle(DetectorAligner):  # three points around the middle of each image
        ...     num_vertices = 3
        ...     @contextmanager
        ...     def open(self):
        ...         yield lambda image: [np.array([[3, 3, 0], [5, 3, 0], [4, 5, 0]]) * len(image) / 8]
        >>> Middle()(torch.rand(2, 3, 16, 16)).vertices[0, :, :2].tolist()
        [[6.0, 6.0], [10.0, 6.0], [8.0, 10.0]]
    """

    num_vertices: int

    def __init__(
        self, on_missing: str = "raise", face: str = "largest", denormalize: tuple[Statistics, Statistics] | None = None
    ) -> None:
        self.on_missing = _one_of("on_missing", on_missing, ("raise", "skip"))
        self.face = _one_of("face", face, ("largest", "central", "surest", "all"))
        self.denormalize = denormalize

    @abstractmethod
    def open(self) -> AbstractContextManager[Finder]:
        """A context that holds whatever finding faces needs (networks, threads), and frees it at its end.

        It yields a function from one HxWx3 uint8 RGB image to the (N, 3) vertices of each face in it, in pixels with
        x right, y down, z towards the camera, the surest face first.
        """

    def triangles(self) -> Tensor | None:
        """(F, 3) triangles for the depth test that tells which vertices are seen; None (the default): all are."""
        return None

    def __call__(self, images: Images, *, names: Sequence[str] | None = None) -> FaceMesh:
        """Find the face, or faces, in every image.

        Args:
            images: HxWx3 uint8 RGB arrays of one size, or a (B, 3, H, W) tensor, floats in 0..1 (or normalised, see
                ``denormalize``) or uint8; one channel is taken as grey.
            names: what to call the images in errors, such as their file names. Default: their numbers only.

        Returns:
            A float32 mesh with one row for each image (more with ``face="all"``), on the tensor's device.

        Raises:
            NoFaceError: an image shows no face, and ``on_missing="raise"``.
            AlignmentError: the images differ in size, so that one mesh cannot hold them.
            CanonicalError: the images are not as above.
        """
        return self.align(images, names, self.on_missing)

    def align(self, images: Images, names: Sequence[str] | None, on_missing: str) -> FaceMesh:
        """What a call does, with another ``on_missing``; its arguments are those of a call."""
        arrays = to_arrays(images, self.denormalize)
        device = images.device if isinstance(images, Tensor) else torch.device("cpu")
        if names is not None and (not isinstance(names, Sequence) or len(names) != len(arrays)):
            raise CanonicalError(f"names: expected one for each of the {len(arrays)} images, got {names!r:.80}.")
        size = count_and_size(images)[1]
        return self._aligned(arrays, self.find_all(arrays, device), size, names, on_missing).to(device)

    def align_each(self, photos: Sequence[np.ndarray], names: Sequence[str]) -> list[FaceMesh | NoFaceError]:
        """What a call for each photograph gives, a mesh or the error about a missing face, but found together.

        Args:
            photos: (H, W, 3) uint8 RGB of any sizes.
            names: what to call them in errors.
        """
        arrays = [to_arrays([photo], self.denormalize)[0] for photo in photos]
        results: list[FaceMesh | NoFaceError] = []
        for array, found, name in zip(arrays, self.find_all(arrays, torch.device("cpu")), names, strict=True):
            try:
                size = (array.shape[0], array.shape[1])
                results.append(self._aligned([array], [found], size, [name], "raise"))
            except NoFaceError as error:
                results.append(error)
        return results

    def _aligned(
        self,
        arrays: Sequence[np.ndarray],
        found: Sequence[list[Detection]],
        size: tuple[int, int],
        names: Sequence[str] | None,
        on_missing: str,
    ) -> FaceMesh:
        """The mesh of what was found in images of one size."""
        kept = [self._right_way_up(image, each) for image, each in zip(arrays, found, strict=True)]
        faces = [self._choose(each, size) for each in kept]
        missing = [number for number, chosen in enumerate(faces) if not chosen]
        turned = [number for number in missing if len(kept[number]) < len(found[number])]
        if missing and on_missing == "raise":
            error = self._no_face(missing, turned, len(faces), names)
            error.reason = f"{TURNED}." if turned else NOT_CENTRAL if any(kept[number] for number in missing) else ""
            raise error
        if turned:
            where = _listed(turned, len(faces), names)
            warnings.warn(f"{type(self).__name__}: missing in {where}: {TURNED}.", stacklevel=user_stacklevel())
        with one_thread():
            return with_quality(self._mesh(faces, size, [len(each) for each in kept]), arrays)

    def _right_way_up(self, image: np.ndarray, faces: list[Detection]) -> list[Detection]:
        """Those on which a mesh of the topology mediapipe-468 does not lie upside down or on its side."""
        if self.topology != "mediapipe-468" or self.num_vertices != 468:
            return faces
        wrong = wrong_way_up(image, [face.vertices for face in faces], torch.device("cpu"))
        return [face for face, turned in zip(faces, wrong, strict=True) if not turned]

    def find_all(self, images: Sequence[np.ndarray], device: torch.device) -> list[list[Detection]]:
        """The faces in each HxWx3 uint8 image, surest first; for subclasses that work on batches.

        Args:
            images: of any sizes.
            device: where the images came from.
        """
        with self.open() as find:
            return [[Detection(vertices) for vertices in find(image)] for image in images]

    def _choose(self, faces: list[Detection], size: tuple[int, int]) -> list[Detection]:
        if self.face == "surest":
            return faces[:1]
        ordered = sorted(faces, key=lambda face: _area(face.vertices), reverse=True)
        if self.face == "central":
            ordered = [face for face in ordered if _contains_centre(face.vertices, size)]
        return ordered if self.face == "all" else ordered[:1]

    def _no_face(self, missing: list[int], turned: list[int], total: int, names: Sequence[str] | None) -> NoFaceError:
        besides = f" In {_listed(turned, total, names)}, {TURNED}." if turned else ""
        return NoFaceError(
            f"{type(self).__name__}: found no face in {_listed(missing, total, names)}.{besides} Give photographs that "
            'show a face, or on_missing="skip" to keep such images as rows in which nothing is seen.'
        )

    def _mesh(self, faces: list[list[Detection]], size: tuple[int, int], counts: list[int]) -> FaceMesh:
        """One mesh of the chosen faces of every image; an image without one gives a row of zeros.

        Args:
            faces: of each image.
            size: (H, W) of the images.
            counts: how many faces were found in each image.
        """
        absent = Detection(np.zeros((self.num_vertices, 3)))
        rows = [(number, face) for number, found in enumerate(faces) for face in (found or [absent])]
        found = torch.tensor([bool(faces[number]) for number, _ in rows], dtype=torch.bool)
        stacked = np.stack([face.vertices for _, face in rows]) if rows else np.zeros((0, self.num_vertices, 3))
        vertices = torch.from_numpy(stacked).float()
        visible = torch.ones(vertices.shape[:2], dtype=torch.bool)
        triangles = self.triangles() if bool(found.any()) else None
        if triangles is not None:
            visible[found] = visible_vertices(vertices[found], triangles)
        index = torch.tensor([number for number, _ in rows], dtype=torch.int64)
        reported = [{**face.quality, "faces": counts[number]} for number, face in rows]
        names = dict.fromkeys(name for each in reported for name in each)
        quality = {name: torch.tensor([each.get(name, math.nan) for each in reported]).double() for name in names}
        image_index = index if self.face == "all" else None
        return FaceMesh(vertices, visible, size, self.topology, found, image_index, quality)


def _one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    if value not in allowed:
        raise CanonicalError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}.")
    return value


def _listed(numbers: list[int], total: int, names: Sequence[str] | None) -> str:
    listed = [f"{number} ({names[number]})" if names is not None else str(number) for number in numbers[:10]]
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"{len(numbers)} of {total} images: {', '.join(listed)}{more}"


def _area(vertices: np.ndarray) -> float:
    width, height = np.ptp(vertices[:, :2], axis=0)
    return float(width * height)


def _contains_centre(vertices: np.ndarray, size: tuple[int, int]) -> bool:
    centre = np.array([size[1] / 2, size[0] / 2])
    return bool(np.all(vertices[:, :2].min(0) <= centre) and np.all(centre <= vertices[:, :2].max(0)))
