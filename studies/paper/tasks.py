"""Figures about methods and kinds of tasks: 2, 7, 8, 19."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from captum.attr import GuidedBackprop, NoiseTunnel, Occlusion, Saliency
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import Tensor

import captum_canonical as cc
from captum_canonical.statistics.split_half import split_half_correlation
from studies.paper.drawing import SIDE, face_maps, largest, new_figure, nothing, picture
from studies.paper.methods import CAMS, OnPhoto, one_by_one, others
from studies.paper.page import Figure, table
from studies.paper.study import Results, Task, crop_people, mean_map, on_face

ROWS = range(4)
FEW = 3
"""Photographs of a head pose, below which its map is not shown."""


def figure_02(results: Results, path: Path) -> Figure:
    """Fig. 2: methods side by side, columns (b) to (i)."""
    task, settings = results.task("recognition"), results.settings
    net, channels = task.explained, task.photos.shape[1]
    cams: dict[str, Any] = {name: OnPhoto(others(task, settings)[name][0]) for name in CAMS}
    window = {"sliding_window_shapes": (channels, task.patch, task.patch), "perturbations_per_eval": 16}
    stride = {"strides": (channels, task.patch // 2, task.patch // 2), "baselines": task.fill}
    noise = {"nt_type": "smoothgrad", "nt_samples": settings.noise_samples, "stdevs": 0.1}
    methods: dict[str, tuple[Any, dict[str, Any]]] = {
        "(b) gradient": (Saliency(net), {}),
        "(c) SmoothGrad": (NoiseTunnel(Saliency(net)), noise),
        "(d) guided\nbackpropagation": (GuidedBackprop(net), {}),
        "(e) guided\nGrad-CAM++": (cc.GuidedGradCamPlusPlus(net, task.layer), {}),
        "(f) Grad-CAM": (cams["Grad-CAM"], {}),
        "(g) Grad-CAM++": (cams["Grad-CAM++"], {}),
        "(h) Score-CAM": (cams["Score-CAM"], {}),
        "(i) occlusion": (Occlusion(net), {**window, **stride}),
    }
    columns = {}
    torch.manual_seed(0)
    for name, (method, arguments) in methods.items():
        maps = one_by_one(method, task, ROWS, **arguments)
        columns[name] = list(maps / float(maps.abs().flatten().quantile(0.995) or 1.0))
    photos = task.photos[list(ROWS)]
    figure = cc.visualization.montage(columns, photos, vmax=1.0, unit="share of the column's 99.5th percentile")
    figure.savefig(path, bbox_inches="tight")
    text = f"{task.title}, cosine similarity. Each column has a scale of its own. {results.people[1]}"
    return Figure("methods side by side", text, len(photos))


def figure_07(results: Results, path: Path) -> Figure:
    """Fig. 7: zero-shot recognition by the nearest neighbour, and verification of pairs."""
    task, face = results.task("recognition"), results.canonical
    photos, mesh, who = crop_people(task.net, results.people[0])
    same, different = pairs_of(who)
    columns = {"zero-shot": [mean_map(*results.maps("recognition"), face)]}
    rows: list[tuple] = [("map", "n", "split-half r")]
    reliability = split_half_correlation(*results.maps("recognition"), splits=results.settings.splits)
    rows.append(("zero-shot", len(task.photos), f"{reliability.mean:.2f}"))
    for label, pairs, truth in (("same person", same, True), ("different people", different, False)):

        def compute(pairs: list[tuple[int, int]] = pairs, truth: bool = truth) -> dict[str, Any]:
            maps, coverage = verified(results, task, photos, mesh, pairs, truth)
            return {"maps": maps.numpy(), "coverage": coverage.numpy()}

        found = results.arrays(f"verification_{truth}", compute)
        maps, coverage = torch.from_numpy(found["maps"]), torch.from_numpy(found["coverage"])
        columns[f"verification,\n{label}"] = [mean_map(maps, coverage, face)]
        r = split_half_correlation(maps, coverage, splits=results.settings.splits)
        rows.append((f"verification, {label}", len(maps), f"{r.mean:.2f}"))
    face_maps(columns, face, path)
    text = (
        "Drop of the cosine to the nearest other photograph of the person (Eq. 7), and of the confidence that a pair "
        "shows one person, or two (Eq. 8), the same place hidden in both photographs. " + results.people[1]
    )
    return Figure("tasks that are no classification", text, len(photos), table(rows))


def pairs_of(who: list[str]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Each person's first photograph with its second, and with the next person's first."""
    first = {name: place for place, name in reversed(list(enumerate(who)))}
    second = {name: place for place, name in reversed(list(enumerate(who))) if place != first[name]}
    names = list(dict.fromkeys(who))
    following = [*names[1:], names[0]]
    return [(first[name], second[name]) for name in names], [
        (first[one], first[other]) for one, other in zip(names, following, strict=True)
    ]


def verified(
    results: Results, task: Task, photos: Tensor, mesh: cc.FaceMesh, pairs: list[tuple[int, int]], truth: bool
) -> tuple[Tensor, Tensor]:
    """The canonical maps of pairs, and their coverage."""
    one, other = (torch.tensor(side) for side in zip(*pairs, strict=True))
    occlusion = cc.CanonicalOcclusion(cc.VerificationConfidence(task.net))
    maps, coverage = occlusion.attribute(
        (photos[one], photos[other]),
        faces=(mesh[one], mesh[other]),
        additional_forward_args=torch.full((len(pairs),), truth),
        baselines=(task.fill, task.fill),
        patch_size=task.patch,
        num_points=results.settings.points,
        return_coverage=True,
    )
    return maps[0], coverage[0]  # the same on the canonical face for both photographs of a pair


def figure_08(results: Results, path: Path) -> Figure:
    """Fig. 8: cascading randomisation of a network's layers."""
    few = range(min(8, len(results.faces)))
    task = results.task("expression").rows(list(few))
    layers = ["dense0", "dense1", "dense2", "dense3", "fc"]
    occlusion = cc.CanonicalOcclusion(task.explained)
    arguments: dict[str, Any] = {
        "target": task.target,
        "faces": task.mesh,
        "baselines": task.fill,
        "patch_size": task.patch,
        "num_points": results.settings.points,
    }

    def mean() -> Tensor:
        maps, coverage = occlusion.attribute(task.photos, return_coverage=True, **arguments)
        return mean_map(maps, coverage, results.canonical)[None, None]

    seeds = {"model": task.net, "layers": layers, "seeds": results.settings.seeds}
    area = results.canonical.raster.covered[None, None]
    cascade = cc.model_randomization(mean, keep_maps=True, area=area, **seeds)
    figure = cc.visualization.show_randomization(cascade, results.canonical, unit=f"drop in {task.unit}")
    figure.subfigs[0].suptitle(f"CMS of {len(task.photos)} photographs, random weights of seed {cascade.seeds[0]}")
    figure.savefig(path, bbox_inches="tight")
    single = cc.model_randomization(occlusion, task.photos, **seeds, **arguments)
    rows: list[tuple] = [("randomised down to", "CMS, rank r", "CMS, SSIM", "CIS, rank r", "CIS, SSIM")]
    summaries = [test.summary(name).mean for test in (cascade, single) for name in ("spearman", "ssim")]
    for place, layer in enumerate(cascade.layers):
        rows.append((layer, *(f"{float(summary[place]):.2f}" for summary in summaries)))
    text = (
        f"{task.title}: the layers' weights are drawn anew from the output on, {len(results.settings.seeds)} "
        "seeds. A map that stayed the same would not be about the network. Similarity is of raw maps with those of "
        "the trained network, 1 for equal maps."
    )
    return Figure("sanity check: randomised layers", text, len(task.photos), table(rows))


def figure_19(results: Results, path: Path) -> Figure:
    """Fig. 19: nine head poses and their maps."""
    task, (maps, coverage), face = results.task("pose"), results.maps("pose"), results.canonical
    counts = task.target.bincount(minlength=9)
    known = {
        pose: on_face(mean_map(maps[task.target == pose], coverage[task.target == pose], face), face)
        for pose in range(9)
        if counts[pose] >= FEW
    }
    scale = largest(list(known.values())) if known else 1.0
    figure, axes = new_figure(6 * SIDE, 3 * (SIDE + 0.3), 3, 6)
    for pose in range(9):
        row, column = 2 - pose % 3, pose // 3  # pitch up is drawn above, yaw from left to right
        photo, heat = axes[row, 2 * column], axes[row, 2 * column + 1]
        title = f"{task.class_name(pose)}: n = {int(counts[pose])}"
        if counts[pose]:
            picture(photo, task.photos[task.target == pose].mean(0), title)
        else:
            nothing(photo, "no photograph", title)
        if pose in known:
            picture(heat, face.image)
            heat.imshow(known[pose], cmap="RdBu_r", vmin=-scale, vmax=scale, alpha=0.75)
        else:
            nothing(heat, f"fewer than {FEW}:\nno map")
    shades = ScalarMappable(Normalize(-scale, scale), "RdBu_r")
    figure.colorbar(shades, ax=axes, label="mean drop in membership", shrink=0.6, aspect=40, pad=0.01)
    figure.savefig(path, bbox_inches="tight")
    few = [task.class_name(pose) for pose in range(9) if counts[pose] < FEW]
    text = (
        "The mean of the photographs that the network puts into each of nine bins of yaw and pitch, and their CMS "
        f"(drop of the bin's membership, all on one scale to {scale:.2g})."
    )
    missing = f"Fewer than {FEW} photographs, so no map: {'; '.join(few)}." if few else ""
    return Figure("nine head poses", text, len(task.photos), missing=missing)
