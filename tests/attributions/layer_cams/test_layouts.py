"""Which layout a shape has, what leaves a doubt, and layers by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.attributions.layers import find_layer
from captum_canonical.attributions.layouts import Layout, layout_of
from layout_tools import SmallSwin, SmallViT
from small_networks import SmallNet

TOKENS: dict[tuple[tuple[int, int], int], tuple[tuple[int, int], int]] = {
    # image, tokens: grid, tokens before it
    ((224, 224), 197): ((14, 14), 1),
    ((224, 224), 198): ((14, 14), 2),  # DeiT with distillation
    ((224, 224), 196): ((14, 14), 0),
    ((224, 224), 50): ((7, 7), 1),
    ((224, 224), 49): ((7, 7), 0),  # Swin of Hugging Face
    ((224, 224), 257): ((16, 16), 1),  # patches of 14 pixels
    ((518, 518), 1374): ((37, 37), 5),  # DINOv2 with registers
    ((384, 384), 577): ((24, 24), 1),
    ((112, 96), 42): ((7, 6), 0),
    ((112, 96), 43): ((7, 6), 1),
    ((256, 128), 129): ((16, 8), 1),
    ((224, 168), 141): ((14, 10), 1),  # half a patch is cut off
    ((224, 224), 3136): ((56, 56), 0),
}


@pytest.mark.parametrize(("image", "count"), TOKENS)
def test_tokens(image: tuple[int, int], count: int) -> None:
    grid, prefix = TOKENS[image, count]
    patches = [nn.ReLU(), nn.Conv2d(3, 8, image[0] // grid[0], image[0] // grid[0]), nn.Conv2d(8, 8, 3)]
    assert layout_of((2, count, 384), [image], None, patches) == Layout("tokens", grid, prefix)
    x = torch.arange(2.0 * count * 3).reshape(2, count, 3)
    layout = layout_of(x.shape, [image], None, patches if image == (224, 168) else ())
    assert layout is not None
    maps = layout.channels_first(x)
    assert maps.shape == (2, 3, *grid)
    row, column = grid[0] - 1, 2
    assert torch.equal(maps[1, :, row, column], x[1, prefix + row * grid[1] + column])
    assert torch.equal(layout.restored(maps, x), x)
    assert torch.equal(layout.restored(2 * maps, x)[:, prefix:], 2 * x[:, prefix:])


@pytest.mark.parametrize(("grid", "image"), [((56, 96), 224), ((28, 192), 224), ((14, 384), 224), ((7, 768), 224)])
def test_grids_of_torchvisions_networks_are_told_apart(grid: tuple[int, int], image: int) -> None:
    side, channels = grid
    assert layout_of((1, side, side, channels), [(image, image)]) == Layout("channels_last")
    assert layout_of((1, channels, side, side), [(image, image)]) == Layout("channels_first")
    x = torch.rand(1, side, side, channels)
    assert torch.equal(Layout("channels_last").channels_first(x)[0, 5, 3, 2], x[0, 3, 2, 5])
    with pytest.raises(cc.CanonicalError, match="holds no maps of images of 224 x 224"):
        layout_of((1, 1, *grid), [(image, image)])


@pytest.mark.parametrize("image", [(112, 96), (224, 112), (97, 61), (33, 33), (11, 9)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("channels", [1, 6, 8, 56])
def test_grids_of_convolutions_are_fine(
    image: tuple[int, int], kernel: int, stride: int, padded: bool, channels: int
) -> None:
    x = torch.zeros(1, 1, *image)
    convolution = nn.Conv2d(1, 1, kernel, stride, kernel // 2 if padded else 0)
    for _ in range(1 if stride == 1 else 4):
        if min(x.shape[2:]) < kernel:
            break
        x = convolution(x).detach()
        shape = (1, channels, *x.shape[2:])
        assert layout_of(shape, [image], None, [convolution, nn.ReLU()]) == Layout("channels_first")


def test_doubts_that_modules_lift() -> None:
    """ArcFace's first stage, (64, 56, 56) of 112; Swin's first block at 384 pixels has as many channels as cells."""
    images, equal = [(384, 384)], (1, 96, 96, 96)
    swin = SmallSwin()
    assert layout_of((1, 64, 56, 56), [(112, 112)], None, swin.modules()) == Layout("channels_first")
    assert layout_of(equal, images, None, [nn.ReLU(), nn.Conv2d(1, 1, 1)]) == Layout("channels_first")
    for layer, kind in ((nn.Conv2d(1, 1, 1), "first"), (nn.LayerNorm(96), "last"), (nn.Linear(1, 1), "last")):
        assert layout_of(equal, images, None, [layer, *swin.modules()]) == Layout(f"channels_{kind}")
    with pytest.raises(cc.CanonicalError, match=r'may have its channels first or last.*layout="channels_last"'):
        layout_of(equal, images, None, [nn.ReLU(), *swin.modules()])
    for kind in ("channels_first", "channels_last"):
        assert layout_of(equal, images, Layout(kind), [nn.ReLU(), *swin.modules()]) == Layout(kind)


def test_maps_of_an_input_brought_to_another_size_are_no_maps_with_channels_last() -> None:
    """64 maps of 56 x 56 of a network that makes a square of 224 x 160: 64 x 56 is not their grid."""
    with pytest.raises(
        cc.CanonicalError, match=r"56 x 56 \(channels first\) has not their proportions, nor has 64 x 56"
    ):
        layout_of((1, 64, 56, 56), [(224, 160)], None, [nn.ReLU(), nn.Conv2d(1, 1, 1)])
    assert layout_of((1, 14, 10, 64), [(224, 160)], None, [nn.ReLU()]) == Layout("channels_last")


@pytest.mark.parametrize("layer", [nn.Flatten(2), nn.Flatten(-2), nn.Conv1d(64, 64, 1), nn.MaxPool1d(1)])
def test_channels_before_flattened_positions_are_no_tokens(layer: nn.Module) -> None:
    """(N, 64, 49): not 8 x 8 tokens of 49 channels, but 64 channels of 49 positions."""
    with pytest.raises(cc.CanonicalError, match=f"has its channels before its positions, as {type(layer).__name__}"):
        layout_of((2, 64, 49), [(224, 224)], None, [layer])
    assert layout_of((2, 64, 49), [(224, 224)], None, [nn.Flatten(1, 2)]) == Layout("tokens", (8, 8), 0)
    pooled = nn.AdaptiveAvgPool1d(1)
    net = nn.Sequential(nn.Conv2d(3, 64, 32, 32), nn.ReLU(), nn.Flatten(2), pooled, nn.Flatten(), nn.Linear(64, 3))
    assert cc.attributions.spatial_layers.last_spatial_layer(net.eval(), torch.rand(1, 3, 224, 224)) == "1"


def test_the_weights_of_an_attention_are_no_maps() -> None:
    vit = SmallViT()
    with pytest.raises(cc.CanonicalError, match="holds no maps"):
        layout_of((1, 12, 197, 197), [(224, 224)], None, [nn.Dropout(), *vit.modules()])


def test_heads_of_an_attention_are_no_maps() -> None:
    """(heads, tokens, numbers of each), as some layers of CoaT have them: 50 x 40 is nearly a square."""
    modules = [nn.ReLU(), *SmallViT().modules()]
    with pytest.raises(cc.CanonicalError, match="holds no maps"):
        layout_of((1, 8, 50, 40), [(224, 224)], None, modules)
    assert layout_of((1, 8, 50, 40), [(224, 180)], None, modules) == Layout("channels_first")


@pytest.mark.parametrize(
    ("layout", "shape", "message"),
    [
        ("tokens:16x14", (1, 197, 8), r"a grid of 16 x 14 has 224, which leaves -27"),
        ("tokens:14x14:5", (1, 197, 8), "leaves 1 before it, not 5"),
        ("tokens:28x7", (1, 197, 8), r"28 x 7 \(height x width\) cannot lie on images of 224 x 224.*write 7x28"),
        ("tokens", (1, 210, 8), r'210 tokens, of which no grid.*write layout="tokens:HEIGHTxWIDTH:PREFIX"'),
        ("tokens", (1, 8, 7, 7), "'tokens' does not fit"),
        ("channels_last", (1, 197, 8), "'channels_last' does not fit"),
        ("channels_last", (1, 768, 7, 7), r"a grid of 768 x 7"),
        ("channels_first", (1, 7, 7, 768), r"a grid of 7 x 768"),
    ],
)
def test_what_is_given_must_fit(layout: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(cc.CanonicalError, match=message):
        layout_of(shape, [(224, 224)], Layout.of(layout))


def test_given_grids_and_prefixes() -> None:
    images = [(224, 224)]
    assert layout_of((1, 206, 8), images, Layout.of("tokens:14x14")) == Layout("tokens", (14, 14), 10)
    assert layout_of((1, 206, 8), images, Layout("tokens", prefix=10)) == Layout("tokens", (14, 14), 10)
    assert Layout.of("tokens:7x6:2") == Layout("tokens", (7, 6), 2) == Layout.of(Layout("tokens", (7, 6), 2))
    for count, prefix in ((205, 9), (212, 16)):  # more registers than any network known, in the grid of its patches
        patches = [nn.ReLU(), nn.Conv2d(3, 8, 16, 16)]
        assert layout_of((1, count, 8), images, None, patches) == Layout("tokens", (14, 14), prefix)
    for modules in ([], [nn.ReLU(), nn.Conv2d(3, 8, 16, 8)]):
        with pytest.raises(cc.CanonicalError, match="no grid has the proportions"):
            layout_of((1, 205, 8), images, None, modules)
    with pytest.raises(cc.CanonicalError, match="no grid has the proportions"):
        layout_of((1, 213, 8), images, None, patches)  # latents of another kind, perhaps
    merged = layout_of((1, 49, 8), images, None, [nn.ReLU(), nn.Conv2d(3, 8, 4, 4)])
    assert merged == Layout("tokens", (7, 7), 0)
    with pytest.raises(cc.CanonicalError, match=r'write layout="tokens:2x2:5" or layout="tokens:3x3:0"'):
        layout_of((1, 9, 8), [(48, 48)])
    assert layout_of((1, 512), images) is None and layout_of((1, 9, 8), []) is None


# -------------------------------------------------------------------------------------------------------- by name
def test_names_resolve_inside_wrappers() -> None:
    net = SmallNet(32, (3, 4))
    wrapped = cc.ClassConfidence(nn.DataParallel(nn.Sequential(net)))
    for name in ("relu1", "model.module.0.relu1", "0.relu1"):
        assert find_layer(wrapped, name) is net.relu1
    with pytest.raises(cc.CanonicalError, match=r"^layer: the network has no module 'relv1'; it has .*relu1"):
        find_layer(wrapped, "relv1")
    method = cc.LayerGradCamPlusPlus(wrapped, "relu1")
    assert method.layer is net.relu1


LAST: dict[str, tuple[nn.Module, str]] = {
    "convolutions": (SmallNet((64, 48), (3, 4)), "relu1"),
    "channels last": (SmallSwin(), "permute"),
    "class token": (SmallViT(), "blocks.2.norm1"),
    "mean of tokens": (SmallViT(prefix=0), "norm"),
    "registers": (SmallViT(prefix=5), "blocks.2.norm1"),
}


@pytest.mark.parametrize("case", LAST)
def test_the_last_layer_with_positions(case: str) -> None:
    net, name = LAST[case]
    name = "relu1" if case == "convolutions" else name
    x = torch.rand(2, 3, 64, 48)
    found = cc.last_spatial_layer(net, x)
    assert found == (name if case != "channels last" else "block")  # nn.Identity is none of its own
    wrapped = cc.ClassConfidence(net)
    assert find_layer(wrapped, cc.last_spatial_layer(wrapped, x)) is net.get_submodule(found)
    assert all(not module._forward_hooks for module in net.modules()) and x.grad is None
    with torch.no_grad():
        assert cc.last_spatial_layer(net, (x,)) == found


def test_a_network_without_positions() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(cc.CanonicalError, match="no layer whose output has positions"):
        cc.last_spatial_layer(flat, torch.rand(1, 3, 4, 4))
    with pytest.raises(cc.CanonicalError, match=r"expected a torch\.nn\.Module"):
        cc.last_spatial_layer(lambda x: x, torch.rand(1, 3, 4, 4))  # type: ignore[arg-type]


def test_a_layer_without_positions_is_an_error_that_offers_one() -> None:
    net, x = SmallNet(32, (3, 4)), torch.rand(1, 3, 32, 32)
    from captum.attr import LayerGradCam

    from captum_canonical.attributions.base import run_attribution

    def error(layer: Any, **more: Any) -> str:
        with pytest.raises(cc.CanonicalError) as caught:
            run_attribution(LayerGradCam(net, layer), x, {"target": 1, **more})
        return str(caught.value)

    assert "no positions" in error("head") and "The last layer with positions is 'relu1'." in error("head")
    assert "'tokens' does not fit" in error("relu1", layout="tokens")

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.aside = net, nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return self.net(x)

    with pytest.raises(cc.CanonicalError, match=r"does not depend on what the layer returns.* 'net\.relu1'"):
        run_attribution(LayerGradCam(Unused(), "aside"), x, {"target": 1})
    with pytest.raises(cc.CanonicalError, match="looks into no single layer"):
        from captum.attr import Saliency

        run_attribution(Saliency(net), x, {"target": 1, "layout": "tokens"})
