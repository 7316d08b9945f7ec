"""The saved queries give the same answers on both engines, and those that were counted by hand."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing

import pytest
from synthetic_run import DIVERGED, NAME, fill_store

from aquasurf_ray.store import QueryError, Store, read_only_query
from aquasurf_ray.store.sql.example_queries import EXAMPLE_QUERIES, example_query

GIVEN = {"run": NAME, "other": "synthetic-confirm"}


@pytest.fixture(scope="module")
def urls(postgres_server, tmp_path_factory):
    """Two stores of equal content."""
    name = f"examples_{uuid.uuid4().hex[:8]}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    urls = {
        "sqlite": f"sqlite:///{tmp_path_factory.mktemp('examples')}/store.db",
        "postgresql": postgres_server.url(name),
    }
    for url in urls.values():
        with Store.open(url) as store:
            fill_store(store)
    return urls


def answer(url, name, **given):
    example = example_query(name)
    needed = {parameter: GIVEN[parameter] for parameter in example.needs}
    return read_only_query(url, example.sql, parameters=example.values(needed | given))


@pytest.mark.parametrize("name", [example.name for example in EXAMPLE_QUERIES])
def test_both_engines_give_the_same_answer(urls, name):
    found, other = (answer(url, name) for url in urls.values())
    assert found.columns == other.columns
    if name == "log":  # times differ
        found, other = (type(a)(a.columns, tuple((*row[:1], *row[2:]) for row in a.rows)) for a in (found, other))
    for row, same in zip(found.rows, other.rows, strict=True):
        for cell, its in zip(row, same, strict=True):
            assert cell == (pytest.approx(its, rel=1e-12) if isinstance(its, float) else its)


@pytest.mark.parametrize("name", [example.name for example in EXAMPLE_QUERIES])
def test_an_answer_does_not_depend_on_the_sign_of_scores(name, tmp_path):
    """Scores of a metric of which less is better are its negative values."""
    plain, negative = (f"sqlite:///{tmp_path}/{sign}.db" for sign in ("plain", "negative"))
    for url in (plain, negative):
        with Store.open(url) as store:
            fill_store(store)
    with closing(sqlite3.connect(tmp_path / "negative.db")) as connection, connection:
        connection.execute("UPDATE evaluations SET score = score - 100, train_score = train_score - 100")
    assert len(answer(negative, name).rows) == len(answer(plain, name).rows)
    noise = [answer(url, "noise", run=GIVEN["other"]).rows for url in (plain, negative)]
    assert noise[0][0][2] == noise[1][0][2] > 0, "functions with two seeds or more"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(urls, request):
    return urls[request.param]


@pytest.fixture
def board(url):
    with Store.open(url) as store:
        return store.leaderboard(run_id=store.run(NAME).id)


def test_best_and_its_limit(url, board):
    rows = answer(url, "best", n="3").rows
    assert [(row[0], row[1], row[-1]) for row in rows] == [(row.rank, row.score, row.function) for row in board[:3]]


def test_against_relu(url, board):
    its = next(row.score for row in board if row.function == "relu(x)")
    assert answer(url, "against").rows == ((its, sum(row.score > its for row in board), len(board)),)


def test_operators_are_whole_words(url, board):
    for operator in ("erf", "relu"):
        expected = [row.function for row in board if f"{operator}(" in row.function.replace("_", "")]
        expected = [name for name in expected if operator in name.replace("(", " ").replace(",", " ").split()]
        assert [row[-1] for row in answer(url, "containing", operator=operator, n="50").rows] == expected


def test_divergences_and_failures_have_their_causes(url):
    ((reason, n, functions, _),) = answer(url, "diverged").rows
    assert (reason, n, functions) == (DIVERGED, 1, 1)
    assert [row[-1] for row in answer(url, "failures").rows] == ["the worker died: out of memory"]


def test_progress_only_rises(url, board):
    rows = answer(url, "progress").rows
    scores = [row[1] for row in rows]
    assert scores == sorted(scores)
    assert rows[0][0] == 1
    assert scores[-1] == board[0].score


def test_the_curve_is_that_of_the_best(url, board):
    rows = answer(url, "curve").rows
    assert [row[0] for row in rows] == [1, 2, 3, 4]
    assert {row[-1] for row in rows} == {board[0].function}


def test_seeds_of_two_runs_are_put_beside_each_other(url):
    rows = answer(url, "in-both").rows
    # of the recipe as it is: one seed of the two winners, three of ReLU; their other trainings have other rates
    assert sorted(row[1] for row in rows) == pytest.approx([(0.75 + 0.72 + 0.74) / 3, 0.75, 0.75])


def test_a_parameter_is_a_value_and_no_sql(url):
    assert answer(url, "best", run="x' OR '1'='1").rows == ()


def test_colons_and_percents_within_quotes_are_text(url):
    sql = """SELECT ':n' AS a, '%' AS b, :n AS c -- :other %s
        /* :third */ FROM runs WHERE name LIKE :like AND name <> 'a%'"""
    assert read_only_query(url, sql, parameters={"n": 3, "like": "synthetic-c%"}).rows == ((":n", "%", 3),)


def test_a_sum_of_whole_numbers_is_one(url):
    ((total,),) = read_only_query(url, "SELECT sum(n_operators) FROM functions").rows
    assert type(total) is int


@pytest.mark.parametrize(
    "sql", ["SELECT :a, :b", "SELECT 1 WHERE 1 = :a; DELETE FROM runs", "DELETE FROM runs WHERE id = :a"]
)
def test_what_is_wrong_is_refused_with_parameters_too(url, sql):
    with pytest.raises(QueryError):
        read_only_query(url, sql, parameters={"a": 1})
    assert read_only_query(url, "SELECT count(*) FROM runs").rows == ((2,),)


def test_a_wrong_parameter_is_reported():
    best = example_query("best")
    with pytest.raises(QueryError, match="no example is named 'bset'; known: best, "):
        example_query("bset")
    with pytest.raises(QueryError, match="example 'best' needs the name of a run: --set run=NAME"):
        best.values({})
    with pytest.raises(QueryError, match="has no parameter 'm'; its parameters are: run, n"):
        best.values({"run": "a", "m": "1"})
    with pytest.raises(QueryError, match=r"parameter 'n' must be a whole number, got '1\.5'"):
        best.values({"run": "a", "n": "1.5"})
