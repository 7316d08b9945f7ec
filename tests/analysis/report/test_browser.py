"""The report in a real browser, Debian's Chromium without a window: it draws, answers the pointer, and fits."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from role_task import BEST, fill_role_run
from role_task import NAME as OF_ROLES
from synthetic_run import NAME, done, fill_store

from aquasurf_ray.activations.rendering import short_name
from aquasurf_ray.analysis.report import KINDS, document, page
from aquasurf_ray.analysis.report.live_store import LiveStore
from aquasurf_ray.analysis.report.server import path_of, server
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.duration_text import duration_text
from aquasurf_ray.store import (
    EvaluationResult,
    FunctionRow,
    Lease,
    LiveRun,
    LiveWorker,
    NewRun,
    Store,
    this_process,
)
from aquasurf_ray.value_text import value_text

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

LONG = "mul(x,sigmoid(mul(1.6957691216057308,mul(x,add(1,mul(0.044715,square(x)))))))"
BOXES = """
const box = (each) => each.getBoundingClientRect();
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const name = (each) => each.textContent.slice(0, 60);
"""
OUTSIDE = f"""() => {{ {BOXES}
  const words = [...document.querySelectorAll(".panel :is(.legendtext, .gtitle, .xtitle, .ytitle, .ytick text)")];
  const cut = words.filter((each) => {{
    const own = box(each), panel = box(each.closest(".panel"));
    return own.left < panel.left - 1 || own.right > panel.right + 1 || own.top < panel.top - 1;
  }});
  const width = document.documentElement.clientWidth;
  const cells = [...document.querySelectorAll(":is(td, th, dt, dd, figcaption, p, h1, h2):not(.hidden)")];
  const wide = cells.filter((each) => box(each).right > width || each.scrollWidth > each.clientWidth + 1);
  return [...cut, ...wide].map(name);
}}"""
LINES_OF_MEAN = """(cell) => {
  const mean = document.createRange();
  mean.setStart(cell.firstChild, 0);
  mean.setEnd(cell.firstChild, cell.textContent.indexOf(")") + 1);
  return mean.getClientRects().length;
}"""
OVERLAPPING = f"""() => {{ {BOXES}
  const found = [];
  for (const panel of document.querySelectorAll(".panel")) {{
    const rows = [...panel.querySelectorAll(".ytick text")];
    const above = (row, i) => rows.slice(i + 1).filter((other) => meet(box(row), box(other)));
    found.push(...rows.flatMap((row, i) => above(row, i).map((other) => [name(row), name(other)])));
    const plot = panel.querySelector(".nsewdrag");
    const over = [...panel.querySelectorAll(".legend, .gtitle")].filter((each) => meet(box(each), box(plot)));
    found.push(...over.map((each) => [panel.id, name(each)]));
  }}
  return found;
}}"""

HEIGHT_OF_TEXT = """(cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getBoundingClientRect().height;
}"""

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
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The report of a network with a function as long as the expression of GELU's approximation, and without a name."""
    folder = tmp_path_factory.mktemp("long")
    with pytest.MonkeyPatch.context() as patch, Store.open(f"sqlite:///{folder}/store.db") as store:
        patch.setenv("AQUASURF_CACHE", str(folder / "cache"))
        fill_store(store, reference=LONG)
        (folder / "report.html").write_text(page(document(read_findings(store, NAME, "", quick=True))))
        yield f"file://{folder}/report.html"


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
        site = url.partition("/run/")[0]
        found.on(
            "request",
            lambda request: (
                None if request.url.startswith((site, "data:", "blob:")) else complaints.append(request.url)
            ),
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
    for kind in set(KINDS) - {"roles"}:  # the run's network has none
        assert found.locator(f"#{kind} .main-svg").count() > 0, kind
    assert found.locator("#progress .scatterlayer .point").count() > 10


@pytest.mark.slow
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
def test_a_function_per_role_has_a_curve_for_each_role_in_the_table_and_under_the_pointer(opened, tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_role_run(store)
        (tmp_path / "report.html").write_text(page(document(read_findings(store, OF_ROLES, "", quick=True))))
    found = opened(f"file://{tmp_path}/report.html")
    assert found.locator("#roles .main-svg").count() > 0
    for name, n in (("relu(x)", 1), (BEST, 2)):
        row = found.locator("#all tbody tr", has=found.get_by_text(name, exact=True))
        drawn = [curve.get_attribute("d") for curve in row.locator("path.curve").all()]
        assert [path.count("L") > 20 for path in drawn] == [True] * n
        assert len(set(drawn)) == n
    found.mouse.move(*middle(found, "#progress-0 .scatterlayer .trace:nth-of-type(2) .point"))
    card = found.locator("#card")
    card.wait_for(state="visible")
    assert card.locator("path.curve").count() == 2


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


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_long_names_fit_into_the_page_and_its_pictures(opened, long_file, viewport):
    found = opened(long_file, viewport)
    assert found.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert found.evaluate(OUTSIDE) == []
    assert found.evaluate(OVERLAPPING) == []
    verdict = found.locator(".verdict")
    assert short_name(LONG) in verdict.inner_text()
    assert LONG in verdict.locator("[title]").get_attribute("title")
    assert found.locator("#best td", has_text=f"{LONG} (reference)").count() == 1
    assert f"{short_name(LONG)} (reference)" in found.locator("#confirmed-0 .ytick").all_text_contents()
    if viewport is WIDE:
        lines = found.locator("#best td[data-label=confirmed]").first.evaluate(LINES_OF_MEAN)
        assert lines == 1, "a mean and its number of seeds are on one line"


@pytest.mark.slow
def test_a_table_on_a_phone_shows_every_cell_with_its_column(opened, file):
    found = opened(file, PHONE, has_touch=True, is_mobile=True)
    row = found.locator("#best tbody tr").first
    for cell in row.locator("td").all():
        box = cell.bounding_box()
        assert box["x"] + box["width"] <= PHONE["width"]
    label = "(cell) => getComputedStyle(cell, '::before').content"
    assert row.locator("td").nth(2).evaluate(label) == '"val_accuracy "'
    assert row.locator("td").nth(2).get_attribute("data-label") == "val_accuracy"
    # Chromium drops a table's meaning where its looks are others, unless the roles are written out.
    tree = found.locator("#best table").aria_snapshot()
    assert "- table" in tree
    assert "columnheader" in tree
    assert tree.count("- row ") == row.locator("xpath=../tr").count() + 1


@pytest.mark.slow
def test_columns_sort_by_keyboard_and_say_so(opened, file):
    found = opened(file)
    heads, first = found.locator("#best th"), found.locator("#best tbody tr").first
    seconds = heads.filter(has_text="val_accuracy")
    seconds.locator("button").focus()
    found.keyboard.press("Enter")
    assert seconds.get_attribute("aria-sort") == "descending"
    assert first.locator('td[data-label="val_accuracy"]').inner_text() == "0.9000"
    found.keyboard.press("Enter")
    assert seconds.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in found.locator('#best td[data-label="val_accuracy"]').all_text_contents()]
    assert values == sorted(values)
    heads.filter(has_text="step time").locator("button").click()
    assert heads.filter(has_text="step time").get_attribute("aria-sort") == "ascending", "the cheapest comes first"
    assert heads.locator("[aria-sort]").count() == 0, "only one column is marked"


@pytest.mark.slow
def test_the_page_writes_durations_as_the_terminal_does(opened, file):
    found = opened(file)
    seconds = [0, 0.2, 45.2, 59.7, 60, 93, 119.9, 3599.9, 3600, 5400, 9000, 86_399, 93_784, 200_000]
    assert [found.evaluate(f"spoken({each})") for each in seconds] == [duration_text(each) for each in seconds]


@pytest.mark.slow
def test_all_functions_are_listed_best_first_and_found_by_their_words(opened, file):
    found = opened(file)
    names = found.locator('#all td[data-label="function"]')
    assert names.count() == 24
    values = [float(text) for text in found.locator('#all td[data-label="val_accuracy"]').all_text_contents() if text]
    assert values == sorted(values, reverse=True)
    assert values[0] == 0.9
    found.get_by_label("Find functions that contain").fill("SIGMOID")
    assert all("sigmoid" in name for name in names.all_text_contents())
    assert found.locator("#all-choices [role=status]").inner_text() == f"{names.count()} of 24 functions"
    assert 0 < names.count() < 24


@pytest.mark.slow
def test_a_function_is_listed_by_its_short_name_and_found_by_both_of_its_names(opened, tmp_path):
    leaky = "add(relu(x),mul(0.1,min(x,0)))"
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_store(store, reference=leaky)
        (tmp_path / "report.html").write_text(page(document(read_findings(store, NAME, "", quick=True))))
    found = opened(f"file://{tmp_path}/report.html")
    assert "leaky_relu(x,0.1)" in found.locator("#functions").inner_text()
    for words in ("leaky", "mul(0.1,min"):
        found.get_by_label("Find functions that contain").fill(words)
        names = found.locator('#all td[data-label="function"] code')
        assert [(each.inner_text(), each.get_attribute("title")) for each in names.all()] == [
            ("leaky_relu(x,0.1)", leaky)
        ]


@pytest.mark.slow
def test_a_logarithmic_axis_is_a_button_away(opened, file):
    found = opened(file)
    kind = "() => document.getElementById('progress-0')._fullLayout.yaxis.type"
    assert found.evaluate(kind) == "linear"
    button = found.locator("#progress").get_by_role("button", name="Logarithmic scale")
    button.press("Enter")
    found.wait_for_function(f"({kind})() === 'log'")
    low, high = found.evaluate("() => document.getElementById('progress-0')._fullLayout.yaxis.range")
    assert 10**low < 0.55
    assert 0.9 < 10**high < 1.0
    assert button.get_attribute("aria-pressed") == "true"
    button.press("Enter")
    found.wait_for_function(f"({kind})() === 'linear'")


def test_keyboard_and_screen_reader_find_their_way(opened, file):
    found = opened(file)
    found.keyboard.press("Tab")
    assert found.evaluate("document.activeElement.textContent") == "Skip to the content"
    found.keyboard.press("Enter")
    assert found.evaluate("document.activeElement.id") == "main"
    for role in ("banner", "navigation", "main"):
        assert found.get_by_role(role).count() == 1, role
    levels = found.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no level is skipped"
    sections = found.evaluate("[...document.querySelectorAll('main section')].map((each) => each.id)")
    links = found.evaluate("[...document.querySelectorAll('nav a')].map((each) => each.hash.slice(1))")
    assert links == sections
    for section in sections:
        assert found.evaluate(f"document.getElementById('{section}').getAttribute('aria-labelledby')")
    ours = "[...document.querySelectorAll('button, input, a')].filter((each) => !each.closest('.panel'))"
    assert found.evaluate(f"{ours}.filter((each) => !each.textContent.trim() && !each.labels?.length).length") == 0
    found.locator("nav a").nth(3).focus()
    assert found.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


@pytest.mark.slow
def test_the_theme_changes_by_a_button_and_stays(opened, file):
    found = opened(file, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    axis = "getComputedStyle(document.querySelector('#progress-0 .xtick text')).fill"
    light = found.evaluate(ground), found.evaluate(axis)
    button = found.get_by_role("button", name="Theme: ")
    assert button.inner_text() == "Theme: as the system"
    button.click()
    assert found.evaluate(ground) == light[0]
    button.click()
    assert button.inner_text() == "Theme: dark"
    found.wait_for_function(f"{axis} !== '{light[1]}'")
    assert luminance(found.evaluate(ground)) < 0.2 < luminance(found.evaluate(axis))
    found.reload()
    found.wait_for_selector("body[data-drawn]", timeout=120_000)
    assert luminance(found.evaluate(ground)) < 0.2, "the choice is kept"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.slow
def test_words_stand_out_from_their_ground_in_light_and_in_dark(opened, file, scheme):
    found = opened(file, color_scheme=scheme)
    ground = luminance(found.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.2) == (scheme == "dark")
    for selector in ("p", "th button", "nav a", "td", "dt", ".numbers span", "figcaption span", "#theme"):
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
    assert "Best training: " in found.locator("#progress-words").inner_text()
    assert "The charts and the table of all functions need JavaScript" in found.locator("noscript").inner_text()
    context.close()


@contextmanager
def serving(store: Store) -> Iterator[str]:
    found = server(LiveStore(store.safe_url, lambda: store, lambda _, name: f"aquasurf search digits --name {name}"))
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{found.server_address[1]}"
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


@pytest.mark.slow
def test_a_live_page_follows_the_run(opened, stored_run):
    store, lease = stored_run
    with serving(store) as site:
        found = opened(f"{site}{path_of(NAME)}")
        candidate = store.candidates(lease.run_id)[-1]
        claim = store.claim(lease, candidate.id, 0, origin="suggestion")
        store.record_result(lease, claim.evaluation_id, done(0.97))
        found.wait_for_function("document.getElementById('best-words').innerText.includes('0.9700')", timeout=60_000)
        assert found.locator("#progress-words").inner_text().startswith("20 results")
        found.close()  # before its server, whose end it would complain of


@pytest.mark.slow
def test_a_live_page_outlives_its_server(browser, stored_run):
    with serving(stored_run[0]) as site:
        context = browser.new_context()
        found = context.new_page()
        found.goto(f"{site}{path_of(NAME)}")
        found.wait_for_selector("body[data-drawn]", timeout=120_000)
    found.wait_for_function(
        "document.getElementById('live').innerText.includes('The server has stopped')", timeout=60_000
    )
    assert found.locator("#progress-0 .main-svg").count() > 0
    context.close()


@pytest.mark.slow
def test_a_live_page_shows_what_happens_now_before_there_is_a_report(opened, stored_run):
    store, lease = stored_run
    workers = (LiveWorker("worker-1", "busy", 75.0, device="cpu", job="trains elu(x)", epoch=3),)
    store.report(lease, LiveRun(workers, per_hour=40.0, seconds_left=5400.0))
    store.renew_lease(lease)
    with serving(store) as site:
        found = opened(f"{site}{path_of(NAME)}", PHONE)
        now = found.locator("#now")
        found.wait_for_selector("#now[data-shown]")
        assert found.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert "40.0 an hour, about 1 h 30 min left" in now.inner_text()
        assert now.locator("progress").get_attribute("max") == "20"
        assert "trains elu(x)" in now.locator("table").inner_text()
        assert now.locator("td[data-label=for]").inner_text() == "1 min 15 s"
        assert now.locator("th").all_text_contents() == ["worker", "state", "job", "epochs done", "for", "device"]
        assert now.locator("th").first.get_attribute("aria-sort") == "ascending"
        counts = "1 diverged (loss or outputs not finite); 1 failed (infrastructure or task errors)."
        assert counts in now.inner_text()
        assert now.locator("#now-events li").count() == 15
        assert "results" in found.locator("#said").inner_text()
        now.get_by_label("Note").fill("seen in the browser")
        now.get_by_role("button", name="Add the note").press("Enter")
        found.wait_for_function("document.getElementById('now-events').innerText.includes('note: seen in the browser')")
        found.get_by_role("link", name="All runs of").click()
        found.wait_for_selector("#runs tbody tr")
        rows = {row.locator("td").first.inner_text(): row.inner_text() for row in found.locator("#runs tbody tr").all()}
        assert rows.keys() == {NAME, "synthetic-confirm"}
        assert "seen in the browser" in rows[NAME]
        assert " of 20" in rows[NAME]
        assert found.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        found.get_by_role("link", name="synthetic-confirm").click()
        found.wait_for_selector("body[data-drawn]", timeout=120_000)
        assert found.locator("#now-status").inner_text().startswith("finished")
        found.close()


@pytest.mark.slow
def test_a_note_that_is_refused_stays_in_the_form_with_the_reason(browser, stored_run):
    with serving(stored_run[0]) as site:
        context = browser.new_context()
        found = context.new_page()
        found.goto(f"{site}{path_of(NAME)}")
        found.wait_for_selector("#now[data-shown]")
        found.locator("#note").evaluate("(note) => note.removeAttribute('maxlength')")
        found.locator("#note").fill("x" * 3000)
        found.get_by_role("button", name="Add the note").click()
        why = found.locator("#note-refused").filter(has_text="The note was not stored: ")
        why.wait_for()
        assert "2000 characters" in why.inner_text()
        assert len(found.locator("#note").input_value()) == 3000
        context.close()


@pytest.mark.slow
def test_the_list_of_runs_fits_and_sorts_the_best_within_their_metric(opened, tmp_path):
    runs = {"space": ("rmse", 0.2), "of-errors": ("rmse", 0.1), "low": ("accuracy", 0.6), "high": ("accuracy", 0.9)}
    with Store.open(f"sqlite:///{tmp_path}/runs.db") as store:
        for name, (metric, value) in runs.items():
            less = metric == "rmse"
            spec = {"objective": {"metric": metric, "higher_is_better": not less}}
            task = store.add_task(metric, "1", metric, spec)
            functions = store.add_functions([FunctionRow(f"f{name}", f"a_long_name_of_a_function_{name}(x)", 1)])
            run = store.create_run(NewRun(name, "search", task, {}, name, 0, 2, None, "0.1.0"), functions)
            lease = store.acquire_lease(run.id, this_process())
            claim = store.claim(lease, functions[0], 0, "suggestion")
            score = -value if less else value
            store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=score))
            store.release_lease(lease, "finished")
            store.add_note(run.id, "a note that takes as much room as the table gives it, and then some more of it")
        with serving(store) as site:
            found = opened(site, WIDE)
            found.wait_for_selector("#runs tbody tr")
            order = "[...document.querySelectorAll('#runs tbody td:first-child')].map((cell) => cell.textContent)"
            found.get_by_role("button", name="best").click()
            assert found.evaluate(order) == ["high", "low", "of-errors", "space"]
            found.get_by_role("button", name="best").click()
            assert found.evaluate(order) == ["low", "high", "space", "of-errors"]
            row = found.locator("#runs tbody tr", has_text="space")
            for column in ("run", "results"):
                cell = row.locator(f'td[data-label="{column}"]')
                assert cell.evaluate(HEIGHT_OF_TEXT) < 40, "one line"
            assert row.locator('td[data-label="status"]').inner_text() == "finished (exhausted)"
            for value in (0.25, 0.0005, 0.00012, 9e-9, -1e308, 1.5e6, -0.0, 0.99999):
                assert found.evaluate("(value) => metricText(value)", value) == value_text(value)
            found.close()
