"""What a benchmark must not be fooled by: a map that memorises, copies of a photograph, batches, other rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import Attribution, DeepLift, InputXGradient, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh, benchmark
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.masks import ExplanationMasks, explanation_masks
from captum_canonical.faithfulness.measures import average_drop

SIDE = 48
QUICK: dict[str, Any] = {"fills": ["zero"], "fractions": [0, 0.1, 1], "resamples": 200, "permutations": 50}


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(SIDE)


def meshes(face: CanonicalFace, count: int) -> FaceMesh:
    """Faces that all lie where the canonical face does."""
    return FaceMesh(face.vertices.repeat(count, 1, 1), image_size=(SIDE, SIDE), topology=face.topology)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(5)
        self.head = nn.Linear(4 * 25, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.relu(self.conv(x))).flatten(1)).softmax(1)


# ------------------------------------------------------------------------------------------------------------- folds
PLACES = [(14, 12), (14, 30), (22, 21), (30, 14), (30, 28), (37, 21)]  # row and column of squares on the face
WIDE = 6


def square(person: int) -> tuple[slice, slice]:
    row, column = PLACES[person]
    return slice(row, row + WIDE), slice(column, column + WIDE)


def own_place(x: Tensor, person: Tensor) -> Tensor:
    """Reads another square of the face for each person: who it is, is the label."""
    return torch.stack([photo[(slice(None), *square(int(who)))].mean() for photo, who in zip(x, person, strict=True)])


class Memory(Attribution):
    """Has learned by heart where the network looks for each person."""

    def __init__(self) -> None:
        super().__init__(own_place)

    def attribute(self, inputs: Tensor, additional_forward_args: Any = None) -> Tensor:
        heat = torch.zeros(len(inputs), 1, SIDE, SIDE)
        for row, who in zip(heat[:, 0], additional_forward_args[0], strict=True):
            row[square(int(who))] = 1
        return heat


@pytest.mark.parametrize("folds", [2, 3, 6])
def test_a_map_that_memorises_the_labels_of_its_own_fold_gains_nothing(face: CanonicalFace, folds: int) -> None:
    person = torch.arange(12) // 2
    photos, faces = torch.rand(12, 3, SIDE, SIDE) / 2 + 0.5, meshes(face, 12)
    result = benchmark(
        own_place,
        photos,
        {"memory": Memory()},
        faces=faces,
        canonical_face=face,
        identities=person.tolist(),
        additional_forward_args=person,
        folds=folds,
        budget=0.03,  # fewer pixels than any square has, so that all of the budget is spent where the map points
        **QUICK,
    )
    single, mean = (result[f"memory, {kind}"] for kind in ("per image", "canonical mean"))
    assert single.value("average_drop", "zero") > 60  # it works for the photograph that it knows
    assert_close(mean.per_image["average_drop", "zero"], torch.zeros(12, dtype=torch.float64), rtol=0, atol=0.05)
    assert abs(mean.value("mean_drop", "zero")) < 1e-3
    # The same mean with the photograph's own fold in it would gain.
    area = CanonicalProjector(None, faces, face).reproject(torch.ones(1, 1, SIDE, SIDE)) > 0
    leaked = explanation_masks(Memory().attribute(photos, (person,)).mean(0, keepdim=True), area[:1], budget=0.03)
    masks = ExplanationMasks(leaked.values.expand(12, 1, SIDE, SIDE), leaked.flags * 12, leaked.inside)
    clean = own_place(photos, person)
    assert (
        average_drop(clean, score_explanations(own_place, photos, masks, None, additional_forward_args=person)).value
        > 5
    )


# -------------------------------------------------------------------------------------------------------- identities
def test_copies_of_photographs_narrow_no_interval_by_identity(face: CanonicalFace) -> None:
    net, photos = Net().eval(), torch.rand(20, 3, SIDE, SIDE)

    def run(repeats: int, known: bool = True) -> BenchmarkResult:
        people = torch.arange(20).repeat_interleave(repeats)
        return benchmark(
            net,
            photos[people],
            {"saliency": Saliency(net)},
            1,
            faces=meshes(face, 20 * repeats),
            canonical_face=face,
            identities=people.tolist() if known else None,
            **QUICK,
        )

    once, copied, unknown = run(1), run(2), run(2, known=False)
    assert copied.settings["intervals by"] == "identity" and unknown.settings["intervals by"] == "photo"
    for label in ("saliency, per image", "saliency, canonical mean", "edges, per image", "uniform, per image"):
        for measure in ("mean_drop", "deletion_auc", "insertion_auc"):
            have, has = (torch.tensor(result.interval(label, measure, "zero")) for result in (once, copied))
            assert_close(has, have, rtol=1e-3, atol=1e-6)
            naive = unknown.interval(label, measure, "zero")
            if label.endswith("per image"):
                assert naive[1] - naive[0] < 0.9 * float(have[1] - have[0])
    for one, two in zip(once.comparisons("gain", "zero"), copied.comparisons("gain", "zero"), strict=True):
        if "random" not in one.first + one.second:  # noise that depends on the place among the photographs
            assert_close(two.p_value, one.p_value, rtol=0, atol=0.05)


# ----------------------------------------------------------------------------------------------------- rows, batches
@pytest.fixture(scope="module")
def alone() -> BenchmarkResult:
    return nine_photos()


def nine_photos(**changed: Any) -> BenchmarkResult:
    torch.manual_seed(5)
    net, photos, face = Net().eval(), torch.rand(9, 3, 32, 32), CanonicalFace.default(32)
    faces = FaceMesh(face.vertices.repeat(9, 1, 1), image_size=(32, 32), topology=face.topology)
    ours = {"occlusion": (CanonicalOcclusion(net), {"num_points": 12, "patch_size": 7})}
    beside = {"before": InputXGradient(net), **ours, "after": Saliency(net)}
    methods = beside if changed.pop("methods_beside", False) else ours
    options = {**QUICK, "fills": ["mean", "imputed"], **changed}
    return benchmark(net, photos, methods, 1, faces=faces, canonical_face=face, **options)


@pytest.mark.parametrize("changed", [{"methods_beside": True}, {"controls": False}], ids=str)
def test_rows_do_not_depend_on_what_stands_beside_them(alone: BenchmarkResult, changed: dict[str, Any]) -> None:
    other = nine_photos(**changed)
    kept = [row for row in alone.rows if not row.control or changed != {"controls": False}]
    assert len(kept) == (2 if "controls" in changed else 8)
    for row in kept:
        for (measure, fill), values in row.per_image.items():
            assert_close(other[row.label].per_image[measure, fill], values, rtol=0, atol=0)
            assert other.interval(row.label, measure, fill) == alone.interval(row.label, measure, fill)


@pytest.mark.parametrize("size", [1, 7])
def test_rows_do_not_depend_on_the_batch_size(alone: BenchmarkResult, size: int) -> None:
    """The other is 32: nine photographs in one batch, in two, or one by one."""
    other = nine_photos(batch_size=size)
    for row in alone.rows:
        assert len(row.per_image) == 18
        for (measure, fill), values in row.per_image.items():
            assert_close(other[row.label].per_image[measure, fill], values, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------------- counts and input
def test_evaluations_of_methods_that_join_inputs_and_baselines(face: CanonicalFace) -> None:
    """DeepLift runs every photograph with its baseline beside it; hooks of its own put the two together."""
    net = Net().eval()
    methods = {"DeepLift": DeepLift(net), "Saliency": Saliency(net)}
    photos, faces = torch.rand(3, 3, SIDE, SIDE), meshes(face, 3)
    result = benchmark(net, photos, methods, 1, faces=faces, canonical_face=face, **QUICK)
    assert [result[f"{name}, per image"].evaluations for name in methods] == [6, 3]


def test_photographs_with_nan_are_named(face: CanonicalFace) -> None:
    net, photos = Net().eval(), torch.rand(4, 3, SIDE, SIDE)
    photos[2, 0, 3, 4] = torch.nan
    with pytest.raises(CanonicalError, match=r"data: expected finite values, got NaN or infinity in images \[2\]"):
        benchmark(net, photos, {"s": Saliency(net)}, 1, faces=meshes(face, 4), canonical_face=face, **QUICK)
