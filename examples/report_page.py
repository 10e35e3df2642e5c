"""A page for the audit file from one photograph: a network with a known answer, explained on groups of copies.

    python examples/report_page.py [--out DIR] [--copies 60] [--seed 0]

The network of ``quickstart.py`` learned to notice a mark at the outer eye corners. Copies of the photograph with the
mark and copies without it are two groups; some copies are damaged on purpose, so that the page has something to say
about what was left out. The copies, the run folder and ``report.html`` are written to ``--out``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from studies.known_answer import PATCH, SIZE, copies, load_faces, train

DAMAGED = {"with the mark": 1, "without": 3}  # copies that cannot be read
TITLE, UNIT = "A network that learned a mark at the eye corners", "drop in the logit of the mark"
ENLARGED = 3  # times the pixels of a copy: photographs for people to look at


class LogOddsOfTheMark(nn.Module):
    """The network's single output as two classes, "without" and "with the mark"."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, photos: Tensor) -> Tensor:
        output = self.net(photos)
        return torch.cat([-output, output], 1)


def write_copies(folder: Path, photos: Tensor, labels: Tensor) -> Path:
    """The copies as files, and a CSV file that lists them with target and group."""
    folder.mkdir(parents=True, exist_ok=True)
    left = {group: count for group, count in DAMAGED.items()}
    with open(folder / "copies.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "target", "group"])
        for number, (photo, label) in enumerate(zip(photos, labels.long().tolist(), strict=True)):
            group = "with the mark" if label else "without"
            path = folder / f"copy {number:03}.png"
            pixels = (photo.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            Image.fromarray(pixels).resize((SIZE * ENLARGED, SIZE * ENLARGED), Image.Resampling.BICUBIC).save(path)
            if left[group]:
                left[group] -= 1
                path.write_bytes(path.read_bytes()[:2000])  # cut off
            writer.writerow([path.name, label, group])
    return folder / "copies.csv"


def make_run(out: Path, count: int, seed: int) -> cc.ModelSaliency:
    """Trains the network and explains the copies; the run is in ``out / "run"``."""
    faces = load_faces(None)
    net = LogOddsOfTheMark(train(faces, seed, mark=True)).eval()
    photos, labels, mesh = copies(faces, count, torch.Generator().manual_seed(10_000 + seed))
    listed = write_copies(out / "copies", photos, labels)
    enlarged = mesh.resized((SIZE * ENLARGED, SIZE * ENLARGED))
    data = cc.AlignedFaces(listed, faces=enlarged, size=SIZE, crop=None, classes=["without", "with the mark"])
    fill = photos.mean((0, 2, 3), keepdim=True)
    return cc.explain_dataset(net, data, out / "run", target=1, baselines=fill, patch_size=PATCH, seed=seed)


def main() -> None:
    """Makes the run and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("report_output"))
    parser.add_argument("--copies", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = make_run(arguments.out, arguments.copies, arguments.seed)
    page = cc.report(result, arguments.out / "report.html", title=TITLE, unit=UNIT)
    print(page)


if __name__ == "__main__":
    main()
