"""What `show` says of a function that a search of the open space made, and of its relatives."""

from __future__ import annotations

import json

import pytest

from aquasurf_ray.activations import fingerprint
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import (
    EvaluationRequest,
    EvaluationResult,
    FunctionRow,
    NewCandidate,
    NewRun,
    Store,
    this_process,
)


def row(name):
    return FunctionRow(fingerprint(name), name, name.count("("))


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A run in which `sin(x)` was changed, the change joined with `relu(x)`, and that changed again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    with Store.open(f"sqlite:///{tmp_path}/aquasurf.db") as store:
        task = store.add_task("digits", "1", "digest", {"objective": {"metric": "rmse", "higher_is_better": False}})
        sine, relu = store.add_functions([row("sin(x)"), row("relu(x)")])
        store.create_run(NewRun("open", "search", task, {}, "d", 0, 4, None, "0.1.0"), [sine, relu])
        lease = store.acquire_lease(store.run("open").id, this_process(), lease_seconds=30)
        (scaled,) = store.grow(lease, 1, [NewCandidate(row("sin(mul(2,x))"), "put constant", (sine,))])
        joined = NewCandidate(row("max(sin(mul(2,x)),relu(x))"), "crossover", (scaled.id, relu))
        store.grow(lease, 2, [joined])
        for number, score in ((sine, -0.5), (scaled.id, -0.25)):
            request = EvaluationRequest(number, 0, "suggestion")
            (claim,) = store.claim_all(lease, [request], accept_stopped=True, accept_refused=True)
            store.record_results(lease, {claim.evaluation_id: EvaluationResult("done", score=score)})


def show(capsys, *arguments):
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("family")
def test_the_family_is_drawn(capsys):
    lines = show(capsys, "max(sin(mul(2,x)),relu(x))").splitlines()
    start = lines.index("  family in run 'open', val_rmse:")
    assert lines[start + 1 :] == [
        "  max(sin(mul(2,x)),relu(x))  generation 2, crossover",
        "  ├─ sin(mul(2,x))  0.2500  generation 1, put constant",
        "  │  └─ sin(x)  0.5000",
        "  └─ relu(x)",
    ]


@pytest.mark.usefixtures("family")
def test_the_children_of_a_function_are_counted_and_the_best_named(capsys):
    lines = show(capsys, "sin(x)").splitlines()
    assert lines[-2:] == ["  sin(x)  0.5000", "  1 made from it, 1 trained; sin(mul(2,x)): 0.2500"]


@pytest.mark.usefixtures("family")
def test_json_has_the_whole_family(capsys):
    (family,) = json.loads(show(capsys, "sin(mul(2,x))", "--json"))["families"]
    assert (family["run"], family["metric"]) == ("open", "rmse")
    assert [(each["function"], each["value"], each["generation"], each["parents"]) for each in family["ancestors"]] == [
        ("sin(mul(2,x))", 0.25, 1, ["sin(x)"]),
        ("sin(x)", 0.5, 0, []),
    ]
    assert family["children"] == [
        {"function": "max(sin(mul(2,x)),relu(x))", "value": None, "generation": 2, "change": "crossover"}
    ]


@pytest.mark.usefixtures("family")
def test_a_function_without_relatives_has_no_family(capsys):
    assert json.loads(show(capsys, "tanh(x)", "--json"))["families"] == []
    assert "family" not in show(capsys, "tanh(x)")
