"""A run on several processes gives the map of one, whatever is dealt to whom; if one of them goes, so do the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.run_folder import RunFolder
from run_tools import COUNT, explain, free_port, start, summary, together

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process with one thread, as the others have."""
    folder = tmp_path_factory.mktemp("alone")
    start(folder / "output.txt", "explain", out=folder / "run").join()
    return folder / "run"


def check_same(out: Path, alone: Path) -> None:
    """With as many threads in each process not even rounding differs."""
    ours, theirs = cc.ModelSaliency.open(out), cc.ModelSaliency.open(alone)
    assert ours.run.complete and ours.run.records == theirs.run.records
    for name in ("mean", "variance", "count", "coverage"):
        assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=0, equal_nan=True)
    assert summary(out) == summary(alone)


@pytest.mark.parametrize("ranks", [2, 3])
def test_same_map_as_one_process(alone: Path, tmp_path: Path, ranks: int) -> None:
    codes, output = together(tmp_path, "explain", ranks, out=tmp_path / "run")
    assert codes == [0] * ranks, output
    check_same(tmp_path / "run", alone)
    shares = [len((tmp_path / f"run/records-{rank}.jsonl").read_text().splitlines()) for rank in range(ranks)]
    assert sum(shares) == COUNT and max(shares) - min(shares) <= 3  # seven batches, the last of one photograph


def test_a_process_without_photographs(tmp_path: Path) -> None:
    explain(tmp_path / "alone", batch_size=7)
    codes, output = together(tmp_path, "explain", 3, out=tmp_path / "run", batch_size=7)  # two batches for three
    assert codes == [0] * 3, output
    check_same(tmp_path / "run", tmp_path / "alone")
    assert not (tmp_path / "run/records-2.jsonl").exists()


def test_photographs_that_fail_on_one_process_only(tmp_path: Path) -> None:
    start(tmp_path / "output.txt", "run_that_fails_on", out=tmp_path / "alone", numbers=(3, 8)).join()
    codes, output = together(
        tmp_path, "run_that_fails_on", 2, out=tmp_path / "run", numbers=(), by_rank=[{}, {"numbers": tuple(range(20))}]
    )
    assert codes == [0, 0], output
    result = cc.ModelSaliency.open(tmp_path / "run")
    assert result.run.complete and 0 < len(result.run.left_out) < COUNT
    assert result.n == COUNT - len(result.run.left_out)
    assert all("is not to my taste" in reason for reason in result.run.left_out.values())
    assert result.run.records["status"].count("failed") == len(result.run.left_out)
    one = cc.ModelSaliency.open(tmp_path / "alone")
    assert one.n == COUNT - 2


@pytest.mark.parametrize("after", [2, 3])
def test_a_process_that_dies_ends_the_others_and_the_run_goes_on_with_any_number(
    alone: Path, tmp_path: Path, after: int
) -> None:
    deadly = int(cc.ModelSaliency.open(alone).run.records["place"][2 * 3])  # the fourth batch, of process 1
    codes, output = together(
        tmp_path, "run_that_dies_on", 2, out=tmp_path / "run", number=-1, by_rank=[{}, {"number": deadly}]
    )
    assert codes == [1, -9], output
    assert "another process of this run has ended" in output[0] and "the same call goes on from there" in output[0]
    partial = cc.ModelSaliency.open(tmp_path / "run")
    assert partial.n == 6 and not partial.run.complete
    assert "7 of 13 photographs are not finished (3 behind the first gap" in partial.run.missing
    codes, output = together(tmp_path, "explain", after, out=tmp_path / "run")
    assert codes == [0] * after, output
    check_same(tmp_path / "run", alone)


def test_an_error_of_one_process_is_one_of_all(alone: Path, tmp_path: Path) -> None:
    full = int(cc.ModelSaliency.open(alone).run.records["place"][2 * 3])
    codes, output = together(
        tmp_path, "run_that_raises_on", 2, out=tmp_path / "run", number=-1, by_rank=[{}, {"number": full}]
    )
    assert codes == [1, 1]
    assert "process 1 of 2 failed: CanonicalError" in output[0] and "No space left on device" in output[0]
    assert "make room and make the same call again" in output[1]
    start(tmp_path / "output.txt", "explain", out=tmp_path / "run").join()
    check_same(tmp_path / "run", alone)


def test_different_calls_are_refused_before_any_work(tmp_path: Path) -> None:
    codes, output = together(tmp_path, "different_calls", 2, out=tmp_path / "run")
    assert codes == [1, 1]
    assert "expected the same call in all processes, got" in output[1] and "seed: 0 there, 1 now" in output[1]
    assert not list((tmp_path / "run").glob("records*"))


def test_stopping_rules_are_judged_on_the_state_of_all(tmp_path: Path) -> None:
    codes, output = together(tmp_path, "stopped_run", 2, out=tmp_path / "run")
    assert codes == [0, 0], output
    start(tmp_path / "output.txt", "stopped_run", out=tmp_path / "alone").join()
    result, alone = cc.ModelSaliency.open(tmp_path / "run"), cc.ModelSaliency.open(tmp_path / "alone")
    assert result.run.stopping == alone.run.stopping and result.run.stopping["stopped_at"] == 64
    assert result.n == 64 and summary(tmp_path / "run") == summary(tmp_path / "alone")


@pytest.mark.parametrize("work", ["twice", "in_a_group_of_its_own"])
def test_groups_of_the_script_and_several_calls(tmp_path: Path, work: str) -> None:
    codes, output = together(tmp_path, work, 2, out=tmp_path / "run")
    assert codes == [0, 0], output


def test_torchrun(tmp_path: Path, alone: Path) -> None:
    """The real launcher, and two calls after each other."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nimport run_tools\n"
        "for name in ('first', 'second'):\n    run_tools.explain(Path(sys.argv[1]) / name)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/helpers'}", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    done = subprocess.run([*launch, script, tmp_path], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("first", "second"):
        check_same(tmp_path / name, alone)


def test_torchrun_with_limits_of_the_quality_of_faces(tmp_path: Path) -> None:
    """All processes leave out the same photographs, whichever of them found the face."""
    drawn = cc.CanonicalFace.default().image.permute(1, 2, 0).mul(255).byte().numpy()
    (tmp_path / "photos").mkdir()
    for number, side in enumerate((120, 224, 100, 180, 224, 160)):
        picture = np.full((240, 240, 3), 10 * number, np.uint8)
        picture[:side, :side] = cv2.resize(drawn, (side, side))
        Image.fromarray(picture).save(tmp_path / f"photos/{number}.png")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, warnings\nfrom pathlib import Path\nimport captum_canonical as cc\nimport run_tools\n"
        "warnings.simplefilter('ignore')\nhere = Path(sys.argv[1])\n"
        "data = cc.AlignedFaces(here / 'photos', size=run_tools.SIDE, cache=here / sys.argv[3], "
        "quality={'size': (120, None)})\n"
        "run_tools.explain(here / sys.argv[2], data=data, canonical_face=cc.CanonicalFace.default(run_tools.SIDE))\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/helpers'}", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    for start_of_command, name in ((launch, "two"), ([sys.executable], "one")):
        command = [*start_of_command, script, tmp_path, name, f"cache of {name}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
    two, one = (cc.ModelSaliency.open(tmp_path / name) for name in ("two", "one"))
    assert (
        sorted(two.photos.records["name"]) == sorted(one.photos.records["name"]) == ["1.png", "3.png", "4.png", "5.png"]
    )
    assert_close(two.mean, one.mean)
    left_out = [RunFolder.open(tmp_path / name).photographs["left_out"] for name in ("two", "one")]
    assert left_out[0] == left_out[1] and left_out[0].count("low quality") == 2


def test_faces_are_found_by_one_process_each(tmp_path: Path) -> None:
    from dataset_tools import write_photos

    photos = write_photos(tmp_path / "photos", 6)
    codes, output = together(tmp_path, "aligned_run", 2, out=tmp_path / "run", photos=tmp_path / "photos")
    assert codes == [0, 0], output
    found = [(tmp_path / f"aligned-{rank}.txt").read_text().split() for rank in range(2)]
    assert sorted({*found[0], *found[1]}) == [path.name for path in photos]
    assert found[0][0] == "00.png" and found[1][0] == "03.png"
    assert len(found[0]) + len(found[1]) < 12  # at least one was spared; both are equally fast, so nearly all are
    assert np.isfinite(cc.ModelSaliency.open(tmp_path / "run").mean.numpy()).all()
