"""The face-alignment package: 68 landmarks in three dimensions, fitted to the canonical face's vertices."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.detector import DetectorAligner, Finder
from captum_canonical.adapters.landmarks import LANDMARKS_68, fit_landmarks_68
from captum_canonical.checks import parse_device
from captum_canonical.errors import AlignmentError, CanonicalError, MissingDependencyError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.images import Statistics
from captum_canonical.plugins import ALIGNERS


@ALIGNERS.register("face-alignment")
class FaceAlignmentAligner(DetectorAligner):
    """Face meshes from the 68 3-D landmarks of the package face-alignment (Bulat and Tzimiropoulos 2017).

    The package downloads its weights, some 400 MB, when the first image is aligned, and keeps them in
    ``torch.hub.get_dir()``. The meshes are those of :func:`fit_landmarks_68`, so they share the canonical face with
    :class:`~captum_canonical.adapters.FaceMeshAligner`. Those of the topology ``mediapipe-468`` are checked against the
    direction of the face (:class:`DetectorAligner`); with another canonical face, turn photographs upright first.

    Args:
        canonical_face: whose vertices are fitted. Default: the shipped one.
        landmarks: (68,) its vertex for each iBUG landmark. Default: MediaPipe's, for the ``mediapipe-468`` topology.
        device: where the package runs its networks, such as ``"cpu"`` or ``"cuda"``.
        on_missing, face, denormalize: see :class:`DetectorAligner`.
        visibility: whether a depth test marks the vertices that the face itself hides; if not, all are seen.
        face_detector: the package's detector (``"sfd"``, ``"blazeface"``, ...).
        face_detector_kwargs: arguments of that detector.

    Raises:
        AlignmentError: a canonical face of another topology without its ``landmarks``.
        MissingDependencyError: the package is not installed, or its weights are neither there nor can be downloaded;
            the message names the files and their folder (at the first use).

    Example::

        >>> aligner = FaceAlignmentAligner(on_missing="skip")
        >>> aligner.topology, aligner.num_vertices  # of aligner(photos), which downloads at first
        ('mediapipe-468', 468)
    """

    packages = ("face-alignment",)

    def __init__(
        self,
        canonical_face: CanonicalFace | None = None,
        landmarks: Sequence[int] | None = None,
        device: str = "cpu",
        on_missing: str = "raise",
        face: str = "largest",
        denormalize: tuple[Statistics, Statistics] | None = None,
        visibility: bool = True,
        face_detector: str = "sfd",
        face_detector_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(on_missing, face, denormalize)
        self.canonical_face = CanonicalFace.default() if canonical_face is None else CanonicalFace.of(canonical_face)
        self.topology = self.canonical_face.topology
        self.num_vertices = len(self.canonical_face.vertices)
        if landmarks is None and self.topology != "mediapipe-468":
            raise AlignmentError(
                f"FaceAlignmentAligner: expected a canonical face of topology mediapipe-468, got {self.topology}; tell "
                "which of its vertices the 68 landmarks are (landmarks=)."
            )
        self.landmarks = tuple(int(index) for index in (LANDMARKS_68 if landmarks is None else landmarks))
        if len(self.landmarks) != 68 or not all(0 <= index < self.num_vertices for index in self.landmarks):
            raise AlignmentError(f"landmarks: expected 68 vertex indices below {self.num_vertices}, got {landmarks}.")
        self.device = str(parse_device("device", device))
        self.visibility = visibility
        self.face_detector = face_detector
        self.face_detector_kwargs = dict(face_detector_kwargs or {})

    @cached_property
    def network(self) -> Any:
        """The package's ``FaceAlignment`` object, made (and its weights downloaded) when it is first needed."""
        package = _import_package()
        benchmark = torch.backends.cudnn.benchmark  # switched on by the package, for everybody
        compiles = "compile" in inspect.signature(package.FaceAlignment).parameters
        try:
            with torch.random.fork_rng(devices=[]):  # its networks are initialised at random before they are loaded
                return package.FaceAlignment(
                    package.LandmarksType.THREE_D,
                    device=self.device,
                    face_detector=self.face_detector,
                    face_detector_kwargs=self.face_detector_kwargs,
                    **({"compile": False} if compiles else {}),
                )
        except OSError as error:
            raise MissingDependencyError(_missing_weights(self.face_detector, error)) from error
        except Exception as error:  # readers of damaged files raise nearly anything
            raise CanonicalError(
                f"FaceAlignmentAligner: the package face-alignment cannot load its networks on {self.device!r} "
                f"({error}); if a download was cut off, delete the damaged file in {_weights_folder()}."
            ) from error
        finally:
            torch.backends.cudnn.benchmark = benchmark

    def try_out(self) -> str | None:
        """See :meth:`Aligner.try_out`; not tried as long as weights would have to be downloaded."""
        _import_package()
        missing = _files_to_download(self.face_detector)
        if missing:
            return f"the first use downloads {', '.join(missing)} into {_weights_folder()}, some 400 MB in all"
        return super().try_out()

    def triangles(self) -> Tensor | None:
        """Those of the canonical face, unless visibility is not asked for."""
        return self.canonical_face.triangles if self.visibility else None

    @contextmanager
    def open(self) -> Iterator[Finder]:
        """The package's networks, which are kept for the next call."""
        network = self.network

        def find(image: np.ndarray) -> list[np.ndarray]:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "No faces were detected")
                found = network.get_landmarks_from_image(image)
            if found is None or not len(found):
                return []
            landmarks = np.stack([_continuous(np.asarray(points, np.float64)) for points in found])
            return list(fit_landmarks_68(landmarks, self.canonical_face.vertices, self.landmarks).numpy())

        yield find


def _continuous(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks as continuous coordinates: the package cuts x and y off to whole pixels, whose centres are taken."""
    plane = landmarks[:, :2]
    if (plane == np.floor(plane)).all():
        return landmarks + (0.5, 0.5, 0.0)
    return landmarks


def _import_package() -> Any:
    try:
        import face_alignment
    except ImportError as error:
        raise MissingDependencyError(
            f"FaceAlignmentAligner needs the package face-alignment ({error}); install it with pip install "
            "face-alignment."
        ) from error
    return face_alignment


def _weights_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _files_to_download(detector: str) -> dict[str, str]:
    """Names and addresses of the files of weights that are not there yet, read from the package's own addresses."""
    addresses = dict(import_module("face_alignment.api").models_urls)
    wanted = [addresses[name] for name in ("3DFAN-4", "depth") if name in addresses]
    module = import_module(f"face_alignment.detection.{detector}.{detector}_detector")
    wanted += [str(address) for address in getattr(module, "models_urls", {}).values()]
    files = {Path(urlparse(address).path).name: address for address in wanted}
    return {name: address for name, address in files.items() if not (_weights_folder() / name).is_file()}


def _missing_weights(detector: str, error: OSError) -> str:
    """Which files to put where."""
    files = [f"{name} (from {address})" for name, address in _files_to_download(detector).items()]
    return (
        f"FaceAlignmentAligner: the weights of the package face-alignment cannot be downloaded ({error}). On a machine "
        f"with a network, fetch {', '.join(files) or 'them again'}, and put them into {_weights_folder()}; or use "
        "FaceMeshAligner, which needs no download."
    )
