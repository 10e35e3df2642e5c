"""One call from photographs and methods to a table of how faithful each method's maps are."""

from __future__ import annotations

import platform
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical._captum import TargetType
from captum_canonical.adapters.external import ExternalAttribution
from captum_canonical.attributions.base import Faces
from captum_canonical.benchmarking.measures import BenchmarkSettings, Space
from captum_canonical.benchmarking.methods import CONTROLS, BenchmarkMethod, MethodArgument, random_maps
from captum_canonical.benchmarking.photos import BenchmarkPhotos, held_out_folds, prepare
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.scoring import BenchmarkJob, CountedForward, percentages_apply
from captum_canonical.checks import check_dtype, exact_device
from captum_canonical.data.records import in_dtype
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.faithfulness.fills import FillLike
from captum_canonical.faithfulness.masks import Sign
from captum_canonical.fingerprint import describe
from captum_canonical.inference.rounding import rounding_text
from captum_canonical.modules import dtype_of
from captum_canonical.restore import network_kept, random_state_kept, seed_generators
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.statistics.bootstrap import effective_number
from captum_canonical.statistics.units import FEWEST_IDENTITIES


def benchmark(
    forward_func: Callable[..., Any],
    data: Tensor,
    methods: Mapping[str, MethodArgument],
    target: TargetType = None,
    *,
    faces: Faces | None = None,
    canonical_face: FaceLike | None = None,
    identities: Sequence[Hashable] | Tensor | None = None,
    additional_forward_args: object | None = None,
    fills: Sequence[FillLike] = ("mean", "blur", "imputed"),
    folds: int = 5,
    symmetric: bool = False,
    per_target: bool = False,
    budget: float = 0.1,
    sign: Sign = "positive",
    fractions: Sequence[float] | None = None,
    spaces: Sequence[Space] = ("image",),
    controls: bool = True,
    random_patch: float | None = None,
    random_points: int | None = None,
    unbounded: bool = False,
    batch_size: int = 32,
    dtype: torch.dtype | str | None = None,
    resamples: int = 1000,
    permutations: int = 10_000,
    seed: int = 0,
    show_progress: bool = False,
) -> BenchmarkResult:
    """Compares methods by how much hiding what they point at changes the confidence, beside controls that know nothing.

    Every method explains the same photographs for the same targets, one photograph at a time. Its maps are scored
    twice: as they are, and their canonical mean (Eq. 6) re-projected onto each face (Fig. 6d), which a face never
    helped to make: folds are divided by identity. All pixels but the face's are left alone. The controls, scored in the
    same two ways where these differ, are ``"random"`` (noise at the occlusion points, as blurred as canonical
    occlusion), ``"uniform"`` on the face, ``"mean face"`` (how often each pixel shows the face in other photographs)
    and ``"edges"`` (Sobel).

    A method's maps in the image are its own, interpolated to the image's size; those of :class:`CanonicalOcclusion`
    and :class:`CanonicalProjector` are their canonical maps, re-projected. Where these were constructed with
    ``faces`` of their own they keep them, and their canonical face: so alignments are compared as methods are, on the
    same photographs and scored on the same pixels.

    Args:
        forward_func: what scores the photographs, as in Captum; probabilities for the percentages.
        data: (N, C, H, W) floating point photographs as the network takes them.
        methods: name -> a Captum attribution (of inputs or of a layer; ours too), or a tuple of one and the keyword
            arguments of its ``attribute``. ``reduce`` among them says how channels become one, as in
            :class:`CanonicalProjector`; a tensor in the shape of ``data``, or with one channel (a mask), has an
            entry for each photograph.
        target: as in Captum, for all methods.
        faces: one mesh for each photograph, or an aligner, which is called once. Photographs without a face are left
            out and counted.
        canonical_face: the face of all maps. Default: :meth:`CanonicalFace.default`.
        identities: who is on each photograph. One whose identity is missing (None, NaN, ``pd.NA``, an empty text or one
            of :data:`~captum_canonical.statistics.labels.MISSING_TEXTS`) shows a person of its own. Default: all are
            missing.
        additional_forward_args: as in Captum, for all methods and the scores.
        fills: what hidden pixels become, see :func:`fill_pixels`; a method should not be scored by the fill alone that
            it was built with.
        folds: number of folds, fewer where there are not as many identities.
        symmetric: pool canonical means with their mirror images.
        per_target: take canonical means over photographs of the same target only.
        budget, sign: of the explanation images, see :func:`explanation_masks`. With fills that impute, these pixels
            are hidden as a whole (``mass="top"``). The paper's Eq. 10, one mass for all methods of an image, would let
            every method change the numbers of all others; :func:`equal_mass_masks` has it.
        fractions: shares of the face that deletion and insertion hide. Default: 0, 1/10, ..., 1.
        spaces: where deletion and insertion order and count pixels: ``"image"``; ``"canonical"`` hides the same share
            of the facial surface in every pose (:func:`removal_curves`), for as many evaluations again; both; or ``()``
            for no curves.
        controls: False leaves the controls out, where the run will be joined to one that has them
            (:meth:`BenchmarkResult.join`). No table should be shown without.
        random_patch, random_points: ``patch_size`` and ``num_points`` of the canonical occlusion as which the random
            control is blurred: give what your methods use, for rougher noise may disturb a network more. Default: those
            of :class:`CanonicalOcclusion`.
        unbounded: also give percentages of scores that are not in 0..1.
        batch_size: photographs per forward call when maps are scored; results do not depend on it.
        dtype: floating-point type in which the network is given photographs. Default: that of its weights.
        resamples: bootstrap draws of an interval (95 %).
        permutations: random sign patterns of a paired test.
        seed: of folds, noise, draws and patterns, and of methods that draw random numbers.
        show_progress: a bar on stderr.

    Returns:
        The rows, with :meth:`~BenchmarkResult.table` and :meth:`~BenchmarkResult.to_json`. A method that fails on any
        photograph has rows that say why; the others go on.

    Raises:
        CanonicalError: an argument does not fit, no face was found, or every method fails on the first photograph, on
            which all of them are tried before the long computation starts.

    Example::

        >>> import torch
        >>> from captum.attr import Saliency
        >>> from captum_canonical import CanonicalFace, FaceMesh
        >>> face = CanonicalFace.default(32)
        >>> faces = FaceMesh(face.vertices.repeat(4, 1, 1), image_size=(32, 32), topology=face.topology)
        >>> net = lambda x: x[:, :, 20:26, 12:20].mean((1, 2, 3))  # reads the mouth
        >>> photos = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> methods = {"Saliency": Saliency(net)}
        >>> result = benchmark(net, photos, methods, faces=faces, canonical_face=face, fills=["mean"], folds=2)
        >>> saliency, random = (result[f"{name}, per image"] for name in ("Saliency", "random"))
        >>> saliency.value("deletion_auc", "mean") < random.value("deletion_auc", "mean")
        True
    """
    settings = BenchmarkSettings.from_arguments(locals())
    _check_names(methods)
    kind = dtype_of(forward_func) if dtype is None else check_dtype("dtype", dtype)
    photographs = in_dtype(data, kind) if isinstance(data, Tensor) else data
    if isinstance(data, Tensor) and exact_device(data.device) != data.device:
        raise CanonicalError(
            f"data: explanations are scored in float64, which {data.device.type} does not have; move the network and "
            "the photographs to the CPU (net.cpu(), data.cpu())."
        )
    networks = [forward_func] if isinstance(forward_func, nn.Module) else []
    with network_kept(forward_func), random_state_kept():
        seed_generators(seed)
        photos = prepare(
            forward_func, photographs, target, faces, canonical_face, identities, additional_forward_args, settings
        )
        runs = [BenchmarkMethod(name, method, photos, networks) for name, method in methods.items()]
        CanonicalModelSaliency(photos.face, symmetric)  # raises now rather than after an hour
        if per_target:
            list(held_out_folds(photos))
        random_maps(photos.first(), seed, random_patch, random_points)
        facts = _facts_of(photos, runs, photos.identified > 0, controls)
        job = BenchmarkJob(CountedForward(forward_func), photos, settings, CONTROLS if controls else {})
        rows, mean_maps = job.run(runs, show_progress)
    own = {run.name: run.photos.face for run in runs}
    return BenchmarkResult(
        rows=tuple(rows),
        settings={**settings.described(), **facts, "intervals by": "identity" if photos.identified else "photo"},
        notes=tuple(notes_of(photos, settings, photos.identified > 0, runs)),
        clean_scores=photos.clean,
        units=photos.units,
        interval_units=photos.units,
        left_out=photos.left_out,
        mean_maps=mean_maps,
        canonical_faces={name: own.get(name, photos.face) for name in mean_maps},
    )


def _check_names(methods: Mapping[str, MethodArgument]) -> None:
    if not isinstance(methods, Mapping) or not methods:
        raise CanonicalError("methods: expected a mapping of one or more names to Captum attributions.")
    taken = sorted(set(methods) & set(CONTROLS))
    if taken:
        raise CanonicalError(f"methods: {taken} are names of controls, which are always there; choose others.")


def _facts_of(
    photos: BenchmarkPhotos, runs: Sequence[BenchmarkMethod], identified: bool, controls: bool
) -> dict[str, Any]:
    """Provenance beside the settings: the data, the methods, and the versions of packages."""
    import captum_canonical

    described_methods = {}
    for run in runs:
        inner = getattr(run.attribution, "attribution_method", None)
        wrapped = {"inside": type(inner).__name__} if inner is not None else {}
        own = {"canonical face": _described_face(run.photos.face)} if run.photos.faces is not photos.faces else {}
        described_methods[run.name] = {
            "class": type(run.attribution).__name__,
            **wrapped,
            **own,
            **({"scale": scale} if (scale := _scale(run.attribution)) else {}),
            "arguments": describe(run.arguments),
        }
    packages = {name: metadata.version(name) for name in ("captum", "torch", "numpy", "scipy", "torchmetrics")}
    return {
        "images": len(photos),
        "image size": list(photos.images.shape[1:]),
        "image type": str(photos.images.dtype).removeprefix("torch."),
        "device": str(photos.images.device),
        "identities": int(photos.units.max()) + 1 if identified else None,
        "target": describe(photos.target),
        "fold of each image": photos.folds.tolist(),
        "canonical face": _described_face(photos.face),
        "methods": described_methods,
        "controls": list(CONTROLS) if controls else [],
        "versions": {
            "captum_canonical": captum_canonical.__version__,
            "python": platform.python_version(),
            **packages,
        },
    }


def _described_face(face: CanonicalFace) -> dict[str, Any]:
    return {"size": list(face.size), "topology": face.topology}


def _scale(method: Any) -> str | None:
    """The scale of maps of other packages; None for Captum's methods and ours."""
    while method is not None:
        if isinstance(method, ExternalAttribution):
            return method.scale
        method = getattr(method, "attribution_method", None)
    return None


def _notes_of_identities(units: Tensor) -> list[str]:
    sizes = units.bincount()
    people, effective = len(sizes), float(effective_number(sizes.double()[:, None]))
    if people < 2:
        return ["No intervals: the images show one identity."]
    few, unequal = people < FEWEST_IDENTITIES, bool((sizes != sizes[0]).any())
    if not few and not unequal:
        return [f"Intervals (95 %) and tests resample the {people} identities."]
    why = "too few for the bootstrap" if few else "on unequal numbers of images"
    notes = [f"Intervals (95 %) are Student's by identity ({people} are {why}); tests flip identities."]
    if effective < people / 2:
        notes.append(
            f"One identity is on {int(sizes.max()) / len(units):.0%} of the images: means over images are worth "
            f"those of {effective:.1f} identities with equally many."
        )
    return notes


def notes_of(
    photos: BenchmarkPhotos,
    settings: BenchmarkSettings,
    identified: bool,
    runs: Sequence[BenchmarkMethod] = (),
) -> list[str]:
    """Sentences about n, intervals, tests and missing percentages."""
    count = len(photos)
    notes = [f"n = {count} images; {len(photos.left_out)} left out because no face was seen in them."]
    if identified:
        notes += _notes_of_identities(photos.units)
    else:
        notes.append(
            "Identities are not known: intervals (95 %) and tests are by photo, and too narrow if photos show the same "
            "people."
        )
    if identified and photos.identified < count:
        notes.append(f"{count - photos.identified} images of unknown people count as one person each.")
    if not percentages_apply(photos, settings):
        notes.append(
            f"No percentages: scores from {float(photos.clean.min()):.3g} to {float(photos.clean.max()):.3g} are no "
            "confidences in 0..1. Score with probabilities, or pass unbounded=True."
        )
    elif zero := int((photos.clean <= 0).sum()):
        notes.append(f"{zero} images with a clean score of 0 or less do not count in Average Drop %.")
    if scaled := [run.name for run in runs if _scale(run.attribution) == "normalised"]:
        notes.append(
            f"Maps that were scaled image by image: {', '.join(scaled)}. Their canonical mean weighs all images alike, "
            "however strongly the network answered, and the size of its values means nothing."
        )
    for run in runs:
        shares = torch.cat(run.rounding or [torch.zeros(0)])
        notes += filter(None, [rounding_text(shares, f"{run.name} in half precision")])
    notes.append(
        "Ranks: paired sign-flip tests, two-sided, Holm's correction over all pairs of rows of a measure and fill. "
        "Values and intervals of a row do not depend on the others; Win % and ranks do."
    )
    return notes
