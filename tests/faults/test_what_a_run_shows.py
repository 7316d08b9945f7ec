"""A whole run by the real command on a PostgreSQL with a password: where it listens, and where the password is.

The server trusts whoever comes by its socket, so any password will do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import psycopg
import pytest

from aquasurf_ray.store import Roles, Store
from aquasurf_ray.store.database.schema import Base

PASSWORD = "sEcrEt-0f-Ada"
SEARCH = ("search", "digits", "--name", "one", "--candidates", "16", "--evaluations", "2", "--workers", "1")
SESSION = re.compile(r"(/[^ =]*/session_[\d_-]+)")
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
DRIVER, ANALYST = "shown_driver", "shown_analyst"

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def url(postgres_url, postgres_server):
    """The URL of a driver, with a password, of a database that its owner has made."""
    with Store.open(postgres_url) as store:
        store.grant_roles(Roles(DRIVER, ANALYST))
    yield postgres_url.replace("//postgres@", f"//{DRIVER}:{PASSWORD}@")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        for role in (DRIVER, ANALYST):
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())


def family(process):
    """The process and its descendants, as far as they are still there."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def watched(command, folder, url):
    """Runs the command; returns what it printed, and all that was seen of its processes meanwhile."""
    environment = {**os.environ, "AQUASURF_STORE": url}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    listening, lines, environments, sessions = set(), set(), set(), set()
    driver = subprocess.Popen([sys.executable, "-m", "aquasurf_ray", *command], cwd=folder, env=environment, **pipes)
    top = psutil.Process(driver.pid)

    def look():
        for process in family(top):
            try:
                lines.add(" ".join(process.cmdline()))
                for connection in process.net_connections(kind="inet"):
                    if connection.status == psutil.CONN_LISTEN:
                        listening.add((connection.laddr.ip, process.name()))
                if process.pid != driver.pid:
                    environments.add((process.name(), str(process.environ())))
                    sessions.update(SESSION.findall(" ".join(process.cmdline())))
            except psutil.Error:  # it has ended
                continue

    with ThreadPoolExecutor(1) as reader:
        printed = reader.submit(driver.communicate)
        try:
            while not printed.done():
                look()
                wait([printed], timeout=1.0)
            out, err = printed.result()
        finally:
            driver.kill()
    assert driver.returncode == 0, err
    return out + err, listening, lines, environments, sessions


def test_a_run_as_the_driver_role_listens_on_loopback_only_and_shows_its_password_nowhere(folder, url, postgres_url):
    shown, listening, lines, environments, sessions = watched(SEARCH, folder, url)
    assert len(listening) >= 3, "Ray's servers were seen"
    assert {ip for ip, _ in listening} <= set(LOOPBACK), listening

    assert len(lines) > 5
    assert not [line for line in lines if PASSWORD in line], "ps"
    assert len(environments) > 3
    assert not [name for name, values in environments if PASSWORD in values], "workers need not know the database"
    for command in (["status", "one", "--json"], ["top", "one"]):
        shown += watched_quickly(command, folder, url)
    shown += watched_quickly(["export", "one", "--format", "csv", "-o", "one.csv"], folder, url)
    shown += watched_quickly(["doctor", "digits", "--json"], folder, url)
    assert (
        json.loads(watched_quickly(["status", "one", "--json"], folder, url).partition("\n\n")[0])["status"]
        == "finished"
    )
    assert PASSWORD not in shown, "what commands print"
    assert files_with_the_password(folder) == []
    folders = {Path(found) for found in sessions}
    assert any(folder.is_dir() for folder in folders), "Ray's logs are still there to be looked at"
    for session in folders:
        assert files_with_the_password(session) == []
    assert rows_with_the_password(postgres_url) == []


def watched_quickly(command, folder, url):
    environment = {**os.environ, "AQUASURF_STORE": url}
    command = [sys.executable, "-m", "aquasurf_ray", *command]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + "\n\n" + done.stderr


def files_with_the_password(folder):
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return [path for path in files if PASSWORD.encode() in path.read_bytes()]


def rows_with_the_password(postgres_url):
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        return [
            (table, row)
            for table in Base.metadata.tables
            for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t".encode())
            if PASSWORD in row
        ]
