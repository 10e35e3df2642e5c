"""The text that stands for an aligner's settings in keys of the cache and in fingerprints."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_canonical.adapters.face_alignment import FaceAlignmentAligner
from captum_canonical.adapters.keypoints import KeypointAligner, PixelGrid
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.data.aligner_settings import describe_aligner
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from dataset_tools import CornerAligner, dataset, write_photos


def test_settings_of_the_package_s_aligners(tmp_path: Path) -> None:
    bundle = tmp_path / "face.task"
    bundle.write_bytes(b"network")
    face = CanonicalFace.default()
    makers = [
        lambda: MediaPipeAligner(),
        lambda: MediaPipeAligner(max_faces=3),
        lambda: MediaPipeAligner(min_detection_confidence=0.4),
        lambda: MediaPipeAligner(denormalize=(torch.tensor([0.5, 0.5, 0.5]), 0.2)),
        lambda: MediaPipeAligner(bundle),
        lambda: FaceAlignmentAligner(),
        lambda: FaceAlignmentAligner(face_detector_kwargs={"filter_threshold": 0.3}),
        lambda: KeypointAligner(MediaPipeAligner()),
        lambda: KeypointAligner(MediaPipeAligner(visibility=False)),
        lambda: KeypointAligner(MediaPipeAligner(), canonical_points=torch.rand(5, 2, generator=torch.manual_seed(0))),
        lambda: KeypointAligner(MediaPipeAligner(), replace(face, vertices=face.vertices * 0.9)),
        lambda: PixelGrid(3, 4),
        lambda: PixelGrid(4, 3),
    ]
    described = [describe_aligner(make()) for make in makers]
    assert len(set(described)) == len(makers)
    assert described == [describe_aligner(make()) for make in makers]
    assert "mediapipe 0." in described[0] or "mediapipe absent" in described[0]
    before = describe_aligner(MediaPipeAligner(bundle))
    bundle.write_bytes(b"another")
    assert describe_aligner(MediaPipeAligner(bundle)) != before


def test_what_an_aligner_computes_for_itself_is_no_setting() -> None:
    aligner = FaceAlignmentAligner()
    before = describe_aligner(aligner)
    aligner.__dict__["network"] = lambda: None  # where functools.cached_property keeps its value
    assert describe_aligner(aligner) == before


def test_hidden_settings_count_too() -> None:
    class Hidden(CornerAligner):
        def __init__(self, value: object) -> None:
            super().__init__()
            self._value = value

    @dataclass
    class Options:
        scale: float
        names: dict

    values = [1, 1.0, "1", None, (1, 2), (2, 1), {"a": 1}, {"a": 2}, {1, 2}, {1, 3}, np.arange(3), np.arange(3.0)]
    values += [torch.float32, Options(1.0, {}), Options(1.0, {"a": 1}), Hidden(1), Hidden(2), Path("absent")]
    described = [describe_aligner(Hidden(value)) for value in values]
    assert len(set(described)) == len(values)
    assert describe_aligner(Hidden({"a": 1, "b": 2})) == describe_aligner(Hidden({"b": 2, "a": 1}))


class Slotted:
    __slots__ = ("scale",)


def test_what_cannot_be_described_is_refused_only_with_a_cache(tmp_path: Path) -> None:
    folder, inner = tmp_path / "photos", CornerAligner()
    write_photos(folder, 2)

    def function(images: list[np.ndarray], names: list[str]) -> object:
        return inner(images, names=names)

    bound, partial = inner.__call__, functools.partial(inner)
    for value in (function, bound, partial):
        with pytest.raises(CanonicalError, match="cache_key="):
            dataset(folder, value, cache=tmp_path / "cache")
        assert len(dataset(folder, value)) == 2  # without a cache there is nothing to mistake
        assert len(dataset(folder, value, cache=tmp_path / "cache", cache_key="v1")) == 2
    for value in (function, torch.nn.Linear(2, 2), Slotted(), open, iter([]), CornerAligner, np.array([None])):
        holder = CornerAligner()
        holder.threshold = [0, value]  # type: ignore[assignment]
        with pytest.raises(CanonicalError, match=r"CornerAligner\.threshold\[1\] is"):
            describe_aligner(holder)
    holder = CornerAligner()
    holder.threshold = holder  # type: ignore[assignment]
    with pytest.raises(CanonicalError, match="no stable description"):
        describe_aligner(holder)
