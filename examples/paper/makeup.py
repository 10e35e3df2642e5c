"""Painted make-up and what it does to two gender networks: figure 17."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical.statistics.resampling import bootstrap_interval, holm, sign_flip_p_values
from face_nets import LUMA
from paper.drawing import SIDE, new_figure, picture
from paper.page import Figure, table
from paper.stimuli import unfolded
from paper.study import Results, Task

NETWORKS = ("gender", "gender_mini")
FEMALE = ("female", "woman")
EYES, LIPS, BOTH, CONTROL = "eye make-up", "lipstick", "both", "control"
MINUS = "minus its control"
KINDS = (EYES, LIPS, BOTH, f"{CONTROL} of {EYES}", f"{CONTROL} of {LIPS}", f"{CONTROL} of {BOTH}")
SHOWN = (EYES, LIPS, BOTH, f"{CONTROL} of {BOTH}")
COMPARED = tuple((kind, f"{CONTROL} of {kind}") for kind in (EYES, LIPS, BOTH))
SAMPLES = 3  # photographs of each answer in the picture
LEVEL = 0.05

# MediaPipe vertices on the person's right side; the left side is the mirror image.
UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
FOLD = (226, 247, 30, 29, 27, 28, 56, 190, 243)  # above the upper lid, halfway to the brow
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

LINER, SOFT = 0.012, 0.008  # width of the eyeliner, and of the edges' blur, as shares of the canonical face's side
FAINT = 0.02  # opacities below this are none
# What a fully painted pixel becomes: its luminance times these. It commutes with turning a photograph grey.
TINTS = {EYES: (0.33, 0.22, 0.38), LIPS: (1.25, 0.25, 0.40)}
OPACITY = {EYES: 0.75, LIPS: 0.65}
# Where the control of each goes, as shares of the canonical face's side: eyes down to the cheeks, lips up to the brow.
MOVED = {EYES: 0.19, LIPS: -0.54}


# ---------------------------------------------------------------------------------------------------------- paint
def paint_masks(face: cc.CanonicalFace) -> dict[str, Tensor]:
    """(H_F, W_F) float32 how much of each pixel of the canonical face is painted, 0..1; symmetric left to right.

    Returns:
        Masks of eye make-up (shadow and liner) and of lipstick, and of the same shapes moved to where no make-up goes.
    """
    return {name: mask.clone() for name, mask in _masks(face).items()}


@lru_cache(maxsize=2)
def _masks(face: cc.CanonicalFace) -> dict[str, Tensor]:
    shadow = 0.7 * _polygon(face, (*UPPER_LID, *FOLD[::-1]))
    opening = _polygon(face, (*UPPER_LID, *LOWER_LID[-2:0:-1]))
    liner = np.maximum(_line(face, UPPER_LID), _line(face, LOWER_LID)) * (1 - 0.6 * opening)
    eye = _soft(np.maximum(shadow * (1 - opening), liner), face)
    lips = _soft(_polygon(face, OUTER_LIPS) * (1 - _polygon(face, INNER_LIPS)), face)
    masks = {EYES: np.maximum(eye, eye[:, ::-1]), LIPS: np.maximum(lips, lips[:, ::-1])}
    for name, share in MOVED.items():
        masks[f"{CONTROL} of {name}"] = np.roll(masks[name], round(share * face.size[0]), axis=0)
    on_face = face.raster.covered
    return {name: torch.from_numpy(mask.copy()) * on_face for name, mask in masks.items()}


def _drawn(face: cc.CanonicalFace, vertices: Sequence[int]) -> np.ndarray:
    """(K, 1, 2) int32 places of vertices, in sixteenths of a pixel from the centre of the first."""
    return ((face.vertices[list(vertices), :2].numpy() - 0.5) * 16).round().astype(np.int32)[:, None]


def _polygon(face: cc.CanonicalFace, vertices: Sequence[int]) -> np.ndarray:
    mask = np.zeros(face.size, np.float32)
    return cv2.fillPoly(mask, [_drawn(face, vertices)], 1.0, shift=4)


def _line(face: cc.CanonicalFace, vertices: Sequence[int]) -> np.ndarray:
    mask, width = np.zeros(face.size, np.float32), max(1, round(LINER * face.size[1]))
    return cv2.polylines(mask, [_drawn(face, vertices)], False, 1.0, width, shift=4)


def _soft(mask: np.ndarray, face: cc.CanonicalFace) -> np.ndarray:
    blurred = cv2.GaussianBlur(mask, (0, 0), SOFT * face.size[1])
    return np.where(blurred < FAINT, 0, blurred.clip(0, 1))


def painted(task: Task, face: cc.CanonicalFace) -> dict[str, Tensor]:
    """For each kind of paint (N, C, H, W), the photographs with it; pixels outside its mask stay as they were.

    A control has the colour of its make-up and, in each photograph, as much of it as makes the sum of all pixels'
    changes the same (unless paint that covers all would still change less).
    """
    changes = {}
    for name, mask in paint_masks(face).items():
        kind = name.removeprefix(f"{CONTROL} of ")
        weight = cc.CanonicalProjector(None).reproject(mask[None, None], unfolded(task.mesh)).to(task.photos)
        change = OPACITY[kind] * weight * (tinted(task.photos, TINTS[kind]) - task.photos)
        if name != kind:  # a control, which comes after what it controls
            factor = _size(changes[kind]) / _size(change).clamp(min=1e-6)
            change = change * factor.clamp(max=1 / OPACITY[kind])[:, None, None, None]
        changes[name] = change
    changes[BOTH] = changes[EYES] + changes[LIPS]
    changes[f"{CONTROL} of {BOTH}"] = changes[f"{CONTROL} of {EYES}"] + changes[f"{CONTROL} of {LIPS}"]
    return {kind: (task.photos + changes[kind]).clamp(0, 1) for kind in KINDS}


def tinted(photos: Tensor, tint: tuple[float, float, float]) -> Tensor:
    """The photographs' luminance in a colour; grey photographs (N, 1, H, W) stay grey."""
    luma, colour = photos.new_tensor(LUMA), photos.new_tensor(tint)
    if photos.shape[1] == 1:
        return photos * (luma @ colour)
    return ((photos * luma.view(3, 1, 1)).sum(1, keepdim=True) * colour.view(3, 1, 1)).clamp(0, 1)


def _size(change: Tensor) -> Tensor:
    """(N,) sum of the magnitudes of all pixels' changes, averaged over channels."""
    return change.abs().mean(1).sum((1, 2))


# ------------------------------------------------------------------------------------------------------- measures
@dataclass(frozen=True, eq=False)
class Effect:
    """What a kind of paint does to a network.

    Attributes:
        network, kind: titles.
        change: (N,) float64, log-odds of 'female' with paint minus without (or minus those with the control).
        mean, low, high: of the change, with its 95 % interval over photographs.
        flipped: photographs whose answer is another.
        pixels: mean change of a pixel of the photograph, on the scale 0..255.
    """

    network: str
    kind: str
    change: Tensor
    mean: float
    low: float
    high: float
    flipped: int | None = None
    pixels: float | None = None


def female(task: Task) -> int:
    """The class that is called female or woman."""
    return next(index for index in (0, 1) if task.class_name(index) in FEMALE)


@torch.no_grad()
def effects(task: Task, images: dict[str, Tensor], resamples: int) -> list[Effect]:
    """What each kind of paint changes, and by how much more than its control."""
    column = female(task)
    plain = task.explained(task.photos)[:, column].double()
    odds = {kind: task.explained(photos)[:, column].double() for kind, photos in images.items()}

    def effect(kind: str, change: Tensor, **more: float | int) -> Effect:
        low, high = bootstrap_interval(change, torch.arange(len(change)), resamples=resamples)
        return Effect(task.title, kind, change, float(change.mean()), low, high, **more)

    found = []
    for kind, values in odds.items():
        flipped = int(((values > 0) != (plain > 0)).sum())
        pixels = 255 * float((images[kind] - task.photos).abs().mean())
        found.append(effect(kind, values - plain, flipped=flipped, pixels=pixels))
    return found + [effect(f"{kind} {MINUS}", odds[kind] - odds[control]) for kind, control in COMPARED]


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
    found = [e for name, task in tasks.items() for e in effects(task, images[name], results.settings.resamples)]
    p = p_values(found, results.settings.permutations)
    rows: list[tuple] = [
        ("network", "paint", "change of the log-odds of 'female'", "p (Holm)", "answers changed", "mean pixel change")
    ]
    for effect, chance in zip(found, p, strict=True):
        change = f"{effect.mean:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"
        measured = ("", "") if effect.pixels is None else (effect.flipped, f"{effect.pixels:.2f} of 255")
        rows.append((effect.network, effect.kind, change, f"{chance:.3g}", *measured))
    text = (
        "Make-up is painted on the canonical face, carried into each photograph by its mesh and blended in (the paper "
        "collected photographs of people with and without it). The controls are the same shapes and colours on cheeks "
        "and forehead, with as large a sum of pixel changes in each photograph. Log-odds are those of 'female', "
        "whatever the network's answer; intervals draw photographs anew; p are two-sided sign-flip tests, corrected "
        f"over all {len(found)} rows. In the picture the first photographs of each answer, with the probability of "
        f"'female' of {tasks[NETWORKS[0]].title} below. "
        f"Changes, positive towards 'female': {told(found, p)}"
    )
    return Figure("painted make-up", text, len(tasks[NETWORKS[0]].photos), table(rows))


def told(found: Sequence[Effect], p: Sequence[float]) -> str:
    """Sentences about what came out."""
    parts = []
    for network in dict.fromkeys(effect.network for effect in found):
        own = {
            effect.kind: (effect, chance) for effect, chance in zip(found, p, strict=True) if effect.network == network
        }
        kinds = [
            f"{kind} {_came_out(*own[kind])}, {_came_out(*own[f'{kind} {MINUS}'])} {MINUS}" for kind, _ in COMPARED
        ]
        parts.append(f"{network}: {'; '.join(kinds)}.")
    return " ".join(parts)


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
