"""Small networks that learn what a mark means, and what it does not mean, from photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.data.records import FaceBatch
from studies.planted.finding import CMS, GRAD_CAM, IMAGE, METHODS, POINTS, canonical, fill, occlusion_maps
from studies.planted.photographs import PATCH, Mark, Photographs
from studies.planted.trials import Trial, drawn

STEPS, BATCH, RATE = 250, 64, 1e-2


def small_network() -> nn.Sequential:
    """Two convolutions on fixed colours, the largest value of each channel, and two linear layers: 4,000 weights.

    The colours (brightness, red - green, blue - both) are given because that saves most of the training.
    """
    colours = nn.Conv2d(3, 3, 1)
    colours.weight.data = torch.tensor([[1.0, 1, 1], [5, -5, 0], [-2.5, -2.5, 5]]).view(3, 3, 1, 1)
    colours.bias.data = torch.tensor([-1.5, -0.5, 0.8])
    layers: list[nn.Module] = [colours.requires_grad_(False), nn.AvgPool2d(2)]
    for wide_in, wide_out, stride in [(3, 12, 1), (12, 24, 2)]:
        convolution = nn.Conv2d(wide_in, wide_out, 3, stride=stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(wide_out), nn.ReLU()]
    head = [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2)]
    return nn.Sequential(*layers, *head)


def train(pool: Photographs, trial: Trial, effect: float, steps: int = STEPS) -> nn.Sequential:
    """A network that has seen photographs of the pool, with the trial's mark and decoy.

    Args:
        pool: photographs to learn from, none of the trial's.
        trial: for its mark, decoy and seed.
        effect: how well the mark agrees with the class in group A, see :func:`~planted.trials.drawn`.
        steps: batches of training.
    """
    generator = torch.Generator().manual_seed(trial.seed)
    with torch.random.fork_rng():
        torch.manual_seed(trial.seed)
        net = small_network()
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    # What the first two layers make of each photograph does not change: with and without mark, with and without decoy.
    seen = torch.stack([net[:2](photos) for photos in _versions(pool, trial)], 1)
    in_a = pool.in_a
    for _ in range(steps):
        rows = torch.randint(len(pool), (BATCH,), generator=generator)
        labels = (torch.rand(BATCH, generator=generator) < 0.5).float()
        carries, decoyed = drawn(labels, in_a[rows], effect, generator)
        logits = net[2:](seen[rows, (2 * carries + decoyed).long()])
        loss = F.cross_entropy(logits, labels.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def _versions(pool: Photographs, trial: Trial) -> list[Tensor]:
    """The pool's photographs plain, with the decoy, with the mark, and with both."""
    every = torch.ones(len(pool))
    mark, decoy = Mark(trial.planted, every, trial.colours[0]), Mark(trial.decoy, every, trial.colours[1])
    return [pool.marked(*marks) for marks in ((), (decoy,), (mark,), (mark, decoy))]


def log_odds(net: nn.Module, photos: Tensor) -> Tensor:
    """(N,) of class 1."""
    logits = net(photos)
    return logits[:, 1] - logits[:, 0]


@torch.no_grad()
def accuracy(net: nn.Module, trial: Trial, photos: Tensor | None = None) -> dict[str, float]:
    """Share of right answers in groups A and B, by default on the trial's own photographs."""
    right = ((log_odds(net, trial.photos if photos is None else photos) > 0) == (trial.labels > 0.5)).double()
    in_a = trial.photographs.in_a
    return {"A": float(right[in_a].mean()), "B": float(right[~in_a].mean())}


def explained(net: nn.Sequential, trial: Trial, methods: Sequence[str] = METHODS) -> dict[str, cc.ModelSaliency]:
    """For each method the maps of all photographs of a trial: drops in the log-odds of the network's answer."""
    confidence = cc.ClassConfidence(net, link="log_odds")
    photos = trial.photos
    projector = cc.CanonicalProjector(LayerGradCam(confidence, last_convolution(net)), canonical_face=canonical())
    occlusion = {"canonical_face": canonical(), "patch_size": PATCH, "num_points": POINTS, "baselines": fill(photos)}
    ways = {CMS: occlusion, GRAD_CAM: {"method": projector, "relu_attributions": True}}
    results = {}
    for method in methods:
        if method == IMAGE:
            with torch.no_grad():
                predicted = net(photos).argmax(1)
            results[method] = occlusion_maps(confidence, trial, predicted, aligned=False, inference="auto")
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = cc.explain_dataset(
                confidence, _batch(trial), Path(folder) / "run", show_progress=False, **ways[method]
            )
            results[method] = _in_memory(run)
    return results


def _batch(trial: Trial) -> FaceBatch:
    count = len(trial.photographs)
    names = [f"{number:03d}" for number in range(count)]
    nobody: list[str | None] = [None] * count
    rows = torch.arange(count)
    return FaceBatch(trial.photos, trial.photographs.mesh, trial.labels.long(), list(trial.groups), nobody, names, rows)


def last_convolution(net: nn.Sequential) -> nn.Module:
    """The layer that Grad-CAM looks into."""
    return [layer for layer in net if isinstance(layer, nn.Conv2d)][-1]


def _in_memory(result: cc.ModelSaliency) -> cc.ModelSaliency:
    """The same, without its folder."""
    photos = result.photos
    maps, coverage = torch.tensor(photos.maps), torch.tensor(photos.coverage)
    return cc.ModelSaliency.from_maps(maps, coverage, result.canonical_face, group=photos.records["group"])
