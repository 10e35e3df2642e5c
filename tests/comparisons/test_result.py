"""What a comparison says, in words, tables and JSON."""

from __future__ import annotations

import json

import pytest
import torch

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from saliency_tools import two_groups
from simulated_maps import SIZE

FACE_SIZE = SIZE


def test_without_effect_no_difference_is_detected(face: CanonicalFace) -> None:
    _, result = two_groups(face, seed=3)
    sides = result.strata("group")
    found = compare_groups(sides["a"], sides["b"], permutations=199)
    assert not found.different and not found.different_regions
    assert "no difference detected, which does not show that there is none" in found.verdict
    assert "no difference " not in found.verdict.replace("no difference detected", "")


def test_text_markdown_and_json(face: CanonicalFace) -> None:
    _, result = two_groups(face, effect=0.5, score=torch.rand(60).tolist())
    sides = result.strata("group")
    found = compare_groups(sides["a"], sides["b"], "confidence", permutations=199)
    for text in (str(found), found.table("markdown")):
        assert found.verdict in text and "chin" in text and "Matched on score" in text
    values = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert values["regions_version"].startswith("mediapipe-468-") and values["matching"]["pairs"] > 0
    with pytest.raises(CanonicalError, match="format: expected 'text' or 'markdown'"):
        found.table("html")
