"""Workers that are killed: their work is retried from its last epoch, and the run continues."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from live_search import SEARCH, assert_budget_met, wait_for, workers_of
from long_task import EPOCHS, MODULE, n_trained

from aquasurf_ray.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def attempts(folder):
    """How often trainings of the run were lost so far."""
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        return sum(request.evaluation.attempts for request in store.snapshot(store.run("one").id).evaluations)


@pytest.mark.reliability("worker-killed-training")
def test_workers_killed_in_trainings_cost_an_attempt_each_and_the_run_continues(folder, start, injections):
    driver = start(*SEARCH)
    kills = 0
    while kills < 6 and (kills == 0 or attempts(folder) < 2):  # one that comes between two trainings costs nothing
        worker = wait_for(lambda: workers_of(driver, doing="train"))[0]
        worker.kill()
        worker.wait(timeout=10)
        kills += 1
        injections.add()
        wait_for(lambda: workers_of(driver))
    _, err = driver.communicate(timeout=200)
    assert driver.returncode == 0, err
    assert "retrying" in err
    assert_budget_met(folder)
    assert 2 <= attempts(folder) <= kills


@pytest.mark.reliability("worker-killed-spectrum")
def test_workers_killed_in_spectra_cost_no_function_its_spectrum(folder, start, injections):
    driver = start("search", "digits", "--name", "one", "--candidates", "60", "--evaluations", "1", "--workers", "1",
                   "--first-candidates", "68")  # fmt: skip
    for _ in range(2):
        worker = wait_for(lambda: workers_of(driver, doing="spectra"))[0]
        worker.kill()
        worker.wait(timeout=10)
        injections.add()
        wait_for(lambda: workers_of(driver))
    _, err = driver.communicate(timeout=250)
    assert driver.returncode == 0, err
    assert "stays without a spectrum" not in err
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        run = store.run("one")
        ids = [function.id for function in store.candidates(run.id)]
        assert len(store.spectra(run.task_id, ids, fisher="sampled", seed=0)) == len(ids) == 68
        assert store.status(run.id).by_status.keys() <= {"done", "diverged"}


EVALUATE = """
import sys
from aquasurf_ray.driver import evaluate
evaluate(["tanh(x)"], "longtask:make", name="one", workers=1, checkpoint_interval=0.0)
"""


@pytest.mark.reliability("worker-killed-training")
def test_a_long_training_resumes_from_its_last_epoch_after_its_worker_was_killed(folder, start):
    (folder / "longtask.py").write_text(MODULE)
    (folder / "go.py").write_text(EVALUATE)
    environment = {key: value for key, value in os.environ.items() if key != "AQUASURF_STORE"}
    driver = subprocess.Popen([sys.executable, "go.py"], cwd=folder, env=environment)
    try:
        wait_for(lambda: n_trained(folder) >= 10)
        (worker,) = workers_of(driver)
        worker.kill()
        assert driver.wait(timeout=200) == 0
    finally:
        driver.kill()
        driver.wait()
    assert EPOCHS <= n_trained(folder) <= EPOCHS + 1, "only the epoch that was cut off is trained again"
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        (request,) = store.snapshot(store.run("one").id).evaluations
        curve = store.curve(request.evaluation.id)
    assert (request.evaluation.status, request.evaluation.attempts) == ("done", 1)
    assert [epoch.epoch for epoch in curve] == list(range(1, 41))
    assert not list((folder / "aquasurf-storage").rglob("*.ckpt")), "checkpoints go when the result is stored"
