"""What CanonicalOcclusion returns, what it leaves alone, and what it refuses."""

from __future__ import annotations

import copy
import random
import re
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from captum_canonical import AlignmentError, CanonicalError, CanonicalFace, CanonicalOcclusion, FaceMesh
from occlusion_tools import SIZE, Net, same


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),
    ],
)
def test_types(few: CanonicalFace, faces: FaceMesh, dtype: torch.dtype, expected: torch.dtype) -> None:
    x = (torch.rand(4, 3, *SIZE) * 200).to(dtype)
    result, coverage = CanonicalOcclusion(lambda z: z.float().mean((1, 2, 3)), faces, few).attribute(
        x, return_coverage=True
    )
    assert result.dtype == coverage.dtype == expected
    assert result.is_contiguous()
    assert coverage.is_contiguous()
    assert not result.requires_grad
    assert result.device == x.device


def test_the_default_face_is_used(faces: FaceMesh, photos: Tensor) -> None:
    result = CanonicalOcclusion(lambda z: z.mean((1, 2, 3)), faces[0]).attribute(photos[:1], num_points=16)
    assert result.shape == (1, 1, 224, 224)


def test_everything_is_left_as_it_was(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    model = copy.deepcopy(net)
    model.head.weight.requires_grad_(False)
    images, baselines = photos.clone().requires_grad_(), torch.rand(4, 3, *SIZE)
    targets, argument = torch.tensor([0, 3, 1, 2]), torch.ones(4, dtype=torch.float64)
    tensors = [images, baselines, targets, argument, faces.vertices, faces.visible, few.vertices, few.point_weights]
    tensors += list(model.parameters())
    before = [t.detach().clone() for t in tensors]
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    CanonicalOcclusion(lambda z, w: model(z) * w[:, None], faces, few).attribute(
        images, target=targets, baselines=baselines, additional_forward_args=argument, num_points=30
    )

    for tensor, value in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), value)
        assert tensor.grad is None
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert torch.is_grad_enabled()


def test_training_mode_is_warned_about_and_kept(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    model = Net().train()
    with pytest.warns(UserWarning, match="training mode") as caught:
        CanonicalOcclusion(model, faces, few).attribute(photos, target=1, num_points=4)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points to the call"
    assert model.training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CanonicalOcclusion(model.eval(), faces, few).attribute(photos, target=1, num_points=4)


def subtracts_in_place(z: Tensor) -> None:
    z -= 0.4


def halves_through_numpy(z: Tensor) -> None:
    array = z.numpy()
    array *= 0.5


@pytest.mark.parametrize("write", [subtracts_in_place, halves_through_numpy])
def test_a_network_may_write_into_its_input(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, write: Callable[[Tensor], None]
) -> None:
    def writing(z: Tensor) -> Tensor:
        write(z)
        return net(z)

    def polite(z: Tensor) -> Tensor:
        z = z.clone()
        write(z)
        return net(z)

    before = photos.clone()
    result = CanonicalOcclusion(writing, faces, few).attribute(photos, target=1, perturbations_per_eval=2)
    same(result, CanonicalOcclusion(polite, faces, few).attribute(photos, target=1))
    assert torch.equal(photos, before)


def test_calls_do_not_influence_each_other(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    first = method.attribute(photos, target=1)
    method.attribute(photos.flip(0), target=2, faces=faces[[3, 2, 1, 0]], num_points=7)
    with pytest.raises(CanonicalError):
        method.attribute(photos, target=77)
    assert torch.equal(method.attribute(photos, target=1), first)


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made under it held at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[weakref.ref, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.alive[id(tensor)] = (weakref.ref(tensor), storage.nbytes())
        held = {}
        for ref, size in self.alive.values():
            tensor = ref()
            if tensor is not None:
                held[tensor.untyped_storage().data_ptr()] = size
        self.alive = {key: value for key, value in self.alive.items() if value[0]() is not None}
        self.peak = max(self.peak, sum(held.values()))
        return result


def test_memory_does_not_grow_with_the_number_of_points(face: CanonicalFace) -> None:
    """Ten times as many patches need a few numbers for each of them, never an image or a mask for each."""
    mesh = FaceMesh(face.resized((128, 128)).vertices[None], image_size=(128, 128), topology=face.topology)
    x, peaks, rows = torch.rand(1, 3, 128, 128), [], 8
    for count in (64, 640):
        fewer = replace(face, point_vertices=face.point_vertices[:count], point_weights=face.point_weights[:count])
        with LiveBytes() as meter:
            CanonicalOcclusion(lambda z: z[:, 0, 60, 60] * 2, mesh, fewer).attribute(x, perturbations_per_eval=rows)
        peaks.append(meter.peak)
    image = x.numel() * 4
    assert peaks[0] > rows * image, "the meter must see the batch"
    assert peaks[0] < 3 * rows * image
    assert peaks[1] - peaks[0] < 640 * 400, "bytes for each point"
    assert peaks[1] - peaks[0] < 3 * image


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"target": None}, "target="),
        ({"target": 4}, "out of range"),
        ({"target": [1, 2]}, "4 images"),
        ({"target": "male"}, "target"),
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": -3}, "patch_size"),
        ({"patch_size": float("nan")}, "patch_size"),
        ({"patch_size": "15"}, "patch_size"),
        ({"canonical_patch_size": 0}, "canonical_patch_size"),
        ({"canonical_patch_size": "face"}, "canonical_patch_size"),
        ({"canonical_patch_size": float("nan")}, "canonical_patch_size"),
        ({"num_points": 0}, r"num_points.*1 to 60"),
        ({"num_points": 61}, r"num_points.*1 to 60"),
        ({"num_points": 3.5}, "num_points"),
        ({"space": "world"}, "space"),
        ({"perturbations_per_eval": 0}, "perturbations_per_eval"),
        ({"perturbations_per_eval": 1.5}, "perturbations_per_eval"),
        ({"perturbations_per_eval": True}, "perturbations_per_eval"),
        ({"perturbations_per_eval": "4"}, "perturbations_per_eval"),
        ({"baselines": torch.zeros(4, 3, 9, 9)}, "baselines"),
        ({"baselines": torch.zeros(5, 4, 3, *SIZE)}, "baselines"),
        ({"baselines": (0, 1)}, "baselines"),
        ({"baselines": "black"}, "baselines"),
        ({"faces": "mesh"}, "faces"),
        ({"faces": ()}, "faces"),
        ({"faces": (None,)}, "faces"),
        ({"faces": lambda images: images}, "faces"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, arguments: dict, match: str
) -> None:
    """And before the network has run for an hour: only a target needs its output."""
    calls = []
    method = CanonicalOcclusion(lambda z: calls.append(len(z)) or net(z), faces, few)
    with pytest.raises(CanonicalError, match=match):
        method.attribute(photos, **({"target": 1} | arguments))
    assert len(calls) <= ("target" in arguments)


def test_bad_inputs(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    for inputs, match in (
        (photos[0], r"\(N, C, H, W\)"),
        ([photos], "list"),
        (photos.numpy(), "ndarray"),
        (photos[:0], "at least 1"),
        ((), "tuple"),
        (photos[..., :90], r"\(112, 96\).*\(112, 90\).*cropped"),
        ((photos, photos), "2 inputs"),
    ):
        with pytest.raises(CanonicalError, match=match):
            method.attribute(inputs, target=1)
    with pytest.raises(CanonicalError, match="batch size"):
        CanonicalOcclusion(lambda a, b: a, (faces, None), few).attribute((photos, photos[:2]))
    with pytest.raises(CanonicalError, match=r"no faces.*faces="):
        CanonicalOcclusion(net, None, few).attribute(photos, target=1)


def test_a_mesh_of_another_topology(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    with pytest.raises(AlignmentError, match=r"prnet.*mediapipe-468"):
        CanonicalOcclusion(net, replace(faces, topology="prnet"), few).attribute(photos, target=1)
    fewer = replace(faces, vertices=faces.vertices[:, 1:], visible=faces.visible[:, 1:])
    with pytest.raises(AlignmentError, match=r"467.*468"):
        CanonicalOcclusion(net, fewer, few).attribute(photos, target=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_network_that_returns_no_numbers(few: CanonicalFace, faces: FaceMesh, photos: Tensor, bad: float) -> None:
    with pytest.raises(CanonicalError, match="NaN or infinity"):
        CanonicalOcclusion(lambda z: z.mean((1, 2, 3)) * bad, faces, few).attribute(photos)
    picky = CanonicalOcclusion(lambda z: torch.where((z == 0).flatten(1).any(1), bad, 1.0), faces, few)
    with pytest.raises(CanonicalError, match=re.escape("occluded version of images [0, 1, 2, 3]")):
        picky.attribute(photos + 1)


def test_a_network_that_fails_fails_loudly(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    before = photos.clone()

    def fails(z: Tensor) -> Tensor:
        raise KeyError("of the network")

    with pytest.raises(KeyError, match="of the network"):
        CanonicalOcclusion(fails, faces, few).attribute(photos)
    assert torch.equal(photos, before)
    assert torch.is_grad_enabled()


def test_arguments_after_target_are_by_keyword_only(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    with pytest.raises(TypeError):
        CanonicalOcclusion(net, faces, few).attribute(photos, 1, 0.0)  # type: ignore[misc]
