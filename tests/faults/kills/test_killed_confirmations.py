"""A confirmation that chooses a learning rate for each function, killed in the choice and in the judgement: what is
finished stays, nothing is trained twice, and each function is judged at the rate that its own trainings chose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from light_search import results
from scipy import stats
from scripted_worker import score_with
from store_reading import attempts_of

from aquasurf_ray.store import Store

DRIVER = str(Path(__file__).parents[2] / "programs/light_driver.py")
CHANGES = ("learning_rate*0.5", "", "learning_rate*2")
N_FUNCTIONS = 2 + 8  # winners and baselines
CHOOSING, JUDGING = (4, 5), (1, 2, 3)
CONFIRM = ("confirm", "one", "--top=2", "--seeds=3", "--rate-seeds=2", "--learning-rates=0.5,1,2", "--workers=2")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def aquasurf(folder, *words, kill_at=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIGHT_KILL": str(kill_at), "LIGHT_SECONDS": "0.01"}
    command = [sys.executable, DRIVER, *words, f"--store=sqlite:///{folder}/runs.db"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.faults
@pytest.mark.reliability("driver-killed")
def test_a_killed_confirmation_goes_on_in_the_choice_and_in_the_judgement(tmp_path, injections):
    url, search = f"sqlite:///{tmp_path}/runs.db", ("search", "digits", "--name=one", "--candidates=30", "--workers=2")
    assert aquasurf(tmp_path, *search, "--evaluations=8", "--features=outputs").returncode == 0
    n_choosing, kept = N_FUNCTIONS * len(CHANGES) * len(CHOOSING), {}
    # In the choice, at its last training, and in the judgement; each attempt begins with what the last one left.
    for kill_at in (25, n_choosing - 25, 12):
        ended = aquasurf(tmp_path, *CONFIRM, kill_at=kill_at)
        assert ended.returncode == -9, ended.stderr
        injections.add()
        found = results(url)
        assert kept.items() < found.items(), "a finished result changed or is gone, or the attempt added none"
        kept = found
    whole = aquasurf(tmp_path, *CONFIRM, "--json")
    assert whole.returncode == 0, whole.stderr
    assert kept.items() < results(url).items()
    assert_trained_once(url)
    check(json.loads(whole.stdout))


def assert_trained_once(url):
    with Store.open(url, create=False) as store:
        run = next(run for run in store.runs() if run.kind == "confirm")
        requests = store.snapshot(run.id).evaluations
        outcomes = Counter(a.outcome for r in requests for a in attempts_of(store, r.evaluation.id))
        logged = Counter(e.evaluation_id for e in store.events(run.id) if e.kind in ("result", "diverged"))
    n = N_FUNCTIONS * (len(CHANGES) * len(CHOOSING) + len(JUDGING))
    assert (run.status, run.budget, len(requests)) == ("finished", n, n)
    assert {r.evaluation.status for r in requests} == {"done"}
    assert outcomes["done"] == n
    assert set(logged.values()) == {1}


def check(document):
    """Compares the document with what the workers' scores and SciPy say."""
    best = {}
    for function in document["functions"]:
        name = function["function"]
        tried = {c: np.mean([score_with(name, c, seed) for seed in CHOOSING]) for c in CHANGES}
        assert function["tried"] == pytest.approx(tried)
        best[name] = max(CHANGES, key=tried.get)
        assert function["recipe_change"] == best[name]
    judged = {name: [score_with(name, change, seed) for seed in JUDGING] for name, change in best.items()}
    baselines = [each["function"] for each in document["functions"] if each["baseline"]]
    assert document["best_baseline"] == max(baselines, key=lambda name: np.mean(judged[name]))
    assert (document["judge"], document["reference"]) == ("test", "relu(x)")
    winners = [each for each in document["functions"] if not each["baseline"]]
    p_values = {}
    for function in winners:
        scores, relu = judged[function["function"]], judged["relu(x)"]
        test = stats.ttest_rel(scores, relu)
        interval = test.confidence_interval(0.95)
        p_values[function["function"]] = test.pvalue
        assert function["gain"] == pytest.approx(np.mean(scores) - np.mean(relu))
        assert (function["gain_low"], function["gain_high"]) == (
            pytest.approx(interval.low),
            pytest.approx(interval.high),
        )
        over_best = np.mean(scores) - np.mean(judged[document["best_baseline"]])
        assert function["over_best"] == pytest.approx(over_best)
        assert 0 <= function["low"] <= function["high"] <= 1
    # Holm's correction of two p-values: the smaller one counts twice, and the larger one is no smaller than that.
    small, large = sorted(p_values, key=p_values.get)
    p = {each["function"]: each["p"] for each in winners}
    assert p[small] == pytest.approx(min(1, 2 * p_values[small]))
    assert p[large] == pytest.approx(max(p_values[large], p[small]))
    beats = [each for each in winners if each["gain"] > 0 and each["p"] < 0.05]
    assert document["winner"] == (beats[0]["function"] if beats else None)
    assert document["verdict"].endswith("at each one's best rate, 3 seeds")
