"""Photographs of a benchmark: aligned once, folds that never split an identity, means that have not seen an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from benchmark_tools import (
    COUNT,
    SIZE,
    Net,
    prepared,
    run,
)
from captum_canonical import CanonicalError, CanonicalFace, CanonicalProjector, FaceMesh
from captum_canonical.benchmarking.photos import assign_folds, cross_fitted_means, held_out_folds
from label_tools import NAType


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_folds_never_split_an_identity(names: list[int], folds: int) -> None:
    units = torch.unique(torch.tensor(names), return_inverse=True)[1]
    fold = assign_folds(units, folds, seed=1)
    assert all(len(fold[units == unit].unique()) == 1 for unit in units.unique())
    sizes = fold.bincount()
    assert len(sizes) == min(folds, int(units.max()) + 1)
    assert int(sizes.max() - sizes.min()) <= int(units.bincount().max())


def test_cross_fitting_is_the_loop(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    names = ["a", "b", "a", "c", "d", "b"]
    photos = prepared(x, faces, face, names)
    maps = torch.rand(COUNT, 1, 32, 32)
    coverage = (torch.rand(COUNT, 1, 32, 32) > 0.3).float()
    got = cross_fitted_means(maps, coverage, photos, symmetric=False)
    for row in range(COUNT):
        others = [other for other in range(COUNT) if photos.folds[other] != photos.folds[row]]
        assert names[row] not in [names[other] for other in others]
        hits = coverage[others].sum(0)
        mean = (maps[others] * coverage[others]).sum(0) / hits.clamp(min=1)
        expected = CanonicalProjector(None, faces[row], face).reproject(mean[None])
        assert_close(got[row], expected[0])


def test_a_face_is_never_scored_by_a_map_that_saw_it(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    """A map that memorises its own photograph gains nothing."""
    photos = prepared(x, faces, face, ["a", "b", "a", "c", "d", "b"])
    maps, coverage = torch.rand(COUNT, 1, 32, 32), torch.ones(COUNT, 1, 32, 32)
    before = cross_fitted_means(maps, coverage, photos, symmetric=False)
    for row in range(COUNT):
        other = maps.clone()
        other[row] = 100
        after = cross_fitted_means(other, coverage, photos, symmetric=False)
        own = photos.folds == photos.folds[row]
        assert_close(after[own], before[own], rtol=0, atol=0)
        assert (after[~own] > before[~own]).flatten(1).any(1).all()


def test_means_per_target(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    photos = prepared(x, faces, face, per_target=True)
    maps = torch.tensor([1.0, 1, 1, 5, 5, 5])[:, None, None, None].expand(COUNT, 1, 32, 32)
    got = cross_fitted_means(maps, torch.ones_like(maps), photos, symmetric=False)
    for row in range(COUNT):
        assert_close(got[row][photos.area[row]].unique(), maps[row].unique())
    with pytest.raises(CanonicalError, match="same target"):
        run(Net().eval(), x, faces, face, target=[0, 0, 0, 0, 0, 1], per_target=True)


def test_alignment_happens_once(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    calls = []

    def aligner(images: Tensor) -> FaceMesh:
        calls.append(len(images))
        return faces

    run(net, x, aligner, face)
    assert calls == [COUNT]


def test_data_and_faces_that_do_not_fit(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    for data in (x[0], x.byte(), [x]):
        with pytest.raises(CanonicalError, match="data: expected"):
            run(net, data, faces, face)
    with pytest.raises(CanonicalError, match="one mesh for each of the 6 images, in their order, got 3"):
        run(net, x, faces[:3], face)
    with pytest.raises(CanonicalError, match="no faces were given"):
        run(net, x, None, face)
    nobody = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, found=torch.zeros(COUNT, dtype=bool))
    with pytest.raises(CanonicalError, match="found none"):
        run(net, x, nobody, face)
    turned = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, image_index=torch.arange(COUNT).flip(0))
    with pytest.raises(CanonicalError, match="in their order"):
        run(net, x, turned, face)
    result = run(net, x, faces, face)
    for call in (
        lambda: result["nobody"],
        lambda: result.comparisons("beauty", "mean"),
        lambda: result.ranks("gain", "ocean"),
        lambda: result.wins("ocean"),
        lambda: result.table("html"),
        lambda: result.table(measures=["beauty"]),
    ):
        with pytest.raises(CanonicalError, match="expected"):
            call()


@pytest.mark.parametrize(
    "identities",
    [
        ["7", None, "7", None, math.nan, "8"],
        torch.tensor([7, math.nan, 7, math.nan, math.nan, 8]),
        np.array([7.0, NAType(), "7", "", " ", 8], object),
    ],
    ids=["list", "tensor", "array"],
)
def test_an_image_without_an_identity_is_a_person_of_its_own(
    x: Tensor, faces: FaceMesh, face: CanonicalFace, identities: Any
) -> None:
    photos = prepared(x, faces, face, identities)
    assert photos.units.tolist() == [0, 1, 0, 2, 3, 4] and photos.identified == 3
    assert photos.folds[0] == photos.folds[2]
    found = run(Net().eval(), x, faces, face, identities=identities)
    assert found.units.tolist() == photos.units.tolist() and found.settings["identities"] == 5
    assert "3 images of unknown people count as one person each." in found.notes
    for held_out, others in held_out_folds(photos):
        assert not {*photos.units[held_out].tolist()} & {*photos.units[others].tolist()}


def test_texts_for_missing_identities(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    with pytest.warns(UserWarning, match="identities: 3 of 6 entries are taken as missing"):
        assert prepared(x, faces, face, ["nan", "NA", "a", "a", "-", "b"]).units.tolist() == [0, 1, 2, 2, 3, 4]
    nobody = run(Net().eval(), x, faces, face, identities=[None, math.nan, "", None, " ", None])
    assert nobody.settings["identities"] is None
    assert nobody.notes == run(Net().eval(), x, faces, face).notes
    with pytest.raises(CanonicalError, match="identities: expected a list"):
        prepared(x, faces, face, "abcdef")
