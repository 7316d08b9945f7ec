"""A benchmark of this program's own format as what the store imports: a training of each seed, and the spectra.

The format tells neither why a training diverged nor an absent metric from one that is no number, so metrics that are
no number are not there. Outputs are left out: they follow from the functions. Spectra come in the compact form that a
search computes, as exact as the file has them (see `analysis.packing`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from aquasurf_ray.analysis import Benchmark, BenchmarkError, load_benchmark
from aquasurf_ray.store import BenchmarkEntry, BenchmarkFileError, EvaluationResult, TaskMetric
from aquasurf_ray.store.records.runs import Fisher

_OF_METRIC = {
    "train_score": "train_score",
    "train_loss": "train_loss",
    "val_loss": "val_loss",
    "test_loss": "test_loss",
}
_ACCURACIES = {"score": "val_accuracy", "test_score": "test_accuracy", "train_score": "train_accuracy"}


def read_own(path: Path, metric: TaskMetric) -> Benchmark:
    """The benchmark in a Parquet file.

    Raises:
        BenchmarkFileError: no benchmark, damaged, or judged by another metric than the task is.
    """
    try:
        benchmark = load_benchmark(path)
    except BenchmarkError as error:
        raise BenchmarkFileError(str(error)) from None
    if (benchmark.metric, benchmark.higher_is_better) != (metric.name, metric.higher_is_better):
        raise BenchmarkFileError(f"'{path.name}' is judged by {benchmark.metric}, the task by {metric.name}")
    return benchmark


def entries(benchmark: Benchmark) -> Iterator[tuple[int, BenchmarkEntry]]:
    """Each training with its seed, by function."""
    seeds = _seeds(benchmark)
    for i, j in zip(*benchmark.trained.nonzero(), strict=True):
        name = benchmark.functions[i]
        place = f"function {name!a:.60}"
        yield seeds[j], BenchmarkEntry(name, _result(benchmark, i, j), benchmark.aliases[i], place=place)


def spectra(benchmark: Benchmark) -> Iterator[tuple[str, Fisher, bytes]]:
    """Function, kind of Fisher information and stored form of every spectrum."""
    for kind, features in benchmark.spectra.items():
        for name, feature in zip(benchmark.functions, features, strict=True):
            if feature is not None:
                yield name, cast(Fisher, kind), feature.to_bytes()


def _seeds(benchmark: Benchmark) -> list[int]:
    """Those that the file says it was trained with, else 0, 1, ..."""
    said = benchmark.provenance.get("seeds")
    plain = list(range(benchmark.n_seeds))
    if isinstance(said, list) and len(set(said)) == len(plain) and all(type(seed) is int for seed in said):
        return said
    return plain


def _result(benchmark: Benchmark, i: int, j: int) -> EvaluationResult:
    tables = {"score": benchmark.seed_scores, "test_score": benchmark.test_scores, "seconds": benchmark.seconds}
    tables |= {column: benchmark.figures[name] for name, column in _OF_METRIC.items() if name in benchmark.figures}
    metrics: dict[str, Any] = {column: _number(values[i, j]) for column, values in tables.items()}
    if benchmark.metric == "accuracy":
        metrics |= {accuracy: metrics.get(score) for score, accuracy in _ACCURACIES.items()}
    score = metrics.pop("score")
    if score is not None and math.isfinite(score):
        return EvaluationResult("done", score=score, **metrics)
    return EvaluationResult("diverged", reason="the benchmark has no score of it", **metrics)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
