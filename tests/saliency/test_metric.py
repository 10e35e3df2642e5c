"""CanonicalModelSaliency: numpy's moments per pixel, whatever the batches, shards and processes."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchmetrics import Metric, MetricCollection

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.saliency.result import ModelSaliency

ROOT = Path(__file__).resolve().parents[2]
SIZE = FACE_SIZE = 16


def data(count: int = 11, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Maps and coverages in which one image was not seen at all, and some pixels in no image or in one."""
    maps = torch.randn(count, 1, SIZE, SIZE, dtype=torch.float64) + offset
    coverage = torch.randint(0, 4, maps.shape).double()
    coverage[3] = 0
    coverage[:, :, :2, 2] = 0
    coverage[5, :, 0, 2] = 3  # in one image only
    maps[coverage == 0] = torch.nan  # what a map holds where nothing was seen must not matter
    return maps, coverage


def slow(maps: Tensor, coverage: Tensor) -> dict[str, np.ndarray]:
    """The definition, pixel by pixel."""
    out = {name: np.zeros((1, SIZE, SIZE)) for name in ("mean", "variance", "count", "coverage")}
    for r in range(SIZE):
        for c in range(SIZE):
            values = [float(m[0, r, c]) for m, k in zip(maps, coverage, strict=True) if k[0, r, c] > 0]
            out["count"][0, r, c] = len(values)
            out["mean"][0, r, c] = np.mean(values) if values else 0.0
            out["variance"][0, r, c] = np.var(values, ddof=1) if len(values) > 1 else np.nan
            out["coverage"][0, r, c] = float(coverage[:, 0, r, c].sum())
    return out


def check(got: ModelSaliency, maps: Tensor, coverage: Tensor, rtol: float = 1e-10) -> None:
    want = slow(maps, coverage)
    for name, array in want.items():
        value = getattr(got, name)
        assert_close(value.double(), torch.from_numpy(array), rtol=rtol, atol=1e-12, equal_nan=True, msg=name)
    assert got.n == int((coverage.flatten(1) > 0).any(1).sum())


def test_one_pass_equals_numpy(face: CanonicalFace) -> None:
    maps, coverage = data()
    metric = CanonicalModelSaliency(face)
    metric.update(maps, coverage)
    saliency = metric.compute()
    check(saliency, maps, coverage)
    assert saliency.n == 10 and isinstance(saliency, ModelSaliency)
    assert saliency.mean.shape == (1, SIZE, SIZE) and saliency.mean.dtype == torch.float64
    assert saliency.count.dtype == torch.int64
    assert saliency.count[0, 0, 2] == 1 and saliency.count[0, 1, 2] == 0 and saliency.mean[0, 1, 2] == 0
    error = (saliency.variance / saliency.count.clamp(min=1)).sqrt()
    assert_close(saliency.standard_error, error, equal_nan=True)


def test_the_mean_counts_images_not_hits(face: CanonicalFace) -> None:
    maps = torch.tensor([1.0, 5.0])[:, None, None, None].expand(2, 1, SIZE, SIZE)
    coverage = torch.tensor([9, 1])[:, None, None, None].expand(2, 1, SIZE, SIZE)
    metric = CanonicalModelSaliency(face)
    metric.update(maps, coverage)
    saliency = metric.compute()
    assert_close(saliency.mean, torch.full((1, SIZE, SIZE), 3.0, dtype=torch.float64))
    assert_close(saliency.coverage, torch.full((1, SIZE, SIZE), 10.0, dtype=torch.float64))


def test_without_coverage_every_pixel_counts(face: CanonicalFace) -> None:
    maps = torch.randn(3, 1, SIZE, SIZE)
    metric = CanonicalModelSaliency(face)
    metric.update(maps)
    check(metric.compute(), maps, torch.ones_like(maps), rtol=1e-6)


def test_large_values_with_small_differences_stay_accurate(face: CanonicalFace) -> None:
    maps, coverage = data(40, offset=1e6)
    maps = 1e6 + (maps - 1e6) * 1e-3  # the relative spread is 1e-9; the naive sum of squares has no digit of it left
    metric = CanonicalModelSaliency(face)
    for row in range(40):
        metric.update(maps[row : row + 1], coverage[row : row + 1])
    check(metric.compute(), maps, coverage, rtol=1e-6)


def test_nothing_seen_at_all(face: CanonicalFace) -> None:
    metric = CanonicalModelSaliency(face)
    metric.update(torch.full((2, 1, SIZE, SIZE), torch.nan), torch.zeros(2, 1, SIZE, SIZE))
    saliency = metric.compute()
    assert saliency.n == 0 and not saliency.count.any() and not saliency.mean.any()
    assert saliency.variance.isnan().all() and saliency.standard_error.isnan().all()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert CanonicalModelSaliency(face).compute().n == 0


@pytest.mark.parametrize("cuts", [[1] * 11, [4, 7], [10, 1], [0, 11, 0]])
def test_batches_shards_and_forward_give_the_same(face: CanonicalFace, cuts: list[int]) -> None:
    maps, coverage = data()
    batches = list(zip(maps.split(cuts), coverage.split(cuts), strict=True))
    streamed, stepped, merged = (CanonicalModelSaliency(face) for _ in range(3))
    for batch in batches:
        streamed.update(*batch)
        check(stepped(*batch), *batch)  # forward() returns the result of the batch
    for index in torch.randperm(len(batches)).tolist():
        shard = CanonicalModelSaliency(face)
        shard.update(*batches[index])
        merged.merge_state(shard)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Metric believes that a merged metric has nothing to compute
        for metric in (streamed, stepped, merged):
            check(metric.compute(), maps, coverage)


def test_merging_maps_of_another_face_is_refused(face: CanonicalFace) -> None:
    metric = CanonicalModelSaliency(face)
    for other in (
        CanonicalModelSaliency(CanonicalFace.default(size=8)),
        CanonicalModelSaliency(replace(face, topology="another")),
        CanonicalModelSaliency(face, symmetric=True),
    ):
        with pytest.raises(CanonicalError, match="merge_state: expected a metric with"):
            metric.merge_state(other)


def test_two_gloo_processes_give_the_same(tmp_path: Path) -> None:
    maps, coverage = data()
    cases = [(11, 0), (0, 11), (4, 7)]  # images of rank 0 and of rank 1
    shards = [list(zip(maps.split(counts), coverage.split(counts), strict=True)) for counts in cases]
    for rank in range(2):
        torch.save([{"maps": s[rank][0], "coverage": s[rank][1]} for s in shards], tmp_path / f"shards{rank}.pt")
    run_two_workers(tmp_path)
    results = [torch.load(tmp_path / f"results{rank}.pt", weights_only=True) for rank in range(2)]
    for case, (counts, split) in enumerate(zip(cases, shards, strict=True)):
        more = min(1, counts[0])  # rank 0 has had its first image a second time, if it has any
        again = torch.cat([maps, maps[:more]]), torch.cat([coverage, coverage[:more]])
        for rank in range(2):
            check(ModelSaliency(**results[rank][case]["first"]), maps, coverage)
            check(ModelSaliency(**results[rank][case]["second"]), *again)
        # After computing together, each process goes on with its own images only.
        seen = [int((k.flatten(1) > 0).any(1).sum()) for _, k in split]
        assert [results[rank][case]["images"] for rank in range(2)] == [seen[0] + more, seen[1]]


def run_two_workers(folder: Path) -> None:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    idle = "error:The ``compute`` method of metric"  # no such warning on a rank that has had no image
    command = [sys.executable, "-W", idle, str(ROOT / "tests" / "helpers" / "gloo_worker.py")]
    processes = [
        subprocess.Popen([*command, str(rank), "2", str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()


def test_symmetric_pools_both_sides_and_counts_the_image_once(face: CanonicalFace) -> None:
    maps, coverage = data()
    pooled, hits = torch.zeros_like(maps), torch.zeros_like(coverage)
    for n in range(len(maps)):
        for r in range(SIZE):
            for c in range(SIZE):
                sides = [(n, 0, r, c), (n, 0, r, SIZE - 1 - c)]
                values = [maps[side] for side in sides if coverage[side] > 0]
                pooled[n, 0, r, c] = sum(values) / len(values) if values else torch.nan
                hits[n, 0, r, c] = sum(coverage[side] for side in sides)
    metric = CanonicalModelSaliency(face, symmetric=True)
    metric.update(maps[:6], coverage[:6])
    metric.update(maps[6:], coverage[6:])
    saliency = metric.compute()
    check(saliency, pooled, hits)
    assert_close(saliency.mean, saliency.mean.flip(-1))
    assert saliency.count.max() <= saliency.n == 10


def test_symmetric_needs_a_symmetric_face(face: CanonicalFace) -> None:
    turned = replace(face, vertices=face.vertices + 1, mirror_symmetric=False)
    unknown = CanonicalFace.from_vertices(face.image, face.vertices, face.triangles)
    for other in (turned, unknown):
        assert CanonicalModelSaliency(other).symmetric is False
        with pytest.raises(CanonicalError, match="symmetric=True expects a canonical face with a left-right"):
            CanonicalModelSaliency(other, symmetric=True)


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.float(),
        lambda m: m.half(),
        lambda m: m.to(torch.float32),
        lambda m: m.to("cpu", torch.float16),
        lambda m: m.set_dtype(torch.float32),
        lambda m: torch.nn.ModuleList([m]).to(torch.float32)[0],
        lambda m: torch.nn.ModuleList([m]).half()[0],
    ],
)
def test_sums_stay_in_double_precision(face: CanonicalFace, cast) -> None:
    maps, coverage = data(offset=1e6)
    metric = CanonicalModelSaliency(face)
    metric.update(maps[:5], coverage[:5])
    metric = cast(metric)
    assert metric.moments.dtype == torch.float64 and metric.images.dtype == torch.int64
    metric.update(maps[5:], coverage[5:])
    check(metric.compute(), maps, coverage, rtol=1e-8)
    metric.reset()
    metric.update(maps, coverage)
    check(metric.compute(), maps, coverage, rtol=1e-8)


def test_state_survives_saving_loading_copying_and_reset(face: CanonicalFace) -> None:
    maps, coverage = data()
    metric = CanonicalModelSaliency(face)
    metric.update(maps[:6], coverage[:6])
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    loaded = CanonicalModelSaliency(face)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = [loaded, metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(loaded.compute(), maps[:6], coverage[:6])
        for other in copies:
            other.update(maps[6:], coverage[6:])
            check(other.compute(), maps, coverage)
    check(metric.compute(), maps[:6], coverage[:6])
    metric.reset()
    metric.update(maps, coverage)
    check(metric.compute(), maps, coverage)


def test_a_state_of_another_face_is_not_loaded(face: CanonicalFace) -> None:
    state = CanonicalModelSaliency(CanonicalFace.default(size=8)).state_dict()
    with pytest.raises(CanonicalError, match=r"expected a state of shapes .*\(3, 16, 16\).* got .*\(3, 8, 8\)"):
        CanonicalModelSaliency(face).load_state_dict(state)


def test_it_works_in_a_metric_collection(face: CanonicalFace) -> None:
    metric = CanonicalModelSaliency(face)
    assert isinstance(metric, Metric)
    together = MetricCollection({"gradcam": metric, "occlusion": metric.clone()})
    maps, coverage = data()
    together.update(maps, coverage)
    for saliency in (together["gradcam"].compute(), together["occlusion"].compute()):
        check(saliency, maps, coverage)


def test_results_and_inputs_are_independent_of_later_updates(face: CanonicalFace) -> None:
    maps, coverage = data()
    given = maps.clone().requires_grad_(), coverage.clone()
    metric = CanonicalModelSaliency(face)
    metric.update(*given)
    first = metric.compute()
    names = ("mean", "variance", "count", "coverage")
    kept = [getattr(first, name).clone() for name in names]
    metric.update(maps + 1, coverage)
    metric.compute().mean.fill_(7.0)
    first.mean.mul_(1.0)
    assert_close([getattr(first, name) for name in names], kept, equal_nan=True)
    assert_close(given[0].detach(), maps, equal_nan=True)
    assert_close(given[1], coverage)
    assert not first.mean.requires_grad and not metric.moments.requires_grad


@pytest.mark.parametrize(
    ("maps", "coverage", "message"),
    [
        (torch.zeros(2, 1, 8, 8), None, r"\(N, 1, 16, 16\), the canonical face's size, got \(2, 1, 8, 8\)"),
        (torch.zeros(2, 3, 16, 16), None, r"got \(2, 3, 16, 16\)"),
        (torch.zeros(1, 16, 16), None, r"got \(1, 16, 16\)"),
        ([1.0], None, "got <class 'list'>"),
        (torch.zeros(2, 1, 16, 16), torch.ones(1, 1, 16, 16), r"coverage of the maps' shape .* got \(1, 1, 16, 16\)"),
        (torch.zeros(2, 1, 16, 16), 1.0, "got <class 'float'>"),
        (torch.zeros(2, 1, 16, 16), torch.full((2, 1, 16, 16), -1.0), r"in rows \[0, 1\]"),
        (torch.zeros(2, 1, 16, 16), torch.full((2, 1, 16, 16), torch.nan), r"in rows \[0, 1\]"),
    ],
)
def test_bad_input(face: CanonicalFace, maps, coverage, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        CanonicalModelSaliency(face).update(maps, coverage)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_named_and_nothing_is_added(face: CanonicalFace, value: float) -> None:
    maps, coverage = data()
    metric = CanonicalModelSaliency(face)
    metric.update(maps, coverage)
    broken = torch.zeros(4, 1, SIZE, SIZE)
    broken[2, 0, 3, 3] = value
    with pytest.raises(CanonicalError, match=r"expected finite maps wherever they are covered.* in rows \[2\]"):
        metric.update(broken)
    check(metric.compute(), maps, coverage)
