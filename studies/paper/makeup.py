"""Painted make-up and what it does to two gender networks: figure 17.

Two questions. What does make-up change, beyond what the same paint changes elsewhere? And does the model-level map of
some photographs say which make-up will change others? For the second, the photographs are halved: the mean map of one
half chooses between eyes and lips, and the other half is painted, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical.statistics.bootstrap import bootstrap_interval
from captum_canonical.statistics.permutation import holm, sign_flip_p_values
from studies.paper.drawing import SIDE, new_figure, picture
from studies.paper.page import Figure, table, write_alone
from studies.paper.paint import BOTH, CONTROL, EYES, LIPS, paint_masks, painted
from studies.paper.study import Results, Task, mean_map

NETWORKS = ("gender", "gender_mini")
FEMALE = ("female", "woman")
MINUS = "minus its control"
CHOSEN = "where the other half's map is larger"
SHOWN = (EYES, LIPS, BOTH, f"{CONTROL} of {BOTH}")
COMPARED = tuple((kind, f"{CONTROL} of {kind}") for kind in (EYES, LIPS, BOTH))
ALONE, HEADING = "make_up.md", "Make-up and gender: what painted make-up changes"
SAMPLES = 3  # photographs of each answer in the picture
LEVEL = 0.05
SIDES = (("paint", ""), ("control", f"{CONTROL} of "))  # and what stands before the kind of make-up


# ------------------------------------------------------------------------------------------------------- measures
@dataclass(frozen=True, eq=False)
class Effect:
    """What a kind of paint does to a network.

    Attributes:
        network, kind: titles.
        change: (N,) float64, log-odds of 'female' with paint minus without (or minus those with the control).
        mean, low, high: of the change, with its 95 % interval over photographs.
        points: the same three of the probability of 'female', in percentage points.
        flipped: photographs whose answer is another.
        pixels: mean change of a pixel of the photograph, on the scale 0..255.
        beneath: mean value of the CMS beneath the paint, in its unit.
    """

    network: str
    kind: str
    change: Tensor
    mean: float
    low: float
    high: float
    points: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flipped: int | None = None
    pixels: float | None = None
    beneath: float | None = None


def female(task: Task) -> int:
    """The class that is called female or woman."""
    return next(index for index in (0, 1) if task.class_name(index) in FEMALE)


@dataclass(frozen=True, eq=False)
class Half:
    """Photographs, and what the mean map of the others says of them.

    Attributes:
        rows: of the photographs.
        kind: of make-up beneath which the map of the others is larger.
    """

    rows: Tensor
    kind: str


def halves(maps: Tensor, coverage: Tensor, face: cc.CanonicalFace) -> list[Half]:
    """Two random halves of the photographs (fixed seed), and which make-up the other half's map chooses for each."""
    order = torch.randperm(len(maps), generator=torch.Generator().manual_seed(0))
    parts = order[: len(order) // 2], order[len(order) // 2 :]
    found = []
    for rows, others in (parts, parts[::-1]):
        value = beneath(maps[others], coverage[others], face)
        found.append(Half(rows.sort().values, max((EYES, LIPS), key=value.__getitem__)))
    return found


def beneath(maps: Tensor, coverage: Tensor, face: cc.CanonicalFace) -> dict[str, float]:
    """Mean of the CMS of some maps beneath each kind of paint, weighted by its opacity."""
    mean = mean_map(maps, coverage, face)
    return {kind: float((mean * mask).sum() / mask.sum()) for kind, mask in paint_masks(face).items()}


@torch.no_grad()
def effects(
    task: Task, images: dict[str, Tensor], parts: Sequence[Half], values: dict[str, float], resamples: int
) -> list[Effect]:
    """What each kind of paint changes, by how much more than its control, and where the map of others points.

    Args:
        task: network and photographs.
        images: the photographs with each kind of paint.
        parts: all photographs, each in one of them.
        values: of the CMS beneath the paints.
        resamples: for intervals.
    """
    column = female(task)
    plain = task.explained(task.photos)[:, column].double()
    odds = {kind: task.explained(photos)[:, column].double() for kind, photos in images.items()}

    def effect(kind: str, after: Tensor, before: Tensor, **more: float | None) -> Effect:
        points = _interval(100 * (after.sigmoid() - before.sigmoid()), resamples)
        return Effect(task.title, kind, after - before, *_interval(after - before, resamples), points, **more)

    found = []
    for kind, after in odds.items():
        flipped = int(((after > 0) != (plain > 0)).sum())
        pixels = 255 * float((images[kind] - task.photos).abs().mean())
        measured = {"flipped": flipped, "pixels": pixels, "beneath": values.get(kind)}
        found.append(effect(kind, after, plain, **measured))
    found += [effect(f"{kind} {MINUS}", odds[kind], odds[control]) for kind, control in COMPARED]
    sides = {side: torch.cat([odds[before + part.kind][part.rows] for part in parts]) for side, before in SIDES}
    return [*found, effect(f"{CHOSEN}, {MINUS}", sides["paint"], sides["control"])]


def _interval(change: Tensor, resamples: int) -> tuple[float, float, float]:
    """The mean of a change, and its 95 % interval over photographs."""
    low, high = bootstrap_interval(change, torch.arange(len(change)), resamples=resamples)
    return float(change.mean()), low, high


def p_values(found: Sequence[Effect], permutations: int) -> list[float]:
    """Two-sided sign-flip tests that paint changes nothing, corrected for their number (Holm)."""
    single = [sign_flip_p_values(effect.change[None], permutations=permutations) for effect in found]
    return holm(torch.cat(single)).tolist()


# --------------------------------------------------------------------------------------------------------- figure
def figure_17(results: Results, path: Path) -> Figure:
    """Fig. 17: the same photographs without and with painted make-up."""
    tasks = {name: results.task(name) for name in NETWORKS}
    images = {name: painted(task, results.canonical) for name, task in tasks.items()}
    _draw(tasks[NETWORKS[0]], images[NETWORKS[0]], path)
    found, choices = [], []
    for name, task in tasks.items():
        maps = results.maps(name)
        parts, values = halves(*maps, results.canonical), beneath(*maps, results.canonical)
        found += effects(task, images[name], parts, values, results.settings.resamples)
        choices.append(f"{task.title}: {' and '.join(part.kind for part in parts)}")
    p = p_values(found, results.settings.permutations)
    text = (
        "Make-up is painted on the canonical face, carried into each photograph by its mesh and blended in (the paper "
        "collected photographs of people with and without it). The controls are the same shapes and colours on cheeks "
        "and forehead, with as large a sum of pixel changes in each photograph. Log-odds and probabilities are those "
        "of 'female', whatever the network's answer; intervals draw photographs anew; p are two-sided sign-flip tests "
        f"of the log-odds, corrected over all {len(found)} rows. None of the photographs is known to be new to the "
        "networks. Held out: the mean map of one half of the photographs chooses the make-up beneath which it is "
        "larger, the other half is painted, and the other way round; chosen for the first and the second half: "
        f"{'; '.join(choices)}. A map says where hiding changes the answer, which need not be where paint changes it "
        "most. Changes, positive towards 'female':"
    )
    sentences = sentences_about(found, p)
    figure = Figure("painted make-up", text, len(tasks[NETWORKS[0]].photos), _table(found, p))
    bullets = [f"- {sentence}" for sentence in sentences]
    write_alone(
        results, replace(figure, text="\n".join([f"n = {figure.n} photographs. {text}", "", *bullets])), ALONE, HEADING
    )
    shown = (
        f"In the picture the first photographs of each answer; below, the probability of {tasks[NETWORKS[0]].title}."
    )
    return replace(figure, text=" ".join([text, *sentences, shown]))


def _table(found: Sequence[Effect], p: Sequence[float]) -> str:
    head = ("network", "paint", "change of the log-odds of 'female'", "of its probability, points", "p (Holm)")
    rows: list[tuple] = [(*head, "answers changed", "mean pixel change", "CMS beneath")]
    for effect, chance in zip(found, p, strict=True):
        change = f"{effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"
        points = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*effect.points)
        measured = ("", "") if effect.pixels is None else (effect.flipped, f"{effect.pixels:.2f} of 255")
        value = "" if effect.beneath is None else f"{effect.beneath:.3f}"
        rows.append((effect.network, effect.kind, change, points, f"{chance:.3g}", *measured, value))
    return table(rows)


def sentences_about(found: Sequence[Effect], p: Sequence[float]) -> list[str]:
    """A sentence about each network."""
    parts = []
    for network in dict.fromkeys(effect.network for effect in found):
        own = {
            effect.kind: (effect, chance) for effect, chance in zip(found, p, strict=True) if effect.network == network
        }
        kinds = [
            f"{kind} {_came_out(*own[kind])}, {_came_out(*own[f'{kind} {MINUS}'])} {MINUS}" for kind, _ in COMPARED
        ]
        kinds.append(f"held out, {CHOSEN} {_came_out(*own[f'{CHOSEN}, {MINUS}'])} {MINUS}")
        parts.append(f"{network}: {'; '.join(kinds)}.")
    return parts


def _came_out(effect: Effect, chance: float) -> str:
    number = f"{effect.mean:+.2f} (p = {chance:.2g})"
    return number if chance < LEVEL else f"no difference detected, {number}"


@torch.no_grad()
def _draw(task: Task, images: dict[str, Tensor], path: Path) -> None:
    """A few photographs of each answer, one row each."""
    column = female(task)
    is_female = task.target == column
    rows = [row for answer in (~is_female, is_female) for row in torch.nonzero(answer).flatten()[:SAMPLES].tolist()]
    shown = {"plain": task.photos, **{kind: images[kind] for kind in SHOWN}}
    figure, axes = new_figure(len(shown) * SIDE, len(rows) * (SIDE + 0.2), len(rows), len(shown))
    for number, (line, row) in enumerate(zip(axes, rows, strict=True)):
        for axis, (kind, photos) in zip(line, shown.items(), strict=True):
            chance = float(task.confidence(photos[row : row + 1])[0, column])
            picture(axis, photos[row], kind if number == 0 else "", f"female {chance:.3f}")
    figure.savefig(path, bbox_inches="tight")
