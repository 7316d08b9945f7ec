"""`aquasurf query` with saved examples, values and the columns; `aquasurf snapshot`."""

from __future__ import annotations

import json

import duckdb
import pyarrow.parquet
import pytest
from pages import blocks, commands
from synthetic_run import NAME

from aquasurf_ray.cli.main import main
from aquasurf_ray.store import Store
from aquasurf_ray.store.sql.example_queries import EXAMPLE_QUERIES
from aquasurf_ray.store.sql.table_columns import everything


@pytest.fixture
def ask(synthetic_run_url, capsys):
    def asked(*arguments, command="query"):
        code = main([command, *arguments, "--store", synthetic_run_url])
        return code, *capsys.readouterr()

    return asked


def test_examples_are_listed_and_can_be_read(ask):
    lines = ask("--examples")[1].splitlines()
    assert [line.split()[0] for line in lines[1:]] == [example.name for example in EXAMPLE_QUERIES]
    listed = json.loads(ask("--examples", "--json")[1])
    assert [row["question"] for row in listed] == [example.question for example in EXAMPLE_QUERIES]
    assert ask("--example", listed[1]["example"], "--show-sql")[1].strip() == listed[1]["sql"]


def test_an_example_answers_in_every_format(ask, synthetic_run_url):
    with Store.open(synthetic_run_url) as store:
        best = store.leaderboard(run_id=store.run(NAME).id, n=3)
    code, out, err = ask("--example", "best", "--set", f"run={NAME}", "--set", "n=3", "--json")
    assert (code, err) == (0, "")
    assert [(row["function"], row["score"]) for row in json.loads(out)] == [(row.function, row.score) for row in best]
    table = ask("--example", "best", "--set", f"run={NAME}", "--set", "n=3")[1].splitlines()
    assert table[1].split()[-1] == best[0].function
    assert len(ask("--example", "runs", "--format", "csv")[1].splitlines()) == 3


def test_values_of_a_custom_query(ask):
    sql = "SELECT name, :x + 1 AS more, :y AS text FROM runs WHERE name = :run"
    out = ask(sql, "--set", f"run={NAME}", "--set", "x=1.5", "--set", "y=a=b", "--json")[1]
    assert json.loads(out) == [{"name": NAME, "more": 2.5, "text": "a=b"}]


def test_the_schema_is_printed(ask):
    rows = json.loads(ask("--schema", "--json")[1])
    assert len(rows) == sum(len(view.columns) for view in everything())
    assert rows[0] == {"view or table": "leaderboard", "column": "run", "type": "text", "meaning": "name of the run"}


def test_the_page_works_as_it_is_printed(synthetic_run_url, tmp_path, monkeypatch, capsys):
    """Its commands are of a run of another name, and a folder that both a command and DuckDB know."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AQUASURF_STORE", synthetic_run_url)
    for command in commands("docs/queries.md"):
        assert main([word.replace("run=digits", f"run={NAME}") for word in command[1:]]) == 0
    capsys.readouterr()
    (code,) = blocks("docs/queries.md", "python")
    exec(code.replace("sqlite:///aquasurf.db", synthetic_run_url).replace('"digits"', f'"{NAME}"'), {})
    assert "suggestion    0.9" in capsys.readouterr().out
    (sql,) = blocks("docs/queries.md", "sql")
    with duckdb.connect() as connection:
        assert connection.execute(sql).fetchall()[0][1] == 0.9


def test_a_snapshot_is_written_and_counted(ask, tmp_path):
    code, out, err = ask("-o", str(tmp_path / "today"), command="snapshot")
    assert (code, err) == (0, "")
    assert out.startswith(f"{len(everything())} views and tables with ")
    assert len(pyarrow.parquet.read_table(tmp_path / "today" / "runs.parquet")) == 2
    document = json.loads(ask("-o", str(tmp_path / "again"), "--json", command="snapshot")[1])
    assert document["rows"]["runs"] == 2
    code, out, err = ask("-o", str(tmp_path / "today"), command="snapshot")
    assert (code, out) == (2, "")
    assert "already exists; name a new folder" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give one SELECT, --example NAME, --examples or --schema"),
        (["SELECT 1", "--examples"], "give one SELECT"),
        (["SELECT 1", "--show-sql"], "--show-sql works only with --example"),
        (["--example", "bset"], "no example is named 'bset'; known: best, "),
        (["--example", "best"], "example 'best' needs the name of a run: --set run=NAME"),
        (["--example", "best", "--set", "run=nothing"], "no run is named 'nothing'"),
        (["--example", "best", "--set", f"run={NAME}", "--set", "n=few"], "'n' must be a whole number, got 'few'"),
        (["--example", "runs", "--set", "n=1"], "has no parameter 'n'; its parameters are: none"),
        (["SELECT 1", "--set", "run"], "set must be NAME=VALUE, got 'run'"),
        (["SELECT :a, :b", "--set", "a=1"], "b"),
        (["DELETE FROM runs WHERE name = :a", "--set", "a=1"], "query: not authorized; only one SELECT is allowed"),
        (["SELECT * FROM leaderbord"], "no such table: leaderbord; aquasurf query --schema lists"),
        (["SELECT :a", "--set", f"a={2**70}"], "query: "),
    ],
)
def test_bad_use_is_reported_in_a_line(ask, arguments, says):
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
