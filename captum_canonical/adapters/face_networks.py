"""The two networks of MediaPipe's face mesh as PyTorch modules: a face detector, and 468 vertices of one face.

Architecture and weights: Google, MediaPipe 0.10.21 (Apache License 2.0), ``face_detection_short_range.tflite`` and
``face_landmark.tflite``; Bazarevsky et al., "BlazeFace" (2019), and Kartynnik et al., "Real-time Facial Surface
Geometry from Monocular Video on Mobile GPUs" (2019). ``tools/convert_face_networks.py`` makes the file of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = "face_mesh_468.safetensors"
DETECTOR_SIZE, MESH_SIZE = 128, 192


class Block(nn.Module):
    """A depthwise and a pointwise convolution beside a shortcut, which is halved as needed; new channels have none."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, prelu: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 2 - stride, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.activation = nn.PReLU(out_channels) if prelu else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        changed = self.pointwise(self.depthwise(_pad_for_stride_2(x) if self.stride == 2 else x))
        shortcut = F.max_pool2d(x, 2) if self.stride == 2 else x
        changed[:, : shortcut.shape[1]] += shortcut  # in place: new memory takes longer than the sum
        return self.activation(changed)


class FaceDetector(nn.Module):
    """Boxes, six key points and scores at 896 anchors of a square image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        channels = [24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88]
        strides = [1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1]
        self.fine = nn.Sequential(*map(Block, channels, channels[1:], strides))
        self.coarse = nn.Sequential(Block(88, 96, 2), *[Block(96, 96) for _ in range(4)])
        self.score_fine, self.score_coarse = nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)
        self.box_fine, self.box_coarse = nn.Conv2d(88, 2 * 16, 1), nn.Conv2d(96, 6 * 16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From (N, 3, 128, 128) in -1..1 to what there is at each anchor.

        Returns:
            Boxes and key points, (N, 896, 16) in pixels from the anchor, and logits, (N, 896).
        """
        fine = self.fine(F.relu_(self.stem(F.pad(x, (1, 2, 1, 2)))))
        coarse = self.coarse(fine)
        boxes = [_anchors_last(head, 16) for head in (self.box_fine(fine), self.box_coarse(coarse))]
        scores = [_anchors_last(head, 1) for head in (self.score_fine(fine), self.score_coarse(coarse))]
        return torch.cat(boxes, 1), torch.cat(scores, 1)[..., 0]


class FaceMeshNetwork(nn.Module):
    """The 468 vertices of the face that fills a square image, and how sure it is that there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.PReLU(16))
        widths = [(16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
        widths += [(64, 128), (128, 128), (128, 128), (128, 128), (128, 128), (128, 128)]
        self.trunk = nn.Sequential(
            *[
                Block(*each, stride=2 if number in (2, 5, 8, 11) else 1, prelu=True)
                for number, each in enumerate(widths)
            ]
        )
        self.vertices = _mesh_head(3 * 468, 3)
        self.presence = _mesh_head(1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 192, 192) in 0..1 to vertices (N, 468, 3) in pixels, z away from the camera, and logits (N,)."""
        x = self.trunk(self.stem(_pad_for_stride_2(x)))
        return self.vertices(x).reshape(-1, 468, 3), self.presence(x).reshape(-1)


def _mesh_head(outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        *[Block(128, 128, 1 if number else 2, prelu=True) for number in range(blocks)],
        *(nn.Conv2d(128, 32, 1), nn.PReLU(32), Block(32, 32, prelu=True), nn.Conv2d(32, outputs, 3)),
    )


def _pad_for_stride_2(x: Tensor) -> Tensor:
    """TensorFlow's "SAME" padding of a 3x3 kernel with stride 2 on even sizes: right and below only."""
    return F.pad(x, (0, 1, 0, 1))


def _anchors_last(x: Tensor, values: int) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, values)


def batch_of(crops: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """(N, 3, H, W) floats in 0..255; arrays of pixels are channels last already, and stay so."""
    return torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float()


@lru_cache(maxsize=4)
def face_networks(device: torch.device) -> tuple[FaceDetector, FaceMeshNetwork]:
    """Both networks with their weights, in float32 and evaluation mode; shared by all who ask for the same device."""
    from safetensors.torch import load

    stored = load(resources.files(__package__).joinpath(WEIGHTS).read_bytes())
    detector, mesh = FaceDetector(), FaceMeshNetwork()
    for prefix, network in (("detector.", detector), ("mesh.", mesh)):
        network.load_state_dict(
            {name[len(prefix) :]: x.float() for name, x in stored.items() if name.startswith(prefix)}
        )
        # Depthwise convolutions run twice as fast on the CPU with the channels of a pixel side by side.
        network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    return detector, mesh
