"""The report in a real browser, Debian's Chromium without a window: it draws, answers the pointer, and fits."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from synthetic_run import NAME, done, fill_store

from aquasurf_ray.analysis.report import KINDS, document, page, read_findings
from aquasurf_ray.analysis.report.server import LiveReport, server
from aquasurf_ray.store import Lease, Store

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 380, "height": 800}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium on the path")
Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def stored_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Lease]]:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AQUASURF_CACHE", str(folder / "cache"))
        with Store.open(f"sqlite:///{folder}/store.db") as store:
            yield store, fill_store(store)


@pytest.fixture(scope="module")
def file(stored_run: tuple[Store, Lease], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(document(read_findings(stored_run[0], NAME, "aquasurf search digits", quick=True))))
    return f"file://{path}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Opens a page, waits until it is drawn, and in the end asserts that the browser had nothing to complain of."""
    complaints: list[str] = []
    contexts = []

    def open_page(url: str, viewport: dict[str, int] = WIDE, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        found = context.new_page()
        found.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on(
            "request",
            lambda request: None if request.url.startswith((url, "data:", "blob:")) else complaints.append(request.url),
        )
        found.goto(url)
        found.wait_for_selector("body[data-drawn]", timeout=120_000)
        return found

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def middle(page: Any, selector: str, number: int = 0) -> tuple[float, float]:
    place = page.locator(selector).nth(number)
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_every_picture_is_drawn_and_nothing_is_asked_of_the_network(opened, file):
    found = opened(file)
    for kind in KINDS:
        assert found.locator(f"#{kind} .main-svg").count() > 0, kind
    assert found.locator("#progress .scatterlayer .point").count() > 10


def test_confirmed_means_stand_in_the_rows_of_their_functions(opened, file):
    found = opened(file)
    assert found.locator("#confirmed-0 .ytick").count() == 3
    assert found.locator("#confirmed-0 .errorbar").count() == 3
    names = found.locator("#confirmed-0 .ytick").all_text_contents()
    assert all("(" in name for name in names)


@pytest.mark.slow
def test_the_pointer_on_a_function_shows_its_curve_and_its_figures(opened, file):
    found = opened(file)
    card = found.locator("#card")
    assert not card.is_visible()
    found.mouse.move(*middle(found, "#progress-0 .scatterlayer .trace:nth-of-type(2) .point"))
    card.wait_for(state="visible")
    assert "val_accuracy" in card.inner_text()
    assert card.locator("path").last.get_attribute("d").count("L") > 30
    found.mouse.move(5, 5)
    card.wait_for(state="hidden")


@pytest.mark.slow
def test_a_dragged_box_zooms_and_a_double_click_goes_back(opened, file):
    found = opened(file)
    reach = "() => document.getElementById('progress-0')._fullLayout.xaxis.range.map(Number)"
    before = found.evaluate(reach)
    x, y = middle(found, "#progress-0 .nsewdrag")
    found.mouse.move(x - 120, y - 50)
    found.mouse.down()
    found.mouse.move(x + 120, y + 50, steps=6)
    found.mouse.up()
    found.wait_for_function(f"({reach})()[1] < {before[1]}")
    inside = found.evaluate(reach)
    assert before[0] < inside[0] < inside[1] < before[1]
    for _ in range(20):  # two clicks that a busy browser sees more than 0.3 s apart are no double click
        found.mouse.dblclick(x, y)
        found.wait_for_timeout(1000)
        if found.evaluate(reach)[1] >= before[1] - 0.01:
            return
    pytest.fail(f"{found.evaluate(reach)} is shown still, and not {before}")


def test_a_phone_shows_it_without_scrolling_sideways(opened, file):
    found = opened(file, PHONE, has_touch=True, is_mobile=True)
    assert found.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for box in (panel.bounding_box() for panel in found.locator(".panel").all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    assert float(found.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")) >= 16


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.slow
def test_words_stand_out_from_their_ground_in_light_and_in_dark(opened, file, scheme):
    found = opened(file, color_scheme=scheme)
    ground = luminance(found.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.2) == (scheme == "dark")
    for selector in ("p", "th", "a", "td"):
        text = luminance(found.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color"))
        assert contrast(text, ground) >= 4.5, selector  # WCAG 2.1, level AA
    tick = luminance(found.evaluate("getComputedStyle(document.querySelector('#progress-0 .xtick text')).fill"))
    assert contrast(tick, ground) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance of a CSS colour, as WCAG 2.1 defines it."""
    parts = [float(part) / 255 for part in colour.split("(")[1].rstrip(")").split(",")[:3]]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_the_words_are_there_without_the_script(browser, file):
    context = browser.new_context(java_script_enabled=False)
    found = context.new_page()
    found.goto(file)
    assert "Best: " in found.locator("#progress-words").inner_text()
    assert "The charts need JavaScript" in found.locator("noscript").inner_text()
    context.close()


@contextmanager
def serving(report: LiveReport) -> Iterator[Any]:
    found = server(report)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


@pytest.mark.slow
def test_a_live_page_follows_the_run(opened, stored_run):
    store, lease = stored_run
    with serving(LiveReport(store, NAME, "again")) as served:
        found = opened(f"http://127.0.0.1:{served.server_address[1]}/")
        candidate = store.candidates(lease.run_id)[-1]
        claim = store.claim(lease, candidate.id, 0, origin="suggestion")
        store.record_result(lease, claim.evaluation_id, done(0.97))
        found.wait_for_function("document.getElementById('best-words').innerText.includes('0.9700')", timeout=60_000)
        assert found.locator("#progress-words").inner_text().startswith("20 results")


@pytest.mark.slow
def test_a_live_page_outlives_its_server(browser, stored_run):
    with serving(LiveReport(stored_run[0], NAME, "again")) as served:
        context = browser.new_context()
        found = context.new_page()
        found.goto(f"http://127.0.0.1:{served.server_address[1]}/")
        found.wait_for_selector("body[data-drawn]", timeout=120_000)
    found.wait_for_function(
        "document.getElementById('live').innerText.includes('The server has stopped')", timeout=60_000
    )
    assert found.locator("#progress-0 .main-svg").count() > 0
    context.close()
