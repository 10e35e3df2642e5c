"""Folders of Hugging Face: their own preprocessing and class names; no download, no code, no weights left to chance."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import captum_canonical as cc
import peer_packages
from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.networks.from_transformers import settings_of

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", peer_packages.transformers())


def test_a_folder_is_a_network_with_its_settings(tmp_path: Path) -> None:
    preprocessor = {"size": 32, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 0.5]}
    net = peer_packages.save_folder(tmp_path / "net", {0: "sad", 1: "glad"}, preprocessor)
    loaded = cc.load_network(f"hf:{tmp_path / 'net'}")
    assert_close(loaded.network(X)["logits"], net(X)["logits"].detach())
    settings = loaded.settings
    assert (settings.size, settings.classes) == (32, ("sad", "glad"))
    assert (settings.mean, settings.std) == ((0.5, 0.4, 0.3), (0.25, 0.5, 0.5))


def test_other_weights_take_the_place_of_the_folder_s(tmp_path: Path) -> None:
    peer_packages.save_folder(tmp_path / "net", {0: "a", 1: "b"}, {"size": 32})
    (tmp_path / "net" / "weights.pt").unlink()
    other = peer_packages.save_folder(tmp_path / "other", {0: "a", 1: "b"})
    loaded = cc.load_network(f"hf:{tmp_path / 'net'}", tmp_path / "other" / "weights.pt")
    assert_close(loaded.network(X)["logits"], other(X)["logits"].detach())


class _Mark:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_hidden_in_a_folder_runs(tmp_path: Path) -> None:
    peer_packages.save_folder(tmp_path / "net", {0: "a", 1: "b"}, {"size": 32})
    torch.save({"weight": _Mark(tmp_path / "ran")}, tmp_path / "net" / "weights.pt")
    with pytest.raises(CanonicalError, match="transformers cannot load it"):
        cc.load_network(f"hf:{tmp_path / 'net'}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"architectures": ["MyNet"], "auto_map": {"AutoModel": "code.MyNet"}}, "MyNet .*its code lies in the folder"),
        ({"architectures": ["nothing"]}, "nothing .*transformers does not have it"),
        ({"architectures": None}, "got none"),
        ({"architectures": 3}, "got none"),
        ({"architectures": ["os.system"]}, r"os\.system"),
    ],
)
def test_networks_that_transformers_does_not_have(config: dict[str, Any], part: str, tmp_path: Path) -> None:
    peer_packages.save_folder(tmp_path / "net", {0: "a", 1: "b"}, **config)
    with pytest.raises(CanonicalError, match=part):
        cc.load_network(f"hf:{tmp_path / 'net'}")


def test_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CanonicalError, match=r"hf:google/vit: expected a folder with config.json.*not looked up"):
        cc.load_network("hf:google/vit")
    net = peer_packages.save_folder(tmp_path / "net", {0: "a", 1: "b"}, {"size": 32})
    half = {name: each for name, each in net.state_dict().items() if "fc" not in name}
    torch.save(half, tmp_path / "net" / "weights.pt")
    with pytest.raises(CanonicalError, match=r"weights lack net.fc.bias, net.fc.weight, which would be random"):
        cc.load_network(f"hf:{tmp_path / 'net'}")
    with pytest.raises(CanonicalError, match=f"this is a folder; one of Hugging Face is given as hf:{tmp_path}"):
        cc.load_network(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match="pip install transformers"):
        cc.load_network(f"hf:{tmp_path / 'net'}")
    (tmp_path / "net" / "config.json").write_text("[1]")
    with pytest.raises(CanonicalError, match="expected a JSON object, got list"):
        cc.load_network(f"hf:{tmp_path / 'net'}")


@pytest.mark.parametrize("wrong", [{"size": 32, "image_mean": "grey"}, {"size": 32, "rescale_factor": 0}])
def test_preprocessors_of_another_kind(wrong: dict[str, Any], tmp_path: Path) -> None:
    peer_packages.save_folder(tmp_path / "net", {0: "a", 1: "b"}, wrong)
    with pytest.raises(CanonicalError, match=r"preprocessor_config.json holds values of another kind.*size, mean and"):
        cc.load_network(f"hf:{tmp_path / 'net'}")


# ---------------------------------------------------------------------------------------------------- preprocessing
def processed(x: torch.Tensor, preprocessor: dict[str, Any]) -> torch.Tensor:
    """What a preprocessor computes from bytes 0..255, step by step as its own documentation says."""
    if preprocessor.get("do_rescale", True):
        x = x * preprocessor.get("rescale_factor", 1 / 255)
        x = x - 1 if preprocessor.get("rescale_offset") else x
    if preprocessor.get("do_normalize", "image_mean" in preprocessor):
        mean, std = (torch.tensor(preprocessor[name]).reshape(-1, 1, 1) for name in ("image_mean", "image_std"))
        x = (x - mean) / std
        x = x / std if preprocessor.get("include_top") else x
    return x


@pytest.mark.parametrize(
    "preprocessor",
    [
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.25, 0.5, 1.0],
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
        },
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.47, 0.473, 0.474], "include_top": True},
        {"image_mean": [127.0, 110.0, 90.0], "image_std": [64.0, 64.0, 64.0], "do_rescale": False},
        {"do_normalize": False, "image_mean": [0.5], "image_std": [0.5]},
        {},
    ],
    ids=["usual", "offset", "twice", "bytes", "not normalised", "nothing"],
)
def test_the_normalisation_is_the_preprocessor_s(preprocessor: dict[str, Any]) -> None:
    found = settings_of({}, preprocessor)
    mean, std = (torch.as_tensor(each).reshape(-1, 1, 1) for each in (found.mean, found.std))
    assert_close((X - mean) / std, processed(255 * X, preprocessor), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("preprocessor", "size"),
    [
        ({"size": 96}, 96),
        ({"size": {"height": 96, "width": 64}}, (96, 64)),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True},
            (224, 224),
        ),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False}, 256),
        ({"size": [80, 70]}, (80, 70)),
        ({}, 99),
        (None, 99),
    ],
)
def test_the_size_is_what_the_network_sees(preprocessor: dict[str, Any] | None, size: Any) -> None:
    assert settings_of({"image_size": 99}, preprocessor).size == size


def test_colours_classes_and_numbers(caplog: pytest.LogCaptureFixture) -> None:
    assert settings_of({"num_channels": 1}, {}).channels == "L"
    assert settings_of({}, {"do_flip_channel_order": True}).channels == "BGR"
    assert settings_of({"id2label": {"10": "k", "9": "j"}}, {}).classes == ("j", "k"), "by number, not by letter"
    assert settings_of({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, {}).classes is None
    assert settings_of({"problem_type": "regression"}, {}).link == "none"
    settings_of(json.loads("{}"), None)
    assert "photographs are not normalised; give mean and std" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING
