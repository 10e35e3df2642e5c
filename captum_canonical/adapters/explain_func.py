"""Our methods in the form that Quantus calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical.attributions.base import CanonicalAttribution, innermost, map_dtype, run_attribution, with_wrapped
from captum_canonical.attributions.projector import CanonicalProjector, check_reduce, dense_map
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.fingerprint import array_digest

FindFaces = Callable[[Tensor], FaceMesh]
"""An aligner, or what finds stored meshes."""
Make = Callable[[nn.Module], Attribution]

OURS = ("inputs", "target", "faces", "return_coverage", "return_convergence_delta")
"""Arguments that the metric gives, or that would change what is returned."""


def as_explain_func(
    method: Attribution | Make,
    faces: FindFaces | FaceMesh | None = None,
    images: Tensor | np.ndarray | None = None,
    **arguments: Any,
) -> Callable[..., np.ndarray]:
    """A method in the form that Quantus's metrics call: ``explain_func(model, inputs, targets, **kwargs) -> maps``.

    The maps of :class:`CanonicalOcclusion` and :class:`CanonicalProjector` are re-projected onto each image (Fig. 6d);
    those of another method are reduced over channels and brought to the image's size.

    Args:
        method: an attribution; or a function from a network to one, which is needed where a metric explains other
            networks than yours (``MPRT`` and its kin randomise copies of it, ``InputInvariance`` changes one), and
            where the attribution's ``forward_func`` is no module that contains the network.
        faces: for canonical methods, an aligner, or the meshes of ``images``. A metric hands over any rows in any
            order, so meshes are found by an image's content.
        images: (M, C, H, W) the images that the meshes belong to, as the metric gets them. An image that is not
            among them is an error: for metrics that explain perturbed images (those of robustness, ``SmoothMPRT``)
            give an aligner.
        **arguments: of the method's ``attribute``; for other methods also ``reduce`` (``"sum"``, ``"abs"`` or
            ``"max"`` over channels). ``explain_func_kwargs`` of the metric win over them; ``method`` among these, the
            name under which ``quantus.evaluate`` reports, is ignored.

    Returns:
        A function that returns (N, 1, H, W) float32 (or wider), 0 where no face is seen. It runs on the network's
        device, in its type.

    Raises:
        CanonicalError: an argument does not fit. The function raises it if the network is not the method's, a mesh is
            missing, or a map is not finite.

    Example::

        >>> from captum.attr import Saliency
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        >>> explain_func = as_explain_func(Saliency, abs=False)
        >>> explain_func(net, np.zeros((5, 3, 4, 4)), np.array([0, 1, 1, 0, 1])).shape
        (5, 1, 4, 4)

    With Quantus: ``quantus.MPRT()(model=net, x_batch=x, y_batch=y, explain_func=explain_func)``. Re-projected maps are
    0 wherever no face is seen. Measures that compare whole maps take that for similarity (``MPRT``, ``RandomLogit``):
    give them a ``similarity_func`` that looks at the other pixels only.
    """
    lookup = _aligner(faces, images)
    if isinstance(method, Attribution):
        _check_faces(method, lookup)
    elif not callable(method):
        raise CanonicalError(f"method: expected an attribution or a function to one, got {type(method).__name__}.")

    def explain_func(
        model: nn.Module, inputs: np.ndarray, targets: Any = None, device: Any = None, **more: Any
    ) -> np.ndarray:
        attribution = _attribution_of(method, model)
        _check_faces(attribution, lookup)
        x = _photos(inputs, model, device)
        more.pop("method", None)  # a name, from quantus.evaluate
        given = {**arguments, **more}
        if taken := sorted(set(given) & set(OURS)):
            raise CanonicalError(
                f"as_explain_func: leave out {', '.join(taken)}: the metric gives them, or no use is made of them."
            )
        if targets is not None:
            given["target"] = torch.as_tensor(np.asarray(targets), device=x.device).long()
        maps = _in_image(attribution, x, lookup, given)
        if maps.shape != (len(x), 1, *x.shape[2:]) or not torch.isfinite(maps).all():
            raise CanonicalError(
                f"{type(attribution).__name__}: expected finite maps {(len(x), 1, *x.shape[2:])}, got "
                f"{'NaN or infinity in' if maps.shape[2:] == x.shape[2:] else 'shape'} {tuple(maps.shape)}."
            )
        return maps.cpu().numpy()

    return explain_func


def _in_image(method: Attribution, x: Tensor, aligner: FindFaces | None, arguments: dict[str, Any]) -> Tensor:
    """(N, 1, H, W) of any method."""
    inner = innermost(method)
    size = (int(x.shape[2]), int(x.shape[3]))
    if not isinstance(inner, CanonicalAttribution):
        reduce = arguments.pop("reduce", "sum")
        check_reduce(reduce)
        return dense_map(run_attribution(method, x, arguments).maps, reduce, size, map_dtype(x))
    mesh = (aligner or inner.faces)(x)  # type: ignore[operator, misc]  # checked by _check_faces
    if len(mesh) != len(x) or mesh.image_index is not None:
        raise AlignmentError(f"faces: expected one mesh for each of the {len(x)} images, got {len(mesh)}.")
    maps = run_attribution(method, x, arguments, mesh).maps
    if arguments.get("space") == "image":
        return maps
    return CanonicalProjector(None, canonical_face=inner.canonical_face).reproject(maps, mesh)  # type: ignore[return-value]


def _attribution_of(method: Attribution | Make, model: nn.Module) -> Attribution:
    """The method for this network; an error if it explains another one."""
    known = isinstance(method, Attribution)
    attribution: Any = method if known else method(model)
    if not isinstance(attribution, Attribution):
        raise CanonicalError(f"method(model): expected a Captum attribution, got {type(attribution).__name__}.")
    forward = getattr(attribution, "forward_func", None)
    forward = getattr(forward, "__self__", forward)  # net.forward is the network's as well
    same = any(part is model for part in forward.modules()) if isinstance(forward, nn.Module) else not known
    layers = getattr(list(with_wrapped(attribution))[-1], "layer", None)
    layers = layers if isinstance(layers, list) else [layers]
    inside = {id(part) for part in model.modules()}
    if not same or any(isinstance(layer, nn.Module) and id(layer) not in inside for layer in layers):
        raise CanonicalError(
            f"{type(attribution).__name__} explains another network than the one that the metric gives: pass a "
            "function that makes it, such as lambda model: CanonicalOcclusion(model), with layers found in that model."
        )
    return attribution


def _check_faces(method: Attribution, aligner: FindFaces | None) -> None:
    inner = innermost(method)
    if not isinstance(inner, CanonicalAttribution):
        if aligner is not None:
            raise CanonicalError(
                f"faces: {type(inner).__name__} needs none; put it into CanonicalProjector, or leave them out."
            )
    elif aligner is None and not callable(inner.faces):
        raise CanonicalError(
            "faces: give an aligner, or meshes together with the images that they belong to: as_explain_func(method, "
            "faces, images). Meshes in the method itself are for its rows, and a metric hands over any rows."
        )


def _photos(inputs: Any, model: nn.Module, device: Any) -> Tensor:
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    x = torch.as_tensor(np.ascontiguousarray(inputs)).to(device if parameter is None else parameter.device, dtype)
    if x.ndim != 4:
        raise CanonicalError(f"inputs: expected images (N, C, H, W), got shape {tuple(x.shape)}.")
    return x


def _aligner(faces: FindFaces | FaceMesh | None, images: Tensor | np.ndarray | None) -> FindFaces | None:
    """An aligner, made of meshes and their images if need be."""
    if not isinstance(faces, FaceMesh):
        if images is not None or not (faces is None or callable(faces)):
            raise CanonicalError("faces: expected an aligner, or a FaceMesh together with images=.")
        return faces
    if images is None or len(images) != len(faces) or faces.image_index is not None:
        raise CanonicalError(
            f"images: expected those that the {len(faces)} meshes belong to, got "
            f"{'none' if images is None else len(images)}; a metric hands over any rows, so that meshes alone would be "
            "taken for others."
        )
    rows: dict[str, int] = {}
    for row, key in enumerate(_keys(images)):
        first = rows.setdefault(key, row)
        if not torch.equal(faces.vertices[first], faces.vertices[row]):
            raise CanonicalError(f"images: {first} and {row} are equal but have different meshes.")

    def find(x: Tensor) -> FaceMesh:
        keys = _keys(x)
        unknown = [number for number, key in enumerate(keys) if key not in rows]
        if unknown:
            raise AlignmentError(
                f"faces: images {unknown[:10]} of this call are not among images=; for metrics that explain perturbed "
                "images give an aligner as faces."
            )
        return faces[[rows[key] for key in keys]].to(x.device)

    return find


def _keys(images: Tensor | np.ndarray) -> list[str]:
    """What tells images apart: their shape and their values in single precision."""
    return [array_digest(image) for image in torch.as_tensor(images).float()]
