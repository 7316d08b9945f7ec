"""Simulated workers: they have a real worker's methods, answer from the benchmark, and fail as drawn."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from aquasurf_ray.activations import BASELINES, fingerprint
from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark, write_benchmark
from aquasurf_ray.driver import search
from aquasurf_ray.driver.simulated_worker import (
    AttemptRecords,
    Failures,
    SimulatedFault,
    SimulatedWorker,
    Simulation,
    simulated,
)
from aquasurf_ray.driver.simulated_worker.answers import Answers
from aquasurf_ray.store import Store
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.engine.stopping import StopRule
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory, synthetic_benchmark):
    """A benchmark of sixty functions in a file, as workers read it."""
    path = tmp_path_factory.mktemp("simulated") / "synthetic.parquet"
    write_benchmark(synthetic_benchmark, path)
    return str(path)


@pytest.fixture
def answers(benchmark_file):
    return Answers(Simulation(benchmark=benchmark_file, scale=10.0, epochs=4))


def job(function="relu(x)", seed=0, rule=None):
    return TrainingJob(function, fingerprint(function), seed, stop_rule=rule)


def worker_of(benchmark_file, storage=None, **simulation):
    chosen = {"benchmark": benchmark_file, "scale": 1e6, **simulation}
    return simulated(Simulation(**chosen))(WorkerSettings(task="digits", storage=storage))


def test_it_has_a_real_workers_methods_in_the_same_groups():
    def methods(kind):
        public = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}
        return {n: getattr(m, "__ray_concurrency_group__", None) for n, m in public.items() if callable(m)}

    assert methods(SimulatedWorker) == methods(Worker)
    assert set(methods(Worker).values()) == {"work", "watch"}


def test_a_training_has_the_benchmarks_scores_and_scaled_seconds(answers, synthetic_benchmark):
    for row, function in enumerate(synthetic_benchmark.functions):
        for seed in range(synthetic_benchmark.n_seeds):
            result, score = answers.training(job(function, seed)), synthetic_benchmark.seed_scores[row, seed]
            if math.isnan(score):
                assert (result.status, result.score, result.epochs) == ("diverged", None, ())
                continue
            assert (result.status, result.score) == ("done", score)
            assert result.test_score == synthetic_benchmark.test_scores[row, seed]
            assert result.train_loss == pytest.approx(synthetic_benchmark.other_metrics["train_loss"][row, seed])
            assert result.seconds == pytest.approx(synthetic_benchmark.seconds[row, seed] / 10)
            scores = [epoch.val_score for epoch in result.epochs]
            assert len(scores) == 4
            assert scores == sorted(scores)
            assert scores[-1] == score


def test_a_stop_rule_ends_the_curve_where_it_says(answers):
    result = answers.training(job(rule=StopRule(((2, 2.0),))))
    assert (result.status, len(result.epochs)) == ("done", 2)
    assert result.stopped_early.startswith("score")
    assert result.score == result.epochs[-1].val_score


def test_a_function_that_the_benchmark_lacks_is_answered_like_one_that_it_has(answers, synthetic_benchmark):
    unknown = "tanh(sigmoid(tanh(sigmoid(x))))"
    assert unknown not in synthetic_benchmark.functions
    result, again = answers.training(job(unknown)), answers.training(job(unknown))
    assert result == again
    row = next(
        i for i in range(len(synthetic_benchmark)) if answers.training(job(synthetic_benchmark.functions[i])) == result
    )
    twin = answers.spectrum(synthetic_benchmark.functions[row], "sampled")
    assert answers.spectrum(unknown, "sampled").feature == twin.feature


def test_spectra_and_costs_are_the_benchmarks(answers, benchmark_file):
    synthetic_benchmark = load_benchmark(benchmark_file)
    for row, function in enumerate(synthetic_benchmark.functions):
        feature = synthetic_benchmark.spectra["empirical"][row]
        reply = answers.spectrum(function, "empirical")
        assert (reply.status == "done") == (feature is not None)
        assert reply.feature == (feature and feature.to_bytes())
    relu, elu = (
        synthetic_benchmark.seconds[synthetic_benchmark.functions.index(f)].mean() for f in ("relu(x)", "elu(x)")
    )
    assert answers.cost("elu(x)").cost.time_ratio == pytest.approx(elu / relu)
    assert answers.cost("relu(x)").cost.time_ratio == 1.0


def test_faults_come_as_often_as_they_are_told_to_and_always_the_same():
    simulation = Simulation(trainings=Failures(crash=0.2, error=0.1, hang=0.05), epochs=5, seed=3)
    jobs = [TrainingJob(f"f{i}(x)", str(i), i % 3) for i in range(4000)]
    drawn = [simulation.training_fault(each, 1) for each in jobs]
    counts = Counter(fault and fault[0] for fault in drawn)
    assert [counts[name] / 4000 for name in ("crash", "error", "hang")] == pytest.approx([0.2, 0.1, 0.05], abs=0.02)
    assert {epoch for fault in drawn if fault for epoch in fault[1:]} == {1, 2, 3, 4, 5}
    assert drawn == [simulation.training_fault(each, 1) for each in jobs]
    assert drawn != [simulation.training_fault(each, 2) for each in jobs]
    with pytest.raises(ValueError, match="at most 1 together"):
        Failures(crash=0.9, error=0.2)


def test_an_error_is_raised_and_the_next_attempt_resumes_after_the_last_epoch(benchmark_file, tmp_path):
    failing = {"trainings": Failures(error=0.5), "epochs": 6}
    simulation = Simulation(benchmark=benchmark_file, **failing)
    chosen = next(
        job(f)
        for f in BASELINES
        if (first := simulation.training_fault(job(f), 1)) and first[1] > 1 and not simulation.training_fault(job(f), 2)
    )
    with pytest.raises(SimulatedFault):
        worker_of(benchmark_file, str(tmp_path), **failing).train(chosen)
    failed_in = simulation.training_fault(chosen, 1)[1]
    second = worker_of(benchmark_file, str(tmp_path), **failing)
    assert AttemptRecords(str(tmp_path)).begin(chosen) == (2, failed_in - 1)
    AttemptRecords(str(tmp_path)).keep(chosen, 1, failed_in - 1)
    result = second.train(chosen)
    assert (result.status, len(result.epochs)) == ("done", 6)
    assert second.progress() == result.epochs[-1]
    second.forget(chosen)
    assert AttemptRecords(str(tmp_path)).begin(chosen) == (1, 0)


def test_a_crash_is_the_end_of_the_process(benchmark_file):
    code = f"""
from aquasurf_ray.driver.simulated_worker import *
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings
worker = simulated(Simulation(benchmark={benchmark_file!r}, spectra=Failures(crash=1.0)))(WorkerSettings(task="digits"))
import json, sys; print(json.dumps(["torch" in sys.modules]), flush=True)
worker.spectra(["relu(x)"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout) == [False]


def test_slow_starts_are_counted_over_all_workers_of_a_storage_folder(tmp_path):
    assert [AttemptRecords(str(tmp_path)).next_start() for _ in range(3)] == [1, 2, 3]
    slow = [Simulation(slow_starts=0.25, slow_start_seconds=9.0).start_seconds(n) for n in range(1, 2001)]
    assert set(slow) == {0.0, 9.0}
    assert np.mean(slow) / 9.0 == pytest.approx(0.25, abs=0.04)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_search_of_simulated_workers_meets_its_budget_through_faults(benchmark_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/runs.db"
    failing = Simulation(benchmark=benchmark_file, scale=1e4, trainings=Failures(error=0.15), seed=2)
    options = {"candidates": 20, "evaluations": 2, "workers": 1, "cpus_per_worker": 0.4, "store": url}
    result = search("digits", worker=simulated(failing), max_attempts=5, **options)
    assert result.evaluations == 10
    with Store.open(url, create=False) as store:
        found = store.snapshot(store.run(result.name).id).evaluations
    assert Counter(w.evaluation.status in ("done", "diverged") for w in found) == {True: 10}
    assert max(w.evaluation.attempts for w in found) > 0
