"""Meshes kept on disk: what makes them be found again, damaged files, full disks, several processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_canonical.data.mesh_cache import MeshCache, StoredMesh, decode, encode
from captum_canonical.errors import CanonicalError
from dataset_tools import CornerAligner, dataset, write_photos

ROOT = Path(__file__).parents[2]
HELPERS = str(ROOT / "tests" / "helpers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 5)
    return tmp_path / "photos"


def calls(source: object, aligner: object = None, **arguments: object) -> list[str]:
    """Names of the photographs that the aligner is called with."""
    data = dataset(source, aligner, **arguments).align()
    assert len(data) == len(data.rows)
    return [Path(name).name for name in CornerAligner.calls]


# ------------------------------------------------------------------------------------------- what is found again
def test_nothing_is_aligned_twice(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new/cache"
    assert len(calls(folder, cache=cache)) == 5
    files = sorted(cache.iterdir())
    assert len(files) == 5 and all(file.suffix == ".npz" for file in files)
    assert calls(folder, cache=cache) == []
    assert calls(folder, cache=cache, size=64, crop=None, mean=0.5) == []  # what is done with a mesh plays no part
    assert sorted(cache.iterdir()) == files
    plain, kept = dataset(folder), dataset(folder, cache=cache)
    for first, second in zip(plain, kept, strict=True):
        assert torch.equal(first.image, second.image) and torch.equal(first.faces.vertices, second.faces.vertices)
        assert torch.equal(first.faces.visible, second.faces.visible) and first.faces.topology == second.faces.topology


def test_one_byte_or_one_setting_is_enough_to_align_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    calls(folder, cache=cache)
    with open(folder / "02.png", "ab") as file:
        file.write(b"\0")  # the picture is still the same
    assert calls(folder, cache=cache) == ["02.png"]
    assert len(calls(folder, CornerAligner(threshold=99), cache=cache)) == 5
    assert len(calls(folder, cache=cache, cache_key="mine")) == 5
    assert calls(folder, cache=cache, cache_key="mine") == calls(folder, cache=cache) == []


def test_names_play_no_part_and_duplicates_are_aligned_once(folder: Path, tmp_path: Path) -> None:
    calls(folder, cache=tmp_path / "cache")
    (folder / "02.png").rename(folder / "renamed.png")
    assert calls(folder, cache=tmp_path / "cache") == []
    assert len(calls([folder / "00.png", folder / "00.png", folder / "01.png"])) == 2


def test_no_face_is_a_result_too(folder: Path, tmp_path: Path) -> None:
    for on_missing in ("raise", "skip"):
        aligner = CornerAligner(threshold=250, on_missing=on_missing)
        for expected in (5, 0):
            with pytest.warns(UserWarning, match="5 of 5 photographs are left out"):
                assert len(dataset(folder, aligner, cache=tmp_path / "cache")) == 0
            assert len(CornerAligner.calls) == expected


def test_an_interrupted_pass_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    class Stops(CornerAligner):
        def __call__(self, images: list[np.ndarray], *, names: list[str]):  # type: ignore[no-untyped-def]
            if len(self.calls) == 3:
                self.calls.append("stop")
                raise KeyboardInterrupt
            return super().__call__(images, names=names)

    data = dataset(folder, Stops(), cache=tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        data.align()
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert len(data) == 5 and data.places == (0, 1, 2, 3, 4)
    assert CornerAligner.calls == ["00.png", "01.png", "02.png", "stop", "03.png", "04.png"]
    CornerAligner.calls.clear()


# ------------------------------------------------------------------------------------------------ damaged entries
def small_entry() -> tuple[str, StoredMesh]:
    mesh = CornerAligner()([np.full((12, 10, 3), 200, np.uint8)], names=["x"])
    return "0123456789abcdef", StoredMesh.of(mesh)


def test_every_flipped_byte_is_noticed_or_harmless() -> None:
    key, stored = small_entry()
    content = encode(key, stored)
    noticed = 0
    for place in range(len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        try:
            read = decode(damaged, key)
        except CanonicalError:
            noticed += 1
        else:
            assert read.digest() == stored.digest()
    assert noticed > len(content) / 2


def test_every_length_but_the_whole_is_noticed() -> None:
    key, stored = small_entry()
    content = encode(key, stored)
    assert decode(content, key).digest() == stored.digest()
    for length in range(len(content)):
        with pytest.raises(CanonicalError, match="damaged"):
            decode(content[:length], key)


def test_entries_of_another_key_or_with_pickles_are_refused(tmp_path: Path) -> None:
    key, stored = small_entry()
    with pytest.raises(CanonicalError, match="another mesh"):
        decode(encode(key, stored), "other key")
    np.savez(tmp_path / "x.npz", vertices=np.array([{}], dtype=object))
    with pytest.raises(CanonicalError, match="damaged"):
        decode((tmp_path / "x.npz").read_bytes(), key)


def test_entries_that_were_packed_again_with_other_numbers_are_refused(tmp_path: Path) -> None:
    key, stored = small_entry()
    (tmp_path / "x.npz").write_bytes(encode(key, stored))
    with np.load(tmp_path / "x.npz") as data:
        arrays = dict(data)
    arrays["vertices"] = arrays["vertices"] + 1
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(CanonicalError, match="damaged"):
        decode((tmp_path / "x.npz").read_bytes(), key)


def test_files_cut_in_half_are_computed_anew_and_said_once(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = dataset(folder, cache=cache)
    expected = first[1].faces.vertices
    for file in list(cache.iterdir())[:3]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning) as said:
        assert len(calls(folder, cache=cache)) == 3
    assert len(said) == 1 and "damaged or incomplete" in str(said[0].message)
    assert said[0].filename == __file__  # the user's own line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert calls(folder, cache=cache) == []
    torch.testing.assert_close(dataset(folder, cache=cache)[1].faces.vertices, expected, rtol=0, atol=0)


# ---------------------------------------------------------------------------------- full disks, several processes
LIMITED = """
import resource, sys, warnings
sys.path.insert(0, {helpers!r})
from dataset_tools import dataset, CornerAligner
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    data = dataset({photos!r}, cache={cache!r})
    total = sum(float(record.image.sum()) for record in data)
print(len(data), len(CornerAligner.calls), [str(each.message)[:30] for each in said], total)
"""


def run(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def output(process: subprocess.Popen[str]) -> str:
    result, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return result.strip()


def test_disk_that_is_full_costs_nothing_but_the_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    total = sum(float(record.image.sum()) for record in dataset(folder))
    script = LIMITED.format(
        helpers=str(ROOT / "tests" / "helpers"), photos=str(folder), cache=str(cache), limit=100
    )  # bytes in a file
    said = f"cache: cannot write to {cache}"[:30]
    assert output(run(script)) == f"5 5 {[said]} {total}"
    assert list(cache.iterdir()) == []  # no half file stays
    assert len(calls(folder, cache=cache)) == 5 and calls(folder, cache=cache) == []


def test_disk_that_fills_up_on_the_way_keeps_what_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moved = os.replace, []

    def until_full(source: Path, target: Path) -> None:
        if len(moved) == 2:
            raise OSError(28, "No space left on device")
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", until_full)
    with pytest.warns(UserWarning, match="No space left") as said:
        assert len(calls(folder, cache=tmp_path / "cache")) == 5
    assert len(said) == 1
    monkeypatch.undo()
    assert sorted((tmp_path / "cache").iterdir()) == sorted(moved)
    assert calls(folder, cache=tmp_path / "cache") == ["02.png", "03.png", "04.png"]


def test_folder_that_cannot_be_made(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot write"):
        assert len(calls(folder, cache=tmp_path / "file/cache")) == 5
    with pytest.raises(CanonicalError, match="expected a folder"):
        dataset(folder, cache=tmp_path / "file")


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 40)
    cache = tmp_path / "cache"
    script = LIMITED.format(
        helpers=str(ROOT / "tests" / "helpers"), photos=str(tmp_path / "photos"), cache=str(cache), limit=10**9
    )
    first, second = (output(process).split() for process in [run(script), run(script)])
    assert first[0] == second[0] == "40" and first[2] == second[2] == "[]" and first[3] == second[3]
    assert len(list(cache.iterdir())) == 40 and all(file.suffix == ".npz" for file in cache.iterdir())
    assert calls(tmp_path / "photos", cache=cache) == []


def test_memory_alone_is_a_cache_as_well() -> None:
    cache = MeshCache()
    key, stored = small_entry()
    assert cache.get(key) is None
    cache.put(key, stored)
    assert cache.get(key) is stored


def test_meshes_on_the_disk_take_no_memory_and_are_read_again(folder: Path, tmp_path: Path) -> None:
    in_memory, on_disk = dataset(folder), dataset(folder, cache=tmp_path / "cache")
    assert len(in_memory) == len(on_disk) == 5
    sizes = [len(pickle.dumps(data)) for data in (in_memory, on_disk)]
    assert sizes[1] < sizes[0]  # although these meshes have nine vertices only
    for place in on_disk.places:
        mesh, other = in_memory[place].faces, on_disk[place].faces
        torch.testing.assert_close(mesh.vertices, other.vertices, rtol=0, atol=0)
        assert in_memory.face_box(place) == on_disk.face_box(place)
    next((tmp_path / "cache").glob("*.npz")).unlink()
    lost = [index for index in range(5) if not readable(on_disk, index)]
    assert len(lost) == 1
    with pytest.raises(CanonicalError, match="a mesh that was found before, but it cannot be read any more"):
        _ = on_disk[lost[0]]


def readable(data: object, index: int) -> bool:
    try:
        return bool(data[index])  # type: ignore[index]
    except CanonicalError:
        return False


def test_processes_that_begin_elsewhere_share_the_work(folder: Path, tmp_path: Path) -> None:
    first = dataset(folder, cache=tmp_path / "cache").align(first=3)
    assert [Path(name).name for name in CornerAligner.calls] == ["03.png", "04.png", "00.png", "01.png", "02.png"]
    assert first.places == (0, 1, 2, 3, 4)  # in order all the same
