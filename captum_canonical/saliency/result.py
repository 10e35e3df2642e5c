"""The model-level map of a network over many photographs, and everything behind it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_tensor
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.map_of_photos import NO_SINGLE_MAPS, MapOfPhotos
from captum_canonical.saliency.mean_map import check_same_face, read_summary
from captum_canonical.saliency.moments import Pixels, merge_moments, pooled_pixels
from captum_canonical.saliency.significance import Clusters, MaxTSettings, PermutationTest, Significance
from captum_canonical.saliency.single_maps import (
    SingleMaps,
    checked_columns,
    differing_settings,
    format_differences,
)
from captum_canonical.saliency.strata import Bins, By, strata_of
from captum_canonical.saliency.units import row_bands, unit_bands, units_of
from captum_canonical.statistics.bootstrap import check_level

SUMMARY = "summary.npz"


class ModelSaliency(MapOfPhotos):
    """The mean of the maps of n photographs on one canonical face (CMS, Eq. 6), with its uncertainty and single maps.

    Returned by :func:`explain_dataset`, :meth:`CanonicalModelSaliency.compute`, :meth:`open`, :meth:`from_maps` and
    :meth:`load`. Only results of a run folder or of maps in memory have single maps (:attr:`photos`), which tests,
    intervals and strata need. Immutable.

    Photographs count equally, as in Eq. 6 and as maps that are streamed can only do: someone who is on half of them is
    half of the map. :meth:`weighted` gives the map, and everything that is found from it, in which people do.

    Attributes:
        n: photographs in which any pixel was covered.
        canonical_face: the face that the maps are written on, None where it is not known.
        symmetric: whether each map was pooled with its mirror image, left with right.
        weights: what counts equally, ``"photographs"`` or ``"people"``.
        photos: the maps of single photographs and the records of each (:class:`SingleMaps`), or None.
        run: the run folder of the result (:class:`~captum_canonical.run_folder.RunFolder`: ``complete``,
            ``missing``, ``left_out``, ``settings``, ``stopping`` and so on), or None.

    Example::

        >>> face = CanonicalFace.default(size=4)
        >>> maps = torch.tensor([1.0, 3.0, 8.0])[:, None, None, None].expand(3, 1, 4, 4)
        >>> result = ModelSaliency.from_maps(maps, None, face, group=["a", "a", "b"])
        >>> result
        ModelSaliency of 3 photographs
        >>> result.mean[0, 0], result.photos.records["group"]
        (tensor([4., 4., 4., 4.], dtype=torch.float64), ['a', 'a', 'b'])
    """

    # -------------------------------------------------------------------------------------------- constructors
    @classmethod
    def open(cls, path: str | PathLike[str], symmetric: bool | None = None) -> ModelSaliency:
        """The result of a run so far, finished or not.

        Only the records are read at first; the maps are read once, when :attr:`mean` or another array is needed.

        Args:
            path: the ``out`` of :func:`explain_dataset`.
            symmetric: pool each map with its mirror image. Default: as in the summary of the run, if there is one.

        Raises:
            CanonicalError: there is no run, it is damaged, or its face is not its own mirror image.
        """
        run = RunFolder.open(path)
        if symmetric is None:
            summary = run.path / SUMMARY
            symmetric = summary.exists() and bool(read_summary(summary)["symmetric"])
        result = cls.of_photos(SingleMaps.of_run(run), run.canonical_face, symmetric)
        result.run = run
        return result

    @classmethod
    def from_maps(
        cls,
        maps: Tensor | np.ndarray,
        coverage: Tensor | np.ndarray | None,
        canonical_face: FaceLike,
        identities: Sequence[Hashable] | None = None,
        *,
        symmetric: bool = False,
        **columns: Sequence[Any],
    ) -> ModelSaliency:
        """The result of maps in memory, which are kept, and copied only if necessary.

        Args:
            maps: (N, 1, H, W) on the canonical face; values where a map is not covered are ignored.
            coverage: like ``maps``, 0 where nothing was seen. None: every pixel of every map was hit once.
            canonical_face: the face that the maps are written on.
            identities: the person on each photograph; one whose identity is missing (None, NaN, ``pd.NA``, an empty
                text or one of :data:`~captum_canonical.statistics.labels.MISSING_TEXTS`) shows a person of its own.
            symmetric: pool each map with its mirror image.
            **columns: N entries each, such as ``group``, ``label``, ``predicted``, ``score``, ``yaw``: :meth:`strata`.

        Raises:
            CanonicalError: a shape or a number of entries does not fit, or a value is not finite where covered.
        """
        canonical_face, values = CanonicalFace.of(canonical_face), check_tensor("maps", maps).detach().cpu()
        values = values if values.is_floating_point() else values.float()
        hits = torch.ones_like(values) if coverage is None else torch.as_tensor(coverage).detach().cpu()
        records = {"identity": identities, **columns} if identities is not None else dict(columns)
        lists = checked_columns(records, len(values) if values.ndim else 0, "ModelSaliency.from_maps")
        pixels, n = pooled_pixels([(values, hits)], canonical_face, symmetric, "ModelSaliency.from_maps")
        result = cls.of_photos(SingleMaps.in_memory(values, hits, lists), canonical_face, symmetric)
        result._pixels, result.n = pixels, n
        return result

    # ----------------------------------------------------------------------------------------------- evidence
    def significance(
        self,
        permutations: int = 10_000,
        alpha: float = 0.05,
        seed: int = 0,
        clusters: Clusters = False,
        *,
        forming: float = 0.001,
        share: float = 0.5,
    ) -> Significance:
        """Where the map differs from 0, corrected for the number of pixels of the face.

        The test at each pixel is of the mean over people (over photographs where identities are not known; all
        photographs of a person together count once), by Student's t and random signs of whole maps. It assumes that
        without effect a map is as likely as its negative, and is approximate otherwise. P values are corrected by the
        largest t of each sign pattern (max-T): the chance of any false finding in the whole map is alpha. With n
        people no p value is below 2 / 2^n: at least 6 are needed for 0.05.

        Args:
            permutations: number of random sign patterns; if there are no more in all, each is used once.
            alpha: family-wise error.
            seed: of the patterns.
            clusters: test clusters of neighbouring pixels instead of single ones, by ``"mass"`` (the sum of their
                abs(t); also True) or ``"extent"``. More sensitive to wide and weak effects, but a significant cluster
                only means that there is an effect somewhere in it.
            forming: two-sided, uncorrected p value at or below which a pixel belongs to a cluster.
            share: of the people that must cover a pixel for it to be tested (of :attr:`evaluated` where points rotate).

        Raises:
            CanonicalError: there are no single maps, or an argument is not valid.

        Example::

            >>> face = CanonicalFace.default(size=4)
            >>> maps = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
            >>> maps[:, :, 1, 1] += 2
            >>> print(ModelSaliency.from_maps(maps, None, face).significance(permutations=999).sentence)
            Mean other than 0 in 1 of 8 pixels of the face (|t| above 2.85; max-T, family-wise error 0.05, 1,000 \
random sign patterns of 40 photographs).
        """
        settings = MaxTSettings(permutations, alpha, seed, clusters, forming, share).within(self.evaluated)
        photos, face = self.single_maps("significance"), self.face("significance")
        units = units_of(photos)
        bands = unit_bands(photos, units, face.size, self.symmetric)
        return PermutationTest.of_signs(units, settings).of_pixels(bands, face, "mean other than 0")

    def strata(self, by: By, bins: Bins = None) -> dict[str, ModelSaliency]:
        """One result for each stratum of the photographs; together they read every map once.

        Args:
            by: ``"correct"`` (whether label and prediction agree), ``"true_predicted"`` (every pair of label and
                prediction), ``"confidence"`` (bins of the score), ``"pose"`` (bins of yaw), any column of
                :attr:`records` (such as ``"group"``, ``"identity"``, ``"label"``); several of these, which are crossed;
                or one entry for each photograph with a map.
            bins: for numbers: the number of bins of equally many photographs, or the edges of the bins. Default: 3
                for confidence, the edges -90, -15, 15 and 90 degrees for pose.

        Returns:
            Name of the stratum -> its result, in order; unknown values form the stratum "not known". Draw them with
            :func:`~captum_canonical.visualization.show_strata`, compare two with :func:`compare_groups`.

        Raises:
            CanonicalError: there are no single maps, a column is unknown or empty, or the bins are not valid.
        """
        photos, face = self.single_maps("strata"), self.face("strata")
        found = strata_of(photos.records, len(photos), by, bins)
        return {
            name: ModelSaliency.of_photos(photos.subset(numbers), face, self.symmetric, self.weights)
            for name, numbers in found.items()
        }

    def concentration(self, level: float = 0.95, intervals: bool | None = None) -> Concentration:
        """Entropy, effective area and Gini coefficient of the map, the indicator of robustness of section V-G.

        Noise looks like spots: intervals are about the map without it. Those of 95 % contained the true values in 93 to
        98 % of simulated data sets of 40 and 100 people and in 97 to 99 % of 20, and in more where the map is 0 in
        half of the face (``benchmarks/calibration.py``): they are rather too wide. Fewer people give no intervals.

        Args:
            level: nominal coverage of the intervals, above 0 and below 1.
            intervals: whether to compute them. Default: if there are single maps.

        Raises:
            CanonicalError: intervals are requested without single maps, or ``level`` is not valid.
        """
        check_level(level)
        wanted = self.photos is not None if intervals is None else intervals
        covered = self.count.reshape(-1) > 0
        if not wanted:
            note = NO_SINGLE_MAPS if self.photos is None else "Intervals were not requested."
            return Concentration.of(self.mean.reshape(-1), covered, note, level)
        photos, face = self.single_maps("intervals of the concentration"), self.face("concentration")
        units, bands = row_bands(photos, units_of(photos), face.size, self.symmetric, self.weights)
        return Concentration.with_intervals(self.mean.reshape(-1), covered, bands, units, level)

    # ------------------------------------------------------------------------------------------------- adding
    def __add__(self, other: ModelSaliency) -> ModelSaliency:
        """The result of the photographs of both; single maps are kept if both have them.

        Raises:
            CanonicalError: they are on different faces, only one is pooled with its mirror image, they are known to be
                of different networks or settings, or some photographs are certainly in both.
        """
        if not isinstance(other, ModelSaliency):
            return NotImplemented
        self._check_addable(other)
        if self.weights == "people":  # someone may be in both
            photos = self.single_maps("a sum").joined(other.single_maps("a sum"))
            return ModelSaliency.of_photos(photos, self.face("a sum"), self.symmetric, self.weights)
        moments = merge_moments(torch.stack([self.pixels.moments(), other.pixels.moments()]))
        total = ModelSaliency(
            *Pixels.of_moments(moments, (self.coverage + other.coverage)[0]),
            self.n + other.n,
            canonical_face=self.canonical_face or other.canonical_face,
            symmetric=self.symmetric,
        )
        if self.photos is not None and other.photos is not None:
            total.photos = self.photos.joined(other.photos)
        return total

    def _check_addable(self, other: ModelSaliency) -> None:
        who = "ModelSaliency + ModelSaliency"
        check_same_face(self, other, who)
        if self.weights != other.weights:
            raise CanonicalError(
                f"{who}: expected the same weights, got {self.weights!r} and {other.weights!r}; use weighted()."
            )
        different = differing_settings(self.photos, other.photos)
        if different:
            raise CanonicalError(
                f"{who}: expected maps of one network made with the same settings, but "
                f"{format_differences(different)} differ."
            )
        shared = 0 if self.photos is None or other.photos is None else self.photos.count_shared(other.photos)
        if shared or self is other:
            raise CanonicalError(
                f"{who}: expected different photographs, but {shared or self.n} are in both; counted twice, they would "
                "make the map look more certain than it is."
            )

    # -------------------------------------------------------------------------------------------------- files
    def save_summary(self) -> Path:
        """Writes ``summary.npz`` into the run folder.

        Raises:
            CanonicalError: the result is of no run folder, the folder is damaged, or the file cannot be written.
        """
        if self.run is None:
            raise CanonicalError("ModelSaliency.save_summary: expected the result of a run; use .save(path).")
        if self.weights != "photographs":
            given = f"expected weights='photographs', which the summary of a run has, got {self.weights!r}"
            raise CanonicalError(f"ModelSaliency.save_summary: {given}; use .save(path).")
        if self.run.has_damage:
            damage = f"the summary is not written, because the run is damaged. {self.run.missing}"
            raise CanonicalError(f"{self.run.path}: {damage}")
        return self.save(self.run.path / SUMMARY)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ModelSaliency:
        """Reads a file of :meth:`save`, such as the ``summary.npz`` of a run. Nothing in the file is executed.

        Raises:
            CanonicalError: there is no such file, it is damaged, or it was not written by :meth:`save`.
        """
        return cls(**read_summary(path))

    def __repr__(self) -> str:
        photographs = "1 photograph" if self.n == 1 else f"{self.n} photographs"
        lines = [f"ModelSaliency of {photographs}" + (f" in {self.run.path}" if self.run else "")]
        if self.run is not None:
            lines += [f"{len(self.run.left_out)} photographs left out"] if self.run.left_out else []
            lines += [str(verdict["says"]) for verdict in self.run.stopping.get("verdicts", [])[-1:]]
            lines += [self.run.missing] if self.run.missing else []
        elif self.photos is None:
            lines[0] += ", without single maps"
        lines[0] += ", pooled with their mirror images" if self.symmetric else ""
        lines[0] += ", every person counted once" if self.weights == "people" else ""
        return "\n".join(lines)


ResultLike = ModelSaliency | str | PathLike[str]


def as_result(result: object, who: str) -> ModelSaliency:
    """A result, or the one in the folder of a run or in a file of :meth:`ModelSaliency.save`.

    Raises:
        CanonicalError: it is neither a result nor the path of one.
    """
    if isinstance(result, (str, PathLike)):
        return ModelSaliency.load(result) if Path(result).is_file() else ModelSaliency.open(result)
    if not isinstance(result, ModelSaliency):
        raise CanonicalError(
            f"{who}: expected a ModelSaliency, the folder of a run or a file of ModelSaliency.save, got a "
            f"{type(result).__name__}."
        )
    return result
