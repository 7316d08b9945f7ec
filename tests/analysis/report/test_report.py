"""A run's report: its figures are those of the store, and its page is safe, whole and small."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_run import DIVERGED, FAILED, NAME, done, fill_store, functions

from aquasurf_ray.activations import outputs, sample
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.output_file import write_file
from aquasurf_ray.analysis.report import KINDS, document, draw, page
from aquasurf_ray.analysis.report.charts.chart import Bars, Chart, Intervals, Line, Points
from aquasurf_ray.analysis.report.live import EventTail, run_now
from aquasurf_ray.analysis.report.pictures.function_table import REACH, curve
from aquasurf_ray.analysis.report.pictures.score_axis import lowest_shown, on_the_edge
from aquasurf_ray.analysis.report.pictures.usage import at_hand
from aquasurf_ray.analysis.report.summary import leaderboard
from aquasurf_ray.analysis.studies.confirmation import SeedMean
from aquasurf_ray.analysis.studies.findings import Findings, read_findings
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import EpochRecord, EvaluationResult, FunctionRow, NewRun, Store, this_process
from aquasurf_ray.training_metrics import metric_reason

OF_ANY_NETWORK = [kind for kind in KINDS if kind != "roles"]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Findings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AQUASURF_CACHE", str(tmp_path_factory.mktemp("cache")))
        with Store.open(f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db") as store:
            fill_store(store)
            yield read_findings(store, NAME, "aquasurf search digits --seed 3", quick=True)


@pytest.fixture(scope="module")
def shown(findings: Findings) -> dict:
    return document(findings)


def marks(findings: Findings, kind: str, type_: type) -> list:
    chart = KINDS[kind](findings)
    assert chart is not None
    return [mark for panel in chart.panels for mark in panel.marks if isinstance(mark, type_)]


@pytest.mark.slow
def test_every_kind_has_something_to_show_of_a_search(shown):
    assert [section["id"] for section in shown["sections"]] == ["best", *OF_ANY_NETWORK, "all", "again"]


def test_a_run_without_results_has_a_page_too(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        store.create_run(NewRun("new", "search", store.add_task("t", "1", "d", {}), {}, "d", 0, 4, None, "0.1.0"))
        found = document(read_findings(store, "new", "aquasurf search t"))
    assert [section["id"] for section in found["sections"]] == ["best", "all", "again"]
    assert "No training has a score yet" in page(found)


def test_a_failed_run_says_why_and_counts_what_diverged_and_is_queued_again(tmp_path, capsys):
    """The run blames its task, so no function has the status of a diverged one."""
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        task = store.add_task("digits", "1", "d", {})
        ids = store.add_functions([FunctionRow(name, name, 1) for name in ("relu(x)", "elu(x)")])
        run = store.create_run(NewRun("one", "search", task, {}, "d", 0, 4, None, "0.1.0"), ids)
        lease = store.acquire_lease(run.id, this_process())
        for number in ids:
            claim = store.claim(lease, number, 0, origin="baseline")
            store.record_result(lease, claim.evaluation_id, EvaluationResult("diverged", reason=DIVERGED))
        store.reopen_diverged(lease, [1, 2])
        store.release_lease(lease, "failed", "no baseline trains")
        found, run = read_findings(store, "one", ""), store.run("one")
        now = run_now(store, run, EventTail(store, run))
        assert main(["status", "one", "--json", "--store", store.safe_url]) == 0
        assert json.loads(capsys.readouterr().out)["diverged"] == 2
        again = store.acquire_lease(run.id, this_process())
        assert store.status(again.run_id).diverged == 0, "they are trained as if they were new"
    shown = document(found)
    assert shown["heading"].startswith('<p class="verdict">The run failed: no baseline trains.</p>')
    assert "No training has a score; 2 diverged." in page(shown)
    assert KINDS["failures"](found).words.startswith("2 trainings diverged: the task is at fault, and they are queued")
    assert (now["diverged"], now["causes"]) == (2, [{"n": 2, "text": "diverged: vanishing-gradient"}])


def test_a_run_that_ended_early_says_why(findings):
    run = replace(findings.run, status="finished", message="val_accuracy>0.8 is reached")
    heading = document(replace(findings, run=run))["heading"]
    assert "The run is finished: val_accuracy&gt;0.8 is reached; read " in heading
    failed = document(replace(findings, run=replace(run, status="failed")))["heading"]
    assert failed.count("val_accuracy&gt;0.8 is reached") == 1, "beside the verdict"
    assert "<p>The run failed: val_accuracy&gt;0.8 is reached.</p>" in failed


def test_what_makes_the_run_again_has_the_versions_of_its_last_session(findings: Findings) -> None:
    seen = replace(findings, versions={"python": "3.11.7", "torch": "2.15.0"})
    (again,) = (section for section in document(seen)["sections"] if section["id"] == "again")
    assert re.search(r"<td[^>]*>torch</td><td[^>]*>2\.15\.0</td>", again["html"])


def test_the_coverage_of_spectra_stands_under_their_picture(findings: Findings) -> None:
    seen = replace(
        findings, coverage="the spectrum covers 1 of 2 matrices; left out of the spectrum: <words> (embedding)"
    )
    (spectra,) = (section for section in document(seen)["sections"] if section["id"] == "spectra")
    assert (
        "The spectrum covers 1 of 2 matrices; left out of the spectrum: &lt;words&gt; (embedding)." in spectra["html"]
    )


def test_the_best_so_far_is_the_running_maximum_of_the_scores_in_the_order_they_came(findings):
    (best, relu) = marks(findings, "progress", Line)
    scores = [request.evaluation.score for request in findings.finished]
    running = [max(s for s in scores[: i + 1] if s is not None) for i in range(len(scores))]
    np.testing.assert_allclose(best.y, running)
    reference = next(w.evaluation.score for w in findings.requests if w.function == "relu(x)")
    assert relu.y.tolist() == [reference, reference]


def test_a_metric_of_which_less_is_better_is_drawn_with_its_own_sign(tmp_path):
    spec = {"objective": {"metric": "rmse", "higher_is_better": False}}
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_store(store, spec=spec)
        found = read_findings(store, NAME, "", quick=True)
    (best, _) = marks(found, "progress", Line)
    assert found.metric_name == "val_rmse"
    assert (np.diff(best.y) <= 0).all()
    assert best.y[-1] == -0.9


def test_the_pareto_front_has_those_that_no_cheaper_function_beats(findings):
    (front,) = marks(findings, "cost", Line)
    means = {each.function: each.test.mean for each in findings.confirmation.functions}
    rows = [(row.time_ratio, means[row.function]) for row in findings.board if row.function in means]
    expected = [r for r in rows if not any(o != r and o[0] <= r[0] and o[1] >= r[1] for o in rows)]
    shown = sorted(zip(front.x.tolist(), front.y.tolist(), strict=True))
    assert shown == [row for row in sorted(expected) if row[1] >= front.y.min()]
    assert shown[-1][1] == pytest.approx(0.795)


def test_the_cost_picture_tells_confirmed_means_from_single_trainings(findings):
    found = {mark.name: mark for mark in marks(findings, "cost", Points)}
    (front,) = marks(findings, "cost", Line)
    judged = {each.function for each in findings.confirmation.functions}
    confirmed = {name for title, mark in found.items() if title.endswith(", confirmed") for name in mark.functions}
    single = {name for title, mark in found.items() if title.endswith(", not confirmed") for name in mark.functions}
    assert confirmed == judged
    assert single == {row.function for row in findings.board} - judged
    assert {title: mark.symbol for title, mark in found.items()} == {
        "functions, confirmed": "circle",
        "baselines, confirmed": "square",
        "functions, not confirmed": "x",
        "baselines, not confirmed": "x",
    }
    assert front.name == "Pareto front of the confirmed"
    assert "Crosses are functions that were not confirmed" in KINDS["cost"](findings).words
    alone = replace(findings, confirmation=None)
    assert [mark.name for mark in marks(alone, "cost", Points)] == ["functions", "baselines"]
    assert "Crosses" not in KINDS["cost"](alone).words


def test_confirmed_means_are_those_of_the_judging_seeds_on_the_test_split(findings):
    (intervals,) = marks(findings, "confirmed", Intervals)
    assert intervals.rows[0] == "relu(x) (reference)"
    np.testing.assert_allclose(intervals.mean, [0.71, 0.795, 0.795])
    half = 12.706204736 * 0.01 / np.sqrt(2) / np.sqrt(2)  # Student's t with one degree of freedom, 0.975
    np.testing.assert_allclose(intervals.high - intervals.mean, [2 * half, half, half], rtol=1e-6)


def test_a_confirmed_mean_at_another_rate_than_its_row_says_so(findings):
    cells = [dict(re.findall(r'data-label="(.*?)">(.*?)</td>', row)) for row in leaderboard(findings).split("<tr")]
    rows = {row["function"]: row["confirmed"] for row in cells if row.get("confirmed")}
    judged = {each.function: each for each in findings.confirmation.functions}
    assert {each.recipe_change for each in judged.values()} == {"", "learning_rate*2"}
    for name, cell in rows.items():
        change = judged[name.split(" (")[0]].recipe_change
        assert cell.endswith(" with learning_rate*2" if change else "(2)")
    assert len(rows) == len(judged)


def test_the_score_over_the_rate_is_that_of_the_choosing_seeds(findings):
    curves = {line.name: (line.x.tolist(), line.y.tolist()) for line in marks(findings, "rates", Line)}
    assert curves.pop("relu(x) (reference)") == ([-1, 0, 1], [0.6, 0.75, 0.7])
    assert list(curves.values()) == 2 * [([-1, 0, 1], [0.7, 0.75, 0.8])]
    assert "relu(x) is best at 1" in KINDS["rates"](findings).words


def test_the_verdict_stands_at_the_head(findings, shown):
    """Two seeds with differences of 0.09 and 0.08 have an interval of 0.085 and 12.7 times 0.005."""
    assert shown["heading"].startswith('<p class="verdict">No function beats relu(x): the best, ')
    assert "gains +8.5 points [2.1, 14.9]" in shown["heading"]
    assert "at each one&#x27;s best rate, 2 seeds" in shown["heading"]


def test_the_first_screen_has_the_winner_next_to_the_reference_and_four_numbers(findings, shown):
    """Gains of 0.09 and 0.08; a step of 28 ms against 20; 19 results, 5 trainings of each of 3 functions to confirm."""
    numbers = dict(re.findall(r"<dt>(.*?)</dt><dd><b>(.*?)</b>", shown["heading"]))
    assert numbers == {"Gain over relu(x)": "+8.5 points", "Cost": "1.40 x", "Trainings": "34", "Time": "1 min 6 s"}
    assert "95% interval [2.1, 14.9]" in shown["heading"]
    assert "19 in the run, 15 to confirm" in shown["heading"]
    assert "memory 1.03 x" in shown["heading"]
    curves = re.findall(r'class="curve" d="(.*?)"', shown["heading"])
    assert len(curves) == 2
    points = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.-]+,[\d.-]+", curves[1])]
    zero, one = 150 * 0.7, 240 / 8  # the height of 0, and a unit of x in the picture
    x, y = np.array(points).T
    np.testing.assert_allclose((zero - y) / one, np.maximum(x / one - 4, 0), atol=0.01)


def test_without_a_confirmation_the_first_screen_says_that_nothing_is_confirmed(findings):
    alone = document(replace(findings, confirmation=None, confirming=()))["heading"]
    relu = next(each.evaluation.score for each in findings.requests if each.function == "relu(x)")
    gain = f"{100 * (0.9 - relu):.1f} points"
    assert f"Not confirmed: {functions(24)[8]} is {gain} better than relu(x) in the search, which may be luck." in alone
    assert f"Confirm it with: aquasurf confirm {NAME}</p>" in alone
    assert f"<b>+{gain}</b> <span>no interval: not confirmed" in alone


def test_a_search_that_found_nothing_better_says_so_and_how_to_search_longer(findings):
    # Other baselines, which would be named too, are left out.
    kept = [row for row in findings.board if not row.baseline or row.function == "relu(x)"]
    rows = [replace(row, score=row.score - (row.baseline is False)) for row in kept]
    board = tuple(sorted(rows, key=lambda row: -row.score))
    run = replace(findings.run, status="finished", budget=12)
    poorer = replace(findings, confirmation=None, confirming=(), board=board, run=run)
    text = html.unescape(document(poorer)["heading"])
    assert f"Nothing found so far beats relu(x): the best, {functions(24)[8]}, is " in text
    assert f" worse. Search longer with: aquasurf resume {NAME} --evaluations 24</p>" in text
    assert "luck" not in text
    going_on = document(replace(poorer, run=replace(run, status="running")))["heading"]
    assert " points worse.</p>" in going_on
    study = document(replace(poorer, run=replace(run, config=run.config | {"study": True})))["heading"]
    assert " points worse. Search longer in your own loop.</p>" in study


def test_the_best_baseline_stands_beside_the_best_function_where_it_is_better_than_the_reference(findings):
    best = max((row for row in findings.board if row.baseline), key=lambda row: row.score)
    gain = f"{100 * (best.score - findings.reference.score):.1f} points"
    assert best.function != "relu(x)"
    alone = document(replace(findings, confirmation=None, confirming=()))["heading"]
    assert f" may be luck. The best baseline is {best.function}, {gain} better than relu(x). Confirm it with" in alone
    board = tuple(row for row in findings.board if not row.baseline or row.function == "relu(x)")
    assert "best baseline" not in document(replace(findings, board=board, confirmation=None))["heading"]


def test_a_baseline_that_leads_a_search_comes_first_and_nothing_that_loses_to_it_is_to_be_confirmed(findings):
    best = next(row for row in findings.board if row.baseline and row.function != "relu(x)")
    rows = [replace(row, score=0.95) if row is best else row for row in findings.board]
    board = tuple(sorted(rows, key=lambda row: -row.score))
    run = replace(findings.run, status="finished", budget=12)
    alone = document(replace(findings, confirmation=None, confirming=(), board=board, run=run))["heading"]
    relu = findings.reference.score
    assert alone.startswith(
        f'<p class="verdict">A baseline leads: {best.function}, {100 * (0.95 - relu):.1f} points better than relu(x); '
        f"the best function found, {functions(24)[8]}, is {100 * (0.9 - relu):.1f} points better. Neither is confirmed."
    )
    assert "Confirm it" not in alone
    assert f"Search longer with: aquasurf resume {NAME} --evaluations 24</p>" in alone


def lost_reference(tmp_path, scores):
    """Returns the heading of a run with these scores, and what `top` prints; None is a training that diverged."""
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        task = store.add_task("digits", "1", "d", {})
        ids = store.add_functions([FunctionRow(name, name, 1) for name in scores])
        run = store.create_run(NewRun("one", "search", task, {"task": "digits"}, "d", 0, 4, None, "0.1.0"), ids)
        lease = store.acquire_lease(run.id, this_process())
        for number, (name, score) in zip(ids, scores.items(), strict=True):
            claim = store.claim(lease, number, 0, origin="suggestion" if name == "erf(x)" else "baseline")
            result = EvaluationResult("diverged", reason=DIVERGED) if score is None else done(score)
            store.record_result(lease, claim.evaluation_id, result)
        store.release_lease(lease, "finished")
        assert main(["top", "one", "--store", store.safe_url]) == 0
        return html.unescape(document(read_findings(store, "one", "", quick=True))["heading"])


def test_a_reference_that_diverged_is_said_and_the_best_baseline_takes_its_place(tmp_path, capsys):
    heading = lost_reference(tmp_path, {"relu(x)": None, "tanh(x)": 0.5, "elu(x)": 0.6, "erf(x)": 0.75})
    assert heading.startswith(
        '<p class="verdict">relu(x), the reference, diverged, so no gain over it is known. Not confirmed: erf(x) is '
        "15.0 points better than the best baseline, elu(x), in the search, which may be luck. Confirm it with"
    )
    assert "<dt>Gain over relu(x)</dt><dd><b>-</b> <span>the reference diverged</span>" in heading
    assert "relu(x), the reference, diverged\n" in capsys.readouterr().out


def test_where_everything_diverged_nothing_is_awaited(tmp_path):
    heading = lost_reference(tmp_path, {"relu(x)": None, "tanh(x)": None, "erf(x)": None})
    assert heading.startswith('<p class="verdict">No function has a score: every training diverged.</p>')
    assert "<b>3</b> <span>finished; 3 diverged</span>" in heading


def test_an_interval_on_the_first_screen_has_the_corrected_p_beside_it(findings, shown):
    p = findings.confirmation.functions[0].against_reference.p_holm
    assert f"95% interval [2.1, 14.9], p = {p:.2g}, corrected for 2 comparisons" in shown["heading"]


def test_an_interval_that_the_axis_cuts_goes_on_in_an_arrow(findings):
    def reaching(*reaches: float) -> Findings:
        known = zip(findings.confirmation.functions, reaches, strict=True)
        means = [(each, each.test.mean, reach) for each, reach in known]
        own = [replace(each, test=replace(each.test, low=mean - r, high=mean + r)) for each, mean, r in means]
        return replace(findings, confirmation=replace(findings.confirmation, functions=tuple(own)))

    cut, first = reaching(0.5, 0.01, 0.01), findings.confirmation.functions[0]
    assert not [mark for mark in marks(reaching(0.01, 0.01, 0.01), "confirmed", Points) if "triangle" in mark.symbol]
    left, right = (mark for mark in marks(cut, "confirmed", Points) if "triangle" in mark.symbol)
    (axis,) = (panel.x.range for panel in KINDS["confirmed"](cut).panels)
    (intervals,) = marks(cut, "confirmed", Intervals)
    assert (left.symbol, right.symbol) == ("triangle-left", "triangle-right")
    assert axis[0] < left.x[0] < right.x[0] < axis[1]
    assert [intervals.texts[int(mark.y[0])] for mark in (left, right)] == [first.function] * 2
    assert (left.shown, right.shown) == (True, False), "one entry in the legend"


def test_epochs_and_evaluations_have_whole_ticks(shown, findings, tmp_path):
    axes = {section["id"]: section["figures"] for section in shown["sections"]}
    assert axes["learning"][0]["layout"]["xaxis"]["dtick"] == 1, "four epochs"
    assert "dtick" not in axes["progress"][0]["layout"]["xaxis"], "Plotly's own are whole on a long axis"
    draw(KINDS["learning"](findings), tmp_path / "learning.svg")
    drawn = (tmp_path / "learning.svg").read_text()
    assert "<!-- 1.5 -->" not in drawn
    assert "<!-- 3 -->" in drawn


def test_rates_stand_at_their_axis_as_the_caption_has_them(findings, shown, tmp_path):
    """An axis of logarithms had 1 where the caption said 2."""
    chart = KINDS["rates"](findings)
    assert "is best at 2" in chart.words
    assert chart.panels[0].x.labels == {-1.0: "0.5", 0.0: "1", 1.0: "2"}
    ((figure,),) = (section["figures"] for section in shown["sections"] if section["id"] == "rates")
    assert figure["layout"]["xaxis"]["ticktext"] == ["0.5", "1", "2"]
    draw(chart, tmp_path / "rates.svg")
    assert "<!-- 0.5 -->" in (tmp_path / "rates.svg").read_text()


def test_one_of_a_thing_has_no_plural(findings):
    (alone,) = [request for request in findings.finished if request.function == "relu(x)"]
    status = replace(findings.status, by_status={"done": 1})
    one = replace(findings, requests=(alone,), status=status, confirmation=None, confirming=())
    assert ", 1 result, " in document(one)["heading"]
    assert "1 training of this run took " in KINDS["usage"](one).words


def test_the_command_that_confirms_a_run_can_be_copied_into_a_shell(findings):
    named = replace(findings, run=replace(findings.run, name="my run"), store_option=" --store 'sqlite:///a b.db'")
    text = html.unescape(document(replace(named, confirmation=None, confirming=()))["heading"])
    assert "Confirm it with: aquasurf confirm 'my run' --store 'sqlite:///a b.db'<" in text


def test_a_gain_in_a_loss_says_whether_that_is_lower_or_higher(tmp_path):
    spec = {"objective": {"metric": "rmse", "higher_is_better": False}}
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_store(store, spec=spec)
        found = replace(read_findings(store, NAME, "", quick=True), confirmation=None)
    relu = next(each.evaluation.score for each in found.requests if each.function == "relu(x)")
    shown = document(found)["heading"]
    assert f"is {0.9 - relu:.4g} rmse better than relu(x)" in shown
    assert "no interval: not confirmed; rmse is lower by that" in shown
    poorer = replace(found, board=tuple(replace(row, score=row.score - (not row.baseline)) for row in found.board))
    assert "no interval: not confirmed; rmse is higher by that" in document(poorer)["heading"]


def test_the_axis_of_confirmed_means_is_for_the_differences_that_matter(findings):
    """A baseline that barely trained is drawn at the edge, and does not stretch the axis."""
    found = findings.confirmation
    poor = replace(found.functions[-1], function="sigmoid(x)", test=SeedMean(2, 0, 0.1, 0.09, 0.11))
    more = replace(findings, confirmation=replace(found, functions=(*found.functions, poor)))
    chart = KINDS["confirmed"](more)
    low, high = chart.panels[0].x.range
    assert 0.5 < low < 0.71 - 0.0635
    assert 0.795 + 0.0635 < high < 1.0, "the median interval is on it in full"
    (intervals,) = (mark for mark in chart.panels[0].marks if isinstance(mark, Intervals))
    assert intervals.rows[0] == "sigmoid(x) (baseline)"
    assert low < intervals.mean[0] < 0.71
    assert np.isnan(intervals.low[0])
    assert chart.words.endswith("1 off the axis, drawn at its edge.")


@pytest.mark.parametrize("less_is_better", [False, True])
def test_how_lucky_a_function_was_at_selection_is_on_the_axis_in_full(findings, tmp_path, less_is_better):
    """Scores far above their means stretch the axis; those far below are drawn at its edge, and counted."""
    if less_is_better:
        spec = {"objective": {"metric": "rmse", "higher_is_better": False}}
        with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
            fill_store(store, spec=spec)
            findings = read_findings(store, NAME, "", quick=True)
    found, sign = findings.confirmation, -1 if less_is_better else 1
    lucky, unlucky, *others = found.functions
    functions = (replace(lucky, selected=1.5), replace(unlucky, selected=-2.0), *others)
    chart = KINDS["confirmed"](replace(findings, confirmation=replace(found, functions=functions)))
    low, high = chart.panels[0].x.range
    before = next(mark for mark in chart.panels[0].marks if mark.name == "score at selection")
    assert sign * 1.5 in before.x
    assert low < before.x.min() < before.x.max() < high
    assert -2.0 * sign not in before.x
    assert chart.words.endswith("1 at selection off the axis, drawn at its edge.")


@pytest.mark.parametrize("less_is_better", [False, True])
def test_the_brightest_colour_is_the_best_value(tmp_path, less_is_better):
    spec = {"objective": {"metric": "rmse", "higher_is_better": not less_is_better}}
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_store(store, spec=spec)
        found = read_findings(store, NAME, "", quick=True)
    (trained,) = (mark for mark in marks(found, "map", Points) if mark.values is not None)
    assert trained.less_is_better is less_is_better
    figure = next(each for each in document(found)["sections"] if each["id"] == "map")["figures"][0]
    (trace,) = (each for each in figure["data"] if each["name"] == "trained")
    assert trace["marker"]["reversescale"] is less_is_better


def test_the_map_shows_the_best_and_the_reference_and_no_hairball(findings):
    chart = KINDS["map"](findings)
    assert not [mark for panel in chart.panels for mark in panel.marks if isinstance(mark, Line)]
    named = {mark.name: mark.functions for mark in marks(findings, "map", Points)}
    assert (named["best"], named["relu(x)"]) == ((functions(24)[8],), ("relu(x)",))
    assert chart.words.endswith(f"The star is {functions(24)[8]} and the diamond is relu(x).")


def test_learning_curves_are_drawn_again_where_they_lie_close(findings):
    assert len(KINDS["learning"](findings).panels) == 1, "four epochs are seen well enough"
    best = findings.best_functions[0].evaluation_id
    curve = tuple(EpochRecord(n, val_score=0.9 - 0.5 / n) for n in range(1, 31))
    poor = tuple(EpochRecord(n, val_score=0.1) for n in range(1, 31))
    others = [number for number in findings.curves if number != best]
    curves = {number: poor if number in others[:3] else curve for number in findings.curves}
    whole, end = KINDS["learning"](replace(findings, curves=curves)).panels
    assert end.title == "epochs 20 to 30"
    assert whole.y.range is None
    low, high = end.y.range
    assert 0.1 <= low < 0.9 - 0.5 / 20
    assert high == pytest.approx(0.9 - 0.5 / 30, abs=0.05)
    assert all(mark.x.min() == 20 for mark in end.marks)


def test_only_positive_values_may_have_a_logarithmic_axis(findings):
    found = {section["id"]: section["logarithmic"] for section in document(findings)["sections"]}
    assert [kind for kind, is_logarithmic in found.items() if is_logarithmic] == ["progress", "cost", "learning"]
    epochs = {number: (EpochRecord(1, val_score=-0.5), EpochRecord(2, val_score=0.5)) for number in findings.curves}
    assert not KINDS["learning"](replace(findings, curves=epochs)).may_be_logarithmic


def test_the_caption_of_curves_does_not_say_what_a_network_feeds_them(findings):
    words = KINDS["functions"](findings).words
    assert "the density of N(0,1), on which functions are compared" in words
    assert f"aquasurf explain '{functions(24)[8]}' --task digits draws them." in words


def test_the_caption_of_curves_names_the_task_as_a_command_knows_it(findings):
    """The task's record has a label such as resnet18/images; `explain` takes what the run was started with."""
    config = findings.run.config | {"task": "my net:task", "modules": ["own.operators"]}
    own = replace(
        findings, task=replace(findings.task, name="resnet18/images"), run=replace(findings.run, config=config)
    )
    words = KINDS["functions"](own).words
    command = words[words.index("aquasurf ") : words.index(" draws them")]
    function, task, modules = functions(24)[8], "my net:task", "own.operators"
    assert shlex.split(command) == ["aquasurf", "explain", function, "--task", task, "--modules", modules]
    without = {key: value for key, value in config.items() if key != "task"}
    words = KINDS["functions"](replace(own, run=replace(own.run, config=without))).words
    assert words.endswith("on which functions are compared.")


@pytest.mark.parametrize("less_is_better", [False, True])
def test_the_first_click_on_a_column_sorts_the_best_to_the_top(findings, less_is_better):
    metric = replace(findings.task.metric, higher_is_better=not less_is_better)
    confirmation = replace(findings.confirmation, metric=metric)
    shown = replace(findings, task=SimpleNamespace(metric=metric), confirmation=confirmation)
    head = leaderboard(shown).partition("</thead>")[0]
    down = re.findall(r"<th[^>]* data-down>(.*?)</th>", head)
    assert down == ([] if less_is_better else ["val_accuracy", "test", "confirmed"])


def test_notes_are_shown_as_text(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        lease = fill_store(store)
        store.add_note(lease.run_id, "with <b>mixup</b>")
        text = page(document(read_findings(store, NAME, "", quick=True)))
    assert "with &lt;b&gt;mixup&lt;/b&gt;</li>" in text


def test_what_stands_in_rows_is_drawn_at_their_heights_on_the_page(shown):
    sections = {section["id"]: section["figures"][0] for section in shown["sections"] if section["figures"]}
    for kind in ("confirmed", "failures", "usage"):
        axis = sections[kind]["layout"]["yaxis"]
        n = len(axis["ticktext"])
        assert axis["tickvals"] == list(range(n))
        for trace in sections[kind]["data"]:
            heights = _numbers(trace["y"]) if isinstance(trace["y"], dict) else trace["y"]
            all_rows = trace["name"] != "goes on beyond the axis"
            assert set(heights) == set(range(n)) if all_rows else set(heights) <= set(range(n)), (kind, trace["name"])


def test_the_best_functions_have_learning_curves_also_where_baselines_lead(findings):
    confirmed = [each.function for each in findings.confirmation.functions if not each.baseline]
    others = [row.function for row in findings.board if not row.baseline and row.function not in confirmed]
    best = [*confirmed, *others][:5]
    assert [line.name for line in marks(findings, "learning", Line) if line.name != "baselines"] == best


def test_words_say_only_what_a_picture_shows(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        fill_store(store)
        run, ids = store.run(NAME), {f.name: f.id for f in store.candidates(store.run(NAME).id)}
        names = [name for name in ids if name != "relu(x)"]
        new = NewRun("few", "evaluate", run.task_id, {"functions": names[-3:]}, "few", 0, 3, None, "0.1.0")
        lease = store.acquire_lease(store.create_run(new, [ids[name] for name in names[-3:]]).id, this_process())
        for name in names[-2:]:
            claim = store.claim(lease, ids[name], 5, origin="proposal")
            store.record_result(lease, claim.evaluation_id, EvaluationResult("diverged", reason="nan", seconds=1.0))
        found = read_findings(store, "few", "", quick=True)
        assert "No training has a score; 2 diverged" in page(document(found))
        claim = store.claim(lease, ids[names[-3]], 5, origin="proposal")
        store.record_result(lease, claim.evaluation_id, done(0.5))
        few = read_findings(store, "few", "", quick=True)
    words = {kind: chart.words for kind in KINDS if (chart := KINDS[kind](few))}
    assert words["functions"].startswith("The best function, each")
    assert "1 are coloured by" in words["map"]
    assert "confirmed" not in document(few)["sections"][0]["html"].lower()


def test_results_poorer_than_a_picture_reaches_are_counted_in_its_words():
    scores = np.array([0.1, 0.2, np.nan, *np.linspace(0.8, 0.9, 9)])
    n = int((scores < lowest_shown(scores)).sum())
    assert n == 2
    assert on_the_edge(scores, "lie low").startswith(f"; {n} off the axis")
    assert on_the_edge(np.array([0.5]), "lie low") == on_the_edge(np.array([]), "lie low") == ""


def test_predictions_stand_over_what_was_measured(findings):
    (points,) = marks(findings, "predictions", Points)
    known = {w.function: w for w in findings.requests if w.suggestion and w.evaluation.score is not None}
    assert set(points.functions) == set(known)
    for name, predicted in zip(points.functions, points.x, strict=True):
        assert predicted == known[name].suggestion.predicted_score


def test_failures_are_counted_by_cause_without_the_numbers_in_them(findings):
    (bars,) = marks(findings, "failures", Bars)
    causes = dict(zip(bars.rows, bars.values, strict=True))
    assert causes == {f"diverged: {DIVERGED.split(':')[0]}": 1.0, f"failed: {FAILED.split(':')[0]}": 1.0}


def test_a_metric_that_is_not_finite_is_not_the_function_s_failure_alone(findings):
    (request,) = findings.status.divergences
    of_metric = replace(request.evaluation, reason=metric_reason("f1", math.nan, 3))
    status = replace(findings.status, divergences=(replace(request, evaluation=of_metric),))
    assert "In 1, only the metric was not finite" in KINDS["failures"](replace(findings, status=status)).words
    assert "metric" not in KINDS["failures"](findings).words


def test_curves_are_the_functions_own_values(shown):
    assert shown["functions"]["names"][:3] == functions(24)[:3]
    levels = np.frombuffer(base64.b64decode(shown["functions"]["curves"]), dtype=np.uint8).reshape(24, -1)
    x = np.linspace(-REACH, REACH, levels.shape[1])
    for number, name in enumerate(functions(24)):
        values = levels[number] / 254 * 2 * REACH - REACH
        inside = np.abs(sample()) < REACH
        known = np.interp(sample()[inside], x, np.where(levels[number] == 255, np.nan, values))
        expected = np.clip(outputs(name)[inside], -REACH, REACH)
        assert np.nanmedian(np.abs(known - expected)) < 0.05, name


def test_a_function_whose_operator_is_not_registered_has_no_curve():
    assert (curve("unheard_of(x)") == 255).all()


def test_what_a_name_or_a_reason_holds_is_text_and_never_markup(findings, tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        lease = fill_store(store)
        run = store.run(NAME)
        assert lease.run_id == run.id
        evil = read_findings(store, NAME, "aquasurf search '</script><img src=x onerror=alert(1)>'", quick=True)
    text = page(document(evil))
    assert "<img src=x" not in text
    assert text.count("</script>") == 3  # the page's own


def test_the_page_is_one_file_that_asks_for_nothing_else(shown):
    text = page(shown)
    assert len(text.encode()) < 3e6
    outside = re.sub(r'<script type="application/octet-stream".*?</script>', "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', outside)
    assert "http://" not in outside.replace("http://www.w3.org/2000/svg", "")
    json.loads(re.search(r'id="document">(.*?)</script>', text, flags=re.DOTALL)[1])


class Figures(HTMLParser):
    """The elements with a role of their own and the ids that describe them."""

    def __init__(self) -> None:
        super().__init__()
        self.described: list[str] = []
        self.labels: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        if values.get("role") == "img" and tag != "svg":
            self.described.append(values["aria-describedby"] or "")
        elif values.get("role") == "img":
            self.labels.append(values["aria-label"] or "")


def test_every_picture_is_described_in_words_too(shown):
    found = Figures()
    found.feed(page(shown))
    assert len(found.described) == len(OF_ANY_NETWORK)
    assert set(found.described) <= found.ids
    drawn = "drawn from -4 to 4"
    assert found.labels == [f"{functions(24)[8]}, the best function found, {drawn}", f"relu(x), the reference, {drawn}"]
    for section in shown["sections"]:
        assert len(re.sub("<[^>]*>", "", section["html"])) > 40, section["id"]


def test_plotly_knows_every_trace_and_every_setting(shown):
    from plotly.graph_objects import Figure

    for section in shown["sections"]:
        for figure in section["figures"]:
            text = json.dumps(figure).replace("ground-grey", "#888888").replace("ground-band", "#888888")
            made = json.loads(text, object_hook=_numbers)
            Figure(made)


def _numbers(value: dict) -> object:
    """Plotly's Python side reads numbers; its script reads them packed."""
    if "bdata" in value:
        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"]).tolist()
    return value


@pytest.mark.parametrize("kind", OF_ANY_NETWORK)
@pytest.mark.slow
def test_every_kind_is_drawn_for_papers(findings, kind, tmp_path):
    chart = KINDS[kind](findings)
    draw(chart, tmp_path / "picture.svg")
    assert b"<svg" in (tmp_path / "picture.svg").read_bytes()[:600]


def test_a_chart_without_panels_is_reported_and_not_drawn(tmp_path):
    with pytest.raises(AnalysisError, match=r"p\.png' would be empty.* The network calls swish\(x\) nowhere"):
        draw(Chart("explain", "", "The network calls swish(x) nowhere.", ()), tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_drawn_leaves_what_was_there(findings, tmp_path, monkeypatch):
    place = tmp_path / "p.png"
    place.write_bytes(b"an earlier picture")

    def half(self, file, **_):
        file.write(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="No space"):
        draw(KINDS["cost"](findings), place)
    assert place.read_bytes() == b"an earlier picture"


def test_a_file_is_written_whole_and_only_to_a_plain_file(tmp_path):
    write_file(tmp_path / "report.html", b"<p>")
    assert (tmp_path / "report.html").read_text() == "<p>"
    cases = (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "r.html", "there is no folder"),
        (Path("/dev/null"), "not a regular file"),
    )
    for path, said in cases:
        with pytest.raises(AnalysisError, match=said):
            write_file(path, b"<p>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_worker_that_replaced_a_killed_one_does_not_count_before_its_first_training():
    start, end = np.array([0.0, 0.0, 4.0, 10.0, 12.0]), np.array([2.0, 9.0, 9.0, 19.0, 20.0])
    n, together = at_hand(("a", "b", "a", "c", "d"), start, end)
    assert (n, together) == (2, 9 + 9 + 9 + 8)
