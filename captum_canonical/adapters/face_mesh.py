"""MediaPipe's 468-vertex face mesh in PyTorch: nothing to download, and no other package."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.detector import Detection, DetectorAligner, Finder
from captum_canonical.adapters.face_detection import LARGE, FaceSearch
from captum_canonical.adapters.face_views import FoundFace
from captum_canonical.checks import check_device, check_integer, check_number, parse_device
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.images import Statistics
from captum_canonical.plugins import ALIGNERS


@ALIGNERS.register("face-mesh")
class FaceMeshAligner(DetectorAligner):
    """The 468 vertices of MediaPipe's face mesh, computed by PyTorch, on a GPU as well.

    Detector and mesh network are MediaPipe's (Apache License 2.0) and part of this package. The meshes are those of
    MediaPipe but for rounding: on all 6,649 faces that MediaPipe finds in four data sets, looked at upright, they
    differ by 0.002 % of the distance between the eyes on average and by 0.07 % at most. Looked at in all directions,
    two of them, both in profile, have a mesh that fits better than MediaPipe's, and 158 more are found. 200 photographs
    that were turned had the right turn (``benchmarks/face_mesh.py``).

    Photographs that lie on their side or upside down are found, too: where nothing is found, where the detector is not
    sure, where the eyes are not level, or where the mirrored photograph gives another mesh, the other three directions
    are searched. A face on which photograph and mirrored photograph do not agree in any direction is none.

    Faces down to some 40 pixels are found in photographs of more than 512 pixels, in overlapping tiles: with
    ``face="all"`` always, otherwise only where the photograph as a whole shows none (with ``face="central"``, none in
    its middle), so that other photographs take no longer. A photograph of 24 megapixels takes some two seconds then.

    Of each face :attr:`FaceMesh.quality` holds all of :data:`~captum_canonical.faces.quality.QUALITY`.

    Args:
        face: of several faces in a photograph the ``"largest"``, the ``"central"`` one (the largest that contains the
            middle of the photograph), the ``"surest"`` of the detector, or ``"all"``; see :class:`DetectorAligner`.
        on_missing, denormalize: see :class:`DetectorAligner`.
        device: where the networks run. Default: where the images are, the CPU for arrays.
        batch_size: photographs that go through the networks together.
        turned: whether photographs that are not upright are looked for; if not, they are missed.
        min_score: 0..1, how sure the detector must be of a face.
        max_faces: how many faces to look for in a photograph.
        visibility: whether a depth test marks the vertices that the face itself hides; if not, all are seen.

    Raises:
        CanonicalError: an argument is out of its range.

    Example::

        >>> drawn = CanonicalFace.default().image[None]  # the package's drawing is face enough
        >>> mesh = FaceMeshAligner()(drawn)
        >>> mesh.num_vertices, mesh.image_size, mesh.missing
        (468, (224, 224), ())
        >>> upside_down = FaceMeshAligner()(drawn.flip(2))  # mirrored as well, which a mesh does not see
        >>> bool(upside_down.vertices[0, 10, 1] > upside_down.vertices[0, 152, 1])  # the forehead is below the chin
        True
        >>> FaceMeshAligner(on_missing="skip")(drawn * 0).missing
        (0,)
    """

    topology = "mediapipe-468"
    num_vertices = 468

    def __init__(
        self,
        face: str = "largest",
        on_missing: str = "raise",
        denormalize: tuple[Statistics, Statistics] | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 16,
        turned: bool = True,
        min_score: float = 0.5,
        max_faces: int = 50,
        visibility: bool = True,
    ) -> None:
        super().__init__(on_missing, face, denormalize)
        check_number("min_score", min_score, least=0, most=1, expected="0..1")
        for name, value in (("batch_size", batch_size), ("max_faces", max_faces)):
            check_integer(name, value, 1, expected="at least 1")
        self.device = None if device is None else parse_device("device", device)
        self.batch_size, self.turned = batch_size, turned
        self.min_score, self.max_faces = min_score, max_faces
        self.visibility = visibility

    def triangles(self) -> Tensor | None:
        """Those of the default canonical face, unless visibility is not asked for."""
        return CanonicalFace.default().triangles if self.visibility else None

    def cache_key(self) -> str:
        """See :meth:`Aligner.cache_key`; device and size of batches do not move vertices."""
        same = copy.copy(self)
        same.device, same.batch_size = None, 1
        return super(FaceMeshAligner, same).cache_key()

    def find_all(self, images: Sequence[np.ndarray], device: torch.device) -> list[list[Detection]]:
        """All faces in each image, surest first, a batch at a time."""
        where = check_device("device", self.device or device)
        search = FaceSearch(where, self.min_score, self.max_faces, self.turned, self.face == "all")
        found: list[list[Detection]] = []
        for start in range(0, len(images), self.batch_size):
            found += map(_detections, search.faces(images[start : start + self.batch_size]))
        if self.face == "central":  # it may be small beside a large one that is not
            for number, image in enumerate(images):
                large = max(image.shape[:2]) > LARGE
                if large and not self._choose(found[number], (image.shape[0], image.shape[1])):
                    (faces,) = replace(search, small=True).faces([image])
                    found[number] = _detections(faces)
        return found

    def _right_way_up(self, image: np.ndarray, faces: list[Detection]) -> list[Detection]:
        """All of them, where all directions were looked at."""
        return faces if self.turned else super()._right_way_up(image, faces)

    @contextmanager
    def open(self) -> Iterator[Finder]:
        """The networks for one image at a time."""
        yield lambda image: [face.vertices for face in self.find_all([image], torch.device("cpu"))[0]]


def _detections(faces: Sequence[FoundFace]) -> list[Detection]:
    return [Detection(face.vertices, face.quality) for face in faces]
