"""The photographs of a benchmark, aligned, scored and divided into folds once for all methods."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_canonical._captum import TargetType, format_forward_args
from captum_canonical.attributions.base import Faces, FacesArgument, face_for, meshes_of
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.benchmarking.measures import BenchmarkSettings
from captum_canonical.checks import check_images
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faithfulness.explanations import score_batches
from captum_canonical.inference.scorer import Scorer, check_per_image
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.statistics.labels import labels_of, people_units
from captum_canonical.statistics.units import factorize

ONE_TARGET = "all"


@dataclass(frozen=True, eq=False)
class BenchmarkPhotos:
    """N photographs in which a face was found.

    Attributes:
        images: (N, C, H, W), copies of the user's.
        faces: N meshes.
        face: the canonical face of all maps.
        area: (N, 1, H, W) bool, the pixels that show the face.
        target, args: of these images, as Captum takes them.
        clean: (N,) float64 on the CPU, the scores of the images.
        units: (N,) int64, the identity of each, from 0 on; an image whose identity is not known is a person of its own.
        folds: (N,) int64.
        groups: for each image what its canonical mean is taken over: its target, or one and the same for all.
        kept: (N,) int64, their places in the user's data.
        left_out: place in the user's data -> why an image is left out.
        identified: how many of them show somebody whose identity is known.
    """

    images: Tensor
    faces: FaceMesh
    face: CanonicalFace
    area: Tensor
    target: TargetType
    args: tuple[Any, ...]
    clean: Tensor
    units: Tensor
    folds: Tensor
    groups: tuple[Hashable, ...]
    kept: Tensor
    left_out: dict[int, str]
    identified: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def aligned_by(self, faces: FacesArgument, face: CanonicalFace) -> BenchmarkPhotos:
        """The same photographs with other meshes and their canonical face; the area that is scored stays as it is.

        Args:
            faces: a mesh for each of the user's photographs, or an aligner, which is called once.
            face: what these meshes belong to.
        """
        if isinstance(faces, FaceMesh):
            faces = _in_order(faces, len(self.kept) + len(self.left_out))[self.kept]
        return replace(self, faces=_aligned(self.images, faces), face=face)

    def first(self) -> BenchmarkPhotos:
        """The first photograph alone."""
        one, count = torch.tensor([0]), len(self)
        part = {
            name: getattr(self, name)[:1] for name in ("images", "area", "clean", "units", "folds", "groups", "kept")
        }
        args = tuple(rows_of(arg, one, count) for arg in self.args)
        return replace(self, faces=self.faces[0], target=rows_of(self.target, one, count), args=args, **part)


def rows_of(value: Any, rows: Tensor, count: int) -> Any:
    """The chosen rows of a tensor or a list with one entry for each of ``count`` images; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim and len(value) == count:
        return value[rows.to(value.device)]
    if isinstance(value, list) and len(value) == count:
        return [value[row] for row in rows.tolist()]
    return value


def prepare(
    forward_func: Callable[..., Any],
    data: Tensor,
    target: TargetType,
    faces: Faces | None,
    canonical_face: FaceLike | None,
    identities: Sequence[Hashable] | Tensor | None,
    additional_forward_args: object | None,
    settings: BenchmarkSettings,
) -> BenchmarkPhotos:
    """Aligns and scores the photographs, once.

    Raises:
        CanonicalError: an argument does not fit, no face was found, or a clean score is not finite.
    """
    check_images("data", data)
    broken = torch.nonzero(~torch.isfinite(data).flatten(1).all(1)).flatten().tolist()
    if broken:
        raise CanonicalError(
            f"data: expected finite values, got NaN or infinity in images {broken[:10]}; leave them out."
        )
    count = len(data)
    labels = labels_of(identities, count, "identities")
    images, given = data.detach(), format_forward_args(additional_forward_args)
    mesh = _aligned(images, faces)
    face = face_for(canonical_face, [mesh])
    area, left_out = _areas(mesh, face)
    kept = torch.tensor([row for row in range(count) if row not in left_out], dtype=torch.int64)
    if not len(kept):
        raise CanonicalError("faces: expected a face in at least one image, found none.")
    images, area = (x[kept.to(x.device)].clone() for x in (images, area))
    check_per_image(Scorer(forward_func, target, given, count), (images,))
    args = _args_of(given, kept, count)
    chosen = rows_of(target, kept, count)
    people = [labels[row] for row in kept.tolist()]
    units = people_units(people)
    groups = _targets(chosen, len(kept)) if settings.per_target else (ONE_TARGET,) * len(kept)
    scorer = Scorer(forward_func, chosen, args, len(kept))
    with torch.no_grad():
        everything = torch.arange(len(kept))
        clean = score_batches(scorer, lambda rows: images[rows.to(images.device)], everything, settings.batch_size)
    folds = assign_folds(units, settings.folds, settings.seed)
    known = len(people) - people.count(None)
    return BenchmarkPhotos(
        images, mesh[kept], face, area, chosen, args, clean, units, folds, groups, kept, left_out, known
    )


def _args_of(args: tuple[Any, ...], kept: Tensor, count: int) -> tuple[Any, ...]:
    """Additional arguments of the images that are kept."""
    for arg in args:
        if isinstance(arg, Tensor) and arg.ndim and len(arg) == len(kept) != count:
            raise CanonicalError(
                f"additional_forward_args: {len(kept)} of {count} images have a face, so that a tensor "
                f"{tuple(arg.shape)} would pass for one with a row for each of them; bind it to forward_func, with "
                "functools.partial, say."
            )
    return tuple(rows_of(arg, kept, count) for arg in args)


def _targets(target: TargetType, count: int) -> tuple[Hashable, ...]:
    """The target of each image."""
    if isinstance(target, Tensor) and target.ndim and len(target) == count:
        return tuple(target.tolist())
    return tuple(target) if isinstance(target, list) else (ONE_TARGET,) * count


def _aligned(images: Tensor, faces: FacesArgument) -> FaceMesh:
    mesh = faces(images) if callable(faces) else faces  # here, so that their number is checked before any is repeated
    aligned = meshes_of((images,), _in_order(mesh, len(images)) if isinstance(mesh, FaceMesh) else mesh)[0]
    assert aligned is not None  # meshes_of raises where there is none
    return aligned


def _in_order(mesh: FaceMesh, count: int) -> FaceMesh:
    """The mesh, one row for each image."""
    index = torch.arange(count) if mesh.image_index is None else mesh.image_index.cpu()
    if len(mesh) != count or not torch.equal(index, torch.arange(count)):
        raise AlignmentError(
            f"faces: expected one mesh for each of the {count} images, in their order, got {len(mesh)}; "
            "choose the images with data[faces.image_index] first."
        )
    return mesh


def _areas(mesh: FaceMesh, face: CanonicalFace) -> tuple[Tensor, dict[int, str]]:
    """(N, 1, H, W) bool, the pixels that show each face, and the images without any."""
    surface = torch.ones(1, 1, *face.size, device=mesh.vertices.device)
    covered = CanonicalProjector(None, canonical_face=face).reproject(surface, mesh, return_coverage=True)[1]
    area = covered > 0
    left_out = {row: "no face was found" for row in mesh.missing}
    for row in torch.nonzero(~area.flatten(1).any(1)).flatten().tolist():
        left_out.setdefault(row, "nothing of the face is seen in the image")
    return area, left_out


def assign_folds(units: Tensor, folds: int, seed: int) -> Tensor:
    """(N,) int64, the fold of each image: all images of an identity in one fold, folds as even as that allows.

    Args:
        units: (N,) int64, the identity of each image, from 0 on.
        folds: their number, or fewer where there are not as many identities.
        seed: identities are dealt out in random order, the largest first.

    Example::

        >>> sorted(assign_folds(torch.tensor([0, 0, 1, 2]), 2, seed=0).bincount().tolist())
        [2, 2]
    """
    sizes = units.bincount()
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(int(seed)))
    order = order[sizes[order].argsort(descending=True, stable=True)]
    held = torch.zeros(min(folds, len(sizes)), dtype=torch.int64)
    fold_of = torch.empty_like(sizes)
    for unit in order.tolist():
        fold_of[unit] = int(held.argmin())
        held[fold_of[unit]] += sizes[unit]
    return fold_of[units]


def held_out_folds(photos: BenchmarkPhotos) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of each fold, and those of the other folds that their mean may be taken over; target by target.

    Raises:
        CanonicalError: there are none.
    """
    groups = factorize(photos.groups)
    for fold in photos.folds.unique().tolist():
        for group in groups[photos.folds == fold].unique().tolist():
            held_out = torch.nonzero((photos.folds == fold) & (groups == group)).flatten()
            others = torch.nonzero((photos.folds != fold) & (groups == group)).flatten()
            if not len(others):
                raise CanonicalError(
                    f"a mean that has not seen image {int(photos.kept[held_out[0]])} needs photos of another identity"
                    + (" with the same target." if photos.groups[int(held_out[0])] != ONE_TARGET else ".")
                )
            yield held_out, others


def canonical_mean(maps: Tensor, coverage: Tensor, face: CanonicalFace, symmetric: bool) -> Tensor:
    """(1, H_F, W_F) the mean of canonical maps (Eq. 6)."""
    saliency = CanonicalModelSaliency(face, symmetric)
    saliency.update(maps, coverage)
    return saliency.compute().mean


def cross_fitted_means(maps: Tensor, coverage: Tensor, photos: BenchmarkPhotos, symmetric: bool) -> Tensor:
    """(N, 1, H, W) the mean of the canonical maps of the other folds (Eq. 6), re-projected onto each image (Fig. 6d).

    Args:
        maps: (N, 1, H_F, W_F) on the canonical face.
        coverage: likewise.
        photos: whose maps they are.
        symmetric: as in :class:`CanonicalModelSaliency`.

    Raises:
        CanonicalError: there are no other folds.
    """
    projector = CanonicalProjector(None, canonical_face=photos.face)
    result = photos.images.new_zeros(len(photos), 1, *photos.images.shape[2:], dtype=maps.dtype)
    for held_out, others in held_out_folds(photos):
        mean = canonical_mean(maps[others], coverage[others], photos.face, symmetric)[None].to(result)
        result[held_out.to(result.device)] = projector.reproject(mean, photos.faces[held_out])  # type: ignore[assignment]
    return result
