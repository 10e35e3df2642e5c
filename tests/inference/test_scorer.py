"""The right score for the right row, and arguments that only look like entries of the images are found."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, LayerScoreCam, benchmark
from captum_canonical.faithfulness import explanation_masks, removal_curves, score_explanations
from captum_canonical.inference.scorer import Scorer, check_per_image
from captum_canonical.modules import warn_if_training
from face_tools import mesh_of, noise


def scorer(forward_func: Callable[..., object], target: object = None, args: tuple = (), images: int = 2) -> Scorer:
    return Scorer(forward_func, target, args, images)


OUTPUT = torch.arange(24.0).reshape(3, 4, 2)  # rows show the images 0, 1, 1
IMAGES = torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        (OUTPUT[..., 0], 2, [4, 12, 20]),
        (OUTPUT[..., 0], -1, [6, 14, 22]),
        (OUTPUT[..., 0], (2,), [4, 12, 20]),
        (OUTPUT[..., 0], torch.tensor(2), [4, 12, 20]),
        (OUTPUT[..., 0], torch.tensor([2]), [4, 12, 20]),
        (OUTPUT[..., 0], torch.tensor([1, 3]), [2, 14, 22]),
        (OUTPUT[..., 0], [1, 3], [2, 14, 22]),
        (OUTPUT, (2, 1), [5, 13, 21]),
        (OUTPUT, [(1, 0), (3, 1)], [2, 15, 23]),
        (OUTPUT[:, 0, 0], None, [0, 8, 16]),
        (OUTPUT[:, :1, 0], None, [0, 8, 16]),
        (OUTPUT[:, :1, :1], None, [0, 8, 16]),
        (OUTPUT[..., 0].int(), 1, [2, 10, 18]),
        (OUTPUT[..., 0].half(), 1, [2, 10, 18]),
    ],
)
def test_target_follows_its_image(output: Tensor, target: object, expected: list[float]) -> None:
    scores = scorer(lambda x: output, target)((torch.zeros(3, 1),), IMAGES)
    assert scores.dtype == torch.float64
    assert scores.tolist() == expected


@pytest.mark.parametrize(
    "target",
    [True, 1.0, "1", torch.tensor([1.0, 2.0]), torch.tensor([True, False]), torch.tensor([[1], [2]])]
    + [torch.tensor([1, 2, 3]), [1, 2, 3], [1]],
    ids=str,
)
def test_targets_that_captum_does_not_take(target: object) -> None:
    with pytest.raises(CanonicalError, match="target"):
        scorer(lambda x: OUTPUT[..., 0], target)((torch.zeros(3, 1),), IMAGES)


@pytest.mark.parametrize("target", [4, -5, (4,), torch.tensor(4), torch.tensor([0, 4]), [0, 4], [0, -5]], ids=str)
def test_target_out_of_range(target: object) -> None:
    with pytest.raises(CanonicalError, match=r"out of range.*\(4,\)"):
        scorer(lambda x: OUTPUT[..., 0], target)((torch.zeros(3, 1),), IMAGES)


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (OUTPUT, 1),
        (OUTPUT, (1,)),
        (OUTPUT, torch.tensor([1, 1])),
        (OUTPUT, [1, 1]),
        (OUTPUT[..., 0], (1, 1)),
        (OUTPUT[..., 0], [(1, 1), (1, 1)]),
        (OUTPUT[:, 0, 0], 0),
        (OUTPUT, (2, 2)),
        (OUTPUT, [(1, 0), (0, 2)]),
        (OUTPUT[..., 0], [(1,), (1, 1)]),
        (OUTPUT[..., 0], [torch.tensor(0), torch.tensor(1)]),
    ],
)
def test_target_of_the_wrong_rank(output: Tensor, target: object) -> None:
    with pytest.raises(CanonicalError, match="target"):
        scorer(lambda x: output, target)((torch.zeros(3, 1),), IMAGES)


def test_no_target_with_several_scores_says_what_to_give() -> None:
    with pytest.raises(CanonicalError, match=r"target="):
        scorer(lambda x: OUTPUT[..., 0])((torch.zeros(3, 1),), IMAGES)


@pytest.mark.parametrize(
    "output", [3.0, torch.tensor(1.0), torch.ones(1), torch.ones(2), torch.ones(6), torch.ones(1, 3)]
)
def test_scores_of_the_batch_as_a_whole_are_refused(output: Tensor) -> None:
    with pytest.raises(CanonicalError, match="3 rows"):
        scorer(lambda x: output)((torch.zeros(3, 1),), IMAGES)


def test_one_number_for_one_row_is_a_score() -> None:
    assert scorer(lambda x: x.sum(), images=1)((torch.ones(1, 5),), torch.tensor([0])).tolist() == [5.0]


@pytest.mark.parametrize(
    "output", [None, [torch.ones(1)] * 3, (torch.ones(3), torch.ones(3)), dict.fromkeys("ab", torch.ones(3))]
)
def test_what_is_no_tensor_is_refused(output: object) -> None:
    with pytest.raises(CanonicalError, match=type(output).__name__):
        scorer(lambda x: output)((torch.zeros(3, 1),), IMAGES)


def test_additional_arguments_follow_their_image() -> None:
    per_image, shared, flag = torch.tensor([10.0, 20.0]), torch.ones(5, 2), {"any": "thing"}
    got = []
    scorer(lambda x, *args: got.extend(args) or x[:, 0], None, (per_image, shared, torch.tensor(3.0), flag, None))(
        (torch.zeros(3, 1),), IMAGES
    )
    assert got[0].tolist() == [10.0, 20.0, 20.0]
    assert got[1] is shared
    assert got[2].ndim == 0
    assert got[3] is flag
    assert got[4] is None


def test_scores_do_not_share_memory_with_the_batch() -> None:
    """A float64 network that picks a pixel returns a view of the batch, which is written over next."""
    batch = torch.arange(3.0, dtype=torch.float64)[:, None]
    for target in (None, 0, (0,)):
        scores = scorer(lambda x: x, target)((batch,), IMAGES)
        before = scores.clone()
        batch += 100
        assert_close(scores, before)


# ------------------------------------------------------------------------------------------------------ training mode
class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).sum(1)


def test_training_mode_is_warned_about() -> None:
    net = Tiny()
    with pytest.warns(UserWarning, match=r"training mode.*\.eval\(\)"):
        warn_if_training(net)
    assert net.training, "and left as it is"


@pytest.mark.parametrize("what", [Tiny().eval(), lambda x: x, "no module"])
def test_nothing_to_warn_about(what: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_training(what)


FACE = CanonicalFace.default(32)


class Gallery(nn.Module):
    """Similarity of photographs (N, 3, 16, 16) with the rows of a gallery (G, 12)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 12))
        self.eval()

    def forward(self, x: Tensor, gallery: Tensor) -> Tensor:
        return self.encoder(x) @ gallery.T


def rows(count: int) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(count))


NET = Gallery()
SHARED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one row": lambda x, gallery: NET(x, gallery)[:, 0],
    "the best": lambda x, gallery: NET(x, gallery).amax(1),
    "softmax": lambda x, gallery: NET(x, gallery).softmax(1)[:, 0],
    "the mean": lambda x, gallery: NET.encoder(x) @ gallery.mean(0),
}


@pytest.mark.parametrize("count", [2, 3, 20])
@pytest.mark.parametrize("name", SHARED)
def test_a_gallery_of_as_many_rows_is_found(name: str, count: int) -> None:
    scorer = Scorer(SHARED[name], None, (rows(count),), count)
    with pytest.raises(CanonicalError, match=r"additional_forward_args.*\(\d+, 12\).*partial"):
        check_per_image(scorer, (noise(count, 16),))


def test_a_gallery_of_one_row_whose_number_matters() -> None:
    scorer = Scorer(SHARED["softmax"], None, (rows(1),), 1)
    with pytest.raises(CanonicalError, match="additional_forward_args"):
        check_per_image(scorer, (noise(1, 16),))


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_entries_of_the_images_are_fine(count: int) -> None:
    def own(x: Tensor, gain: Tensor) -> Tensor:
        return x.mean((1, 2, 3)) * gain

    def unused(x: Tensor, gain: Tensor) -> Tensor:
        return x.mean((1, 2, 3))

    def alike(x: Tensor, gain: Tensor) -> Tensor:
        return x.mean((1, 2, 3)) * gain.max()

    flags = torch.arange(count) % 2 == 0  # [True, False, True] is its own reverse
    gains = torch.arange(1.0, count + 1)
    for forward, gain in ((own, gains), (own, flags), (unused, rows(count)), (alike, torch.ones(count))):
        check_per_image(Scorer(forward, None, (gain,), count), (noise(count, 16),))


def test_nothing_is_run_without_need() -> None:
    def forward(x: Tensor, *args: Any) -> Tensor:
        raise AssertionError

    check_per_image(Scorer(forward, None, (rows(4), 2.0, "word", torch.tensor(1)), 3), (noise(3, 16),))


def test_a_gallery_beside_an_entry_of_each_image_is_found() -> None:
    def forward(x: Tensor, gain: Tensor, gallery: Tensor) -> Tensor:
        return NET(x, gallery)[:, 1] * gain

    gain = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(CanonicalError, match=r"\(3, 12\) means"):
        check_per_image(Scorer(forward, None, (gain, rows(3)), 3), (noise(3, 16),))
    with pytest.raises(CanonicalError, match=r"\(3, 12\) and \(3, 12\) means"):
        check_per_image(Scorer(lambda x, a, b: NET(x, a)[:, 0] * NET(x, b)[:, 0], None, (rows(3), rows(3)), 3),
                        (noise(3, 16),))  # fmt: skip


def test_whoever_permutes_arguments_checks_them() -> None:
    x, gallery, mesh = noise(3, 16), rows(3), mesh_of(FACE, 3, 16)
    maps = torch.rand(3, 1, 16, 16)
    masks = explanation_masks(maps, budget=0.25)
    calls: list[Callable[..., Any]] = [
        lambda args: CanonicalOcclusion(NET, mesh, FACE).attribute(x, 0, additional_forward_args=args, num_points=8),
        lambda args: CanonicalOcclusion(NET, mesh, FACE).refine(x, 0, additional_forward_args=args),
        lambda args: LayerScoreCam(NET, NET.encoder[0]).attribute(x, 0, args),
        lambda args: score_explanations(NET, x, masks, 0, additional_forward_args=args),
        lambda args: removal_curves(NET, x, maps, 0, additional_forward_args=args),
        lambda args: benchmark(NET, x, {"cam": LayerGradCam(NET, NET.encoder[0])}, target=0, faces=mesh,
                               canonical_face=FACE, additional_forward_args=args, show_progress=False),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(CanonicalError, match="additional_forward_args"):
            call(gallery)
