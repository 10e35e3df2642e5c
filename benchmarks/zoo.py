"""Today's networks by name, with random weights: what people bring, and what must work in one line.

    from zoo import ZOO
    net = ZOO["timm:resnet18"].build()  # in evaluation mode, for (N, 3, 224, 224)

torchvision, timm and transformers are imported when a network of theirs is built. Weights need no download. They are
drawn so that every layer matters: scales that start as zeros or ones are drawn anew and batch norms see some images,
since in a network whose blocks add nothing no mistake in a block would show.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from face_networks import FairFaceNet, InceptionResnet, iresnet
from networks import Network, mobile_face_net

TORCHVISION = {
    **dict.fromkeys(("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "vgg16", "densenet121"), 224),
    **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "mnasnet1_0"), 224),
    **dict.fromkeys(("shufflenet_v2_x1_0", "squeezenet1_1", "googlenet", "regnet_y_400mf", "regnet_x_400mf"), 224),
    **dict.fromkeys(("convnext_tiny", "swin_t", "vit_b_16", "maxvit_t"), 224),
    "inception_v3": 299,
}
TIMM = {
    **dict.fromkeys(("resnet18", "resnet50", "mobilenetv3_large_100", "efficientnet_lite0", "fastvit_t8"), 224),
    **dict.fromkeys(("ghostnet_100", "convnext_atto", "convnextv2_atto", "repvgg_a0", "hrnet_w18_small"), 224),
    **dict.fromkeys(("mobilevit_xxs", "edgenext_xx_small", "vit_tiny_patch16_224", "deit_tiny_patch16_224"), 224),
    **dict.fromkeys(("swin_tiny_patch4_window7_224", "poolformer_s12", "mixer_s32_224", "mobileone_s0"), 224),
    **dict.fromkeys(("tinynet_a", "levit_128s"), 224),
    "vit_small_patch14_dinov2": 518,
    "legacy_xception": 299,
}
TRANSFORMERS = {"ResNet": "resnet", "ViT": "vit", "ConvNext": "convnext", "MobileNetV2": "mobilenet_v2", "Swin": "swin"}
OWN: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "iresnet18": (iresnet, 112),
    "iresnet50": (lambda: iresnet((3, 4, 14, 3)), 112),
    "inception_resnet_v1": (InceptionResnet, 160),
    "mobile_face_net": (mobile_face_net, 112),
    "fairface": (FairFaceNet, 224),
    "fairface_heads": (lambda: FairFaceNet(together=False), 224),
}


@dataclass(frozen=True, eq=False)
class ZooNetwork(Network):
    """One of the zoo: ``name`` is "package:network", ``needs`` the package, or None for our own."""

    needs: str | None = None


def _torchvision(name: str) -> nn.Module:
    more: dict[str, Any] = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return importlib.import_module("torchvision").models.get_model(name, weights=None, **more)


def _timm(name: str) -> nn.Module:
    return importlib.import_module("timm").create_model(name, pretrained=False, num_classes=100)


def _transformers(name: str) -> nn.Module:
    library = importlib.import_module("transformers")
    config = getattr(library, f"{name}Config")(num_labels=10)
    return getattr(library, f"{name}ForImageClassification")(config)


def _lively(build: Callable[[], nn.Module], size: int) -> nn.Module:
    """The network in evaluation mode, in which every layer hands on what it sees."""
    torch.manual_seed(0)
    net = build().eval()
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            alike = parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all())
            if parameter.ndim == 1 and alike and name.endswith("weight"):
                parameter.uniform_(0.5, 1.0)
            elif alike and parameter.abs().max() < 1e-3 and not name.endswith("bias"):
                parameter.normal_(0, 0.2)
        for norm in norms:
            norm.train().momentum = None  # the statistics of all that it has seen
        seen = photos(8, size)
        seen[4:, :, size // 3 : size // 2, size // 3 : size // 2] = 0
        net(seen)
        for norm in norms:
            norm.eval().momentum = 0.1
    return net


def photos(count: int, size: int) -> torch.Tensor:
    """(count, 3, size, size) smooth noise, with some fine noise in it."""
    smooth = F.interpolate(torch.rand(count, 3, 7, 7), (size, size), mode="bicubic")
    return 0.7 * smooth + 0.3 * torch.rand(count, 3, size, size)


def _zoo() -> dict[str, ZooNetwork]:
    found = []
    for package, load, sizes in (("torchvision", _torchvision, TORCHVISION), ("timm", _timm, TIMM)):
        for name, size in sizes.items():
            build = lambda load=load, name=name, size=size: _lively(lambda: load(name), size)  # noqa: E731
            found.append(ZooNetwork(f"{package}:{name}", build, size, needs=package))
    for name, short in TRANSFORMERS.items():
        build = lambda name=name: _lively(lambda: _transformers(name), 224)  # noqa: E731
        found.append(ZooNetwork(f"transformers:{short}", build, 224, needs="transformers"))
    for name, (own, size) in OWN.items():
        found.append(ZooNetwork(f"own:{name}", lambda own=own, size=size: _lively(own, size), size))
    return {network.name: network for network in found}


ZOO = _zoo()


def heads_of(output: Any) -> torch.Tensor:
    """The one tensor of scores (N, K) in what a network of the zoo returns."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, dict) and "logits" not in output:
        return next(iter(output.values()))
    return output["logits"]
