"""A run that is killed at any moment, in any write, and started again, ends with the same summary to the byte."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
import torch

import captum_canonical as cc
from captum_canonical.errors import CanonicalError
from run_tools import COUNT, Network, explain, start, summary


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one go, in a process with one thread like the others."""
    folder = tmp_path_factory.mktemp("runs")
    process = start(folder / "output.txt", "explain", out=folder / "run")
    process.join()
    assert process.exitcode == 0, (folder / "output.txt").read_text()
    return folder / "run"


def finish(out: Path, output: Path) -> None:
    process = start(output, "explain", out=out)
    process.join()
    assert process.exitcode == 0, output.read_text()


def test_killed_at_five_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    moments = random.Random(2021)
    out, output, killed = tmp_path / "run", tmp_path / "output.txt", 0
    begun = time.perf_counter()
    start(output, "slow_run", out=tmp_path / "rehearsal").join()
    whole = time.perf_counter() - begun
    while killed < 5:
        process = start(output, "slow_run", out=out)
        time.sleep(moments.uniform(0.05, 0.35) * whole)
        process.kill()
        process.join()
        killed += process.exitcode == -9
        assert process.exitcode == -9 or (out / "summary.npz").exists(), output.read_text()
        if process.exitcode == 0:  # it was faster: begin anew
            for path in out.iterdir():
                path.unlink()
    finish(out, output)
    assert summary(out) == summary(undisturbed)
    assert not list(out.glob("lock*"))


@pytest.mark.parametrize(
    ("what", "times"),
    [
        *[("maps", 0), ("maps", 4), ("coverage", 3), ("records", 0), ("records", 5)],
        *[("manifest", 0), ("photographs", 0), ("summary", 0)],
    ],
)
def test_killed_in_the_middle_of_a_write(undisturbed: Path, tmp_path: Path, what: str, times: int) -> None:
    out, output = tmp_path / "run", tmp_path / "output.txt"
    process = start(output, "run_that_dies_writing", out=out, what=what, times=times)
    process.join()
    assert process.exitcode == -9, output.read_text()
    if (out / "manifest.json").exists():
        # The first write of maps and coverage makes the file.
        batches = {"maps": times - 1, "coverage": times - 1, "records": times, "photographs": 0, "summary": 7}[what]
        partial = cc.ModelSaliency.open(out)
        assert partial.n == min(2 * batches, COUNT)
        assert partial.n == COUNT or f"{COUNT - partial.n} of {COUNT} photographs" in partial.run.missing
    else:
        assert what in ("maps", "manifest") and times == 0
    finish(out, output)
    assert summary(out) == summary(undisturbed)
    records = cc.ModelSaliency.open(out).run.records
    assert records == cc.ModelSaliency.open(undisturbed).run.records and len(records["name"]) == COUNT


def test_ctrl_c_leaves_a_partial_result_that_goes_on(tmp_path: Path) -> None:
    def interrupt(number: int) -> None:
        seen.append(number)
        if len(set(seen)) == 6:
            raise KeyboardInterrupt

    seen: list[int] = []
    explain(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=r"ModelSaliency\.open\('.*run'\) reads it, and the same call goes on"):
        explain(tmp_path / "run", Network(interrupt))
    partial = cc.ModelSaliency.open(tmp_path / "run")
    assert partial.n == 4 and not partial.run.complete and "9 of 13 photographs are not finished" in repr(partial)
    assert bool(torch.isfinite(partial.mean).all()) and bool((partial.mean != 0).any())
    seen.clear()
    whole = explain(tmp_path / "run", Network(seen.append))
    assert whole.run.complete and len(set(seen)) == COUNT - 4  # what was finished is not computed again
    assert summary(tmp_path / "run") == summary(tmp_path / "whole")


class Adapting(Network):
    """Adapts its settings to the images that it is given, as the attention windows of Swin do."""

    window = 7

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.window = min(self.window, x.shape[-1] // 32)
        self.pattern = re.compile("window")
        return super().forward(x)


def test_a_network_that_adapts_itself_to_its_input_is_still_the_same(tmp_path: Path) -> None:
    network = Adapting()
    network.window, network.known = 7, re.compile("a pattern is one of its settings")
    first = explain(tmp_path / "run", network)
    assert network.window == 7 and not hasattr(network, "pattern")
    assert explain(tmp_path / "run", network).n == first.n
    network.known = re.compile("another")
    with pytest.raises(CanonicalError, match="network"):
        explain(tmp_path / "run", network)
