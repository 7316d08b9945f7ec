"""Two runs beside each other: counted by hand, and only where they are of one task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import CONFIG, NAME, done, fill_store

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.report.pictures.compared import compared
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.analysis.studies.run_comparison import best_so_far, compare_runs
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import NewRun, Store, this_process
from aquasurf_ray.store.records.runs import N_BASELINES


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as opened:
        fill_store(opened)
        yield opened


def second(store: Store, scores: dict[str, float], task_id: int) -> None:
    """A run of the same space that trained what the first one did not, and relu."""
    new = NewRun("second", "search", task_id, CONFIG | {"seed": 4, N_BASELINES: 8}, "other", 4, 3, None, "0.1.0")
    ids = {function.name: function.id for function in store.candidates(store.run(NAME).id)}
    lease = store.acquire_lease(store.create_run(new, list(ids.values())).id, this_process())
    for name, score in scores.items():
        origin = "baseline" if name == "relu(x)" else "suggestion"
        claim = store.claim(lease, ids[name], 0, origin=origin)
        if claim.state == "claimed":
            store.record_result(lease, claim.evaluation_id, done(score))


@pytest.mark.slow
def test_two_runs_of_a_task_are_counted(store: Store, capsys) -> None:
    run = store.run(NAME)
    untrained = [f.name for f in store.candidates(run.id)][-3:]
    second(store, {"relu(x)": 0.0, untrained[0]: 0.4, untrained[1]: 0.95, untrained[2]: 0.5}, run.task_id)
    found = compare_runs(read_findings(store, NAME, "", quick=True), read_findings(store, "second", "", quick=True))
    one, other = found.sides
    assert found.goal == 0.9
    assert (one.reached, other.reached) == (1, 2)
    assert (one.evaluations, other.evaluations) == (11, 3)
    assert (one.diverged, one.failed) == (1, 1)
    assert other.best == (untrained[1], 0.95)
    assert found.differing == {"seed": (3, 4)}
    assert (found.shared, found.only) == (1, (18, 3))
    assert main(["compare", NAME, "second", "--store", store.safe_url]) == 0
    out = capsys.readouterr().out
    assert "evaluations until 0.9000" in out
    assert "seconds of training after the baselines" in out


def test_a_run_without_results_has_no_best_instead_of_never_one(store: Store, capsys) -> None:
    second(store, {}, store.run(NAME).task_id)
    assert main(["compare", NAME, "second", "--store", store.safe_url]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["best", "function"] in [row[:2] for row in rows]
    assert {row[-1] for row in rows if row[:1] == ["best"]} == {"-"}


def test_best_so_far_begins_with_the_baselines(store: Store) -> None:
    found = read_findings(store, NAME, "", quick=True)
    baseline = max(w.evaluation.score for w in found.requests if w.origin == "baseline")
    assert best_so_far(found)[0] == max(0.9, baseline)
    assert (np.diff(best_so_far(found)) >= 0).all()


def test_the_picture_of_two_runs_names_the_function_that_gains_are_over(store: Store) -> None:
    found = read_findings(store, NAME, "", quick=True)
    tanh = replace(found, reference_function=store.find_function("tanh(x)"))
    (panel,) = compared(tanh, found, "").panels
    assert panel.marks[-1].name == "tanh(x)"


def test_a_run_is_not_compared_with_itself(store: Store, capsys) -> None:
    assert main(["compare", NAME, NAME, "--store", store.safe_url]) == 2
    assert f"run '{NAME}' is compared with itself" in capsys.readouterr().err


def test_runs_of_different_tasks_do_not_compare(store: Store) -> None:
    second(store, {}, store.add_task("other", "1", "other", {}))
    with pytest.raises(AnalysisError, match=r"are of different tasks: digits \(version 1\) and other"):
        compare_runs(read_findings(store, NAME, ""), read_findings(store, "second", ""))
