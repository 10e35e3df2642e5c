"""The two networks of MediaPipe's face mesh as PyTorch modules: a face detector, and 468 vertices of one face.

Architecture and weights: Google, MediaPipe 0.10.21 (Apache License 2.0), ``face_detection_short_range.tflite`` and
``face_landmark.tflite``; Bazarevsky et al., "BlazeFace" (2019), and Kartynnik et al., "Real-time Facial Surface
Geometry from Monocular Video on Mobile GPUs" (2019). ``tools/convert_face_networks.py`` makes the file of weights.

Where TensorFlow pads even sizes more behind than before ("SAME", stride 2), kernels begin with a row and a column of
zeros here, which does the same and spares a padded copy of what they move over.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from threading import Barrier

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = "face_mesh_468.safetensors"
DETECTOR_SIZE, MESH_SIZE = 128, 192
FEW = 2  # crops for which no other thread is woken
CHUNK = 8  # crops that go through a network together on the CPU; the maps of more do not fit into its caches
TILES_AT_ONCE = 64  # crops that go through it together elsewhere


class WholeMap(nn.Conv2d):
    """A convolution whose kernel is as large as the map, as a product: its many weights are not sorted anew."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, k, k) to (N, C')."""
        flat, weights = (each.permute(0, 2, 3, 1).flatten(1) for each in (x, self.weight))
        return F.linear(flat, weights, self.bias)


class Block(nn.Module):
    """A depthwise and a pointwise convolution beside a shortcut, which is halved as needed; new channels have none."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, prelu: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(in_channels, in_channels, 2 + stride, stride, 1, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.activation = nn.PReLU(out_channels) if prelu else nn.ReLU(inplace=True)
        # Called as functions: layers as small as these take a third longer as modules.
        self._depthwise = (self.depthwise.weight, self.depthwise.bias, stride, 1, 1, in_channels)
        self._pointwise = (self.pointwise.weight, self.pointwise.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        shortcut = torch.max_pool2d(x, 2) if self.stride == 2 else x
        x = torch.conv2d(x, *self._depthwise)
        # A dilation changes nothing in a kernel of one pixel, but has PyTorch take the convolution that is faster here.
        changed = torch.conv2d(x, *self._pointwise, dilation=2 if x.shape[0] > 1 and x.shape[2] > 8 else 1)
        changed.narrow(1, 0, shortcut.shape[1]).add_(shortcut)  # in place: new memory takes longer than the sum
        return self.activation(changed)


class FaceDetector(nn.Module):
    """Boxes, six key points and scores at 896 anchors of a square image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 6, 2, 2)
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
        fine = self.fine(F.relu_(self.stem(x)))
        coarse = self.coarse(fine)
        boxes = [_anchors_last(head, 16) for head in (self.box_fine(fine), self.box_coarse(coarse))]
        scores = [_anchors_last(head, 1) for head in (self.score_fine(fine), self.score_coarse(coarse))]
        return torch.cat(boxes, 1), torch.cat(scores, 1)[..., 0]


class FaceMeshNetwork(nn.Module):
    """The 468 vertices of the face that fills a square image, and how sure it is that there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 2, 1), nn.PReLU(16))
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
        x = self.trunk(self.stem(x))
        return self.vertices(x).reshape(-1, 468, 3), self.presence(x).reshape(-1)


def _mesh_head(outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        *[Block(128, 128, 1 if number else 2, prelu=True) for number in range(blocks)],
        *(nn.Conv2d(128, 32, 1), nn.PReLU(32), Block(32, 32, prelu=True), WholeMap(32, outputs, 3)),
    )


def _anchors_last(x: Tensor, values: int) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, values)


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which PyTorch divides the operations of this thread no further: small ones take longer divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def evaluate(
    network: nn.Module, crops: Sequence[np.ndarray], device: torch.device, scale: float, shift: float = 0.0
) -> tuple[np.ndarray, ...]:
    """What a network says of crops, in float64; on the CPU each of PyTorch's threads takes some of them for itself.

    Layers of so small networks are done before a second thread has begun to help.

    Args:
        network: from (N, 3, H, W) to tensors of N rows.
        crops: (H, W, 3) uint8, at least one.
        device: of the network.
        scale, shift: the network sees ``pixels / scale + shift``.
    """
    before = torch.get_num_threads()
    parts = min(before, math.ceil(len(crops) / FEW)) if device.type == "cpu" else 1
    chunk = CHUNK if device.type == "cpu" else TILES_AT_ONCE

    def some(part: int) -> list[list[np.ndarray]]:
        first, last = (len(crops) * each // parts for each in (part, part + 1))
        chunks = [crops[start : min(start + chunk, last)] for start in range(first, last, chunk)]
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            seen = [network(batch_of(each, device).div_(scale).add_(shift)) for each in chunks]
            return [[each.double().cpu().numpy() for each in values] for values in seen]

    others = _threads(os.getpid(), before - 1).map(some, range(1, parts)) if parts > 1 else ()
    with one_thread():
        mine = some(0)
    done = [*mine, *(each for part in others for each in part)]
    return tuple(np.concatenate(values) for values in zip(*done, strict=True))


@lru_cache(maxsize=2)
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch starts no others; a forked process has none of those before it, and needs its own."""
    begun, before = Barrier(count + 1), torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()  # the first question of a thread sets its number to that of the process
        torch.set_num_threads(1)  # of this thread, and of those that begin until it is set again
        begun.wait()

    pool = ThreadPoolExecutor(count, "face-networks", begin)
    for _ in range(count):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(before)
    return pool


def probability(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of which MediaPipe limits x to -100..100."""
    return 1 / (1 + np.exp(-logits.clip(-100, 100)))


def batch_of(crops: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """(N, 3, H, W) floats in 0..255; arrays of pixels are channels last already, and stay so."""
    return torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float()


@lru_cache(maxsize=4)
def face_networks(device: torch.device) -> tuple[FaceDetector, FaceMeshNetwork]:
    """Both networks with their weights, in float32 and evaluation mode; shared by all who ask for the same device."""
    from safetensors.torch import load

    # Memory of the layers goes back to the system after each photograph, and is fetched again, unless glibc has learnt
    # from a large piece that was freed that pieces of this size come and go. That took a third of the time.
    torch.empty(31 << 20, dtype=torch.uint8)
    stored = load(resources.files(__package__).joinpath(WEIGHTS).read_bytes())
    # As they are whatever PyTorch's defaults are, and without the random numbers that layers begin with.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        detector, mesh = FaceDetector().float(), FaceMeshNetwork().float()
    for prefix, network in (("detector.", detector), ("mesh.", mesh)):
        network.load_state_dict(
            {name[len(prefix) :]: x.float() for name, x in stored.items() if name.startswith(prefix)}
        )
        # Depthwise convolutions run twice as fast on the CPU with the channels of a pixel side by side.
        network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    return detector, mesh
