"""Exports of a run: its evaluations as CSV or Parquet, or its functions in the Act-Bench format.

A file is written to a temporary name and renamed when it is complete. In CSV, empty cells are missing values, `nan` and
`inf` are values; Parquet distinguishes nulls and NaN. The ratios are a function's cost relative to ReLU on the
evaluation's device.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from aquasurf_ray.store.benchmark_files.act_bench import Cdf, Entry, write_act_bench, write_imported
from aquasurf_ray.store.database.schema import Alias, Spectrum
from aquasurf_ray.store.errors import ExportError
from aquasurf_ray.store.records.evaluations import EvaluationRecord, RequestedEvaluation
from aquasurf_ray.store.records.features import CostRecord
from aquasurf_ray.store.records.runs import Run
from aquasurf_ray.store.records.tasks import TaskMetric
from aquasurf_ray.store.verbs.costs import read_costs
from aquasurf_ray.store.verbs.functions import read_task
from aquasurf_ray.store.verbs.imports import ImportVerbs
from aquasurf_ray.store.verbs.reading.queries import read_requests
from aquasurf_ray.store.verbs.runs import read_run_by_id
from aquasurf_ray.store.verbs.store_core import CHUNK
from aquasurf_ray.training_metrics import METRIC_NAMES

_OF_REQUEST = ("position", "origin", "reused", "function")
_OF_SUGGESTION = ("predicted_score", "rank", "embedding_version")
_OF_EVALUATION = (
    *(
        "id",
        "function_id",
        "seed",
        "recipe_change",
        "status",
        "attempts",
        *METRIC_NAMES,
        "epochs",
        "seconds",
        "examples_per_second",
    ),
    *("peak_memory_mb", "reason", "error", "device", "n_devices", "precision", "worker", "code_version"),
    *("created_at", "started_at", "finished_at"),
)
_OF_COST = ("time_ratio", "memory_ratio")
COLUMNS = (*_OF_REQUEST, *_OF_SUGGESTION, *_OF_EVALUATION, *_OF_COST)


@dataclass(frozen=True)
class _Content:
    """The exported content of a run: its evaluations, its task's metric, and known costs by (function, device)."""

    run: Run
    metric: TaskMetric
    requests: tuple[RequestedEvaluation, ...]
    costs: dict[tuple[int, str | None], CostRecord]


class ExportVerbs(ImportVerbs):
    """Exporting runs."""

    def export_run(self, run_id: int, form: str, path: str | Path, *, cdf: Cdf | None = None) -> int:
        """Write a run to a file in one of `FORMATS`; return the number of evaluations or functions in it.

        Args:
            cdf: returns the numbers of `Fisher log eigenvalue CDF` for a stored feature, for Act-Bench only; without
                it the lists are empty.

        Raises:
            ExportError: the format is unknown, or the file cannot be written.
            RunNotFound: no run has this name.
        """
        if form not in FORMATS:
            raise ExportError(f"format must be one of {', '.join(FORMATS)}, got '{form:.40}'")
        content = self._read(lambda connection: _content(connection, run_id))
        with _written(Path(path)) as file:
            return FORMATS[form](self, file, content, cdf)

    def _entries(self, content: _Content) -> Iterator[Entry]:
        """Yield whole trainings with the task's recipe as it is, by function, with the other values of Act-Bench, only
        a part in memory at a time."""
        run = content.run
        by_function: dict[int, list[RequestedEvaluation]] = {}
        for request in content.requests:
            # Act-Bench has no field for a training that was stopped early, nor for another recipe, so its score would
            # pass for that of a whole training of the task.
            if request.evaluation.complete and not request.evaluation.recipe_change:
                by_function.setdefault(request.evaluation.function_id, []).append(request)
        numbers = list(by_function)
        for start in range(0, len(numbers), CHUNK):
            part = numbers[start : start + CHUNK]
            aliases, features = self._aliases(part), self._features(run, part)
            for number in part:
                found = by_function[number]
                records = tuple(request.evaluation for request in found)
                yield Entry(found[0].function, records, tuple(aliases.get(number, ())), features.get(number))

    def _aliases(self, function_ids: Sequence[int]) -> dict[int, list[str]]:
        query = sa.select(Alias.function_id, Alias.name).where(Alias.function_id.in_(function_ids)).order_by(Alias.name)
        aliases: dict[int, list[str]] = {}
        for function_id, name in self._read(lambda connection: connection.execute(query).all()):
            aliases.setdefault(function_id, []).append(name)
        return aliases

    def _features(self, run: Run, function_ids: Sequence[int]) -> dict[int, bytes]:
        """Return one feature per function: of the run's kind of Fisher information, with the lowest seed."""
        query = (
            sa.select(Spectrum.function_id, Spectrum.feature)
            .where(
                Spectrum.task_id == run.task_id,
                Spectrum.function_id.in_(function_ids),
                Spectrum.fisher == run.config.get("fisher", "sampled"),
                Spectrum.feature.is_not(None),
            )
            # Later rows replace earlier ones in the dictionary below, so the lowest seed comes last.
            .order_by(Spectrum.seed.desc())
        )
        rows = self._read(lambda connection: connection.execute(query).all())
        return {row.function_id: row.feature for row in rows if row.feature is not None}


def _write_csv(store: ExportVerbs, file: IO[bytes], content: _Content, cdf: Cdf | None) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(_cells(content))
    text.detach()  # the caller's file must stay open: it is synced before it is renamed
    return len(content.requests)


def _write_parquet(store: ExportVerbs, file: IO[bytes], content: _Content, cdf: Cdf | None) -> int:
    import pyarrow
    import pyarrow.parquet

    columns = zip(*_cells(content), strict=True) if content.requests else ((),) * len(COLUMNS)
    schema = pyarrow.schema([(name, _arrow_type(pyarrow, name)) for name in COLUMNS])
    arrays = [pyarrow.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), file)
    return len(content.requests)


def _write_act_bench(store: ExportVerbs, file: IO[bytes], content: _Content, cdf: Cdf | None) -> int:
    # An imported file is exported as it was, with fields that this program does not know.
    if store.has_imported_entries(content.run.id):
        return write_imported(file, store.imported_entries(content.run.id), content.metric)
    return write_act_bench(file, store._entries(content), cdf, content.metric)


Writer = Callable[[ExportVerbs, IO[bytes], _Content, Cdf | None], int]
FORMATS: dict[str, Writer] = {"csv": _write_csv, "parquet": _write_parquet, "act-bench": _write_act_bench}


def _content(connection: sa.Connection, run_id: int) -> _Content:
    run, requests = read_run_by_id(connection, run_id), read_requests(connection, run_id)
    known = read_costs(connection, run.task_id, {request.evaluation.function_id for request in requests})
    costs: dict[tuple[int, str | None], CostRecord] = {(cost.function_id, cost.device): cost for cost in known}
    return _Content(run, read_task(connection, run.task_id).metric, requests, costs)


def _cells(content: _Content) -> Iterator[tuple[Any, ...]]:
    for request in content.requests:
        # The cost on the device that trained it; another device's ratio may differ.
        cost = content.costs.get((request.evaluation.function_id, request.evaluation.device))
        yield (
            *(getattr(request, name) for name in _OF_REQUEST),
            *(getattr(request.suggestion, name, None) for name in _OF_SUGGESTION),
            *(getattr(request.evaluation, name) for name in _OF_EVALUATION),
            *(getattr(cost, name, None) for name in _OF_COST),
        )


def _arrow_type(pyarrow: Any, name: str) -> Any:
    """Return the Arrow type of a field from its annotation, so that a new column needs no second mention here."""
    annotations = {field.name: field.type for kind in (RequestedEvaluation, EvaluationRecord) for field in fields(kind)}
    kinds = {
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "bool": pyarrow.bool_(),
        "datetime": pyarrow.timestamp("us", tz="UTC"),
    }
    annotations |= {"predicted_score": "float", "rank": "int"} | dict.fromkeys(_OF_COST, "float")
    return kinds.get(str(annotations.get(name)).removesuffix(" | None"), pyarrow.string())


def _place_of(path: Path) -> Path:
    """Return the file's path with links resolved; a rename onto a device or a link would replace it by a file."""
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise ExportError(f"'{path}' is a folder; name a file in it")
    if place.exists() and not place.is_file():
        raise ExportError(f"'{path}' is a device or a pipe; name a file")
    return place


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that is renamed when it is complete, and deleted when an error stops it."""
    place = _place_of(path)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(place)
    except OSError as error:
        raise ExportError(f"'{path}' cannot be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
