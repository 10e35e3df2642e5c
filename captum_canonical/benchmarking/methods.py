"""The maps to compare, image by image: those of methods, and controls that do not depend on the network."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical.attributions.base import (
    AttributionMaps,
    CanonicalAttribution,
    innermost,
    map_dtype,
    networks_of,
    on_face,
    run_attribution,
)
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.points import patch_side, prefix_of
from captum_canonical.attributions.projector import CanonicalProjector, check_reduce, dense_map
from captum_canonical.benchmarking.measures import BenchmarkSettings
from captum_canonical.benchmarking.photos import BenchmarkPhotos, held_out_folds, rows_of
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.splat import fill_in, footprints, splat
from captum_canonical.inference.rounding import rounding_collected
from captum_canonical.restore import network_kept, random_state_kept, seed_generators

MethodArgument: TypeAlias = Attribution | tuple[Attribution, Mapping[str, Any]]

GIVEN = ("inputs", "target", "faces", "additional_forward_args", "return_coverage", "return_convergence_delta")
"""Arguments that are the benchmark's, the same for every method."""


class MethodMaps(NamedTuple):
    """Of one image or of N."""

    image: Tensor
    """(N, 1, H, W)."""
    canonical: Tensor
    """(N, 1, H_F, W_F)."""
    coverage: Tensor
    """Likewise."""


class BenchmarkMethod:
    """A method of a benchmark, run on one image at a time, so that its maps depend on neither batches nor neighbours.

    Args:
        name: in the table.
        method: a Captum attribution, or one with its keyword arguments.
        photos: to explain. A method that brings its own faces or canonical face (another alignment) keeps them.
        networks: those that are put back as they were after each image; the method's own are added.

    Attributes:
        photos: the same photographs, aligned as the method says.
        failure: why it has no maps, or None.
        seconds: so far.
        evaluations: images that the network has seen so far, or None if they could not be counted.
        rounding: shares of the largest value by which half precision moves drops, of the images so far.

    Raises:
        CanonicalError: it is no attribution, an argument is the benchmark's to give, or its faces do not fit.
    """

    def __init__(self, name: str, method: MethodArgument, photos: BenchmarkPhotos, networks: list[nn.Module]) -> None:
        attribution, arguments = method if isinstance(method, tuple) and len(method) == 2 else (method, {})
        if not isinstance(attribution, Attribution) or not isinstance(arguments, Mapping):
            raise CanonicalError(
                f"methods[{name!r}]: expected a Captum attribution, or a tuple of one and its keyword arguments, got "
                f"{type(attribution).__name__}" + (f" and {type(arguments).__name__}." if arguments else ".")
            )
        taken = sorted(set(arguments) & set(GIVEN))
        if taken:
            raise CanonicalError(
                f"methods[{name!r}]: {', '.join(taken)} is the same for every method: give it to benchmark(), where it "
                "has such an argument."
            )
        self.name, self.arguments = name, dict(arguments)
        self.photos = _aligned_for(name, attribution, photos)
        self.attribution = on_face(attribution, self.photos.face)
        self.failure: str | None = None
        self.rounding: list[Tensor] = []
        self.seconds = 0.0
        self._networks = networks + networks_of(attribution)
        self._counter, self._foreseen = EvaluationCounter(), 0

    @property
    def evaluations(self) -> int | None:
        """Images that the network has seen so far; None if they could not be counted."""
        return self._foreseen or self._counter.count

    def maps(self, row: int, seed: int) -> MethodMaps | None:
        """The maps of one image; None if that failed."""
        photos, start = self.photos, time.perf_counter()
        try:
            with network_kept(*self._networks), random_state_kept():
                seed_generators(seed + int(photos.kept[row]))
                found = self._maps(photos, row)
            if not all(torch.isfinite(part).all() for part in found):
                raise CanonicalError("NaN or infinity in its map.")
            return found
        except Exception as error:  # whatever it is, it is this method's: the others go on
            self.failure = f"image {int(photos.kept[row])}: {type(error).__name__}: {error}".rstrip(": ")
            return None
        finally:
            self.seconds += time.perf_counter() - start

    # ------------------------------------------------------------------------------------------------------ inside
    def _maps(self, photos: BenchmarkPhotos, row: int) -> MethodMaps:
        method, face = self.attribution, photos.face
        inner, rows = innermost(method), torch.tensor([row])
        x, mesh = photos.images[rows.to(photos.images.device)], photos.faces[row]
        arguments = self._arguments(photos, rows, inspect.signature(method.attribute).parameters)
        canonical = isinstance(inner, CanonicalAttribution)
        reduce = "sum" if canonical else arguments.pop("reduce", "sum")
        if method is inner and isinstance(inner, CanonicalAttribution):
            sizes = {name: arguments[name] for name in ("patch_size", "num_points") if name in arguments}
            known = inner.num_evaluations(x, faces=mesh, **sizes)
            self._foreseen += 0 if known is None else int(known)
        # Global hooks would make canonical occlusion dense.
        counting = nullcontext() if isinstance(inner, CanonicalOcclusion) else self._counter.counting()
        check_reduce(reduce)
        with counting, rounding_collected() as rounding:
            found = run_attribution(method, x, arguments, mesh)
        self.rounding += rounding
        if canonical and arguments.get("space") != "image":
            return self._canonical(found, x, mesh)
        return _projected(found.maps, reduce, x, mesh, face)

    def _canonical(self, found: AttributionMaps, x: Tensor, mesh: FaceMesh) -> MethodMaps:
        """The maps of a method that writes on the canonical face itself."""
        projector = CanonicalProjector(None, canonical_face=self.photos.face)
        maps, coverage = found
        expected = (1, 1, *self.photos.face.size)
        if maps.shape != expected:
            raise CanonicalError(f"expected a map {expected}, got {tuple(maps.shape)}.")
        if coverage is None:  # inside NoiseTunnel, which hands on maps only
            surface = projector.project(x.new_ones(1, 1, *x.shape[2:]), mesh, return_coverage=True)[1]
            coverage = torch.where(maps != 0, 1, surface)  # patches reach beyond the rim
        return MethodMaps(projector.reproject(maps, mesh), maps, coverage)  # type: ignore[arg-type]

    def _arguments(
        self, photos: BenchmarkPhotos, rows: Tensor, accepted: Mapping[str, inspect.Parameter]
    ) -> dict[str, Any]:
        """The method's own arguments, and the benchmark's as far as the method takes them, of these images."""
        count = len(photos)
        arguments = {
            name: value[photos.kept][rows] if isinstance(value, Tensor) and self._per_image(value, photos) else value
            for name, value in self.arguments.items()
        }
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        if photos.target is not None and (anything or "target" in accepted):
            arguments["target"] = rows_of(photos.target, rows, count)
        if photos.args:
            arguments["additional_forward_args"] = tuple(rows_of(arg, rows, count) for arg in photos.args)
        return arguments

    def _per_image(self, value: Tensor, photos: BenchmarkPhotos) -> bool:
        count, (_, channels, *size) = len(photos.kept) + len(photos.left_out), photos.images.shape
        return value.ndim == 4 and tuple(value.shape) in ((count, channels, *size), (count, 1, *size))


def _aligned_for(name: str, method: Attribution, photos: BenchmarkPhotos) -> BenchmarkPhotos:
    """The photographs with the faces and the canonical face that the method brings, or else the benchmark's."""
    inner = innermost(method)
    if not isinstance(inner, CanonicalAttribution):
        return photos
    face = inner.canonical_face or (photos.face if inner is method else CanonicalFace.default())
    try:
        if inner.faces is not None:
            photos = photos.aligned_by(inner.faces, face)
        face.check_mesh(photos.faces)
    except CanonicalError as error:
        raise CanonicalError(f"methods[{name!r}]: {error}") from error
    return replace(photos, face=face)


def _projected(maps: Tensor, reduce: str, x: Tensor, mesh: FaceMesh, face: CanonicalFace) -> MethodMaps:
    """The maps of a method that writes in the image, or in a layer."""
    if len(maps) != 1:
        raise CanonicalError(f"expected a map (1, C, h, w) of an image, got {tuple(maps.shape)}.")
    dense = dense_map(maps, reduce, (x.shape[2], x.shape[3]), map_dtype(x))
    canonical, coverage = CanonicalProjector(None, canonical_face=face).project(dense, mesh, return_coverage=True)
    return MethodMaps(dense, canonical, coverage)


class EvaluationCounter:
    """Counts the images that pass through a network while a method runs, with hooks that are not on any network.

    If several networks or parts of one are called one after the other, the one that sees most images counts.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._depth = 0

    @property
    def count(self) -> int | None:
        """Images so far; None if no module was called, so that they could not be counted."""
        return max(self._rows.values(), default=None)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts within the context."""
        self._depth = 0  # a forward that failed has not come out again
        handles = [
            nn.modules.module.register_module_forward_pre_hook(self._enter),
            nn.modules.module.register_module_forward_hook(self._leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # Counted on the way out: hooks of DeepLift make a batch of the tuples that it hands over.
        self._depth -= 1
        if not self._depth:
            first = next((x for x in (*inputs, output) if isinstance(x, Tensor) and x.ndim), None)
            self._rows[id(module)] = self._rows.get(id(module), 0) + (0 if first is None else len(first))


def random_maps(photos: BenchmarkPhotos, seed: int, patch_size: float | None, num_points: int | None) -> Tensor:
    """(N, 1, H_F, W_F) normal noise at the occlusion points, blurred as canonical occlusion blurs its drops.

    The map of an image depends on its place in the data, the seed, the patch and the points only.
    """
    face = photos.face
    side = patch_side(patch_size, photos.images) * face.size[0] / photos.images.shape[-2]
    places = face.points(face.vertices)
    generator = torch.Generator()
    drops = torch.stack(
        [torch.randn(face.num_points, generator=generator.manual_seed(seed + row)) for row in photos.kept.tolist()]
    )
    drawn = prefix_of(face, num_points).expand(drops.shape)
    drops, painted = fill_in(drops.double(), drawn, torch.ones_like(drawn), places)
    maps, _ = splat(footprints(places[None, :, :2], side, face.size), drops, painted, face.size)
    return maps.to(photos.images.device, torch.float32)


def uniform_maps(photos: BenchmarkPhotos) -> Tensor:
    """(N, 1, H, W), 1 on the face."""
    return photos.area.float()


def prior_maps(photos: BenchmarkPhotos) -> Tensor:
    """(N, 1, H, W), the mean face mask of the other folds: the share of their photos in which a pixel shows the face.

    Raises:
        CanonicalError: there are no other folds.
    """
    masks = photos.area.double()
    maps = torch.zeros_like(masks)
    for held_out, others in held_out_folds(photos):
        maps[held_out.to(maps.device)] = masks[others.to(maps.device)].mean(0, keepdim=True)
    return maps.float()


def edge_maps(photos: BenchmarkPhotos) -> Tensor:
    """(N, 1, H, W) magnitude of Sobel's gradient of the mean over the channels; the border repeats its pixels."""
    grey = F.pad(photos.images.double().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)
    x, y = (F.conv2d(grey, kernel[None, None]) for kernel in (across, across.T))
    return torch.hypot(x, y).float()


Control = Callable[[BenchmarkPhotos, BenchmarkSettings], tuple[Tensor, Any, Any]]

CONTROLS: dict[str, Control] = {
    "random": lambda photos, s: _from_canonical(photos, random_maps(photos, s.seed, s.random_patch, s.random_points)),
    "uniform": lambda photos, settings: (uniform_maps(photos), None, None),
    "mean face": lambda photos, settings: (prior_maps(photos), None, None),
    "edges": lambda photos, settings: _from_image(photos, edge_maps(photos)),
}
"""Name -> maps in image space, and on the canonical face with their coverage, or None where there is but one map."""


def _from_canonical(photos: BenchmarkPhotos, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projector = CanonicalProjector(None, canonical_face=photos.face)
    return projector.reproject(maps, photos.faces), maps, torch.ones_like(maps)  # type: ignore[return-value]


def _from_image(photos: BenchmarkPhotos, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projector = CanonicalProjector(None, canonical_face=photos.face)
    return (maps, *projector.project(maps, photos.faces, return_coverage=True))
