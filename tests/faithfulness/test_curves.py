"""Removal curves: against a loop that hides one pixel after the other, by hand, and under what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_batches
from captum_canonical.faithfulness.fills import fill_pixels
from captum_canonical.faithfulness.imputation import ImputedFill
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.inference.scorer import Scorer


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


class Net(nn.Module):
    """A small network in float64 with two classes."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, dtype=torch.float64)
        self.head = nn.Linear(3 * (height - 2) * (width - 2), 2, dtype=torch.float64)
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self.head(self.conv(x).relu().flatten(1)).softmax(1)


@pytest.fixture
def net() -> Net:
    return Net(5, 6).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 2, 5, 6, dtype=torch.float64)


def one_by_one(
    score: Callable[[Tensor], float],
    image: Tensor,
    values: Tensor,
    area: Tensor,
    fill: str,
    steps: int,
    least_first: bool,
) -> list[float]:
    """Scores of one image (C, H, W) with 0, 1/steps, ... of the pixels of the area gone; no two values are equal."""
    places = [(r, c) for r in range(area.shape[0]) for c in range(area.shape[1]) if area[r, c]]
    places.sort(key=lambda place: float(values[place]), reverse=not least_first)
    scores = []
    for step in range(steps + 1):
        count = step * len(places) / steps
        assert count == int(count)
        hidden = torch.zeros_like(area)
        for place in places[: int(count)]:
            hidden[place] = True
        filled = fill_pixels(image[None], hidden[None, None], fill)[0]
        scores.append(score(torch.where(hidden, filled, image)[None]))
    return scores


@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "imputed"])
def test_equals_removal_pixel_by_pixel(net: Net, images: Tensor, fill: str) -> None:
    maps, area = torch.randn(3, 1, 5, 6), torch.zeros(1, 1, 5, 6, dtype=torch.bool)
    area[:, :, 1:5, 1:6] = True  # 20 pixels
    curves = removal_curves(net, images, maps, 1, area=area, fill=fill, fractions=torch.arange(11) / 10)
    for n in range(3):
        for least_first, got in ((False, curves.morf[n]), (True, curves.lerf[n])):
            with torch.no_grad():
                want = one_by_one(
                    lambda x: float(net(x)[0, 1]), images[n], maps[n, 0], area[0, 0], fill, 10, least_first
                )
            assert_close(got, torch.tensor(want, dtype=torch.float64))
    exactly(curves.deletion, curves.morf)
    exactly(curves.insertion, curves.lerf.flip(1))
    assert curves.fill == fill and curves.space == "image" and curves.flags == ("", "", "")


def test_by_hand() -> None:
    # The score is the sum of the pixels 4, 3, 2, 1; the map orders them 3, 1, 4, 2 from the most relevant on.
    images, maps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]]), torch.tensor([[[[2.0, 4.0, 1.0, 3.0]]]])
    curves = removal_curves(lambda x: x.sum((1, 2, 3)), images, maps, fill="zero", fractions=[0, 0.25, 0.5, 0.75, 1])
    assert curves.deletion.tolist() == [[10, 7, 6, 2, 0]]
    assert curves.insertion.tolist() == [[0, 3, 4, 8, 10]]
    assert curves.lerf.tolist() == [[10, 8, 4, 3, 0]]
    assert_close(curves.deletion_auc, torch.tensor([(5 + 7 + 6 + 2) / 4], dtype=torch.float64))
    assert_close(curves.insertion_auc, torch.tensor([(3 + 4 + 8 + 5) / 4], dtype=torch.float64))
    assert_close(curves.gain, torch.tensor([0.0], dtype=torch.float64))
    assert dict(curves.DIRECTIONS) == {"deletion_auc": "lower", "insertion_auc": "higher", "gain": "higher"}
    # A part of the way, in unequal steps: the mean height over that part.
    part = removal_curves(lambda x: x.sum((1, 2, 3)), images, maps, fill="zero", fractions=[0.25, 0.5, 1])
    assert part.deletion.tolist() == [[7, 6, 0]]
    assert_close(part.deletion_auc, torch.tensor([(6.5 * 0.25 + 3 * 0.5) / 0.75], dtype=torch.float64))


def test_a_true_map_gains_and_a_false_one_loses() -> None:
    weights = torch.randn(1, 1, 8, 8).exp()
    images = torch.ones(1, 1, 8, 8)
    gains = [
        float(removal_curves(lambda x: (x * weights).sum((1, 2, 3)), images, maps, fill="zero").gain)
        for maps in (weights, torch.ones(1, 1, 8, 8), -weights)
    ]
    assert gains[0] > 1 and abs(gains[1]) < 1e-6
    assert_close(gains[2], -gains[0], rtol=1e-5, atol=0)


def test_ties_fade_together(net: Net, images: Tensor) -> None:
    maps = torch.randint(0, 3, (3, 1, 5, 6)).float()
    maps[2] = 7.0
    curves = removal_curves(net, images, maps, 0, fill="mean")
    mirrored = removal_curves(lambda x: net(x.flip(3)), images.flip(3), maps.flip(3), 0, fill="mean")
    assert_close(mirrored.morf, curves.morf)
    assert_close(mirrored.lerf, curves.lerf)
    assert curves.flags == ("", "", "constant")
    # Without any order both curves are one: the whole image fades.
    assert_close(curves.morf[2], curves.lerf[2])
    mean = images[2].mean((1, 2), keepdim=True)
    with torch.no_grad():
        for share, score in zip(curves.fractions.tolist(), curves.morf[2].tolist(), strict=True):
            share = round(share * 30) / 30  # to the nearest pixel
            faded = (1 - share) * images[2] + share * mean
            assert_close(score, float(net(faded[None])[0, 0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_the_same_share_is_hidden_whatever_the_map(height: int, width: int, levels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, levels, (2, 1, height, width), generator=generator)
    area = torch.rand(2, 1, height, width, generator=generator) < 0.7
    images = torch.ones(2, 1, height, width, dtype=torch.float64)
    shown = removal_curves(lambda x: x.sum((1, 2, 3)), images, maps, area=area, fill="zero")
    total = area.sum((1, 2, 3))[:, None]
    want = height * width - (shown.fractions * total).round()
    assert_close(shown.morf, want)
    assert_close(shown.lerf, want)


def test_results_do_not_depend_on_batches(net: Net, images: Tensor) -> None:
    maps = torch.randn(3, 1, 5, 6)
    all_at_once = removal_curves(net, images, maps, [0, 1, 0], fill="imputed", batch_size=1000)
    for size in (1, 7, 32):
        curves = removal_curves(net, images, maps, [0, 1, 0], fill="imputed", batch_size=size)
        assert_close(curves.morf, all_at_once.morf)
        assert_close(curves.lerf, all_at_once.lerf)
    parts = [
        removal_curves(net, images[rows], maps[rows], torch.tensor([0, 1, 0])[rows], fill="imputed")
        for rows in (slice(0, 1), slice(1, 3))
    ]
    joined = RemovalCurves.cat(parts)
    assert_close(joined.morf, all_at_once.morf)
    assert_close(joined.lerf, all_at_once.lerf)
    assert joined.flags == ("", "", "")
    other = removal_curves(net, images, maps, 0, fill="zero")
    with pytest.raises(CanonicalError, match="expected one set of fractions, fill and space"):
        RemovalCurves.cat([parts[0], other])


def test_cost_and_clean_scores(net: Net, images: Tensor) -> None:
    maps = torch.randn(3, 1, 5, 6)
    curves = removal_curves(net, images, maps, 0, fill="zero")
    assert sum(net.rows) == 3 * (2 * 21 - 3 + 1)
    net.rows.clear()
    clean = curves.morf[:, 0]
    again = removal_curves(net, images, maps, 0, fill="zero", clean_scores=clean, batch_size=7)
    assert sum(net.rows) == 3 * (2 * 21 - 3) and max(net.rows) == 7
    assert_close(again.morf, curves.morf)
    exactly(again.lerf[:, 0], clean)
    exactly(again.lerf[:, -1], again.morf[:, -1])
    with torch.no_grad():
        assert_close(clean, net(images)[:, 0])


def test_images_without_a_face_keep_their_clean_score(net: Net, images: Tensor) -> None:
    area = torch.rand(3, 1, 5, 6) < 0.5
    area[1] = False
    curves = removal_curves(net, images, torch.randn(3, 1, 5, 6), 0, area=area, fill="imputed")
    assert curves.flags == ("", "no area", "")
    exactly(curves.morf[1], curves.morf[1, :1].expand(21))
    exactly(curves.lerf[1], curves.morf[1])
    assert curves.gain[1] == 0


def test_what_a_network_does_to_its_input_and_the_inputs_stay_apart(net: Net, images: Tensor) -> None:
    def vandal(x: Tensor) -> Tensor:
        score = net(x)
        x.zero_()
        return score

    maps, before = torch.randn(3, 1, 5, 6), images.clone()
    for fill in ("blur", "imputed"):
        curves = removal_curves(net, images, maps, 0, fill=fill)
        spoilt = removal_curves(vandal, images, maps, 0, fill=fill, batch_size=4)
        assert_close(spoilt.morf, curves.morf)
        assert_close(spoilt.lerf, curves.lerf)
    exactly(images, before)
    state = torch.get_rng_state()
    removal_curves(net, images.requires_grad_(), maps, 0, fill=ImputedFill(seed=3))
    exactly(torch.get_rng_state(), state)


def test_arguments_follow_their_image(net: Net, images: Tensor) -> None:
    gain = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    maps = torch.randn(3, 1, 5, 6)
    curves = removal_curves(lambda x, g: net(x)[:, 0] * g, images, maps, additional_forward_args=gain, batch_size=5)
    assert_close(curves.morf, removal_curves(net, images, maps, 0).morf * gain[:, None])


def test_progress(net: Net, images: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    removal_curves(net, images, torch.randn(3, 1, 5, 6), 0, batch_size=10, show_progress=True)
    assert "13/13" in capsys.readouterr().err  # 1 + ceil(117 / 10)


# ------------------------------------------------------------------------------------------------------ canonical space
SIZE = (24, 24)


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(24)


def test_canonical_space_is_image_space_where_both_faces_are_one(face: CanonicalFace) -> None:
    faces = FaceMesh(face.vertices[None].repeat(2, 1, 1), image_size=SIZE, topology=face.topology)
    images, maps = torch.rand(2, 3, *SIZE, dtype=torch.float64), torch.randn(2, 1, *SIZE)
    weights = torch.randn(3, *SIZE, dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        return (x * weights).sum((1, 2, 3))

    area = face.raster.covered[None, None]
    want = removal_curves(score, images, maps, area=area, fill="mean")
    got = removal_curves(score, images, maps, space="canonical", faces=faces, canonical_face=face, fill="mean")
    assert_close(got.morf, want.morf, rtol=0, atol=1e-5)
    assert_close(got.lerf, want.lerf, rtol=0, atol=1e-5)
    assert got.space == "canonical" and got.settings != want.settings
    # One canonical map serves all images, and an area on the canonical face restricts what is hidden.
    half = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    half[..., :12] = True
    want = removal_curves(score, images, maps[:1].expand(2, -1, -1, -1), area=area & half, fill="mean")
    got = removal_curves(
        score, images, maps[:1], space="canonical", faces=faces, canonical_face=face, area=half, fill="mean"
    )
    assert_close(got.morf[:, :-1], want.morf[:, :-1], rtol=0, atol=1e-5)


def test_the_same_part_of_the_face_is_hidden_wherever_it_is(face: CanonicalFace) -> None:
    """Two photographs of one face, one twice as large, elsewhere and mirrored: the same share of each is gone."""
    size = (64, 72)
    large = face.resized((48, 48)).vertices.clone()
    large[:, :2] += large.new_tensor([20.0, 9.0])
    small = face.vertices.clone()
    vertices = torch.stack([large, small])
    faces = FaceMesh(vertices, image_size=size, topology=face.topology)
    maps = torch.linspace(0, 1, 24).view(1, 1, 24, 1).expand(1, 1, 24, 24)  # from the forehead down
    images = torch.zeros(2, 1, *size)
    curves = removal_curves(
        lambda x: x.sum((1, 2, 3)), images, maps, space="canonical", faces=faces, canonical_face=face, fill=1.0
    )
    shares = curves.morf / curves.morf[:, -1:]
    assert_close(shares[0], shares[1], rtol=0, atol=0.02)
    assert_close(shares[1], curves.fractions, rtol=0, atol=0.02)
    assert_close(curves.morf[0, -1] / curves.morf[1, -1], torch.tensor(4.0, dtype=torch.float64), rtol=0.05, atol=0)


def test_the_right_region_is_hidden_first(face: CanonicalFace) -> None:
    mesh = face.resized((48, 48)).vertices[None].clone()
    mesh[..., 0] += 10
    faces = FaceMesh(mesh, image_size=(48, 70), topology=face.topology)
    region = next(name for name in face.regions if "nose" in name)
    maps = face.region_mask(region)[None, None].double()
    x, y = (mesh[0, face.triangles[face.regions[region]], i].mean().item() for i in (0, 1))
    images = torch.ones(1, 1, 48, 70)

    def at_the_nose(pictures: Tensor) -> Tensor:
        return pictures[:, 0, int(y), int(x)]

    curves = removal_curves(at_the_nose, images, maps, space="canonical", faces=faces, canonical_face=face, fill="zero")
    assert float(curves.deletion_auc) < 0.3 and float(curves.insertion_auc) > 0.7


def test_a_map_without_an_order_fades_the_whole_face_evenly(face: CanonicalFace) -> None:
    """The rim included, whose pixels are read between pixels of the canonical face and others."""
    vertices = face.resized((40, 40)).vertices[None].clone()
    vertices[..., :2] += 3.3
    faces = FaceMesh(vertices, image_size=(48, 48), topology=face.topology)
    images, shown = torch.zeros(1, 1, 48, 48, dtype=torch.float64), []

    def score(x: Tensor) -> Tensor:
        shown.extend(x.clone())
        return x.sum((1, 2, 3))

    constant = 0.3 + 1e-8 * torch.randn(1, 1, 24, 24)  # but for rounding
    removal_curves(
        score, images, constant, space="canonical", faces=faces, canonical_face=face, fill=1.0,
        fractions=[0, 0.5, 1], clean_scores=torch.zeros(1),
    )  # fmt: skip
    total = int(face.raster.covered.sum())
    half, whole, least_first = (picture[0] for picture in shown)
    assert_close(half, round(total / 2) / total * (whole > 0).double())
    assert_close(least_first, half)
    assert_close(whole, (whole > 0).double())
    assert abs(int((whole > 0).sum()) / (total * (40 / 24) ** 2) - 1) < 0.05


def test_a_face_that_was_not_found(face: CanonicalFace) -> None:
    faces = FaceMesh(
        face.vertices[None].repeat(2, 1, 1),
        image_size=SIZE,
        topology=face.topology,
        found=torch.tensor([False, True]),
    )
    images = torch.rand(2, 1, *SIZE)
    curves = removal_curves(
        lambda x: x.mean((1, 2, 3)), images, torch.randn(2, 1, *SIZE), space="canonical", faces=faces,
        canonical_face=face,
    )  # fmt: skip
    assert curves.flags == ("no area", "")
    exactly(curves.morf[0], curves.morf[0, :1].expand(21))
    assert curves.morf[1].std() > 0


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": torch.zeros(3, 1, 4, 4)}, r"for each of the images \(3, 2, 5, 6\), got \(3, 1, 4, 4\)"),
        ({"maps": None}, r"got \(\)"),
        ({"maps": torch.full((3, 1, 5, 6), math.nan)}, r"NaN or infinity in rows \[0, 1, 2\]"),
        ({"inputs": torch.zeros(3, 2, 5, 6, dtype=torch.uint8)}, "floating point images .*, got torch.uint8"),
        ({"area": torch.ones(3, 1, 5, 6)}, "area: expected bool"),
        ({"fractions": [0.0]}, "fractions: expected two or more ascending numbers"),
        ({"fractions": [0.0, 0.0, 1.0]}, "fractions"),
        ({"fractions": [0.5, 1.5]}, "fractions"),
        ({"fractions": [-0.5, 0.5]}, "fractions"),
        ({"clean_scores": torch.zeros(2)}, r"expected 3 finite scores, got shape \(2,\)"),
        ({"clean_scores": torch.full((3,), math.nan)}, "expected 3 finite scores"),
        ({"batch_size": 0}, "batch_size: expected an integer from 1 on, got 0"),
        ({"space": "face"}, "space: expected 'image' or 'canonical', got 'face'"),
        ({"space": "canonical"}, "no faces were given"),
        ({"fill": "inpaint"}, "fill: expected one of"),
        ({"target": 5}, "target is out of range"),
        ({"target": None}, "say which one to explain"),
    ],
)
def test_bad_arguments(net: Net, images: Tensor, arguments: dict[str, object], message: str) -> None:
    call: dict[str, object] = {"inputs": images, "maps": torch.zeros(3, 1, 5, 6), "target": 0, **arguments}
    with pytest.raises(CanonicalError, match=message):
        removal_curves(net, call.pop("inputs"), call.pop("maps"), **call)  # type: ignore[arg-type]


def test_canonical_maps_must_fit(face: CanonicalFace) -> None:
    faces = FaceMesh(face.vertices[None], image_size=SIZE, topology=face.topology)
    with pytest.raises(
        CanonicalError, match=r"expected \(1 or 1, 1, 24, 24\) on the canonical face, got \(1, 1, 9, 9\)"
    ):
        removal_curves(
            lambda x: x.mean((1, 2, 3)), torch.rand(1, 1, *SIZE), torch.zeros(1, 1, 9, 9), space="canonical",
            faces=faces, canonical_face=face,
        )  # fmt: skip


def test_scores_that_are_not_finite() -> None:
    scorer = Scorer(lambda x: x.mean((1, 2, 3)).log(), None, (), 2)
    with pytest.raises(CanonicalError, match=r"NaN or infinity .* images \[1\]"):
        score_batches(scorer, lambda rows: 1.0 - rows.view(-1, 1, 1, 1).float(), torch.tensor([0, 1]), 1)
