"""A confirmation as the store has it: what its functions were selected by, and how the run that it is shows them."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from synthetic_run import NAME, done, fill_store

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.activations.rendering import short_name
from aquasurf_ray.analysis.report import KINDS
from aquasurf_ray.analysis.report.live import RunList
from aquasurf_ray.analysis.report.report_page import document
from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.analysis.studies.run_comparison import compare_runs
from aquasurf_ray.analysis.studies.transferred_run import read_transfer
from aquasurf_ray.analysis.studies.verdict import transfer_verdict, verdict
from aquasurf_ray.cli.main import main
from aquasurf_ray.cli.terminal.confirmation import print_confirmation
from aquasurf_ray.store import EvaluationResult, NewRun, Store, this_process

CONFIRMATION = "synthetic-confirm"


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        opened.release_lease(fill_store(opened), "finished")
        yield opened


def train(store, run, function, seed, change, score):
    """Adds a training to a run."""
    lease = store.acquire_lease(store.run(run).id, this_process())
    claim = store.claim(lease, store.find_function(function).id, seed, origin="suggestion", recipe_change=change)
    result = EvaluationResult("diverged", reason="loss") if score is None else done(score)
    store.record_result(lease, claim.evaluation_id, result)
    store.release_lease(lease, "finished")


def test_a_function_was_selected_by_the_best_of_the_rates_that_the_search_tried(store):
    before = {each.function: each for each in read_confirmation(store, CONFIRMATION).functions}
    best = next(name for name, each in before.items() if each.selected == 0.9)
    train(store, NAME, best, 0, "learning_rate*2", 0.93)
    train(store, NAME, best, 0, "learning_rate*0.5", None)
    train(store, NAME, "relu(x)", 0, "learning_rate*0.5", 0.4)
    train(store, NAME, best, 7, "learning_rate*2", 0.99)  # a seed that somebody asked for selects nothing
    after = {each.function: each for each in read_confirmation(store, CONFIRMATION).functions}
    assert after[best].selected == 0.93
    assert after[best].shrinkage.observed == pytest.approx(0.93 - after[best].confirmed.mean)
    assert after["relu(x)"].selected == before["relu(x)"].selected, "a poorer rate changes nothing"


def test_the_report_of_a_confirmation_has_all_its_functions_and_draws_that_of_the_verdict(store):
    """The reference is the best of the judging seeds, and no function that was found."""
    found = read_findings(store, CONFIRMATION, "", quick=True)
    by_seeds = sorted(found.confirmation.functions, key=lambda each: -each.test.mean)
    assert [row.function for row in found.winners] == [each.function for each in by_seeds]
    assert [row.rank for row in found.winners] == [1, 2, 3]
    assert [row.baseline for row in found.winners] == [False, False, True]
    assert [row.score for row in found.board] == [pytest.approx(each.confirmed.mean) for each in by_seeds]
    shown = document(found)
    heading, board = shown["heading"], shown["sections"][0]["html"]
    assert board.count("(2)") == 3, "every mean with its number of seeds"
    assert f"{by_seeds[0].function}, the best function found" in heading
    assert "relu(x), the reference" in heading


def test_a_baseline_that_leads_a_confirmation_is_not_the_function_found(store):
    """Its tile would give the gain of a baseline under the verdict on another function."""
    found = read_findings(store, CONFIRMATION, "", quick=True)
    first, second, relu = found.confirmation.functions
    better = replace(relu, test=replace(relu.test, mean=0.95))
    judged = replace(found.confirmation, functions=(first, second, better))
    shown = replace(found, confirmation=judged)
    assert shown.winners[0].function == "relu(x)"
    assert shown.leader.function == first.function
    assert f"the best, {first.function}, " in verdict(judged).sentence


def test_top_of_a_confirmation_has_the_means_of_the_seeds_that_judge(store, capsys):
    assert main(["top", CONFIRMATION, "--json", "--store", store.safe_url]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["confirmed"], row["confirmed_seeds"], row["baseline"]) for row in rows] == [
        (pytest.approx(0.795), 2, False), (pytest.approx(0.795), 2, False), (pytest.approx(0.71), 2, True)
    ]  # fmt: skip
    assert [row["val_accuracy"] for row in rows] == [pytest.approx(mean) for mean in (0.815, 0.815, 0.73)]
    assert [row["seeds"] for row in rows] == [2, 2, 2]


def test_top_counts_functions_and_has_each_at_its_best_rate(store, capsys):
    """A rate of one function that trains well would take the place of another function."""
    best, *_ = (row.function for row in store.leaderboard(run_id=store.run(NAME).id))
    for change, score in (("learning_rate*0.5", 0.93), ("learning_rate*2", 0.91)):
        train(store, NAME, best, 0, change, score)
    assert main(["top", NAME, "-n", "4", "--json", "--store", store.safe_url]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len({row["function"] for row in rows}) == len(rows)
    assert [row["rank"] for row in rows[:4]] == [1, 2, 3, 4]
    (row,) = (row for row in rows if row["function"] == best)
    assert (row["val_accuracy"], row["recipe_change"]) == (0.93, "learning_rate*0.5")
    assert (row["confirmed"], row["confirmed_recipe_change"]) == (pytest.approx(0.795), "learning_rate*2")
    assert main(["top", NAME, "-n", "4", "--store", store.safe_url]) == 0
    assert "confirmed_recipe_change" in capsys.readouterr().out


def another_search(store):
    """Return the leaderboard of a search that reused what another one and its confirmation trained."""
    ids = [store.find_function(name).id for name in ("relu(x)", "elu(x)")]
    config = {"task": "digits", "training_seed": 0}
    new = NewRun("second", "search", store.run(NAME).task_id, config, "second", 0, 2, None, "0.1.0")
    lease = store.acquire_lease(store.create_run(new, ids).id, this_process())
    for number in ids:
        store.claim(lease, number, 0, origin="baseline")
    store.release_lease(lease, "finished")


def test_a_seed_that_chose_a_rate_confirms_nothing(store, capsys):
    """ReLU was judged at the recipe's rate with two seeds, after a third one that chose this rate."""
    another_search(store)
    assert main(["top", "second", "--json", "--store", store.safe_url]) == 0
    rows = {row["function"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["relu(x)"]["confirmed"], rows["relu(x)"]["confirmed_seeds"]) == (pytest.approx(0.73), 2)
    assert (rows["elu(x)"]["confirmed"], rows["elu(x)"]["confirmed_seeds"]) == (None, None)
    chart = KINDS["confirmed"](read_findings(store, "second", "", quick=True))
    assert chart.title == "Retrained with additional seeds", "no confirmation, so nothing is confirmed"
    assert chart.words.startswith("1 function was retrained with 2 additional seeds. Best mean: relu(x) with 0.7300")


RMSE = {"objective": {"metric": "rmse", "higher_is_better": False}}


def confirm_on_another_task(store):
    """Confirms the run on a task that minimises another metric, as a study may be; scores are errors with a minus."""
    first = store.run(CONFIRMATION)
    functions = store.candidates(first.id)
    task = store.add_task("errors", "1", "errors", RMSE)
    config = {"confirms": NAME, "seeds": 2, "first_seed": 1}
    new = NewRun("by-error", "confirm", task, config, "by-error", 3, 6, None, "0.1.0")
    lease = store.acquire_lease(store.create_run(new, [each.id for each in functions]).id, this_process())
    for order, function in enumerate(functions):
        for seed in (1, 2):
            claim = store.claim(lease, function.id, seed, origin="proposal")
            score = -0.1 - 0.01 * order - 0.001 * seed * (1 + order)
            result = EvaluationResult("done", score=score, test_score=score - 0.02, seconds=1.0, device="cpu")
            store.record_result(lease, claim.evaluation_id, result)
    store.release_lease(lease, "finished")
    return functions[0].name


def test_confirmed_means_have_the_metric_of_the_task_that_confirmed_them(store, capsys):
    best, url = confirm_on_another_task(store), store.safe_url
    found = read_confirmation(store, "by-error")
    assert found.has_other_metric
    assert {(each.selected, each.shrinkage.observed) for each in found.functions} == {(None, None)}
    print_confirmation("by-error", url, as_json=False)
    printed = capsys.readouterr().out
    assert "selected" not in printed.splitlines()[2], "an accuracy does not stand among errors"
    assert f"No selected values: run '{NAME}' selected by its accuracy, not by rmse." in printed

    assert main(["top", NAME, "--json", "--store", url]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["function"], row["val_accuracy"]) == (best, 0.9)
    assert (row["confirmed"], row["confirmed_metric"]) == (pytest.approx(0.1215), "rmse")
    assert main(["top", NAME, "--store", url]) == 0
    assert "confirmed: mean of rmse on the test split (run 'by-error'), which ranks" in capsys.readouterr().out
    assert main(["status", NAME, "--json", "--store", url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["metric"], shown["best"], shown["best_function"]) == ("rmse", pytest.approx(0.1215), best)
    assert main(["find", NAME, "-n", "1", "--json", "--store", url]) == 0
    assert json.loads(capsys.readouterr().out)[0]["confirmed"] == pytest.approx(0.1215)


def test_a_report_gives_confirmed_means_in_their_own_metric(store):
    best = confirm_on_another_task(store)
    found = read_findings(store, NAME, "", quick=True)
    shown = document(found)
    heading = shown["heading"]
    assert f"<code>{best}</code> with test_rmse <b>0.1215</b>" in heading
    assert "relu(x) 0.1445." in heading
    assert re.search(r"<b>\+0\.023 rmse</b>", heading)
    assert "0.1215\N{NO-BREAK SPACE}(2)" in shown["sections"][0]["html"]
    assert "Confirmed means of rmse, on the test split, rank" in shown["sections"][0]["html"]
    chart, cost = KINDS["confirmed"](found), KINDS["cost"](found)
    assert chart.panels[0].x.title == "test_rmse"
    assert "score at selection" not in [mark.name for mark in chart.panels[0].marks], "no crosses at accuracies"
    assert "the run selected by its accuracy, which does not compare" in chart.words
    assert cost.panels[0].y.title == "test_rmse"
    assert f"{best} 0.1215 at" in cost.words
    assert max(max(mark.y) for mark in cost.panels[0].marks) < 0.2, "no accuracies"
    assert "test_rmse 0.1215" in KINDS["functions"](found).panels[0].title
    side = compare_runs(found, replace(found, run=replace(found.run, id=99))).sides[0]
    assert (side.best[1], side.confirmed.text) == (0.9, "test_rmse 0.1215")


TRANSFER = "synthetic-transfer"


def transferred(store):
    """Transfers two functions, elu(x) and relu(x); elu(x) is the best of them."""
    run = store.run(NAME)
    suggested = [row.function for row in store.leaderboard(run_id=run.id) if row.function not in BASELINES][:2]
    scores = dict(zip([*suggested, "elu(x)", "relu(x)"], (0.6, 0.55, 0.8, 0.7), strict=True))
    ids = [store.find_function(name).id for name in scores]
    task = store.add_task("other", "1", "other", {"objective": {"metric": "accuracy", "higher_is_better": True}})
    config = {"seeds": 2, "transferred_from": NAME}
    new = NewRun(TRANSFER, "evaluate", task, config, TRANSFER, 0, 8, None, "0.1.0")
    lease = store.acquire_lease(store.create_run(new, ids).id, this_process())
    for number, score in zip(ids, scores.values(), strict=True):
        for seed in range(2):
            claim = store.claim(lease, number, seed, origin="proposal")
            store.record_result(lease, claim.evaluation_id, done(score + 0.01 * seed * (1 + number)))
    store.release_lease(lease, "finished")
    return suggested[0]


def test_the_report_of_a_transfer_says_what_the_command_says(store, capsys):
    """A baseline is the best on the other task, and the report called it a function that was found."""
    first = transferred(store)
    found = read_findings(store, TRANSFER, "", quick=True)
    said = transfer_verdict(read_transfer(store, NAME, TRANSFER), short_name)
    assert said.function is None
    shown = document(found)
    heading = html.unescape(shown["heading"])
    assert str(said) in heading
    assert "Not confirmed" not in heading
    assert found.leader.function == first
    assert "Best: <code>elu(x)</code> (baseline) with val_accuracy <b>0.8" in heading
    assert re.search(r"95% interval \[.*, p = 1, corrected for 2", heading), (
        "the tile of the gain has that of the verdict"
    )
    board = shown["sections"][0]["html"]
    assert ("elu(x) (baseline)" in board, "relu(x) (reference)" in board) == (True, True)
    assert main(["top", TRANSFER, "--json", "--store", store.safe_url]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["baseline"] for row in rows] == [True, True, False, False]
    assert main(["status", TRANSFER, "--json", "--store", store.safe_url]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["verdict"] == transfer_verdict(read_transfer(store, NAME, TRANSFER)).sentence
    assert (status["best_function"], status["best_is_baseline"]) == ("elu(x)", True)
    assert main(["status", TRANSFER, "--store", store.safe_url]) == 0
    printed = capsys.readouterr().out
    assert ("elu(x) (baseline)" in printed, status["verdict"] in printed) == (True, True)
    runs = {row["run"]: row for row in RunList(store).read()}
    assert runs[TRANSFER]["best_function"] == "elu(x) (baseline)"
