"""explain_dataset in one process: what it computes and what it refuses."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, NoiseTunnel, Saliency
from torch import nn
from torch.testing import assert_close

import captum_canonical as cc
from dataset_tools import CornerAligner, write_photos
from run_tools import COUNT, SIDE, Network, explain, face, photographs, summary


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    explain(out)
    return out


# ------------------------------------------------------------------------------------------------- what it computes
def test_equals_a_loop_over_the_photographs(finished: Path) -> None:
    """Eq. 6 one photograph at a time, and records of what was explained."""
    images, faces, labels = photographs()
    network, occlusion = Network(), cc.CanonicalOcclusion(Network(), None, face())
    result = cc.ModelSaliency.open(finished)
    records = result.run.records
    total, seen = torch.zeros(1, SIDE, SIDE).double(), torch.zeros(1, SIDE, SIDE).double()
    for row, place in enumerate(records["place"]):
        scores = network(images[place : place + 1])[0].detach()
        target = int(scores.argmax())
        one, hits = occlusion.attribute(
            images[place : place + 1],
            target=target,
            faces=faces[place],
            num_points=12,
            patch_size=7,
            return_coverage=True,
        )
        assert_close(torch.tensor(result.photos.maps[row].copy()), one[0], rtol=1e-5, atol=1e-6)
        assert_close(torch.tensor(result.photos.coverage[row].copy()).double(), hits[0].double())
        total, seen = total + one[0] * (hits[0] > 0), seen + (hits[0] > 0)
        record = {name: column[row] for name, column in records.items()}
        assert (record["name"], record["label"], record["target"]) == (f"image {place}", int(labels[place]), target)
        assert (record["predicted"], record["status"], record["reason"]) == (target, "done", None)
        assert record["score"] == pytest.approx(float(scores[target]), rel=1e-5) and abs(record["yaw"]) < 1e-2
    assert_close(result.mean, total / seen.clamp(min=1), rtol=1e-5, atol=1e-6)
    assert result.n == COUNT and result.run.complete and result.run.missing == ""
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).tolist()
    assert records["place"] == order  # random, so that a run which stops early has seen all kinds


def test_summary_holds_what_it_promises(finished: Path) -> None:
    with np.load(finished / "summary.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    result = cc.ModelSaliency.open(finished)
    for name in ("mean", "standard_error", "variance", "count", "coverage"):
        np.testing.assert_array_equal(arrays[name], getattr(result, name).numpy())
    assert int(arrays["n"]) == COUNT
    maps = np.load(finished / "maps.npy", mmap_mode="r", allow_pickle=False)  # anybody can read them
    assert maps.shape == (COUNT, 1, SIDE, SIDE) and isinstance(maps, np.memmap)


def test_the_same_call_again_computes_nothing(finished: Path) -> None:
    before, seen = summary(finished), []
    stamp = (finished / "maps.npy").stat().st_mtime_ns
    result = explain(finished, Network(seen.append))
    assert seen == [] and summary(finished) == before and (finished / "maps.npy").stat().st_mtime_ns == stamp
    assert result.n == COUNT


@pytest.mark.parametrize(
    ("target", "expected"),
    [("given", [0, 1, 0, 1]), (1, [1, 1, 1, 1]), ("predicted", None)],
)
def test_targets(tmp_path: Path, target: Any, expected: list[int] | None) -> None:
    result = explain(tmp_path / "run", data=photographs(4), target=target)
    places = torch.tensor(result.run.records["place"]).argsort()
    by_place = torch.tensor(result.run.records["target"])[places].tolist()
    scores = Network()(photographs(4)[0])
    assert by_place == (scores.argmax(1).tolist() if expected is None else expected)
    wanted = scores.gather(1, torch.tensor(by_place)[:, None])[:, 0]
    got = torch.tensor(result.run.records["score"])[places]
    assert_close(got, wanted.detach(), rtol=1e-5, atol=1e-6)


def test_one_score_for_each_photograph_needs_no_target(tmp_path: Path) -> None:
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 1)).eval()
    for target in ("predicted", None):
        result = explain(tmp_path / str(target), network, target=target)
        assert result.n == COUNT and set(result.run.records["target"]) == {None}


@pytest.mark.parametrize("kind", ["gradcam", "saliency", "projector", "smoothgrad"])
def test_other_methods_are_projected(tmp_path: Path, kind: str) -> None:
    network = Network()
    made: Any = {
        "gradcam": lambda: LayerGradCam(network, network.layer),
        "saliency": lambda: Saliency(network),
        "projector": lambda: cc.CanonicalProjector(Saliency(network)),
        "smoothgrad": lambda: NoiseTunnel(Saliency(network)),
    }[kind]()
    arguments = {"nt_samples": 3} if kind == "smoothgrad" else {}
    images, faces, _ = data = photographs(5)
    for name in ("run", "again"):  # random numbers of a method are the run's own
        torch.manual_seed(len(name))
        result = cc.explain_dataset(
            network, data, tmp_path / name, method=made, canonical_face=face(), show_progress=False, **arguments
        )
    assert summary(tmp_path / "run") == summary(tmp_path / "again")
    assert result.run.settings["method"]["class"] == "CanonicalProjector"
    if kind != "smoothgrad":
        inner = made if kind == "projector" else cc.CanonicalProjector(made)
        projector = cc.CanonicalProjector(inner.attribution_method, canonical_face=face())
        maps = projector.attribute(images, target=network(images).argmax(1), faces=faces)
        assert_close(result.mean.float(), maps.mean(0), rtol=1e-4, atol=1e-6)


def test_what_the_user_has_stays_as_it_is(tmp_path: Path) -> None:
    network = Network()
    network.layer.register_forward_hook(lambda *_: None)
    method = cc.CanonicalOcclusion(network)
    images, faces, labels = photographs(4)
    before = images.clone(), dict(network.layer._forward_hooks), torch.random.get_rng_state(), np.random.get_state()[1]
    explain(tmp_path / "run", network, (images, faces, labels), method=method)
    assert_close(images, before[0])
    assert dict(network.layer._forward_hooks) == before[1] and method.canonical_face is None
    assert torch.equal(torch.random.get_rng_state(), before[2]) and (np.random.get_state()[1] == before[3]).all()


class LeavesTraces(Saliency):
    """A method that fails for one photograph, and cleans up neither then nor otherwise."""

    def attribute(self, inputs: torch.Tensor, target: object = None) -> torch.Tensor:
        for network in (self.forward_func, self.forward_func.layer):
            network.activations = inputs
            network.register_forward_hook(lambda *_: None)
            network.train()
        self.forward_func.layer.weight.grad = torch.ones_like(self.forward_func.layer.weight)
        if (inputs[:, 0, 0, 0] == 0).any():
            raise RuntimeError("stopped half way")
        return inputs


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_method_leaves_no_traces_on_the_network(tmp_path: Path, wrapped: bool) -> None:
    """Neither on the network of the call nor on the one that only the method knows."""
    network = Network()
    before = [set(vars(module)) for module in network.modules()]
    given = (lambda images: network(images)) if wrapped else network
    result = cc.explain_dataset(
        given,
        photographs(4),
        tmp_path,
        method=LeavesTraces(network),
        canonical_face=face(),
        network_key="key",
        show_progress=False,
    )
    assert result.run.left_out == {0: "image 0: RuntimeError: stopped half way"} and result.n == 3
    assert [set(vars(module)) for module in network.modules()] == before
    for module in network.modules():
        assert not module._forward_hooks and not module.training
    assert network.layer.weight.grad is None


def test_batches_of_a_loader(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 5)
    data = cc.AlignedFaces(tmp_path / "photos", CornerAligner(), size=SIDE)
    corners = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)
    common = {"canonical_face": corners, "num_points": 5}
    loader = torch.utils.data.DataLoader(data, batch_size=2, collate_fn=data.collate)
    streamed = explain(tmp_path / "streamed", data=loader, **common)
    assert streamed.run.records["name"] == [path.name for path in photos]  # as given
    shuffled = explain(tmp_path / "shuffled", data=data, **common)
    read_ahead = explain(tmp_path / "workers", data=data, num_workers=2, **common)
    assert summary(tmp_path / "shuffled") == summary(tmp_path / "workers")
    assert_close(streamed.mean, shuffled.mean, rtol=1e-5, atol=1e-7)
    assert sorted(read_ahead.run.records["name"]) == streamed.run.records["name"]
    assert streamed.run.records["yaw"] is not None
    places = shuffled.run.records["place"]
    for measure in ("size", "sharpness", "outside"):  # of how well faces are seen
        found = [streamed.run.records[measure][place] for place in places]
        assert found == pytest.approx(shuffled.run.records[measure]) and None not in found
    with pytest.raises(cc.CanonicalError, match="can be gone through again"):
        explain(tmp_path / "iterator", data=iter(loader), **common)


# ------------------------------------------------------------------------------------------------ what it refuses
OTHER = {
    "batch_size: 2 there, 3 now": {"batch_size": 3},
    "seed: 0 there, 1 now": {"seed": 1},
    "arguments.patch_size: 7 there, 9 now": {"patch_size": 9},
    "arguments.baselines: nothing there, 0.5 now": {"baselines": 0.5},
    "target: predicted there, 1 now": {"target": 1},
    "method.inference: auto there, dense now": {"inference": "dense"},
    "number of photographs: 13 there, 4 now": {"data": photographs(4)},
    "network: ": {"network": nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2)).eval()},
    "size of the maps": {"canonical_face": cc.CanonicalFace.default(40)},
}


@pytest.mark.parametrize("difference", OTHER)
def test_other_settings_are_refused_with_the_difference(finished: Path, difference: str) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(cc.CanonicalError, match="same settings, but they differ in") as caught:
        explain(finished, **OTHER[difference])
    assert difference in str(caught.value) and "Choose another folder" in str(caught.value)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_one_weight_one_pixel_or_one_label_is_another_run(finished: Path) -> None:
    images, faces, labels = photographs()
    network = Network()
    with torch.no_grad():
        network.layer.bias[1] += 1e-6
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(finished, network)
    for place, changed in enumerate((images.clone(), labels.clone())):
        changed.view(-1)[-1] += 1
        data = (changed, faces, labels) if place == 0 else (images, faces, changed)
        with pytest.raises(cc.CanonicalError, match="photographs, their order, meshes or targets: "):
            explain(finished, data=data)


@pytest.mark.parametrize("name", ["scale", "config", "steps"])
def test_a_setting_of_the_network_that_is_no_weight_is_another_run(tmp_path: Path, name: str) -> None:
    """Arrays, and lists and dicts with arrays in them, as plain attributes."""
    network = Network()
    network.scale, network.config, network.steps = torch.ones(2), {"mean": np.zeros(3), "std": 1.0}, [1, (2.0, "a")]
    explain(tmp_path / "run", network)
    explain(tmp_path / "run", network)
    changed = {"scale": torch.full((2,), 2.0), "config": {"mean": np.ones(3), "std": 1.0}, "steps": [1, (2.0, "b")]}
    setattr(network, name, changed[name])
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(tmp_path / "run", network)


def test_a_stopping_rule_and_pooling_may_change(tmp_path: Path) -> None:
    explain(tmp_path / "run")
    pooled = explain(tmp_path / "run", symmetric=True, until=cc.SplitHalf(0.5))
    assert_close(pooled.mean, pooled.mean.flip(-1))
    assert len(pooled.run.stopping["verdicts"]) == 1 and pooled.run.complete


def test_functions_are_known_by_their_code_and_what_they_hold_or_by_a_key(tmp_path: Path) -> None:
    network, scale, lock = Network(), 1.0, None

    def function(images: torch.Tensor) -> torch.Tensor:
        return network(images) * scale if lock is None else network(images)

    explain(tmp_path / "run", function)  # type: ignore[arg-type]
    explain(tmp_path / "run", function)  # type: ignore[arg-type]
    scale = 2.0
    with pytest.raises(cc.CanonicalError, match=r"network: .*weights, settings, hooks or code are others"):
        explain(tmp_path / "run", function)  # type: ignore[arg-type]
    lock = threading.Lock()
    with pytest.raises(cc.CanonicalError, match=r"\['lock'\] is _thread.lock.*network_key=, a text that changes"):
        explain(tmp_path / "keyed", function)  # type: ignore[arg-type]
    explain(tmp_path / "keyed", function, network_key="version 1")  # type: ignore[arg-type]
    with pytest.raises(cc.CanonicalError, match="network: key version 1 there, key version 2 now"):
        explain(tmp_path / "keyed", function, network_key="version 2")  # type: ignore[arg-type]


def test_a_method_on_another_network_than_the_one_given_is_another_run(tmp_path: Path) -> None:
    network, other = Network(), Network()
    method = cc.CanonicalOcclusion(other, None, face())
    explain(tmp_path / "run", network, method=method, canonical_face=None)
    with torch.no_grad():
        other.layer.bias[1] += 1e-6
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(tmp_path / "run", network, method=method, canonical_face=None)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"target": "best"}, 'target: expected "predicted", "given"'),
        ({"batch_size": 0}, "batch_size: expected an integer from 1 on, got 0"),
        ({"seed": -1}, "seed: expected an integer from 0 on"),
        ({"num_workers": 1.5}, "num_workers: expected an integer"),
        ({"until": 0.05}, r"until: expected StandardError\(...\), SplitHalf\(...\) or None, got 0.05"),
        ({"data": torch.rand(2, 3, 8, 8)}, "data: expected AlignedFaces"),
        ({"data": "photos"}, "data: expected AlignedFaces"),
        ({"data": []}, "at least one photograph"),
        ({"data": [1, 2]}, "iterable of FaceBatch, got a int"),
        ({"data": (torch.rand(2, 3, 8, 8), None)}, r"\(images, faces\)"),
        ({"data": (torch.rand(4, 3, SIDE, SIDE), photographs(3)[1])}, "one mesh for each of the 4 images"),
        ({"faces": photographs(3)[1]}, "explain_dataset sets faces itself"),
        ({"baselines": torch.zeros(13, 3, SIDE, SIDE)}, "baselines: expected a value that is the same for all"),
        ({"method": "occlusion"}, "method: expected an attribution"),
        ({"method": cc.CanonicalOcclusion(Network()), "inference": "dense"}, "inference: expected only without method"),
        ({"method": NoiseTunnel(cc.CanonicalOcclusion(Network()))}, "the other way round"),
        ({"method": cc.CanonicalOcclusion(Network(), None, cc.CanonicalFace.default(40))}, "give it only once"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path: Path, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(cc.CanonicalError, match=match):
        explain(tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()
