"""The reference is found among a run's own functions; a run that lacks it is shown, and only its verdict is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_run import METRIC, NAME, done, fill_store

from aquasurf_ray.analysis.report.live import RunList
from aquasurf_ray.analysis.report.pictures.kinds import KINDS
from aquasurf_ray.analysis.report.report_page import document
from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.analysis.studies.reference import reference_of
from aquasurf_ray.analysis.studies.transferred_run import read_transfer
from aquasurf_ray.analysis.studies.verdict import at_the_edge, verdict
from aquasurf_ray.cli import transfer as command
from aquasurf_ray.cli.main import main
from aquasurf_ray.cli.terminal.paper_table import Table
from aquasurf_ray.store import FunctionRow, NewRun, Store, this_process

OWN = {"reference": "own(x)", "task_baselines": ["own(x)"]}
SENTENCE = "no verdict: the reference, own(x), is not among the functions of run 'c'"


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        fill_store(opened, n_candidates=14, n_trained=5)
        yield opened


def trained(store, name, kind, names, ids, **config):
    """A finished run of these functions with two seeds, the first with the best scores."""
    task = store.add_task("digits", "1", "digest None", METRIC)
    new = NewRun(name, kind, task, {"seeds": 2, "first_seed": 1, **OWN, **config}, name, 3, 4, None, "0.1.0")
    numbers = [*(store.find_function(each).id for each in names), *ids]
    lease = store.acquire_lease(store.create_run(new, numbers).id, this_process())
    for order, number in enumerate(numbers):
        for seed in range(3):
            claim = store.claim(lease, number, seed, origin="proposal")
            store.record_result(lease, claim.evaluation_id, done(0.9 - 0.1 * order + 0.01 * seed * (order + 1)))
    store.release_lease(lease, "finished")
    return store.run(name)


def winner(store):
    return read_confirmation(store, "synthetic-confirm").functions[0].function


def test_of_two_functions_of_one_name_that_of_the_run_is_the_reference(store):
    rows = [FunctionRow(letter * 32, "own(x)", 1) for letter in "ab"]
    first, second = store.add_functions(rows)
    run = trained(store, "c", "confirm", [winner(store), "relu(x)"], [second], confirms=NAME)
    assert store.find_function("own(x)").id == first
    assert reference_of(store, run).id == second
    found = read_confirmation(store, "c")
    assert found.over.function == found.reference == "own(x)"
    assert found.functions[0].against_reference.gain == pytest.approx(0.2 - 0.03)
    other = trained(store, "m", "evaluate", [winner(store), "relu(x)"], [second])
    assert read_transfer(store, NAME, other.name).functions[0].against_reference.gain is not None


def test_a_run_without_its_reference_is_shown_without_a_verdict_and_hides_no_other(store, capsys):
    where = ["--store", store.safe_url]
    store.add_functions([FunctionRow("a" * 32, "own(x)", 1)])
    trained(store, "c", "confirm", [winner(store), "relu(x)"], [], confirms=NAME)
    found = read_confirmation(store, "c")
    assert (found.over, verdict(found).sentence, verdict(found).function) == (None, SENTENCE, None)
    assert at_the_edge(replace(found, tuning=read_confirmation(store, "synthetic-confirm").tuning)) == []
    for arguments in (
        ["status"],
        ["status", NAME],
        ["status", "c"],
        ["top", NAME],
        ["find", NAME],
        ["compare", NAME, "c"],
    ):
        assert main([*arguments, *where]) == 0
    assert {row["run"] for row in RunList(store).read()} == {NAME, "synthetic-confirm", "c"}
    findings = read_findings(store, NAME, "", quick=True)
    assert "No verdict: the reference, own(x), is not among the functions of run" in str(document(findings))
    tuned = replace(findings, confirmation=replace(read_confirmation(store, "synthetic-confirm"), reference="own(x)"))
    assert "own(x)" not in KINDS["rates"](tuned).words
    trained(store, "m", "evaluate", [winner(store), "relu(x)"], [])
    moved = read_transfer(store, NAME, "m")
    assert all(each.against_reference.gain is None for each in moved.functions)
    command._PRINTERS[Table.table](moved)
    assert "Gain and p need the reference, own(x), which is" in " ".join(capsys.readouterr().out.split())
