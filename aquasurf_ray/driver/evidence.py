"""Runs experiments over Ray, one after the other, and simulates what several of them share only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from aquasurf_ray.analysis.benchmark import Benchmark
from aquasurf_ray.analysis.comparison import Comparison, compare
from aquasurf_ray.analysis.experiments import Experiment, Variant
from aquasurf_ray.analysis.simulation import Trace
from aquasurf_ray.driver.cluster import connected
from aquasurf_ray.driver.replay import Progress, ReplayOrder, replay


def run_experiments(
    benchmark: Benchmark,
    experiments: Mapping[str, Experiment],
    order: ReplayOrder,
    *,
    address: str | None = None,
    on_progress: Progress | None = None,
) -> Iterator[tuple[str, Comparison]]:
    """Each experiment's name and comparison, as soon as it is there.

    Args:
        benchmark: what answers.
        experiments: by name.
        order: runs, evaluations, seed and what is observed; its policies and workers are those of the experiments.
        address, on_progress: see `replay`; progress is of one replay, the runs of an experiment with equal workers.

    Raises:
        BadUse, RunFailed, KeyboardInterrupt: as `replay` does.
    """
    known: dict[Variant, list[Trace]] = {}
    with connected(address):
        for name, experiment in experiments.items():
            for workers in sorted({variant.workers for variant in experiment.variants}):
                new = [v for v in experiment.variants if v.workers == workers and v not in known]
                if new:
                    part = replace(order, policies=tuple(variant.policy for variant in new), workers=workers)
                    traces = replay(benchmark, part, on_progress=on_progress)
                    known |= {variant: traces[variant.policy] for variant in new}
            runs = {variant.label: known[variant] for variant in experiment.variants}
            yield name, compare(runs, benchmark, experiment.reference)
