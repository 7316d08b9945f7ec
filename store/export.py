"""Files out of the store: a run's evaluations as CSV or Parquet, or its functions in the Act-Bench format.

A file is written beside its place and moved there when it is complete. CSV: empty cells are values that are not there,
`nan` and `inf` are values. Parquet keeps the two apart as nulls and NaN.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from store.act_bench import Cdf, Entry, write_act_bench
from store.core import CHUNK, StoreCore
from store.errors import ExportError
from store.queries import read_wishes
from store.records import EvaluationRecord, Run, RunEvaluation
from store.runs import read_run_by_id
from store.schema import Alias, Spectrum

_OF_WISH = ("position", "origin", "reused", "function")
_OF_SUGGESTION = ("predicted_score", "rank", "embedding_version")
_OF_EVALUATION = tuple(field.name for field in fields(EvaluationRecord) if field.name not in ("task_id", "claimed_by"))
COLUMNS = (*_OF_WISH, *_OF_SUGGESTION, *_OF_EVALUATION)


class ExportVerbs(StoreCore):
    """Writing files."""

    def export_run(self, run_id: int, form: str, path: str | Path, *, cdf: Cdf | None = None) -> int:
        """Writes a run to a file in one of `FORMATS`; returns how many evaluations or functions it holds.

        Args:
            cdf: gives the numbers of `Fisher log eigenvalue CDF` from a stored feature; without it the lists are
                empty. Only Act-Bench asks for it.

        Raises:
            ExportError: another format, or a file that cannot be written.
            RunNotFound: there is no such run.
        """
        if form not in FORMATS:
            raise ExportError(f"no format is named '{form:.40}'; there are: {', '.join(FORMATS)}")
        run, wishes = self._read(lambda connection: _run_and_wishes(connection, run_id))
        with _written(Path(path)) as file:
            return FORMATS[form](self, file, run, wishes, cdf)

    def _entries(self, run: Run, wishes: Sequence[RunEvaluation]) -> Iterator[Entry]:
        """Finished evaluations by function, with what Act-Bench wants beside them; a part in memory at a time."""
        by_function: dict[int, list[RunEvaluation]] = {}
        for wish in wishes:
            if wish.evaluation.finished:
                by_function.setdefault(wish.evaluation.function_id, []).append(wish)
        numbers = list(by_function)
        for start in range(0, len(numbers), CHUNK):
            part = numbers[start : start + CHUNK]
            aliases, features = self._aliases(part), self._features(run, part)
            for number in part:
                found = by_function[number]
                records = tuple(wish.evaluation for wish in found)
                yield Entry(found[0].function, records, tuple(aliases.get(number, ())), features.get(number))

    def _aliases(self, function_ids: Sequence[int]) -> dict[int, list[str]]:
        query = sa.select(Alias.function_id, Alias.name).where(Alias.function_id.in_(function_ids)).order_by(Alias.name)
        aliases: dict[int, list[str]] = {}
        for function_id, name in self._read(lambda connection: connection.execute(query).all()):
            aliases.setdefault(function_id, []).append(name)
        return aliases

    def _features(self, run: Run, function_ids: Sequence[int]) -> dict[int, bytes]:
        """One feature a function: of the run's kind of Fisher information, of the lowest seed."""
        query = (
            sa.select(Spectrum.function_id, Spectrum.feature)
            .where(
                Spectrum.task_id == run.task_id,
                Spectrum.function_id.in_(function_ids),
                Spectrum.fisher == run.config.get("fisher", "sampled"),
                Spectrum.feature.is_not(None),
            )
            .order_by(Spectrum.seed.desc())
        )
        rows = self._read(lambda connection: connection.execute(query).all())
        return {row.function_id: row.feature for row in rows if row.feature is not None}


def _write_csv(store: ExportVerbs, file: IO[bytes], run: Run, wishes: Sequence[RunEvaluation], cdf: Cdf | None) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(_cells(wishes))
    text.detach()
    return len(wishes)


def _write_parquet(
    store: ExportVerbs, file: IO[bytes], run: Run, wishes: Sequence[RunEvaluation], cdf: Cdf | None
) -> int:
    import pyarrow
    import pyarrow.parquet

    columns = zip(*_cells(wishes), strict=True) if wishes else ((),) * len(COLUMNS)
    schema = pyarrow.schema([(name, _arrow_type(pyarrow, name)) for name in COLUMNS])
    arrays = [pyarrow.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), file)
    return len(wishes)


def _write_act_bench(
    store: ExportVerbs, file: IO[bytes], run: Run, wishes: Sequence[RunEvaluation], cdf: Cdf | None
) -> int:
    return write_act_bench(file, store._entries(run, wishes), cdf)


Writer = Callable[[ExportVerbs, IO[bytes], Run, Sequence[RunEvaluation], Cdf | None], int]
FORMATS: dict[str, Writer] = {"csv": _write_csv, "parquet": _write_parquet, "act-bench": _write_act_bench}


def _run_and_wishes(connection: sa.Connection, run_id: int) -> tuple[Run, tuple[RunEvaluation, ...]]:
    return read_run_by_id(connection, run_id), read_wishes(connection, run_id)


def _cells(wishes: Iterable[RunEvaluation]) -> Iterator[tuple[Any, ...]]:
    for wish in wishes:
        yield (
            *(getattr(wish, name) for name in _OF_WISH),
            *(getattr(wish.suggestion, name, None) for name in _OF_SUGGESTION),
            *(getattr(wish.evaluation, name) for name in _OF_EVALUATION),
        )


def _arrow_type(pyarrow: Any, name: str) -> Any:
    """From the annotations of the records, so that a new column needs no second mention here."""
    annotations = {field.name: field.type for kind in (RunEvaluation, EvaluationRecord) for field in fields(kind)}
    kinds = {
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "bool": pyarrow.bool_(),
        "datetime": pyarrow.timestamp("us", tz="UTC"),
    }
    annotations |= {"predicted_score": "float", "rank": "int"}
    return kinds.get(str(annotations.get(name)).removesuffix(" | None"), pyarrow.string())


def _place_of(path: Path) -> Path:
    """Where the file is to be, links followed: a move onto a device or a link would put a file in its place."""
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise ExportError(f"'{path}' is a folder; name a file in it")
    if place.exists() and not place.is_file():
        raise ExportError(f"'{path}' is a device or a pipe; name a file")
    return place


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place when it is complete, and leaves nothing behind when it is not."""
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
