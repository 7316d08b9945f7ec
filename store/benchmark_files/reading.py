"""A reader of benchmarks that were trained elsewhere: Act-Bench files, each a JSON object.

Each entry is checked as it is read: metrics are numbers or null, accuracies lie in [0, 1], names are text, and the CDF
is a flat list of numbers of any length. The caller decides which function a name means. A metric that is null or absent
is None; an entry whose validation score is not a number is `diverged`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aquasurf_ray.store.benchmark_files.act_bench import ALIASES, CDF, titles_of
from aquasurf_ray.store.benchmark_files.json_members import Progress, read_members
from aquasurf_ray.store.errors import BenchmarkFileError
from aquasurf_ray.store.records.evaluations import EvaluationResult
from aquasurf_ray.store.records.imports import BenchmarkEntry
from aquasurf_ray.store.records.packed import pack
from aquasurf_ray.store.records.runs import LONGEST_NAME
from aquasurf_ray.store.records.tasks import ACCURACY, TaskMetric

_SQLITE = b"SQLite format 3\x00"  # the first bytes of every such file


def read_benchmark(
    path: str | Path, metric: TaskMetric = ACCURACY, progress: Progress | None = None
) -> Iterator[BenchmarkEntry]:
    """Yield the entries of a benchmark file, with one of them in memory at a time.

    Args:
        metric: the metric of the task. If it is not accuracy, the scores are read from the file.
        progress: called with the bytes read so far and the size of the file.

    Raises:
        BenchmarkFileError: not such a file, or a damaged one; the text says where it is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        ...     _ = file.write('{"relu(x)": {"Validation Accuracy": 0.9, "Validation Loss": NaN}}')
        ...     file.flush()
        ...     [(entry.name, entry.result.score, entry.result.val_loss) for entry in read_benchmark(file.name)]
        [('relu(x)', 0.9, nan)]
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise BenchmarkFileError(f"'{path}' is not a regular file; name an Act-Bench or Parquet file")
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                raise BenchmarkFileError(
                    f"'{path}' is a SQLite database; import reads Act-Bench files (JSON) and Parquet files of this "
                    "program"
                )
        for member in read_members(path, progress):
            yield _entry(member.key, member.value, metric, f"'{path.name}', byte {member.offset}")
    except OSError as error:
        raise BenchmarkFileError(f"'{path}' cannot be read: {error.strerror or error}") from None


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        BenchmarkFileError: it cannot be read.
    """
    try:
        if not Path(path).is_file():
            raise BenchmarkFileError(
                f"'{path}' {'is not a regular file' if Path(path).exists() else 'does not exist'}; name one"
            )
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BenchmarkFileError(f"'{path}' cannot be read: {error.strerror or error}") from None


def _entry(name: str, values: Mapping[str, Any], metric: TaskMetric, place: str) -> BenchmarkEntry:
    if not 0 < len(name) <= LONGEST_NAME:
        raise BenchmarkFileError(f"{place}: a name must have 1 to {LONGEST_NAME} characters, got {len(name)}")
    place = f"{place}, entry {name!a:.60}"
    titles = titles_of(metric)
    metrics = {column: _number(title, values.get(title), place) for title, column, _ in titles}
    cdf = _numbers(values.get(CDF), place)
    known = {ALIASES, CDF, *(title for title, _, _ in titles)}
    return BenchmarkEntry(
        name=name,
        result=_result(metrics, metric),
        aliases=_names(values.get(ALIASES), place),
        cdf=pack(cdf),
        cdf_length=len(cdf),
        other=_other({title: value for title, value in values.items() if title not in known}, place),
        place=place,
    )


def _number(title: str, value: Any, place: str) -> float | None:
    if value is None:
        return None
    # In Python true is an integer, but it is not an accuracy of 1.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BenchmarkFileError(f"{place}: '{title}' must be a number, got {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise BenchmarkFileError(f"{place}: '{title}' must fit a float64, got {_shown(value)}") from None
    if title.endswith("Accuracy") and not (0 <= number <= 1 or math.isnan(number)):
        raise BenchmarkFileError(f"{place}: '{title}' must be between 0 and 1, got {number:g}")
    # A loss may be infinite: that is how a training diverges. Scores are compared and averaged.
    if title.endswith("Score") and math.isinf(number):
        raise BenchmarkFileError(f"{place}: '{title}' must be finite or NaN, got {number:g}")
    return number


def _result(metrics: dict[str, float | None], metric: TaskMetric) -> EvaluationResult:
    if metric.name == ACCURACY.name:
        # With accuracy as the metric, the scores are the accuracies, and the file has no fields of their own for them.
        of_split = {"score": "val", "train_score": "train", "test_score": "test"}
        metrics |= {score: metrics[f"{split}_accuracy"] for score, split in of_split.items()}
    score = metrics.pop("score")
    if score is not None and math.isfinite(score):
        return EvaluationResult("done", score=score, **metrics)  # type: ignore[arg-type]
    reason = f"the file gives {'no' if score is None else f'{score:g} as'} validation {_word(metric)}"
    return EvaluationResult("diverged", reason=reason, **metrics)  # type: ignore[arg-type]


def _word(metric: TaskMetric) -> str:
    return "accuracy" if metric.name == ACCURACY.name else "score"


def _names(value: Any, place: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BenchmarkFileError(f"{place}: '{ALIASES}' must be a list of names, got {_shown(value)}")
    longest = max(map(len, value), default=0)
    if longest > LONGEST_NAME:
        raise BenchmarkFileError(f"{place}: '{ALIASES}' has a name of {longest} characters; at most {LONGEST_NAME}")
    return tuple(value)


def _numbers(value: Any, place: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if value is None:
        return np.zeros(0)
    if not isinstance(value, list):
        raise BenchmarkFileError(f"{place}: '{CDF}' must be a list of numbers, got {_shown(value)}")
    # One set of types is much faster than a check of each of the many thousand numbers, and refuses booleans too.
    if not set(map(type, value)) <= {float, int}:
        wrong = next(item for item in value if type(item) not in (float, int))
        raise BenchmarkFileError(f"{place}: '{CDF}' must be a list of numbers, got {_shown(wrong)} in it")
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        raise BenchmarkFileError(f"{place}: '{CDF}' has a number that float64 cannot hold") from None


def _other(values: dict[str, Any], place: str) -> str:
    try:
        return json.dumps(values)
    except (RecursionError, ValueError):
        raise BenchmarkFileError(f"{place}: its unknown values are nested too deeply") from None


def _shown(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, (str, bool, type(None))) else f"{type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}..."
