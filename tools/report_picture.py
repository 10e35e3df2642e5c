"""Draws docs/report.png: the top of the page that examples/report_page.py makes, as a browser shows it.

    python tools/report_picture.py [--out docs/report.png] [--page PAGE.html]

Without ``--page`` the example is run first (a minute on two CPU cores). Needs chromium and the extra "test".
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1160, 900)  # of the window, in pixels of the page
SECTIONS = ("summary", "map", "photographs")
KEEP = """(sections) => {
    for (const each of document.querySelectorAll("main > section")) if (!sections.includes(each.id)) each.remove();
    [...document.querySelectorAll(".gallery > li")].slice(4).forEach((each) => each.remove());
    document.querySelector("footer").remove();
}"""
FLAGS = ["--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def make_page(folder: Path) -> Path:
    """The page of the example."""
    sys.path.insert(0, str(ROOT))
    import captum_canonical as cc
    from examples.report_page import TITLE, UNIT, make_run

    return cc.report(make_run(folder, 60, 0), folder / "report.html", title=TITLE, unit=UNIT)


def draw(page: Path, out: Path, sections: tuple[str, ...] = SECTIONS) -> None:
    """The top of the page and some of its sections, one row of the gallery, the face turned a little; 256 colours."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        window = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        window.goto(page.resolve().as_uri())
        window.wait_for_selector("#view-3d[data-ready=true]")
        window.locator("#view-3d").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowUp"):
            window.keyboard.press(key)
        window.evaluate(KEEP, list(sections))
        window.evaluate("document.activeElement.blur()")
        window.wait_for_timeout(2000)
        window.screenshot(path=out, full_page=True)
        browser.close()
    shot = Image.open(out).convert("RGB")
    shot.quantize(256, kmeans=4, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    """Makes the page if there is none, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "report.png")
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(arguments.page or make_page(Path(folder)), arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
