"""Mean maps as files: what is saved, and what is refused when it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from saliency_tools import assert_same, result_with_gaps
from simulated_maps import SIZE

FACE_SIZE = SIZE


def test_equal_summaries_are_equal_files_and_can_be_loaded(run: Path, tmp_path: Path) -> None:
    result = ModelSaliency.open(run)
    written = (run / "summary.npz").read_bytes()
    result.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == written
    assert result.save_summary() == run / "summary.npz" and (run / "summary.npz").read_bytes() == written
    loaded = ModelSaliency.load(run / "summary.npz")
    assert_same(loaded, result)
    assert loaded.canonical_face.size == result.canonical_face.size and loaded.photos is None
    with np.load(run / "summary.npz", allow_pickle=False) as arrays:
        assert {"mean", "standard_error", "variance", "count", "coverage", "n"} <= set(arrays.files)


def test_pooling_is_remembered_by_the_summary(run: Path) -> None:
    pooled = ModelSaliency.open(run, symmetric=True)
    assert_close(pooled.mean, pooled.mean.flip(-1))
    written = (run / "summary.npz").read_bytes()
    pooled.save_summary()
    try:
        assert ModelSaliency.open(run).symmetric and not ModelSaliency.open(run, symmetric=False).symmetric
    finally:
        (run / "summary.npz").write_bytes(written)
    turned = CanonicalFace.from_vertices(pooled.canonical_face.image, pooled.canonical_face.vertices)
    with pytest.raises(CanonicalError, match="symmetric=True expects"):
        ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, turned, symmetric=True)


def test_files_of_something_else_are_refused(tmp_path: Path, face: CanonicalFace) -> None:
    _, _, result = result_with_gaps(face)
    path = result.save(tmp_path / "saved.npz")
    for content in (b"", b"no zip", path.read_bytes()[:-200]):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(CanonicalError, match=r"expected a file written by ModelSaliency\.save"):
            ModelSaliency.load(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    for name in ("other.npz", "absent.npz"):
        with pytest.raises(CanonicalError, match=r"expected a file written by ModelSaliency\.save"):
            ModelSaliency.load(tmp_path / name)
    face_of_another_size = ModelSaliency(*result.pixels, result.n, canonical_face=CanonicalFace.default(16))
    with pytest.raises(CanonicalError, match=r"the shapes .* instead of \(1, 16, 16\)"):
        ModelSaliency.load(face_of_another_size.save(tmp_path / "mixed.npz"))
    with pytest.raises(CanonicalError, match="cannot be written"):
        result.save(tmp_path / "no" / "folder.npz")
    assert not list(tmp_path.glob(".*partial"))
    with pytest.raises(CanonicalError, match="expected the result of a run"):
        result.save_summary()


def test_damaged_files_raise_canonical_errors_only(tmp_path: Path) -> None:
    small = CanonicalFace.default(8)
    whole = ModelSaliency.from_maps(torch.ones(3, 1, 8, 8), None, small).save(tmp_path / "whole.npz").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for turn in range(300):
        content = bytearray(whole)
        place = generator.integers(len(content)) if turn % 3 == 0 else -1 - generator.integers(900)
        content[place] = generator.integers(256)
        (tmp_path / "damaged.npz").write_bytes(content)
        try:
            loaded = ModelSaliency.load(tmp_path / "damaged.npz")
            assert torch.equal(loaded.mean, torch.ones(1, 8, 8).double())  # what was hit means nothing, such as a date
        except CanonicalError:
            refused += 1
    assert refused > 100
