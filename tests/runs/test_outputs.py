"""Runs over networks of several outputs: what is explained is recorded, resumed only as itself, and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.fingerprint import network_digest
from output_tools import COLUMNS, HEADS, ModelOutput, Returns, SevenLogits
from run_tools import SIDE, explain, face, labelled, photographs


def head(name: str = "race", net: nn.Module | None = None, link: str = "probability") -> cc.ClassConfidence:
    return cc.ClassConfidence(net or SevenLogits(), link, output=name, classes=HEADS)


def test_a_run_of_a_head_is_that_of_its_columns_alone(tmp_path: Path) -> None:
    net = SevenLogits()
    result = explain(tmp_path / "head", head("gender"))
    alone = explain(tmp_path / "alone", lambda x: net(x)[:, COLUMNS["gender"]].softmax(1), network_key="alone")
    assert_close(result.mean, alone.mean, rtol=1e-4, atol=1e-6)
    assert result.run.classes == list(HEADS["gender"]) and result.run.settings["output"] == "gender"
    assert set(result.photos.records["target"]) <= {"female", "male"}


def test_a_run_goes_on_with_the_same_head_only(tmp_path: Path) -> None:
    explain(tmp_path, head("race"), labelled(identities=[f"p{number // 2}" for number in range(13)]))
    with pytest.raises(cc.CanonicalError, match=r"output: race there, age now"):
        explain(tmp_path, head("age"), labelled())
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(tmp_path, head("race", SevenLogits(seed=5)), labelled())
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(tmp_path, head("race", link="log_odds"), labelled())


def test_other_lambdas_are_other_runs(tmp_path: Path) -> None:
    net = Returns("heads")
    explain(tmp_path, cc.ClassConfidence(lambda x: net(x)["race"]), device="cpu")
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(tmp_path, cc.ClassConfidence(lambda x: net(x)["age"]), device="cpu")


def test_a_class_is_named_by_the_head(tmp_path: Path) -> None:
    by_name, by_number = (explain(tmp_path / str(target), head(), target=target) for target in ("r2", 2))
    assert_close(by_name.mean, by_number.mean, rtol=0, atol=0)
    with pytest.raises(cc.CanonicalError, match="one of the classes r0, r1, r2"):
        explain(tmp_path / "other", head(), target="female")


def test_names_of_the_data_must_be_those_of_the_head(tmp_path: Path) -> None:
    from dataset_tools import CornerAligner, write_photos

    def data(classes: Any) -> cc.AlignedFaces:
        return cc.AlignedFaces(write_photos(tmp_path / "photos", 3), CornerAligner(), size=SIDE, classes=classes)

    corners = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)
    given = {"canonical_face": corners, "num_points": 5, "target": "predicted"}
    result = explain(tmp_path / "run", head("gender"), data(("female", "male")), **given)
    assert result.run.classes == ["female", "male"]
    with pytest.raises(cc.CanonicalError, match=r"classes: expected the same names .* male, female and female, m"):
        explain(tmp_path / "other", head("gender"), data(("male", "female")), **given)


def test_the_report_names_head_and_classes(tmp_path: Path) -> None:
    explain(tmp_path / "run", head("age"))
    cc.report(cc.ModelSaliency.open(tmp_path / "run"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "output" in page and "young" in page and "old" in page


@pytest.mark.parametrize("net", [Returns("model output"), SevenLogits()])
def test_what_hugging_face_returns_is_explained_as_it_is(tmp_path: Path, net: nn.Module) -> None:
    result = explain(tmp_path, net)
    assert_close(result.mean, explain(tmp_path / "plain", SevenLogits()).mean, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*rounding moves")
def test_half_precision(tmp_path: Path) -> None:
    images, faces, _ = photographs()
    result = explain(tmp_path / "half", head("age", SevenLogits().bfloat16()), (images.bfloat16(), faces))
    whole = explain(tmp_path / "whole", head("age"), (images, faces))
    assert float(torch.corrcoef(torch.stack([result.mean.flatten(), whole.mean.flatten()]))[0, 1]) > 0.5


def test_photographs_without_labels_and_with_strata(tmp_path: Path) -> None:
    groups = ["a", None] * 6 + ["b"]
    result = explain(tmp_path, head("race"), labelled(groups=groups))
    strata = result.strata("predicted")
    assert set(strata) <= set(HEADS["race"]) and sum(each.n for each in strata.values()) == 13


def test_the_benchmark_takes_heads_and_what_is_found() -> None:
    from captum.attr import LayerGradCam, Saliency

    images, faces, _ = photographs(4)
    rows = []
    for net in (SevenLogits(), Returns("model output")):
        methods: dict[str, Any] = {"saliency": Saliency(net), "cam": LayerGradCam(net, net.second)}
        methods["occlusion"] = (cc.CanonicalOcclusion(net), {"num_points": 12})
        result = cc.benchmark(net, images, methods, 1, faces=faces, canonical_face=face(), fills=("zero",), folds=2)
        assert not [row.failure for row in result.rows if row.failure]
        rows.append([row.per_image for row in result.rows])
    assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-6, equal_nan=True)
    gender = head("gender", Returns("heads"))
    result = cc.benchmark(gender, images, {"s": Saliency(gender)}, 1, faces=faces, canonical_face=face(), folds=2)
    assert not [row.failure for row in result.rows if row.failure]


def test_a_twin_of_a_model_output_is_a_dictionary_without_none() -> None:
    made = ModelOutput(loss=None, logits=torch.zeros(1))
    assert list(made) == ["logits"] and made.logits is made["logits"]
    assert network_digest(Returns("heads")) != network_digest(Returns("tuple"))
