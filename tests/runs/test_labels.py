"""Labels that change between two calls: all photographs of a run have the new ones, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import captum_canonical as cc
from captum_canonical.data.records import FaceBatch
from run_tools import COUNT, Network, explain, labelled, summary

NEW: dict[str, Any] = {
    "groups": [f"new {number % 3}" for number in range(COUNT)],
    "identities": [f"person {number // 2}" for number in range(COUNT)],
    "names": [f"renamed {number}" for number in range(COUNT)],
}


@pytest.mark.parametrize("form", ["batch", "list of batches"])
@pytest.mark.parametrize("finished", [True, False])
def test_new_labels_are_those_of_all_photographs(tmp_path: Path, finished: bool, form: str) -> None:
    def stop(number: int) -> None:
        seen.add(number)
        if len(seen) > 6 and not finished:
            raise KeyboardInterrupt

    def given(batch: FaceBatch) -> Any:
        return batch if form == "batch" else [batch]

    seen: set[int] = set()
    old = labelled(groups=["old"] * COUNT)
    try:
        explain(tmp_path / "run", Network(stop), given(old))
    except KeyboardInterrupt:
        assert not finished
    result = explain(tmp_path / "run", data=given(labelled(**NEW)))
    records, known = result.run.records, result.run.photographs
    places = records["place"]
    for column, name in (("group", "groups"), ("identity", "identities"), ("name", "names")):
        assert records[column] == [NEW[name][place] for place in places] and known[column] == NEW[name]
        assert result.photos.records[column] == records[column]
    assert {name: part.n for name, part in result.strata("group").items()} == {"new 0": 5, "new 1": 4, "new 2": 4}
    assert "people" in result.significance(permutations=99).sentence
    explain(tmp_path / "whole", data=given(labelled(**NEW)))
    assert summary(tmp_path / "run") == summary(tmp_path / "whole")


def test_labels_decide_nothing_but_targets_do(tmp_path: Path) -> None:
    explain(tmp_path / "run", data=labelled(**NEW))
    seen: list[int] = []
    result = explain(tmp_path / "run", Network(seen.append), labelled())
    assert not seen and set(result.records["group"]) == {None} and "old" not in str(result.run.photographs)
    other = labelled()
    other.targets[3] = 1 - other.targets[3]
    with pytest.raises(cc.CanonicalError, match="photographs, their order, meshes or targets: "):
        explain(tmp_path / "run", data=other)
    assert set(cc.ModelSaliency.open(tmp_path / "run").records["group"]) == {None}
