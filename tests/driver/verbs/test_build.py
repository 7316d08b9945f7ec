"""A build trains a whole space with every seed, exactly once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest
from scripted_worker import ScriptedWorker, score_of
from store_reading import attempts_of

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
from aquasurf_ray.driver import build_benchmark, resume
from aquasurf_ray.driver.errors import Interrupted
from aquasurf_ray.driver.events import EvaluationEnded
from aquasurf_ray.store import Store

pytestmark = pytest.mark.usefixtures("ray_here")

NAMES = ("relu(x)", "tanh(tanh(x))", "erf(tanh(x))", "arctan(tanh(x))", "sigmoid(tanh(x))")
N_FUNCTIONS = len(BASELINES) + len(NAMES) - 1  # relu is a baseline


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    (tmp_path / "space.yaml").write_text("name: own\nnames:\n" + "".join(f"  - {name}\n" for name in NAMES))
    return f"sqlite:///{tmp_path}/runs.db"


class Impatient:
    """A callback that stops the run, as Ctrl-C does, after so many trainings."""

    def __init__(self, n):
        self.n, self.stopped = n, False

    def on_event(self, event):
        if isinstance(event, EvaluationEnded) and event.number >= self.n and not self.stopped:
            self.stopped = True
            os.kill(os.getpid(), signal.SIGINT)


def built(here, **options):
    where = {"space": "space.yaml", "workers": 1, "store": here, "name": "b", **options}
    return build_benchmark("digits", worker=ScriptedWorker, **where)


@pytest.mark.slow
def test_an_interrupted_build_resumes_to_the_exact_number_and_trains_nothing_twice(here, tmp_path):
    with pytest.raises(Interrupted):
        built(here, seeds=2, fisher="sampled,empirical", callbacks=[Impatient(5)])
    with Store.open(here) as store:
        before = {w.evaluation.id: w.evaluation.finished_at for w in finished(store)}
        claimed = [w.evaluation.id for w in store.snapshot(store.run("b").id).evaluations]
        begun = {number for number in claimed if attempts_of(store, number)}
        assert 5 <= len(before) < 2 * N_FUNCTIONS
        assert len(begun - before.keys()) <= 1, "one worker has one training in hand when the driver stops"
    assert resume("b", store=here, worker=ScriptedWorker).evaluations == 2 * N_FUNCTIONS
    with Store.open(here) as store:
        run, requests = store.run("b"), finished(store)
        assert (run.kind, run.status, run.budget) == ("build", "finished", 2 * N_FUNCTIONS)
        assert before.items() <= {w.evaluation.id: w.evaluation.finished_at for w in requests}.items()
        assert Counter(w.evaluation.seed for w in requests) == {0: N_FUNCTIONS, 1: N_FUNCTIONS}
        tries = {w.evaluation.id: len(attempts_of(store, w.evaluation.id)) for w in requests}
        assert {tries[number] for number in tries.keys() - (begun - before.keys())} == {1}
        ids = [function.id for function in store.candidates(run.id)]
        for fisher in ("sampled", "empirical"):
            assert set(store.spectra(run.task_id, ids, fisher=fisher)) == set(ids)
        assert store.costs(run.task_id, ids, "cpu") == {}
    assert built(here, seeds=2, fisher="sampled,empirical", output=tmp_path / "b.json").evaluations == 2 * N_FUNCTIONS
    assert len(json.loads((tmp_path / "b.json").read_text())) == N_FUNCTIONS
    built(here, seeds=2, fisher="sampled,empirical", output=tmp_path / "b.parquet")
    benchmark = load_benchmark(tmp_path / "b.parquet")
    assert (len(benchmark), benchmark.seed_scores.shape, len(benchmark.baselines)) == (N_FUNCTIONS, (N_FUNCTIONS, 2), 8)
    relu = benchmark.functions.index("relu(x)")
    assert benchmark.seed_scores[relu].tolist() == [score_of("relu(x)", seed) for seed in (0, 1)]
    assert set(benchmark.spectra) == {"sampled", "empirical"}
    other = built(here, name="other", seeds=1)
    assert (other.evaluations, other.reused) == (N_FUNCTIONS, N_FUNCTIONS), "what one run has trained no other trains"
    assert other.best[1] == max(score_of(name) for name in {*NAMES, *BASELINES})


def finished(store):
    return [w for w in store.snapshot(store.run("b").id).evaluations if w.evaluation.finished]
