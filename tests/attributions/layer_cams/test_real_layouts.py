"""Swin, ConvNeXt, ViT, DeiT and DINO of other packages, with random weights, beside twins that permute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.attributions.base import run_attribution
from layout_tools import twin

pytestmark = pytest.mark.slow


def torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(pytest.importorskip("torchvision").models, name)()


def timm(name: str, **arguments: int) -> Callable[[], nn.Module]:
    return lambda: pytest.importorskip("timm").create_model(name, num_classes=5, **arguments)


def transformers(name: str, **config: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        package = pytest.importorskip("transformers")
        own = getattr(package, f"{name}Config")(num_labels=5, image_size=224, **config)
        return cc.adapters.as_network(getattr(package, f"{name}ForImageClassification")(own))

    return make


SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2]}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, str, int, int | None]] = {
    # network, its last layer with positions, a layer, the side of its grid, the tokens before it
    "swin": (torchvision("swin_t"), "permute", "norm", 7, None),
    "swin, a block": (torchvision("swin_t"), "permute", "features.5.3", 14, None),
    "convnext, a norm": (torchvision("convnext_tiny"), "features", "features.7.2.block.2", 7, None),
    "vit": (torchvision("vit_b_16"), *["encoder.layers.encoder_layer_11.ln_1"] * 2, 14, 1),
    "timm convnext, a norm": (timm("convnext_tiny"), "stages", "stages.3.blocks.2.norm", 7, None),
    "timm swin": (timm("swin_tiny_patch4_window7_224"), "norm", "norm", 7, None),
    "timm vit": (timm("vit_tiny_patch16_224"), "blocks.11.norm1", "blocks.11.norm1", 14, 1),
    "timm deit": (timm("deit_tiny_distilled_patch16_224"), "blocks.11.norm1", "blocks.10", 14, 2),
    "timm dino": (timm("vit_small_patch16_224.dino"), "blocks.11.norm1", "blocks.11.norm1", 14, 1),
    "timm dinov2": (timm("vit_small_patch14_reg4_dinov2", img_size=224), "blocks.11.norm1", "blocks.11.norm1", 16, 5),
    "timm mixer": (timm("mixer_s16_224"), "norm", "norm", 14, 0),
    "hf vit": (transformers("ViT", **SMALL), *["model.vit.layers.2.layernorm_before"] * 2, 14, 1),
    "hf deit": (transformers("DeiT", **SMALL), *["model.deit.layers.2.layernorm_before"] * 2, 14, 2),
    "hf dinov2": (
        transformers("Dinov2WithRegisters", **SMALL),
        *["model.dinov2_with_registers.layernorm"] * 2,
        14,
        5,
    ),
    "hf swin": (transformers("Swin", **SWIN), "model.swin.layernorm", "model.swin.layernorm", 7, 0),
}


def _moved(net: nn.Module) -> nn.Module:
    """Fresh weights, some of which are 0 in new networks, so that every layer matters."""
    torch.manual_seed(1)
    for parameter in net.parameters():
        parameter.data += (0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter)
    return net.eval()


@pytest.mark.parametrize("case", NETWORKS)
def test_as_a_twin_that_permutes(case: str) -> None:
    make, last, name, side, prefix = NETWORKS[case]
    torch.manual_seed(0)
    net, x = _moved(make()), torch.rand(1, 3, 224, 224)
    assert cc.last_spatial_layer(net, x) == last
    other, maps = twin(net, name, (side, side), prefix)
    same(
        run_attribution(LayerGradCam(net, name), x, {"target": 1}).maps,
        LayerGradCam(other, maps).attribute(x, target=1),
    )
    same(cc.LayerGradCamPlusPlus(net, name).attribute(x, 1), cc.LayerGradCamPlusPlus(other, maps).attribute(x, 1))


def same(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 0
    assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)
