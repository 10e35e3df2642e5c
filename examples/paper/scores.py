"""Figures and tables of scores: 9, 10, 11, 12, 20, 21, what CMS's advantage comes from, and what methods cost."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical.faithfulness import explanation_images, explanation_masks
from captum_canonical.statistics.resampling import bootstrap_interval, holm, sign_flip_p_values, unit_totals
from paper.drawing import bars, face_maps, new_figure, strip
from paper.methods import CAMS, FACTORIAL, LOG_ODDS, OCCLUSION, ONE_MAP, POOLED, compared, scored
from paper.page import Figure, table
from paper.study import SOURCES, Results, mean_map

PER_IMAGE, MEAN = "per image", "canonical mean"
METRICS = {
    "average_drop": "Average Drop % (higher is better)",
    "increase_rate": "% Increase (lower is better)",
    "wins": "Win % (higher is better)",
}
LFW = (
    "LFW and VGG-Face cannot be had here. With a folder of LFW, not run: `python examples/reproduce_paper.py --images "
    "lfw-deepfunneled --models DIR --out study_lfw`. VGG-Face: build the network in the manner of "
    "`examples/face_nets.py`, load its weights with `torch.load(path, weights_only=True)` and add it to `SOURCES` in "
    "`examples/paper/study.py`."
)
# What is compared to learn where an advantage comes from: question -> the two rows whose difference answers it.
CONTRASTS = {
    "occlusion beats random": (f"{OCCLUSION}, canonical, {PER_IMAGE}", f"random, {PER_IMAGE}"),
    "occlusion for Grad-CAM": (f"{OCCLUSION}, canonical, {PER_IMAGE}", f"Grad-CAM, canonical, {PER_IMAGE}"),
    "the same, averaged": (f"{OCCLUSION}, canonical, {MEAN}", f"Grad-CAM, canonical, {MEAN}"),
    "averaging occlusion": (f"{OCCLUSION}, canonical, {MEAN}", f"{OCCLUSION}, canonical, {PER_IMAGE}"),
    "averaging Grad-CAM": (f"Grad-CAM, canonical, {MEAN}", f"Grad-CAM, canonical, {PER_IMAGE}"),
    "canonical for keypoint": (f"{OCCLUSION}, canonical, {MEAN}", f"{OCCLUSION}, keypoint, {MEAN}"),
    "canonical for none": (f"{OCCLUSION}, canonical, {MEAN}", f"{OCCLUSION}, none, {MEAN}"),
    "log-odds for probability": (f"{LOG_ODDS}, canonical, {MEAN}", f"{OCCLUSION}, canonical, {MEAN}"),
    "pooling left and right": (f"{OCCLUSION}, canonical, {POOLED}, {MEAN}", f"{OCCLUSION}, canonical, {MEAN}"),
    "a map for each class": (f"{OCCLUSION}, canonical, {MEAN}", f"{OCCLUSION}, canonical, {ONE_MAP}, {MEAN}"),
    "CMS for the mean face": (f"{OCCLUSION}, canonical, {MEAN}", f"mean face, {PER_IMAGE}"),
    "CMS for a random mean": (f"{OCCLUSION}, canonical, {MEAN}", f"random, {MEAN}"),
}


def figure_09(results: Results, path: Path) -> Figure:
    """Fig. 9: the same map as positive and as negative explanation image."""
    task, (maps, coverage) = results.task("expression"), results.maps("expression")
    photos, rows = (
        [],
        [("photograph", "clean", "map, negative", "map, positive", "corner, negative", "corner, positive")],
    )
    for index in range(min(3, len(task.photos))):
        one = task.rows([index])
        rest = [row for row in range(len(maps)) if row != index]
        mean = mean_map(maps[rest], coverage[rest], results.canonical)
        heat = cc.CanonicalProjector(None).reproject(mean[None, None].float(), one.mesh)
        corner = torch.zeros_like(heat)  # what a method that misses the face would say
        corner[..., : heat.shape[2] // 3, : heat.shape[3] // 3] = 1
        area = torch.ones_like(heat, dtype=torch.bool)
        clean = confidence(one, one.photos)
        cells = [f"{clean:.3f}"]
        photos.append((one.photos[0], "photograph", f"{clean:.3f}"))
        for label, shown in (("map", heat), ("corner", corner)):
            masks = explanation_masks(shown, area)
            for explanation in ("negative", "positive"):
                image = explanation_images(one.photos, masks, explanation=explanation, fill="zero")
                cells.append(f"{confidence(one, image):.3f}")
                photos.append((image[0], f"{label}, {explanation}", cells[-1]))
        rows.append((index + 1, *cells))
    strip(photos, path, columns=5)
    text = (
        "Confidence in the answer below each picture; 10 % of the image is hidden (negative) or shown (positive), "
        "filled with 0. A negative image of a map that misses the face changes nothing: it cannot pass for a good one."
    )
    return Figure("one map as positive and as negative image", text, 3, table(rows))


@torch.no_grad()
def confidence(task: object, photos: Tensor) -> float:
    """Of one photograph, in its target."""
    return float(task.confidence(photos)[0, task.target[0]])  # type: ignore[attr-defined]


def three_metrics(results: Results, names: list[str], path: Path) -> tuple[str, int]:
    """The three metrics of some tasks as bars; the table and n."""
    fill, counts = results.settings.fills[0], []
    rows: list[tuple] = [("task", "n", "maps", *METRICS.values())]
    groups: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {metric: {} for metric in METRICS}
    for name in names:
        result = scored(results, name)
        shown = {f"{cam}, none, {PER_IMAGE}": cam for cam in CAMS}
        shown |= {f"{OCCLUSION}, canonical, {MEAN}": "CMS", f"random, {PER_IMAGE}": "random (control)"}
        wins = cc.faithfulness.win_rates(
            {title: result[label].explained["negative", fill] for label, title in shown.items()}, unbounded=True
        )
        shares = dict(zip(wins.methods, wins.percent.tolist(), strict=True))
        title = results.task(name).title
        counts.append(len(result.clean_scores))
        for label, short in shown.items():
            cells = []
            for metric in METRICS:
                if metric == "wins":
                    found = (shares[short], float("nan"), float("nan"))
                else:
                    found = (result[label].value(metric, fill), *result.interval(label, metric, fill))
                groups[metric].setdefault(title, {})[short] = found
                cells.append(f"{found[0]:.1f}" + (f" [{found[1]:.1f}, {found[2]:.1f}]" if found[1] == found[1] else ""))
            rows.append((title, len(result.clean_scores), short, *cells))
    figure, axes = new_figure(2.2 + 1.5 * len(names), 6.0, 3, 1)
    for axis, (metric, title) in zip(axes[:, 0], METRICS.items(), strict=True):
        bars(groups[metric], axis, title)
    axes[0, 0].legend(fontsize=6, ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.35), frameon=False)
    figure.savefig(path, bbox_inches="tight")
    return table(rows), max(counts)


def told(results: Results) -> str:
    fill = results.settings.fills[0]
    return (
        f"Negative explanation images that hide 10 % of the face with fill {fill!r}. CMS: the mean "
        "of the canonical maps of the other folds (and of the same class), re-projected. CAMs: their own maps of each "
        "photograph. Win % among these five, ties shared. Other fills: in the table of causes below. "
    )


def figure_10(results: Results, path: Path) -> Figure:
    """Fig. 10: three metrics, five tasks."""
    rows, n = three_metrics(results, [name for name in SOURCES if name != "gender_mini"], path)
    return Figure("three metrics for five tasks", told(results) + results.people[1], n, rows)


def figure_11(results: Results, path: Path) -> Figure:
    """Fig. 11: recognition on another data set."""
    if results.identities is None:
        return Figure("recognition on a second data set", LFW, 0, missing="No --identities, and no LFW.")
    rows, n = three_metrics(results, ["recognition"], path)
    return Figure("recognition on a second data set", f"{results.people[1]} {told(results)}{LFW}", n, rows)


def figure_12(results: Results, path: Path) -> Figure:
    """Fig. 12: several gender networks."""
    rows, n = three_metrics(results, ["gender", "gender_mini"], path)
    return Figure("several gender networks", told(results), n, rows)


def figure_20(results: Results, path: Path) -> Figure:
    """Fig. 20: three alignments."""
    fill, names = results.settings.fills[0], list(FACTORIAL)
    groups: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {"average_drop": {}, "increase_rate": {}}
    rows = [("task", "n", "alignment", "Average Drop %", "% Increase", "deletion AUC")]
    for name in names:
        result, title = scored(results, name), results.task(name).title
        for alignment in ("canonical", "keypoint", "none"):
            label = f"{OCCLUSION}, {alignment}, {MEAN}"
            cells = []
            for metric in ("average_drop", "increase_rate", "deletion_auc"):
                found = (result[label].value(metric, fill), *result.interval(label, metric, fill))
                if metric in groups:
                    groups[metric].setdefault(title, {})[alignment] = found
                cells.append("{:.3g} [{:.3g}, {:.3g}]".format(*found))
            rows.append((title, len(result.clean_scores), alignment, *cells))
    figure, axes = new_figure(7, 4.5, 2, 1)
    for axis, metric in zip(axes[:, 0], groups, strict=True):
        bars(groups[metric], axis, METRICS[metric])
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.savefig(path, bbox_inches="tight")
    text = (
        f"The canonical mean of occlusion maps, fill {fill!r}. 'none' slides the patch over the whole crop and "
        "averages pixel by pixel; crops are squares around the face already, which is milder than raw photographs."
    )
    return Figure("three kinds of alignment, scored", text, len(results.faces), table(rows))


def figure_21(results: Results, path: Path) -> Figure:
    """Fig. 21: the maps of three alignments."""
    from paper.methods import occluding

    task = results.task("expression")
    columns, beneath = {}, {}
    for alignment, (mesh, face) in results.alignments(task).items():

        def compute(mesh: cc.FaceMesh = mesh, face: cc.CanonicalFace = face) -> dict:
            method, arguments = occluding(task, task.explained, results.settings, mesh, face)
            maps, coverage = method.attribute(task.photos, target=task.target, return_coverage=True, **arguments)
            return {"mean": mean_map(maps, coverage, face).numpy()}

        columns[alignment] = [torch.from_numpy(results.arrays(f"alignment_{alignment}", compute)["mean"])]
        beneath[alignment] = face
    face_maps(columns, beneath, path)
    text = "Log-odds of the expression. Without alignment: over the mean of the crops."
    return Figure("model-level maps of three alignments", text, len(task.photos))


def table_of_causes(results: Results, path: Path) -> Figure:
    """Where CMS's advantage comes from: paired differences with intervals and corrected tests."""
    parts, found = [], {}
    for name in FACTORIAL:
        result, title = scored(results, name), results.task(name).title
        parts += [f"### {title}, n = {len(result.clean_scores)}", "", cells_of(result), "", contrasts_of(result), ""]
        fill = results.settings.fills[0]
        found[title] = {
            kind: (result[label].value("average_drop", fill), *result.interval(label, "average_drop", fill))
            for kind, label in {
                "occlusion, per image": f"{OCCLUSION}, canonical, {PER_IMAGE}",
                "occlusion, mean (CMS)": f"{OCCLUSION}, canonical, {MEAN}",
                "Grad-CAM, per image": f"Grad-CAM, canonical, {PER_IMAGE}",
                "Grad-CAM, mean": f"Grad-CAM, canonical, {MEAN}",
                "mean face (control)": f"mean face, {PER_IMAGE}",
                "random (control)": f"random, {PER_IMAGE}",
            }.items()
        }
    figure, axes = new_figure(8, 3)
    bars(found, axes[0, 0], METRICS["average_drop"])
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.savefig(path, bbox_inches="tight")
    text = (
        "Average Drop %, higher is better. First every cell of the factorial with its interval, then paired "
        "differences of rows; bold where the sign-flip test, corrected by Holm over all differences and fills of this "
        "network, is below 0.05. 'Per image' maps of all methods are carried to the face of that alignment and back. "
        "Classes with fewer than five photographs are left out, so that each class can have a map of its own."
    )
    return Figure("where the advantage of CMS comes from", text, len(results.faces), "\n".join(parts))


def cells_of(result: cc.BenchmarkResult) -> str:
    """Every cell of {methods} x {per image, canonical mean} x {alignments}, and the controls."""
    rows = [("maps", "kind", *(f"fill {fill}" for fill in result.fills))]
    for row in result.rows:
        cells = []
        for fill in result.fills:
            low, high = result.interval(row.label, "average_drop", fill)
            cells.append(f"{row.value('average_drop', fill):.1f} [{low:.1f}, {high:.1f}]")
        if POOLED not in row.name + row.kind or row.kind == MEAN:
            rows.append((f"{row.name} (control)" if row.control else row.name, row.kind, *cells))
    return table(rows)


def contrasts_of(result: cc.BenchmarkResult) -> str:
    """Differences of pairs of rows, with bootstrap intervals, and tests over all of them."""
    known = {row.label for row in result.scored}
    questions = {name: pair for name, pair in CONTRASTS.items() if set(pair) <= known}
    differences = torch.stack(
        [
            result[first].per_image["average_drop", fill] - result[second].per_image["average_drop", fill]
            for first, second in questions.values()
            for fill in result.fills
        ]
    )
    p = holm(sign_flip_p_values(unit_totals(differences, result.units)[0], permutations=10_000, seed=0))
    rows, place = [("question", "minuend", "subtrahend", *(f"fill {fill}" for fill in result.fills))], 0
    for question, (first, second) in questions.items():
        cells = []
        for _ in result.fills:
            low, high = bootstrap_interval(
                differences[place], result.interval_units, resamples=1000, level=0.95, seed=0
            )
            told = f"{float(differences[place].nanmean()):+.1f} [{low:.1f}, {high:.1f}]"
            cells.append(f"**{told}**" if p[place] < 0.05 else told)
            place += 1
        rows.append((question, first, second, *cells))
    return table(rows)


def table_of_costs(results: Results, path: Path) -> Figure:
    """Section V-F: how many evaluations of the network each method takes."""
    task = compared(results, "expression")
    result = scored(results, "expression")
    rows = [("maps", "evaluations per photograph", "seconds per photograph")]
    found = {}
    for row in result.rows:
        if row.control or row.kind != PER_IMAGE or row.failure or POOLED in row.name or ONE_MAP in row.name:
            continue
        if not row.name.startswith(OCCLUSION) and "canonical" not in row.name:
            continue  # the same maps, carried over by another mesh
        evaluations = "not counted" if row.evaluations is None else f"{row.evaluations / len(task.photos):.0f}"
        rows.append((row.name, evaluations, f"{row.seconds / len(task.photos):.3f}"))
        if row.evaluations is not None:
            found[row.name] = {"evaluations": (row.evaluations / len(task.photos), float("nan"), float("nan"))}
    figure, axes = new_figure(1.1 * len(found) + 1, 2.8)
    bars(found, axes[0, 0], "evaluations per photograph", percent=False)
    figure.savefig(path, bbox_inches="tight")
    text = (
        "Occlusion evaluates one point after the other on the face only (with incremental inference, which recomputes "
        "what a patch changes; evaluations count points), 'none' the whole crop. Gradients count forward passes."
    )
    return Figure("what the methods cost", text, len(task.photos), table(rows))
