"""Additional arguments that are no entries of the images although they have as many rows are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, LayerScoreCam, benchmark
from captum_canonical.faithfulness import explanation_masks, removal_curves, score_explanations
from captum_canonical.inference.dense import Scorer
from captum_canonical.inference.per_image import check_per_image
from face_tools import mesh_of, noise

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
