"""Databases that are locked, full, gone, restarted, paused or cut off under a search, which resumes or says why not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import psutil
import pytest
from light_search import SEARCH, assert_whole, n_results, results
from live_search import wait_for
from sqlalchemy import make_url

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def running(light, url, at_least=4, **environment):
    """A search that has some results, with trainings slow enough that it does not end meanwhile."""
    driver = light(*SEARCH, "--store", url, LIGHT_SECONDS="0.4", **environment)
    wait_for(lambda: driver.poll() is not None or n_results(url) >= at_least)
    assert driver.poll() is None, driver.communicate()
    return driver


def assert_ends_well(driver, url, kept=None):
    _, err = driver.communicate(timeout=200)
    assert driver.returncode == 0, err
    assert "Traceback" not in err
    assert_whole(url, kept=kept)
    return err


def assert_ends_with(driver, *says):
    """Exit status 1 and a last line that holds all this, and how to go on."""
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("aquasurf: ")
    for text in (*says, "to continue: aquasurf resume one"):
        assert text in last


def assert_resumes(light, url, kept):
    assert_ends_well(light("resume", "one", "--store", url), url, kept)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.reliability("sqlite-locked")
def test_a_lock_of_thirty_seconds_is_waited_for(folder, light):
    url = f"sqlite:///{folder}/runs.db"
    driver = running(light, url)
    with contextlib.closing(sqlite3.connect(folder / "runs.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = n_results(url)
        time.sleep(30)  # the length of the lock is the case
        assert (driver.poll(), n_results(url)) == (None, before)
        other.execute("ROLLBACK")
    said = assert_ends_well(driver, url)
    assert "is locked by another process" in said, "what it waits for is told"


@pytest.mark.reliability("sqlite-full")
def test_a_full_disk_ends_the_run_with_a_message_and_it_resumes_once_there_is_room(light, small_disk):
    url = f"sqlite:///{small_disk}/runs.db"
    driver = running(light, url)
    kept = results(url)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    assert_ends_with(driver, "no space left on the disk of", "make room there")
    (small_disk / "filler").unlink()
    with contextlib.closing(sqlite3.connect(small_disk / "runs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert_resumes(light, url, kept)


@pytest.mark.reliability("sqlite-gone")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_database_that_is_taken_away_is_noticed_at_once_and_the_run_resumes_when_it_is_back(folder, light, what):
    place = folder / "place"
    place.mkdir()
    url = f"sqlite:///{place}/runs.db"
    driver = running(light, url)
    kept = results(url)
    away = folder / "away"
    if what == "folder":
        place.rename(away)
    else:
        away.mkdir()
        for file in place.glob("runs.db*"):
            file.rename(away / file.name)
    assert_ends_with(driver, "runs.db' is gone")
    assert not (place / "runs.db").exists(), "no empty one is made in its place"
    if what == "file":
        place.rmdir()
    away.rename(place)
    assert_resumes(light, url, kept)


@pytest.mark.reliability("sqlite-gone")
def test_another_file_in_the_databases_place_is_noticed(folder, light):
    url = f"sqlite:///{folder}/runs.db"
    driver = running(light, url)
    shutil.copy(folder / "runs.db", folder / "copy.db")
    os.replace(folder / "copy.db", folder / "runs.db")
    assert_ends_with(driver, "runs.db' is gone or another file")


@pytest.mark.reliability("store-unwritable")
def test_a_store_that_became_read_only_is_said_at_the_start(light, small_disk):
    url = f"sqlite:///{small_disk}/runs.db"
    driver = running(light, url)
    kept = results(url)
    driver.kill()
    driver.wait()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = light("resume", "one", "--store", url)
    _, err = refused.communicate(timeout=100)
    assert refused.returncode in (1, 2)
    assert "Traceback" not in err
    assert "cannot be opened for writing" in err.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert_resumes(light, url, kept)


@pytest.mark.reliability("postgres-restarted")
def test_a_server_that_restarts_again_and_again_costs_nothing(light, postgres_url, postgres_server, injections):
    driver = running(light, postgres_url)
    for _ in range(3):
        before = n_results(postgres_url)
        postgres_server.pg_ctl("restart", "-m", "immediate")
        injections.add()
        wait_for(lambda: n_results(postgres_url) > before or driver.poll() is not None)  # noqa: B023 - called here
    assert_ends_well(driver, postgres_url)


def processes_of(server):
    postmaster = psutil.Process(int((server.folder / "postmaster.pid").read_text().splitlines()[0]))
    return [postmaster, *postmaster.children(recursive=True)]


@pytest.mark.reliability("postgres-paused")
def test_a_server_that_sleeps_for_twenty_seconds_is_waited_for(light, postgres_url, postgres_server):
    driver = running(light, postgres_url)
    paused = processes_of(postgres_server)
    for process in paused:
        process.suspend()
    try:
        time.sleep(20)  # the length of the pause is the case
        assert driver.poll() is None
    finally:
        for process in paused:
            process.resume()
    assert_ends_well(driver, postgres_url)


@pytest.mark.reliability("postgres-cut")
def test_connections_cut_at_any_moment_lose_and_repeat_nothing(light, postgres_url, postgres_server, injections):
    database = make_url(postgres_url).database
    driver = running(light, postgres_url)
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    while driver.poll() is None and n_results(postgres_url) < 24:
        injections.add(len(postgres_server.execute(kill)))
        time.sleep(0.1)
    assert injections.n >= 10
    assert_ends_well(driver, postgres_url)


@pytest.mark.reliability("newer-code")
def test_a_run_continues_under_a_newer_version_of_the_code_and_results_record_which_produced_them(folder, light):
    url = f"sqlite:///{folder}/runs.db"
    driver = running(light, url, LIGHT_VERSION="0.1.0")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = results(url)
    said = assert_ends_well(light("resume", "one", "--store", url, LIGHT_VERSION="9.9.9"), url, kept)
    assert "run 'one' was begun by version 0.1.0 and continues under 9.9.9" in said
    with contextlib.closing(sqlite3.connect(folder / "runs.db")) as connection:
        versions = dict(connection.execute("SELECT code_version, count(*) FROM evaluations GROUP BY 1").fetchall())
    assert versions == {"0.1.0": len(kept), "9.9.9": 28 - len(kept)}


@pytest.mark.reliability("newer-database")
def test_a_database_of_a_newer_version_is_refused_in_a_sentence(folder, light):
    url = f"sqlite:///{folder}/runs.db"
    light(*SEARCH, "--store", url).communicate(timeout=100)
    with contextlib.closing(sqlite3.connect(folder / "runs.db")) as connection:
        connection.execute("UPDATE aquasurf_version SET version_num = '9999'")
        connection.commit()
    before = (folder / "runs.db").read_bytes()
    refused = light("resume", "one", "--evaluations", "30", "--store", url)
    out, err = refused.communicate(timeout=100)
    assert (refused.returncode, out) == (2, "")
    assert err == (f"aquasurf: store '{url}' has schema 9999, newer than this version knows; upgrade aquasurf-ray\n")
    assert (folder / "runs.db").read_bytes() == before
