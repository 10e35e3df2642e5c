"""Make-up and its controls: where they go on the canonical face, and photographs with them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

import captum_canonical as cc
from studies.face_nets.networks import LUMA
from studies.paper.stimuli import unfolded
from studies.paper.study import Task

EYES, LIPS, BOTH, CONTROL = "eye make-up", "lipstick", "both", "control"
KINDS = (EYES, LIPS, BOTH, f"{CONTROL} of {EYES}", f"{CONTROL} of {LIPS}", f"{CONTROL} of {BOTH}")

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
