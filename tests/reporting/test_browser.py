"""Pages in a real browser: nothing on the console, no request, and all that can be turned, sorted and switched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import captum_canonical as cc
from report_tools import make_run
from tests.reporting.test_report import HOSTILE, HOSTILE_GROUPS, decoded

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium, which is not installed")
PATIENCE = 60_000  # milliseconds
DATA_VALUES = "cells => cells.map((cell) => cell.dataset.value)"
SHOWN = "panels => panels.map((panel) => !panel.hidden)"


class Visit:
    """A page in the browser, and all that it logged and requested."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_context(viewport={"width": 760, "height": 640}, **settings).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    @property
    def errors(self) -> list[str]:
        """What went wrong; a slow software renderer's remarks on its speed are no fault of the page."""
        slow = ("GPU stall", "willReadFrequently")
        return [message for message in self.complaints if not any(word in message for word in slow)]

    @property
    def foreign(self) -> list[str]:
        """Requests for anything but the page and what is in it."""
        return [url for url in self.requests[1:] if not url.startswith(("data:", "blob:"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with hostile names and groups, failed photographs, and an end that is missing."""
    folder = tmp_path_factory.mktemp("page")
    names = [*HOSTILE, *(f"{number}.png" for number in range(12))]
    run = make_run(folder, names, [*(HOSTILE_GROUPS * 9)], lose=(8, 9), stop_after=4)
    return cc.report(run, folder / "report.html", unit="drop in <odds>")


@pytest.fixture(scope="module")
def visit(browser: Any, page: Path) -> Visit:
    visit = Visit(browser, page)
    visit.page.wait_for_selector("#view-3d[data-ready=true]")
    return visit


def test_nothing_is_on_the_console_and_nothing_is_requested(visit: Visit) -> None:
    assert visit.errors == [] and visit.foreign == []


def test_hostile_names_run_nothing(visit: Visit) -> None:
    assert visit.page.evaluate("window.hacked === undefined")
    names = visit.page.locator(".gallery .name").all_inner_texts()
    assert {" ".join(name.split()) for name in names} <= {" ".join(name.split()) for name in [*HOSTILE]} | {
        f"{number}.png" for number in range(12)
    }
    options = visit.page.locator("#gallery-group option").all_inner_texts()
    assert options[1:] == sorted(HOSTILE_GROUPS)


def picture_of_face(visit: Visit) -> np.ndarray:
    """The face in three dimensions as it is on the screen."""
    from base64 import b64encode

    shot = visit.page.locator("#view-3d").screenshot()
    return np.asarray(decoded("," + b64encode(shot).decode()).convert("RGB"), np.int64)


def test_a_drag_a_key_and_a_button_turn_the_face(visit: Visit) -> None:
    visit.page.locator("#view-3d").scroll_into_view_if_needed()
    box = visit.page.locator("#view-3d").bounding_box()
    assert box is not None
    front = picture_of_face(visit)
    assert (front.max(2) - front.min(2) > 20).mean() > 0.02  # colours: it is drawn at all
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + 80, y + 10, steps=2)
    visit.page.mouse.up()
    visit.page.wait_for_timeout(500)
    turned = picture_of_face(visit)
    assert (np.abs(turned - front).max(2) > 20).mean() > 0.05
    visit.page.locator("#view-3d").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_timeout(500)
    assert (np.abs(picture_of_face(visit) - turned).max(2) > 20).mean() > 0.01
    visit.page.locator("[data-view=front]").click()
    visit.page.mouse.move(5, 5)
    visit.page.wait_for_timeout(500)
    assert (np.abs(picture_of_face(visit) - front).max(2) > 20).mean() < 0.02
    visit.page.get_by_role("radio", name="Coverage").check()
    visit.page.wait_for_timeout(500)
    green = picture_of_face(visit)
    assert ((green[..., 1] - green[..., 0]) > 20).mean() > 0.1
    visit.page.get_by_role("radio", name="Mean map").check()


def test_values_are_shown_where_one_points(visit: Visit) -> None:
    image = visit.page.locator(".hero .map")
    image.hover(position={"x": 5, "y": 5})
    assert visit.page.locator("#tip").inner_text().startswith("not seen")
    size = image.bounding_box()
    assert size is not None
    image.hover(position={"x": size["width"] * 0.5, "y": size["height"] * 0.55})
    assert "drop in <odds> \u00b7 nose" in visit.page.locator("#tip").inner_text()


def test_tables_are_sorted_by_keyboard(visit: Visit) -> None:
    table = visit.page.locator("#left-out table").first
    heading = table.locator("thead th", has_text="Failed in the run")

    def column() -> list[str]:
        return table.locator("tbody tr td:nth-child(4)").all_inner_texts()

    heading.locator("button").focus()
    visit.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    down = column()
    assert down[:-1] == sorted(down[:-1], key=int, reverse=True)
    visit.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending" and column()[:-1] == sorted(down[:-1], key=int)
    assert table.locator("tbody tr th").last.inner_text() == "all groups"  # the sum stays last


def test_regions_are_sorted_by_their_values(visit: Visit) -> None:
    table = visit.page.locator("#regions table").first
    for column in (2, 3, 4):
        table.locator(f"thead th:nth-child({column}) button").click()
        values = [float(v) for v in table.locator(f"tbody td:nth-child({column})").evaluate_all(DATA_VALUES)]
        assert len(values) == 21 and values == sorted(values, reverse=True)
    table.locator("thead th button").first.click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names) and names[0] == "brow left"


def test_strata_switch_by_click_and_by_key(visit: Visit) -> None:
    tabs = visit.page.locator("#groups [role=tab]")
    panels = visit.page.locator("#groups [role=tabpanel]")
    assert tabs.count() == panels.count() >= 3
    assert panels.evaluate_all(SHOWN) == [True] + [False] * (tabs.count() - 1)
    first = panels.nth(0).screenshot()
    tabs.nth(1).click()
    assert panels.evaluate_all(SHOWN)[:2] == [False, True] and panels.nth(1).screenshot() != first
    visit.page.keyboard.press("ArrowRight")
    assert panels.evaluate_all(SHOWN)[:3] == [False, False, True]
    assert tabs.nth(2).get_attribute("aria-selected") == "true"
    visit.page.keyboard.press("Home")
    assert panels.evaluate_all(SHOWN)[0]


def test_the_gallery_shows_one_group(visit: Visit) -> None:
    every = visit.page.locator(".gallery > li:visible").count()
    visit.page.locator("#gallery-group").select_option(index=1)
    shown = visit.page.locator(".gallery > li:visible").count()
    assert 0 < shown < every
    assert visit.page.locator("#gallery-count").inner_text() == f"{shown} of {every} shown"
    visit.page.locator("#gallery-group").select_option(index=0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_issue_of_accessibility(browser: Any, page: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    other = Visit(browser, page, color_scheme=scheme, bypass_csp=True)  # else the page forbids axe as well
    other.page.wait_for_selector("#view-3d canvas")
    other.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = Axe().run(other.page).response["violations"]
    assert [(each["impact"], each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found] == []


def test_the_print_holds_the_head_and_every_part(visit: Visit, tmp_path: Path) -> None:
    visit.page.emulate_media(media="print")
    assert visit.page.locator("#view-3d-print").is_visible()
    assert visit.page.evaluate("document.getElementById('view-3d-print').naturalWidth") == 700
    assert not visit.page.locator("#gallery-group").is_visible()
    panels = visit.page.locator("#groups [role=tabpanel]")
    assert panels.evaluate_all("all => all.every((each) => getComputedStyle(each).display !== 'none')")
    visit.page.emulate_media(media="screen")


def test_without_scripts_the_maps_and_tables_are_there(browser: Any, page: Path) -> None:
    plain = Visit(browser, page, java_script_enabled=False)
    assert plain.page.locator(".map img").first.is_visible()
    assert plain.page.locator("#left-out table").first.is_visible()
