"""A copy of the store for other programs: every view and table as Parquet, in one folder with a README of the columns.

All files show one state of the database: they are read in one transaction, which does not block writers. They are
written to a temporary folder, which is renamed when the last file is complete. Rows are read in batches, so that a
table may be larger than memory. JSON cells are written as text, packed arrays as bytes; times are UTC.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.columns import dump_json
from aquasurf_ray.store.database.schema import Base
from aquasurf_ray.store.errors import ExportError
from aquasurf_ray.store.sql.table_columns import everything
from aquasurf_ray.store.sql.views import View
from aquasurf_ray.store.verbs.store_core import StoreCore

ROWS_AT_A_TIME = 20_000
ROWS_OF_BYTES_AT_A_TIME = 128  # a cell of bytes may have a megabyte
_HEAD = """# Snapshot of a store of aquasurf-ray

One Parquet file (zstd) per view and table, all from the same state of the store. Missing values are null; NaN is a
value. JSON is stored as text, arrays as the bytes of the store. Times are UTC.

With DuckDB: `SELECT run, function, score FROM 'leaderboard.parquet' ORDER BY score DESC LIMIT 5`
"""


class SnapshotVerbs(StoreCore):
    """Writing snapshots of the store."""

    def write_snapshot(self, folder: str | Path) -> dict[str, int]:
        """Write a folder of Parquet files, wholly or not at all; return the number of rows by view and table.

        Raises:
            ExportError: the path exists already, or cannot be written.
        """
        with _new_folder(Path(folder)) as place:
            return self._read(lambda connection: _write(connection, place))


def _write(connection: sa.Connection, folder: Path) -> dict[str, int]:
    """Write the files into a folder that may contain files of an earlier attempt."""
    views = everything()
    tables: Mapping[str, sa.FromClause] = Base.metadata.tables
    counts = {}
    for view in views:
        selected = sa.select(tables.get(view.name, view.selectable))
        counts[view.name] = _write_file(connection, view, selected, folder / f"{view.name}.parquet")
    sections = [view.markdown() + f"\n\n{counts[view.name]} rows." for view in views]
    (folder / "README.md").write_text("\n\n".join([_HEAD.rstrip(), *sections]) + "\n", encoding="utf-8")
    return counts


def _write_file(connection: sa.Connection, view: View, query: sa.Select[Any], path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(column.name, _arrow_types(pyarrow)[column.kind]) for column in view.columns])
    has_bytes = any(column.kind == "bytes" for column in view.columns)
    n = ROWS_OF_BYTES_AT_A_TIME if has_bytes else ROWS_AT_A_TIME
    written = 0
    with path.open("wb") as file:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in connection.execute(query, execution_options={"yield_per": n}).partitions():
                writer.write_table(pyarrow.Table.from_arrays(_arrays(pyarrow, view, schema, rows), schema=schema))
                written += len(rows)
        # The file must be on the disk before the folder gets its name, which promises that it is complete.
        file.flush()
        os.fsync(file.fileno())
    return written


def _arrays(pyarrow: Any, view: View, schema: Any, rows: Sequence[Any]) -> list[Any]:
    cells = zip(*rows, strict=True)
    return [
        pyarrow.array([_text(value) for value in values] if column.kind == "JSON" else list(values), field.type)
        for column, field, values in zip(view.columns, schema, cells, strict=True)
    ]


def _text(value: Any) -> str | None:
    return None if value is None else dump_json(value)


def _arrow_types(pyarrow: Any) -> dict[str, Any]:
    return {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
        "time": pyarrow.timestamp("us", tz="UTC"),
        "JSON": pyarrow.string(),
        "bytes": pyarrow.binary(),
    }


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder that is renamed when it is complete, and deleted when an error stops it."""
    place = path.absolute()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise ExportError(f"'{path}' already exists; name a new folder for the snapshot")
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        # A sibling, because a rename is atomic only within one file system.
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(place)
    except OSError as error:
        raise ExportError(f"'{path}' cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
