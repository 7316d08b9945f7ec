"""`aquasurf find`: what is asked for is listed, what is asked wrongly is told in a line."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3

import pytest
from synthetic_run import NAME

from aquasurf_ray.activations.shape import shape_of
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import Store


@pytest.fixture
def find(synthetic_run_url, capsys):
    def found(*arguments):
        code = main(["find", *arguments, "--store", synthetic_run_url])
        return code, *capsys.readouterr()

    return found


@pytest.fixture
def rows(find):
    def found(*arguments):
        code, out, _ = find(NAME, *arguments, "--json")
        assert code == 0
        return json.loads(out)

    return found


def test_every_candidate_has_its_best_score_and_what_became_of_it(rows, synthetic_run_url):
    with Store.open(synthetic_run_url) as store:
        run = store.run(NAME)
        names = {function.name for function in store.candidates(run.id)}
        scores = {row.function: (row.score, row.time_ratio) for row in store.leaderboard(run_id=run.id)}
        requests = {request.function: request.evaluation.status for request in store.snapshot(run.id).evaluations}
    found = rows("-n", "100")
    assert {row["function"] for row in found} == names
    assert {row["function"]: row["status"] for row in found} == dict.fromkeys(names) | requests
    trained = {row["function"]: (row["val_accuracy"], row["time_ratio"]) for row in found if row["status"] == "done"}
    assert trained == scores
    values = [row["val_accuracy"] for row in found]
    in_order = [
        value for row, value in zip(found, values, strict=True) if value is not None and row["confirmed"] is None
    ]
    assert in_order == sorted(in_order, reverse=True), "what is confirmed ranks by that"
    assert set(values[: len(scores)]) == {score for score, _ in scores.values()}
    assert set(values[len(scores) :]) == {None}


def test_filters_join(rows):
    found = rows("--shape", "bounded-below", "--not-shape", "monotone", "--without", "square", "-n", "100")
    every = rows("-n", "100")

    def wanted(name):
        shape = shape_of(name)
        return shape.bounded_below and not shape.monotone and "square(" not in name

    assert [row["function"] for row in found] == [row["function"] for row in every if wanted(row["function"])]
    assert 0 < len(found) < len(every)


def test_cost_and_trained(rows):
    assert [row["function"] for row in rows("--max-cost", "1.0")] == ["elu(x)"]
    assert {row["status"] for row in rows("--trained", "-n", "100")} == {"done"}


def test_nearness_sorts(rows):
    found = rows("--near", "swish(x)", "-n", "100")
    distances = [row["distance"] for row in found if row["distance"] is not None]
    assert (found[0]["function"], found[0]["distance"]) == ("swish(x)", 0.0)
    assert distances == sorted(distances)
    assert list(found[0]) == ["val_accuracy", "confirmed", "status", "time_ratio", "distance", "shape", "function"]


def test_a_table_says_how_many_there_are(find):
    code, out, err = find(NAME, "-n", "2")
    assert (code, len(out.splitlines()), err) == (0, 3 + 2, "24 of 24 functions; the first 2 are shown\n")
    code, out, err = find(NAME, "--max-cost", "0.5")
    assert (code, out) == (0, "val_accuracy  status  shape  function\n")
    assert err.startswith("0 of 24 functions; ")
    assert err.endswith(" have no measured cost\n")


def test_csv_has_every_column(find):
    code, out, err = find(NAME, "--contains", "relu", "--format", "csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "val_accuracy,confirmed,status,time_ratio,shape,function"
    assert "relu(x)" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "no run is named 'nothing'"),
        ([NAME, "--shape", "round"], "shape must be one of defined, bounded-below"),
        ([NAME, "--not-shape", "bounded_below"], "zero-at-zero, smooth, constant, got 'bounded_below'"),
        ([NAME, "--contains", "erff"], "no operator is named 'erff'; did you mean 'erf'?"),
        ([NAME, "--without", "swish(x)"], "no operator is named 'swish(x)'"),
        ([NAME, "--near", "foo(x)"], "near: unknown operator 'foo' at 1"),
        ([NAME, "--near", "relu("], "near: "),
        ([NAME, "--max-cost", "-1"], "--max-cost"),
        ([NAME, "--max-cost", "cheap"], "--max-cost"),
        ([NAME, "-n", "0"], "-n"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_bad_use_is_reported_in_a_line_or_two(find, arguments, says):
    code, out, err = find(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) <= 2


def test_functions_of_operators_that_nobody_registered_are_counted(synthetic_run_url, find, tmp_path, capsys):
    copy = tmp_path / "copy.db"
    shutil.copy(synthetic_run_url.removeprefix("sqlite:///"), copy)
    with contextlib.closing(sqlite3.connect(copy)) as database, database:
        ((name,),) = database.execute("SELECT name FROM functions WHERE name LIKE '%erf(%' LIMIT 1")
        database.execute("UPDATE functions SET name = 'no_such(x)' WHERE name = ?", (name,))
    before = find(NAME, "-n", "100", "--json")
    assert "no_such" not in before[2]
    code = main(["find", NAME, "-n", "100", "--json", "--store", f"sqlite:///{copy}"])
    out, err = capsys.readouterr()
    assert code == 0
    assert len(json.loads(out)) == len(json.loads(before[1])) - 1
    assert "left out: 1 function with operators that no module of the run registers, such as no_such(x)" in err
