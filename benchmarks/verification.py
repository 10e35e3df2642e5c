"""Two recognition networks on LFW's pairs, by the crop that they are given: what the right one is worth.

    nice -n 10 python benchmarks/verification.py --lfw DIR --models DIR [--cache DIR] [--json FILE]

``--lfw`` is a folder with ``images/`` and ``pairs.txt`` in LFW's own format; ``--models`` holds ``mobilefacenet``
(trained on ArcFace's crops) and dlib's ``face_recognition``. As in LFW's protocol (View 2), the cosine from which a
pair counts as one person is chosen on the other folds. A pair with a photograph without a face counts as an error. The
row "cv2" has the pixels of ``cv2.warpAffine``, made from the same points. For one network and one crop there is
``captum-canonical verify``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.data.pairs import read_pairs
from captum_canonical.statistics.verification import held_out_accuracy
from studies.face_nets.networks import load
from studies.face_nets.photographs import TIGHT

SIDE = 250  # of LFW's photographs, in pixels
CROPS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "mobilefacenet": [
        ("arcface", {"crop": "arcface"}),
        ("cv2", {"crop": None, "size": SIDE}),
        ("dlib", {"crop": "dlib", "size": 112}),
        ("face", {"crop": "face", "size": 112}),
        ("face, tight", {"crop": "face", "size": 112, "margin": TIGHT}),
    ],
    "face_recognition": [
        ("dlib", {"crop": "dlib"}),
        ("arcface", {"crop": "arcface", "size": 150}),
        ("face", {"crop": "face", "size": 150}),
        ("face, tight", {"crop": "face", "size": 150, "margin": TIGHT}),
    ],
}


def opencv(record: cc.data.FaceRecord) -> Tensor:
    """ArcFace's crop of a whole photograph as its networks were given it in training."""
    template = cc.data.CROP_TEMPLATES["arcface"]
    found = template.similarity(record.faces)
    matrix = found.scale * found.rotation[0]
    shift = found.shift[0] - 0.5 + matrix.sum(1) / 2  # middles of pixels are whole numbers there
    photo = (record.image * 255).byte().permute(1, 2, 0).numpy()
    chip = cv2.warpAffine(photo, torch.cat([matrix, shift[:, None]], 1).numpy(), (112, 112))
    return torch.from_numpy(chip).permute(2, 0, 1).float() / 255


@torch.inference_mode()
def embeddings(net: nn.Module, data: cc.AlignedFaces, as_opencv: bool) -> Iterator[tuple[Path, Tensor]]:
    """Path and unit vector of each photograph."""
    for start in range(0, len(data), 32):
        records = [data[index] for index in range(start, min(start + 32, len(data)))]
        images = torch.stack([opencv(record) if as_opencv else record.image for record in records])
        vectors = nn.functional.normalize(net(images), dim=1)
        yield from zip((record.row.path for record in records), vectors, strict=True)


def main() -> None:
    """Prints a row for each network and crop, and writes them as JSON, if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/ and pairs.txt")
    parser.add_argument("--models", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--cache", type=Path, help="folder of meshes")
    parser.add_argument("--networks", nargs="+", choices=list(CROPS), default=list(CROPS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pairs = read_pairs(args.lfw / "pairs.txt", args.lfw / "images")
    same, fold = np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs])
    paths = sorted({path for pair in pairs for path in (pair.first, pair.second)})
    aligner = FaceMeshAligner(face="central", on_missing="skip")
    rows = []
    for network in args.networks:
        net = load(args.models, network)
        for label, crop in CROPS[network]:
            data = cc.AlignedFaces(paths, aligner, cache=args.cache, **crop)
            vectors = dict(embeddings(net, data, label == "cv2"))
            nobody = torch.full((1,), torch.nan)
            similarity = [float((vectors.get(p.first, nobody) * vectors.get(p.second, nobody)).sum()) for p in pairs]
            found = held_out_accuracy(np.array(similarity), same, fold)
            rows.append(
                {"network": network, "crop": label, "folds": found.accuracy.tolist(), "without": len(data.left_out)}
            )
            print(
                f"{network:18} {label:12} {found.mean:7.2%} +- {found.standard_error:.2%} of "
                f"{len(pairs):,} pairs ({len(data):,} photographs, {len(data.left_out)} without a face)",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps({"pairs": len(pairs), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
