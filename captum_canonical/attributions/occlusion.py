"""Canonical occlusion: hide a patch at each point of the face, write the drop at the same point of a frontal face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_canonical._captum import BaselineType, TargetType, format_forward_args, log_usage
from captum_canonical.attributions.base import (
    CanonicalAttribution,
    FacesArgument,
    as_tuple,
    face_for,
    meshes_of,
)
from captum_canonical.attributions.points import (
    Drops,
    Engine,
    Maps,
    OcclusionCall,
    PointGeometry,
    fills_for,
    prefix_of,
    rows_for,
)
from captum_canonical.attributions.refinement import RefinedMaps, expected_change
from captum_canonical.checks import check_integer, check_number
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import Patches
from captum_canonical.inference.scorer import Scorer, check_per_image
from captum_canonical.turns import turn_at

Inference = Literal["auto", "incremental", "dense"]


class CanonicalOcclusion(CanonicalAttribution, PerturbationAttribution):
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
            a tuple, with None for inputs that are left as they are. ``attribute(faces=...)`` wins over it.
        canonical_face: the face that maps are written on, or its file. Default: :meth:`CanonicalFace.default`.
        inference: how the scores are found; the map is the same up to rounding. ``"incremental"``: for each patch only
            the windows of the network's maps that it can have changed are computed anew. ``"dense"``: everything is.
            ``"auto"``: incremental where the network allows it, is expected to be 1.2 times faster (on a GPU: to take
            4 times fewer multiply-adds), and some patches tried give the same scores; else dense, and the logger
            ``captum_canonical`` says why in a sentence (level INFO).

    Example::

        >>> from captum_canonical import CanonicalFace, FaceMesh
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
        canonical_face: FaceLike | None = None,
        inference: Inference = "auto",
    ) -> None:
        super().__init__(forward_func, faces, canonical_face)
        self.inference = inference

    @torch.no_grad()
    def num_evaluations(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        *,
        faces: FacesArgument = None,
        patch_size: float | None = None,
        num_points: int | None = None,
    ) -> Tensor:
        """How many evaluations of the network :meth:`attribute` will take for each image; the network is not run.

        They are the image itself, and an occluded copy for each point that counts in it; points whose patches cover the
        same pixels share one. :meth:`refine` takes as many in all. Evaluations that check whether incremental inference
        is exact, whose additional arguments are, or how much half precision rounds, do not count.

        Args:
            inputs, faces, patch_size, num_points: as in :meth:`attribute`.

        Returns:
            (N,) int64 on the CPU.

        Raises:
            CanonicalError: an argument or a mesh does not fit.

        Example::

            >>> from captum_canonical import CanonicalFace, FaceMesh
            >>> face = CanonicalFace.default()
            >>> faces = FaceMesh(face.resized((64, 64)).vertices[None], image_size=(64, 64), topology=face.topology)
            >>> CanonicalOcclusion(lambda x: x.mean((1, 2, 3)), faces).num_evaluations(torch.ones(1, 3, 64, 64))
            tensor([917])
        """
        photos = as_tuple(inputs)
        face, geometry = self._geometry(photos, faces, patch_size, None, "canonical")
        patches, _ = geometry.patches(geometry.seen & prefix_of(face, num_points).to(geometry.seen.device))
        return 1 + torch.bincount(patches[:, 0].cpu(), minlength=len(photos[0]))

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
        points: Tensor | None = None,
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
            additional_forward_args: as in Captum. Tensors whose first dimension is N have an entry for each image;
                everything else is passed on as it is. A tensor that has N rows by chance (a gallery) is refused.
            faces: as in the constructor.
            patch_size: side of the patch in pixels of the input. Default: the paper's 15 at 224, scaled to the
                input's height and made odd.
            canonical_patch_size: side on the canonical face in its pixels. Default: ``patch_size`` times the ratio of
                the heights (Algorithm 1, line 4). ``"mesh"``: times the ratio of the sizes of the two faces, so that
                the map does not depend on how large the face is in its image.
            num_points: evaluate only the first ``num_points`` of the progressive points; the others paint the drop
                interpolated from their neighbours. Default: all.
            points: (P,) or (N, P) bool, the points that each image has at all: the others are neither evaluated nor
                painted, and the coverage counts what is left. Default: all.
            space: ``"canonical"``, or ``"image"`` to write the drops at the points of the image itself.
            perturbations_per_eval: patches per image and forward call, of at most this times N rows; results do not
                depend on it. Default: as many as run fast.
            show_progress: a bar on stderr that counts batches.
            return_coverage: return ``(maps, coverage)``.

        Returns:
            *Tensor* or *tuple of Tensors* (one for each input with a mesh, if ``inputs`` is a tuple): maps of shape
            (N, 1, H_F, W_F) of the canonical face, or (N, 1, H, W) in image space; detached, contiguous, on the
            inputs' device, float32 or the inputs' type if wider. 0 where nothing was hit; the coverage, of the same
            shape, counts the hits.

        Raises:
            CanonicalError: an argument, a mesh or the output of ``forward_func`` does not fit, or the network does not
                allow ``inference="incremental"``.
        """
        given: dict[str, Any] = {"baselines": baselines, "additional_forward_args": additional_forward_args}
        given |= {"patch_size": patch_size, "canonical_patch_size": canonical_patch_size, "space": space}
        given |= {"faces": faces, "points": points, "perturbations_per_eval": perturbations_per_eval}
        call = self._begin(inputs, target, num_points, **given)
        call.evaluate(None, f"{self.get_name()} attribution", show_progress)
        maps, coverage = call.maps()
        call.drops.tell_rounding(maps)
        return (maps, coverage) if return_coverage else maps

    @torch.no_grad()
    def refine(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        *,
        tolerance: float = 0.0,
        first_points: int = 64,
        num_points: int | None = None,
        show_progress: bool = False,
        **arguments: Any,
    ) -> Iterator[RefinedMaps]:
        """Maps from more and more points: at first ``first_points``, then twice as many each time, at last all.

        No point is evaluated twice, and the last map is what :meth:`attribute` returns. Stop when a map is good enough,
        or let ``tolerance`` do it.

        Args:
            inputs: as in :meth:`attribute`, as are
            target: and ``arguments``.
            tolerance: stop after the first maps of which none is expected to change by more than this share of its L2
                norm. Default: 0, go on to the complete maps.
            first_points: points of the first maps.
            num_points: points of the last maps, as in :meth:`attribute`. Default: all.
            show_progress: a bar for each result.
            **arguments: baselines, additional_forward_args, faces, patch_size, canonical_patch_size, space and
                perturbations_per_eval.

        Yields:
            RefinedMaps: the maps, how many points they are from, and how much they are expected to change yet.

        Raises:
            CanonicalError: as :meth:`attribute` does, at once and not when the first maps are asked for.

        Example::

            >>> from captum_canonical import CanonicalFace, FaceMesh
            >>> face = CanonicalFace.default()
            >>> faces = FaceMesh(face.resized((64, 64)).vertices[None], image_size=(64, 64), topology=face.topology)
            >>> occlusion = CanonicalOcclusion(lambda x: x[:, :, 40:52, 24:40].mean((1, 2, 3)), faces)
            >>> for result in occlusion.refine(torch.ones(1, 3, 64, 64), tolerance=0.25):
            ...     print(result.num_points, result.approximate, round(result.expected_change.item(), 2))
            64 True 0.4
            128 True 0.38
            256 True 0.21
        """
        limit = check_number("tolerance", tolerance, least=0)
        first = check_integer("first_points", first_points, 2)
        call = self._begin(inputs, target, num_points, **arguments)
        return self._refine(call, first, num_points or call.face.num_points, limit, show_progress)

    @torch.no_grad()
    def _refine(
        self, call: OcclusionCall, points: int, everything: int, tolerance: float, show_progress: bool
    ) -> Iterator[RefinedMaps]:
        while True:
            points = min(points, everything)
            call.evaluate(points, f"{self.get_name()} refinement, {points} points", show_progress)
            maps, coverage = call.maps(points)
            coarser, _ = call.maps(points // 2)
            change = expected_change(as_tuple(maps), as_tuple(coarser), points, everything)
            call.drops.tell_rounding(maps)
            yield RefinedMaps(maps, coverage, points, points < everything, change)
            if points == everything or bool((change <= tolerance).all()):
                return
            points *= 2

    def _begin(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType,
        num_points: int | None,
        *,
        baselines: BaselineType = None,
        additional_forward_args: object | None = None,
        faces: FacesArgument = None,
        patch_size: float | None = None,
        canonical_patch_size: float | Literal["mesh"] | None = None,
        points: Tensor | None = None,
        space: Literal["canonical", "image"] = "canonical",
        perturbations_per_eval: int | None = None,
    ) -> OcclusionCall:
        photos = as_tuple(inputs)
        face, geometry = self._geometry(photos, faces, patch_size, canonical_patch_size, space)
        geometry = geometry.restricted(points)
        scorer = Scorer(self.forward_func, target, format_forward_args(additional_forward_args), len(photos[0]))
        fills, rows = fills_for(baselines, photos), rows_for(perturbations_per_eval, len(photos[0]))

        def choose(patches: Patches) -> Engine:
            return choose_inference(self.inference, scorer, photos, fills, rows, patches)

        wanted = geometry.seen & prefix_of(face, num_points).to(geometry.seen.device)
        with turn_at(self.forward_func, alone=False):
            check_per_image(scorer, photos)
            drops = Drops(geometry, wanted, scorer, photos, choose)
        return OcclusionCall(photos, isinstance(inputs, Tensor), face, geometry, drops)

    def _geometry(
        self,
        photos: tuple[Tensor, ...],
        faces: FacesArgument,
        patch_size: float | None,
        canonical_patch_size: float | Literal["mesh"] | None,
        space: str,
    ) -> tuple[CanonicalFace, PointGeometry]:
        meshes = meshes_of(photos, self.faces if faces is None else faces)
        face = face_for(self.canonical_face, meshes)
        return face, PointGeometry.of(face, photos, meshes, patch_size, canonical_patch_size, space)
