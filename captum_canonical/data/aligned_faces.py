"""A data set of faces, found once and cropped to a network's input together with their meshes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from captum_canonical.adapters.aligner import Aligner, as_aligner
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.checks import check_integer, check_path
from captum_canonical.data.alignment import Alignment, GroupCount
from captum_canonical.data.crop_templates import CropTemplate
from captum_canonical.data.finding import find_with, look_up
from captum_canonical.data.mesh_cache import MeshCache
from captum_canonical.data.photo_list import LeftOut
from captum_canonical.data.records import FaceRecord, NetworkInput, collate, group_columns
from captum_canonical.data.sources import Source, list_rows
from captum_canonical.data.targets import class_names, with_targets
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.images import Statistics
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photo_files import PathType
from captum_canonical.faces.photos import Photo
from captum_canonical.faces.quality import QUALITY, Limits, checked_limits, known_quality

MAX_PIXELS = 64_000_000  # 192 MB as 8-bit colours


class AlignedFaces(Dataset[FaceRecord]):
    """A data set of photographs with the face in each, targets, groups and identities.

    Faces are found in a separate pass (:meth:`align`), in the process that made the data set, when they are first
    needed; with ``cache`` it is skipped the next time. Photographs that cannot be read or show no face are left
    out and listed in :attr:`left_out` with the reason; a missing face is itself a bias, so :meth:`counts` has them by
    group. Record i is the i-th photograph that is used; its ``place`` counts all of them. One face is taken from each
    photograph: the one that the aligner chooses, which is the largest.

    With a ``DataLoader`` that has workers, call :meth:`align` first (``shuffle=True`` does): workers only read meshes
    and photographs, and start no aligner. Photographs are read again at each use, never kept.

    Args:
        source: a folder (the photographs in it and in its sub-folders in order of their names; what else is there is
            in :attr:`unused`); what :func:`read_labels` returns; a text file or a DataFrame with a column ``path`` and
            perhaps ``target``, ``group`` and ``identity``; or a list of paths, tuples (path, target, group, identity),
            dicts of these, or :class:`PhotoRow`. A group or identity that is None, NaN, ``pd.NA``, empty or one of
            :data:`~captum_canonical.statistics.labels.MISSING_TEXTS` is missing, and a photograph whose identity is
            missing shows a person of its own; 1, 1.0 and "1.0" are one group.
        aligner: an :class:`~captum_canonical.adapters.Aligner`, with either ``on_missing``, or any callable
            that takes ``[photo]`` and returns a :class:`FaceMesh` of one row. Default:
            :class:`~captum_canonical.adapters.FaceMeshAligner`.
        faces: meshes that are there already, in place of an aligner: a callable from a path to a mesh of one row, or a
            mesh with one row for each photograph of the source. They are not cached.
        size: (H, W) of the network's input, or one number for a square. Default: the size of the crop template.
        crop: ``"face"`` for the part around the face (:func:`~captum_canonical.faces.images.crop_to_face`); what a
            recognition network was trained on, ``"arcface"``, ``"dlib"``, ``"facenet"`` or a
            :class:`~captum_canonical.data.CropTemplate`, by which each photograph is turned, scaled and shifted; a box
            (left, top, right, bottom) in pixels of all photographs; or None for the whole photo, whose shape becomes
            that of the input.
        margin: around the face, as a share of its longer side; only with ``crop="face"``.
        fill: what is beyond the photo, see :func:`captum_canonical.faces.images.crop_photo`.
        channels: ``"RGB"``, ``"BGR"`` or ``"L"`` (one grey channel), the order in which the network takes them.
        mean, std: of the normalisation ``(image - mean) / std`` of images in 0..1, a number or one for each channel.
        dtype: floating-point type of the images.
        cache: a folder for meshes, which any number of data sets and processes may share. A mesh is found again when
            a byte of its photograph or a setting of the aligner changes.
        cache_key: a text that changes whenever the meshes would, for an aligner that has no
            :meth:`~captum_canonical.adapters.Aligner.cache_key` of its own (a function, a network).
        classes: how many classes there are, or their names in the order of the network's outputs, of which there must
            be as many. Default: those of the source if it is of :func:`read_labels`, else targets are class indices, or
            numbers to be predicted if one of them is written with a decimal point.
        columns: ``{"path": "file", "group": ("gender", "race")}``: other names of a table's columns, groups several.
        root: where relative paths start. Default: the folder of the table, the working folder for a list.
        subfolder: what the name of the folder that holds a photo means: ``"target"``, ``"group"`` or ``"identity"``;
            photographs at the top have none.
        quality: ``{"size": (40, None), "yaw": (-30, 30)}``: the least and the greatest value of measures of how well a
            face is seen (:data:`~captum_canonical.faces.quality.QUALITY`), None for no end; photographs beyond are left
            out as "low quality".
        max_pixels: photographs with more are left out before they are decoded; JPEG files are used at a half, a
            quarter or an eighth of their sides instead, with meshes and boxes in pixels of the file.

    Attributes:
        classes: their names, None where they have none.
        num_classes: how many there are, None where that is not known.
        limits: of ``quality``, name -> (least, greatest).
        rows: all photographs of the source, as :class:`PhotoRow` with their targets.
        unused: files of a folder that are no photographs or hidden, and names and lines without a usable label, as
            :class:`LeftOut`.

    Raises:
        CanonicalError: the source, a target or an argument is not as above; nothing was computed yet.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> from captum_canonical.adapters import PixelGrid
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("a.png", "b.png"):
        ...     Image.new("RGB", (60, 40), "orange").save(f"{folder.name}/{name}")
        >>> data = AlignedFaces(folder.name, PixelGrid(4, 4), size=(32, 48), crop=None, mean=0.5, std=0.5)
        >>> batch = data.collate([data[0], data[1]])
        >>> tuple(batch.images.shape), batch.faces.image_size, batch.names, data.duplicates
        ((2, 3, 32, 48), (32, 48), ['a.png', 'b.png'], {1: 0})
        >>> folder.cleanup()
    """

    def __init__(
        self,
        source: Source,
        aligner: Callable[..., FaceMesh] | None = None,
        *,
        faces: Callable[[Path], FaceMesh] | FaceMesh | None = None,
        size: int | tuple[int, int] | None = None,
        crop: str | CropTemplate | Sequence[float] | None = "face",
        margin: float = 0.25,
        fill: str | float | Sequence[float] = "edge",
        channels: str = "RGB",
        mean: Statistics | None = None,
        std: Statistics | None = None,
        dtype: torch.dtype | str = torch.float32,
        cache: PathType | None = None,
        cache_key: str | None = None,
        classes: int | Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        root: PathType | None = None,
        subfolder: str | None = None,
        quality: Limits | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_integer("max_pixels", max_pixels, 1)
        self.limits = checked_limits(quality)
        table = list_rows(source, columns, root, subfolder)
        if table.classes is not None and classes in (None, len(table.classes)):
            classes = table.classes
        self.classes, self.unused = class_names(classes), tuple(table.unused)
        self.num_classes = len(self.classes) if self.classes else None if classes is None else int(classes)  # type: ignore[arg-type]
        self.rows = tuple(with_targets(table, classes))
        normal = (0.0 if mean is None else mean, 1.0 if std is None else std, dtype)
        self._input = NetworkInput(size, crop, margin, fill, channels, *normal)
        if aligner is not None and faces is not None:
            raise CanonicalError("AlignedFaces: expected either an aligner or faces=, got both.")
        self._settings, meshes = None, None
        if faces is not None:
            find = look_up(faces, len(self.rows))
        else:
            made = FaceMeshAligner(on_missing="skip") if aligner is None else as_aligner(aligner)
            find, meshes = find_with(made), MeshCache(None if cache is None else check_path("cache", cache))
            self._settings = _key_of(made, cache) if cache_key is None else f"key {cache_key}"
        self._alignment = Alignment(self.rows, find, meshes, self._settings or "", max_pixels, self.limits)

    # ---------------------------------------------------------------------------------------------- the faces
    def align(self, show_progress: bool = False, first: int = 0) -> AlignedFaces:
        """Finds the faces that are not known yet; everything else calls it when it needs them.

        Interrupted, it keeps what it has and goes on from there at the next call.

        Args:
            show_progress: a bar on stderr with photographs per second and the time left.
            first: place in :attr:`rows` to begin at; the ones before it come last. Processes that share a cache and
                begin at different places find each face once.

        Returns:
            The data set itself.

        Raises:
            CanonicalError: the aligner gave something else than one row, or it is called in a worker of a DataLoader.
            MissingDependencyError: the aligner cannot run.
        """
        if not self._alignment.complete:
            if get_worker_info() is not None:
                raise CanonicalError(
                    "AlignedFaces: expected the faces to be found before workers of a DataLoader start, so that not "
                    "each of them starts an aligner; call data.align() before iterating over the loader."
                )
            self._alignment.run(show_progress, first)
        return self

    def __len__(self) -> int:
        return len(self.align()._alignment.meshes)

    def __getitem__(self, index: int) -> FaceRecord:
        """The record of the index-th photograph that is used.

        Raises:
            CanonicalError: its file changed since its face was found.
        """
        place = self.places[index]
        photo, mesh = self._alignment.photo(place), self._alignment.meshes[place].mesh()
        image, moved = self._input_of(photo)(photo.pixels, photo.mesh_of(mesh))
        return FaceRecord(image, moved, self.rows[place], place)

    def _input_of(self, photo: Photo) -> NetworkInput:
        """The network's input of a photograph, of which a box is in pixels of the file."""
        crop = self._input.crop
        smaller_box = photo.factor > 1 and isinstance(crop, tuple)
        return replace(self._input, crop=photo.box_of(crop)) if smaller_box else self._input  # type: ignore[arg-type]

    collate = staticmethod(collate)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: with all faces found, and without the aligner."""
        return vars(self.align())

    # ---------------------------------------------------------------------------------------------- reports
    @property
    def places(self) -> tuple[int, ...]:
        """Where in :attr:`rows` the photograph of each record stands."""
        return self.align()._alignment.places

    @property
    def left_out(self) -> Mapping[int, LeftOut]:
        """Place in :attr:`rows` -> path, reason and kind of each photograph that is not used."""
        return MappingProxyType(self.align()._alignment.left_out)

    def face_box(self, place: int) -> tuple[float, float, float, float] | None:
        """(left, top, right, bottom) of the face at a place in :attr:`rows`, in pixels of the file; None without."""
        mesh = self.align()._alignment.meshes.get(place)
        return None if mesh is None else mesh.box

    def mesh(self, place: int) -> FaceMesh:
        """The mesh of the face at a place in :attr:`rows`, one row in pixels of the file.

        Raises:
            CanonicalError: the photograph is left out.
        """
        found = self.align()._alignment.meshes.get(place)
        if found is None:
            raise CanonicalError(f"place {place}: expected a photograph with a face; .places has them.")
        return found.mesh()

    def photo_and_mesh(self, place: int) -> tuple[np.ndarray, FaceMesh]:
        """The photograph at a place in :attr:`rows`, (H, W, 3) uint8 sRGB, upright, and the mesh in its pixels.

        Raises:
            CanonicalError: it is left out, or its file changed since its face was found.
        """
        mesh, photo = self.mesh(place), self._alignment.photo(place)
        return photo.pixels, photo.mesh_of(mesh)

    @property
    def quality(self) -> dict[str, list[float | None]]:
        """Measure (:data:`~captum_canonical.faces.quality.QUALITY`) -> a value for each of :attr:`rows`.

        None where it is not known; measures that are not known of any face are left out.
        """
        found = [self.align()._alignment.quality(place) for place in range(len(self.rows))]
        return known_quality({name: [each.get(name) for each in found] for name in QUALITY})

    @property
    def duplicates(self) -> dict[int, int]:
        """Place in :attr:`rows` -> the first place with the same bytes. Duplicates are used like all others."""
        return self.align()._alignment.duplicates()

    def counts(self, by: str | Sequence[str] = "group") -> dict[Any, GroupCount]:
        """For each group, None being photographs without one: how many are used, and why the others are not.

        Args:
            by: ``"group"``, one of the columns in :attr:`PhotoRow.groups`, or several, whose values are crossed:
                ``counts(("gender", "race"))`` has keys such as ``("Female", "Black")``.

        Raises:
            CanonicalError: there is no such column.
        """
        columns = {"group": [row.group for row in self.rows], **group_columns(self.rows)}
        unknown = [name for name in ([by] if isinstance(by, str) else by) if name not in columns]
        if unknown:
            raise CanonicalError(f"counts: expected a column among {', '.join(columns)}, got {unknown[0]!r}.")
        groups = columns[by] if isinstance(by, str) else list(zip(*(columns[name] for name in by), strict=True))
        return self.align()._alignment.counts(groups)

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """What is done with each photograph, as what JSON can hold: size, crop, fill, channels, mean and std."""
        return self._input.settings

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the inputs: bytes of the files, targets, aligner, crop, size and normalisation.

        It is the same for the same files elsewhere. An aligner without a description, and ``faces=``, count by their
        meshes.
        """
        alignment = self.align()._alignment
        lines = [repr(self.preprocessing), self._settings or "meshes"]
        for place, row in enumerate(self.rows):
            mesh = alignment.meshes.get(place)
            known = None if mesh is None else "found" if self._settings else mesh.digest()
            lines.append(repr((alignment.digests.get(place), known, row.target)))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _key_of(aligner: Aligner, cache: PathType | None) -> str | None:
    """The aligner's cache key; None if it has none and there is no cache that needs one."""
    try:
        return aligner.cache_key()
    except CanonicalError as error:
        if cache is None:
            return None
        raise CanonicalError(
            "cache: expected an aligner of which all settings have a description, so that no mesh of other settings is "
            f"mistaken for its own, but {error}; give cache_key=, a text that changes whenever the meshes would, or "
            "leave out cache=."
        ) from error
