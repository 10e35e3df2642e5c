"""What all aligners share: their cache keys, and where they come from."""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_canonical import adapters
from captum_canonical.adapters import aligner as aligner_module
from captum_canonical.adapters.aligner import Aligner, CallableAligner, as_aligner, make_aligner
from captum_canonical.adapters.face_alignment import FaceAlignmentAligner
from captum_canonical.adapters.keypoints import KeypointAligner, PixelGrid
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.fingerprint import describe
from captum_canonical.plugins import ALIGNERS
from dataset_tools import CornerAligner, dataset, write_photos


def key_of(aligner: Any) -> str:
    return as_aligner(aligner).cache_key()


def test_public_names() -> None:
    assert set(adapters.__all__) >= {
        "Aligner",
        "FaceAlignmentAligner",
        "KeypointAligner",
        "MediaPipeAligner",
        "PixelGrid",
        "fit_landmarks_68",
        "load_prnet_face",
        "load_prnet_mesh",
    }
    assert all(hasattr(adapters, name) for name in adapters.__all__)


# ----------------------------------------------------------------------------------------------------- cache keys
def test_keys_of_the_package_s_aligners(tmp_path: Path) -> None:
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
    described = [key_of(make()) for make in makers]
    assert len(set(described)) == len(makers)
    assert described == [key_of(make()) for make in makers]
    assert "'mediapipe': '0." in described[0] or "'mediapipe': None" in described[0]
    assert "face-alignment" in described[5] and "mediapipe" in described[7]
    before = key_of(MediaPipeAligner(bundle))
    bundle.write_bytes(b"another")
    assert key_of(MediaPipeAligner(bundle)) != before


def test_what_an_aligner_computes_for_itself_is_no_setting() -> None:
    aligner = FaceAlignmentAligner()
    before = key_of(aligner)
    aligner.__dict__["network"] = lambda: None  # where functools.cached_property keeps its value
    assert key_of(aligner) == before


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
    described = [key_of(Hidden(value)) for value in values]
    assert len(set(described)) == len(values)
    assert key_of(Hidden({"a": 1, "b": 2})) == key_of(Hidden({"b": 2, "a": 1}))


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
            key_of(holder)
    holder = CornerAligner()
    holder.threshold = holder  # type: ignore[assignment]
    with pytest.raises(CanonicalError, match="no stable description"):
        key_of(holder)


def test_releases_of_all_packages_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refined(MediaPipeAligner):
        packages = ("refiner",)

    releases = {"captum-canonical": "1", "mediapipe": "1", "refiner": "1"}
    monkeypatch.setattr(aligner_module.metadata, "version", lambda name: releases[name])
    keys = [key_of(Refined())]
    for name in releases:
        releases[name] = "2"
        keys.append(key_of(Refined()))
    assert len(set(keys)) == 4


def test_code_of_a_class_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for code in ("x = 1", "x = 1", "x = 20"):
        text = f"from captum_canonical.adapters import PixelGrid\n\nclass Own(PixelGrid):\n    {code}\n"
        (tmp_path / "code_of_an_aligner.py").write_text(text)
        sys.modules.pop("code_of_an_aligner", None)
        keys.append(key_of(importlib.import_module("code_of_an_aligner").Own(2, 2)))
    assert keys[0] == keys[1] != keys[2]


def test_nested_aligners_count_by_their_own_keys() -> None:
    class Keyed(PixelGrid):
        def cache_key(self) -> str:
            return self.text

    keys = []
    for text in ("a", "b", "b"):
        inner = Keyed(2, 2)
        inner.text = text
        keys.append(key_of(KeypointAligner(inner)))
    assert keys[0] != keys[1] == keys[2]
    unknown = KeypointAligner(lambda images: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(CanonicalError, match=r"KeypointAligner.aligner\['function'\] is builtins.function, which has"):
        key_of(unknown)
    assert "KeypointAligner" in repr(describe(unknown))  # settings of a run name it all the same


# ------------------------------------------------------------------------------------------------- where they come from
def function(images: Any, *, names: Any = None) -> FaceMesh:
    return PixelGrid(2, 2)(images)


OPTIONS = {"on_missing": "skip", "device": "meta", "aligner": PixelGrid(3, 3)}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (MediaPipeAligner(), MediaPipeAligner),
        (MediaPipeAligner, MediaPipeAligner),
        (lambda: MediaPipeAligner(), MediaPipeAligner),
        (functools.partial(MediaPipeAligner, max_faces=3), MediaPipeAligner),
        (FaceAlignmentAligner, FaceAlignmentAligner),
        (PixelGrid(2, 3), PixelGrid),
        (lambda: PixelGrid(2, 3), PixelGrid),
        (functools.partial(PixelGrid, 2, 3), PixelGrid),
        (KeypointAligner(MediaPipeAligner()), KeypointAligner),
        (KeypointAligner, KeypointAligner),
        (lambda: KeypointAligner(function), KeypointAligner),
        (function, CallableAligner),
        (lambda: function, CallableAligner),
        (CornerAligner(), CallableAligner),
        (CornerAligner, CallableAligner),
    ],
)
def test_aligners_of_instances_classes_and_factories(source: Any, kind: type) -> None:
    made = make_aligner(source, OPTIONS)
    assert type(made) is kind and (made is source or not isinstance(source, Aligner))
    if isinstance(source, type):
        assert getattr(made, "on_missing", "skip") == "skip" and getattr(made, "device", "meta") == "meta"
        assert getattr(made, "aligner", OPTIONS["aligner"]) is OPTIONS["aligner"]


@pytest.mark.parametrize("name", ALIGNERS.names())
def test_every_aligner_with_a_name(name: str) -> None:
    aligner = make_aligner(ALIGNERS.load(name), OPTIONS)
    assert aligner.face == "largest" and getattr(aligner, "on_missing", "skip") == "skip"
    assert aligner.topology is None or isinstance(aligner.topology, str)
    assert aligner.cache_key() == make_aligner(ALIGNERS.load(name), OPTIONS).cache_key()


def test_what_is_no_aligner() -> None:
    with pytest.raises(CanonicalError, match="needs rows, cols; name an instance of it"):
        make_aligner(PixelGrid, OPTIONS)
    with pytest.raises(CanonicalError, match="got the class PixelGrid"):
        as_aligner(PixelGrid)
    for wrong in (3, lambda: 3, "mediapipe"):
        with pytest.raises(CanonicalError, match=r"expected a callable from images to a FaceMesh, got (int|str)"):
            make_aligner(wrong, OPTIONS)


def test_a_callable_gets_names_where_there_are_some() -> None:
    calls = []
    aligner = as_aligner(lambda images, **more: calls.append(more))
    aligner([])
    aligner([], names=["a"])
    assert calls == [{}, {"names": ["a"]}] and as_aligner(aligner) is aligner
