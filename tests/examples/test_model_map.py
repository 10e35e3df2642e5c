"""The example from photographs to a map of a network: on two processes the same as on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import captum_canonical as cc
from examples import model_map
from run_tools import free_port
from studies.paper.drawing import not_blank

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_and_one(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd number of photographs in batches of two; one thread each, so that little more than rounding differs."""
    (tmp_path / "photos").mkdir()
    for path in sorted((shared / "data/celeba_prnet/images").iterdir())[:5]:
        (tmp_path / "photos" / path.name).symlink_to(path)
    options = ["--images", tmp_path / "photos", "--models", shared / "models", "--task", "gender"]
    options += ["--points", "24", "--batch-size", "2", "--cache", tmp_path / "faces"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    done = subprocess.run(
        [*map(str, [*launch, ROOT / "examples/model_map.py", *options, "--out", tmp_path / "two"])],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ModelSaliency of 5 photographs" in done.stdout and "cheek_left" in done.stdout

    monkeypatch.setattr(sys, "argv", ["model_map.py", *map(str, [*options, "--out", tmp_path / "one"])])
    model_map.main()
    one, two = (dict(np.load(tmp_path / name / "summary.npz")) for name in ("one", "two"))
    assert {"mean", "standard_error", "coverage", "n"} <= one.keys() and int(two["n"]) == 5
    for name in ("mean", "standard_error", "coverage"):
        largest = float(np.nanmax(np.abs(one[name])))
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5 * largest, equal_nan=True)
    texts = [json.loads((tmp_path / name / "model_map.json").read_text()) for name in ("one", "two")]
    for text in texts:
        assert text["n"] == 5 and text["regions"] and text["unit"] == "drop in log-odds" and text["left_out"] == {}
        assert abs(text["largest_mean"]["value"]) > 0
    assert texts[0]["largest_mean"]["value"] == pytest.approx(texts[1]["largest_mean"]["value"], rel=1e-4)
    for name in ("one", "two"):
        assert not_blank(tmp_path / name / "model_map.png")
        table = (tmp_path / name / "regions.md").read_text()
        assert table.startswith("|") and "forehead" in table
    assert cc.ModelSaliency.open(tmp_path / "two").run.complete
    # With every file of the example in its folder, the run is one that can go on.
    model_map.main()
