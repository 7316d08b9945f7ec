"""Tables and documents speak of the task's own metric, of cost, and of what was stopped early."""

from __future__ import annotations

import csv
import io
import json

import pytest

from aquasurf_ray.analysis.studies.confirmation import PairedDifference
from aquasurf_ray.analysis.studies.verdict import difference_text
from aquasurf_ray.cli.main import main
from aquasurf_ray.cli.terminal.output import print_table
from aquasurf_ray.cli.terminal.paper_table import cell
from aquasurf_ray.store import (
    ACCURACY,
    CostRecord,
    EvaluationResult,
    FunctionRow,
    Neighbor,
    NewRun,
    Store,
    SuggestionRecord,
    this_process,
)

RMSE = {"objective": {"metric": "rmse", "higher_is_better": False}}
STOPPED = "score -0.9 after epoch 5 of 30 is below -0.6"
WHY = SuggestionRecord(-0.375, 2, (Neighbor(1, 0.25, -0.5), Neighbor(2, 0.5, None)), "e" * 8)
# name, origin, score, test score, time ratio, stopped early
ROWS = (
    ("relu(x)", "baseline", -0.5, -0.625, 1.0, None),
    ("mul(x,tanh(x))", "suggestion", -0.25, -0.375, 1.5, None),
    ("sinh(x)", "suggestion", -0.75, -0.8, 2.0, None),
    ("erf(x)", "suggestion", -0.9, -0.95, 0.5, STOPPED),
    ("exp(x)", "suggestion", -0.3, None, None, None),
)


@pytest.fixture
def wine(tmp_path, monkeypatch):
    """A working folder with a finished run of a task whose metric is better when it is lower."""
    from aquasurf_ray.activations import fingerprint

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    with Store.open("sqlite:///aquasurf.db") as store:
        task = store.add_task("wine", "1", "d" * 32, {"name": "wine", **RMSE})
        ids = store.add_functions([FunctionRow(fingerprint(name), name, 2, (name,)) for name, *_ in ROWS])
        run = store.create_run(NewRun("one", "search", task, {"task": "wine"}, "c", 0, 4, None, "0.1.0"), ids)
        lease = store.acquire_lease(run.id, this_process())
        for number, (name, origin, score, test_score, time_ratio, stopped) in zip(ids, ROWS, strict=True):
            claim = store.claim(lease, number, 0, origin, WHY if name.startswith("mul") else None)
            result = EvaluationResult(
                "done", score=score, test_score=test_score, val_loss=0.125, seconds=2.0, examples_per_second=31000.0,
                device="H100", n_devices=4, precision="bfloat16", stopped_early=stopped,
            )  # fmt: skip
            store.record_result(lease, claim.evaluation_id, result)
            if time_ratio is not None:
                store.record_costs(lease, [CostRecord("H100", 0.25 * time_ratio, 0.25, 3000, 2000, function_id=number)])
        store.release_lease(lease, "finished")
    return tmp_path


def said(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def table(text):
    """Rows of a printed table by column; right as far as no cell is empty."""
    header, *lines = text.splitlines()
    return [dict(zip(header.split(), line.split(), strict=False)) for line in lines]


def test_top_shows_the_metric_with_its_natural_sign_and_marks_what_was_stopped(wine, capsys):
    text = said(capsys, "top", "one")
    rows = table(text)
    columns = "rank val_rmse test_rmse val_loss seconds time_ratio memory_ratio stopped_early seed baseline function"
    assert text.splitlines()[0].split() == columns.split()
    assert [row["val_rmse"] for row in rows] == ["0.2500", "0.3000", "0.5000", "0.7500", "0.9000"]
    assert [row["test_rmse"] for row in rows] == ["0.3750", "-", "0.6250", "0.8000", "0.9500"]
    assert [row["time_ratio"] for row in rows] == ["1.50", "-", "1.00", "2.00", "0.50"]
    assert ["stopped" in line for line in text.splitlines()[1:]] == [False] * 4 + [True]
    assert "-0." not in text


def test_programs_get_the_whole_reason_and_every_column(wine, capsys):
    rows = json.loads(said(capsys, "top", "one", "--format", "json"))
    assert rows[-1]["stopped_early"] == STOPPED
    assert (rows[0]["val_rmse"], rows[0]["time_ratio"], rows[0]["memory_ratio"]) == (0.25, 1.5, 1.5)
    assert rows[0]["baseline"] is False
    rows = list(csv.DictReader(io.StringIO(said(capsys, "top", "one", "--format", "csv"))))
    assert [row["stopped_early"] for row in rows] == ["", "", "", "", STOPPED]
    assert (rows[1]["test_rmse"], rows[1]["time_ratio"]) == ("", "")


def test_the_front_has_what_no_other_function_beats_in_both(wine, capsys):
    rows = json.loads(said(capsys, "top", "one", "--pareto", "--format", "json"))
    assert [(row["function"], row["val_rmse"], row["time_ratio"]) for row in rows] == [
        ("mul(x,tanh(x))", 0.25, 1.5),
        ("relu(x)", 0.5, 1.0),
    ]
    assert len(json.loads(said(capsys, "top", "one", "--pareto", "-n", "1", "--format", "json"))) == 1


def test_a_front_without_costs_says_why_it_is_empty(wine, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        new = NewRun("bare", "search", store.run("one").task_id, {}, "c", 0, 4, None, "0.1.0")
        store.create_run(new)
    assert main(["top", "bare", "--pareto"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split()[:3] == ["rank", "val_rmse", "test_rmse"]
    assert captured.err == "run 'bare' has no complete training of a function with a measured cost\n"


def test_status_prints_the_best_in_the_metric_and_how_many_were_stopped(wine, capsys):
    document = json.loads(said(capsys, "status", "one", "--json"))
    wanted = {"metric": "rmse", "best": 0.25, "best_score": -0.25, "best_function": "mul(x,tanh(x))"}
    assert {key: document[key] for key in wanted} == wanted
    assert document["stopped_early"] == 1
    lines = dict(line.rsplit("  ", 1) for line in said(capsys, "status", "one").splitlines())
    assert {key.strip(): value for key, value in lines.items()}["best rmse"] == "0.2500"
    (row,) = table(said(capsys, "status"))
    assert (row["metric"], row["best"]) == ("rmse", "0.2500")


def test_show_prints_cost_precision_and_every_value_in_the_metric(wine, capsys):
    text = said(capsys, "show", "mul(x,tanh(x))")
    for part in (
        "cost         wine on H100: 1.50 x the step time of ReLU, 1.50 x its activation memory",
        "training         bfloat16 on 4 x H100, 2.0 s, 31000 examples/s",
        "val_rmse         0.2500",
        "test_rmse        0.3750",
        "predicted        0.3750, rank 2",
        "relu(x): 0.5000, 0.250 away",
        "mul(x,tanh(x)): diverged",
    ):
        assert part in text
    assert "-0." not in text
    assert f"stopped early    {STOPPED}" in said(capsys, "show", "erf(x)")
    document = json.loads(said(capsys, "show", "mul(x,tanh(x))", "--json"))
    assert document["costs"][0]["time_ratio"] == 1.5
    evaluation = document["evaluations"][0]
    assert (evaluation["val_rmse"], evaluation["precision"], evaluation["n_devices"]) == (0.25, "bfloat16", 4)
    assert (evaluation["suggestion"]["predicted"], evaluation["suggestion"]["predicted_score"]) == (0.375, -0.375)


def test_the_document_after_a_search_is_in_the_metric_too(wine):
    from aquasurf_ray.cli.terminal.run_document import run_document

    document = run_document("one", None)
    assert document["best"] == 0.25
    assert document["leaderboard"][0]["val_rmse"] == 0.25


def test_a_task_that_names_no_metric_is_of_a_time_when_it_was_accuracy(wine, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        task = store.add_task("digits", "1", "e" * 32, {"name": "digits"})
        run = store.create_run(NewRun("old", "search", task, {}, "c", 0, 4, None, "0.1.0"), [1])
        lease = store.acquire_lease(run.id, this_process())
        claim = store.claim(lease, 1, 0, "baseline")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.75, val_accuracy=0.75))
        store.release_lease(lease, "finished")
    header, row = said(capsys, "top", "old").splitlines()
    assert " ".join(header.split()) == "rank val_accuracy test_accuracy val_loss seconds seed baseline function"
    assert row.split()[:3] == ["1", "0.7500", "-"]
    assert "val_accuracy     0.7500" in said(capsys, "show", "relu(x)")


def test_a_number_that_is_rounded_to_zero_has_no_sign(capsys):
    """A gain of -0.00001 in a table would read as a loss, and so would an end of an interval."""
    rows = [[-0.00001, -0.001], [-0.0, 0.5], [-0.0012, -0.5]]
    print_table(["gain", "ratio"], rows, {"ratio": 2}, differences=["gain"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["0.0000", "0.00"],
        ["0.0000", "0.50"],
        ["-0.0012", "-0.50"],
    ]
    assert cell(-0.00001, 0.5) == "0.0000"
    level = PairedDifference(-0.0001, 0.9, low=-0.0002, high=0.0001)
    assert difference_text(ACCURACY, level, signed=True) == "+0.0 points [0.0, 0.0]"
