"""Draws docs/storeys.svg, the storeys of the package, from the list in setup.cfg that import-linter checks.

python tools/draw_storeys.py
"""

from __future__ import annotations

from configparser import ConfigParser
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "storeys.svg"
WHAT = {
    "cli": "the program captum-canonical",
    "reporting": "one page about a result",
    "runs": "a network and a data set become a run folder",
    "benchmarking": "methods and controls on the same photographs",
    "visualization": "figures",
    "comparisons": "two groups, or two networks",
    "faithfulness": "fills, curves, scores of explanations",
    "sanity": "maps of randomised networks",
    "saliency": "model-level maps, their regions and tests",
    "networks": "factories and files of networks",
    "data": "photographs as a data set of aligned faces",
    "run_folder": "maps and records on disk",
    "adapters": "aligners; other packages' methods and meshes",
    "attributions": "occlusion, projector, layer CAMs",
    "inference": "scores of images with a patch hidden",
    "confidence": "of a class, of a pair, of a gallery",
    "faces": "meshes, the canonical face, splat and warp",
    "restore": "puts a network back",
    "statistics": "bootstrap, permutations, max-T",
    "files": "writes that a crash cannot spoil",
    "turns": "threads wait for each other at a network",
    "fingerprint": "one hash of any value",
    "checks": "of arguments",
    "modules": "wrapped, exported",
    "functions": "what decides a function's value",
    "plugins": "fills and aligners by name",
    "_captum": "Captum's private names",
    "tables": "text, Markdown, CSV, HTML",
    "errors": "messages that users meet",
}
"""What each box says below its name."""

WIDTH, ROW, GAP, PAD = 920, 46, 6, 14
FONT = "font-family='ui-sans-serif, system-ui, sans-serif'"


def storeys() -> list[list[str]]:
    """Rows of modules, from the top down, as setup.cfg has them."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["importlinter:contract:storeys"]["layers"].strip().splitlines()
    return [[name.strip() for name in line.split("|")] for line in lines]


def svg(rows: list[list[str]]) -> str:
    """The picture: a row of boxes for each storey, each box with its name and what it is."""
    height = len(rows) * (ROW + GAP) - GAP + 2 * PAD
    title = "Storeys of captum_canonical: a module imports only from the rows below its own"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{title}'>",
        f"<rect width='{WIDTH}' height='{height}' rx='8' fill='#ffffff'/>",
    ]
    for number, row in enumerate(rows):
        width = (WIDTH - 2 * PAD - GAP * (len(row) - 1)) / len(row)
        top = PAD + number * (ROW + GAP)
        for place, name in enumerate(row):
            left = PAD + place * (width + GAP)
            middle = left + width / 2
            parts += [
                f"<rect x='{left:.1f}' y='{top}' width='{width:.1f}' height='{ROW}' rx='5' fill='#e8eef6' "
                "stroke='#7d93b2'/>",
                f"<text x='{middle:.1f}' y='{top + 20}' text-anchor='middle' {FONT} font-size='15' font-weight='600' "
                f"fill='#13233a'>{escape(name)}</text>",
                f"<text x='{middle:.1f}' y='{top + 37}' text-anchor='middle' {FONT} font-size='12' "
                f"fill='#3d4f68'>{escape(WHAT[name])}</text>",
            ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    PICTURE.write_text(svg(storeys()), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
