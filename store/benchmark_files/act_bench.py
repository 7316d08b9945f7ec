"""The Act-Bench file format: one JSON object, a function's name to its metrics (section 5 of the paper's data set).

Missing losses and accuracies, and losses that are not finite, are the bare words NaN and Infinity, as Python's json
writes them. Several seeds of a function become the median of each metric; a seed without the metric counts as worse
than all others. A spectrum is written as the numbers that the caller's `cdf` returns for its stored feature.

Trainings that were stopped early are not written: the format cannot mark them, and their metrics are not comparable
with those of whole trainings. If the task's metric is accuracy, the scores are written as the accuracies: studies have
no others. If it is not, the accuracies are NaN, and the three scores are written in addition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from aquasurf_ray.store.records.evaluations import EvaluationRecord
from aquasurf_ray.store.records.imports import BenchmarkEntry
from aquasurf_ray.store.records.tasks import ACCURACY, TaskMetric

Cdf = Callable[[bytes], Sequence[float]]
Title = tuple[str, str, bool]  # the title in the file, the column here, and whether higher is better

METRICS: tuple[Title, ...] = (
    ("Train Accuracy", "train_accuracy", True),
    ("Validation Accuracy", "val_accuracy", True),
    ("Train Loss", "train_loss", False),
    ("Validation Loss", "val_loss", False),
    ("Test Accuracy", "test_accuracy", True),
    ("Test Loss", "test_loss", False),
    ("Runtime (s)", "seconds", False),
)
SCORES: tuple[Title, ...] = (
    ("Train Score", "train_score", True),
    ("Validation Score", "score", True),
    ("Test Score", "test_score", True),
)
_SCORES_BY_ACCURACY = {"train_accuracy": "train_score", "val_accuracy": "score", "test_accuracy": "test_score"}
ALIASES = "Equivalent Activation Functions"
CDF = "Fisher log eigenvalue CDF"


@dataclass(frozen=True)
class Entry:
    """A function with its finished evaluations, other names, and stored spectrum."""

    name: str
    records: tuple[EvaluationRecord, ...]
    aliases: tuple[str, ...]
    feature: bytes | None


def write_act_bench(file: IO[bytes], entries: Iterable[Entry], cdf: Cdf | None, metric: TaskMetric) -> int:
    """Write the entries one after the other; return how many."""
    titles = [(title, _score_of(column, metric), more) for title, column, more in titles_of(metric)]
    return _write(file, ((entry.name, json.dumps(to_metrics(entry, cdf, titles))) for entry in entries))


def write_imported(file: IO[bytes], entries: Iterable[BenchmarkEntry], metric: TaskMetric) -> int:
    """Write entries of a benchmark file as they were in it, spectra to the last bit; return how many.

    A value that the file did not have is null, or NaN if it is a score, as in `write_act_bench`. Fields that this
    program does not know come last.
    """
    titles = titles_of(metric)
    return _write(file, ((entry.name, _imported(entry, titles)) for entry in entries))


def titles_of(metric: TaskMetric) -> tuple[Title, ...]:
    """Return the metrics that are written for a task with this objective."""
    return METRICS if metric.name == ACCURACY.name else METRICS + SCORES


def _score_of(column: str, metric: TaskMetric) -> str:
    return _SCORES_BY_ACCURACY.get(column, column) if metric.name == ACCURACY.name else column


def _write(file: IO[bytes], members: Iterable[tuple[str, str]]) -> int:
    n = 0
    file.write(b"{")
    for name, text in members:
        file.write(b",\n" if n else b"\n")
        file.write(f"{json.dumps(name)}: {text}".encode())
        n += 1
    file.write(b"\n}\n" if n else b"}\n")
    return n


def _imported(entry: BenchmarkEntry, titles: Sequence[Title]) -> str:
    metrics: dict[str, Any] = {title: getattr(entry.result, column) for title, column, _ in titles}
    # A score that is missing is NaN, as `to_metrics` writes it; other missing values stay null.
    metrics |= {title: math.nan for title, _, _ in SCORES if title in metrics and metrics[title] is None}
    text = json.dumps(metrics | {ALIASES: list(entry.aliases), CDF: entry.cdf_values().tolist()})
    return text if entry.other == "{}" else f"{text[:-1]}, {entry.other[1:]}"


def to_metrics(entry: Entry, cdf: Cdf | None, titles: Sequence[Title] = METRICS) -> dict[str, Any]:
    """Return the values of one function under these titles."""
    metrics: dict[str, Any] = {
        title: median([getattr(record, column) for record in entry.records], more_is_better)
        for title, column, more_is_better in titles
    }
    metrics[ALIASES] = list(entry.aliases)
    metrics[CDF] = [] if cdf is None or entry.feature is None else [float(value) for value in cdf(entry.feature)]
    return metrics


def median(values: Sequence[float | None], more_is_better: bool) -> float:
    """Return the median, where None and NaN count as the worst values; NaN if the middle value is one of these.

    >>> median([0.5, None, 0.75], more_is_better=True)
    0.5
    >>> median([1.0, 3.0, float("nan")], more_is_better=False)
    3.0
    """
    worst = -math.inf if more_is_better else math.inf
    missing = [value is None or math.isnan(value) for value in values]
    keys = [worst if gone or value is None else value for value, gone in zip(values, missing, strict=True)]
    # Where a value is itself infinite, the key alone would not place a missing value below it.
    ranked = sorted(zip(keys, missing, strict=True), key=lambda pair: (pair[0], pair[1] != more_is_better))
    middle = ranked[(len(ranked) - 1) // 2 : len(ranked) // 2 + 1]
    return math.nan if any(gone for _, gone in middle) else sum(key for key, _ in middle) / len(middle)
