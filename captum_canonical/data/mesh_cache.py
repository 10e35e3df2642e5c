"""The cache of meshes: in memory, or on disk if a folder is given."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.quality import QUALITY
from captum_canonical.files import read_regular, write_file
from captum_canonical.fingerprint import fingerprint

FORMAT = "captum_canonical mesh 4"
UNEXPLAINED = "the aligner found no face."


@dataclass(frozen=True, eq=False)
class StoredMesh:
    """The face of one photograph as arrays (thousands of tensors are slow to hand to other processes).

    Attributes:
        image_size: (H, W) of the photograph.
        vertices: (N, 3) in its pixels, N = 0 if it holds no face.
        visible: (N,) bool.
        topology: name of the vertex numbering, or None.
        reason: why there is no face, where there is none.
        quality: float64, how well the face is seen, in the order of :data:`~captum_canonical.faces.quality.QUALITY`.
    """

    image_size: tuple[int, int]
    vertices: np.ndarray
    visible: np.ndarray
    topology: str | None = None
    reason: str = ""
    quality: np.ndarray = field(default_factory=lambda: np.full(len(QUALITY), np.nan))

    @staticmethod
    def without_face(image_size: tuple[int, int], reason: str = UNEXPLAINED) -> StoredMesh:
        """The result for a photograph in which the aligner found nothing."""
        return StoredMesh(image_size, np.zeros((0, 3), np.float32), np.zeros(0, bool), reason=reason)

    @staticmethod
    def of(mesh: FaceMesh) -> StoredMesh:
        """The first row of a mesh."""
        if mesh.missing:
            return StoredMesh.without_face(mesh.image_size)
        vertices, visible = (values[0].detach().cpu().numpy().copy() for values in (mesh.vertices, mesh.visible))
        quality = np.array([float(mesh.quality[name][0]) if name in mesh.quality else np.nan for name in QUALITY])
        return StoredMesh(mesh.image_size, vertices, visible, mesh.topology, quality=quality)

    @property
    def found(self) -> bool:
        """Whether there is a face."""
        return len(self.vertices) > 0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) around the vertices, in pixels of the photograph; only where there is a face."""
        low, high = self.vertices[:, :2].min(0).tolist(), self.vertices[:, :2].max(0).tolist()
        return low[0], low[1], high[0], high[1]

    def mesh(self) -> FaceMesh:
        """One row, on the CPU; only where a face was found."""
        vertices, visible = (torch.from_numpy(values[None].copy()) for values in (self.vertices, self.visible))
        quality = {name: torch.tensor([value]) for name, value in zip(QUALITY, self.quality.tolist(), strict=True)}
        return FaceMesh(vertices, visible, self.image_size, self.topology, quality=quality)

    def digest(self) -> str:
        """SHA-256 of all of it but the quality, which follows from the rest and the photograph."""
        return fingerprint((self.image_size, self.topology, self.vertices, self.visible, self.reason))


@dataclass(frozen=True, eq=False, slots=True)
class MeshOnDisk:
    """A face in a file of the cache: a thousand of them take no more memory than a photograph.

    Attributes:
        folder: of the cache.
        key: of the face.
        box, quality: see :class:`StoredMesh`.
    """

    folder: Path
    key: str
    box: tuple[float, float, float, float]
    quality: np.ndarray

    def stored(self) -> StoredMesh:
        """All of it, read again.

        Raises:
            CanonicalError: the file went away or was damaged since.
        """
        path = path_of(self.folder, self.key)
        try:
            return decode(read_regular(path), self.key)
        except (OSError, CanonicalError) as error:
            raise CanonicalError(
                f"cache: expected {path}, a mesh that was found before, but it cannot be read any more ({error}); "
                "make the data set again."
            ) from error

    def mesh(self) -> FaceMesh:
        """See :meth:`StoredMesh.mesh`."""
        return self.stored().mesh()

    def digest(self) -> str:
        """See :meth:`StoredMesh.digest`."""
        return self.stored().digest()


class MeshCache:
    """Results by key; the key is a digest of everything that decides a result, so that entries never change.

    A file is written beside its place and then moved there, so that other processes see all of it or nothing; two that
    write the same key write the same. A damaged file counts as absent, and a folder that cannot be written to leaves
    the results in memory: each is warned about once.

    Args:
        folder: where the files are, made if it is not there. Default: memory only.

    Raises:
        CanonicalError: ``folder`` is a file.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise CanonicalError(f"cache: expected a folder, but {folder} is a file.")
        self.folder = folder
        self._memory: dict[str, StoredMesh] = {}
        self._writes = folder is not None
        self._warned_damaged = False

    def get(self, key: str) -> StoredMesh | None:
        """The result of this key, if it is known."""
        if key in self._memory or self.folder is None:
            return self._memory.get(key)
        path = path_of(self.folder, key)
        try:
            return decode(read_regular(path), key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, CanonicalError) as error:
            self._warn_damaged(path, error)
        return None

    def in_memory(self, key: str, result: StoredMesh) -> StoredMesh | MeshOnDisk:
        """A reference to the file of a result that is on disk, else the result itself."""
        if self.folder is None or key in self._memory or not result.found:
            return result
        return MeshOnDisk(self.folder, key, result.box, result.quality)

    def put(self, key: str, result: StoredMesh) -> None:
        """Keeps a result, on disk if that is possible, else in memory."""
        if self.folder is None or not self._writes:
            self._memory[key] = result
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A damaged mesh is noticed and found again: no need to wait for the disk after each photograph.
            write_file(path_of(self.folder, key), encode(key, result), sync=False)
        except OSError as error:  # no space, no permission, a folder that went away
            self._writes = False
            self._memory[key] = result
            warnings.warn(
                f"cache: cannot write to {self.folder} ({error}). What is there already stays; further meshes are kept "
                "in memory only and will have to be found again by the next run.",
                stacklevel=user_stacklevel(),
            )

    def _warn_damaged(self, path: Path, error: Exception) -> None:
        if not self._warned_damaged:
            self._warned_damaged = True
            warnings.warn(
                f"cache: {path} cannot be used ({error}); its mesh is computed anew, as are those of other damaged "
                "files, without further warnings.",
                stacklevel=user_stacklevel(),
            )


def path_of(folder: Path, key: str) -> Path:
    """Where a cache keeps the result of a key."""
    return folder / f"{key}.npz"


def encode(key: str, result: StoredMesh) -> bytes:
    """A result as the bytes of an ``.npz`` file, in which nothing is executed."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        format=np.array(FORMAT),
        key=np.array(key),
        image_size=np.array(result.image_size, np.int64),
        vertices=result.vertices,
        visible=result.visible,
        quality=result.quality,
        topology=np.array(result.topology or ""),
        reason=np.array(result.reason),
        digest=np.array(_checksum(result)),
    )
    return buffer.getvalue()


def decode(content: bytes, key: str) -> StoredMesh:
    """Reads what :func:`encode` made.

    Raises:
        CanonicalError: the bytes are cut off, altered, or those of another key.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        height, width = arrays["image_size"].tolist()
        topology = str(arrays["topology"]) or None
        reason = str(arrays["reason"])
        faces = arrays["vertices"], arrays["visible"], topology, reason, arrays["quality"]
        result = StoredMesh((height, width), *faces)
        found = tuple(str(arrays[name]) for name in ("format", "key", "digest"))
        intact = found == (FORMAT, key, _checksum(result))
        if intact and result.found:
            result.mesh()  # checks shapes, types and values
    except Exception as error:  # readers of damaged archives raise nearly anything
        raise CanonicalError(f"the file is damaged or incomplete: {error or type(error).__name__}") from error
    if not intact:
        raise CanonicalError("the file is damaged, or holds another mesh than its name says")
    return result


def _checksum(result: StoredMesh) -> str:
    return fingerprint((result.digest(), result.quality))
