"""What a report says of a study: no command that would be refused, and the call that opens the study again."""

from __future__ import annotations

import html
import json
import os
import re

import pytest
import synthetic_run
import torch
from study_loops import merit
from synthetic_run import NAME, fill_store
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray import Study
from aquasurf_ray.analysis.report.front import front
from aquasurf_ray.analysis.report.live import EventTail, run_now
from aquasurf_ray.analysis.report.pictures.functions import functions
from aquasurf_ray.analysis.report.pictures.kinds import KINDS
from aquasurf_ray.analysis.report.report_page import document
from aquasurf_ray.analysis.report.summary import heading, reproduction
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.cli.main import main
from aquasurf_ray.cli.terminal.confirmation import print_confirmation
from aquasurf_ray.driver import confirm
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.verbs.repeat_command import command_of
from aquasurf_ray.store import Store, this_process
from aquasurf_ray.tasks import Splits, Task, load_task
from aquasurf_ray.training_metrics import on_split

OPTIONS = {"candidates": 20, "first_candidates": 20}


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{tmp_path}/s.db")
    return f"sqlite:///{tmp_path}/s.db"


def network(activation):
    return nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 2))


def told(value=merit, **options):
    with Study("my loop", **OPTIONS, **options) as study:
        for trial in study:
            study.tell(trial, value(trial.function))


def reported(url):
    """The text of the report and its captions."""
    with Store.open(url) as store:
        findings = read_findings(store, "my loop", command_of(store.run("my loop")), quick=True)
    chart = functions(findings)
    text = html.unescape(re.sub(r"<[^>]+>", "", front(findings) + reproduction(findings)))
    return text + (chart.words if chart else "")


@pytest.mark.parametrize("metric", ["accuracy", "val_accuracy", "rmse", "perplexity", "val_loss", "score", "value"])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_tables_have_the_values_under_any_name_of_a_metric(url, capsys, metric, direction):
    told(direction=direction, metric=metric, evaluations=1)
    column, value = on_split(metric), merit("relu(x)")
    assert main(["top", "my loop", "-n", "20", "--json"]) == 0
    rows = {row["function"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["relu(x)"][column] == value
    assert main(["show", "relu(x)", "--json"]) == 0
    (evaluation,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert evaluation[column] == value
    assert main(["top", "my loop", "-n", "20"]) == 0
    assert f"  {value:.4f}  " in capsys.readouterr().out
    assert main(["show", "relu(x)"]) == 0
    assert f"{column:<16} {value:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scale", "best", "relu"),
    [(1e-8, "2.000e-08", "3.300e-08"), (1e300, "2.000e+300", "3.300e+300"), (1.0, "2.0000", "3.3000")],
)
def test_one_text_of_a_value_in_the_terminal_the_report_and_the_page_of_watch(url, capsys, scale, best, relu):
    values = {"relu(x)": 3.3 * scale, "tanh(x)": 2 * scale}
    told(lambda function: values.get(function, 4 * scale), direction="minimize", metric="err", evaluations=1)
    assert main(["top", "my loop", "-n", "20"]) == 0
    table = capsys.readouterr().out
    assert {best, relu} <= set(table.split())
    assert main(["status", "my loop"]) == 0
    assert capsys.readouterr().out.split("best err")[1].split()[0] == best
    with Store.open(url) as store:
        run, tail = store.run("my loop"), EventTail(store, store.run("my loop"))
        assert any(f"val_err {best}" in event["text"] for event in run_now(store, run, tail)["events"] or [])
        shown = heading(read_findings(store, "my loop", "", quick=True))
    assert f"with val_err <b>{best}</b>, relu(x) {relu}." in shown


def test_a_value_of_zero_has_no_sign(url, capsys):
    told(lambda function: 0.0, direction="minimize", evaluations=1)
    assert main(["status", "my loop"]) == 0
    assert capsys.readouterr().out.split("best value")[1].split()[0] == "0.0000"


@pytest.mark.filterwarnings("error")
def test_a_huge_value_is_drawn_without_warnings(url):
    told(lambda function: 1e308 if function == "relu(x)" else 0.5, direction="maximize", evaluations=1)
    with Store.open(url) as store:
        found = document(read_findings(store, "my loop", "", quick=True))
    assert "0" * 20 not in json.dumps(found)
    assert "1.000e+308" in found["heading"]


def test_accuracies_in_percent_are_no_fractions_and_their_differences_no_points(url, tmp_path):
    with Study("my loop", direction="maximize", metric="accuracy", evaluations=1, **OPTIONS) as study:
        for trial in study:
            study.tell(trial, 80.5 + 5 * (trial.number > 7))
    text = reported(url)
    assert "is 5 accuracy better than relu(x)" in text
    assert "points" not in text
    assert main(["export", "my loop", "--format", "act-bench", "--output", str(tmp_path / "act-bench.json")]) == 0
    assert json.loads((tmp_path / "act-bench.json").read_text())["relu(x)"]["Validation Accuracy"] == 80.5


@pytest.mark.parametrize("study", [False, True])
def test_a_study_may_differ_from_the_tasks_trainings_in_more_than_the_seed(tmp_path, monkeypatch, capsys, study):
    """What is told comes from a loop of the user's own, so what its functions lose is not the luck of selection."""
    if study:
        monkeypatch.setitem(synthetic_run.CONFIG, "study", True)
    with Store.open(f"sqlite:///{tmp_path}/s.db") as store:
        fill_store(store)
        found = read_findings(store, NAME, "", quick=True)
        print_confirmation("synthetic-confirm", store.safe_url, as_json=False)
    table, words = capsys.readouterr().out, KINDS["confirmed"](found).words
    said = "whose trainings may differ from the task's in more than the seed"
    assert (said in table, said in words, "shrinkage" in table) == (study, study, not study)
    assert ("The baselines, which were not selected" in table) is not study
    assert {each.shrinkage.observed is None for each in found.confirmation.functions} == {study}


@pytest.mark.parametrize(
    "options",
    [
        {"direction": "minimize", "metric": "loss", "evaluations": 2, "reference": "gelu(x)", "seed": 3},
        {"direction": "maximize"},
        {"task": "digits", "features": "outputs"},
    ],
)
def test_the_call_that_repeats_a_study_opens_it(url, options):
    Study("my loop", **OPTIONS, **options).close()
    with Store.open(url) as store:
        code = command_of(store.run("my loop"))
    assert "None" not in code
    found = {}
    exec(code, found)
    with found["study"] as study, Store.open(url) as store:
        assert [run.name for run in store.runs()] == ["my loop"]
        assert study.direction == options.get("direction", "maximize")


def test_a_report_on_a_loop_without_a_task_names_no_command_that_is_refused(url):
    told(direction="maximize", evaluations=2)
    text = reported(url)
    assert "Confirm it in your own loop, with other seeds." in text
    assert "study = Study('my loop', direction='maximize', metric='value', evaluations=2" in text
    assert not re.findall(r"aquasurf (confirm|explain|search) ", text)


def test_a_report_on_a_loop_with_the_spectra_of_a_task_names_its_commands(url):
    told(direction="minimize", features="digits", evaluations=1)
    text = reported(url)
    assert "Confirm it with: aquasurf confirm 'my loop'" in text
    assert "--task digits draws them" in text
    assert "features='digits'" in text


def test_a_network_alone_is_no_task_that_could_confirm(url, capsys):
    """It has neither splits nor a recipe, so no task that a user could give is the one that was asked for."""
    table = TensorDataset(torch.zeros(8, 4), torch.arange(8) % 2)
    told(direction="minimize", evaluations=1, features=network, examples=table)
    text = reported(url)
    assert "Confirm it in your own loop, with other seeds." in text
    assert "Study('my loop', features=network, examples=examples, direction='minimize'" in text
    assert main(["confirm", "my loop"]) == 2
    said = "run 'my loop' is a study of a network, which has no recipe, so its winners cannot be retrained here"
    assert said in capsys.readouterr().err
    alike = Task("my loop", network, lambda: Splits(train=table, validation=table, test=table))
    with pytest.raises(BadUse, match="is a study of a network"):
        confirm("my loop", task=alike)


def test_a_report_on_a_task_that_was_given_in_python_names_calls(url):
    told(
        lambda function: 0.25 if function == "relu(x)" else 0.5,
        task=load_task("digits"),
        evaluations=1,
        features="outputs",
    )
    text = reported(url)
    assert "Confirm it in Python, with its task: aquasurf_ray.driver.confirm('my loop', task=task)" in text
    assert "from aquasurf_ray import search\nsearch(task, space='three-node', evaluations=1" in text
    assert not re.findall(r"aquasurf (confirm|explain|search) ", text)


def test_commands_name_the_call_that_continues_a_study(url, capsys):
    told(direction="maximize", evaluations=1)
    assert main(["enqueue", "my loop", "sin(x)", "cos(x)"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "run 'my loop' is finished; train them with: Study('my loop', ..., evaluations=3)"
    with Study("my loop", direction="maximize", **OPTIONS):
        pass
    with Store.open(url) as store:
        store.end_sharing(store.share_run(store.run("my loop").id, this_process(), code_version="1"), "interrupted")
    assert main(["stop", "my loop"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "resume it with: Study('my loop', ...)"


def test_the_page_of_watch_shows_the_processes_of_a_study_and_its_rate(url):
    with Study("my loop", direction="maximize", evaluations=2, **OPTIONS) as study, Store.open(url) as store:
        run = store.run("my loop")
        tail = EventTail(store, run)
        assert run_now(store, run, tail)["per_hour"] is None
        first, second = study.ask(), study.ask()
        study.tell(first, 0.5)
        now = run_now(store, run, tail)
        (loop,) = now["loops"]
        assert (loop["pid"], loop["trains"], loop["state"]) == (os.getpid(), second.function, "alive")
        assert (now["status"], now["workers"]) == ("running", [])
        assert now["per_hour"] > 0
        assert now["seconds_left"] == pytest.approx((now["wanted"] - 1) * 3600 / now["per_hour"])
        assert main(["status", "my loop"]) == 0


def test_a_study_without_a_limit_has_a_rate_and_no_end(url):
    with Study("my loop", direction="maximize", **OPTIONS) as study, Store.open(url) as store:
        study.tell(study.ask(), 0.5)
        study.ask()
        run = store.run("my loop")
        now = run_now(store, run, EventTail(store, run))
    assert now["per_hour"] > 0
    assert (now["wanted"], now["seconds_left"]) == (None, None)


@pytest.mark.parametrize(
    ("metric", "shown"),
    [("val_loss", "val_loss"), ("eval_loss", "eval_loss"), ("value", "value"), ("loss", "val_loss")],
)
def test_a_metric_is_named_by_its_split_once_and_fills_its_column(url, capsys, metric, shown):
    told(direction="minimize", metric=metric, evaluations=1)
    assert main(["top", "my loop", "--json", "-n", "1"]) == 0
    best = json.loads(capsys.readouterr().out)[0]
    assert best[shown] is not None
    assert main(["top", "my loop", "-n", "1"]) == 0
    head, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["rank", shown, "test_loss" if "loss" in metric else "test_value"]
    assert main(["show", best["function"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluations"][0][shown] == best[shown]
    with Store.open(url) as store:
        now = run_now(store, store.run("my loop"), EventTail(store, store.run("my loop")))
        assert read_findings(store, "my loop", "", quick=True).metric_name == shown
    assert now["metric"] == shown
    assert any(f": {shown} {best[shown]:.4f}," in event["text"] for event in now["events"])


def test_a_study_without_a_suggested_result_or_spectra_says_neither(url, capsys):
    with Study("my loop", direction="maximize", evaluations=5, **OPTIONS) as study:
        trial = study.ask()
        study.tell(trial, merit(trial.function))
    with Store.open(url) as store:
        now = run_now(store, store.run("my loop"), EventTail(store, store.run("my loop")))
    assert "No suggested function has a score yet." in reported(url)
    assert now["spectra"] is None
    assert main(["status", "my loop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spectra"] is None
