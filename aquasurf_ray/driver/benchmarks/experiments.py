"""Run experiments over Ray, one after the other; runs that several experiments share are simulated only once.

Run number i of a search algorithm does not depend on the number of runs: an experiment with fewer runs than an earlier
one takes the first of them, and an experiment with more simulates only the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.replay.comparison import Comparison, compare
from aquasurf_ray.analysis.replay.experiments import Experiment, Variant
from aquasurf_ray.analysis.replay.simulation import Trace
from aquasurf_ray.driver.benchmarks.replay import Progress, ReplayOrder, replay
from aquasurf_ray.driver.cluster.connection import connected

Known = dict[Variant, list[Trace]]


def run_experiments(
    benchmark: Benchmark,
    experiments: Mapping[str, Experiment],
    order: ReplayOrder,
    *,
    runs: Mapping[str, int] | None = None,
    address: str | None = None,
    on_progress: Progress | None = None,
) -> Iterator[tuple[str, Comparison]]:
    """Yield each experiment's name and comparison, as soon as it is finished.

    Args:
        benchmark: the benchmark that answers instead of trainings.
        experiments: the experiments, by name.
        order: runs, evaluations, seed and what is observed; its policies and workers are replaced by each experiment's.
        runs: the number of runs of experiments that differ from the order's, by name.
        address, on_progress: see `replay`; progress covers one replay: runs with an equal number of workers.

    Raises:
        BadUse, RunFailed, KeyboardInterrupt: as `replay` does.
    """
    known: Known = {}
    with connected(address):
        for name, experiment in experiments.items():
            wanted = replace(order, runs=(runs or {}).get(name, order.runs))
            # One replay for all variants with equal workers and equally many known runs: those share seeds.
            for workers, n_known in sorted({(v.workers, len(known.get(v, ()))) for v in experiment.variants}):
                if n_known >= wanted.runs:
                    continue
                new = [v for v in experiment.variants if (v.workers, len(known.get(v, ()))) == (workers, n_known)]
                part = replace(
                    wanted,
                    policies=tuple(variant.policy for variant in new),
                    workers=workers,
                    runs=wanted.runs - n_known,
                    seed=order.seed + n_known,
                )
                traces = replay(benchmark, part, on_progress=on_progress)
                for variant in new:
                    known[variant] = known.get(variant, []) + traces[variant.policy]
            found = {variant.label: known[variant][: wanted.runs] for variant in experiment.variants}
            yield name, compare(found, benchmark, experiment.reference)
