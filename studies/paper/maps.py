"""Figures that show canonical maps: 1, 3, 4, 5, 6, 13, 16, 18."""

from __future__ import annotations

from pathlib import Path

import torch
from captum.attr import Occlusion
from torch import Tensor

import captum_canonical as cc
from captum_canonical.statistics.split_half import split_half_correlation
from studies.paper.drawing import SIDE, face_maps, lines, new_figure, picture
from studies.paper.page import Figure, table
from studies.paper.study import TITLES_AND_LAYERS, Results, mean_map, on_face

EXAMPLES = 4
PATCHES = (7, 15, 23, 31)  # pixels of 112


def cms(results: Results, name: str, rows: slice | Tensor = slice(None)) -> Tensor:
    """(H_F, W_F) the model-level map of a task."""
    maps, coverage = results.maps(name)
    return mean_map(maps[rows], coverage[rows], results.canonical)


def largest_regions(values: Tensor, face: cc.CanonicalFace, count: int = 3) -> str:
    """Names of the regions with the largest means."""
    means = {name: float(values[face.region_mask(name)].mean()) for name in face.regions}
    return ", ".join(sorted(means, key=means.__getitem__, reverse=True)[:count]).replace("_", " ")


def figure_01(results: Results, path: Path) -> Figure:
    """Fig. 1: one CMS for each task."""
    columns, rows = {}, [("task", "n", "largest mean drop", "unit", "split-half r", "regions with the largest means")]
    for name in TITLES_AND_LAYERS:
        task, (maps, coverage) = results.task(name), results.maps(name)
        metric = cc.CanonicalModelSaliency(results.canonical)
        metric.update(maps, coverage)
        saliency = metric.compute()
        mean, error = saliency.mean[0].nan_to_num(), saliency.standard_error[0].nan_to_num()
        columns[task.title.replace(", ", "\n")] = [mean, error]
        reliability = split_half_correlation(maps, coverage, splits=results.settings.splits)
        largest = f"{float(on_face(mean, results.canonical).max()):.3g}"
        regions = largest_regions(mean, results.canonical)
        rows.append((task.title, len(maps), largest, task.unit, f"{reliability.mean:.2f}", regions))
    face_maps(columns, results.canonical, path, ("mean drop (CMS)", "standard error"))
    text = (
        "Model-level maps (Eq. 6) with their standard error, on the scale above each column, in the table's units. "
        + results.people[1]
    )
    return Figure("where networks for five tasks look", text, len(results.faces), table(rows))


def figure_03(results: Results, path: Path) -> Figure:
    """Fig. 3: the procedure."""
    task = results.task("expression")
    face, photo, mesh = results.canonical, task.photos[0], task.mesh[0]
    points = face.points(mesh.vertices[0])[:, :2]
    heat = on_face(results.maps("expression")[0][0, 0].double(), face)
    places = face.points(face.vertices)[face.point_order[: EXAMPLES * 4], :2].long()
    drops = heat[places[:, 1].clamp(max=face.size[0] - 1), places[:, 0].clamp(max=face.size[1] - 1)]
    order = face.point_order[drops.argsort(descending=True)[[0, 1, -1]]].tolist()
    with torch.no_grad():
        clean = float(task.explained(photo[None])[0, task.target[0]])
    figure, axes = new_figure(6 * SIDE, SIDE + 0.5, 1, 6)
    picture(axes[0, 0], photo, "photograph", f"log-odds {clean:.2f}")
    picture(axes[0, 1], photo, "dense alignment", f"{mesh.num_vertices} vertices")
    axes[0, 1].triplot(*mesh.vertices[0, :, :2].T.numpy(), face.triangles.numpy(), linewidth=0.2, color="#0072b2")
    half = task.patch / 2
    for axis, point in zip(axes[0, 2:5], order, strict=True):
        hidden, (x, y) = photo.clone(), points[point].tolist()
        rows = slice(max(0, round(y - half)), max(0, round(y + half)))
        columns = slice(max(0, round(x - half)), max(0, round(x + half)))
        hidden[:, rows, columns] = task.fill[0].expand_as(hidden)[:, rows, columns]
        with torch.no_grad():
            drop = clean - float(task.explained(hidden[None])[0, task.target[0]])
        picture(axis, hidden, f"point {point} hidden", f"drop {drop:+.2f}")
    scale = float(heat.abs().max()) or 1.0
    picture(axes[0, 5], face.image, "drops at the same places", f"CIS, red: up to {scale:.1f}")
    axes[0, 5].imshow(heat, cmap="RdBu_r", vmin=-scale, vmax=scale, alpha=0.75)
    figure.savefig(path, bbox_inches="tight")
    text = (
        f"A {task.patch} x {task.patch} patch hides one facial point after the other; the drop of the answer's "
        "log-odds is written at the same point of the canonical face, red for a drop, blue for a rise. "
        f"{results.settings.points} points here."
    )
    return Figure("the procedure", text, 1)


def figure_04(results: Results, path: Path) -> Figure:
    """Fig. 4: with and without dividing by how often each pixel was hit (Eqs 4-5)."""
    task = results.task("expression")
    face, few = results.canonical, slice(0, 8)
    vertices = cc.CanonicalFace.from_vertices(face.image, face.vertices, face.triangles, topology=face.topology)
    occlusion = cc.CanonicalOcclusion(task.explained, canonical_face=vertices)
    found = occlusion.attribute(
        task.photos[few],
        target=task.target[few],
        faces=task.mesh[few],
        baselines=task.fill,
        patch_size=task.patch,
        return_coverage=True,
    )
    maps, hits = (part[:, 0].double() for part in found)
    normalised, sums = maps.mean(0), (maps * hits).mean(0)
    face_maps({"divided by hits": [normalised], "sum of drops": [sums], "hits": [hits.mean(0)]}, face, path)
    seen = face.raster.covered
    r = float(torch.corrcoef(torch.stack([normalised[seen], sums[seen]]))[0, 1])
    density = float(torch.corrcoef(torch.stack([hits.mean(0)[seen], sums[seen]]))[0, 1])
    spread = hits.mean(0)[seen]
    text = (
        f"The mesh's own vertices as points, whose density differs by {float(spread.max() / spread.min()):.0f} times "
        f"over the face. Both maps correlate at {r:.2f}; the sum with the density of points at {density:.2f}. The "
        "package's default points are evenly spread, which leaves little for the division to correct."
    )
    return Figure("density normalisation", text, len(maps))


def figure_05(results: Results, path: Path) -> Figure:
    """Fig. 5: how many photographs a CMS takes."""
    total = len(results.faces)
    counts = sorted({count for count in (4, 8, 15, 30, 60, 120, 250, 500, 1000, total) if count <= total})
    series, columns = {}, {}
    for name in ("expression", "gender"):
        maps, coverage = results.maps(name)
        found = [split_half_correlation(maps[:n], coverage[:n], splits=results.settings.splits) for n in counts]
        x = [n // 2 for n in counts]
        series[results.task(name).title] = (x, [r.mean for r in found], [r.standard_deviation for r in found])
    for count in counts:
        columns[f"{count} photographs"] = [cms(results, name, slice(0, count)) for name in ("expression", "gender")]
    face_maps(columns, results.canonical, path, ("expression", "gender"), by="row")
    figure, axes = new_figure(4.5, 2.8)
    words = {"xlabel": "photographs in each half", "ylabel": "split-half correlation"}
    lines(axes[0, 0], series, **words)
    axes[0, 0].locator_params(axis="x", integer=True)
    axes[0, 0].legend(fontsize=7)
    figure.savefig(path.with_name("fig05_curve.png"), bbox_inches="tight")
    rows = [("network", *(f"{n // 2} + {n // 2}" for n in counts))]
    rows += [(title, *(f"{value:.2f}" for value in y)) for title, (_, y, _) in series.items()]
    text = (
        "Maps of the first photographs (drops in log-odds), each row on a scale of its own, and the correlation of "
        "maps of two random halves (mean of the splits, their standard deviation shaded). The paper shows 100 to "
        "10,000."
    )
    return Figure("number of photographs", text, total, table(rows), more=("fig05_curve.png",))


def figure_06(results: Results, path: Path) -> Figure:
    """Fig. 6: occlusion maps, CIS, CMS, and the CMS re-projected."""
    task, maps = results.task("expression"), results.maps("expression")[0]
    count = min(EXAMPLES, len(task.photos))
    rows, face = slice(0, count), results.canonical
    window = (task.photos.shape[1], task.patch, task.patch)
    step = (task.photos.shape[1], task.patch // 3, task.patch // 3)
    sliding = Occlusion(task.explained).attribute(
        task.photos[rows],
        target=task.target[rows],
        sliding_window_shapes=window,
        strides=step,
        baselines=task.fill.expand(1, *task.photos.shape[1:]),
        perturbations_per_eval=16,
    )
    mean = cms(results, "expression")
    again = cc.CanonicalProjector(None).reproject(mean[None, None].float(), task.mesh[rows])
    columns = {
        "(a) occlusion": sliding.mean(1, keepdim=True),  # each channel has the whole window's drop
        "(b) CIS": [on_face(values[0], face) for values in maps[rows]],
        "(c) CMS": [on_face(mean, face)] * count,
        "(d) CMS, re-projected": again,
    }
    figure = cc.visualization.montage(
        columns, task.photos[rows], backgrounds={"(b) CIS": face, "(c) CMS": face}, unit=f"drop in {task.unit}"
    )
    figure.savefig(path, bbox_inches="tight")
    return Figure("occlusion, CIS, CMS, re-projected", f"{task.title}; one scale for all.", len(maps))


def figure_13(results: Results, path: Path) -> Figure:
    """Fig. 13: several networks for one task."""
    names = ("gender", "gender_mini")
    columns = {results.task(name).title.replace(", ", "\n"): [cms(results, name)] for name in names}
    face_maps(columns, results.canonical, path)
    seen = results.canonical.raster.covered
    r = float(torch.corrcoef(torch.stack([cms(results, name)[seen] for name in names]))[0, 1])
    agree = float(((results.task(names[0]).target == 0) == (results.task(names[1]).target == 1)).double().mean())
    text = (
        f"Drops in log-odds. The maps correlate at {r:.2f}; the networks give the same answer for {100 * agree:.0f} % "
        "of the photographs."
    )
    return Figure("two networks for one task", text, len(results.faces))


def figure_16(results: Results, path: Path) -> Figure:
    """Fig. 16: single maps vary, their mean less."""
    rows, columns = [("network", "variance between images", "variance of the mean (by halves)", "ratio")], {}
    names = ("gender", "recognition")
    for index in range(EXAMPLES):
        columns[f"photograph {index + 1}"] = [results.maps(name)[0][index, 0] for name in names]
    columns["CMS"] = [cms(results, name) for name in names]
    seen = results.canonical.raster.covered
    for name in names:
        maps = results.maps(name)[0][:, 0, seen].double()
        generator = torch.Generator().manual_seed(0)
        half, spread = len(maps) // 2, []
        for _ in range(results.settings.splits):
            order = torch.randperm(len(maps), generator=generator)
            first, second = maps[order[:half]].mean(0), maps[order[half : 2 * half]].mean(0)
            spread.append(float((first - second).square().mean()) / 2)
        single, mean = float(maps.var(0).mean()), sum(spread) / len(spread)
        rows.append((results.task(name).title, f"{single:.3g}", f"{mean:.3g}", f"{single / mean:.1f}"))
    face_maps(columns, results.canonical, path, ["gender", "recognition"], by="row")
    text = (
        "Drops in log-odds (gender) and in cosine (recognition); each row has its own scale. Variances are "
        "per pixel, averaged over the face, in squared units of the map; "
        f"halves hold {len(results.faces) // 2} photographs, so independent photographs give that ratio."
    )
    return Figure("single maps and their mean", text, len(results.faces), table(rows))


def figure_18(results: Results, path: Path) -> Figure:
    """Fig. 18: patch size."""
    count, columns = 3, {}
    task = results.task("expression").rows(slice(0, count))
    for side in PATCHES:
        maps = cc.CanonicalOcclusion(task.explained).attribute(
            task.photos, target=task.target, faces=task.mesh, baselines=task.fill, patch_size=side
        )
        columns[f"{side} of 112 pixels"] = list(maps[:, 0])
    face_maps(columns, results.canonical, path, [f"photograph {n + 1}" for n in range(count)], by="row")
    seen = results.canonical.raster.covered
    stacks = {side: torch.stack(maps)[:, seen].double() for side, maps in zip(PATCHES, columns.values(), strict=True)}
    rows = [("patch", *(f"r with {side}" for side in PATCHES))]
    for side, values in stacks.items():
        cells = [torch.corrcoef(torch.stack([values.mean(0), other.mean(0)]))[0, 1] for other in stacks.values()]
        rows.append((f"{side}", *(f"{float(cell):.2f}" for cell in cells)))
    text = f"Drops in {task.unit}, all points of the face; correlations of the means of these photographs."
    return Figure("patch size", text, count, table(rows))
