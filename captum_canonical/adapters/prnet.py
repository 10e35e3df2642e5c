"""Meshes of PRNet (Feng et al. 2018) as the paper's code stores them: MATLAB files of 43,867 or 2,194 vertices."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photo_files import PathType
from captum_canonical.faces.photos import read_photo
from captum_canonical.faces.warp import visible_vertices

FULL = 43_867
STRIDE = 20  # the paper's; its code also stores meshes already thinned by it
THINNED = len(range(0, FULL, STRIDE))


def load_prnet_mesh(
    path: PathType | Sequence[PathType],
    image_size: tuple[int, int],
    stride: int = STRIDE,
    triangles: Tensor | np.ndarray | PathType | None = None,
    visibility: bool = True,
) -> FaceMesh:
    """Meshes from files, in the pixels of the images that PRNet saw; x, y and z are used as they are stored.

    Which vertices are seen is decided on the full mesh, before it is thinned, by a depth test with its triangles (some
    seconds per mesh). In a file of 2,194 vertices, which has no triangles, and without triangles all vertices are seen.

    Args:
        path: a ``.mat`` file with ``vertices`` of shape (43867, 3) or (2194, 3), or several, one for each row.
        image_size: (H, W) of the images.
        stride: every how many-th vertex of a full mesh to keep. Files of 2,194 vertices hold every 20th.
        triangles: (F, 3) of the full mesh, or a ``.mat`` file that holds them (the frontal face's does). Default: those
            in the mesh's own file, if any.
        visibility: whether to make the depth test.

    Returns:
        A float64 mesh of topology ``prnet-2194`` (``prnet-43867`` with ``stride=1``).

    Raises:
        CanonicalError: a file cannot be read; the message names it.
        AlignmentError: the file holds no such mesh, or not this stride.

    Example::

        >>> import tempfile
        >>> from scipy.io import savemat
        >>> folder = tempfile.TemporaryDirectory()
        >>> savemat(f"{folder.name}/photo_mesh.mat", {"vertices": 200 * np.random.default_rng(0).random((2194, 3))})
        >>> mesh = load_prnet_mesh(f"{folder.name}/photo_mesh.mat", image_size=(218, 178))
        >>> mesh.vertices.shape, mesh.topology
        (torch.Size([1, 2194, 3]), 'prnet-2194')
        >>> folder.cleanup()
    """
    _check_stride(stride)
    paths = [path] if isinstance(path, (str, PathLike)) else list(path)
    if not paths:
        raise AlignmentError("load_prnet_mesh: expected at least one file, got none.")
    shared = _read_triangles(triangles) if triangles is not None else None
    rows, seen = [], []
    for each in paths:
        vertices, own = _read(Path(each))
        keep = _kept(len(vertices), stride, Path(each))
        edges = shared if shared is not None else own
        if visibility and edges is not None and len(vertices) == FULL:
            seen.append(visible_vertices(vertices[None], edges)[0, keep])
        else:
            seen.append(torch.ones(len(range(len(vertices))[keep]), dtype=torch.bool))
        rows.append(vertices[keep])
    return FaceMesh(torch.stack(rows), torch.stack(seen), image_size, f"prnet-{len(rows[0])}")


def load_prnet_face(image_path: PathType, mesh_path: PathType, stride: int = STRIDE) -> CanonicalFace:
    """A canonical face from a frontal photograph and its PRNet mesh, as the paper uses one.

    Args:
        image_path: the photograph, in whose pixels the mesh is.
        mesh_path: a ``.mat`` file as for :func:`load_prnet_mesh`.
        stride: every how many-th vertex of a full mesh to keep. With 1 the mesh keeps its own triangles, otherwise
            the remaining vertices are triangulated anew.

    Raises:
        CanonicalError: a file cannot be read; the message names it.
        AlignmentError: the file holds no such mesh, or not this stride.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> from scipy.io import savemat
        >>> folder = tempfile.TemporaryDirectory()
        >>> Image.new("RGB", (224, 224)).save(f"{folder.name}/frontal.png")
        >>> savemat(f"{folder.name}/frontal_mesh.mat", {"vertices": 200 * np.random.default_rng(0).random((2194, 3))})
        >>> face = load_prnet_face(f"{folder.name}/frontal.png", f"{folder.name}/frontal_mesh.mat")
        >>> face.size, face.topology
        ((224, 224), 'prnet-2194')
        >>> folder.cleanup()
    """
    _check_stride(stride)
    vertices, triangles = _read(Path(mesh_path))
    kept = vertices[_kept(len(vertices), stride, Path(mesh_path))]
    whole = len(kept) == FULL
    return CanonicalFace.from_vertices(
        read_photo(image_path), kept, triangles if whole else None, topology=f"prnet-{len(kept)}"
    )


def _check_stride(stride: int) -> None:
    if stride < 1:
        raise AlignmentError(f"stride: expected at least 1, got {stride}.")


def _kept(count: int, stride: int, path: Path) -> slice:
    if count == FULL:
        return slice(None, None, stride)
    if count == THINNED and stride == STRIDE:
        return slice(None)
    if count == THINNED:
        raise AlignmentError(
            f"{path}: the file holds every {STRIDE}th vertex already; expected stride={STRIDE}, got {stride}."
        )
    raise AlignmentError(f"{path}: expected {FULL} or {THINNED} vertices, got {count}; this is no PRNet mesh.")


def _read(path: Path) -> tuple[Tensor, Tensor | None]:
    """Vertices (N, 3) float64, and triangles (F, 3) int64 if the file holds some."""
    from scipy.io import loadmat

    if not path.is_file():
        raise CanonicalError(f"{path}: expected a .mat file, but there is none.")
    try:
        content = loadmat(path, variable_names=["vertices", "triangles"])
    except Exception as error:  # the reader of damaged files raises nearly anything
        raise CanonicalError(
            f"{path}: the file cannot be read as MATLAB's ({error or type(error).__name__})."
        ) from error
    vertices = np.asarray(content.get("vertices", np.zeros(0)))
    if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype.kind not in "fiu":
        raise AlignmentError(f"{path}: expected an array 'vertices' of shape (N, 3), got {vertices.shape}.")
    if not np.isfinite(vertices).all():
        raise AlignmentError(f"{path}: expected finite vertices, got NaN or infinity.")
    triangles = content.get("triangles")
    return torch.from_numpy(vertices.astype(np.float64)), None if triangles is None else _checked(
        triangles, len(vertices)
    )


def _read_triangles(source: Tensor | np.ndarray | PathType) -> Tensor:
    if isinstance(source, (str, PathLike)):
        triangles = _read(Path(source))[1]
        if triangles is None:
            raise AlignmentError(f"{source}: expected an array 'triangles', the file holds none.")
        return triangles
    return _checked(source, FULL)


def _checked(triangles: Tensor | np.ndarray, count: int) -> Tensor:
    values = torch.as_tensor(triangles)
    fits = values.ndim == 2 and values.shape[1] == 3 and not values.dtype.is_floating_point and len(values) > 0
    if not fits or int(values.min()) < 0 or int(values.max()) >= count:
        raise AlignmentError(
            f"triangles: expected (F, 3) vertex indices from 0 to {count - 1}, got "
            f"{values.dtype} {tuple(values.shape)}."
        )
    return values.cpu().long()
