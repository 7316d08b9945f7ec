"""A Tuner's process is killed, and Tuner.restore resumes: nothing finished is trained again, nothing learnt is lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
import tune_experiment
from live_search import counts, n_finished, wait_for

from aquasurf_ray.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]
FINISHED_BEFORE = 6


@pytest.fixture
def run_experiment(folder, ray_cluster):
    """Starts the experiment's process; what is left of it at the end is killed."""
    started = []

    def run(verb):
        command = [sys.executable, tune_experiment.__file__, verb, str(folder), ray_cluster]
        with (folder / f"{verb}.log").open("w") as log:
            started.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=dict(os.environ)))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def noted_as_ended(folder):
    """The functions of trials that Tune's newest state file has as ended."""
    files = sorted((folder / "tune" / "one").glob("experiment_state-*.json"))
    if not files:
        return set()
    trials = [json.loads(trial) for trial, _ in json.loads(files[-1].read_text())["trial_data"]]
    return {trial["config"]["activation"] for trial in trials if trial["status"] == "TERMINATED"}


def epochs_reported(folder):
    """Epochs by function, over all reports of all trials, as Tune's own result files have them."""
    found = Counter()
    for path in (folder / "tune" / "one").glob("*/result.json"):
        for line in path.read_text().splitlines():
            report = json.loads(line)
            found[report["config"]["activation"], report["epoch"]] += 1
    return found


def stored(folder):
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        run = store.run("one")
        return run, store.snapshot(run.id).evaluations, store.events(run.id)


def test_a_killed_tuner_is_restored(folder, run_experiment, tmp_path):
    process = run_experiment("begin")
    wait_for(lambda: n_finished(folder) >= FINISHED_BEFORE and len(noted_as_ended(folder)) >= 4, 400)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended, before = noted_as_ended(folder), {w.function for w in stored(folder)[1] if w.evaluation.finished}
    assert ended <= before
    assert counts(folder)["running"] <= 1

    assert run_experiment("restore").wait(400) == 0, (folder / "restore.log").read_text()[-3000:]
    run, requests, events = stored(folder)
    assert run.status == "finished"
    assert len(requests) == tune_experiment.TRIALS
    assert all(w.evaluation.finished for w in requests)

    reported = epochs_reported(folder)
    assert {function for function, _ in reported} == {w.function for w in requests}
    again = {function for (function, _), n in reported.items() if n > 1}
    assert not again & ended, "what Tune had noted as ended is not trained again"
    results = Counter(e.evaluation_id for e in events if e.kind in ("result", "diverged"))
    assert set(results.values()) == {1}

    assert functions_of_an_undisturbed_search(tmp_path, requests) == [w.function for w in requests], (
        "the search has forgotten nothing: with these scores one that is never interrupted suggests the same"
    )


def functions_of_an_undisturbed_search(tmp_path, requests):
    # One that diverged has no score; its trial reported NaN, as in `train_activation`.
    scores = {w.function: math.nan if w.evaluation.score is None else w.evaluation.score for w in requests}
    search = tune_experiment.search(f"sqlite:///{tmp_path}/undisturbed.db")
    found = []
    for number in range(tune_experiment.TRIALS):
        function = search.suggest(str(number))["activation"]
        found.append(function)
        search.on_trial_complete(str(number), {"score": scores.get(function, 0.0), "training_iteration": 1})
    return found
