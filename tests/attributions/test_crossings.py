"""What may come together in one call: half precision and rows of the images, several inputs and wrong meshes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_canonical import AlignmentError, CanonicalError, CanonicalFace, CanonicalOcclusion, FaceMesh
from face_tools import mesh_of

SIDE, COUNT = 32, 3
FACE = CanonicalFace.default(SIDE)
MESH = mesh_of(FACE, COUNT)


class Similarity(nn.Module):
    """Embeddings (N, 3), times a row of each image or times all of them, as a gallery."""

    def __init__(self, gallery: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head, self.gallery = nn.Conv2d(3, 8, 5, stride=3), nn.Linear(800, 3), gallery

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        embeddings = self.head(self.trunk(images).relu().flatten(1))
        return embeddings @ rows.T if self.gallery else (embeddings * rows).sum(1)


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(COUNT, 3, SIDE, SIDE, generator=generator), torch.randn(COUNT, 3, generator=generator)


def attribute(network: nn.Module, images: Tensor, rows: Tensor, some: slice, target: Any) -> Tensor:
    method = CanonicalOcclusion(network, MESH[some], FACE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the noise of half precision
        return method.attribute(images[some], target, additional_forward_args=rows, num_points=20, patch_size=7)


PRECISIONS = [torch.float32, torch.bfloat16, torch.float16, "autocast"]


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_rows_of_images_in_half_precision_follow_their_image(precision: Any) -> None:
    """As each image alone, whatever the rounding; and near what float32 gives."""
    images, rows = drawn(0)
    network, exact = Similarity(False).eval(), Similarity(False).eval()
    expected = attribute(exact, images, rows, slice(None), None)
    if isinstance(precision, torch.dtype):
        network, images, rows = network.to(precision), images.to(precision), rows.to(precision)
    with torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext():
        together = attribute(network, images, rows, slice(None), None)
        alone = [attribute(network, images, rows[[n]], slice(n, n + 1), None) for n in range(COUNT)]
    scale = expected.abs().max()
    torch.testing.assert_close(together / scale, torch.cat(alone) / scale, rtol=0, atol=1e-5)
    torch.testing.assert_close(together / scale, expected / scale, rtol=0, atol=0.25)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_gallery_of_as_many_rows_is_found_in_half_precision(precision: Any, seed: int) -> None:
    images, rows = drawn(seed)
    network = Similarity(True).eval()
    if isinstance(precision, torch.dtype):
        network, images, rows = network.to(precision), images.to(precision), rows.to(precision)
    with torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext():
        with pytest.raises(CanonicalError, match=r"additional_forward_args: \(3, 3\) means as many rows"):
            attribute(network, images, rows, slice(None), 0)
        attribute(network, images, rows, slice(0, 2), 0)  # two images, three rows: shared by all


# ------------------------------------------------------------------------------------------- several inputs, meshes
def fractions(mesh: FaceMesh) -> FaceMesh:
    return FaceMesh(mesh.vertices / SIDE, image_size=(SIDE, SIDE), topology=FACE.topology)


def y_up(mesh: FaceMesh) -> FaceMesh:
    moved = mesh.vertices * torch.tensor([1.0, -1, 1]) + torch.tensor([0.0, SIDE, 0])
    return FaceMesh(moved, image_size=(SIDE, SIDE), topology=FACE.topology)


def another_size(mesh: FaceMesh) -> FaceMesh:
    return FaceMesh(mesh.vertices * 4, image_size=(SIDE, SIDE), topology=FACE.topology)


def pair(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).mean((1, 2, 3))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("wrong", [fractions, y_up])
def test_meshes_that_cannot_be_right_are_refused_for_any_of_several_inputs(
    wrong: Callable[[FaceMesh], FaceMesh], place: int
) -> None:
    inputs = (drawn(0)[0], drawn(1)[0])
    faces: list[Any] = [MESH, MESH]
    faces[place] = wrong(MESH)
    with pytest.raises(AlignmentError, match=rf"input {place}: .*rows \[0, 1, 2\]"):
        CanonicalOcclusion(pair, tuple(faces), FACE).attribute(inputs, num_points=8)
    faces[1 - place] = None  # an input that is no photograph of a face
    with pytest.raises(AlignmentError, match=rf"input {place}: "):
        CanonicalOcclusion(pair, tuple(faces), FACE).attribute(inputs, num_points=8)


@pytest.mark.parametrize("place", [0, 1])
def test_meshes_of_another_size_are_warned_of_for_any_of_several_inputs(place: int) -> None:
    faces = [MESH, MESH]
    faces[place] = another_size(MESH)
    with pytest.warns(UserWarning, match=rf"input {place}: .*outside its image"):
        CanonicalOcclusion(pair, tuple(faces), FACE).attribute((drawn(0)[0], drawn(1)[0]), num_points=8)
