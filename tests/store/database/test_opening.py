"""Opening: URLs, places, passwords, and the schema's way from nothing to this version, wholly or not at all."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import logging
import os
import pickle
import pkgutil
import signal
import sqlite3
import subprocess
import sys
import traceback
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import aquasurf_ray.store as store
from aquasurf_ray.store import BadUrl, FunctionRow, Store, StoreError, StoreTooNew, StoreUnavailable, WrongDatabase
from aquasurf_ray.store.database import engine, migrate
from aquasurf_ray.store.database.schema import HEAD_REVISION, VERSION_TABLE, Base
from aquasurf_ray.store.database.url import parse_url

ROOT = Path(__file__).parents[3]


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "digits.db",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite:///file:x?mode=ro&uri=true",
            "sqlite:///x.db?mode=ro",
            "mysql://ada:secret@host/db",
            "postgresql+psycopg2://ada:secret@host/db",
            "postgresql://ada:secret@host:port/db",
            "postgresql://ada:sec@ret@host:x/db?password=secret",
            "nonsense://ada:secret@host/db?password=secret&x=1",
        ],
    )
    def test_bad_ones_are_refused_without_showing_a_password(self, url):
        with pytest.raises(BadUrl) as caught:
            Store.open(url)
        text = "".join(traceback.format_exception(caught.value))
        assert "give sqlite:///FILE" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "secret" not in text.replace(repr(url), "")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://ada:s3cret@127.0.0.1:1/db",
            "postgres://ada@127.0.0.1:1/db?password=s3cret",
            "postgresql+psycopg://ada:p%40s3cret@127.0.0.1:1/db?sslpassword=s3cret2",
        ],
    )
    def test_no_text_shows_a_password(self, url, caplog):
        caplog.set_level(logging.DEBUG)
        with pytest.raises(StoreUnavailable) as caught:
            Store.open(url)
        made = engine.make_engine(parse_url(url))
        shown = [str(caught.value), repr(caught.value), caplog.text, repr(made), str(made.url)]
        shown += traceback.format_exception(caught.value)
        assert not [text for text in shown if "s3cret" in text]

    def test_an_open_store_shows_itself_without_a_password(self, postgres_url):
        with Store.open(postgres_url.replace("postgres@", "postgres:s3cret@")) as opened:
            assert "s3cret" not in f"{opened!r} {opened} {opened.safe_url} {opened._database!r}"
            assert "postgres:***@" in opened.safe_url
            with pytest.raises(StoreError) as caught:
                opened._write(lambda connection: connection.execute(sa.text("SELECT 's3cret' FROM nowhere")))
            assert "s3cret" not in str(caught.value)

    def test_a_store_is_not_sent_to_other_processes(self, tmp_path):
        with Store.open(f"sqlite:///{tmp_path}/s.db") as opened, pytest.raises(TypeError, match="open the URL there"):
            pickle.dumps(opened)


class TestPlaces:
    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(StoreUnavailable, match=r"folder '.*/no' does not exist; create it"):
            Store.open(f"sqlite:///{tmp_path}/no/store.db")

    def test_a_folder_in_the_place_of_the_file(self, tmp_path):
        with pytest.raises(StoreUnavailable, match="is a folder"):
            Store.open(f"sqlite:///{tmp_path}")

    def test_looking_creates_nothing(self, tmp_path):
        with pytest.raises(StoreUnavailable, match=r"no database at '.*x\.db'; start a search"):
            Store.open(f"sqlite:///{tmp_path}/x.db", create=False)
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_database_is_left_empty_when_only_looking(self, postgres_url):
        with pytest.raises(StoreUnavailable, match="is empty; start a search"):
            Store.open(postgres_url, create=False)

    def test_a_folder_without_write_permission(self, tmp_path):
        """As another user, since root may write everywhere."""
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        place = tmp_path / "closed"
        place.mkdir()
        for folder in (place, *place.parents[:-1]):
            if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
                folder.chmod(0o755)
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            try:
                Store.open(f"sqlite:///{place}/store.db")
            except StoreUnavailable as error:
                os._exit(0 if "is not writable" in str(error) else 2)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def test_a_file_that_is_not_sqlite(self, tmp_path):
        (tmp_path / "x.db").write_text("these are not the pages of a database, but a text of more than 100 bytes" * 3)
        with pytest.raises(WrongDatabase, match="is not a SQLite database"):
            Store.open(f"sqlite:///{tmp_path}/x.db")

    def test_another_programs_file_is_left_as_it_is(self, tmp_path):
        path = tmp_path / "x.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE photos (id)")
        before = path.read_bytes()
        with pytest.raises(WrongDatabase, match="another program's"):
            Store.open(f"sqlite:///{path}")
        assert path.read_bytes() == before
        assert sorted(tmp_path.iterdir()) == [path]

    def test_another_programs_table_of_our_name_is_not_touched(self, postgres_url):
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CREATE TABLE runs (id int)")
            with pytest.raises(WrongDatabase, match="table 'runs' of another program"):
                Store.open(postgres_url)
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (1,)

    def test_an_empty_file_is_filled(self, tmp_path):
        (tmp_path / "x.db").touch()
        Store.open(f"sqlite:///{tmp_path}/x.db").close()
        header = (tmp_path / "x.db").read_bytes()[68:72]
        assert header == b"AqSf"

    def test_network_file_systems_are_warned_of(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(engine, "file_system", lambda path: "nfs4")
        Store.open(f"sqlite:///{tmp_path}/x.db").close()
        assert "is on nfs4, where SQLite may lose data" in caplog.text

    def test_the_file_system_of_a_place_is_found(self):
        assert engine.file_system(Path("/proc/self/x.db")) == "proc"


class TestMigration:
    def test_migrations_make_the_models_schema(self, store_url):
        with Store.open(store_url) as opened:

            def body(connection):
                options = {"version_table": VERSION_TABLE, "compare_type": True}
                return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)

            assert opened._read(body) == []

    def test_check_constraints_are_the_models(self, store_url):
        expected = {c.name for t in Base.metadata.tables.values() for c in t.constraints if c.name.startswith("ck_")}
        with Store.open(store_url) as opened:
            found = opened._read(
                lambda connection: {
                    check["name"]
                    for table in Base.metadata.tables
                    for check in sa.inspect(connection).get_check_constraints(table)
                }
            )
        assert found == expected

    def test_the_version_in_the_code_is_the_last_migration(self):
        assert ScriptDirectory(str(migrate.SCRIPTS)).get_current_head() == HEAD_REVISION

    @pytest.mark.slow
    def test_alembics_own_command_finds_nothing_to_migrate(self, tmp_path):
        command = [Path(sys.executable).with_name("alembic"), "-c", migrate.SCRIPTS / "alembic.ini"]
        command += ["-x", f"url=sqlite:///{tmp_path}/x.db"]
        subprocess.run([*command, "upgrade", "head"], cwd=ROOT, check=True, capture_output=True)
        done = subprocess.run([*command, "check"], cwd=ROOT, capture_output=True, text=True)
        assert "No new upgrade operations detected" in done.stdout, done.stderr

    def test_opening_again_changes_nothing_and_imports_no_alembic(self, store_url):
        with Store.open(store_url) as opened:
            opened.add_functions([FunctionRow("f", "f(x)", 1)])
        code = (
            "import sys; from aquasurf_ray.store import Store; s = Store.open(sys.argv[1]); "
            "print(s.find_function('f(x)').fingerprint, 'alembic' in sys.modules, 'pandas' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code, store_url], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout == "f False False\n", done.stderr

    @pytest.mark.reliability("newer-database")
    def test_a_newer_database_is_refused_in_a_sentence(self, store_url):
        with Store.open(store_url) as opened:
            opened._write(lambda c: c.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")))
        with pytest.raises(StoreTooNew, match=r"has schema 9999, newer than this version knows; upgrade aquasurf-ray"):
            Store.open(store_url)

    @pytest.mark.parametrize("statement", [1, 7, 30])
    @pytest.mark.reliability("killed-in-migration")
    @pytest.mark.slow
    def test_killed_in_a_migration_it_leaves_nothing(self, store_url, statement):
        code = f"""
import os, signal, sys
import sqlalchemy as sa
from aquasurf_ray.store import Store
n = 0
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def kill(connection, cursor, text, *_):
    global n
    n += text.strip().startswith("CREATE")
    if n == {statement}:
        os.kill(os.getpid(), signal.SIGKILL)
Store.open(sys.argv[1])
"""
        killed = subprocess.run([sys.executable, "-c", code, store_url], cwd=ROOT, capture_output=True)
        assert killed.returncode == -signal.SIGKILL
        with pytest.raises(StoreUnavailable):
            Store.open(store_url, create=False)
        with Store.open(store_url) as opened:
            assert opened.runs() == []

    def test_a_failing_migration_leaves_nothing(self, store_url, monkeypatch):
        def fail(connection, target):
            run_scripts(connection, target)
            raise RuntimeError("the last statement failed")

        run_scripts = migrate._run_scripts
        monkeypatch.setattr(migrate, "_run_scripts", fail)
        with pytest.raises(RuntimeError):
            Store.open(store_url)
        monkeypatch.undo()
        with pytest.raises(StoreUnavailable):
            Store.open(store_url, create=False)


MODULES = [m.name for m in pkgutil.walk_packages(store.__path__, "aquasurf_ray.store.") if not m.ispkg]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0
