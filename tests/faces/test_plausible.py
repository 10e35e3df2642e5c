"""Meshes that cannot be right are refused or warned of."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captum_canonical import AlignmentError, CanonicalFace, CanonicalOcclusion, FaceMesh
from face_tools import mesh_of, noise
from oracles import rolled, turned

FACE = CanonicalFace.default(64)


def changed(vertices: Tensor) -> FaceMesh:
    return FaceMesh(vertices.reshape(-1, 468, 3), image_size=(64, 64), topology=FACE.topology)


def swapped() -> Tensor:
    return FACE.vertices[:, [1, 0, 2]]


def y_up() -> Tensor:
    return FACE.vertices * torch.tensor([1.0, -1, 1]) + torch.tensor([0.0, 64, 0])


def sides_exchanged() -> Tensor:
    return FACE.vertices[FACE.permutation]


@pytest.mark.parametrize("depth", [1.0, 0.0], ids=["deep", "flat"])
@pytest.mark.parametrize("wrong", [swapped, y_up, sides_exchanged])
def test_meshes_that_fit_only_as_a_reflection_are_refused(wrong, depth: float) -> None:
    vertices = wrong() * torch.tensor([1.0, 1, depth])
    with pytest.raises(AlignmentError, match=r"rows \[1\].*mirror image.*exchanged"):
        FACE.check_mesh(changed(torch.stack([FACE.vertices, vertices])))


@pytest.mark.parametrize("scale", [1 / 64, 1e-6, 3 / 64])
def test_fractions_are_refused(scale: float) -> None:
    with pytest.raises(AlignmentError, match="fractions"):
        CanonicalOcclusion(lambda x: x.mean((1, 2, 3)), changed(FACE.vertices * scale), FACE).attribute(noise(1, 64))


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_pixels_of_a_larger_image_are_warned_of(factor: float) -> None:
    with pytest.warns(UserWarning, match="outside its image"):
        FACE.check_mesh(changed(FACE.vertices * factor))


def test_mirrored_depth_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="depth"):
        FACE.check_mesh(changed(FACE.vertices * torch.tensor([1.0, 1, -1])))


def test_what_resembles_no_face_is_warned_of() -> None:
    order = torch.randperm(468, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="resembles"):
        FACE.check_mesh(changed(FACE.vertices[order]))


@pytest.mark.parametrize("yaw", [-80, -40, 0, 40, 80])
@pytest.mark.parametrize("roll", [0, 100, 180])
@pytest.mark.parametrize("depth", [1.0, 0.0])
def test_turned_faces_are_fine(yaw: float, roll: float, depth: float) -> None:
    vertices = rolled(turned(FACE.vertices, yaw), roll, 0.5, (32, 32)) * torch.tensor([1.0, 1, depth])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FACE.check_mesh(changed(vertices))


def test_small_faces_half_outside_and_rows_without_a_face_are_fine() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FACE.check_mesh(mesh_of(FACE, 1, scale=0.1))
        FACE.check_mesh(mesh_of(FACE, moved=[(30, 0)]))
        FACE.check_mesh(replace(changed(FACE.vertices * 0), found=torch.tensor([False])))
        FACE.check_mesh(mesh_of(FACE, 3).flipped(FACE.permutation))
