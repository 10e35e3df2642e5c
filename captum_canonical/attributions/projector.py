"""Any Captum attribution, or a heat map from elsewhere, carried onto the canonical face and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import Attribution
from torch import Tensor

from captum_canonical._captum import log_usage
from captum_canonical.attributions.base import (
    CanonicalAttribution,
    FacesArgument,
    as_tuple,
    face_for,
    innermost,
    map_dtype,
    meshes_of,
    turn_of,
)
from captum_canonical.attributions.layers import attribute_channels_first, with_layers
from captum_canonical.attributions.layouts import LayoutLike
from captum_canonical.checks import check_choice, check_tensor
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.warp import rasterize, warp

Reduction = Literal["sum", "abs", "max"]
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda maps: maps.sum(1, keepdim=True),
    "abs": lambda maps: maps.abs().sum(1, keepdim=True),
    "max": lambda maps: maps.amax(1, keepdim=True),
}


def check_reduce(reduce: str) -> None:
    """Raises CanonicalError unless it is the name of a reduction."""
    check_choice("reduce", reduce, tuple(_REDUCTIONS))


def dense_map(maps: Tensor, reduce: str, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Maps (N, C, h, w) with their channels reduced, in the size of the image: (N, 1, H, W), at least of ``dtype``."""
    dense = _REDUCTIONS[reduce](maps.detach().to(torch.promote_types(dtype, maps.dtype)))
    if tuple(dense.shape[-2:]) == size:
        return dense
    return F.interpolate(dense, size, mode="bilinear", align_corners=False)


@contextmanager
def _unchanged(inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Gives inputs back as they came: Captum's gradient methods leave them requiring gradients after an error."""
    required = [x.requires_grad for x in inputs]
    try:
        yield
    finally:
        for x, flag in zip(inputs, required, strict=True):
            if x.is_leaf and x.requires_grad != flag:
                x.requires_grad_(flag)


class CanonicalProjector(CanonicalAttribution):
    r"""Wraps a Captum method as NoiseTunnel does, and writes its maps on the canonical face.

    The map of each image is summed over channels, brought to the image's size (bilinear, ``align_corners=False``) and
    carried through the triangles of the mesh: the value at a pixel of the canonical face is the map's value, by
    bilinear interpolation, at the same point of the face in the image.

    Args:
        attribution_method: any Captum attribution whose result has the inputs' spatial layout: Saliency,
            IntegratedGradients, NoiseTunnel, Occlusion, FeatureAblation, LayerGradCam, GuidedGradCam and so on. None
            for a projector of maps made elsewhere (:meth:`project`).
        faces: meshes of the inputs, or an aligner; a tuple, with None for inputs to leave out, for several inputs.
        canonical_face: the face that maps are written on, or its file. Default: :meth:`CanonicalFace.default`.

    Raises:
        CanonicalError: the method's maps are canonical already.

    Example::

        >>> from captum.attr import Saliency
        >>> face = CanonicalFace.default()
        >>> faces = FaceMesh(face.resized((64, 64)).vertices[None], image_size=(64, 64), topology=face.topology)
        >>> method = Saliency(lambda x: x.mean((1, 2, 3)))
        >>> CanonicalProjector(method, faces).attribute(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 1, 224, 224])
    """

    def __init__(
        self,
        attribution_method: Attribution | None,
        faces: FacesArgument = None,
        canonical_face: FaceLike | None = None,
    ) -> None:
        if attribution_method is not None and not isinstance(attribution_method, Attribution):
            got = attribution_method if isinstance(attribution_method, type) else type(attribution_method)
            raise CanonicalError(
                f"attribution_method: expected an attribution, such as Saliency(net), got {got.__name__}; maps from "
                "elsewhere go through .project(), functions through adapters.ExternalAttribution."
            )
        inner = innermost(attribution_method)
        if isinstance(inner, CanonicalAttribution):
            raise CanonicalError(
                f"{type(inner).__name__} writes on the canonical face already: use it without CanonicalProjector "
                "(inside NoiseTunnel if you like)."
            )
        super().__init__(getattr(attribution_method, "forward_func", None), faces, canonical_face)
        self.attribution_method = with_layers(attribution_method)

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        *args: Any,
        faces: FacesArgument = None,
        reduce: Reduction = "sum",
        layout: LayoutLike | None = None,
        return_coverage: bool = False,
        **kwargs: Any,
    ) -> Any:
        r"""The canonical map of each image.

        Args:
            inputs: (N, C, H, W), or a tuple of inputs; the wrapped method gets them as they are.
            faces: as in the constructor.
            reduce: how channels become one: ``"sum"``, ``"abs"`` (sum of magnitudes) or ``"max"``.
            layout: how the layer that the method looks into holds its maps, where its shape leaves a doubt:
                ``"channels_first"``, ``"channels_last"`` or ``"tokens"``, see :class:`Layout`. Captum's own methods
                take channels first; the others are turned on the way through the layer.
            return_coverage: also return which pixels were seen (1) and which were not (0).
            *args, **kwargs: the wrapped method's own arguments, ``target=`` for example.

        Returns:
            *Tensor* or *tuple of Tensors* (one for each input with a mesh, if ``inputs`` is a tuple): maps
            (N, 1, H_F, W_F), detached and contiguous, in the method's own unit, 0 where unseen. With
            ``return_coverage`` followed by the coverage, of the same shape. With ``return_convergence_delta`` followed
            by the method's delta.

        Raises:
            CanonicalError: there is no wrapped method, or its result has no spatial layout.
        """
        if self.attribution_method is None:
            raise CanonicalError("this projector wraps no method: pass maps made elsewhere to .project().")
        check_reduce(reduce)
        photos = as_tuple(inputs)
        meshes = meshes_of(photos, self.faces if faces is None else faces)
        for mesh in meshes:
            if mesh is not None:
                self._surface(mesh)  # before the method runs for an hour
        own = {} if layout is None else {"layout": layout}
        with turn_of(self.attribution_method), _unchanged(photos):
            result = attribute_channels_first(self.attribution_method, inputs, args, kwargs | own)
        delta = None
        if kwargs.get("return_convergence_delta"):
            result, delta = result
        with torch.no_grad():
            results = [
                self._project(maps, mesh, reduce, map_dtype(x)) for maps, mesh, x in self._pairs(result, meshes, photos)
            ]
        maps, coverage = (tuple(part) for part in zip(*results, strict=True))
        single = isinstance(inputs, Tensor)
        answer: tuple[Any, ...] = (maps[0] if single else maps,)
        if return_coverage:
            answer += (coverage[0] if single else coverage,)
        if delta is not None:
            answer += (delta,)
        return answer[0] if len(answer) == 1 else answer

    def project(
        self,
        attributions: Tensor | np.ndarray,
        faces: FaceMesh | None = None,
        *,
        reduce: Reduction = "sum",
        return_coverage: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Carries maps made elsewhere onto the canonical face.

        Args:
            attributions: (H, W), (N, H, W) or (N, C, h, w); a map of another size than the image is interpolated.
            faces: the meshes of the images. Default: the constructor's.
            reduce: as in :meth:`attribute`.
            return_coverage: return ``(maps, coverage)``.

        Returns:
            (N, 1, H_F, W_F) maps in the type of ``attributions``, at least float32.
        """
        check_reduce(reduce)
        maps = check_tensor("attributions", attributions).detach()
        if maps.ndim in (2, 3):
            maps = maps.reshape(-1, 1, *maps.shape[-2:])
        mesh = self._mesh(faces, maps)
        result, coverage = self._project(maps, mesh, reduce, map_dtype(maps))
        return (result, coverage) if return_coverage else result

    def reproject(
        self, maps: Tensor, faces: FaceMesh | None = None, *, return_coverage: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Carries canonical maps, or one map for all images, back into image space (Fig. 6d).

        Args:
            maps: (N, C, H_F, W_F) or (1, C, H_F, W_F) on the canonical face.
            faces: the meshes of the images to write on. Default: the constructor's.
            return_coverage: return ``(maps, coverage)``.

        Returns:
            (N, C, H, W), 0 where the face is not seen. The front-most surface is shown.
        """
        given = check_tensor("maps", maps).detach()
        mesh = self._mesh(faces, given)
        maps = given.to(mesh.vertices.device)
        face = self._surface(mesh)
        if maps.ndim != 4 or tuple(maps.shape[-2:]) != face.size or len(maps) not in (1, len(mesh)):
            raise CanonicalError(
                f"reproject: expected maps of shape (1 or {len(mesh)}, C, {face.size[0]}, {face.size[1]}), got "
                f"{tuple(maps.shape)}."
            )
        triangles, vertices = face.triangles.to(maps.device), face.vertices.to(maps.device)[None]
        rows = [(maps.new_zeros(0, maps.shape[1], *mesh.image_size), maps.new_zeros(0, 1, *mesh.image_size))]
        for row, (corners, visible) in enumerate(zip(mesh.vertices, mesh.visible, strict=True)):
            raster = rasterize(corners, triangles, mesh.image_size)
            source = maps[row : row + 1] if len(maps) > 1 else maps
            rows.append(warp(source.to(map_dtype(maps)), raster, triangles, vertices, visible[None]))
        images, covered = (torch.cat(part) for part in zip(*rows, strict=True))
        images, covered = images.to(given.device), covered.to(images.dtype).to(given.device)
        return (images, covered) if return_coverage else images

    # ------------------------------------------------------------------------------------------------ as a wrapper
    @property
    def multiplies_by_inputs(self) -> bool:
        """The wrapped method's own flag."""
        return bool(getattr(self.attribution_method, "multiplies_by_inputs", False))

    def has_convergence_delta(self) -> bool:
        """The wrapped method's own answer."""
        return self.attribution_method is not None and self.attribution_method.has_convergence_delta()

    def compute_convergence_delta(self, *args: Any, **kwargs: Any) -> Tensor:
        """The wrapped method's own delta, from its own attributions in image space."""
        return self.attribution_method.compute_convergence_delta(*args, **kwargs)

    # ------------------------------------------------------------------------------------------------------ inside
    def _project(self, maps: Tensor, mesh: FaceMesh, reduce: Reduction, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        face = self._surface(mesh)
        if maps.ndim != 4 or len(maps) != len(mesh):
            name = type(self.attribution_method).__name__ if self.attribution_method else "the map"
            raise CanonicalError(
                f"{name}: expected a spatial map (N, C, h, w) for each of the {len(mesh)} images, got shape "
                f"{tuple(maps.shape)}; a layer that is not convolutional cannot be projected onto a face."
            )
        if tuple(maps.shape[1:3]) == mesh.image_size and maps.shape[3] in (1, 3, 4) and maps.shape[3] != maps.shape[2]:
            raise CanonicalError(f"maps: expected channels first, (N, C, h, w), got {tuple(maps.shape)}.")
        here = mesh.vertices.device
        dense = dense_map(maps, reduce, mesh.image_size, dtype).to(here)
        values, covered = warp(dense, face.raster_on(here), face.triangles.to(here), mesh.vertices, mesh.visible)
        return values.contiguous().to(maps.device), covered.to(values.dtype).to(maps.device)

    def _pairs(
        self, result: Any, meshes: tuple[FaceMesh | None, ...], photos: tuple[Tensor, ...]
    ) -> list[tuple[Tensor, FaceMesh, Tensor]]:
        """Each map with the mesh and the photograph it belongs to."""
        if isinstance(result, Tensor) or len(result) != len(photos):
            maps = (result,) if isinstance(result, Tensor) else tuple(result)
            known = [(mesh, x) for mesh, x in zip(meshes, photos, strict=True) if mesh is not None]
            if len(known) != 1 or len(maps) != 1:
                raise CanonicalError(
                    f"{type(self.attribution_method).__name__} returned {len(maps)} map(s) for {len(known)} inputs "
                    "with meshes: say which input its map belongs to by giving faces= None for the others."
                )
            return [(maps[0], *known[0])]
        return [(m, mesh, x) for m, mesh, x in zip(result, meshes, photos, strict=True) if mesh is not None]

    def _surface(self, mesh: FaceMesh) -> CanonicalFace:
        face = face_for(self.canonical_face, [mesh])
        if not len(face.triangles):
            raise CanonicalError(
                "the canonical face has no triangles, so nothing can be carried through them; give "
                "CanonicalFace.from_vertices triangles, or vertices that span an area."
            )
        return face

    def _stored(self) -> FaceMesh:
        if not isinstance(self.faces, FaceMesh):
            raise CanonicalError("faces: give the meshes of these images, a FaceMesh, here or to the constructor.")
        return self.faces

    def _mesh(self, faces: FaceMesh | None, maps: Tensor) -> FaceMesh:
        mesh = faces if faces is not None else self._stored()
        if not isinstance(mesh, FaceMesh):
            raise CanonicalError(f"faces: expected the meshes of these images, a FaceMesh, got {type(mesh).__name__}.")
        return mesh.to(maps.device)
