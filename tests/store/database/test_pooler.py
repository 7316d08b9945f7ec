"""The store behind PgBouncer, which shares server connections and refuses settings at the start of a session."""

from __future__ import annotations

import threading

import psycopg
import pytest
import sqlalchemy as sa
from pgbouncer import MISSING, PROGRAM, pgbouncer

from aquasurf_ray.store import (
    BadUrl,
    EvaluationRequest,
    FunctionRow,
    LeaseLost,
    NewRun,
    Store,
    StoreError,
    this_process,
)
from aquasurf_ray.store.database.engine import make_engine
from aquasurf_ray.store.database.url import parse_url

SETTINGS = sa.text(
    "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('synchronous_commit')"
)


@pytest.fixture(params=["session", "transaction"])
def pooled_url(request, postgres_server, postgres_url):
    """A new database behind PgBouncer, in both modes; transactions share two server connections."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    size = 2 if request.param == "transaction" else 20
    with pgbouncer(postgres_server, request.param, size) as start:
        yield f"{start}{sa.make_url(postgres_url).database}"


def test_a_store_is_made_and_used_by_two_drivers(pooled_url, elsewhere):
    """More statements than psycopg prepares after, and more drivers at a time than the pool has connections."""
    with Store.open(pooled_url) as store:
        task = store.add_task("digits", "1", "digest", {})
        ids = store.add_functions([FunctionRow(f"fingerprint{i}", f"f{i}(x)", 1) for i in range(20)])
        run = store.create_run(NewRun("run", "search", task, {}, "digest", 0, 20, None, "0.1.0"), ids)
        first = store.acquire_lease(run.id, this_process(), lease_seconds=0.3)
        with Store.open(pooled_url) as other:  # the first driver is silent, so another takes the run over
            lease = other.acquire_lease(run.id, elsewhere, lease_seconds=0.3)
        with pytest.raises(LeaseLost):
            store.claim_all(first, [EvaluationRequest(ids[0], 0, "baseline")])
        store.claim_all(lease, [EvaluationRequest(number, 0, "baseline") for number in ids])
        failures: list[Exception] = []

        def read() -> None:
            try:
                with Store.open(pooled_url) as reader:
                    for number in ids:
                        assert reader.functions([number])[number].id == number
            except Exception as error:  # the main thread fails with it
                failures.append(error)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert not failures


def test_each_transaction_has_our_settings_and_leaves_none_behind(pooled_url):
    engine = make_engine(parse_url(pooled_url))
    with engine.connect() as connection:
        assert connection.execute(SETTINGS).one() == ("30s", "on")
    engine.dispose()
    with psycopg.connect(pooled_url.replace("+psycopg", ""), autocommit=True) as connection:
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("0",)


def test_without_a_pooler_the_session_has_our_settings_and_statements_are_prepared(postgres_url):
    engine = make_engine(parse_url(postgres_url))
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.execute(SETTINGS).one() == ("30s", "on")
            assert connection.connection.dbapi_connection.prepare_threshold == 5
    engine.dispose()


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), ("none", None)])
def test_parameters_of_psycopg_are_taken(postgres_url, text, value):
    url = f"{postgres_url}&prepare_threshold={text}&connect_timeout=5&options=-c%20synchronous_commit%3Doff"
    Store.open(url).close()
    engine = make_engine(parse_url(url))
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection.prepare_threshold == value
        assert connection.execute(SETTINGS).one() == ("0", "off")
    engine.dispose()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("prepare_treshold=0", r"unknown parameter 'prepare_treshold'; did you mean 'prepare_threshold'\?"),
        ("sslmod=require", r"unknown parameter 'sslmod'; did you mean 'sslmode'\?"),
        ("plugin=x", "unknown parameter 'plugin'"),
        ("passwrd=secret", r"unknown parameter 'passwrd'; did you mean 'password'\?"),
        ("prepare_threshold=-1", "prepare_threshold that is neither a number from 0 on nor none"),
        ("prepare_threshold=1&prepare_threshold=2", "prepare_threshold that is neither a number from 0 on nor none"),
        ("prepare_threshold=1.5", "prepare_threshold that is neither a number from 0 on nor none"),
    ],
)
def test_unknown_parameters_are_refused_by_name_in_a_line(parameters, said):
    with pytest.raises(BadUrl, match=said) as caught:
        Store.open(f"postgresql+psycopg://ada@localhost:1/runs?{parameters}")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("parameter", ["connect_timeout=soon", "sslmode=perhaps", "target_session_attrs=any,all"])
def test_wrong_values_of_known_parameters_are_an_error_of_the_store(postgres_url, parameter):
    with pytest.raises(StoreError, match=parameter.partition("=")[0]) as caught:
        Store.open(f"{postgres_url}&{parameter}")
    assert "\n" not in str(caught.value)
