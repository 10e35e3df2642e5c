"""From the maps of methods and controls to the rows of a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.benchmarking.measures import MEASURES, BenchmarkSettings, FillScores, Space
from captum_canonical.benchmarking.methods import BenchmarkMethod, Control, MethodMaps
from captum_canonical.benchmarking.photos import BenchmarkPhotos, canonical_mean, cross_fitted_means
from captum_canonical.benchmarking.scores import BenchmarkRow
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.fills import FillLike, fill_name
from captum_canonical.faithfulness.masks import explanation_masks
from captum_canonical.faithfulness.measures import Explanation, RemovalCurves

SINGLE_MAP = ("uniform", "mean face")
"""Controls that are the same map for every face: their canonical mean would be the same row again."""
EXPLANATIONS: tuple[Explanation, ...] = ("negative", "positive")


class CountedForward:
    """A forward function that counts the images it is called with."""

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        self.forward_func = forward_func
        self.count = 0

    def __call__(self, *inputs: Any) -> Any:
        """Calls the function."""
        self.count += len(inputs[0])
        return self.forward_func(*inputs)


@dataclass(frozen=True, eq=False)
class BenchmarkJob:
    """A benchmark under way."""

    forward_func: CountedForward
    photos: BenchmarkPhotos
    settings: BenchmarkSettings
    controls: Mapping[str, Control]

    @property
    def percent(self) -> bool:
        """Whether drops are given in per cent too: the same for all rows, and for one photograph alone."""
        return percentages_apply(self.photos, self.settings)

    def run(self, runs: list[BenchmarkMethod], show_progress: bool) -> tuple[list[BenchmarkRow], dict[str, Tensor]]:
        """All rows, and the mean map of each method and control."""
        rows: list[BenchmarkRow] = []
        mean_maps: dict[str, Tensor] = {}
        total = len(runs) * (len(self.photos) + 2) + sum(1 if name in SINGLE_MAP else 2 for name in self.controls)
        with tqdm(total=total, desc="Benchmark", disable=not show_progress) as bar:
            self._try_scoring()
            first = self._try_all(runs)
            for run in runs:
                bar.set_postfix_str(run.name)
                found = self._maps(run, first[run.name], bar.update)
                row = BenchmarkRow(run.name, "per image", False, evaluations=run.evaluations, seconds=run.seconds)
                rows += self._rows(row, found, run.photos, run.failure, mean_maps, bar.update)
            for name, make in self.controls.items():
                bar.set_postfix_str(name)
                rows += self._control(name, make, mean_maps, bar.update)
        return rows, mean_maps

    def _try_scoring(self) -> None:
        """Scores one photograph, so that fills and fractions that do not fit are found early."""
        photo = self.photos.first()
        self._fill_in(BenchmarkRow("uniform", "per image", True), photo.area.float(), photo)

    def _try_all(self, runs: list[BenchmarkMethod]) -> dict[str, MethodMaps | None]:
        """Runs every method on the first photograph, so that mistakes are found early."""
        first = {run.name: run.maps(0, self.settings.seed) for run in runs}
        if all(maps is None for maps in first.values()):
            reasons = "; ".join(f"{run.name}: {run.failure}" for run in runs)
            raise CanonicalError(f"every method fails on the first photograph: {reasons}")
        return first

    def _maps(self, run: BenchmarkMethod, first: MethodMaps | None, tick: Callable[[int], object]) -> MethodMaps | None:
        """The maps of all photographs; None as soon as one fails."""
        found = [] if first is None else [first]
        for row in range(1, len(self.photos)):
            tick(1)
            maps = run.maps(row, self.settings.seed) if run.failure is None else None
            found += [] if maps is None else [maps]
        tick(1)
        return None if run.failure else MethodMaps(*(torch.cat(part) for part in zip(*found, strict=True)))

    def _rows(
        self,
        row: BenchmarkRow,
        maps: MethodMaps | None,
        photos: BenchmarkPhotos,
        failure: str | None,
        mean_maps: dict[str, Tensor],
        tick: Callable[[int], object],
    ) -> list[BenchmarkRow]:
        """The row of the maps as they are, and that of their canonical mean; ``photos`` as the maps are aligned."""
        mean = replace(row, kind="canonical mean", per_image={}, explained={}, curves={}, canonical_curves={}, flags={})
        if maps is None:
            row.failure = mean.failure = failure
        else:
            symmetric = self.settings.symmetric
            mean_maps[row.name] = canonical_mean(maps.canonical, maps.coverage, photos.face, symmetric)
            self._score(row, lambda: maps.image)
            self._score(mean, lambda: cross_fitted_means(maps.canonical, maps.coverage, photos, symmetric))
        tick(2)
        return [row, mean]

    def _control(
        self, name: str, make: Control, mean_maps: dict[str, Tensor], tick: Callable[[int], object]
    ) -> list[BenchmarkRow]:
        row = BenchmarkRow(name, "per image", True)
        if name in SINGLE_MAP:
            self._score(row, lambda: make(self.photos, self.settings)[0])
            tick(1)
            return [row]
        return self._rows(row, MethodMaps(*make(self.photos, self.settings)), self.photos, None, mean_maps, tick)

    def _score(self, row: BenchmarkRow, maps: Callable[[], Tensor]) -> None:
        try:
            self._fill_in(row, maps(), self.photos)
        except Exception as error:  # this row's: the others go on
            row.failure = f"{type(error).__name__}: {error}"
            row.per_image, row.explained, row.curves, row.canonical_curves = {}, {}, {}, {}

    def _fill_in(self, row: BenchmarkRow, maps: Tensor, photos: BenchmarkPhotos) -> None:
        """Fills in the scores of a row from its maps (N, 1, H, W) in image space.

        Raises:
            CanonicalError: a score is not finite.
        """
        before = self.forward_func.count
        flags: list[set[str]] = [set() for _ in range(len(photos))]
        for fill in self.settings.fills:
            name = fill_name(fill)
            masks = explanation_masks(
                maps, photos.area, mass=self.settings.masses[name], budget=self.settings.budget, sign=self.settings.sign
            )
            explained = {
                explanation: score_explanations(
                    self.forward_func,
                    photos.images,
                    masks,
                    photos.target,
                    additional_forward_args=photos.args,
                    explanation=explanation,
                    fill=fill,
                    clean_scores=photos.clean,
                    batch_size=self.settings.batch_size,
                )
                for explanation in EXPLANATIONS
            }
            curves = {space: self._curves(maps, photos, fill, space) for space in self.settings.spaces}
            row.explained |= {(explanation, name): scores for explanation, scores in explained.items()}
            for space, kept in (("image", row.curves), ("canonical", row.canonical_curves)):
                kept.update({name: curves[space]} if space in curves else {})
            scores = FillScores(photos.clean, explained, curves, self.settings.unbounded)
            for measure in MEASURES:
                values = MEASURES[measure].values(scores) if self.percent or not MEASURES[measure].percent else None
                if values is not None:
                    row.per_image[measure, name] = values
            for found, *new in zip(flags, masks.flags, *(curve.flags for curve in curves.values()), strict=True):
                found.update(new)
        row.flags = dict(sorted(Counter(flag for found in flags for flag in found if flag).items()))
        row.scoring_evaluations = self.forward_func.count - before

    def _curves(self, maps: Tensor, photos: BenchmarkPhotos, fill: FillLike, space: Space) -> RemovalCurves:
        if space == "canonical":  # of all rows on one face, however their maps were aligned
            where = {"faces": photos.faces, "canonical_face": photos.face}
            maps = CanonicalProjector(None, canonical_face=photos.face).project(maps, photos.faces)  # type: ignore[assignment]
        else:
            where = {"area": photos.area}
        return removal_curves(
            self.forward_func,
            photos.images,
            maps,
            photos.target,
            additional_forward_args=photos.args,
            space=space,
            fill=fill,
            fractions=self.settings.fractions,
            clean_scores=photos.clean,
            batch_size=self.settings.batch_size,
            **where,  # type: ignore[arg-type]
        )


def percentages_apply(photos: BenchmarkPhotos, settings: BenchmarkSettings) -> bool:
    """Whether drops may be given in percent of the scores: these are confidences, or the user says so."""
    return settings.unbounded or bool(((photos.clean >= 0) & (photos.clean <= 1)).all())
