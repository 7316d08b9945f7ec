"""Read a benchmark in this package's own format as the entries that the store imports: trainings and spectra.

The format records neither why a training diverged nor whether a NaN metric is missing, so NaN metrics count as missing.
Outputs are left out: they follow from the functions. Spectra come in the compact form that a search computes, as exact
as in the file (see `analysis.packing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from aquasurf_ray.analysis import Benchmark, BenchmarkError, load_benchmark
from aquasurf_ray.store import BenchmarkEntry, BenchmarkFileError, EvaluationResult, TaskMetric
from aquasurf_ray.store.records.features import Fisher

_OF_METRIC = {
    "train_score": "train_score",
    "train_loss": "train_loss",
    "val_loss": "val_loss",
    "test_loss": "test_loss",
}
_ACCURACIES = {"score": "val_accuracy", "test_score": "test_accuracy", "train_score": "train_accuracy"}


def read_own(path: Path, metric: TaskMetric) -> Benchmark:
    """Return the benchmark in a Parquet file.

    Raises:
        BenchmarkFileError: the file is not a benchmark or is damaged, or its metric is not the task's.
    """
    try:
        benchmark = load_benchmark(path)
    except BenchmarkError as error:
        raise BenchmarkFileError(str(error)) from None
    if (benchmark.metric, benchmark.higher_is_better) != (metric.name, metric.higher_is_better):
        raise BenchmarkFileError(
            f"'{path.name}' is judged by {benchmark.metric}, the task by {metric.name}; name a task with that metric"
        )
    return benchmark


def entries(benchmark: Benchmark) -> Iterator[tuple[int, BenchmarkEntry]]:
    """Yield each training with its seed, function by function."""
    seeds = _seeds(benchmark)
    for i, j in zip(*benchmark.trained.nonzero(), strict=True):
        name = benchmark.functions[i]
        place = f"function {name!a:.60}"
        yield seeds[j], BenchmarkEntry(name, _result(benchmark, i, j), benchmark.aliases[i], place=place)


def spectra(benchmark: Benchmark) -> Iterator[tuple[str, Fisher, bytes]]:
    """Yield the function, the kind of Fisher information and the stored form of every spectrum."""
    for kind, features in benchmark.spectra.items():
        for name, feature in zip(benchmark.functions, features, strict=True):
            if feature is not None:
                yield name, cast(Fisher, kind), feature.to_bytes()


def _seeds(benchmark: Benchmark) -> list[int]:
    """Return the seeds that the file records, or else 0, 1, ..."""
    recorded = benchmark.provenance.get("seeds")
    plain = list(range(benchmark.n_seeds))
    if isinstance(recorded, list) and len(set(recorded)) == len(plain) and all(type(seed) is int for seed in recorded):
        return recorded
    return plain


def _result(benchmark: Benchmark, i: int, j: int) -> EvaluationResult:
    tables = {"score": benchmark.seed_scores, "test_score": benchmark.test_scores, "seconds": benchmark.seconds}
    tables |= {
        column: benchmark.other_metrics[name] for name, column in _OF_METRIC.items() if name in benchmark.other_metrics
    }
    metrics: dict[str, Any] = {column: _number(values[i, j]) for column, values in tables.items()}
    if benchmark.metric == "accuracy":
        metrics |= {accuracy: metrics.get(score) for score, accuracy in _ACCURACIES.items()}
    score = metrics.pop("score")
    if score is not None and math.isfinite(score):
        return EvaluationResult("done", score=score, **metrics)
    return EvaluationResult("diverged", reason="the benchmark has no score for it", **metrics)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
