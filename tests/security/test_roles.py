"""What each role of a PostgreSQL store may do, tried on a real one."""

from __future__ import annotations

import re

import psycopg
import pytest
from store_reading import claim_next

from aquasurf_ray.cli.main import main
from aquasurf_ray.store import (
    EpochRecord,
    EvaluationResult,
    FunctionRow,
    NewRun,
    QueryError,
    Roles,
    SpectrumRecord,
    Store,
    StoreError,
    read_only_query,
    this_process,
)
from aquasurf_ray.store.database.schema import HEAD_REVISION

DRIVER, ANALYST = "security_driver", "security_analyst"


@pytest.fixture(scope="module")
def owner_url(postgres_server):
    """A store with its two roles, given by the command; the password is one that nothing may ever show."""
    postgres_server.execute("CREATE DATABASE roles")
    url = postgres_server.url("roles")
    for _ in range(2):  # a second time after each upgrade
        assert main(["roles", "--driver", DRIVER, "--analyst", ANALYST, "--store", url]) == 0
    yield url
    postgres_server.execute("DROP DATABASE roles WITH (FORCE)")
    for role in (DRIVER, ANALYST):
        postgres_server.execute(f"DROP ROLE {role}")


def as_role(url, role):
    return url.replace("//postgres@", f"//{role}@")


def execute(url, role, *statements):
    with psycopg.connect(as_role(url, role).replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def search_something(url):
    """A whole run by the store's verbs, with an early stop that is trained again in full."""
    with Store.open(url) as store:
        task = store.add_task("digits", "1", "task-digest", {})
        functions = store.add_functions([FunctionRow(f"f{i}", f"f{i}(x)", 1, (f"g{i}(x)",)) for i in range(3)])
        run = store.create_run(NewRun("one", "search", task, {}, "digest", 0, 3, None, "0.1.0"), functions)
        lease = store.acquire_lease(run.id, this_process())
        store.record_spectra(lease, [SpectrumRecord(functions[0], "sampled", 0, "done", b"12345678")])
        epochs = (EpochRecord(1, val_loss=0.5),)
        for stopped in ("below the median", None):
            claim = store.claim(lease, functions[0], 0, "suggestion", accept_stopped=False)
            store.start(lease, claim.evaluation_id, "worker")
            result = EvaluationResult("done", score=0.5, stopped_early=stopped, epochs=epochs)
            assert store.record_result(lease, claim.evaluation_id, result)
        store.renew_lease(lease)
        store.propose(run.id, functions[1:], 0)
        while (claim := claim_next(store, lease)) is not None:
            store.start(lease, claim.evaluation_id, "worker")
            store.record_failure(lease, claim.evaluation_id, "the machine", final=True)
        store.release_lease(lease, "finished")
        assert store.status(run.id).finished == 1


def test_a_driver_runs_a_whole_search_and_changes_no_table(owner_url):
    search_something(as_role(owner_url, DRIVER))
    for statement in (
        "DROP TABLE epochs",
        "ALTER TABLE runs ADD COLUMN x int",
        "TRUNCATE runs",
        "DELETE FROM evaluations",
        "CREATE TABLE mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "UPDATE aquasurf_version SET version_num = '9999'",
        "COPY runs TO PROGRAM 'cat'",
        "COPY runs TO '/tmp/runs'",
        "SELECT pg_read_file('/etc/passwd')",
        "CREATE ROLE another",
        f"GRANT {ANALYST} TO {DRIVER}",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
    ):
        with pytest.raises(psycopg.Error, match=r"permission denied|must be owner|permission to"):
            execute(owner_url, DRIVER, statement)


def test_an_analyst_reads_everything_and_writes_nothing(owner_url):
    views = {row[0] for row in execute(owner_url, ANALYST, "SELECT table_name FROM information_schema.views")}
    for name in {"leaderboard", "diverged", "runs", "events"} | (views & {"costs_summary", "runs_overview"}):
        assert read_only_query(as_role(owner_url, ANALYST), f"SELECT count(*) FROM {name}").rows[0][0] >= 0
    assert execute(owner_url, ANALYST, "SHOW statement_timeout") == [("1min",)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        execute(owner_url, ANALYST, "INSERT INTO tasks DEFAULT VALUES")
    for statement in (
        "UPDATE runs SET name = 'x'",
        "DELETE FROM events",
        "INSERT INTO aliases VALUES ('x', 1)",
        "TRUNCATE epochs",
        "DROP VIEW leaderboard",
        "SELECT nextval('runs_id_seq')",
        "CREATE TABLE mine (x int)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "COPY runs TO PROGRAM 'cat'",
        "COPY runs FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "SET ROLE postgres",
    ):
        with pytest.raises(psycopg.Error, match=r"permission denied|must be owner|permission to"):
            execute(owner_url, ANALYST, "SET default_transaction_read_only = off", statement)


@pytest.fixture
def createrole_owner(postgres_server):
    """The URL of a database of an owner who may make roles and is no superuser."""
    postgres_server.execute("CREATE ROLE security_owner LOGIN CREATEROLE")
    postgres_server.execute("CREATE DATABASE owned OWNER security_owner")
    yield as_role(postgres_server.url("owned"), "security_owner")
    postgres_server.execute("DROP DATABASE owned WITH (FORCE)")
    postgres_server.execute("DROP ROLE security_owner")


@pytest.mark.parametrize("role", ["security_owner", "postgres"])
@pytest.mark.parametrize("option", ["--driver", "--analyst"])
def test_the_owner_and_superusers_are_no_role_and_keep_their_settings(
    createrole_owner, postgres_server, capsys, option, role
):
    assert main(["roles", option, role, "--store", createrole_owner]) == 2
    told = capsys.readouterr().err
    assert f"role {role} is the owner or a superuser" in told
    assert "CONTEXT" not in told
    settings = f"SELECT rolconfig FROM pg_roles WHERE rolname = '{role}'"
    assert execute(postgres_server.url("owned"), "postgres", settings) == [(None,)]


def test_roles_that_another_database_s_owner_made_are_given_their_rights_here_too(owner_url, createrole_owner):
    assert main(["roles", "--driver", DRIVER, "--analyst", ANALYST, "--store", createrole_owner]) == 0
    search_something(as_role(createrole_owner.replace("//security_owner@", "//postgres@"), DRIVER))
    reader = as_role(createrole_owner.replace("//security_owner@", "//postgres@"), ANALYST)
    assert read_only_query(reader, "SELECT count(*) FROM runs").rows == ((1,),)


def test_a_driver_cannot_migrate_and_is_told_so_in_a_sentence(owner_url, postgres_server):
    execute(owner_url, "postgres", "UPDATE aquasurf_version SET version_num = '0002'")
    try:
        with pytest.raises(StoreError, match=r"permission denied|must be owner"):
            Store.open(as_role(owner_url, DRIVER))
    finally:
        execute(owner_url, "postgres", f"UPDATE aquasurf_version SET version_num = '{HEAD_REVISION}'")


@pytest.mark.parametrize("role", ["postgres", DRIVER, ANALYST])
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM runs",
        "WITH gone AS (DELETE FROM runs RETURNING 1) SELECT * FROM gone",
        "SELECT 1; DELETE FROM runs",
        "COPY runs TO PROGRAM 'touch /tmp/planted'",
        "COPY (SELECT 1) TO '/tmp/planted'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_create(0)",
        "SELECT nextval('runs_id_seq') WHERE setval('runs_id_seq', 999) > 0",
        "SELECT set_config('role', 'none', true), pg_read_file('/etc/passwd')",
        "SELECT query_to_xml('DELETE FROM runs', true, true, '')",
        "SELECT query_to_xml('SET ROLE postgres', true, true, '')",
        "SET ROLE postgres",
        "RESET ROLE",
        "SET TRANSACTION READ WRITE",
        "SELECT 1 INTO planted",
        "SELECT * FROM runs FOR UPDATE",
        "SELECT pg_reload_conf()",
        "LOAD 'plpgsql'",
        "CALL x()",
        "DO $$ BEGIN DELETE FROM runs; END $$",
        "EXPLAIN ANALYZE DELETE FROM runs",
        "PREPARE x AS DELETE FROM runs",
        "\\! touch /tmp/planted",
    ],
)
def test_the_database_refuses_what_a_query_may_not(owner_url, role, sql):
    with pytest.raises(QueryError):
        read_only_query(as_role(owner_url, role), sql)


def test_a_superusers_query_cannot_take_its_role_back(owner_url):
    """Without this, a SELECT reads any file of the server through a function that plans its query late."""
    assert read_only_query(owner_url, "SELECT current_user").rows == (("pg_read_all_data",),)
    for spelled in ("'role', 'none'", "'session_authorization', 'postgres'", "chr(114) || 'ole', 'postgres'"):
        with pytest.raises(QueryError, match="permission denied for function set_config"):
            read_only_query(owner_url, f"SELECT set_config({spelled}, true)")
    nothing_left = "SELECT proacl FROM pg_proc WHERE proname = 'set_config'"
    assert read_only_query(owner_url, nothing_left).rows != ((None,),), "within the query it is taken away"
    assert execute(owner_url, "postgres", nothing_left) == [(None,)], "and afterwards nothing is left of that"


def test_the_statements_are_printed_for_others_to_run_and_hold_no_password(capsys):
    assert main(["roles", "--sql"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("BEGIN;\n")
    assert printed.endswith("COMMIT;\n")
    assert "password" not in printed.lower()
    assert "GRANT DELETE ON epochs, learned_values TO aquasurf_driver;" in printed
    assert not re.search(r"(INSERT|UPDATE|DELETE)[^;]* TO [^;]*aquasurf_analyst", printed)


@pytest.mark.parametrize("name", ["x; DROP TABLE runs", 'x"', "X", "", "pg_read_all_data", "x'", "a" * 64])
def test_a_name_that_would_need_quoting_is_refused(name, capsys):
    assert main(["roles", "--sql", "--analyst", name]) == 2
    assert "lower-case letters" in capsys.readouterr().err


def test_sqlite_has_no_roles(tmp_path, capsys):
    Store.open(f"sqlite:///{tmp_path}/runs.db").close()
    assert main(["roles", "--store", f"sqlite:///{tmp_path}/runs.db"]) == 2
    assert "chmod" in capsys.readouterr().err
    with pytest.raises(StoreError, match="two names"):
        Roles("one", "one")
