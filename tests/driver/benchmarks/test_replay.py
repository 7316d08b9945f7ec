"""Simulated searches over Ray are those of a loop, whatever the chunks; what goes wrong is told in a line."""

from __future__ import annotations

import os
import signal

import pytest
from own_policies import Broken, LastFirst, refused
from synthetic_benchmark import make_benchmark

from aquasurf_ray.analysis.replay.algorithms import make_policy
from aquasurf_ray.analysis.replay.simulation import simulate
from aquasurf_ray.driver.benchmarks.replay import ReplayOrder, replay
from aquasurf_ray.driver.errors import BadUse, RunFailed


@pytest.fixture(scope="module")
def synthetic_benchmark():
    return make_benchmark(40)


@pytest.mark.slow
def test_runs_are_those_of_a_loop_with_the_same_seeds(ray_here, synthetic_benchmark):
    order = ReplayOrder(("random", "evolution", "last"), 23, 6, workers=2, seed=5, own={"last": LastFirst})
    counted = []
    traces = replay(synthetic_benchmark, order, on_progress=lambda done, wanted: counted.append((done, wanted)))
    makers = {"last": LastFirst} | {
        name: lambda world, seed, name=name: make_policy(name, world, seed) for name in ("random", "evolution")
    }
    for name, make in makers.items():
        by_hand = [
            simulate(make(synthetic_benchmark, seed), synthetic_benchmark, 6, seed=seed, workers=2, observe="draw")
            for seed in range(5, 28)
        ]
        assert [run.order.tolist() for run in traces[name]] == [run.order.tolist() for run in by_hand]
        assert [run.finished_at.tolist() for run in traces[name]] == [run.finished_at.tolist() for run in by_hand]
    assert list(traces) == ["random", "evolution", "last"]
    assert counted[-1] == (69, 69)
    assert sorted(counted) == counted


@pytest.mark.slow
def test_every_policy_of_a_run_chooses_from_the_same_functions(ray_here, synthetic_benchmark):
    traces = replay(synthetic_benchmark, ReplayOrder(("random", "evolution"), 4, 6, candidates=10))
    drawn = [set(run.candidates.tolist()) for run in traces["random"]]
    assert drawn == [set(run.candidates.tolist()) for run in traces["evolution"]]
    assert {len(candidates) for candidates in drawn} == {10}
    assert len(set(map(frozenset, drawn))) == 4
    for run, candidates in zip(traces["evolution"], drawn, strict=True):
        assert set(run.order.tolist()) <= candidates


@pytest.mark.slow
def test_what_a_policy_raises_is_reported_in_one_line(ray_here, synthetic_benchmark):
    with pytest.raises(RunFailed, match="broken cannot be simulated: ZeroDivisionError: by hand") as failed:
        replay(synthetic_benchmark, ReplayOrder(("broken",), 2, 3, own={"broken": Broken}))
    assert "\n" not in str(failed.value)
    with pytest.raises(BadUse, match="mine: k is 0; nearest neighbours need at least 1"):
        replay(synthetic_benchmark, ReplayOrder(("mine",), 2, 3, own={"mine": refused}))


@pytest.mark.slow
def test_ctrl_c_ends_it(ray_here, synthetic_benchmark):
    before = signal.getsignal(signal.SIGINT)
    order = ReplayOrder(("random",), 40, 20)
    pressed = []

    def press(done, wanted):
        if not pressed:  # a second one might come when nobody expects it any more
            pressed.append(done)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        replay(synthetic_benchmark, order, on_progress=press)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"runs": 0}, "runs: at least one is needed, got 0"),
        ({"evaluations": -1}, "evaluations: at least one is needed, got -1"),
        ({"workers": 0}, "workers: at least one is needed, got 0"),
        ({"observe": "mean"}, "observe must be one of seed, draw, median, got 'mean'"),
        ({"candidates": -1}, "candidates: it must not be negative, got -1"),
        ({"seed": -1}, "seed: it must not be negative, got -1"),
        ({"policies": ()}, "no search algorithm given"),
        ({"policies": ("random", "tpe", "random")}, "search algorithm 'random' is given twice"),
    ],
)
def test_impossible_orders_are_refused(order, says):
    with pytest.raises(BadUse, match=says):
        ReplayOrder(**{"policies": ("random",), **order})


def test_more_evaluations_than_functions_are_refused_before_ray_starts(monkeypatch, synthetic_benchmark):
    monkeypatch.setattr(
        "aquasurf_ray.driver.benchmarks.replay.connected", lambda address: pytest.fail("Ray would start")
    )
    for candidates, says in ((0, ".* from 32 functions besides .*, got 33"), (20, ".* from 20 functions .*, got 33")):
        with pytest.raises(BadUse, match=f"evaluations: {says}"):
            replay(synthetic_benchmark, ReplayOrder(("random",), 1, 33, candidates=candidates))
    with pytest.raises(BadUse, match="candidates: benchmark 'synthetic' has 32 to train, got 33"):
        replay(synthetic_benchmark, ReplayOrder(("random",), 1, 3, candidates=33))
