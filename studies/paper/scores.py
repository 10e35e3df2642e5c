"""Figures and tables of scores: 9, 10, 11, 12, 20, 21, and what methods cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical.faithfulness.explanations import explanation_images
from captum_canonical.faithfulness.masks import explanation_masks
from studies.paper.drawing import COLOURS, bars, face_maps, new_figure, strip
from studies.paper.methods import CAMS, FACTORIAL, MEAN, OCCLUSION, ONE_MAP, PER_IMAGE, POOLED, compared, scored
from studies.paper.page import Figure, table
from studies.paper.stimuli import unfolded
from studies.paper.study import TITLES_AND_LAYERS, Results, mean_map

METRICS = {
    "average_drop": "Average Drop % (higher is better)",
    "increase_rate": "% Increase (lower is better)",
    "wins": "Win % (higher is better)",
}
LFW = (
    "LFW and VGG-Face are not available here. With a folder of LFW, not run: `python examples/reproduce_paper.py "
    "--images lfw-deepfunneled --models DIR --out study_lfw`. VGG-Face: build the network in the manner of "
    "`studies/face_nets/networks.py`, load its weights with `torch.load(path, weights_only=True)`, and add it to "
    "`TASKS` in `studies/face_nets/tasks.py` and to `TITLES_AND_LAYERS` in `studies/paper/study.py`."
)


def figure_09(results: Results, path: Path) -> Figure:
    """Fig. 9: the same map as positive and as negative explanation image."""
    task, (maps, coverage) = results.task("expression"), results.maps("expression")
    photos, rows = (
        [],
        [("photograph", "clean", "map, negative", "map, positive", "background, negative", "background, positive")],
    )
    for index in range(min(3, len(task.photos))):
        one = task.rows([index])
        rest = [row for row in range(len(maps)) if row != index]
        mean = mean_map(maps[rest], coverage[rest], results.canonical)
        both = torch.stack([mean, torch.ones_like(mean)])[:, None].float()
        heat, face = cc.CanonicalProjector(None).reproject(both, unfolded(one.mesh).repeat_interleave(2)).split(1)
        background = 1 - face  # what a method that misses the face would say
        area = torch.ones_like(heat, dtype=torch.bool)
        clean = confidence(one, one.photos)
        cells = [f"{clean:.3f}"]
        photos.append((one.photos[0], "photograph", f"{clean:.3f}"))
        for label, shown in (("map", heat), ("background", background)):
            masks = explanation_masks(shown, area)
            for explanation in ("negative", "positive"):
                image = explanation_images(one.photos, masks, explanation=explanation, fill="zero")
                cells.append(f"{confidence(one, image):.3f}")
                photos.append((image[0], f"{label}, {explanation}", cells[-1]))
        rows.append((index + 1, *cells))
    strip(photos, path, columns=5)
    text = (
        "Confidence in the answer below each picture; 10 % of the image is hidden (negative) or shown (positive), "
        "filled with 0. The map is the CMS of the other photographs; 'background' is what a method that misses the "
        "face would say. Where the network is as sure of a negative image as of the photograph, the map has not hidden "
        "enough."
    )
    return Figure("one map as positive and as negative image", text, 3, table(rows))


@torch.no_grad()
def confidence(task: object, photos: Tensor) -> float:
    """Of one photograph, in its target."""
    return float(task.confidence(photos)[0, task.target[0]])  # type: ignore[attr-defined]


def three_metrics(results: Results, names: list[str], path: Path) -> tuple[str, int]:
    """The paper's comparison of some tasks."""
    shown = {f"{cam}, none, {PER_IMAGE}": cam for cam in CAMS}
    shown |= {f"{OCCLUSION}, canonical, {MEAN}": "CMS", f"random, {PER_IMAGE}": "random (control)"}
    return compared_rows(results, names, shown, path, "maps")


def compared_rows(
    results: Results, names: list[str], shown: Mapping[str, str], path: Path, what: str
) -> tuple[str, int]:
    """The three metrics of some rows of some tasks as bars; the table and n."""
    fill, counts = results.settings.fills[0], []
    rows: list[tuple] = [("task", "n", what, *METRICS.values())]
    groups: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {metric: {} for metric in METRICS}
    for name in names:
        result, title = scored(results, name), results.task(name).title
        wins = cc.faithfulness.win_rates(
            {short: result[label].explained["negative", fill] for label, short in shown.items()}, unbounded=True
        )
        shares = dict(zip(wins.methods, wins.percent.tolist(), strict=True))
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
    axes[0, 0].legend(fontsize=6, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, 1.35), frameon=False)
    figure.savefig(path, bbox_inches="tight")
    return table(rows), max(counts)


def sentences_about(results: Results) -> str:
    fill = results.settings.fills[0]
    return (
        f"Negative explanation images that hide 10 % of the face with fill {fill!r}. CMS: the mean "
        "of the canonical maps of the other folds (and of the same class), re-projected. CAMs: their own maps of each "
        "photograph. Win % among these five, ties shared. Other fills: in the table of causes below. "
    )


def figure_10(results: Results, path: Path) -> Figure:
    """Fig. 10: three metrics, five tasks."""
    rows, n = three_metrics(results, [name for name in TITLES_AND_LAYERS if name != "gender_mini"], path)
    return Figure("three metrics for five tasks", sentences_about(results) + results.people[1], n, rows)


def figure_11(results: Results, path: Path) -> Figure:
    """Fig. 11: recognition on another data set."""
    rows, n = three_metrics(results, ["recognition"], path)
    missing = "" if results.identities else "No --identities, and no LFW: these are the photographs of Figure 10 again."
    text = f"{results.people[1]} {sentences_about(results)}{LFW}"
    return Figure("recognition on a second data set", text, n, rows, missing)


def figure_12(results: Results, path: Path) -> Figure:
    """Fig. 12: several gender networks."""
    rows, n = three_metrics(results, ["gender", "gender_mini"], path)
    return Figure("several gender networks", sentences_about(results), n, rows)


def figure_20(results: Results, path: Path) -> Figure:
    """Fig. 20: three alignments."""
    shown = {f"{OCCLUSION}, {alignment}, {MEAN}": alignment for alignment in ("canonical", "keypoint", "none")}
    rows, n = compared_rows(results, list(FACTORIAL), shown, path, "alignment")
    text = (
        f"The canonical mean of occlusion maps, fill {results.settings.fills[0]!r}. 'none' slides the patch over the "
        "whole crop and averages pixel by pixel; crops are squares around the face already, which is milder than raw "
        "photographs. Win % among these three."
    )
    return Figure("three kinds of alignment, scored", text, n, rows)


def figure_21(results: Results, path: Path) -> Figure:
    """Fig. 21: the maps of three alignments."""
    from studies.paper.methods import occluding

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
            found[row.name] = row.evaluations / len(task.photos)
    figure, axes = new_figure(6, 0.3 * len(found) + 0.8)
    drawn = axes[0, 0].barh(list(found), list(found.values()), color=COLOURS[0])
    axes[0, 0].bar_label(drawn, fmt=" {:.0f}", fontsize=7)
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_xlabel("evaluations of the network per photograph", fontsize=8)
    axes[0, 0].tick_params(labelsize=7)
    axes[0, 0].spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight")
    text = (
        "Occlusion evaluates one point after the other on the face only (with incremental inference, which recomputes "
        "what a patch changes; evaluations count points), 'none' the whole crop. Gradients count forward passes."
    )
    return Figure("what the methods cost", text, len(task.photos), table(rows))
