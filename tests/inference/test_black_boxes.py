"""Outputs of forward functions that are no tensors, or lie on another device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical._captum import as_output
from captum_canonical.inference.scorer import Scorer
from face_tools import mesh_of, noise

FACE = cc.CanonicalFace.default(32)
X, MESH = noise(3, 16), mesh_of(FACE, 3, 16)


def scores(x: Tensor) -> Tensor:
    left = x[..., :8].double().mean((1, 2, 3))
    return torch.stack([left, 1 - left], 1)


TABLES: dict[str, Callable[[Tensor], Any]] = {
    "array": lambda x: scores(x).numpy(),
    "big-endian": lambda x: scores(x).numpy().astype(">f8"),
    "read-only": lambda x: np.broadcast_to(scores(x).numpy(), (len(x), 2)),
    "confidence": cc.ClassConfidence(lambda x: scores(x).log().numpy()),
}
SINGLE: dict[str, Callable[[Tensor], Any]] = {
    "array": lambda x: scores(x)[:, 1].numpy(),
    "0-d tensors": lambda x: list(scores(x)[:, 1]),
    "floats": lambda x: scores(x)[:, 1].tolist(),
    "floats of NumPy": lambda x: tuple(scores(x)[:, 1].numpy()),
}


@pytest.mark.parametrize("name", TABLES)
def test_arrays_are_taken_as_outputs(name: str) -> None:
    expected = cc.CanonicalOcclusion(scores, MESH, FACE).attribute(X, target=1, num_points=32)
    assert_close(cc.CanonicalOcclusion(TABLES[name], MESH, FACE).attribute(X, target=1, num_points=32), expected)


@pytest.mark.parametrize("name", SINGLE)
def test_a_number_for_each_image_is_taken_as_output(name: str) -> None:
    expected = cc.CanonicalOcclusion(scores, MESH, FACE).attribute(X, target=1, num_points=32)
    assert_close(cc.CanonicalOcclusion(SINGLE[name], MESH, FACE).attribute(X, num_points=32), expected)


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_a_number_is_the_score_of_a_single_image(number: Any) -> None:
    assert Scorer(lambda x: number, None, (), 1)((X[:1],), torch.tensor([0])).tolist() == [0.5]
    with pytest.raises(cc.CanonicalError, match="one row of scores per input row"):
        Scorer(lambda x: number, None, (), 2)((X[:2],), torch.arange(2))


@pytest.mark.parametrize("output", [None, "0.5", {"score": 0.5}, [[0.5], [0.5]], np.array(["a", "b"]), []])
def test_anything_else_is_refused(output: Any) -> None:
    with pytest.raises(cc.CanonicalError, match="forward_func must return one"):
        Scorer(lambda x: output, None, (), 2)((X[:2],), torch.arange(2))


def test_a_run_of_a_black_box(tmp_path: Path) -> None:
    def run(name: str, forward: Callable[[Tensor], Any]) -> cc.ModelSaliency:
        return cc.explain_dataset(forward, (X, MESH), tmp_path / name, canonical_face=FACE, num_points=16,
                                  network_key=name, show_progress=False)  # fmt: skip

    arrays, tensors = run("arrays", TABLES["array"]), run("tensors", scores)
    assert_close(arrays.mean, tensors.mean)
    assert arrays.records["predicted"] == tensors.records["predicted"]


def test_masked_scores_are_no_scores() -> None:
    scores = np.ones((2, 2))
    assert isinstance(as_output(np.ma.masked_array(scores, mask=False)), torch.Tensor)
    assert not isinstance(as_output(np.ma.masked_array(scores, mask=[[1, 0], [0, 0]])), torch.Tensor)
