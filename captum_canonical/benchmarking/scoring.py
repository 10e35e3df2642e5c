"""How faithful the maps of one row of the table are: all measures, with all fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.benchmarking.counting import Counted
from captum_canonical.benchmarking.photos import Photos
from captum_canonical.benchmarking.settings import Settings, Space
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.fills import FillLike, fill_name
from captum_canonical.faithfulness.masks import explanation_masks
from captum_canonical.faithfulness.measures import (
    Explanation,
    FaithfulnessScore,
    RemovalCurves,
    average_drop,
    increase_rate,
    mean_drop,
)

MapKind = Literal["per image", "canonical mean"]


@dataclass(eq=False)
class Row:
    """A row of the table: the maps of one method, or their canonical mean, and how faithful they are.

    Attributes:
        name: of the method or control.
        kind: ``"per image"``, or ``"canonical mean"``: that of the other folds, re-projected.
        control: whether the maps know nothing of the network.
        per_image: (measure, fill) -> (N,) float64, NaN for images that do not count.
        explained: (explanation, fill) -> (N,) float64, the scores of the explanation images.
        curves: fill -> deletion and insertion curves in the images.
        canonical_curves: fill -> the same with shares of the canonical face.
        flags: what is unusual about maps -> in how many images (:class:`ExplanationMasks`, :class:`RemovalCurves`).
        evaluations: images that the network was run on to make the maps; None if they could not be counted.
        seconds: it took to make the maps.
        scoring_evaluations: images that the network was run on to score them.
        failure: why there is nothing of all this, or None.
    """

    name: str
    kind: MapKind
    control: bool
    per_image: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    explained: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    curves: dict[str, RemovalCurves] = field(default_factory=dict)
    canonical_curves: dict[str, RemovalCurves] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    evaluations: int | None = 0
    seconds: float = 0.0
    scoring_evaluations: int = 0
    failure: str | None = None

    @property
    def label(self) -> str:
        """Name and kind: unique in a table."""
        return f"{self.name}, {self.kind}"

    def value(self, measure: str, fill: str) -> float:
        """Mean over the images that count; NaN if none does."""
        values = self.per_image.get((measure, fill))
        return float("nan") if values is None else float(values.nanmean())


def percentages_apply(photos: Photos, settings: Settings) -> bool:
    """Whether drops may be given in percent of the scores: these are confidences, or the user says so."""
    return settings.unbounded or bool(((photos.clean >= 0) & (photos.clean <= 1)).all())


def score_row(row: Row, forward_func: Counted, maps: Tensor, photos: Photos, settings: Settings, percent: bool) -> None:
    """Fills in the scores of a row from its maps (N, 1, H, W) in image space, in per cent too or not.

    Raises:
        CanonicalError: a score is not finite.
    """
    before = forward_func.count
    flags: list[set[str]] = [set() for _ in range(len(photos))]
    for fill in settings.fills:
        name = fill_name(fill)
        masks = explanation_masks(
            maps,
            photos.area,
            mass=settings.masses[name],
            budget=settings.budget,
            sign=settings.sign,
        )
        explanations: tuple[Explanation, ...] = ("negative", "positive")
        for explanation in explanations:
            scores = score_explanations(
                forward_func,
                photos.images,
                masks,
                photos.target,
                additional_forward_args=photos.args,
                explanation=explanation,
                fill=fill,
                clean_scores=photos.clean,
                batch_size=settings.batch_size,
            )
            row.explained[explanation, name] = scores
            for measure, score in _measures(photos.clean, scores, explanation, percent, settings.unbounded).items():
                row.per_image[measure, name] = score.per_image
        for space in settings.spaces:
            curves = _curves(forward_func, maps, photos, settings, fill, space)
            (row.curves if space == "image" else row.canonical_curves)[name] = curves
            for measure in RemovalCurves.DIRECTIONS:
                row.per_image[measure + _SUFFIX[space], name] = getattr(curves, measure)
            for found, new in zip(flags, curves.flags, strict=True):
                found.add(new)
        for found, new in zip(flags, masks.flags, strict=True):
            found.add(new)
    row.flags = dict(sorted(Counter(flag for found in flags for flag in found if flag).items()))
    row.scoring_evaluations = forward_func.count - before


_SUFFIX: Mapping[Space, str] = {"image": "", "canonical": "_canonical"}


def _curves(
    forward_func: Counted, maps: Tensor, photos: Photos, settings: Settings, fill: FillLike, space: Space
) -> RemovalCurves:
    if space == "canonical":  # of all rows on one face, however their maps were aligned
        where = {"faces": photos.faces, "canonical_face": photos.face}
        maps = CanonicalProjector(None, canonical_face=photos.face).project(maps, photos.faces)  # type: ignore[assignment]
    else:
        where = {"area": photos.area}
    return removal_curves(
        forward_func,
        photos.images,
        maps,
        photos.target,
        additional_forward_args=photos.args,
        space=space,
        fill=fill,
        fractions=settings.fractions,
        clean_scores=photos.clean,
        batch_size=settings.batch_size,
        **where,  # type: ignore[arg-type]
    )


def _measures(
    clean: Tensor, scores: Tensor, explanation: Explanation, percent: bool, unbounded: bool
) -> dict[str, FaithfulnessScore]:
    found = {"mean_drop": mean_drop(clean, scores, explanation=explanation)}
    if percent:
        found["average_drop"] = average_drop(clean, scores, explanation=explanation, unbounded=unbounded)
        found["increase_rate"] = increase_rate(clean, scores, explanation=explanation, unbounded=unbounded)
    suffix = "" if explanation == "negative" else "_positive"
    return {measure + suffix: score for measure, score in found.items()}
