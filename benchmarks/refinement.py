"""How far the maps of CanonicalOcclusion.refine are from the complete ones, on trained networks and real photographs.

    python benchmarks/refinement.py --images DIR --models DIR [--photos 20] [--json FILE]

For each number of points: the distance of a map from the complete one as a share of its L2 norm, the correlation of
the two, and the estimate of that distance (``expected_change``) divided by the truth; medians over photographs, and
the lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.faces.photos import list_photos
from studies.face_nets.photographs import find_faces
from studies.face_nets.tasks import FIGURE_1, Question, ask, patch_side


def stages(question: Question) -> list[cc.RefinedMaps]:
    """All results of refine for the photographs."""
    patch = patch_side(question.photos.shape[-1])
    method = cc.CanonicalOcclusion(question.confidence, question.mesh)
    arguments = {"baselines": question.fill, "patch_size": patch, "additional_forward_args": question.value}
    return list(method.refine(question.photos, question.target, **arguments))


def spread(values: Tensor) -> list[float]:
    """Median, lowest and highest."""
    return [float(values.median()), float(values.min()), float(values.max())]


def compare(results: list[cc.RefinedMaps]) -> list[dict[str, object]]:
    """A row for each approximate result."""
    full = results[-1].attributions.double().flatten(1)
    rows = []
    for result in results[:-1]:
        maps = result.attributions.double().flatten(1)
        distance = (maps - full).norm(dim=1) / maps.norm(dim=1)
        correlation = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(maps, full, strict=True)]
        rows.append(
            {
                "points": result.num_points,
                "distance": spread(distance),
                "correlation": spread(torch.tensor(correlation)),
                "estimate_over_truth": spread(result.expected_change / distance),
            }
        )
    return rows


def main() -> None:
    """Prints a table and, if asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--models", type=Path, required=True, help="folder of the trained networks")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    faces = find_faces(list_photos(args.images)[: args.photos])
    table: dict[str, object] = {"photographs": len(faces)}
    for task in ("gender", "age", "expression", "pose"):
        for name in FIGURE_1[task]:
            question = ask(name, args.models, faces)
            label = question.label.replace("\n", ", ")
            table[label] = rows = compare(stages(question))
            for row in rows:
                cells = (f"{name} {v[0]:.2f} ({v[1]:.2f}-{v[2]:.2f})" for name, v in row.items() if name != "points")
                print(f"{label:24} {row['points']:4} points  " + "  ".join(cells), flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
