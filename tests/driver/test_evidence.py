"""Experiments over Ray: what several of them have in common is simulated once."""

from __future__ import annotations

from made_benchmark import made_benchmark

from aquasurf_ray.analysis.comparison import compare
from aquasurf_ray.analysis.experiments import Experiment, Variant
from aquasurf_ray.driver import evidence
from aquasurf_ray.driver.replay import ReplayOrder, replay


def test_what_experiments_share_is_simulated_once(ray_here, monkeypatch):
    made, orders = made_benchmark(40), []

    def counted(benchmark, order, **options):
        orders.append(order)
        return replay(benchmark, order, **options)

    monkeypatch.setattr(evidence, "replay", counted)
    random, random_2, evolution = Variant("random"), Variant("random", 2), Variant("evolution")
    experiments = {
        "rivals": Experiment("Which?", (random, evolution)),
        "parallel": Experiment("How many?", (random, random_2)),
    }
    order = ReplayOrder(("random",), 5, 6, seed=3, candidates=20)
    found = dict(evidence.run_experiments(made, experiments, order))
    assert [(o.policies, o.workers, o.seed) for o in orders] == [
        (("random", "evolution"), 1, 3),
        (("random",), 2, 3),
    ]
    assert list(found["parallel"].measures) == ["random", "random, 2 workers"]
    at_once = compare(replay(made, orders[0]), made, "random")
    assert found["rivals"].tests == at_once.tests
