"""What a call of canonical occlusion hides and paints at each point, from its arguments to the drops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_canonical._captum import BaselineType, format_baselines
from captum_canonical.attributions.base import map_dtype
from captum_canonical.checks import check_choice, check_integer, check_number, check_representable
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.splat import fill_in, footprints, nonempty, splat
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.rounding import Rounding
from captum_canonical.inference.scorer import Scorer
from captum_canonical.turns import turn_at

Maps = Tensor | tuple[Tensor, ...]
PAPER_PATCH, PAPER_INPUT = 15, 224  # pixels: the paper hides 15 x 15 in inputs of 224 x 224


def patch_side(patch_size: float | None, inputs: Tensor) -> float:
    """The side of the patch in pixels of an input."""
    if patch_size is None:
        height = inputs.shape[-2] if inputs.ndim == 4 else PAPER_INPUT
        return 2 * int(PAPER_PATCH * height / PAPER_INPUT / 2) + 1
    return pixels("patch_size", patch_size)


def pixels(name: str, side: Any) -> float:
    """A side of at least one pixel."""
    return check_number(name, side, least=1, below=inf, expected="at least 1 pixel")


def prefix_of(face: CanonicalFace, num_points: int | None) -> Tensor:
    """(P,) bool, the points to evaluate."""
    chosen = torch.ones(face.num_points, dtype=torch.bool)
    if num_points is None:
        return chosen
    count = check_integer("num_points", num_points, 1, face.num_points, f"1 to {face.num_points} (this face's points)")
    chosen[face.point_order[count:]] = False
    return chosen


def rows_for(perturbations_per_eval: int | None, num_images: int) -> int | None:
    """Rows of a forward call; None leaves it to the inference."""
    if perturbations_per_eval is None:
        return None
    return num_images * check_integer("perturbations_per_eval", perturbations_per_eval, 1)


def fills_for(baselines: BaselineType, inputs: tuple[Tensor, ...]) -> tuple[Tensor | float, ...]:
    """What hidden pixels of each input become."""
    try:
        fills = format_baselines(baselines, inputs)
    except AssertionError as error:
        raise CanonicalError(f"baselines: {error}") from error
    if len(fills) != len(inputs):
        raise CanonicalError(f"baselines: expected one for each of the {len(inputs)} inputs, got {len(fills)}.")
    for fill, x in zip(fills, inputs, strict=True):
        if isinstance(fill, Tensor):
            try:
                fits = torch.broadcast_shapes(fill.shape, x.shape) == x.shape
            except RuntimeError:
                fits = False
            if not fits or fill.device != x.device:
                raise CanonicalError(
                    f"baselines: a tensor of shape {tuple(fill.shape)} on {fill.device} does not broadcast against the "
                    f"input of shape {tuple(x.shape)} on {x.device}."
                )
        elif not isinstance(fill, (int, float)):
            raise CanonicalError(f"baselines: expected a number or a tensor, got {type(fill).__name__}.")
        check_representable("baselines", fill, x.dtype)
    return fills


Engine = DenseInference | IncrementalInference


@dataclass(frozen=True)
class PointGeometry:
    """What is hidden and what is painted at each of P points of N faces.

    Attributes:
        boxes: for each input what is hidden, (N, P, 4), or None if the input is left alone.
        painted: for each of these inputs, in its place, what is painted, (N or 1, P, 4), or None.
        seen: (N, P) bool, the points that count: seen in all inputs.
        sizes: (height, width) of the map of each input.
        places: (P, 3) where the points lie on the canonical face.
    """

    boxes: tuple[Tensor | None, ...]
    painted: tuple[Tensor | None, ...]
    seen: Tensor
    sizes: tuple[tuple[int, int], ...]
    places: Tensor

    @classmethod
    def of(
        cls,
        face: CanonicalFace,
        photos: tuple[Tensor, ...],
        meshes: tuple[FaceMesh | None, ...],
        patch_size: float | None,
        canonical_patch_size: float | str | None,
        space: str,
    ) -> PointGeometry:
        """For the arguments of ``CanonicalOcclusion.attribute``."""
        check_choice("space", space, ("canonical", "image"))
        sides = tuple(patch_side(patch_size, x) for x in photos)
        boxes, seen = _image_footprints(face, meshes, sides)
        painted = boxes  # in image space the patch paints where it hides
        if space == "canonical":
            painted = tuple(
                None if mesh is None else _canonical_footprints(face, mesh, side, x.shape[-2], canonical_patch_size)
                for mesh, side, x in zip(meshes, sides, photos, strict=True)
            )
        sizes = tuple(face.size if space == "canonical" or mesh is None else mesh.image_size for mesh in meshes)
        return cls(boxes, painted, seen, sizes, face.points(face.vertices).to(seen.device))

    def restricted(self, points: Tensor | None) -> PointGeometry:
        """The same faces with some of the points only: (P,) or (N, P) bool, or None for all.

        Raises:
            CanonicalError: it is no such tensor.
        """
        if points is None:
            return self
        shapes = (tuple(self.seen.shape), tuple(self.seen.shape[1:]))
        if not isinstance(points, Tensor) or points.dtype != torch.bool or tuple(points.shape) not in shapes:
            got = f"{points.dtype} {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
            raise CanonicalError(f"points: expected a bool tensor of shape {shapes[0]} or {shapes[1]}, got {got}.")
        return replace(self, seen=self.seen & points.to(self.seen.device))

    def patches(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """What the wanted points (N, P) hide, without repetitions.

        Returns:
            (J, 1 + 4 K) image and boxes in the K inputs with a mesh, of each patch, and (M,) which of them belongs to
            each wanted point, in the order of ``torch.nonzero(wanted)``.
        """
        image, point = torch.nonzero(wanted, as_tuple=True)
        jobs = [image[:, None]] + [box[image, point] for box in self.boxes if box is not None]
        return torch.unique(torch.cat(jobs, 1), dim=0, return_inverse=True)

    def paint(self, drops: Tensor, evaluated: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(map, coverage), (N, 1, H, W) each, of every input with a mesh.

        Args:
            drops: (N, P) float64.
            evaluated: (N, P) bool, the drops that are known; the other points paint what lies between them.
        """
        drops, seen = fill_in(drops, evaluated, self.seen, self.places)
        return [
            splat(box, drops, seen, size) for box, size in zip(self.painted, self.sizes, strict=True) if box is not None
        ]


class Drops:
    """The drops of the points, clean score minus the score with the point hidden, found when they are asked for.

    Points whose patches fall on the same pixels are run once.

    Args:
        geometry: what each point hides.
        wanted: (N, P) bool, points that may be asked for.
        scorer: gives the scores of the
        photos: the inputs of the model, each (N, ...).
        choose: gives the inference for all their patches.

    Attributes:
        values: (N, P) float64, 0 where a point has not been evaluated.
        evaluated: (N, P) bool.
    """

    def __init__(
        self,
        geometry: PointGeometry,
        wanted: Tensor,
        scorer: Scorer,
        photos: tuple[Tensor, ...],
        choose: Callable[[Patches], Engine],
    ) -> None:
        self.scorer, self._photos = scorer, photos
        self._image, self._point = torch.nonzero(wanted, as_tuple=True)
        self._distinct, self._which = geometry.patches(wanted)
        self._hidden = tuple(box is not None for box in geometry.boxes)
        self._engine = choose(self._patches(torch.arange(len(self._distinct), device=wanted.device)))
        self._clean: Tensor | None = None
        self._scores = torch.full((len(self._distinct),), torch.nan, dtype=torch.float64, device=wanted.device)
        self.values = torch.zeros(wanted.shape, dtype=torch.float64, device=wanted.device)
        self.evaluated = torch.zeros_like(wanted)
        self._rounding: Rounding | None = None
        self._said = False

    def evaluate(self, points: Tensor, name: str, show_progress: bool) -> None:
        """Finds the drops of these points (P,) in every image, as far as they are wanted and not yet known."""
        asked = points.to(self._point.device)[self._point]
        new = torch.zeros_like(self._scores, dtype=torch.bool)
        new[self._which[asked]] = True
        new &= self._scores.isnan()
        patches = self._patches(torch.nonzero(new).flatten())
        total = self._engine.forwards(patches) + (self._clean is None)
        with tqdm(total=total, desc=name, disable=not show_progress) as bar:
            if self._clean is None:
                self._clean = self._engine.clean_scores().to(self._scores.device)
                bar.update()
            self._scores[new] = self._engine.occluded_scores(patches, bar.update).to(self._scores.device)
        image, point = self._image[asked], self._point[asked]
        self.values[image, point] = self._clean[image] - self._scores[self._which[asked]]
        self.evaluated[image, point] = True
        if self._rounding is None:
            self._rounding = Rounding.measured(self.scorer, self._photos, self._scores)

    def tell_rounding(self, maps: Tensor | tuple[Tensor, ...]) -> None:
        """Says once, of the first maps, how much rounding may move them; see :class:`Rounding`."""
        if self._rounding is not None and not self._said:
            self._rounding.tell(maps)
        self._said = True

    def _patches(self, rows: Tensor) -> Patches:
        jobs = self._distinct[rows]
        columns = iter(jobs[:, 1:].split(4, 1))
        return Patches(jobs[:, 0].cpu(), tuple(next(columns) if here else None for here in self._hidden))


def _image_footprints(
    face: CanonicalFace, meshes: tuple[FaceMesh | None, ...], sides: tuple[float, ...]
) -> tuple[tuple[Tensor | None, ...], Tensor]:
    """The boxes (N, P, 4) that each point hides in each input, and which points (N, P) count: seen in all inputs."""
    boxes: list[Tensor | None] = []
    seen: Tensor | None = None
    for mesh, side in zip(meshes, sides, strict=True):
        if mesh is None:
            boxes.append(None)
            continue
        box = footprints(face.points(mesh.vertices)[..., :2], side, mesh.image_size)
        here = face.points_seen(mesh.visible) & nonempty(box)
        seen = here if seen is None else seen & here
        boxes.append(box)
    if seen is None:
        raise CanonicalError("faces: expected a mesh for at least one of the inputs.")
    return tuple(boxes), seen


def _canonical_footprints(
    face: CanonicalFace, mesh: FaceMesh, side: float, height: int, canonical_patch_size: float | str | None
) -> Tensor:
    """The boxes (N or 1, P, 4) that the points paint on the canonical face."""
    places = face.points(face.vertices).to(mesh.vertices.device)[None, :, :2]
    if canonical_patch_size is None:
        return footprints(places, side * face.size[0] / height, face.size)  # Algorithm 1, line 4
    if canonical_patch_size == "mesh":
        sizes = side * _face_size(face.vertices[None]).to(places.device) / _face_size(mesh.vertices)
        return footprints(places.expand(len(mesh), -1, -1), sizes[:, None], face.size)
    return footprints(places, pixels("canonical_patch_size", canonical_patch_size), face.size)


def _face_size(vertices: Tensor) -> Tensor:
    """(B,) root mean square distance of the vertices from their centre, in all three dimensions."""
    centred = vertices.double() - vertices.double().mean(1, keepdim=True)
    return centred.square().sum(2).mean(1).sqrt().clamp(min=1e-9)


@dataclass(frozen=True)
class OcclusionCall:
    """A call of ``CanonicalOcclusion.attribute`` or ``refine`` under way."""

    photos: tuple[Tensor, ...]
    single: bool
    face: CanonicalFace
    geometry: PointGeometry
    drops: Drops

    def evaluate(self, num_points: int | None, name: str, show_progress: bool) -> None:
        """Finds the drops of the first ``num_points`` points, or of all."""
        with turn_at(self.drops.scorer.forward_func, alone=False):
            self.drops.evaluate(prefix_of(self.face, num_points), name, show_progress)

    def maps(self, num_points: int | None = None) -> tuple[Maps, Maps]:
        """(maps, coverage) from the first ``num_points`` points, or from all that have been evaluated."""
        known = self.drops.evaluated & prefix_of(self.face, num_points).to(self.drops.evaluated.device)
        painted = iter(self.geometry.paint(self.drops.values, known))
        results = [
            tuple(part.to(map_dtype(x)).contiguous().to(x.device) for part in next(painted))
            for x, box in zip(self.photos, self.geometry.painted, strict=True)
            if box is not None
        ]
        maps, coverage = (tuple(part) for part in zip(*results, strict=True))
        return (maps[0], coverage[0]) if self.single else (maps, coverage)
