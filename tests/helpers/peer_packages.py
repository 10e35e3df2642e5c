"""Stand-ins of timm and transformers, as much of them as loading a network by name needs."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """A convolution and a classifier; ``num_classes=0`` leaves the classifier out, as in timm."""

    pretrained_cfg: ClassVar[dict[str, Any]] = {"classifier": "fc", "first_conv": "conv1"}

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 4, 3, stride=2)
        self.fc = nn.Linear(4, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv1(x).relu().mean((2, 3)))


def timm() -> ModuleType:
    """Knows ``small``, ``smaller`` and ``resnet18``; ``made`` collects the arguments of each network."""
    package = ModuleType("timm")
    made: list[dict[str, Any]] = []

    def create_model(name: str, **arguments: Any) -> nn.Module:
        made.append(arguments)
        return Small(**{key: each for key, each in arguments.items() if key != "pretrained"})

    names = ["small", "smaller", "resnet18"]
    config = {"input_size": (3, 32, 48), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_pct": 0.9}
    vars(package).update(
        made=made,
        create_model=create_model,
        is_model=lambda name: name.partition(".")[0] in names,
        list_models=lambda: names,
        data=SimpleNamespace(resolve_model_data_config=lambda network: config),
    )
    return package


class PreTrainedModel(nn.Module):
    """Reads ``weights.pt`` of a folder; what is missing there stays random, and is reported."""

    class config_class(dict):
        @classmethod
        def from_pretrained(cls, folder: Path, **options: Any) -> Any:
            assert options == {"local_files_only": True, "trust_remote_code": False}
            return cls(json.loads((folder / "config.json").read_text()))

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.net = Small(len(config["id2label"]))

    def forward(self, x: Tensor) -> Any:
        return {"logits": self.net(x)}

    @classmethod
    def from_pretrained(cls, folder: Path, *, output_loading_info: bool, **options: Any) -> Any:
        network = cls(cls.config_class.from_pretrained(folder, **options))
        found = torch.load(folder / "weights.pt")  # a pickle, unless loading is restricted to tensors
        missing, _ = network.load_state_dict(found, strict=False)
        return network, {"missing_keys": set(missing)}


def transformers() -> ModuleType:
    """Knows ``SmallForImageClassification``."""
    package = ModuleType("transformers")
    kind = type("SmallForImageClassification", (PreTrainedModel,), {})
    vars(package).update(PreTrainedModel=PreTrainedModel, SmallForImageClassification=kind, nothing=print)
    return package


def save_folder(
    folder: Path, classes: dict[int, str], preprocessor: dict[str, Any] | None = None, **config: Any
) -> Any:
    """A folder as ``save_pretrained`` writes it, and its network."""
    folder.mkdir(parents=True, exist_ok=True)
    more = {"architectures": ["SmallForImageClassification"], "id2label": {str(k): v for k, v in classes.items()}}
    (folder / "config.json").write_text(json.dumps(more | config))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    network = PreTrainedModel({"id2label": classes}).eval()
    torch.save(network.state_dict(), folder / "weights.pt")
    return network
