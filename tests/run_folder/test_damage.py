"""Bytes of a run folder that are not as they were written are found, and the same call puts them right."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import captum_canonical as cc
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.run_folder.layout import RowFile
from captum_canonical.saliency.result import ModelSaliency
from run_tools import COUNT, Network, explain, photographs, summary

FLIPS = 40  # in each file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    explain(out)
    return out


def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True))


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def all_that_is_read(out: Path) -> list[object]:
    result = ModelSaliency.open(out)
    photos, run = result.photos, result.run
    assert photos is not None and run is not None
    loaded = ModelSaliency.load(out / "summary.npz")
    arrays = [result.mean, result.count, loaded.mean, loaded.variance, loaded.canonical_face.vertices]
    return [
        *(array.nan_to_num(-1).tolist() for array in arrays),
        *(photos.maps.tolist(), photos.coverage.tolist(), photos.records, run.left_out, run.missing),
        *(run.settings, run.versions, run.stopping, run.photographs, result.canonical_face.vertices.tolist()),
    ]


def test_a_flipped_bit_anywhere_is_noticed_or_means_nothing(whole: Path, tmp_path: Path) -> None:
    places, tried, noticed = random.Random(0), Counter[str](), Counter[str]()
    before = all_that_is_read(whole)
    for path in sorted(whole.iterdir()):
        for _ in range(FLIPS if path.stat().st_size else 0):
            out = copied(whole, tmp_path)
            flip(out / path.name, places.randrange(path.stat().st_size), places.randrange(8))
            tried[path.name] += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    assert all_that_is_read(out) == before, path.name
            except (cc.CanonicalError, UserWarning, AssertionError) as error:
                silent = isinstance(error, AssertionError) and not RunFolder.open(out).missing
                assert not silent, path.name
                noticed[path.name] += 1
    print({name: f"{noticed[name]} of {tried[name]}" for name in tried})  # the others mean nothing, such as a date
    assert {"maps.npy", "coverage.npy", "records-0.jsonl", "manifest.json", "photographs.json"} <= noticed.keys()
    for name in ("maps.npy", "coverage.npy", "records-0.jsonl"):
        assert noticed[name] == tried[name]


@pytest.mark.parametrize("name", ["maps.npy", "coverage.npy"])
def test_a_damaged_map_is_left_out_and_computed_anew(whole: Path, tmp_path: Path, name: str) -> None:
    out = copied(whole, tmp_path)
    size = (out / name).stat().st_size
    row = 5
    flip(out / name, 128 + (size - 128) // COUNT * row + 40)
    with pytest.warns(UserWarning, match=rf"1 damaged and left out: image \d+ \({name}\)"):
        result = cc.ModelSaliency.open(out)
    photo = RunFolder.open(whole).records["name"][row]
    assert result.n == COUNT - 1 and result.run.left_out == {
        result.run.records["place"][row]: f"{photo}: {name} is damaged"
    }
    assert result.run.records["status"][row] == "damaged" and "damaged" in result.run.missing
    assert bool(torch.isfinite(result.mean).all())
    with pytest.raises(cc.CanonicalError, match="the summary is not written, because the run is damaged"):
        result.save_summary()
    with pytest.raises(cc.CanonicalError, match=rf"{name}: the map of {photo} \(row {row}\) is damaged"):
        result.run.tensors(4, 7)
    assert summary(out) == summary(whole)
    seen: list[int] = []
    with pytest.warns(UserWarning, match=rf"{name}: damaged in 1 rows \({row}\); their photographs are computed anew"):
        explain(out, Network(seen.append))
    assert len(set(seen)) == 2  # its batch
    assert summary(out) == summary(whole) and (out / name).read_bytes() == (whole / name).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cc.ModelSaliency.open(out).run.complete


def test_damage_in_records_summary_and_face_is_put_right(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path)
    content = (out / "records-0.jsonl").read_bytes()
    (out / "records-0.jsonl").write_bytes(content.replace(b'"score": ', b'"score":1', 1))
    assert "records in records-0.jsonl are damaged" in RunFolder.open(out).missing
    with pytest.raises(cc.CanonicalError, match="the summary is not written"):
        cc.ModelSaliency.open(out).save_summary()
    for name in ("summary.npz", "canonical_face.npz"):
        flip(out / name, (out / name).stat().st_size // 2)
    with pytest.raises(cc.CanonicalError):
        cc.ModelSaliency.open(out)
    with pytest.warns(UserWarning, match="It is written again"):
        explain(out)
    assert summary(out) == summary(whole)


def test_a_damaged_stopping_file_is_judged_again(tmp_path: Path) -> None:
    explain(tmp_path / "run", until=cc.SplitHalf(0.5))
    path = tmp_path / "run/stopping.json"
    path.write_text(path.read_text().replace("13", "12"))
    with pytest.raises(cc.CanonicalError, match="Make the call that made the run again"):
        RunFolder.open(tmp_path / "run")
    assert explain(tmp_path / "run", until=cc.SplitHalf(0.5)).run.stopping["verdicts"][0]["photos"] == COUNT


# ------------------------------------------------------------------------------------------------ nothing to write to
def test_a_finished_run_in_a_read_only_folder(whole: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(shutil.copytree(whole, Path(folder) / "run"))
        os.chmod(folder, 0o755)
        for path in (*out.iterdir(), out):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        mine = os.geteuid()
        if mine == 0:
            os.seteuid(65534)  # to whom permissions apply
        try:
            opened = cc.ModelSaliency.open(out)
            assert opened.n == COUNT and bool(torch.isfinite(opened.mean).all())
            assert torch.equal(explain(out).mean, opened.mean)  # the same call finds that there is nothing to do
            with pytest.raises(cc.CanonicalError, match="expected a folder that can be locked"):
                images, faces, labels = photographs()
                explain(out, data=(images, faces, labels), until=cc.SplitHalf(0.5))
        finally:
            os.seteuid(mine)
        # By the first user: another one may not be allowed to read the packages that a report imports.
        page = cc.report(opened, Path(folder) / "page.html", photos=False)
        assert page.stat().st_size > 1000
        out.chmod(0o755)
        assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_run_without_a_finished_photograph_says_so_for_everything(tmp_path: Path) -> None:
    def stop(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(tmp_path / "run", Network(stop))
    result = cc.ModelSaliency.open(tmp_path / "run")
    assert result.n == 0 and "13 of 13 photographs are not finished" in repr(result)
    assert result.run.maps.shape[0] == 0 and result.run.left_out == {}
    tries = [lambda name=name: getattr(result, name) for name in ("mean", "variance", "count", "coverage", "pixels")]
    tries += [lambda: result.standard_error, result.significance, result.concentration, lambda: result.strata("group")]
    tries += [lambda: cc.region_table(result), lambda: result.save(tmp_path / "a.npz"), result.save_summary]
    for attempt in tries:
        with pytest.raises(cc.CanonicalError, match=r"no photograph of this run has a map. 13 of 13"):
            attempt()
    assert not (tmp_path / "run/summary.npz").exists()


def test_rows_are_read_as_they_are_checked(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.npy", (3, 2), np.dtype(np.float32))
    file.create()
    file.write(1, np.ones((1, 2), np.float32))
    assert file.read(0, 3).tolist() == [[0, 0], [1, 1], [0, 0]]
