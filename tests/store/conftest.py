"""What the tests of the store share: an open store with a task and functions, and a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgbouncer import MISSING, PROGRAM, pgbouncer

from aquasurf_ray.store import FunctionRow, Lease, LeaseOwner, NewRun, Run, Store, this_process
from aquasurf_ray.store.database.schema import Base


@dataclass
class HandClock:
    """Sleeping moves it on, by `least` seconds or more; `during_sleep` is what the rest of the world does meanwhile."""

    now: float = 1000.0
    least: float = 0.0
    during_sleep: Callable[[], None] = field(default=lambda: None)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, self.least)
        self.during_sleep()


@dataclass
class World:
    """A store with one task and some functions."""

    url: str
    store: Store
    task_id: int
    functions: list[int]

    def run(self, name: str = "run", candidates: Sequence[int] | None = None) -> Run:
        new = NewRun(name, "search", self.task_id, {"space": "three-node"}, "digest", 0, 40, None, "0.1.0")
        return self.store.create_run(new, self.functions if candidates is None else candidates)

    def lease(self, name: str = "run") -> Lease:
        return self.store.acquire_lease(self.run(name).id, this_process(), lease_seconds=30)


@pytest.fixture(scope="session")
def emptied_url(postgres_server: Any) -> str:
    """A PostgreSQL database with our schema, used by one test after the other: making one takes most of a second."""
    postgres_server.execute("CREATE DATABASE emptied")
    url: str = postgres_server.url("emptied")
    Store.open(url).close()
    return url


@pytest.fixture(scope="session")
def pooled_start(postgres_server: Any) -> Iterator[str]:
    """The start of URLs of a PgBouncer in transaction mode."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with pgbouncer(postgres_server, "transaction") as start:
        yield start


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def world_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store without rows, once on each engine, and behind a pooler."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    url: str = request.getfixturevalue("emptied_url")
    tables = ", ".join(Base.metadata.tables)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE".encode())
    return f"{request.getfixturevalue('pooled_start')}emptied" if request.param == "pgbouncer" else url


@pytest.fixture
def world(world_url: str) -> Iterator[World]:
    with Store.open(world_url) as store:
        task_id = store.add_task("digits", "1", "task-digest", {"epochs": 30})
        rows = [FunctionRow(f"fingerprint{i}", f"f{i}(x)", 1 + i % 3) for i in range(8)]
        yield World(world_url, store, task_id, store.add_functions(rows))


@pytest.fixture
def elsewhere() -> LeaseOwner:
    """A driver on another host: nobody here can see whether it lives."""
    return LeaseOwner("far-away", "other-boot", 4711, 1, "pid:[1]")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
