"""The pass over all photographs that finds the faces, and its results by photograph and by group."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from captum_canonical.data.mesh_cache import FORMAT, UNEXPLAINED, MeshCache, MeshOnDisk, StoredMesh
from captum_canonical.data.photo_list import LeftOut, PhotoRow
from captum_canonical.errors import (
    AlignmentError,
    CanonicalError,
    MissingDependencyError,
    NoFaceError,
    user_stacklevel,
)
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photos import Photo, fraction_of, load_photo
from captum_canonical.faces.quality import QUALITY, Limits, beyond_limits, with_quality
from captum_canonical.files import file_digest

NO_FACE, NOT_ALIGNED, UNREADABLE, LOW_QUALITY = "no face", "not aligned", "unreadable", "low quality"
Find = Callable[[int, PhotoRow, np.ndarray], FaceMesh]
"""Place and row of a photograph, and its pixels (H, W, 3) uint8 -> a mesh of one row."""


@dataclass(frozen=True)
class GroupCount:
    """Photographs of a group that are used, and that are left out by :attr:`LeftOut.kind`.

    ``several_faces`` counts those in which the aligner found more than one, used or left out for their quality.
    """

    found: int = 0
    no_face: int = 0
    not_aligned: int = 0
    unreadable: int = 0
    low_quality: int = 0
    several_faces: int = 0

    @property
    def left_out(self) -> int:
        """Number of photographs that are left out."""
        return self.no_face + self.not_aligned + self.unreadable + self.low_quality


class Alignment:
    """The face, or the reason why there is none, for each place in a list of photographs.

    An interrupted pass continues where it stopped.

    Args:
        rows: the photographs.
        find: finds the face in a photograph.
        cache: earlier results, or None if a result depends on the place and not only on the photograph.
        settings: cache key of the aligner; with the photograph's bytes it decides the mesh.
        max_pixels: what is decoded of a photograph at most, see :func:`~captum_canonical.faces.photos.load_photo`;
            larger ones that cannot be read smaller are left out before they are decoded.
        limits: of the quality of faces; those beyond are left out.

    Attributes:
        meshes: place -> face, in ascending order.
        beyond: place -> face that is left out because of its quality.
        places: keys of ``meshes``, after the pass.
        left_out: place -> why there is no face.
        digests: place -> SHA-256 of the file, if it could be read.
    """

    def __init__(
        self,
        rows: Sequence[PhotoRow],
        find: Find,
        cache: MeshCache | None,
        settings: str,
        max_pixels: int,
        limits: Limits,
    ) -> None:
        self.rows, self.settings, self.max_pixels, self.limits = rows, settings, max_pixels, limits
        self.meshes: dict[int, StoredMesh | MeshOnDisk] = {}
        self.beyond: dict[int, StoredMesh | MeshOnDisk] = {}
        self.places: tuple[int, ...] = ()
        self.left_out: dict[int, LeftOut] = {}
        self.digests: dict[int, str] = {}
        self._stamps: dict[int, tuple[int, int]] = {}
        self._find: Find | None = find
        self._cache = cache

    @property
    def complete(self) -> bool:
        """Whether every photograph has a result."""
        return len(self.meshes) + len(self.left_out) == len(self.rows)

    def __getstate__(self) -> dict[str, object]:
        """Pickles the results without the aligner, which may hold networks and threads."""
        return vars(self) | {"_find": None, "_cache": None}

    # ------------------------------------------------------------------------------------------------ the pass
    def run(self, show_progress: bool, first: int = 0) -> None:
        """Finds the face in each photograph that has no result yet, in order from the place ``first`` on."""
        done = self.meshes.keys() | self.left_out.keys()
        order = [*range(first, len(self.rows)), *range(min(first, len(self.rows)))]
        todo = [place for place in order if place not in done]
        for place in tqdm(todo, desc="Aligning", unit="photo", disable=not show_progress):
            path = self.rows[place].path
            try:
                result = self._one(place)
            except _LeaveOut as left:
                self.left_out[place] = LeftOut(path, str(left), left.kind)
                continue
            if isinstance(result, str):
                self.left_out[place] = LeftOut(path, result, NO_FACE)
            elif reason := beyond_limits(quality_of(result), self.limits):
                self.left_out[place] = LeftOut(path, f"{reason}.", LOW_QUALITY)
                self.beyond[place] = result
            else:
                self.meshes[place] = result
        self.meshes, self.left_out = dict(sorted(self.meshes.items())), dict(sorted(self.left_out.items()))
        self.places = tuple(self.meshes)
        self._warn()

    def _one(self, place: int) -> StoredMesh | MeshOnDisk | str:
        """The face of one photograph, or why there is none."""
        path = self.rows[place].path
        fraction = self._fraction(path)
        try:
            self._stamps[place] = _stamp(path)
            self.digests[place] = file_digest(path)
        except OSError as error:
            self._load(path)  # raises with the reason
            raise _LeaveOut(f"the file cannot be read ({error}).", UNREADABLE) from error
        smaller = [] if fraction == 1 else [f"read at 1/{fraction} of its size"]
        key = hashlib.sha256("\n".join([FORMAT, self.digests[place], self.settings, *smaller]).encode()).hexdigest()
        result = self._cache.get(key) if self._cache else None
        if result is None:
            result = self._align(place, self._load(path))
            if not self._unchanged(place):
                raise _LeaveOut("the file changed while it was read.", UNREADABLE)
            if self._cache:
                self._cache.put(key, result)
        if not result.found:
            return result.reason
        return self._cache.in_memory(key, result) if self._cache else result

    def _fraction(self, path: Path) -> int:
        try:
            return fraction_of(path, self.max_pixels)
        except CanonicalError as error:
            raise _LeaveOut(str(error), UNREADABLE) from error

    def _load(self, path: Path) -> Photo:
        try:
            return load_photo(path, self.max_pixels)
        except CanonicalError as error:
            raise _LeaveOut(str(error).removeprefix(f"{path}: "), UNREADABLE) from error

    def _align(self, place: int, photo: Photo) -> StoredMesh:
        row, shape = self.rows[place], (photo.pixels.shape[0], photo.pixels.shape[1])
        assert self._find is not None  # only copies for other processes, which are complete, have none
        try:
            mesh = self._find(place, row, photo.pixels)
        except NoFaceError as error:
            return StoredMesh.without_face(photo.size, error.reason or UNEXPLAINED)
        except AlignmentError as error:
            raise _LeaveOut(str(error), NOT_ALIGNED) from error
        if not isinstance(mesh, FaceMesh) or len(mesh) != 1:
            got = f"{len(mesh)} rows" if isinstance(mesh, FaceMesh) else type(mesh).__name__
            raise CanonicalError(
                f"{row.label}: expected a FaceMesh of one row for each photograph, got {got}; aligners choose "
                'one face with face="largest".'
            )
        if mesh.image_size == shape:
            return _measured(photo.mesh_in_file(mesh), photo)
        if mesh.image_size == photo.size:  # it was there already, for a file that is read smaller
            return _measured(mesh, photo)
        raise _LeaveOut(f"the mesh is for an image of {mesh.image_size}, the photograph has {photo.size}.", NOT_ALIGNED)

    # ----------------------------------------------------------------------------------------------- afterwards
    def photo(self, place: int) -> Photo:
        """Reads the photograph again.

        Raises:
            CanonicalError: the file has changed since its face was found.
        """
        path = self.rows[place].path
        if not self._unchanged(place):
            raise CanonicalError(
                f"{path}: the file changed or went away since its face was found; make the data set again."
            )
        return load_photo(path, self.max_pixels)

    def _unchanged(self, place: int) -> bool:
        path = self.rows[place].path
        try:
            return _stamp(path) == self._stamps[place] or file_digest(path) == self.digests[place]
        except OSError:
            return False

    def duplicates(self) -> dict[int, int]:
        """Place -> the first place whose file has the same bytes."""
        first: dict[str, int] = {}
        for place in sorted(self.digests):
            first.setdefault(self.digests[place], place)
        return {place: first[digest] for place, digest in sorted(self.digests.items()) if first[digest] != place}

    def quality(self, place: int) -> dict[str, float]:
        """What is known about the face at a place; NaN where something is not, empty where there is no face."""
        face = self.meshes.get(place) or self.beyond.get(place)
        return {} if face is None else quality_of(face)

    def counts(self, groups: Sequence[Any]) -> dict[Any, GroupCount]:
        """Counts by the groups of all photographs, in order of the first photograph of each."""
        counts: dict[Any, Counter[str]] = {group: Counter() for group in groups}
        for place, group in enumerate(groups):
            counts[group][self.left_out[place].kind if place in self.left_out else "found"] += 1
            counts[group]["several"] += self.quality(place).get("faces", 1) > 1
        names = ("found", NO_FACE, NOT_ALIGNED, UNREADABLE, LOW_QUALITY, "several")
        return {group: GroupCount(*(count[name] for name in names)) for group, count in counts.items()}

    def _warn(self) -> None:
        """One warning about photographs that are left out and groups that have too few faces."""
        messages = []
        if self.left_out:
            reasons = Counter(left.kind for left in self.left_out.values())
            first = self.left_out[min(self.left_out)]
            messages.append(
                f"{len(self.left_out)} of {len(self.rows)} photographs are left out "
                f"({', '.join(f'{count} {kind}' for kind, count in reasons.items())}; the first is {first.path.name}: "
                f"{first.reason}); .left_out holds all of them, .counts() their groups."
            )
        counts = {
            group: count for group, count in self.counts([row.group for row in self.rows]).items() if group is not None
        }
        for number, problem in ((0, "no face was found"), (1, "only one face was found, too few for a spread")):
            groups = [repr(group) for group, count in counts.items() if count.found == number]
            if groups:
                messages.append(
                    f"Groups in which {problem}: {', '.join(groups[:10])}{', ...' if len(groups) > 10 else ''}."
                )
        if messages:
            warnings.warn("AlignedFaces: " + " ".join(messages), stacklevel=user_stacklevel())


def quality_of(face: StoredMesh | MeshOnDisk) -> dict[str, float]:
    """How well a face is seen, by name; NaN where something is not known."""
    return dict(zip(QUALITY, face.quality.tolist(), strict=True))


def _measured(mesh: FaceMesh, photo: Photo) -> StoredMesh:
    """A mesh in pixels of the file, with its quality, which is measured in what was read of the file."""
    if mesh.missing:
        return StoredMesh.of(mesh)
    if "sharpness" not in mesh.quality:
        seen = with_quality(photo.mesh_of(mesh), [photo.pixels])
        mesh = replace(mesh, quality=seen.quality)
    sides = mesh.boxes[:, 2:] - mesh.boxes[:, :2]
    return StoredMesh.of(replace(mesh, quality={**mesh.quality, "size": sides.amax(1)}))


class _LeaveOut(Exception):
    """One photograph is left out, for this reason."""

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _stamp(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def look_up(faces: Callable[[Path], FaceMesh] | FaceMesh | None, count: int) -> Find:
    """Meshes that are there already: one row for each photograph, or a callable from paths."""
    if isinstance(faces, FaceMesh):
        if len(faces) != count:
            raise CanonicalError(f"faces: expected a row for each of {count} photographs, got {len(faces)}.")
        return lambda place, row, photo: faces[place]
    if not callable(faces):
        raise CanonicalError(f"faces: expected a FaceMesh or a callable from a path, got {type(faces).__name__}.")

    def find(place: int, row: PhotoRow, photo: np.ndarray) -> FaceMesh:
        try:
            return faces(row.path)
        except (NoFaceError, MissingDependencyError):
            raise
        except (CanonicalError, OSError) as error:
            raise AlignmentError(str(error)) from error  # a file of meshes that is missing or damaged

    return find
