"""The chart and the table of README, from the results of incremental.py.

python benchmarks/chart.py benchmarks/results/incremental.json docs/incremental.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

OURS, THEORY, CAPTUM = "#2c6e9b", "#222222", "#b9c6cf"


def rows_of(results: dict[str, Any], images: int) -> list[dict[str, Any]]:
    """For each network its patch of the paper's size, with so many photographs in a call."""
    rows = []
    for label, result in results.items():
        if "cases" not in result:
            continue
        cases = [name for name in result["cases"] if name.endswith(f"batch {images}")]
        middle = cases[len(cases) // 2]
        captum = result.get("captum", {}).get("ratio")
        rows.append({"label": label, "case": middle, "captum": captum} | result["cases"][middle])
    return sorted(rows, key=lambda row: -row["ratio"])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A bar for each network, and a mark where the multiply-adds say that it should end."""
    figure = Figure(figsize=(7.2, 0.42 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    if all(row["captum"] for row in rows):
        axes.barh(
            places, [row["captum"] for row in rows], height=0.78, color=CAPTUM, label="faster than captum's Occlusion"
        )
    axes.barh(places, [row["ratio"] for row in rows], height=0.42, color=OURS, label="faster than dense, best batch")
    axes.plot([row["theory"] for row in rows], places, "|", color=THEORY, markersize=11, label="by multiply-adds")
    axes.axvline(1, color=THEORY, linewidth=0.8)
    axes.set_yticks(list(places), [f"{row['label']} px" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("times faster, the same numbers")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=160)


def print_table(single: list[dict[str, Any]], eight: list[dict[str, Any]]) -> None:
    """Markdown."""
    of_eight = {row["label"]: row for row in eight}
    print("| network, input | dense, ms | ours, ms | faster | by multiply-adds | 8 photographs | than captum |")
    print("|---|---|---|---|---|---|---|")
    for row in single:
        captum = f"{row['captum']:.1f} x" if row["captum"] else ""
        more = of_eight[row["label"]]["ratio"] if row["label"] in of_eight else float("nan")
        print(
            f"| {row['label']} px | {row['bare_ms']:.2f} | {row['ours_ms']:.2f} | **{row['ratio']:.1f} x** | "
            f"{row['theory']:.1f} x | {more:.1f} x | {captum} |"
        )


def main() -> None:
    """Draws the chart and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("chart", type=Path)
    args = parser.parse_args()
    results = json.loads(args.results.read_text(encoding="utf-8"))
    draw(rows_of(results, 1), args.chart)
    print_table(rows_of(results, 1), rows_of(results, 8))


if __name__ == "__main__":
    main()
