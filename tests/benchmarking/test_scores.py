"""Rows compared with each other, and what intervals are resampled by."""

from __future__ import annotations

import math

import torch

from benchmark_tools import (
    SIZE,
    Net,
    meshes,
    run,
)
from captum_canonical import CanonicalFace
from captum_canonical.benchmarking.scores import compare, ranks_of
from captum_canonical.statistics.bootstrap import bootstrap_interval, interval_of_mean


def test_comparison_by_hand() -> None:
    values = torch.tensor([[3.0, 4.0, 5.0], [1.0, 2.0, math.nan], [3.0, 4.0, 5.0 + 1e-9]], dtype=torch.float64)
    units, tolerance = torch.arange(3), torch.full((3,), 1e-6, dtype=torch.float64)
    options = {"permutations": 100, "seed": 0, "level": 0.2}
    ab, ac, _ = compare("abc", values, "higher", units, tolerance, **options)
    assert (ab.first, ab.second, ab.difference, ab.n) == ("a", "b", 2.0, 2)
    assert ab.p_value == 0.5 and ab.better == "no difference detected"  # + + and - - of four patterns
    assert ac.difference == 0 and ac.p_value == 1
    many = values.repeat(1, 4)
    ab, ac, bc = compare("abc", many, "lower", torch.arange(12), tolerance.repeat(4), **{**options, "level": 0.95})
    assert ab.better == bc.better == "b" and ac.better == "no difference detected"
    assert ranks_of("abc", [ab, ac, bc]) == dict(zip("abc", ["no difference detected (2-3)", "1"] * 2, strict=False))


def test_units_of_intervals(net: Net, face: CanonicalFace) -> None:
    x = torch.rand(40, 3, *SIZE)
    faces = meshes(face, 40)
    people = run(net, x, faces, face, identities=[n // 2 for n in range(40)])
    assert people.interval_units.tolist() == people.units.tolist() == [n // 2 for n in range(40)]
    assert people.settings["intervals by"] == "identity" and "resample the 20 identities" in people.table()
    few = run(net, x, faces, face, identities=torch.arange(40) // 3)
    assert few.settings["intervals by"] == "identity"
    assert "by identity (14 are too few for the bootstrap)" in few.table()
    assert few.interval_units.tolist() == few.units.tolist() and int(few.units.max()) == 13
    most = run(net, x, faces, face, identities=[max(0, n - 19) for n in range(40)])
    assert "21 are on unequal numbers of images" in most.table()
    assert "One identity is on 50% of the images" in most.table()
    nobody = run(net, x, faces, face)
    assert nobody.settings["identities"] is None and "Identities are not known" in nobody.table()
    for result, units in ((people, torch.arange(40) // 2), (nobody, torch.arange(40))):
        values = result["saliency, per image"].per_image["gain", "mean"]
        assert result.interval("saliency, per image", "gain", "mean") == bootstrap_interval(values, units)
    for result in (few, most):
        values = result["saliency, per image"].per_image["gain", "mean"]
        assert result.interval("saliency, per image", "gain", "mean") == interval_of_mean(values, result.units)
