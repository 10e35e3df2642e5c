"""The pass over all photographs that finds the faces, and its results by photograph and by group."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from captum_canonical.data.finding import Find
from captum_canonical.data.mesh_cache import FORMAT, UNEXPLAINED, MeshCache, MeshOnDisk, StoredMesh
from captum_canonical.data.photo_list import LeftOut, PhotoRow
from captum_canonical.errors import AlignmentError, CanonicalError, NoFaceError, user_stacklevel
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photos import Photo, fraction_of, load_photo
from captum_canonical.faces.quality import QUALITY, Limits, beyond_limits, with_quality
from captum_canonical.files import file_digest

NO_FACE, NOT_ALIGNED, UNREADABLE, LOW_QUALITY = "no face", "not aligned", "unreadable", "low quality"
PIXELS_AT_ONCE = 8_000_000  # pixels of photographs in which faces are looked for together


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
        find: finds the faces in photographs.
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
        assert self._find is not None  # only copies for other processes, which are complete, have none
        waiting: dict[str, tuple[int, Photo]] = {}  # key -> place and photograph
        with tqdm(total=len(todo), desc="Aligning", unit="photo", disable=not show_progress) as bar:
            for place in todo:
                try:
                    key = self._key(place)
                    if key in waiting:  # a file with the same bytes
                        self._find_waiting(waiting, bar)
                    result = self._cache.get(key) if self._cache else None
                    if result is None:
                        waiting[key if self._cache else str(place)] = place, self._load(self.rows[place].path)
                except _LeaveOut as left:
                    self._leave_out(place, left, bar)
                    continue
                if result is not None:
                    self._keep(place, key, result, bar)
                pixels = sum(photo.pixels.shape[0] * photo.pixels.shape[1] for _, photo in waiting.values())
                if len(waiting) == self._find.at_once or pixels > PIXELS_AT_ONCE:
                    self._find_waiting(waiting, bar)
            if waiting:
                self._find_waiting(waiting, bar)
        self.meshes, self.left_out = dict(sorted(self.meshes.items())), dict(sorted(self.left_out.items()))
        self.places = tuple(self.meshes)
        self._warn()

    def _find_waiting(self, waiting: dict[str, tuple[int, Photo]], bar: tqdm[Any]) -> None:
        """Finds the faces in photographs that wait for it, each of which then waits no more."""
        assert self._find is not None
        asked = [(place, self.rows[place], photo.pixels) for place, photo in waiting.values()]
        for found, key in zip(self._find(asked), list(waiting), strict=True):
            place, photo = waiting.pop(key)
            try:
                result = self._stored(place, photo, found)
                if not self._unchanged(place):
                    raise _LeaveOut("the file changed while it was read.", UNREADABLE)
            except _LeaveOut as left:
                self._leave_out(place, left, bar)
                continue
            if self._cache:
                self._cache.put(key, result)
            self._keep(place, key, result, bar)

    def _keep(self, place: int, key: str, result: StoredMesh, bar: tqdm[Any]) -> None:
        face = self._cache.in_memory(key, result) if self._cache and result.found else result
        if not result.found:
            self.left_out[place] = LeftOut(self.rows[place].path, result.reason, NO_FACE)
        elif reason := beyond_limits(quality_of(face), self.limits):
            self.left_out[place] = LeftOut(self.rows[place].path, f"{reason}.", LOW_QUALITY)
            self.beyond[place] = face
        else:
            self.meshes[place] = face
        bar.update()

    def _leave_out(self, place: int, left: _LeaveOut, bar: tqdm[Any]) -> None:
        self.left_out[place] = LeftOut(self.rows[place].path, str(left), left.kind)
        bar.update()

    def _key(self, place: int) -> str:
        """Under which the cache knows the face of a photograph."""
        path = self.rows[place].path
        fraction = self._fraction(path)
        try:
            self._stamps[place] = _stamp(path)
            self.digests[place] = file_digest(path)
        except OSError as error:
            self._load(path)  # raises with the reason
            raise _LeaveOut(f"the file cannot be read ({error}).", UNREADABLE) from error
        smaller = [] if fraction == 1 else [f"read at 1/{fraction} of its size"]
        return hashlib.sha256("\n".join([FORMAT, self.digests[place], self.settings, *smaller]).encode()).hexdigest()

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

    def _stored(self, place: int, photo: Photo, mesh: FaceMesh | AlignmentError | NoFaceError) -> StoredMesh:
        row, shape = self.rows[place], (photo.pixels.shape[0], photo.pixels.shape[1])
        if isinstance(mesh, NoFaceError):
            return StoredMesh.without_face(photo.size, mesh.reason or UNEXPLAINED)
        if isinstance(mesh, AlignmentError):
            raise _LeaveOut(str(mesh), NOT_ALIGNED)
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
