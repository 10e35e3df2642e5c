"""The meshes of FaceMeshAligner beside those of MediaPipe itself, and how long both take.

    python benchmarks/face_mesh.py SHARED [--every 1] [--turned 200] [--json FILE]

SHARED holds ``data/celeba_prnet/images``, ``data/identities/images``, ``data/lfw/images`` and ``data/fairface/images``.
MediaPipe (0.10.21) is run as its users would, without this package's check of turned faces. ``--every 10`` takes every
tenth photograph. Distances are shares of the distance between the eyes; of several faces the largest is compared. Times
are wall-clock times of works that take turns; the larger the load of the machine, the less they say.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from captum_canonical.adapters import FaceMeshAligner, MediaPipeAligner
from captum_canonical.faces.photos import read_photo
from timing import alternated, machine

FOLDERS = {
    "CelebA": "celeba_prnet/images",
    "identities": "identities/images",
    "LFW": "lfw/images",
    "FairFace": "fairface/images",
}
EYES = ((33, 133), (263, 362))  # outer and inner corner of the right and the left eye
WHO = {(True, True): "both", (True, False): "only MediaPipe", (False, True): "only ours", (False, False): "neither"}
Find = Callable[[np.ndarray], "list[np.ndarray]"]


def paths_of(shared: Path, every: int) -> dict[str, list[Path]]:
    found = {name: sorted((shared / "data" / folder).rglob("*.[jp][pn]g")) for name, folder in FOLDERS.items()}
    return {name: paths[::every] for name, paths in found.items()}


def largest(faces: Sequence[np.ndarray]) -> np.ndarray | None:
    """By the area of the box around the vertices, as aligners choose."""
    return max(faces, key=lambda face: np.prod(np.ptp(face[:, :2], axis=0)), default=None)


def eye_distance(face: np.ndarray) -> float:
    right, left = (face[list(pair), :2].mean(0) for pair in EYES)
    return float(np.linalg.norm(right - left))


def compare(paths: Sequence[Path], theirs: Find, ours: Find) -> tuple[Counter[str], list[np.ndarray]]:
    """In which photographs each finds a face, and how far apart the vertices are where both do."""
    counts, distances = Counter(dict.fromkeys(WHO.values(), 0)), []
    for path in paths:
        photo = read_photo(path)
        one, other = largest(theirs(photo)), largest(ours(photo))
        counts[WHO[one is not None, other is not None]] += 1
        if one is not None and other is not None:
            distances.append(np.linalg.norm(one - other, axis=1) / eye_distance(one))
    return counts, distances


def summary(counts: Counter[str], distances: Sequence[np.ndarray]) -> dict[str, float]:
    everything, farthest = np.stack(distances), np.array([each.max() for each in distances])
    shares = {"mean %": everything.mean(), "maximum %": farthest.max(), "median of maxima %": np.median(farthest)}
    return {**counts, "farther than 2 %": int((farthest > 0.02).sum()), **{name: 100 * x for name, x in shares.items()}}


def turned_photographs(paths: Sequence[Path]) -> dict[str, int]:
    """Photographs turned by 90, 180 and 270 degrees: found with the right turn, refused, or silently wrong."""
    aligner, counts = FaceMeshAligner(on_missing="skip"), {"right": 0, "refused": 0, "wrong": 0}
    for number, path in enumerate(paths):
        photo, quarters = read_photo(path), number % 3 + 1
        mesh = aligner([np.ascontiguousarray(np.rot90(photo, quarters))])
        turn = mesh.quality["turn"].item()  # back, clockwise
        counts["refused" if mesh.missing else "right" if turn == 90 * quarters else "wrong"] += 1
    return counts


def times(paths: Sequence[Path], theirs: Find, rounds: int) -> dict[str, float]:
    """Milliseconds per photograph of LFW, which have one size; the median of some rounds."""
    photos = [read_photo(path) for path in paths]
    ours = FaceMeshAligner(on_missing="skip")
    plain = FaceMeshAligner(on_missing="skip", turned=False)
    works: dict[str, Callable[[], object]] = {
        "MediaPipe": lambda: [theirs(photo) for photo in photos],
        "ours, one by one": lambda: [ours.find_all([photo], torch.device("cpu")) for photo in photos],
        "ours, batches of 16": lambda: ours.find_all(photos, torch.device("cpu")),
        "upright only, batches of 16": lambda: plain.find_all(photos, torch.device("cpu")),
        "ours, a call for each": lambda: [ours([photo]) for photo in photos],
        "ours, a call for 16": lambda: [ours(photos[start : start + 16]) for start in range(0, len(photos), 16)],
    }
    return {name: 1e3 * statistics.median(each) / len(photos) for name, each in alternated(works, rounds).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--turned", type=int, default=200, help="how many photographs to turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    paths = paths_of(arguments.shared, arguments.every)
    aligners = {"as they come": FaceMeshAligner(), "upright only": FaceMeshAligner(turned=False)}
    found: dict[str, object] = {"machine": machine(), "every": arguments.every}
    with MediaPipeAligner().open() as theirs:
        lfw = paths["LFW"]
        found["milliseconds per photograph"] = times(lfw[:: max(1, len(lfw) // 64)][:64], theirs, arguments.rounds)
        print(json.dumps(found, indent=1), flush=True)
        for word, aligner in aligners.items():
            counts, distances = Counter[str](), []
            with aligner.open() as ours:
                for name, files in paths.items():
                    some = compare(files, theirs, ours)
                    counts, distances = counts + some[0], distances + some[1]
                    found[f"{name}, {word}"] = summary(*some)
                    print(name, word, found[f"{name}, {word}"], flush=True)
            found[f"all, {word}"] = summary(counts, distances)
    found["turned"] = turned_photographs(lfw[:: max(1, len(lfw) // arguments.turned)][: arguments.turned])
    print("turned", found["turned"])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
