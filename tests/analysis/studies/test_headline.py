"""The number that is said of the best function: after a confirmation its confirmed mean, in every place alike."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from synthetic_run import CONFIG, NAME, done, fill_store

from aquasurf_ray.analysis.report.live import RunList
from aquasurf_ray.analysis.report.pictures.kinds import KINDS
from aquasurf_ray.analysis.report.report_page import document
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.analysis.studies.headline import best_of_run, confirmation_of, finished_confirmations
from aquasurf_ray.analysis.studies.run_comparison import compare_runs
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import EvaluationResult, FunctionRow, NewRun, Store, this_process

CONFIRMED = "mean over 2 seeds, test split"


@pytest.fixture
def store(synthetic_run_url):
    with Store.open(synthetic_run_url) as opened:
        yield opened


@pytest.fixture
def findings(store):
    """The run's findings with a confirmation in which the function of the second score is the best."""
    found = read_findings(store, NAME, "", quick=True)
    first, second, *others = found.confirmation.functions
    worse = replace(first, test=replace(first.test, mean=0.76))
    return replace(found, confirmation=replace(found.confirmation, functions=(second, worse, *others)))


def test_a_confirmed_mean_and_its_recipe_take_the_place_of_the_selected_score(store):
    best = best_of_run(store, store.status(store.run(NAME).id))
    assert (best.score, best.n_seeds, best.split) == (pytest.approx(0.795), 2, "test")
    assert (best.confirmed, best.recipe_change, best.noise) == (CONFIRMED, "learning_rate*2", None)
    assert best.metric_name == "test_accuracy"
    assert best.row.score == 0.9


def test_a_run_that_is_a_confirmation_is_told_by_its_own_means(store):
    run = store.run("synthetic-confirm")
    assert confirmation_of(store, run) is None
    assert best_of_run(store, store.status(run.id)).confirmed == CONFIRMED


def test_an_unfinished_confirmation_changes_nothing(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as store:
        fill_store(store)
        store.acquire_lease(store.run("synthetic-confirm").id, this_process())
        best = best_of_run(store, store.status(store.run(NAME).id))
    assert (best.score, best.confirmed) == (0.9, None)


def test_a_run_that_trains_with_several_seeds_is_told_by_means_over_them(tmp_path, capsys):
    """relu(x) has the luckiest training, and elu(x) the better mean; tanh(x) diverged with a seed."""
    url = f"sqlite:///{tmp_path}/s.db"
    scores = {"relu(x)": (0.9, 0.5), "elu(x)": (0.8, 0.8), "tanh(x)": (0.95, None)}
    with Store.open(url) as store:
        task = store.add_task("digits", "1", "d", {})
        ids = store.add_functions([FunctionRow(name, name, 1) for name in scores])
        new = NewRun("both", "evaluate", task, {"seeds": 2}, "d", 0, 6, None, "0.1.0")
        lease = store.acquire_lease(store.create_run(new, ids).id, this_process())
        for number, of_seeds in zip(ids, scores.values(), strict=True):
            for seed, score in enumerate(of_seeds):
                claim = store.claim(lease, number, seed, origin="proposal")
                result = EvaluationResult("diverged", reason="loss") if score is None else done(score)
                store.record_result(lease, claim.evaluation_id, result)
        store.release_lease(lease, "finished")
        best = best_of_run(store, store.status(lease.run_id))
        assert (best.function, best.score, best.averaged) == ("elu(x)", 0.8, 2)
        (row,) = RunList(store).read()
    assert (row["best"], row["averaged"], row["best_function"]) == (0.8, 2, "elu(x)")
    assert main(["status", "both", "--store", url, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["best"], shown["best_seeds"], shown["best_function"]) == (0.8, 2, "elu(x)")
    assert main(["top", "both", "--store", url, "--json"]) == 0
    assert [row["function"] for row in json.loads(capsys.readouterr().out)] == ["elu(x)", "relu(x)"]


def test_the_heading_names_the_confirmed_mean_and_that_of_the_reference(findings):
    second = findings.confirmation.functions[0].function
    heading = document(findings)["heading"]
    assert f"Best: <code>{second}</code>, trained with learning_rate*2, with test_accuracy <b>0.7950</b>" in heading
    assert f"(confirmed: {CONFIRMED}), relu(x) 0.7100." in heading
    assert "0.9000" not in heading


def test_the_caption_of_the_curve_names_what_the_curve_shows_and_the_confirmed_mean_apart(findings):
    first, second = findings.board[0].function, findings.confirmation.functions[0].function
    assert first != second
    words = KINDS["progress"](findings).words
    assert f"Best training: {first} with val_accuracy 0.9000; relu(x): " in words
    assert f" Confirmed ({CONFIRMED}): {second}, trained with learning_rate*2, with test_accuracy 0.7950." in words
    alone = KINDS["progress"](replace(findings, confirmation=None)).words
    assert "Confirmed" not in alone


def test_the_titles_of_the_best_functions_say_what_is_confirmed(findings):
    titles = [panel.title.partition("\n")[2] for panel in KINDS["functions"](findings).panels]
    assert titles[0] == "confirmed test_accuracy 0.7950"
    assert titles[2] == "reference, confirmed test_accuracy 0.7100", "confirmed, so before those that are not"
    assert titles[3].startswith("val_accuracy ")


def test_the_best_functions_are_those_of_the_leaderboard_with_the_baselines_among_them(findings):
    """A picture of suggestions alone would call the poorest of six the sixth best."""
    baselines = {request.function for request in findings.requests if request.origin == "baseline"} - {"relu(x)"}
    board = tuple(replace(row, score=row.score + (row.function in baselines)) for row in findings.board)
    better = replace(findings, confirmation=None, board=tuple(sorted(board, key=lambda row: -row.score)))
    chart = KINDS["functions"](better)
    assert chart.words.startswith(
        f"The 6 best functions, 6 of them baselines, and the best one found, {better.leader.function} and the reference"
    )
    assert [panel.title.partition("\n")[2].partition(",")[0] for panel in chart.panels[:6]] == ["baseline"] * 6


def test_status_names_the_confirmed_mean_as_one(synthetic_run_url, capsys):
    assert main(["status", NAME, "--json", "--store", synthetic_run_url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["best"], shown["best_confirmed"]) == (pytest.approx(0.795), CONFIRMED)
    assert main(["status", NAME, "--store", synthetic_run_url]) == 0
    assert ["best", "confirmed", *CONFIRMED.split()] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main(["status", "--store", synthetic_run_url]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{NAME} "))
    assert f"0.7950  {CONFIRMED}" in row


def test_the_list_of_runs_is_read_again_after_a_confirmation(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as store:
        store.release_lease(fill_store(store), "finished")
        lease = store.acquire_lease(store.run("synthetic-confirm").id, this_process())
        runs = RunList(store)
        row = runs.read()[0]
        assert (row["metric"], row["best"], row["confirmed"]) == ("val_accuracy", 0.9, None)
        store.release_lease(lease, "finished")
        row = runs.read()[0]
        assert (row["metric"], row["best"], row["confirmed"]) == ("test_accuracy", pytest.approx(0.795), CONFIRMED)


def confirm_again(store, name, judge):
    """Confirms the run by the same trainings on another split, as `confirm --judge` does."""
    first = store.run("synthetic-confirm")
    ids = [function.id for function in store.candidates(first.id)]
    new = NewRun(name, "confirm", 1, first.config | {"judge": judge}, name, 3, 4, None, "0.1.0")
    lease = store.acquire_lease(store.create_run(new, ids).id, this_process())
    for each in (request.evaluation for request in store.snapshot(first.id).evaluations):
        store.claim(lease, each.function_id, each.seed, origin="proposal", recipe_change=each.recipe_change)
    store.release_lease(lease, "finished")


def test_a_confirmation_on_the_validation_split_stands_beside_the_one_on_the_test_split(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/s.db"
    with Store.open(url) as store:
        store.release_lease(fill_store(store), "finished")
        before = document(read_findings(store, NAME, "", quick=True))["heading"]
        confirm_again(store, "by-validation", "validation")
        found = read_findings(store, NAME, "", quick=True)
        assert (found.confirmation.name, found.best.confirmed) == ("synthetic-confirm", CONFIRMED)
        assert [other.name for other in found.other_confirmations] == ["by-validation"]
        assert RunList(store).read()[0]["confirmed"] == CONFIRMED
        heading = document(found)["heading"]
        confirm_again(store, "by-test", "test")
        assert finished_confirmations(store.runs(), store.run(NAME)) == (
            "by-test", "synthetic-confirm", "by-validation"
        )  # fmt: skip
        # The trainings of the last one are all reused, and its verdict rests on them all the same.
        again = document(read_findings(store, NAME, "", quick=True))["heading"]
    line = "nother confirmation, run 'by-validation': no function beats relu(x): the best, "
    assert f"A{line}" in html.unescape(heading)
    assert "Another confirmation" not in before
    numbers = [re.findall(r"<dt>(?:Trainings|Time)</dt><dd><b>(.*?)</b>", text) for text in (before, again)]
    assert numbers[0] == numbers[1] == ["34", "1 min 6 s"]
    assert "19 in the run, 15 to confirm; 1 diverged; 15 reused from other runs" in again
    assert "of training, 30 s of it in other runs" in again, "the picture of this run's hardware has the rest"
    assert main(["top", NAME, "--store", url]) == 0
    assert f"a{line}" in capsys.readouterr().out
    assert main(["status", NAME, "--store", url]) == 0
    assert f"a{line}" in capsys.readouterr().out


def test_find_lists_functions_in_the_order_of_the_confirmation(synthetic_run_url, store, capsys):
    assert main(["find", NAME, "-n", "3", "--json", "--store", synthetic_run_url]) == 0
    rows = json.loads(capsys.readouterr().out)
    winners = [each.function for each in confirmation_of(store, store.run(NAME)).functions if not each.baseline]
    assert {row["function"] for row in rows[:2]} == set(winners)
    assert [row["confirmed"] for row in rows] == [pytest.approx(mean) for mean in (0.795, 0.795, 0.71)]
    assert main(["find", NAME, "-n", "3", "--store", synthetic_run_url]) == 0
    assert "confirmed: mean on the test split (run 'synthetic-confirm'), which ranks" in capsys.readouterr().out


def test_a_comparison_counts_to_the_best_training_and_names_the_confirmed_mean(tmp_path, capsys):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as store:
        fill_store(store)
        store.create_run(NewRun("second", "search", 1, CONFIG, "other", 4, 3, None, "0.1.0"), [1])
        sides = (read_findings(store, name, "", quick=True) for name in (NAME, "second"))
        side = compare_runs(*sides).sides[0]
        assert (side.best[1], side.confirmed.score) == (0.9, pytest.approx(0.795))
        assert main(["compare", NAME, "second", "--store", store.safe_url]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "best val_accuracy 0.9000 -" in lines
    assert "best confirmed accuracy 0.7950 -" in lines
    assert f"confirmed by {CONFIRMED} -" in lines
