"""Model randomisation: similarities against other packages and by hand, weights that come back, layers in order."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam, LayerGradCam, NoiseTunnel, Saliency
from scipy.stats import spearmanr
from torch import Tensor, nn

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.adapters.prnet import load_prnet_mesh
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.sanity.randomization import model_randomization
from captum_canonical.sanity.similarity import MEASURES, spearman
from randomization_tools import CALLED, Net, Spy, changed_layers, exactly, sequence, state, unchanged
from small_networks import SmallNet


def test_layers_are_randomised_one_after_the_other(net: Net, images: Tensor) -> None:
    before, spies = state(net), {}
    for order, layers in (("top_down", CALLED[::-1]), ("bottom_up", CALLED), ("independent", CALLED)):
        spy = spies[order] = Spy(net)
        test = model_randomization(spy, images, model=net, order=order, seeds=[3, 8], layers=CALLED, target=1)
        assert test.layers == layers and test.order == order and test.seeds == (3, 8)
        assert set(test.reinitialised.values()) == {"reset_parameters"}
        for clean in spy.states[:2]:
            assert not changed_layers(before, clean)
        for steps in spy.runs(test):
            for i, weights in enumerate(steps):
                want = {layers[i]} if order == "independent" else set(layers[: i + 1])
                assert changed_layers(before, weights) == want
                if i and order != "independent":  # what was randomised is not drawn again
                    assert changed_layers(steps[i - 1], weights) == {layers[i]}
        unchanged(net, before)
    down, up = (spies[order].states for order in ("top_down", "bottom_up"))
    for last in (6, 11):  # all layers random, by either seed: the same weights
        assert not changed_layers(down[last], up[last])
    assert changed_layers(down[6], down[11]) == set(CALLED) - {"norm"}  # whose initial state is always the same


def test_a_linear_networks_gradient_is_its_random_weight(images: Tensor) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(100, 1, bias=False))
    weights = net[1].weight.detach().clone()
    spy = Spy(net)
    test = model_randomization(spy, images, model=net, seeds=[5], keep_maps=[1])
    exactly(test.original[0, 0].flatten(), weights[0])
    drawn = spy.states[2]["1.weight"][0]
    exactly(test.maps[0, 0, 0, 0].flatten(), drawn)
    assert float(test.similarity["spearman"][0, 0, 1]) == pytest.approx(spearmanr(weights[0], drawn).statistic)
    assert float(test.magnitude[0, 0, 1]) == pytest.approx(float(drawn.abs().sum() / weights.abs().sum()))
    assert float(test.ssim_range[1]) == pytest.approx(float(weights.max() - weights.min()))
    assert test.ssim_window == 9 and test.examples == (1,)


def test_an_attribution_finds_its_network_and_the_order_of_its_layers(net: Net, images: Tensor) -> None:
    assert model_randomization(Saliency(net), images, order="bottom_up", seeds=[0], target=1).layers == CALLED
    assert model_randomization(Saliency(net.forward), images, seeds=[0], target=1).layers == CALLED[::-1]
    confidence = ClassConfidence(net)
    test = model_randomization(NoiseTunnel(Saliency(confidence)), images, seeds=[0], target=1, nt_samples=2)
    assert test.layers == tuple(f"model.{name}" for name in CALLED[::-1])
    guided = model_randomization(GuidedGradCam(net, net.body[2]), images, seeds=[0], target=1)
    assert guided.layers == CALLED[::-1]
    other = model_randomization(Saliency(lambda x: net(x)), images, model=net, seeds=[0], target=1)
    assert other.layers == CALLED[::-1]
    # A callable says nothing about forward passes: the order of registration.
    spied = model_randomization(Spy(net), images, model=net, order="bottom_up", seeds=[0])
    assert spied.layers == ("head", "unused", "norm", "body.0", "body.2")
    # The unused head changes nothing.
    exactly(spied.similarity["spearman"][0], spied.similarity["spearman"][1])


def test_attribution_and_callable_give_the_same(net: Net, images: Tensor) -> None:
    arguments: dict[str, Any] = {"layers": CALLED, "seeds": [0, 4], "target": 1}
    first = model_randomization(Saliency(net), images, abs=False, **arguments)
    second = model_randomization(Spy(net), images, model=net, **arguments)
    third = model_randomization(
        lambda target: Saliency(net).attribute(images, target=target, abs=False), model=net, **arguments
    )
    for measure in MEASURES:
        assert first.similarity[measure].shape == (5, 2, 2)
        exactly(first.similarity[measure], second.similarity[measure])
        exactly(first.similarity[measure], third.similarity[measure])


def test_additional_arguments_and_several_inputs(images: Tensor) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = nn.Linear(4, 1), nn.Linear(100, 4)

        def forward(self, a: Tensor, b: Tensor, sign: Tensor) -> Tensor:
            return sign * self.late((self.early(a.flatten(1)) * self.early(b.flatten(1))).tanh())[:, 0]

    pair = Pair()

    def first(inputs: tuple[Tensor, ...], **arguments: Any) -> Tensor:
        return Saliency(pair).attribute(inputs, **arguments)[0]

    sign = torch.tensor([1.0, -1.0])
    test = model_randomization(first, (images, images.flip(0)), model=pair, additional_forward_args=sign, seeds=[0])
    assert test.similarity["ssim"].shape == (2, 1, 2)
    with pytest.raises(CanonicalError, match=r"expected maps of shape \(N, C, H, W\) from the method, got tuple"):
        model_randomization(Saliency(pair), (images, images), additional_forward_args=sign, seeds=[0])


def test_containers_are_layers_too(net: Net, images: Tensor) -> None:
    spy, before = Spy(net), state(net)
    test = model_randomization(spy, images, model=net, layers=["body", "head"], seeds=[0])
    assert test.layers == ("head", "body")
    assert [changed_layers(before, weights) for weights in spy.runs(test)[0]] == [
        {"head"},
        {"head", "body.0", "body.2"},
    ]


def test_results_do_not_depend_on_the_global_random_state_nor_change_it(net: Net, images: Tensor) -> None:
    method, results, drawn = NoiseTunnel(Saliency(net)), [], []
    for seed in (0, 1):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        results.append(model_randomization(method, images, seeds=[2, 1], target=0, nt_samples=3))
        drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        assert drawn[-1] == (float(torch.rand(())), float(np.random.rand()), random.random())
    assert results[0].control["spearman"].mean() < 0.99  # noise differs from run to run
    for measure in MEASURES:
        exactly(results[0].similarity[measure], results[1].similarity[measure])
        exactly(results[0].control[measure], results[1].control[measure])


def test_both_directions_end_at_the_same_maps_even_of_a_random_method(net: Net, images: Tensor) -> None:
    method, arguments = NoiseTunnel(Saliency(net)), {"target": 0, "nt_samples": 2, "keep_maps": True}
    down, up = (model_randomization(method, images, order=o, **arguments) for o in ("top_down", "bottom_up"))
    exactly(down.maps[-1], up.maps[-1])
    assert not torch.equal(down.maps[0], up.maps[0])


def test_canonical_maps_are_compared_where_the_face_was_seen(faces: FaceMesh) -> None:
    net, photos = SmallNet(32, (8, 8), softmax=False), torch.rand(2, 3, 32, 32)
    face = CanonicalFace.default(size=48)
    for method in (CanonicalOcclusion(net, faces, face), CanonicalProjector(Saliency(net), faces, face)):
        arguments: dict[str, Any] = {"target": 1, "seeds": [0, 1], "keep_maps": True}
        arguments |= {"num_points": 60} if isinstance(method, CanonicalOcclusion) else {"abs": False}
        test = model_randomization(method, photos, **arguments)
        assert test.layers == ("head", "conv1", "conv0") and test.maps.shape == (3, 2, 2, 1, 48, 48)
        call = {key: arguments[key] for key in arguments if key not in ("seeds", "keep_maps")}
        maps, coverage = method.attribute(photos, return_coverage=True, **call)
        exactly(test.original, maps.float())
        seen = coverage[0] > 0
        assert 0.2 < seen.float().mean() < 1
        want = spearmanr(maps[0][seen], test.maps[1, 0, 0][seen]).statistic
        assert float(test.similarity["spearman"][1, 0, 0]) == pytest.approx(want)
        again = model_randomization(method, photos, area=coverage > 0, **arguments)
        exactly(again.similarity["ssim"], test.similarity["ssim"])


def test_similarity_falls_for_occlusion_and_not_for_an_edge_detector(
    faces: FaceMesh, caplog: pytest.LogCaptureFixture
) -> None:
    net, photos, face = SmallNet(32, (8, 8), softmax=False), torch.rand(2, 3, 32, 32), CanonicalFace.default(size=48)
    nn.init.zeros_(net.head.weight)
    with torch.no_grad():
        net.head.weight.view(2, 8, 5, 5)[1, :, 1:3, 1:3] = 1  # a network that reads one eye
    occlusion = CanonicalOcclusion(net, faces, face)
    with caplog.at_level(logging.WARNING, "captum_canonical"):
        test = model_randomization(occlusion, photos, target=1, num_points=80, seeds=range(4))
    assert not caplog.records
    for measure in MEASURES:
        assert float(test.control[measure].mean()) == pytest.approx(1)
    assert (test.summary("spearman").mean < 0.6).all() and (test.summary("top_share").mean < 0.6).all()

    def edges(x: Tensor) -> Tensor:
        return F.conv2d(x.mean(1, keepdim=True), torch.tensor([[[[-1.0, 0, 1]] * 3]]))

    with caplog.at_level(logging.WARNING, "captum_canonical"):
        blind = model_randomization(edges, photos, model=net, seeds=[0])
    assert [float(blind.similarity[m].min()) for m in MEASURES] == pytest.approx([1] * 4)
    assert "no map has changed at all" in caplog.text


def test_a_method_that_looks_into_a_layer_keeps_its_reference(net: Net, images: Tensor) -> None:
    cam = LayerGradCam(net, net.body[2])
    before = cam.attribute(images, target=1).detach()
    test = model_randomization(cam, images, target=1, seeds=[0], keep_maps=True)
    assert test.ssim_window == 5 and not torch.equal(test.maps[-1, 0], before)
    exactly(cam.attribute(images, target=1).detach(), before)


def test_similarity_falls_for_a_real_network(shared: Path) -> None:
    from studies.face_nets import networks as face_nets

    net, folder = face_nets.load(shared / "models", "age_gender"), shared / "data" / "celeba_prnet"
    photos, meshes = [], []
    for name in ("000686", "001841", "001978"):
        picture = cv2.imread(str(folder / "images" / f"{name}.jpg"))[54:214, 9:169]
        picture = cv2.cvtColor(cv2.resize(picture, (112, 112), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
        photos.append(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
        mesh = load_prnet_mesh(folder / "meshes" / f"{name}_mesh.mat", image_size=(218, 178))
        meshes.append(mesh.cropped(left=9, top=54, width=160, height=160).resized((112, 112)))
    from captum_canonical.adapters.prnet import load_prnet_face

    prnet = shared / "data" / "canonical_prnet"
    face = load_prnet_face(prnet / "frontal.jpg", prnet / "frontal_mesh.mat").resized((96, 96))
    method = CanonicalOcclusion(ClassConfidence(net, link="log_odds"), FaceMesh.cat(meshes), face)
    x = torch.stack(photos)
    target, before = net(x).argmax(1), state(net)
    layers = ["model.conv_in", "model.block1", "model.main1", "model.fc_gender"]
    options: dict[str, Any] = {"target": target, "num_points": 100}
    test = model_randomization(method, x, layers=layers, seeds=[0, 1], keep_maps=True, **options)
    unchanged(net, before)
    assert test.layers == tuple(layers[::-1]) and test.flags == ("",) * 3
    for measure in MEASURES:
        assert (test.control[measure] > 0.999).all()
        assert test.summary(measure).mean[-1] < 0.6, measure
    for falling in ("spearman", "top_share", "mass_overlap", "magnitude"):
        means = test.summary(falling).mean
        assert means[0] > means[-1] and means[0] > means[1], falling
    # The mean map (CMS) as well, on the pixels that all of the photographs show.
    seen = (method.attribute(x, return_coverage=True, **options)[1] > 0).all(0)[0]
    mean = test.original.mean(0)[0][seen]
    drawn = [[spearman(mean, maps.mean(0)[0][seen]) for maps in seeds] for seeds in test.maps]
    similarity = torch.tensor(drawn).mean(1)
    assert similarity[0] < 0.6 and similarity[-1] < 0.2 and similarity[0] > similarity[-1]


def test_progress_counts_runs(net: Net, images: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    model_randomization(Saliency(net), images, seeds=[0, 1], target=0, show_progress=True)
    assert "12/12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "downwards"}, "order: expected 'top_down', 'bottom_up' or 'independent', got 'downwards'"),
        ({"reinitialise": "zero"}, "reinitialise: expected 'own', 'normal' or 'permutation', got 'zero'"),
        ({"seeds": []}, "seeds: expected one or more different integers"),
        ({"seeds": [1, 1]}, "seeds: expected one or more different integers"),
        ({"layers": ["body", "tail"]}, r"got \['tail'\]; the network has"),
        ({"layers": "head"}, "layers: expected a sequence of names"),
        ({"layers": []}, "expected a network with parameters"),
        ({"layers": ["body", "body.0"]}, "do not overlap"),
        ({"layers": ["body.1", "head"]}, r"without parameters are \['body.1'\]"),
        ({"return_convergence_delta": True}, r"leave out \['return_convergence_delta'\]"),
        ({"area": torch.ones(1, 1, 10, 10)}, r"area: expected bool of the maps' shape \(2, 1, 10, 10\).*float32"),
        ({"area": torch.ones(3, 1, 10, 10) > 0}, r"area: expected bool.*\(3, 1, 10, 10\)"),
        ({"area": torch.ones(1, 1, 9, 10) > 0}, r"area: expected bool.*\(1, 1, 9, 10\)"),
        ({"keep_maps": [2]}, r"keep_maps: expected True, False or indices 0\.\.1, got \[2\]"),
    ],
)
def test_bad_arguments(net: Net, images: Tensor, arguments: dict[str, Any], message: str) -> None:
    before = state(net)
    with pytest.raises(CanonicalError, match=message):
        model_randomization(Saliency(net), images, target=0, **arguments)
    unchanged(net, before)


def test_networks_and_methods_that_do_not_fit(net: Net, images: Tensor) -> None:
    with pytest.raises(CanonicalError, match=r"model: expected the network.*got function"):
        model_randomization(Saliency(lambda x: net(x)), images)
    with pytest.raises(CanonicalError, match=r"model: expected the network.*got NoneType"):
        model_randomization(lambda: images)
    with pytest.raises(CanonicalError, match="method: expected an attribution or a callable, got str"):
        model_randomization("saliency", images, model=net)  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="expected a network with parameters"):
        model_randomization(lambda: images, model=nn.ReLU())
    with pytest.raises(CanonicalError, match=r"expected maps.*got \(2, 100\)"):
        model_randomization(lambda: images.flatten(1), model=net)
    with pytest.raises(CanonicalError, match=r"maps of one shape from all runs, got \(2, 1, 10, 10\) and \(1, 1"):
        model_randomization(sequence(images, images, images[:1]), model=net)
