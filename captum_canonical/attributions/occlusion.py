"""Canonical occlusion: hide a patch at each point of the face, write the drop at the same point of a frontal face."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor
from tqdm.auto import tqdm

from captum_canonical._captum import BaselineType, TargetType, format_baselines, format_forward_args, log_usage
from captum_canonical.attributions._faces import FacesArgument, as_tuple, face_for, map_dtype, meshes_of
from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import CanonicalError
from captum_canonical.inference import DenseInference, Patches, Scorer
from captum_canonical.mesh import FaceMesh
from captum_canonical.splat import fill_in, footprints, nonempty, splat

PAPER_PATCH, PAPER_INPUT = 15, 224  # pixels: the paper hides 15 x 15 in inputs of 224 x 224
ROWS_PER_FORWARD = 32
Maps = Tensor | tuple[Tensor, ...]


class CanonicalOcclusion(PerturbationAttribution):
    r"""Where on the face a network looks: image-level canonical saliency (CIS).

    At each occlusion point p of the face a square patch of the photograph is replaced by the baseline, and the drop of
    the score, :math:`S_p = \phi(I) - \phi(I_p)` (Eq. 1), is added over a square around the same point of the canonical
    face; each pixel is then divided by the number of squares that cover it (Eqs. 4 and 5). Positive values are
    evidence for the target, in the unit of the forward function's own output; nothing is normalised.

    A point whose vertices are hidden by the face itself, or whose patch lies wholly outside the image, counts nowhere.

    References:
        John, Balasubramanian, Jawahar: Canonical Saliency Maps: Decoding Deep Face Models. IEEE TBIOM 2021,
        doi 10.1109/TBIOM.2021.3120758.

    Args:
        forward_func: a model or any callable; returns one row of scores per image. It is called with different images
            side by side, so what belongs to one image must come through ``additional_forward_args``.
        faces: where the face lies in each image (:class:`FaceMesh`), or an aligner that finds out; for several inputs
            a tuple, with None for inputs that are left untouched. ``attribute(faces=...)`` wins over it.
        canonical_face: the face that maps are written on. Default: :meth:`CanonicalFace.default`.

    Example::

        >>> face = CanonicalFace.default()
        >>> faces = FaceMesh(face.resized((64, 64)).vertices[None], image_size=(64, 64), topology=face.topology)
        >>> brightness_at_the_mouth = lambda x: x[:, :, 40:52, 24:40].mean((1, 2, 3))
        >>> maps = CanonicalOcclusion(brightness_at_the_mouth, faces).attribute(torch.ones(1, 3, 64, 64))
        >>> maps.shape
        torch.Size([1, 1, 224, 224])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        faces: FacesArgument = None,
        canonical_face: CanonicalFace | None = None,
    ) -> None:
        super().__init__(forward_func)
        self.faces = faces
        self.canonical_face = canonical_face

    @log_usage
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        *,
        baselines: BaselineType = None,
        additional_forward_args: object | None = None,
        faces: FacesArgument = None,
        patch_size: float | None = None,
        canonical_patch_size: float | Literal["mesh"] | None = None,
        num_points: int | None = None,
        space: Literal["canonical", "image"] = "canonical",
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
        return_coverage: bool = False,
    ) -> Maps | tuple[Maps, Maps]:
        r"""The canonical map of each image.

        Args:
            inputs: (N, C, H, W), or a tuple of inputs. Where several inputs have meshes, the same facial point is
                hidden in all of them at once (Eq. 8's pair), and counts if it is seen in all.
            target: as in Captum; needed where ``forward_func`` returns several scores per image.
            baselines: what hidden pixels become, as in Captum: a number, or a tensor that broadcasts against the input
                (a blurred copy, a mean face); a tuple of these for several inputs. Default: 0.
            additional_forward_args: as in Captum. Tensors whose first dimension is N are taken as one entry per
                image; everything else is passed on as it is.
            faces: as in the constructor.
            patch_size: side of the patch in pixels of the input. Default: the paper's 15 at 224, scaled to the
                input's height and made odd.
            canonical_patch_size: side on the canonical face in its pixels. Default: ``patch_size`` times the ratio of
                the heights (Algorithm 1, line 4). ``"mesh"``: times the ratio of the sizes of the two faces, so that
                the map does not depend on how large the face is in its image.
            num_points: evaluate only the first ``num_points`` of the progressive points; the others paint the drop
                interpolated from their neighbours. Default: all.
            space: ``"canonical"``, or ``"image"`` to write the drops at the points of the image itself.
            perturbations_per_eval: patches per image and forward call; a call sees at most this times N rows.
                Default: as many as make about 32 rows. Results do not depend on it.
            show_progress: a bar on stderr that counts forward calls.
            return_coverage: return ``(maps, coverage)``.

        Returns:
            *Tensor* or *tuple of Tensors* (one for each input with a mesh, if ``inputs`` is a tuple): maps of shape
            (N, 1, H_F, W_F) of the canonical face, or (N, 1, H, W) in image space; detached, contiguous, on the
            inputs' device, float32 or the inputs' type if wider. 0 where nothing was hit; the coverage, of the same
            shape, counts the hits.

        Raises:
            CanonicalError: an argument, a mesh or the output of ``forward_func`` does not fit.
        """
        photos = as_tuple(inputs)
        meshes = meshes_of(photos, self.faces if faces is None else faces)
        face = face_for(self.canonical_face, meshes)
        sides = tuple(_patch_side(patch_size, x) for x in photos)
        if space not in ("canonical", "image"):
            raise CanonicalError(f"space: expected 'canonical' or 'image', got {space!r}.")
        boxes, seen = _image_footprints(face, meshes, sides)
        painted = boxes  # in image space the patch paints where it hides
        if space == "canonical":
            painted = tuple(
                None if mesh is None else _canonical_footprints(face, mesh, side, x.shape[-2], canonical_patch_size)
                for mesh, side, x in zip(meshes, sides, photos, strict=True)
            )
        evaluated = seen & _prefix(face, num_points).to(seen.device)
        scorer = Scorer(self.forward_func, target, format_forward_args(additional_forward_args), len(photos[0]))
        rows = _rows(perturbations_per_eval, len(photos[0]))
        engine = DenseInference(scorer, photos, _fills(baselines, photos), rows)
        drops = self._drops(engine, boxes, evaluated, show_progress)
        if num_points is not None:
            drops, seen = fill_in(drops, evaluated, seen, face.points(face.vertices).to(seen.device))
        results = []
        for x, mesh, box in zip(photos, meshes, painted, strict=True):
            if mesh is None or box is None:
                continue
            size = face.size if space == "canonical" else mesh.image_size
            values, hits = splat(box, drops, seen, size)
            results.append((values.to(map_dtype(x)).contiguous(), hits.to(map_dtype(x)).contiguous()))
        maps, coverage = (tuple(part) for part in zip(*results, strict=True))
        if isinstance(inputs, Tensor):
            return (maps[0], coverage[0]) if return_coverage else maps[0]
        return (maps, coverage) if return_coverage else maps

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError("attribute_future is not implemented for CanonicalOcclusion")

    def _drops(
        self, engine: DenseInference, boxes: tuple[Tensor | None, ...], evaluated: Tensor, show_progress: bool
    ) -> Tensor:
        """(N, P) float64: clean score minus the score with the point hidden; 0 where it is not evaluated."""
        image, point = torch.nonzero(evaluated, as_tuple=True)
        jobs = [image[:, None]] + [box[image, point] for box in boxes if box is not None]
        # Points whose patches fall on the same pixels are run once.
        distinct, which = torch.unique(torch.cat(jobs, 1), dim=0, return_inverse=True)
        columns = iter(distinct[:, 1:].split(4, 1))
        patches = Patches(distinct[:, 0].cpu(), tuple(None if box is None else next(columns) for box in boxes))
        total = 1 + engine.forwards(patches)
        with tqdm(total=total, desc=f"{self.get_name()} attribution", disable=not show_progress) as bar:
            clean = engine.clean_scores()
            bar.update()
            scores = engine.occluded_scores(patches, bar.update)
        drops = torch.zeros(evaluated.shape, dtype=torch.float64, device=clean.device)
        drops[image, point] = (clean[distinct[:, 0].to(clean.device)] - scores)[which]
        return drops.to(evaluated.device)


def _patch_side(patch_size: float | None, inputs: Tensor) -> float:
    """The side of the patch in pixels of an input."""
    if patch_size is None:
        height = inputs.shape[-2] if inputs.ndim == 4 else PAPER_INPUT
        return 2 * int(PAPER_PATCH * height / PAPER_INPUT / 2) + 1
    return _at_least_one_pixel("patch_size", patch_size)


def _at_least_one_pixel(name: str, side: Any) -> float:
    if isinstance(side, bool) or not isinstance(side, Real) or not 1 <= float(side) < float("inf"):
        raise CanonicalError(f"{name}: expected at least 1 pixel, got {side!r}.")
    return float(side)


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
    return footprints(places, _at_least_one_pixel("canonical_patch_size", canonical_patch_size), face.size)


def _face_size(vertices: Tensor) -> Tensor:
    """(B,) root mean square distance of the vertices from their centre, in all three dimensions."""
    centred = vertices.double() - vertices.double().mean(1, keepdim=True)
    return centred.square().sum(2).mean(1).sqrt().clamp(min=1e-9)


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 1


def _prefix(face: CanonicalFace, num_points: int | None) -> Tensor:
    """(P,) bool, the points to evaluate."""
    chosen = torch.ones(face.num_points, dtype=torch.bool)
    if num_points is None:
        return chosen
    if not _is_count(num_points) or num_points > face.num_points:
        raise CanonicalError(f"num_points: expected 1 to {face.num_points} (this face's points), got {num_points!r}.")
    chosen[face.point_order[int(num_points) :]] = False
    return chosen


def _rows(perturbations_per_eval: int | None, num_images: int) -> int:
    if perturbations_per_eval is None:
        return num_images * max(1, ROWS_PER_FORWARD // num_images)
    if not _is_count(perturbations_per_eval):
        raise CanonicalError(f"perturbations_per_eval: expected an integer from 1 on, got {perturbations_per_eval!r}.")
    return num_images * int(perturbations_per_eval)


def _fills(baselines: BaselineType, inputs: tuple[Tensor, ...]) -> tuple[Tensor | float, ...]:
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
    return fills
