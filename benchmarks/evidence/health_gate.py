"""The functions that the health gate refuses, held against their scores on whole spaces.

    python benchmarks/evidence/health_gate.py BENCHMARK ... > health_gate.jsonl

A benchmark's functions were trained without the gate. For each benchmark, prints one JSON document a line: how many of
its functions the gate refuses for each reason with the benchmark's first seed, how many of these have a score with that
seed, and the best one; and how many functions diverged in all. A minute for each benchmark on one core.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from aquasurf_ray.activations import activation_of
from aquasurf_ray.analysis import Benchmark, load_benchmark
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.health import KINDS, Unhealthy, check_health


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmarks", nargs="+", help="benchmarks of built-in tasks, by name or file")
    torch.set_num_threads(1)
    for benchmark in map(load_benchmark, parser.parse_args().benchmarks):
        print(json.dumps(measured(benchmark)), flush=True)


def measured(benchmark: Benchmark) -> dict[str, object]:
    """Return the document of one benchmark."""
    task = load_task(benchmark.name.removeprefix("act-bench-"))
    feed = TrainingFeed(task, task.splits(), torch.device("cpu"), seed=0)
    scores = benchmark.seed_scores[:, 0]
    refused: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for function, score in zip(benchmark.functions, scores, strict=True):
        try:
            check_health(feed, activation_of(function))
        except Unhealthy as error:
            refused[str(error).partition(":")[0]].append(score)
    return {
        "benchmark": benchmark.name,
        "functions": len(benchmark),
        "diverged": int(np.isnan(scores).sum()),
        "refused": {kind: _summary(np.array(of_kind)) for kind, of_kind in refused.items()},
    }


def _summary(scores: np.ndarray) -> dict[str, float | None]:
    known = scores[np.isfinite(scores)]
    return {"functions": len(scores), "with_score": len(known), "best": float(known.max()) if len(known) else None}


if __name__ == "__main__":
    main()
