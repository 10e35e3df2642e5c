"""The painted make-up of the reproduced paper: where it goes, how much of it, and what is measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import captum_canonical as cc
from face_tools import mesh_of
from studies.face_nets.networks import LUMA
from studies.paper import makeup
from studies.paper.makeup import CHOSEN, MINUS, Half, beneath, effects, halves
from studies.paper.paint import BOTH, CONTROL, EYES, KINDS, LIPS, paint_masks, painted
from studies.paper.study import Settings, Task

SIDE = 64
PEOPLE, FACE_SIZE = 6, 224
HALVES = [Half(torch.tensor([0, 2, 4]), EYES), Half(torch.tensor([1, 3, 5]), LIPS)]


class Darkness(nn.Module):
    """Two logits; that of one class falls with the mean brightness, so that every paint moves it by a known amount."""

    def __init__(self, dark: int) -> None:
        super().__init__()
        self.dark = dark

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 2, dtype=x.dtype)
        logits[:, self.dark] = -20 * (x.mean((1, 2, 3)) - 0.5)
        return logits


def small_task(name: str = "gender", dark: int = 1, photos: Tensor | None = None) -> Task:
    moved = 3 * torch.rand(PEOPLE, 2, generator=torch.Generator().manual_seed(2))
    mesh = mesh_of(cc.CanonicalFace.default(SIDE), moved=moved.tolist())
    photos = 0.3 + 0.5 * torch.rand(PEOPLE, 3, SIDE, SIDE) if photos is None else photos
    net = Darkness(dark)
    odds, probability = cc.ClassConfidence(net, link="log_odds"), cc.ClassConfidence(net)
    return Task(
        name, f"{name} net", odds, probability, "log-odds", net, net(photos).argmax(1), photos, mesh, photos[:1]
    )


# ------------------------------------------------------------------------------------------------------------ masks
def test_masks_are_symmetric_and_lie_where_they_are_called(face: cc.CanonicalFace) -> None:
    masks = paint_masks(face)
    assert set(masks) == {EYES, LIPS, f"{CONTROL} of {EYES}", f"{CONTROL} of {LIPS}"}
    for mask in masks.values():
        assert mask.shape == face.size and 0 <= mask.min() and 0.5 < mask.max() <= 1
        torch.testing.assert_close(mask, mask.flip(1), rtol=0, atol=0)
        assert not (mask[~face.raster.covered] != 0).any()
    lips = face.region_mask("upper_lip") | face.region_mask("lower_lip")
    lips |= face.region_mask("mouth_corner_left") | face.region_mask("mouth_corner_right")
    around_eyes = torch.zeros_like(lips)
    for side in ("left", "right"):
        for part in ("eye", "outer_eye_corner", "brow"):
            around_eyes |= face.region_mask(f"{part}_{side}")
    assert float(masks[LIPS][lips].sum() / masks[LIPS].sum()) > 0.98
    assert float(masks[EYES][around_eyes].sum() / masks[EYES].sum()) > 0.9
    for kind in (EYES, LIPS):
        control = masks[f"{CONTROL} of {kind}"]
        assert float(control.sum()) == pytest.approx(float(masks[kind].sum()))  # the same shape, all of it on the face
        assert not ((control > 0) & (masks[EYES] + masks[LIPS] > 0)).any()
    pupil = face.vertices[[159, 145], :2].mean(0).long()
    assert masks[EYES][pupil[1], pupil[0]] < 0.3 * masks[EYES].max()  # lids, not eyeballs


def test_a_returned_mask_is_the_callers_own(face: cc.CanonicalFace) -> None:
    paint_masks(face)[EYES].zero_()
    assert paint_masks(face)[EYES].any()


# ------------------------------------------------------------------------------------------------------------ paint
def test_paint_changes_no_pixel_outside_its_mask(face: cc.CanonicalFace) -> None:
    task = small_task()
    before = task.photos.clone()
    images = painted(task, face)
    torch.testing.assert_close(task.photos, before, rtol=0, atol=0)
    assert tuple(images) == KINDS
    projector, masks = cc.CanonicalProjector(None), paint_masks(face)
    where = {kind: projector.reproject(mask[None, None], task.mesh) > 0 for kind, mask in masks.items()}
    where[BOTH] = where[EYES] | where[LIPS]
    where[f"{CONTROL} of {BOTH}"] = where[f"{CONTROL} of {EYES}"] | where[f"{CONTROL} of {LIPS}"]
    for kind, photos in images.items():
        changed = (photos != task.photos).any(1, keepdim=True)
        assert changed.any() and not (changed & ~where[kind]).any()
        assert photos.min() >= 0 and photos.max() <= 1


def test_a_control_changes_as_much_as_its_make_up(face: cc.CanonicalFace) -> None:
    task = small_task()
    images = painted(task, face)
    for kind in (EYES, LIPS, BOTH):
        paint, control = ((images[k] - task.photos).abs().sum((1, 2, 3)) for k in (kind, f"{CONTROL} of {kind}"))
        torch.testing.assert_close(paint, control, rtol=1e-4, atol=1e-4)


def test_lips_become_redder_and_eyes_darker_and_slightly_purple(face: cc.CanonicalFace) -> None:
    skin = torch.tensor([0.8, 0.6, 0.5]).view(1, 3, 1, 1).expand(PEOPLE, 3, SIDE, SIDE).contiguous()
    task = small_task(photos=skin)
    change = {kind: (photos - skin).sum((0, 2, 3)) for kind, photos in painted(task, face).items()}
    red, green, blue = change[LIPS].tolist()
    assert red > green and red > blue and green < 0
    shade = change[EYES] / torch.tensor([0.8, 0.6, 0.5])
    assert (shade < 0).all() and shade[2] > shade[1]  # blue survives better than green


def test_paint_commutes_with_turning_a_photograph_grey(face: cc.CanonicalFace) -> None:
    colour = small_task()
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)
    grey = small_task("gender_mini", photos=(colour.photos * luma).sum(1, keepdim=True))
    paints = painted(colour, face), painted(grey, face)
    for kind in (EYES, LIPS, BOTH):
        torch.testing.assert_close((paints[0][kind] * luma).sum(1, keepdim=True), paints[1][kind], rtol=0, atol=0.01)


# --------------------------------------------------------------------------------------------------------- measures
@pytest.mark.parametrize(("name", "column"), [("gender", 1), ("gender_mini", 0)])
def test_changes_are_of_the_log_odds_of_female_whatever_the_answer(name: str, column: int) -> None:
    task = small_task(name, dark=column)
    assert makeup.female(task) == column
    darker = {kind: task.photos - 0.01 * (step + 1) for step, kind in enumerate(KINDS)}
    found = {effect.kind: effect for effect in effects(task, darker, HALVES, {EYES: 0.5}, 50)}
    for step, kind in enumerate(KINDS):  # log-odds of two classes: the difference of their logits
        expected = torch.full((PEOPLE,), 0.2 * (step + 1), dtype=torch.float64)
        torch.testing.assert_close(found[kind].change, expected, rtol=0, atol=1e-4)
        assert (found[kind].low, found[kind].high) == pytest.approx((0.2 * (step + 1),) * 2, abs=1e-4)
        assert found[kind].pixels == pytest.approx(2.55 * (step + 1), rel=1e-3)
    assert found[f"{EYES} {MINUS}"].mean == pytest.approx(-0.6, abs=1e-4)
    assert found[f"{EYES} {MINUS}"].flipped is None
    assert found[EYES].beneath == 0.5 and found[LIPS].beneath is None


def test_the_probability_changes_as_the_log_odds_say() -> None:
    grey = torch.full((PEOPLE, 3, SIDE, SIDE), 0.5)  # log-odds 0, and 2 if a tenth darker: sigmoid(2) = 0.8808
    found = effects(small_task(photos=grey), {kind: grey - 0.1 for kind in KINDS}, HALVES, {}, 50)
    assert found[0].points == pytest.approx((38.08,) * 3, abs=0.01)
    assert found[-1].points == pytest.approx((0,) * 3, abs=1e-6)


# --------------------------------------------------------------------------------------------------------- held out
def maps_of(face: cc.CanonicalFace, kinds: list[str]) -> tuple[Tensor, Tensor]:
    """One map for each kind of make-up, 1 beneath it and 0 elsewhere."""
    masks = paint_masks(face)
    maps = torch.stack([(masks[kind] > 0)[None].float() for kind in kinds])
    return maps, torch.ones_like(maps)


def test_each_half_is_chosen_for_by_the_other(face: cc.CanonicalFace) -> None:
    """Maps that lie beneath the lips in one half make the other half wear lipstick, and never themselves."""
    rows = [half.rows for half in halves(*maps_of(face, [EYES] * PEOPLE), face)]
    assert sorted(torch.cat(rows).tolist()) == list(range(PEOPLE)) and len(rows[0]) == PEOPLE // 2
    kinds = [LIPS if row in rows[0].tolist() else EYES for row in range(PEOPLE)]
    first, second = halves(*maps_of(face, kinds), face)
    assert (first.kind, second.kind) == (EYES, LIPS)


def test_the_map_beneath_paint_is_weighted_by_its_opacity(face: cc.CanonicalFace) -> None:
    values = beneath(*maps_of(face, [LIPS]), face)
    masks = paint_masks(face)
    assert values[LIPS] == pytest.approx(1.0, abs=1e-6) and values[f"{CONTROL} of {EYES}"] == 0
    expected = float(masks[EYES][masks[LIPS] > 0].sum() / masks[EYES].sum())
    assert values[EYES] == pytest.approx(expected, abs=1e-6)


def test_what_is_held_out_wears_what_was_chosen_for_it() -> None:
    """Paint of the eyes darkens by 0.01, of the lips by 0.02, and their controls not at all: 0.2 and 0.4 log-odds."""
    task = small_task()
    darker = {EYES: 0.01, LIPS: 0.02}
    found = effects(task, {kind: task.photos - darker.get(kind, 0) for kind in KINDS}, HALVES, {}, 50)[-1]
    assert found.kind == f"{CHOSEN}, {MINUS}"
    expected = torch.tensor([0.2] * 3 + [0.4] * 3, dtype=torch.float64)  # the first half's photographs, then the rest
    torch.testing.assert_close(found.change, expected, rtol=0, atol=1e-4)


def test_answers_that_change_are_counted() -> None:
    brightness = torch.tensor([0.48, 0.49, 0.51, 0.52, 0.6, 0.7]).view(-1, 1, 1, 1)
    task = small_task(photos=brightness.expand(-1, 3, SIDE, SIDE).contiguous())
    images = {kind: task.photos - 0.03 for kind in KINDS}
    assert {effect.flipped for effect in effects(task, images, HALVES, {}, 50)[: len(KINDS)]} == {2}


def test_p_values_are_those_of_all_sign_patterns_corrected_for_their_number() -> None:
    changes = [torch.tensor(values).double() for values in ([1.0, 2, 3, 4], [1.0, -1, 1, -1])]
    found = [makeup.Effect("net", "paint", change, 0.0, 0.0, 0.0) for change in changes]
    assert makeup.p_values(found, 1000) == pytest.approx([2 * 2 / 16, 1.0])


def test_what_is_not_detected_is_said_to_be() -> None:
    rows = [f"{kind}{more}" for kind in (EYES, LIPS, BOTH) for more in ("", f" {MINUS}")]
    found = [makeup.Effect("net", kind, torch.zeros(2), 0.25, 0.0, 0.5) for kind in rows]
    found.append(makeup.Effect("net", f"{CHOSEN}, {MINUS}", torch.zeros(2), 0.5, 0.1, 0.9))
    (text,) = makeup.sentences_about(found, [0.01, 0.5, *[0.01] * 5])
    assert text.startswith(f"net: {EYES} +0.25 (p = 0.01), no difference detected, +0.25 (p = 0.5) {MINUS}; {LIPS}")
    assert text.count("no difference detected") == 1


# ----------------------------------------------------------------------------------------------------------- figure
def test_the_figure_tells_every_paint_of_every_network(face: cc.CanonicalFace, tmp_path) -> None:
    photos = 0.3 + 0.4 * torch.rand(PEOPLE, 1, SIDE, SIDE)
    tasks = {"gender": small_task(), "gender_mini": small_task("gender_mini", dark=0, photos=photos)}
    maps = maps_of(face, [EYES] * PEOPLE)
    settings = Settings(resamples=50, permutations=100)
    parts = {"task": tasks.get, "maps": lambda name: maps, "canonical": face, "settings": settings}
    results = SimpleNamespace(**parts, out=tmp_path, command="RUN")
    figure = makeup.figure_17(results, tmp_path / "fig17.png")
    lines = figure.table.splitlines()
    assert figure.n == PEOPLE and len(lines) == 2 + 2 * (len(KINDS) + 4)
    # All paints darken, and this network calls dark faces female.
    assert all("| +" in line for line in lines[2:5])
    assert np.isfinite([float(line.split("|")[5]) for line in lines[2:]]).all()
    assert f"gender net: {EYES} and {EYES}; gender_mini net: {EYES} and {EYES}." in figure.text
    assert (tmp_path / "fig17.png").stat().st_size > 5000
    page = (tmp_path / makeup.ALONE).read_text()
    assert "![" not in page and "In the picture" not in page and "Written by `RUN`" in page
    assert all(line in page for line in lines)
