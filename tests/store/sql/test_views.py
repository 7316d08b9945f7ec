"""What is said of views and tables is what there is: names and order of the columns, and their types."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from aquasurf_ray.store import read_only_query
from aquasurf_ray.store.database.schema import VERSION_TABLE, Base
from aquasurf_ray.store.sql.table_columns import everything, reference

POSTGRES_TYPES = {
    "text": {"text"},
    "integer": {"bigint", "integer"},
    "number": {"double precision"},
    "boolean": {"boolean"},
    "time": {"timestamp with time zone"},
    "JSON": {"json"},
    "bytes": {"bytea"},
}


def test_every_view_and_table_is_described_column_by_column(world):
    def there(connection):
        looked = sa.inspect(connection)
        names = {*looked.get_view_names(), *looked.get_table_names()} - {VERSION_TABLE, "sqlite_sequence"}
        return {name: [column["name"] for column in looked.get_columns(name)] for name in names}

    described = {view.name: [column.name for column in view.columns] for view in everything()}
    found = world.store._read(there)
    for name in Base.metadata.tables:  # the order of a table's columns is that of the migrations that added them
        assert sorted(described.pop(name)) == sorted(found.pop(name))
    assert described == found


@pytest.mark.parametrize("world_url", ["postgresql"], indirect=True)
def test_types_are_those_of_the_database(world_url):
    sql = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    types = {(view, column): kind for view, column, kind in read_only_query(world_url, sql).rows}
    for view in everything():
        for column in view.columns:
            assert types[view.name, column.name] in POSTGRES_TYPES[column.kind], (view.name, column.name)


def test_nothing_is_left_without_a_meaning():
    empty = [(view.name, column.name) for view in everything() for column in view.columns if len(column.meaning) < 4]
    assert empty == []
    assert all(view.row for view in everything())


def test_the_reference_has_the_views_and_the_runs():
    headings = [line[4:] for line in reference().splitlines() if line.startswith("### ")]
    assert headings == [
        *("leaderboard", "learning_curves", "diverged", "spectra_summary", "costs_summary", "runs_overview", "runs"),
    ]
    assert set(Base.metadata.tables) < {view.name for view in everything()}
