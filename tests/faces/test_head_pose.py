"""Yaw and pitch from meshes: turned canonical faces, and two ways to the pose of real photographs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.adapters.landmarks import LANDMARKS_68
from captum_canonical.faces.quality import head_pose
from studies.face_nets.networks import HeadPose, load


@pytest.fixture(scope="module")
def face() -> cc.CanonicalFace:
    return cc.CanonicalFace.default(64)


def turned(face: cc.CanonicalFace, yaw: float, pitch: float) -> Tensor:
    """The canonical face looking ``pitch`` degrees up, then ``yaw`` degrees to the image's right: x right, y down, z
    towards the camera."""
    a, b = math.radians(yaw), math.radians(pitch)
    up = face.vertices.new_tensor([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    right = face.vertices.new_tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    return face.vertices @ (right @ up).T


def mesh(vertices: Tensor, **more: object) -> cc.FaceMesh:
    return cc.FaceMesh(vertices.reshape(-1, *vertices.shape[-2:]), image_size=(64, 64), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (30, 0), (-30, 0), (0, 25), (0, -25), (40, -20), (-75, 10)])
def test_turned_faces(face: cc.CanonicalFace, yaw: float, pitch: float) -> None:
    moved = 0.3 * turned(face, yaw, pitch) + torch.tensor([5.0, -40.0, 11.0])  # size and place play no part
    pose = head_pose(mesh(moved), face)
    assert pose.shape == (1, 2) and pose.dtype == torch.float64
    assert_close(pose, torch.tensor([[yaw, pitch]], dtype=torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (40, -20), (-75, 10), (5, 40)])
def test_photographs_that_lie_on_their_side(face: cc.CanonicalFace, yaw: float, pitch: float, quarters: int) -> None:
    """The head is where it was, whichever way the photograph is held."""
    vertices = turned(face, yaw, pitch)
    for _ in range(quarters):
        vertices = torch.stack([-vertices[:, 1], vertices[:, 0], vertices[:, 2]], 1)
    assert_close(head_pose(mesh(vertices), face), torch.tensor([[yaw, pitch]]).double(), rtol=0, atol=1e-3)


def test_signs_by_the_tip_of_the_nose(face: cc.CanonicalFace) -> None:
    nose = int(face.vertices[:, 2].argmax())
    to_the_right, up = turned(face, 30, 0), turned(face, 0, 30)
    middle = face.vertices.mean(0)
    assert to_the_right[nose, 0] - to_the_right.mean(0)[0] > face.vertices[nose, 0] - middle[0] + 1
    assert up[nose, 1] - up.mean(0)[1] < face.vertices[nose, 1] - middle[1] - 1  # y runs down


def test_mirror_images_and_grimaces(face: cc.CanonicalFace) -> None:
    vertices = turned(face, 25, 15)
    mirrored = vertices[face.permutation] * torch.tensor([-1.0, 1, 1])
    assert_close(head_pose(mesh(mirrored), face)[0], torch.tensor([-25.0, 15.0]).double(), rtol=0, atol=1e-3)
    noisy = vertices + 0.5 * torch.randn(vertices.shape)  # of a face about 50 wide
    assert_close(head_pose(mesh(noisy), face)[0], torch.tensor([25.0, 15.0]).double(), rtol=0, atol=1.5)


def test_what_has_no_pose(face: cc.CanonicalFace) -> None:
    flat = face.vertices * torch.tensor([1.0, 1, 0])
    three = torch.stack([flat, face.vertices, turned(face, 10, 0)])
    pose = head_pose(mesh(three, found=torch.tensor([True, False, True])), face)
    assert pose[:2].isnan().all()
    assert_close(pose[2], torch.tensor([10.0, 0.0]).double(), rtol=0, atol=1e-3)
    drawn = cc.CanonicalFace.from_vertices(torch.rand(3, 64, 64), flat, face.triangles)
    assert head_pose(mesh(face.vertices), drawn).isnan().all()
    with pytest.raises(cc.AlignmentError, match="468 vertices like the canonical face, got 9"):
        head_pose(mesh(torch.rand(9, 3)), face)


def test_real_photographs_agree_with_a_network_for_landmarks(shared: Path) -> None:
    """Two independent ways, a mesh in three dimensions and 68 landmarks in two, see the same heads turned."""
    face = cc.CanonicalFace.default()
    images = shared / "data/celeba_prnet/images"
    data = cc.AlignedFaces(sorted(images.iterdir())[::3], size=112, margin=0.01)
    batch = data.collate([data[index] for index in range(len(data))])
    ours = head_pose(batch.faces, face)
    network = HeadPose(load(shared / "models", "face_landmark_68"), face.vertices[list(LANDMARKS_68)])
    theirs = network(batch.images).double()
    assert (ours.abs() < 60).all()
    yaw, pitch = (np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1] for axis in (0, 1))
    assert yaw > 0.98 and pitch > 0.8, (yaw, pitch)
    assert float((ours - theirs).abs().median()) < 8
