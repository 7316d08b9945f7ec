"""Files that somebody sent: spaces, configurations, benchmarks, databases to merge. Refused quickly, run never."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.plain_yaml import LARGEST
from aquasurf_ray.store import BenchmarkFileError, Store, StoreError, read_benchmark

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
QUICK = 5.0  # seconds, though the machine be busy; none takes a tenth of it on an idle one


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "aliases"),
        (f"space: &x [1]\ncandidates: *x\n{LAUGHS}", "aliases"),
        ("a: &a [*a]", "aliases"),
        ("[" * 100_000, "nested deeper than 50"),
        ("{a: " * 100_000, "nested deeper than 50"),
        ("- " * 100_000, "nested deeper than 50"),
        ("!!python/object/apply:os.system ['touch planted']", "could not determine a constructor"),
        ("space: !!python/object/new:os.system ['touch planted']", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("name: " + "x" * LARGEST, "bytes are more than"),
        ("a: \x00", "is not YAML"),
    ],
    ids=lambda value: value[:20],
)
def test_a_hostile_yaml_file(here, capsys, text, says):
    (here / "hostile.yaml").write_text(text)
    for command in (["search", "digits", "--config"], ["space"]):
        started = time.process_time()
        assert main([*command, "hostile.yaml"]) == 2
        assert time.process_time() - started < QUICK
        told = capsys.readouterr().err
        assert says in told
        assert len(told) < 500
    assert [file.name for file in here.iterdir()] == ["hostile.yaml"]


@pytest.mark.parametrize(
    "function",
    [
        "(" * 10_000_000,
        "relu(" * 100_000 + "x" + ")" * 100_000,
        "x" * 10_000_000,
        "\x1b[2Jrelu(x)",
        "relu(x)\x00",
        "__import__('os').system('touch planted')",
        "relu.__class__(x)",
        "eval(x)",
        "$(touch planted)",
        "{x.__class__}",
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_a_hostile_function_is_refused_quickly_with_its_position_and_shown_short(here, capsys, function):
    started = time.process_time()
    assert main(["show", function]) == 2
    assert time.process_time() - started < QUICK
    told = capsys.readouterr().err
    assert len(told) < 1000
    assert "\x1b" not in told
    assert "\x00" not in told
    assert list(here.iterdir()) == []


def database(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_database_as_a_benchmark_is_refused_unopened(here):
    database(here / "hostile.db", "CREATE VIEW t AS SELECT load_extension('planted.so') AS function, 1 AS val_acc")
    before = (here / "hostile.db").read_bytes()
    with pytest.raises(BenchmarkFileError, match="is a SQLite database; import reads Act-Bench files"):
        list(read_benchmark(here / "hostile.db"))
    assert (here / "hostile.db").read_bytes() == before
    assert not (here / "planted").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"relu(x)": ' + "[" * 100_000, '{"relu(x)": ' + '{"a":' * 100_000])
def test_a_deep_json_benchmark(here, text):
    (here / "deep.json").write_text(text)
    with pytest.raises(BenchmarkFileError) as refused:
        list(read_benchmark(here / "deep.json"))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "hostile",
    [
        "DROP TABLE functions; CREATE VIEW functions AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT i AS id, 'f' || i AS fingerprint, 'f' AS name, 1 AS n_operators FROM n",
        "DROP TABLE tasks; CREATE VIEW tasks AS SELECT load_extension('planted.so') AS id",
    ],
)
def test_a_hostile_store_to_merge(here, hostile):
    """Tables that are views: a merge reads tables."""
    Store.open("sqlite:///hostile.db").close()
    with contextlib.closing(sqlite3.connect("hostile.db")) as connection:
        connection.executescript(f"PRAGMA foreign_keys = OFF; {hostile}")
    with Store.open("sqlite:///here.db") as opened, pytest.raises(StoreError, match="is not a table"):
        opened.merge("sqlite:///hostile.db")
