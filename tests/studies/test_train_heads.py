"""Heads on a frozen encoder: the regression, its held-out accuracy, and the network that comes out."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import ClassConfidence
from studies.face_nets import train_heads
from studies.face_nets.networks import FAIRFACE, MobileFaceNet, load


def penalised(inputs: Tensor, classes: Tensor, weight: Tensor, bias: Tensor) -> float:
    """The loss, row by row."""
    loss = 0.0
    for row, label in zip((inputs - inputs.mean(0)) / inputs.std(0), classes, strict=True):
        loss -= float(torch.log_softmax(weight @ row + bias, 0)[label]) / len(inputs)
    return loss + train_heads.PENALTY * float((weight**2).sum())


def test_no_other_weights_have_a_smaller_loss() -> None:
    torch.manual_seed(0)
    classes = torch.randint(0, 3, (60,))
    inputs = torch.randn(60, 4, dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1, 3.0]) + 5
    inputs[:, 0] += classes
    weight, bias = train_heads.fit(inputs, classes, 3)
    own, shift = weight * inputs.std(0), bias + weight @ inputs.mean(0)  # of the standardised inputs
    least = penalised(inputs, classes, own, shift)
    for _ in range(20):
        other = penalised(inputs, classes, own + 0.01 * torch.randn_like(own), shift + 0.01 * torch.randn_like(shift))
        assert other > least


def test_logits_do_not_depend_on_the_scale_of_the_inputs() -> None:
    torch.manual_seed(0)
    inputs, classes = torch.randn(40, 3, dtype=torch.float64), torch.randint(0, 2, (40,))
    weight, bias = train_heads.fit(inputs, classes, 2)
    scaled, moved = train_heads.fit(inputs * torch.tensor([2.0, 30.0, 0.5]) - 7, classes, 2)
    logits = (inputs * torch.tensor([2.0, 30.0, 0.5]) - 7) @ scaled.T + moved
    assert_close(logits, inputs @ weight.T + bias, rtol=0, atol=1e-4)


class Patterns(list[SimpleNamespace]):
    """Photographs whose race, gender and age a pattern gives away, as an AlignedFaces has them; one is left out."""

    def __init__(self, count: int = 45) -> None:
        torch.manual_seed(0)
        patterns, self.places = torch.rand(9, 3, 112, 112), tuple(range(1, count + 1))
        super().__init__(
            SimpleNamespace(image=0.9 * patterns[place % 9] + 0.1 * torch.rand(3, 112, 112)) for place in self.places
        )
        self.rows = [SimpleNamespace(groups=self.labels(place % 9)) for place in range(count + 1)]

    @staticmethod
    def labels(pattern: int) -> dict[str, str]:
        return {head: names[(pattern + shift) % len(names)] for shift, (head, names) in enumerate(FAIRFACE.items())}


def test_heads_find_what_the_descriptors_hold(capsys: pytest.CaptureFixture[str]) -> None:
    data, encoder = Patterns(), MobileFaceNet().eval()
    net = train_heads.train(encoder, data)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "45 photographs"
    assert [line.split()[:2] for line in lines[2:]] == [[head, "100.0%"] for head in FAIRFACE]
    photos = torch.stack([data[index].image for index in range(9)])
    for head, names in FAIRFACE.items():
        confidence = ClassConfidence(net, output=head, classes=FAIRFACE)
        with torch.no_grad():
            called = [names[index] for index in confidence(photos).argmax(1)]
        assert called == [data.rows[place].groups[head] for place in data.places[:9]]


def test_labels_that_are_no_labels_tell_nothing() -> None:
    torch.manual_seed(0)
    inputs, classes = torch.randn(400, 5, dtype=torch.float64), torch.randint(0, 2, (400,))
    fold = torch.arange(400) % train_heads.FOLDS
    shares = train_heads.held_out(inputs, classes, 2, fold)
    assert len(shares) == train_heads.FOLDS and abs(sum(shares) / len(shares) - 0.5) < 0.08


def test_heads_of_real_photographs_answer_as_they_were_told(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line, to a file that the example loads."""
    fairface = shared / "data/fairface"
    header, *lines = (fairface / "photos.csv").read_text().splitlines()[:31]
    table = tmp_path / "some.csv"
    table.write_text("\n".join([header, *(f"{fairface}/{line}" for line in lines)]))
    options = {"--table": table, "--models": shared / "models", "--out": tmp_path, "--cache": tmp_path / "meshes"}
    monkeypatch.setattr(sys, "argv", ["train_heads.py", *(str(each) for pair in options.items() for each in pair)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # photographs without a face
        train_heads.main()
        data = train_heads.read_fairface(table, tmp_path / "meshes")
        photos = torch.stack([data[index].image for index in range(len(data))])
    with torch.no_grad():
        logits = load(tmp_path, "fairface")(photos)
    assert (logits[:, 7:9].argmax(1) == train_heads.classes_of(data, "gender")).all()
    assert (logits[:, :7].argmax(1) == train_heads.classes_of(data, "race")).all()
