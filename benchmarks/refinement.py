"""How far the maps of CanonicalOcclusion.refine are from the complete ones, on trained networks and real photographs.

    python benchmarks/refinement.py --images DIR --models DIR [--photos 20] [--json FILE]

For each number of points: the distance of a map from the complete one as a share of its L2 norm, the correlation of
the two, and the estimate of that distance (``expected_change``) divided by the truth; medians over photographs, and
the lowest and highest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import captum_canonical as cc
import networks  # noqa: F401  # puts examples/ on the path
import real_networks
from captum_canonical.faces.photos import list_photos


def stages(study: real_networks.Study) -> list[cc.RefinedMaps]:
    """All results of refine for the photographs of a study."""
    patch = 2 * int(real_networks.PATCH * study.photos.shape[-1] / 2) + 1
    method = cc.CanonicalOcclusion(study.confidence, study.mesh)
    arguments = {"baselines": study.fill, "patch_size": patch, "additional_forward_args": study.value}
    return list(method.refine(study.photos, study.target, **arguments))


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
    faces = real_networks.find_faces(list_photos(args.images)[: args.photos])
    table: dict[str, object] = {"photographs": len(faces)}
    for task in ("gender", "age", "expression", "pose"):
        for build in real_networks.TASKS[task]:
            study = build(args.models, faces)
            label = study.label.replace("\n", ", ")
            table[label] = rows = compare(stages(study))
            for row in rows:
                cells = (f"{name} {v[0]:.2f} ({v[1]:.2f}-{v[2]:.2f})" for name, v in row.items() if name != "points")
                print(f"{label:24} {row['points']:4} points  " + "  ".join(cells), flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
