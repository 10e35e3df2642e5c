"""What all attributions share: the base class of canonical ones, and one way to run any of them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from captum.attr import Attribution, LayerAttribution, NeuronAttribution, PerturbationAttribution
from torch import Tensor, nn

from captum_canonical.attributions.layers import attribute_channels_first, with_layers
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.turns import turn_at

logger = logging.getLogger("captum_canonical")
_repeats_seen: set[tuple[int, int]] = set()

Faces = FaceMesh | Callable[[Tensor], FaceMesh]
FacesArgument = Faces | Sequence[Faces | None] | None


class CanonicalAttribution(Attribution):
    """Base of the methods whose maps are on the canonical face.

    Their ``attribute`` takes ``faces`` and ``return_coverage``; a projector must not be put around them.

    Args:
        forward_func: as in Captum.
        faces: meshes of the inputs, or an aligner; a tuple of these for several inputs. None: given to ``attribute``.
        canonical_face: the face that maps are written on, or its file. None: :meth:`CanonicalFace.default`.
    """

    def __init__(self, forward_func: Any, faces: FacesArgument, canonical_face: FaceLike | None) -> None:
        super().__init__(forward_func)
        self.faces = faces
        self.canonical_face = None if canonical_face is None else CanonicalFace.of(canonical_face)

    def num_evaluations(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        *,
        faces: FacesArgument = None,
        patch_size: float | None = None,
        num_points: int | None = None,
    ) -> Tensor | None:
        """How often ``attribute`` will run the network for each image, (N,); None where that is not known before."""
        return None

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")


def with_wrapped(method: Any) -> Iterator[Any]:
    """The method, and the methods inside wrappers such as NoiseTunnel, outermost first."""
    yield method
    while isinstance(method := getattr(method, "attribution_method", None), Attribution):
        yield method


def innermost(method: Any) -> Any:
    """The method inside wrappers such as NoiseTunnel; the outermost canonical one, if there is any."""
    methods = list(with_wrapped(method))
    return next((inner for inner in methods if isinstance(inner, CanonicalAttribution)), methods[-1])


def as_tuple(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs of a call as a tuple, with one batch size."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, tuple) or not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise CanonicalError(
            f"inputs: expected a tensor or a tuple of tensors, got {type(inputs).__name__}; of a "
            "data set or loader, pass one batch at a time, or use explain_dataset."
        )
    if any(x.is_meta or x.layout != torch.strided or x.is_complex() for x in inputs):
        raise CanonicalError("inputs: expected real tensors with values, got some that are complex, sparse or meta.")
    sizes = [len(x) if x.ndim else 0 for x in inputs]
    if len(set(sizes)) != 1 or sizes[0] == 0:
        raise CanonicalError(f"inputs: expected one batch size of at least 1 in all inputs, got {sizes}.")
    return inputs


def meshes_of(inputs: tuple[Tensor, ...], faces: FacesArgument) -> tuple[FaceMesh | None, ...]:
    """For each input its meshes, one per row, or None for an input that is no photograph of a face.

    An aligner is called on its input. Meshes fewer than the rows are repeated as NoiseTunnel and captum.metrics
    repeat inputs.
    """
    if faces is None:
        raise CanonicalError(
            "no faces were given: pass faces= a FaceMesh (or an aligner) to attribute() or to the constructor."
        )
    each: Sequence[Faces | None] = faces if isinstance(faces, (tuple, list)) else (faces,)
    if len(each) != len(inputs):
        raise CanonicalError(
            f"faces: expected one entry for each of the {len(inputs)} inputs (None for an input without a face), got "
            f"{len(each)}."
        )
    if all(face is None for face in each):
        raise CanonicalError("faces: expected a mesh for at least one of the inputs, got None for all of them.")
    return tuple(None if face is None else _mesh_of(x, face) for x, face in zip(inputs, each, strict=True))


def _mesh_of(photos: Tensor, face: Faces) -> FaceMesh:
    if photos.ndim != 4:
        raise CanonicalError(f"an input with a face must be (N, C, H, W), got shape {tuple(photos.shape)}.")
    mesh = face(photos) if callable(face) else face
    if not isinstance(mesh, FaceMesh):
        raise CanonicalError(f"faces: expected a FaceMesh or an aligner that returns one, got {type(mesh).__name__}.")
    size = tuple(photos.shape[-2:])
    if mesh.image_size != size:
        raise AlignmentError(
            f"faces: the mesh was made for images of (height, width) = {mesh.image_size}, the inputs are {size}; align "
            "these images, or bring the mesh along with .cropped() and .resized()."
        )
    return _one_per_row(mesh.to(photos.device), len(photos))


def _one_per_row(mesh: FaceMesh, rows: int) -> FaceMesh:
    if len(mesh) == rows:
        return mesh
    counts = f"faces: {len(mesh)} meshes for {rows} images"
    if mesh.missing or mesh.image_index is not None:
        raise AlignmentError(
            f"{counts}: meshes with missing rows or an image_index cannot be repeated; select the images with "
            "images[faces.image_index], or the rows with faces[faces.found], first."
        )
    if len(mesh) == 0 or rows % len(mesh):
        raise AlignmentError(f"{counts}; expected one mesh per image, or a whole number of images per mesh.")
    if (len(mesh), rows) not in _repeats_seen:
        _repeats_seen.add((len(mesh), rows))
        logger.info("%s: each mesh is used for %d images in a row.", counts, rows // len(mesh))
    return mesh.repeat_interleave(rows // len(mesh))


def face_for(canonical_face: FaceLike | None, meshes: Sequence[FaceMesh | None]) -> CanonicalFace:
    """The canonical face of a call, checked against its meshes."""
    face = CanonicalFace.default() if canonical_face is None else CanonicalFace.of(canonical_face)
    for place, mesh in enumerate(meshes):
        if mesh is not None:
            face.check_mesh(mesh, name="faces" if len(meshes) == 1 else f"faces of input {place}")
    return face


def map_dtype(inputs: Tensor) -> torch.dtype:
    """float32, or the inputs' own type if it is wider."""
    return torch.promote_types(inputs.dtype, torch.float32) if inputs.dtype.is_floating_point else torch.float32


class AttributionMaps(NamedTuple):
    """What an attribution returns for N inputs."""

    maps: Tensor
    """(N, C, H, W)."""
    coverage: Tensor | None
    """(N, 1, H, W) number of hits, of a canonical method; else None."""


def run_attribution(
    method: Attribution | Callable[..., Any], inputs: Any, arguments: Mapping[str, Any], faces: Any = None
) -> AttributionMaps:
    """Runs a method once.

    Args:
        method: an attribution, or a function that is called in the same way as ``attribute``.
        inputs: its first argument, or None for a function without any.
        arguments: by keyword; of a method that looks into a layer, ``layout`` among them says how that holds its maps.
        faces: meshes of the inputs, given to canonical methods only, also to those inside NoiseTunnel.

    Returns:
        The maps, and the coverage if the method itself is a canonical one.

    Raises:
        CanonicalError: the method returns anything but one spatial map for each input.

    Example::

        >>> import torch
        >>> from captum.attr import Saliency
        >>> maps, coverage = run_attribution(Saliency(lambda x: x.sum((1, 2, 3))), torch.ones(1, 3, 2, 2), {})
        >>> maps.shape, coverage
        (torch.Size([1, 3, 2, 2]), None)
    """
    method = with_layers(method)
    given = dict(arguments)
    if faces is not None and isinstance(innermost(method), CanonicalAttribution):
        given["faces"] = faces
    with turn_of(method):
        if isinstance(method, CanonicalAttribution):
            maps, coverage = method.attribute(inputs, **given, return_coverage=True)
            return AttributionMaps(_one_map(method, maps), _one_map(method, coverage))
        if isinstance(innermost(method), CanonicalAttribution):
            result = method.attribute(inputs, **given)
        elif isinstance(method, Attribution):
            result = attribute_channels_first(method, inputs, (), given)
        else:
            result = method(**given) if inputs is None else method(inputs, **given)
    return AttributionMaps(_one_map(method, result), None)


def turn_of(method: Attribution | Callable[..., Any]) -> AbstractContextManager[None]:
    """The turn of a method at its networks; perturbations of inputs register no hooks and may go side by side."""
    inner = innermost(method)
    hooks = not isinstance(inner, PerturbationAttribution) or isinstance(inner, (LayerAttribution, NeuronAttribution))
    if not isinstance(method, Attribution):
        return turn_at(method, alone=True)
    forward_funcs = [getattr(each, "forward_func", None) for each in with_wrapped(method)]
    return turn_at(*forward_funcs, *networks_of(method), alone=hooks)


def on_face(method: Attribution, face: CanonicalFace) -> Attribution:
    """The method, or a copy of it that writes on this canonical face if it is a canonical one without a face."""
    if not isinstance(method, CanonicalAttribution) or method.canonical_face is not None:
        return method
    method = copy.copy(method)
    method.canonical_face = face
    return method


def networks_of(method: object) -> list[nn.Module]:
    """The networks and layers that a method and those inside it hold."""
    held: list[Any] = []
    for each in with_wrapped(method):
        layer = getattr(each, "layer", None)
        held += [getattr(each, "forward_func", None), *(layer if isinstance(layer, list) else [layer])]
    return [part for part in held if isinstance(part, nn.Module)]


def _one_map(method: object, result: Any) -> Tensor:
    if isinstance(result, tuple) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor) or result.ndim != 4 or result.is_complex() or not result.numel():
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise CanonicalError(
            f"{getattr(method, '__name__', type(method).__name__)}: expected maps of shape (N, C, H, W) from the "
            f"method, got {got}; a layer that is not convolutional has none, and of several maps only one can be used."
        )
    return result
