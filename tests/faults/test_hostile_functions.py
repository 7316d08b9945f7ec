"""Functions that break the network, the worker or the machine's patience, trained by real workers: each ends with its
reason, and the others have their results."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aquasurf_ray.store import Store

PROGRAMS = Path(__file__).parents[1] / "programs"

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

STEPS_AN_EPOCH = 15  # of `digits`, whose loss is looked at once in each

DIVERGED = {
    "raising(x)": "RuntimeError: this function is broken",
    "nan_at_once(x)": "non-finite-forward|nan",
    "constant_output(x)": "constant 1.5",
    "complex_output(x)": "complex64",
    "integer_output(x)": "int64",
    "infinite_gradient(x)": "non-finite-backward|inf|nan",
}
FAILED = {"exhausting(x)": "allocate memory|MemoryError", "killed(x)": "Actor(Died|Unavailable)Error"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The database of the three runs, which share one start of Ray."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copy(PROGRAMS / "hostile_operators.py", folder)
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "hostile_search.py")], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        yield store, done.stderr


def evaluations(store, name):
    return {request.function: request.evaluation for request in store.snapshot(store.run(name).id).evaluations}


@pytest.mark.parametrize(("function", "reason"), DIVERGED.items())
@pytest.mark.reliability("function-breaks")
def test_a_broken_function_has_diverged_with_its_reason(runs, function, reason):
    found = evaluations(runs[0], "hostile")[function]
    assert found.status == "diverged"
    assert re.search(reason, found.reason), found.reason
    assert found.attempts == 0


@pytest.mark.parametrize(("function", "error"), FAILED.items())
@pytest.mark.reliability("worker-out-of-memory")
def test_a_function_that_takes_all_memory_is_tried_again_and_then_given_up_with_the_cause(runs, function, error):
    found = evaluations(runs[0], "hostile")[function]
    assert (found.status, found.attempts) == ("failed", 2)
    assert re.search(error, found.error), found.error


@pytest.mark.reliability("function-breaks")
def test_a_search_among_broken_functions_meets_what_can_be_met(runs):
    store, said = runs
    run = store.run("hostile")
    status = store.status(run.id)
    assert (run.status, run.lease_owner) == ("finished", None)
    assert status.by_status == {"done": 8, "diverged": len(DIVERGED), "failed": len(FAILED)}
    spectra = store.spectra(run.task_id, [f.id for f in store.candidates(run.id)], fisher="sampled", seed=0)
    named = {f.id: f.name for f in store.candidates(run.id)}
    told = {named[number]: (record.status, record.reason) for number, record in spectra.items()}
    assert told["infinite_gradient(x)"][0] == "diverged", "its spectrum is infinite"
    assert not FAILED.keys() & told.keys()
    for function in FAILED:
        assert f"{function} stays without a spectrum" in said


@pytest.mark.reliability("function-nan-late")
def test_a_function_that_becomes_nan_after_a_thousand_steps_has_diverged_there(runs):
    found = evaluations(runs[0], "late")["late_nan(x)"]
    assert found.status == "diverged"
    said = re.search(r"became nan by step (\d+) of epoch (\d+)", found.reason)
    assert said, found.reason
    assert 1000 <= STEPS_AN_EPOCH * (int(said[2]) - 1) + int(said[1]) <= 1000 + STEPS_AN_EPOCH


@pytest.mark.reliability("function-hangs")
def test_a_function_that_never_ends_is_killed_after_its_limit_and_its_worker_works_again(runs):
    found = evaluations(runs[0], "endless")
    assert found["forever(x)"].status == "failed"
    assert found["forever(x)"].error == "time limit of 20 s passed, worker killed"
    assert found["relu(tanh(x))"].status == "done"
    assert runs[0].run("endless").status == "failed"
    assert "1 of 2 evaluations failed" in runs[0].run("endless").message
