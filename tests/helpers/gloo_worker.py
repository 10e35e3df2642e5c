"""One of several gloo processes that share metrics; started by tests/saliency/test_metric.py.

Arguments: rank, number of ranks, folder. Rank r reads its shards of each case (maps and coverage, perhaps of no image
at all) from ``shards<r>.pt`` in the folder. To ``results<r>.pt`` it writes for each case what it computed, what it
computed after rank 0 alone has had one more image, and the number of images it has seen itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.saliency.result import ModelSaliency


def run(rank: int, shard: dict[str, Tensor]) -> dict[str, Any]:
    metric = CanonicalModelSaliency(CanonicalFace.default(size=16))
    if len(shard["maps"]):
        metric.update(shard["maps"], shard["coverage"])
    first = values_of(metric.compute())
    if rank == 0:  # the next compute() must be collective on all ranks all the same
        metric.update(shard["maps"][:1], shard["coverage"][:1])
    second = values_of(metric.compute())
    return {"first": first, "second": second, "images": int(metric.images)}


def values_of(saliency: ModelSaliency) -> dict[str, Any]:
    return {name: getattr(saliency, name) for name in ("mean", "variance", "count", "coverage", "n")}


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = (folder / "rendezvous").as_uri()
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=ranks)
    try:
        shards = torch.load(folder / f"shards{rank}.pt", weights_only=True)
        torch.save([run(rank, shard) for shard in shards], folder / f"results{rank}.pt")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
