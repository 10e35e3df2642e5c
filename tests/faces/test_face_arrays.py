"""Canonical faces in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

FACE_SIZE = 224


def assert_same(one: CanonicalFace, two: CanonicalFace) -> None:
    for name in ("vertices", "triangles", "point_vertices", "point_weights"):
        assert_close(getattr(one, name), getattr(two, name), rtol=0, atol=0)
    assert_close(one.image, two.image, atol=0.5 / 255, rtol=0)
    assert {name: index.tolist() for name, index in one.regions.items()} == {
        name: index.tolist() for name, index in two.regions.items()
    }
    for name in ("mirror_symmetric", "topology", "progressive", "size"):
        assert getattr(one, name) == getattr(two, name)
    assert (one.permutation is None) == (two.permutation is None)
    if one.permutation is not None:
        assert torch.equal(one.permutation, two.permutation)


@pytest.mark.parametrize("name", ["face.npz", "face", "my.face"])
def test_save_and_load(face: CanonicalFace, tmp_path: Path, name: str) -> None:
    face.save(tmp_path / name)
    assert_same(CanonicalFace.load(tmp_path / name), face)


def test_save_and_load_of_a_plain_face(tmp_path: Path) -> None:
    plain = CanonicalFace.from_vertices(torch.rand(3, 20, 30), torch.rand(9, 2) * 20)
    plain.save(tmp_path / "plain.npz")
    assert_same(CanonicalFace.load(tmp_path / "plain.npz"), plain)


def test_load_of_another_file_names_it(face: CanonicalFace, tmp_path: Path) -> None:
    face.save(tmp_path / "whole.npz")
    (tmp_path / "truncated.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-2000])
    np.savez(tmp_path / "foreign.npz", vertices=np.zeros((3, 3)))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("truncated.npz", "foreign.npz", "text.npz", "absent.npz"):
        with pytest.raises(CanonicalError, match=name):
            CanonicalFace.load(tmp_path / name)


def test_load_executes_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", image_png=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        CanonicalFace.load(tmp_path / "bad.npz")
