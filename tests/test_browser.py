"""report.html in a real browser: Debian's chromium, driven by playwright. Skipped where one of them is not there."""

import csv
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_page import EVIL, enrich, keep_tests
from test_report import edit, with_facts, write_sweep

from sweep.config import StudyConfig
from sweep.report import render, table

pytestmark = pytest.mark.campaign
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no browser here: apt-get install chromium", allow_module_level=True)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a finished sweep with hostile names."""
    points = write_sweep(tmp_path)
    edit(tmp_path, points, enrich)
    points = with_facts(points, lambda each: {"task": EVIL if each.task == "digits" else each.task})
    table.write_manifest(tmp_path, points, StudyConfig())
    keep_tests(tmp_path, (EVIL, "dog", "cat"))
    render.build(tmp_path)
    return tmp_path


def opened(browser: Any, root: Path, **settings: Any) -> tuple[Any, list[str]]:
    """Return the page and a list that fills with what should not happen: errors, requests, dialogs."""
    page = browser.new_context(**settings).new_page()
    wrong: list[str] = []
    address = (root / "report.html").as_uri()
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: wrong.append(request.url) if request.url not in (address, "data:,") else None)
    page.goto(address)
    return page, wrong


def column(page: Any, number: int) -> list[str]:
    cells = page.locator(f"#comparison tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()
    return [" ".join(each.split()) for each in cells]


def test_tables_are_sorted_filtered_and_saved(browser: Any, root: Path, tmp_path: Path) -> None:
    page, wrong = opened(browser, root)
    heading = page.locator("#comparison th", has_text="pretrained")
    assert heading.get_attribute("aria-sort") == "none"
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    values = [float(re.split("[ ,]", each)[0]) for each in column(page, 4)]  # of two seeds, both are shown
    assert values == sorted(values)
    assert len(values) == 9
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(re.split("[ ,]", each)[0]) for each in column(page, 4)] == values[::-1]
    page.locator("#comparison input").fill("LETTERS keep")
    assert column(page, 1) == ["letters"]
    assert page.locator("#comparison output").inner_text() == "1 of 9 rows"
    with page.expect_download() as saved:
        page.locator("#comparison .tools button").click()
    saved.value.save_as(tmp_path / "saved.csv")
    rows = list(csv.reader((tmp_path / "saved.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert rows[0][:4] == ["task", "case", "frozen", "pretrained"]
    assert [row[:3] for row in rows[1:]] == [["letters", "similar_more", "2/5"]]
    assert wrong == []


@pytest.mark.parametrize(("width", "scheme"), [*itertools.product((1280, 390), ("light", "dark"))])
def test_nothing_is_wrong_on_screens(browser: Any, root: Path, width: int, scheme: str) -> None:
    """No rule of axe-core is broken (contrast is one), nothing is wider than the screen, and it is there in 2 s."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, wrong = opened(browser, root, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 2000
    assert [(each["id"], each["nodes"][0]["html"]) for each in axe.Axe().run(page).response["violations"]] == []
    assert wrong == []


def test_a_tab_follows_the_sweep_and_stays_where_it_is(browser: Any, root: Path) -> None:
    render.grow(root, 1)
    page, wrong = opened(browser, root)
    assert page.locator(".state").inner_text().startswith("Running: 18 of 18")
    page.locator("#comparison input").fill("waves")
    page.locator("#comparison th button").nth(3).click()
    page.evaluate("scrollTo({top: 900, behavior: 'instant'})")
    before = page.locator("#comparison").bounding_box()
    render.build(root)
    page.wait_for_selector("html:not([data-written])", state="attached", timeout=15000)
    assert page.locator(".state").inner_text() == "Ended: every point has its result."
    assert page.locator("#comparison").bounding_box()["y"] == pytest.approx(before["y"], abs=2)
    assert page.evaluate("scrollY") > 500
    assert column(page, 1) == ["waves"] * 3
    assert page.locator("#comparison th").nth(3).get_attribute("aria-sort") == "ascending"
    assert wrong == []


def test_reloading_can_be_stopped(browser: Any, root: Path) -> None:
    render.grow(root, 1)
    page, _ = opened(browser, root)
    page.get_by_role("button", name="Stop reloading").click()
    render.build(root)
    page.wait_for_timeout(4500)
    assert page.locator(".state").inner_text().startswith("Running")
    page.get_by_role("button", name="Reload by itself").click()
    page.wait_for_selector("html:not([data-written])", state="attached", timeout=15000)


def test_the_page_says_all_without_a_script(browser: Any, root: Path) -> None:
    page, wrong = opened(browser, root, java_script_enabled=False)
    assert page.locator("#comparison tbody tr").count() == 9
    assert page.locator("figure svg").count() == 12
    assert wrong == []
