"""What a GPU does with canonical occlusion: exactness beside float64, dense and incremental, precisions, rows, peers.

    python benchmarks/gpu.py [--quick] [--json FILE]

Needs torchvision for its architectures, but no photographs and no weights: the canonical face, scaled into the image,
is the mesh. What fails is recorded with its reason. Also runs on a CPU, in fp32 alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision.models
from captum.attr import Occlusion
from torch import Tensor, nn

import captum_canonical as cc
import timing
from networks import mobile_face_net, scaled

PRECISIONS = {"fp32": (torch.float32, False), "tf32": (torch.float32, True), "bf16": (torch.bfloat16, True)}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "VGG-16": (lambda: torchvision.models.vgg16(weights=None), 224),
    "ResNet-50": (lambda: torchvision.models.resnet50(weights=None), 224),
    "MobileFaceNet": (mobile_face_net, 112),
    "EfficientNet-B0": (lambda: torchvision.models.efficientnet_b0(weights=None), 224),
    "ConvNeXt-T": (lambda: torchvision.models.convnext_tiny(weights=None), 224),
    "ViT-B/16": (lambda: torchvision.models.vit_b_16(weights=None), 224),
}
QUICK = ("VGG-16", "ResNet-50", "MobileFaceNet")
Row = dict[str, object]


@contextlib.contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Lets matrix products and convolutions round to TF32, or not."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = on
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Bench:
    """One network on one device, with random images that show the canonical face."""

    def __init__(self, name: str, device: torch.device, quick: bool) -> None:
        torch.manual_seed(0)
        build, self.size = NETWORKS[name]
        self.name, self.device, self.quick = name, device, quick
        self.net = build().eval().to(device)
        self.photos = torch.rand(1 if quick else 4, 3, self.size, self.size, device=device)
        face = cc.CanonicalFace.default()
        vertices = face.resized((self.size, self.size)).vertices[None].repeat(len(self.photos), 1, 1)
        self.mesh = cc.FaceMesh(vertices, image_size=(self.size, self.size), topology=face.topology)
        self.points, self.rounds = (64, 1) if quick else (1024, 3)

    def seconds(self, work: Callable[[], object], rounds: int | None = None) -> float:
        """Median of some runs, after one that warms up."""

        def finished() -> None:
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        finished()
        return statistics.median(timing.seconds(finished) for _ in range(rounds or self.rounds))

    def exactness(self, how: str) -> Row:
        """The largest error of a map of 16 points beside dense float64, of the map's maximum."""

        def attribute(photo: Tensor, inference: str) -> Tensor:
            occlusion = cc.CanonicalOcclusion(self.net, self.mesh[:1], inference=inference)
            return occlusion.attribute(photo, target=3, num_points=16).double()

        with tf32(False):
            self.net.double()
            exact = attribute(self.photos[:1].double(), "dense")
            self.net.float()
            error = (attribute(self.photos[:1], how) - exact).abs().max() / exact.abs().max()
        return {"what": "error beside float64", "how": how, "value": error.item()}

    def occlusion(self, precision: str, how: str, rows: int | None) -> Row:
        """Whole maps of all images."""
        dtype, fast = PRECISIONS[precision]
        occlusion = cc.CanonicalOcclusion(self.net.to(dtype), self.mesh, inference=how)
        photos = self.photos.to(dtype)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with tf32(fast):
            needed = self.seconds(
                lambda: occlusion.attribute(photos, target=3, num_points=self.points, perturbations_per_eval=rows)
            )
        result: Row = {"ms_per_evaluation": 1e3 * needed / (len(photos) * self.points)}
        result["maps_per_s"] = len(photos) / needed
        if self.device.type == "cuda":
            result["peak_GiB"] = torch.cuda.max_memory_allocated() / 2**30
        return {"precision": precision, "how": how, "rows": rows, **result}

    def bare_loop(self, rows: int, compiled: bool) -> Row:
        """The network alone, on whole batches: what the hardware gives."""
        batch = self.photos[:1].repeat(rows, 1, 1, 1)
        module = torch.compile(self.net) if compiled else self.net
        with tf32(True), torch.inference_mode():
            needed = self.seconds(lambda: module(batch), 3)
        how = "bare loop, torch.compile" if compiled else "bare loop"
        return {"precision": "tf32", "how": how, "rows": rows, "ms_per_evaluation": 1e3 * needed / rows}

    def peer(self) -> Row:
        """Captum's Occlusion, with torch's own settings: TF32 in convolutions, not in matrix products."""
        stride = self.size // (6 if self.quick else 14)
        patch = max(scaled(15, self.size), stride)
        count = ((self.size - patch + stride - 1) // stride + 1) ** 2
        window = {"sliding_window_shapes": (3, patch, patch), "strides": (3, stride, stride)}
        needed = self.seconds(
            lambda: Occlusion(self.net).attribute(self.photos[:1], target=3, perturbations_per_eval=64, **window), 1
        )
        how = {"precision": "torch's defaults", "how": "captum Occlusion", "rows": 64}
        return {**how, "ms_per_evaluation": 1e3 * needed / count}

    def attempts(self) -> Iterator[tuple[Row, Callable[[], Row]]]:
        """All measurements: what each is, and the call that makes it."""
        on_gpu = self.device.type == "cuda"
        sizes = (16, 64) if self.quick else (16, 64, 256)
        for how in ("dense", "incremental"):
            yield {"what": "error beside float64", "how": how}, lambda how=how: self.exactness(how)
        for precision in PRECISIONS if on_gpu else ("fp32",):
            for how in ("dense",) if precision == "bf16" else ("dense", "incremental", "auto"):
                for rows in (None,) if how == "auto" else sizes:
                    what = (precision, how, rows)
                    yield dict(zip(("precision", "how", "rows"), what, strict=True)), lambda w=what: self.occlusion(*w)
        for rows in sizes:
            for compiled in (False, True) if on_gpu and not self.quick else (False,):
                about = {"how": "bare loop", "rows": rows, "compiled": compiled}
                yield about, lambda r=rows, c=compiled: self.bare_loop(r, c)
        yield {"how": "captum Occlusion"}, self.peer

    def rows(self) -> Iterator[Row]:
        """The results; what fails says why."""
        for about, attempt in self.attempts():
            try:
                row = attempt()
            except Exception as error:
                row = {**about, "failed": f"{type(error).__name__}: {error}"[:300]}
            self.net.float()
            yield {"net": self.name, **row}


def main() -> None:
    """Prints the results as they come, and writes them as JSON after each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three networks, one image, 64 points")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="default: all, three with --quick")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[Row] = []
    results = {"torch": torch.__version__, "python": platform.python_version(), "rows": rows}
    results["device"] = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    for name in arguments.networks or (QUICK if arguments.quick else NETWORKS):
        for row in Bench(name, device, arguments.quick).rows():
            print(row, flush=True)
            rows.append(row)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
