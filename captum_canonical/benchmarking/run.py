"""One call from photographs and methods to a table of how faithful each method's maps are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_canonical._captum import TargetType
from captum_canonical.attributions.base import Faces
from captum_canonical.benchmarking.controls import CONTROLS, Control, random_maps
from captum_canonical.benchmarking.counting import Counted
from captum_canonical.benchmarking.methods import Maps, Method, MethodArgument
from captum_canonical.benchmarking.notes import facts_of, notes_of
from captum_canonical.benchmarking.photos import Photos, canonical_mean, cross_fitted, other_folds, prepare
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.scoring import Row, percentages_apply, score_row
from captum_canonical.benchmarking.settings import Settings, Space
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faithfulness.fills import FillLike
from captum_canonical.faithfulness.masks import Sign
from captum_canonical.restore import NetworkState, random_state_kept, seed_generators
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.statistics.units import FEWEST_IDENTITIES

STEPS = 10
SINGLE_MAP = ("uniform", "mean face")
"""Controls that are the same map for every face: their canonical mean would be the same row again."""


def benchmark(
    forward_func: Callable[..., Any],
    data: Tensor,
    methods: Mapping[str, MethodArgument],
    target: TargetType = None,
    *,
    faces: Faces | None = None,
    canonical_face: CanonicalFace | None = None,
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
            :class:`CanonicalProjector`; a tensor in the shape of ``data`` has one entry for each photograph.
        target: as in Captum, for all methods.
        faces: one mesh for each photograph, or an aligner, which is called once. Photographs without a face are left
            out and counted.
        canonical_face: the face of all maps. Default: :meth:`CanonicalFace.default`.
        identities: who is on each photograph. Default: somebody else on each.
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
    settings = Settings(
        fills=tuple(fills),
        folds=folds,
        budget=budget,
        sign=sign,
        fractions=tuple(fractions) if fractions is not None else tuple(step / STEPS for step in range(STEPS + 1)),
        spaces=tuple(spaces),
        unbounded=unbounded,
        symmetric=symmetric,
        per_target=per_target,
        batch_size=batch_size,
        resamples=resamples,
        permutations=permutations,
        seed=seed,
        random_patch=random_patch,
        random_points=random_points,
    )
    _check_names(methods)
    networks = [forward_func] if isinstance(forward_func, nn.Module) else []
    state = NetworkState(networks)
    try:
        with random_state_kept():
            seed_generators(seed)
            photos = prepare(
                forward_func, data, target, faces, canonical_face, identities, additional_forward_args, settings
            )
            runs = [Method(name, method, photos, networks) for name, method in methods.items()]
            CanonicalModelSaliency(photos.face, symmetric)  # raises now rather than after an hour
            if per_target:
                list(other_folds(photos))
            random_maps(photos.first(), seed, random_patch, random_points)
            facts = facts_of(photos, runs, identities is not None, controls)
            job = _Job(Counted(forward_func), photos, settings, CONTROLS if controls else {})
            rows, mean_maps = job.run(runs, show_progress)
    finally:
        state.restore()
    own = {run.name: run.photos.face for run in runs}
    by_identity = identities is not None and int(photos.units.max()) + 1 >= FEWEST_IDENTITIES
    return BenchmarkResult(
        rows=tuple(rows),
        settings={**settings.described(), **facts, "intervals by": "identity" if by_identity else "photo"},
        notes=tuple(notes_of(photos, settings, identities is not None, by_identity, runs)),
        clean_scores=photos.clean,
        units=photos.units,
        interval_units=photos.units if by_identity else torch.arange(len(photos)),
        left_out=photos.left_out,
        mean_maps=mean_maps,
        canonical_faces={name: own.get(name, photos.face) for name in mean_maps},
        _settings=settings,
    )


def _check_names(methods: Mapping[str, MethodArgument]) -> None:
    if not isinstance(methods, Mapping) or not methods:
        raise CanonicalError("methods: expected a mapping of one or more names to Captum attributions.")
    taken = sorted(set(methods) & set(CONTROLS))
    if taken:
        raise CanonicalError(f"methods: {taken} are names of controls, which are always there; choose others.")


@dataclass(frozen=True, eq=False)
class _Job:
    """A benchmark under way."""

    forward_func: Counted
    photos: Photos
    settings: Settings
    controls: Mapping[str, Control]

    @property
    def percent(self) -> bool:
        """Whether drops are given in per cent too: the same for all rows, and for one photograph alone."""
        return percentages_apply(self.photos, self.settings)

    def run(self, runs: list[Method], show_progress: bool) -> tuple[list[Row], dict[str, Tensor]]:
        rows: list[Row] = []
        mean_maps: dict[str, Tensor] = {}
        total = len(runs) * (len(self.photos) + 2) + sum(1 if name in SINGLE_MAP else 2 for name in self.controls)
        with tqdm(total=total, desc="Benchmark", disable=not show_progress) as bar:
            self._try_scoring()
            first = self._try_all(runs)
            for run in runs:
                bar.set_postfix_str(run.name)
                found = self._maps(run, first[run.name], bar.update)
                row = Row(run.name, "per image", False, evaluations=run.forwards, seconds=run.seconds)
                rows += self._rows(row, found, run.photos, run.failure, mean_maps, bar.update)
            for name, make in self.controls.items():
                bar.set_postfix_str(name)
                rows += self._control(name, make, mean_maps, bar.update)
        return rows, mean_maps

    def _try_scoring(self) -> None:
        """Scores one photograph, so that fills and fractions that do not fit are found early."""
        photo = self.photos.first()
        score_row(
            Row("uniform", "per image", True), self.forward_func, photo.area.float(), photo, self.settings, self.percent
        )

    def _try_all(self, runs: list[Method]) -> dict[str, Maps | None]:
        """Runs every method on the first photograph, so that mistakes are found early."""
        first = {run.name: run.maps(0, self.settings.seed) for run in runs}
        if all(maps is None for maps in first.values()):
            reasons = "; ".join(f"{run.name}: {run.failure}" for run in runs)
            raise CanonicalError(f"every method fails on the first photograph: {reasons}")
        return first

    def _maps(self, run: Method, first: Maps | None, tick: Callable[[int], object]) -> Maps | None:
        """The maps of all photographs; None as soon as one fails."""
        found = [] if first is None else [first]
        for row in range(1, len(self.photos)):
            tick(1)
            maps = run.maps(row, self.settings.seed) if run.failure is None else None
            found += [] if maps is None else [maps]
        tick(1)
        return None if run.failure else Maps(*(torch.cat(part) for part in zip(*found, strict=True)))

    def _rows(
        self,
        row: Row,
        maps: Maps | None,
        photos: Photos,
        failure: str | None,
        mean_maps: dict[str, Tensor],
        tick: Callable[[int], object],
    ) -> list[Row]:
        """The row of the maps as they are, and that of their canonical mean; ``photos`` as the maps are aligned."""
        mean = replace(row, kind="canonical mean", per_image={}, explained={}, curves={}, canonical_curves={}, flags={})
        if maps is None:
            row.failure = mean.failure = failure
        else:
            symmetric = self.settings.symmetric
            mean_maps[row.name] = canonical_mean(maps.canonical, maps.coverage, photos.face, symmetric)
            self._score(row, lambda: maps.image)
            self._score(mean, lambda: cross_fitted(maps.canonical, maps.coverage, photos, symmetric))
        tick(2)
        return [row, mean]

    def _control(
        self, name: str, make: Control, mean_maps: dict[str, Tensor], tick: Callable[[int], object]
    ) -> list[Row]:
        row = Row(name, "per image", True)
        if name in SINGLE_MAP:
            self._score(row, lambda: make(self.photos, self.settings)[0])
            tick(1)
            return [row]
        return self._rows(row, Maps(*make(self.photos, self.settings)), self.photos, None, mean_maps, tick)

    def _score(self, row: Row, maps: Callable[[], Tensor]) -> None:
        try:
            score_row(row, self.forward_func, maps(), self.photos, self.settings, self.percent)
        except Exception as error:  # this row's: the others go on
            row.failure = f"{type(error).__name__}: {error}"
            row.per_image, row.explained, row.curves, row.canonical_curves = {}, {}, {}, {}
