"""The pictures of the paper's survey (section IV-C): photographs whose important parts are hidden."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import captum_canonical as cc
from captum_canonical.faces.images import to_arrays
from captum_canonical.faithfulness.explanations import explanation_images
from captum_canonical.faithfulness.masks import explanation_masks
from studies.paper.methods import CAMS, OnPhoto, one_by_one, others
from studies.paper.study import Results, Task, mean_map

SURVEYED = ("gender", "expression")
CMS, CMS_OF_ALL = "CMS", "CMS of all"
METHODS = (*CAMS, CMS, CMS_OF_ALL)
"""CMS: the mean over other photographs with the same answer, as in the benchmark; "of all": with any answer."""
PHOTOS = 12  # of each task, as in the paper
BUDGET = 0.2  # share of the face that is hidden
BRIGHT, DARK = 0.75, 1.1  # radii, in half sides of the box around the mesh, where the vignette begins and ends
SEED = 0


@dataclass(frozen=True)
class Stimulus:
    """One picture of the survey.

    Attributes:
        file: its name, a number that says nothing of the method.
        task, choice_1, choice_2: what is asked; these go to participants.
        photograph: row of the task's photographs, from 0.
        method: what chose the pixels that are hidden.
        truth: the network's answer for the unchanged photograph.
        mass: sum of the mask, in pixels.
    """

    file: str
    task: str
    choice_1: str
    choice_2: str
    photograph: int
    method: str
    truth: str
    mass: float

    @property
    def choices(self) -> tuple[str, str]:
        """The two answers."""
        return self.choice_1, self.choice_2


def two_answers(task: Task) -> tuple[int, int]:
    """The two most frequent answers, the lower class first."""
    counts = task.target.bincount(minlength=2)
    first, second = sorted(counts.sort(descending=True, stable=True).indices[:2].tolist())
    return first, second


def chosen_photographs(target: Tensor, answers: Sequence[int], count: int = PHOTOS) -> list[int]:
    """Random photographs with these answers: as many of each as there are, up to half, the rest of the other."""
    generator = torch.Generator().manual_seed(SEED)
    groups = []
    for answer in answers:
        rows = torch.nonzero(target == answer).flatten()
        groups.append(rows[torch.randperm(len(rows), generator=generator)].tolist())
    least = count // 2
    shares = [min(len(group), max(least, count - len(other))) for group, other in (groups, groups[::-1])]
    return sorted(row for group, share in zip(groups, shares, strict=True) for row in group[:share])


def mean_without(
    maps: Tensor, coverage: Tensor, target: Tensor, row: int, face: cc.CanonicalFace, alike: bool = True
) -> Tensor:
    """(H_F, W_F) the CMS of all other photographs, or of those with the same answer (if there are any)."""
    rest = torch.arange(len(target)) != row
    same = rest & (target == target[row])
    rest = same if alike and same.any() else rest
    return mean_map(maps[rest], coverage[rest], face)


def heat_maps(results: Results, task: Task, rows: list[int]) -> dict[str, Tensor]:
    """For each method (N, 1, H, W), what it says of some photographs."""

    def cams() -> dict[str, np.ndarray]:
        few, methods = task.rows(rows), others(task, results.settings)
        return {name: one_by_one(OnPhoto(methods[name][0]), few, range(len(rows))).numpy() for name in CAMS}

    found = {name: torch.from_numpy(maps) for name, maps in results.arrays(f"survey_{task.name}", cams).items()}
    maps, coverage = results.maps(task.name)
    for name in (CMS, CMS_OF_ALL):
        parts = [mean_without(maps, coverage, task.target, row, results.canonical, name == CMS) for row in rows]
        means = torch.stack(parts)[:, None].float()
        found[name] = cc.CanonicalProjector(None).reproject(means, unfolded(task.mesh[rows]))
    return {name: found[name] for name in METHODS}


def unfolded(mesh: cc.FaceMesh) -> cc.FaceMesh:
    """The mesh with all vertices seen: else specks beside the nose, which hides them, would show through a mask."""
    return replace(mesh, visible=torch.ones_like(mesh.visible))


def vignette(mesh: cc.FaceMesh) -> Tensor:
    """(N, 1, H, W) brightness: 1 in the middle of each face, 0 beyond its outline, smooth between."""
    height, width = mesh.image_size
    left, top, right, bottom = mesh.boxes.double()[:, :, None, None].unbind(1)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
    share = (((across**2 + down**2).sqrt() - BRIGHT) / (DARK - BRIGHT)).clamp(0, 1)
    return (1 - share * share * (3 - 2 * share))[:, None]


def hidden(task: Task, maps: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each method negative explanation images (Eq. 9) under the vignette, and the masses of their masks.

    Masks are 1 on the highest pixels and 0 elsewhere. Spread in proportion to the map, as in the benchmark, a broad map
    darkens the whole face by a tenth, and people read through that.
    """
    light = vignette(task.mesh)
    everywhere = torch.ones(1, 1, *cc.CanonicalFace.default().size)
    face = cc.CanonicalProjector(None).reproject(everywhere, unfolded(task.mesh))
    area = (face > 0) & (light > 0.5)  # where the vignette is dark already, a mask would hide nothing
    pictures, masses = {}, {}
    for name, heat in maps.items():
        masks = explanation_masks(heat, area, mass="top", budget=BUDGET)
        pictures[name] = explanation_images(task.photos, masks, fill="zero") * light.to(task.photos.dtype)
        masses[name] = masks.mass
    return pictures, masses


def survey(results: Results) -> list[Stimulus]:
    """All pictures of the survey; made once, because answers name their files."""
    folder = results.out / "survey"
    if (folder / "key.csv").exists():
        return read_key(folder / "key.csv")
    folder.mkdir(parents=True, exist_ok=True)
    made: list[tuple[np.ndarray, dict]] = []
    for name in SURVEYED:
        task = results.task(name)
        choices = two_answers(task)
        rows = chosen_photographs(task.target, choices)
        few, names = task.rows(rows), [task.class_name(choice) for choice in choices]
        pictures, masses = hidden(few, heat_maps(results, task, rows))
        for method in METHODS:
            for place, row in enumerate(rows):
                truth, mass = task.class_name(int(few.target[place])), round(float(masses[method][place]), 6)
                own = {"photograph": row, "method": method, "truth": truth, "mass": mass}
                shown = to_arrays(pictures[method][place : place + 1])[0]
                made.append((shown, {"task": name, "choice_1": names[0], "choice_2": names[1], **own}))
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(SEED)).tolist()
    stimuli = []
    for number, index in enumerate(order, 1):
        stimuli.append(Stimulus(f"{number:03d}.png", **made[index][1]))
        Image.fromarray(made[index][0]).save(folder / stimuli[-1].file)
    names = [field.name for field in fields(Stimulus)]
    write_csv(folder / "stimuli.csv", names[:4], [asdict(stimulus) for stimulus in stimuli])
    write_csv(folder / "key.csv", names, [asdict(stimulus) for stimulus in stimuli])  # the last: all is done
    return stimuli


def read_key(path: Path) -> list[Stimulus]:
    """The pictures of a survey that was made before."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Stimulus(**{**row, "photograph": int(row["photograph"]), "mass": float(row["mass"])}) for row in rows]


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """These columns of some rows; the file appears when it is complete."""
    with open(path.with_suffix(".part"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".part").replace(path)
