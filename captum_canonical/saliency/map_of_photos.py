"""A mean map that is found from the maps of single photographs, in which photographs or people count equally."""

from __future__ import annotations

from typing import TypeVar

import torch

from captum_canonical.checks import check_choice
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.run_folder.folder import Records, RunFolder
from captum_canonical.saliency.mean_map import MeanMap
from captum_canonical.saliency.moments import WEIGHTS, Pixels, Weights, check_symmetric, pooled_pixels
from captum_canonical.saliency.single_maps import SingleMaps
from captum_canonical.saliency.units import pixels_of_people, units_of

NO_SINGLE_MAPS = (
    "This needs the maps of single photographs, which a merely streamed or loaded result does not hold: open the run "
    "folder with ModelSaliency.open(folder), or keep the maps and use ModelSaliency.from_maps."
)
Result = TypeVar("Result", bound="MapOfPhotos")


class MapOfPhotos(MeanMap):
    """A mean map with the maps of single photographs behind it, if there are any; see :class:`ModelSaliency`."""

    photos: SingleMaps | None = None
    run: RunFolder | None = None

    @classmethod
    def of_photos(
        cls: type[Result],
        photos: SingleMaps,
        canonical_face: CanonicalFace,
        symmetric: bool = False,
        weights: Weights = "photographs",
    ) -> Result:
        """The result of single maps, which are read once, when :attr:`mean` or another array is needed."""
        if symmetric:
            check_symmetric(canonical_face, "ModelSaliency")
        empty = torch.zeros(0)
        result = cls(empty, empty, empty, empty, len(photos), canonical_face=canonical_face, weights=weights)
        result._pixels, result.symmetric, result.photos = None, symmetric, photos
        return result

    def _compute_pixels(self) -> Pixels:
        photos, face = self.single_maps("the mean"), self.face("the mean")
        pixels, _ = pooled_pixels(photos.chunks(), face, self.symmetric, "ModelSaliency")
        if self.weights == "photographs":
            return pixels
        return pixels_of_people(photos, face.size, self.symmetric, pixels.coverage)

    def weighted(self: Result, weights: Weights) -> Result:
        """The same result with other weights, which :meth:`concentration`, :func:`region_table` and reports follow.

        ``"people"``: at each pixel the mean over people of the mean over their photographs; :attr:`count` and
        :attr:`variance` are of people then. Intervals are narrower and need fewer assumptions where people have unequal
        numbers of photographs, because no person can dominate the map. A photograph of an unknown person is a person of
        its own. Where all people have equally many photographs, both maps are equal. :meth:`significance`,
        :func:`compare_groups` and :func:`compare_models` count people equally in either case.

        Raises:
            CanonicalError: other weights than these two, or there are no single maps.

        Example::

            >>> from captum_canonical import ModelSaliency
            >>> maps = torch.tensor([1.0, 1.0, 1.0, 5.0])[:, None, None, None].expand(4, 1, 4, 4)
            >>> result = ModelSaliency.from_maps(maps, None, CanonicalFace.default(4), ["Ann", "Ann", "Ann", "Bob"])
            >>> float(result.mean[0, 0, 0]), float(result.weighted("people").mean[0, 0, 0])
            (2.0, 3.0)
        """
        check_choice("weights", weights, WEIGHTS)
        if weights == self.weights:
            return self
        photos, face = self.single_maps(f"weights={weights!r}"), self.face("a mean of people")
        result = type(self).of_photos(photos, face, self.symmetric, weights)
        result.run = self.run
        return result

    @property
    def evaluated(self) -> float:
        """The largest share of people that cover one pixel, for runs with rotating points; else 1, as is expected."""
        if self.photos is None or not self.photos.approximation:
            return 1.0
        return float(self.weighted("people").count.max()) / units_of(self.photos).count

    @property
    def records(self) -> Records:
        """Column -> one entry for each photograph with a map; empty if there are no single maps."""
        return {} if self.photos is None else self.photos.records

    def single_maps(self, what: str) -> SingleMaps:
        """:attr:`photos`, which must be there.

        Raises:
            CanonicalError: this result was streamed or loaded, or no photograph of its run has a map yet; the message
                names ``what`` needs them.
        """
        if self.photos is None:
            raise CanonicalError(f"ModelSaliency: {what} is not available. {NO_SINGLE_MAPS}")
        if self.run is not None and not len(self.photos):
            raise CanonicalError(
                f"{self.run.path}: {what} is not available, because no photograph of this run has a map. "
                f"{self.run.missing or 'All of them failed; .run.left_out says why.'}"
            )
        return self.photos
