"""Occlusion points that rotate: each photograph evaluates another small set of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.checks import check_integer
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.point_sets import point_sets
from captum_canonical.fingerprint import fingerprint


@dataclass(frozen=True, eq=False)
class RotatingPoints:
    r"""Photograph number i of a run evaluates set i modulo S of its occlusion points, and nothing else.

    The P points are dealt out to :math:`S = \lceil P / n \rceil` disjoint sets of at most n points, each spread evenly
    over the face (:func:`~captum_canonical.faces.point_sets.point_sets`). A single map holds the drops of its own set
    only; the coverage is 0 elsewhere. The mean at a pixel is over the photographs that cover it, and nothing is
    interpolated. Photographs are in random order, so that whose drops are known at a pixel is a random sample, and the
    variance between them holds that of the points.

    Each photograph counts once at a pixel, whether one or several of its patches cover it, while in a complete map each
    patch counts once. Where all sets cover a pixel equally often, both means have the same expectation; elsewhere they
    differ a little, however many photographs there are: one photograph through all of 16 sets of 64 points, with
    random linear networks, by 2 % of the standard deviation of its complete map over the face, and through 4 sets of
    256 by 6 %.

    Attributes:
        sets: (P,) int64, the set of each point.
        count: S.
        num_points: of the largest set; fewer than n where n does not divide P.
    """

    sets: Tensor
    count: int
    num_points: int

    @classmethod
    def of(cls, method: Any, face: CanonicalFace, num_points: Any, seed: int) -> RotatingPoints:
        """The sets for a run.

        Raises:
            CanonicalError: the method has no points, or their number is not valid.
        """
        if not isinstance(method, CanonicalOcclusion):
            raise CanonicalError(
                f'points: "rotating" expects CanonicalOcclusion, which evaluates points, got {type(method).__name__}.'
            )
        expected = f'with points="rotating", how many of the {face.num_points} points each photograph evaluates'
        if num_points is None:
            raise CanonicalError(f"num_points: expected {expected}, such as num_points=64.")
        number = check_integer("num_points", num_points, 1, face.num_points, expected)
        count = -(-face.num_points // number)
        sets = point_sets(face.points(face.vertices), count, seed)
        return cls(sets, count, int(sets.bincount().max()))

    def of_rows(self, rows: Tensor) -> Tensor:
        """(N, P) bool, the points of the photographs in these rows (N,) of the run."""
        return self.sets[None] == (rows % self.count)[:, None]

    @property
    def settings(self) -> Mapping[str, Any]:
        """As arguments of the run, with the sets' fingerprint."""
        return {"num_points": self.num_points, "points": "rotating", "point_sets": fingerprint(self.sets)}
