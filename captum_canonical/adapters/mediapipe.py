"""MediaPipe's 468-vertex face mesh."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from captum_canonical.adapters.detector import DetectorAligner, Finder
from captum_canonical.adapters.face_bundle import read_bundle
from captum_canonical.checks import check_integer, check_number
from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.images import Statistics
from captum_canonical.faces.photo_files import PathType
from captum_canonical.plugins import ALIGNERS

Detect = Callable[[np.ndarray], "list[Any]"]
"""One image -> the landmarks of each face, as MediaPipe gives them."""

_CHATTER = re.compile(
    rb"INFO: Created TensorFlow Lite |WARNING: (All log messages|Logging) before |WARNING: Read-only tensor |"
    rb"[IW]\d{4} .*\.cc:\d+\] "
)
_one_at_a_time = threading.Lock()  # two interleaved would never give the error stream back


@ALIGNERS.register("mediapipe")
class MediaPipeAligner(DetectorAligner):
    """Face meshes by MediaPipe, which runs on the CPU in some ten milliseconds per photo.

    ``mediapipe < 0.10.22`` carries its networks with it and needs nothing else. Newer versions need the model bundle
    ``face_landmarker.task`` that MediaPipe's documentation links to, and older ones use it as well when it is given.

    On photographs that are turned MediaPipe lays meshes upside down; these faces count as missing
    (:class:`DetectorAligner`). :class:`FaceMeshAligner` finds them.

    MediaPipe's depth grows away from the camera in units of the image's width; it is turned towards the camera and into
    pixels here.

    Args:
        model_asset_path: a ``face_landmarker.task`` file; its 10 iris points are left out. Default: the networks in the
            package.
        on_missing, face, denormalize: see :class:`DetectorAligner`.
        min_detection_confidence: 0..1, how sure MediaPipe must be of a face.
        max_faces: how many faces to look for in an image; the largest is chosen among them.
        visibility: whether a depth test marks the vertices that the face itself hides; if not, all are seen.

    Raises:
        MissingDependencyError: MediaPipe, or the file that it needs, is missing (at the first use).

    Example::

        >>> drawn = CanonicalFace.default().image[None]  # the package's drawing is face enough
        >>> mesh = MediaPipeAligner()(drawn)
        >>> mesh.num_vertices, mesh.image_size, mesh.missing
        (468, (224, 224), ())
        >>> MediaPipeAligner(on_missing="skip")(drawn * 0).missing
        (0,)
    """

    topology = "mediapipe-468"
    num_vertices = 468
    packages = ("mediapipe",)

    def __init__(
        self,
        model_asset_path: PathType | None = None,
        on_missing: str = "raise",
        face: str = "largest",
        denormalize: tuple[Statistics, Statistics] | None = None,
        min_detection_confidence: float = 0.5,
        max_faces: int = 10,
        visibility: bool = True,
    ) -> None:
        super().__init__(on_missing, face, denormalize)
        check_number("min_detection_confidence", min_detection_confidence, least=0, most=1, expected="0..1")
        check_integer("max_faces", max_faces, 1, expected="at least 1")
        self.model_asset_path = None if model_asset_path is None else Path(model_asset_path)
        self.min_detection_confidence = min_detection_confidence
        self.max_faces = max_faces
        self.visibility = visibility

    def triangles(self) -> Tensor | None:
        """Those of the default canonical face, unless visibility is not asked for."""
        return CanonicalFace.default().triangles if self.visibility else None

    @contextmanager
    def open(self) -> Iterator[Finder]:
        """MediaPipe's detector, which is made in some 20 ms and closed again."""
        package = _import_mediapipe()
        with _quiet():
            if self.model_asset_path is None:
                detect, close = self._open_solution(package)
            else:
                detect, close = self._open_landmarker(package, self.model_asset_path)
            try:
                detect(np.zeros((8, 8, 3), np.uint8))  # its threads report when they start: here, not between two calls
            except BaseException:
                close()
                raise
        heard = True  # until its threads, which report how they were set up, have gone through one face

        def find(image: np.ndarray) -> list[np.ndarray]:
            nonlocal heard
            with _quiet() if heard else nullcontext():
                faces = detect(np.ascontiguousarray(image))
            heard = heard and not faces
            return [_to_pixels(face, image) for face in faces]

        try:
            yield find
        finally:
            close()

    def _open_solution(self, package: Any) -> tuple[Detect, Callable[[], None]]:
        """The networks in the package, which versions before 0.10.22 or so carry."""
        if not hasattr(package, "solutions"):
            version = getattr(package, "__version__", "of unknown version")
            raise MissingDependencyError(
                f"MediaPipeAligner: mediapipe {version} carries no face network. Download face_landmarker.task (see "
                "MediaPipe's page on its Face Landmarker) and give its path as model_asset_path= (--face-landmarker on "
                f"the command line), or use {_instead()}."
            )
        mesh = package.solutions.face_mesh.FaceMesh(
            static_image_mode=True,
            max_num_faces=self.max_faces,
            min_detection_confidence=self.min_detection_confidence,
        )
        return lambda image: [face.landmark for face in mesh.process(image).multi_face_landmarks or []], mesh.close

    def _open_landmarker(self, package: Any, path: Path) -> tuple[Detect, Callable[[], None]]:
        """The networks in a face_landmarker.task file."""
        if not path.is_file():
            raise MissingDependencyError(
                f"MediaPipeAligner: model_asset_path: expected a face_landmarker.task file, got {path}, which is none."
            )
        options = package.tasks.vision.FaceLandmarkerOptions(
            base_options=package.tasks.BaseOptions(model_asset_buffer=read_bundle(path)),
            num_faces=self.max_faces,
            min_face_detection_confidence=self.min_detection_confidence,
        )
        try:
            landmarker = package.tasks.vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise CanonicalError(
                f"MediaPipeAligner: {path} is no usable face_landmarker.task file ({error}); download it again."
            ) from error

        def detect(image: np.ndarray) -> list[Any]:
            return landmarker.detect(package.Image(image_format=package.ImageFormat.SRGB, data=image)).face_landmarks

        return detect, landmarker.close


def _import_mediapipe() -> Any:
    try:
        import mediapipe
    except ImportError as error:
        raise MissingDependencyError(
            f"MediaPipeAligner needs the package mediapipe ({error}); install it together with a face_landmarker.task "
            f"file (model_asset_path=), or use {_instead()}."
        ) from error
    return mediapipe


def _instead() -> str:
    """What needs no file: releases of MediaPipe that have their networks with them exist up to Python 3.12."""
    ours = "FaceMeshAligner, which gives the same meshes and needs neither"
    return f'pip install "mediapipe<0.10.22", or {ours}' if sys.version_info < (3, 13) else ours


def _to_pixels(landmarks: Any, image: np.ndarray) -> np.ndarray:
    """The first 468 of MediaPipe's landmarks: fractions of the image, z away from the camera in units of its width.

    They are used as they are, though photos and their mirror images show that MediaPipe's x and y are too large by
    0.003 of the face's size less half a pixel: a fifth of a pixel too small for faces of 100 pixels, right for 170.
    """
    height, width = image.shape[:2]
    fractions = np.array([(point.x, point.y, point.z) for point in landmarks[: MediaPipeAligner.num_vertices]])
    return fractions * (width, height, -width)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what MediaPipe's C++ side prints about itself; anything else on the error stream is passed on after.

    That side writes to the file descriptor and has no switch, so the descriptor itself is put aside for the moment.
    """
    with _one_at_a_time:
        saved = _copy_of_error_stream()
        if saved is None:
            yield
            return
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                held.seek(0)
                others = [line for line in held.read().splitlines(True) if not _CHATTER.match(line)]
                if others:
                    os.write(2, b"".join(others))


def _copy_of_error_stream() -> int | None:
    try:
        sys.stderr.flush()
        return os.dup(2)
    except (AttributeError, OSError, ValueError):  # a process without one
        return None
