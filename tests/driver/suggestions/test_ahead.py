"""Many simulated workers in one process, and suggestions that are made ahead for them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_pool import LocalPool

from aquasurf_ray.activations import fingerprint
from aquasurf_ray.analysis.benchmarks.parquet import write_benchmark
from aquasurf_ray.driver.candidates import candidate_rows, load_space
from aquasurf_ray.driver.cluster.capacity import Workers
from aquasurf_ray.driver.cluster.slot import SpectraJob
from aquasurf_ray.driver.events import Events
from aquasurf_ray.driver.run.session import execute
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.run.spec import RunSpec
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.simulated_worker import Failures, Simulation, simulated
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions import ahead as suggesting_ahead
from aquasurf_ray.driver.suggestions.ahead import AheadSuggester
from aquasurf_ray.driver.verbs.create_run import create_run
from aquasurf_ray.store import FunctionRecord, Store
from aquasurf_ray.surrogate.policy import RandomPolicy
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory, synthetic_benchmark):
    path = tmp_path_factory.mktemp("many") / "synthetic.parquet"
    write_benchmark(synthetic_benchmark, path)
    return str(path)


class FakeTime:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def sleep(self, seconds):
        self.now += seconds


def pool_of(benchmark_file, n, **simulation):
    time = FakeTime()
    worker = simulated(Simulation(benchmark=benchmark_file, **{"training_seconds": 60.0, **simulation}))
    pool = LocalPool(WorkerSettings("t"), n, worker=worker, clock=lambda: time.now, sleep=time.sleep)
    pool.poll(1.0)
    return pool, time


def job(function="relu(x)"):
    return TrainingJob(function, fingerprint(function), 0)


def test_a_job_is_answered_after_its_seconds_on_the_pools_clock(benchmark_file):
    pool, time = pool_of(benchmark_file, 3, spectrum_seconds=5.0)
    assert len(pool.idle()) == 3
    pool.submit(pool.slots[0], job(), None)
    pool.submit(pool.slots[1], SpectraJob(("relu(x)", "elu(x)")), None)
    (spectra,) = pool.poll(30.0)
    assert (spectra.slot, time.now) == (2, 110.0)
    assert pool.poll(30.0) == []
    (training,) = pool.poll(30.0)
    assert (training.slot, time.now, training.reply.status) == (1, 160.0, "done")
    assert len(pool.idle()) == 3


def test_faults_end_one_worker_and_a_hanging_one_passes_its_limit(benchmark_file):
    pool, _ = pool_of(benchmark_file, 2, trainings=Failures(crash=1.0))
    pool.submit(pool.slots[0], job(), None)
    (outcome,) = pool.poll(60.0)
    assert "a simulated worker died" in outcome.fault
    pool.poll(1.0)
    assert len(pool.idle()) == 2
    pool, _ = pool_of(benchmark_file, 1, trainings=Failures(hang=1.0))
    pool.submit(pool.slots[0], job(), limit=90.0)
    outcomes = [outcome for _ in range(4) for outcome in pool.poll(30.0)]
    assert ["time limit of 90 s passed" in outcome.fault for outcome in outcomes] == [True]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_search_of_forty_workers_meets_its_budget_with_suggestions_computed_ahead(benchmark_file, tmp_path):
    config = make_config({"task": "digits", "name": "many", "candidates": 100, "evaluations": 80, "workers": 40})
    task, space = load_task("digits"), load_space(config.space)
    failing = Simulation(benchmark=benchmark_file, scale=100.0, trainings=Failures(crash=0.1), training_seconds=10.0)
    with Store.open(f"sqlite:///{tmp_path}/many.db") as store, StopSignal() as stop:
        rows = candidate_rows(space, 100, 0)
        run = create_run(store, config, task, "search", "many", config.identity(), rows)
        order = RunSpec(run, config, task, True, 80, simulated(failing), make_pool=LocalPool)
        result = execute(store, order, Workers(40, 1.0, 0.0), Events(), stop)
        assert result.evaluations + result.failed == 88
        requests = store.snapshot(run.id).evaluations
        assert len({request.evaluation.function_id for request in requests}) == len(requests) == 88
        assert Counter(request.origin for request in requests) == {"baseline": 8, "suggestion": 80}
        reasons = [request.suggestion for request in requests if request.origin == "suggestion"]
        assert all(reason.embedding_version and reason.rank >= 1 for reason in reasons)
        assert len({reason.embedding_version for reason in reasons}) >= 2, "the candidates grew"
        epochs = [len(store.curve(w.evaluation.id)) for w in requests if w.evaluation.status == "done"]
        assert set(epochs) == {8}


class Calls:
    """A method of a Ray actor, called in this process; what it is asked is kept."""

    def __init__(self, method):
        self.asked, self._method = [], method

    def remote(self, *arguments):
        self.asked.append(arguments)
        return self._method(*arguments)


class Process:
    """In the place of a `SuggestionProcess`."""

    def __init__(self):
        self.synthetic_benchmark, self.suggest = 0, Calls(self._suggest)

    def _suggest(self, policy_source, results, turns, pending):
        ((n, allowed),) = turns
        if policy_source is not None:
            self._policy, self.told = policy_source.policy(), []
            self.synthetic_benchmark += 1
        self.told += results
        return self._policy.suggest_batch(n, pending, allowed)


class GrowingSurrogate:
    """Has what policies for some numbers of candidates take."""

    def __init__(self, *ready):
        self.ready = set(ready)

    def prepare(self, n):
        return None

    def policy_source(self, n):
        return SimpleNamespace(policy=lambda: RandomPolicy(n)) if n in self.ready else None

    def close(self):
        return None


@pytest.fixture
def ahead(monkeypatch):
    """A suggester for 200 candidates of which the first 50 are ready, its surrogate, its process and its history."""
    process = Process()
    here = SimpleNamespace(wait=lambda futures, timeout: (futures, []), get=lambda future: future, kill=lambda _: None)
    monkeypatch.setattr(suggesting_ahead, "ray", here)
    monkeypatch.setattr(suggesting_ahead, "SuggestionProcess", SimpleNamespace(remote=lambda: process))
    history = History([FunctionRecord(i, f"f{i}", f"f{i}(x)", 1) for i in range(200)])
    surrogate = GrowingSurrogate(50)
    context = SimpleNamespace(config=SearchConfig(task="t", features="outputs"), history=history)
    synthetic_benchmark = AheadSuggester(context, surrogate, budget=60)
    return synthetic_benchmark, surrogate, process, history


def take(suggester, history, n, status="running"):
    """Has up to n suggestions trained."""
    some = suggester.suggest_batch(n)
    for suggestion in some:
        number, name = suggestion.candidate, f"f{suggestion.candidate}(x)"
        history.evaluations.put(EvaluationState(number, number, name, 0, "suggestion", status, 0.5))
    return [suggestion.candidate for suggestion in some]


def cycle(suggester):
    """What a loop does in two turns: a batch is begun and taken up."""
    suggester.prepare()
    suggester.prepare()


def test_ready_suggestions_are_as_many_as_idle_workers_and_of_the_plans_prefix(ahead):
    suggester, _, process, history = ahead
    assert suggester.suggest_batch(5) == []
    suggester.record_idle(30)
    suggester.prepare()
    assert suggester.is_computing
    suggester.prepare()
    assert [n for n, _ in process.suggest.asked[0][2]] == [8], "the next ones are of a larger prefix"
    assert len(take(suggester, history, 30)) == 8
    assert max(e.function_id for e in history.evaluations.values()) < 50


def test_while_the_next_prefix_is_not_ready_only_workers_without_any_work_get_suggestions_of_the_last(ahead):
    suggester, surrogate, process, history = ahead
    cycle(suggester)
    taken = []
    while len(taken) < 8:
        taken += take(suggester, history, 8)
        cycle(suggester)
    suggester.record_idle(0)
    cycle(suggester)
    assert take(suggester, history, 8) == [], "the others compute spectra"
    suggester.record_idle(3)
    cycle(suggester)
    early = take(suggester, history, 3)
    assert len(early) == 3
    assert max(early) < 50
    assert not set(early) & set(taken)
    surrogate.ready.add(100)
    cycle(suggester)
    cycle(suggester)
    assert process.synthetic_benchmark == 2


def test_no_more_is_suggested_than_the_budget_has_left_and_results_are_passed_on_once(ahead):
    suggester, surrogate, process, history = ahead
    surrogate.ready |= {100, 200}
    suggester.record_idle(500)
    n = 0
    while n < 60:
        cycle(suggester)
        n += len(take(suggester, history, 1000, status="done"))
    cycle(suggester)
    assert (n, take(suggester, history, 1000)) == (60, [])
    cycle(suggester)
    told = [candidate for candidate, _, _ in process.told]
    assert len(told) == len(set(told))
    assert set(told) <= {evaluation.function_id for evaluation in history.evaluations.values()}


def test_a_batch_has_the_suggestions_of_every_turn_and_none_twice():
    process = suggesting_ahead.SuggestionProcess.__ray_actor_class__()
    policy_source, even = SimpleNamespace(policy=lambda: RandomPolicy(12)), np.arange(12) % 2 == 0
    batch = process.suggest(policy_source, [], [(3, ~even), (4, even)], frozenset({0, 1}))
    candidates = [suggestion.candidate for suggestion in batch]
    assert [candidate % 2 for candidate in candidates] == [1, 1, 1, 0, 0, 0, 0]
    assert len(set(candidates) - {0, 1}) == 7
    again = process.suggest(
        None, [(0, 0.5, 1), (1, 0.5, 2)], [(3, np.ones(12, dtype=bool)), (9, even)], frozenset(candidates)
    )
    assert sorted(suggestion.candidate for suggestion in again) == sorted(set(range(2, 12)) - set(candidates))
