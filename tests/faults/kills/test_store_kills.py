"""A hundred kills of a process that writes, and kills of one that migrates: what it wrote is wholly there or not at
all, and the next one continues."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from aquasurf_ray.store import Store
from aquasurf_ray.store.database.schema import HEAD_REVISION, VERSION_TABLE

KILLS = 50  # on each database
FUNCTIONS = 700
N_EPOCHS = 20
LONGEST_WAY = 30  # writes from one kill to the next
SCRIPT = str(Path(__file__).parents[2] / "programs/store_driver.py")

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]


def rows(store, sql):
    """What a query gives."""
    return [tuple(row) for row in store._read(lambda connection: connection.execute(sa.text(sql)).all())]


def assert_no_halves(store):
    """Results have their whole learning curve and nothing else has any of it; returns the results."""
    found = rows(
        store,
        "SELECT e.id, e.status, e.score, (SELECT count(*) FROM epochs WHERE evaluation_id = e.id), "
        "(SELECT count(*) FROM attempts WHERE evaluation_id = e.id AND outcome = 'done'), "
        "(SELECT count(*) FROM events WHERE evaluation_id = e.id AND kind = 'result') FROM evaluations e",
    )
    for _, status, score, *counts in found:
        assert (score, *counts) == ((0.5, N_EPOCHS, 1, 1) if status == "done" else (None, 0, 0, 0))
    spectra = rows(store, "SELECT count(*) FROM spectra")[0][0]
    assert spectra % 5 == 0, "batches of five"
    return {number for number, status, *_ in found if status == "done"}


def kill_after(process, n, seconds):
    """Kills it some time after its n-th write has begun; returns what it was doing then."""
    said = [process.stdout.readline() for _ in range(n)]
    time.sleep(seconds)
    process.kill()
    rest = process.communicate()[0].splitlines()
    return [*said, *rest][-1].strip()


@pytest.mark.reliability("killed-while-writing")
def test_fifty_kills_at_random_writes_leave_nothing_half_there(started, store_url, injections):
    chance, kept, hit = random.Random(5), set(), Counter()
    Store.open(store_url).close()
    with Store.open(store_url) as store:
        for _ in range(KILLS):
            process = started(SCRIPT, store_url, "run", str(FUNCTIONS))
            hit[kill_after(process, chance.randint(1, LONGEST_WAY), chance.uniform(0, 0.01))] += 1
            assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
            injections.add()
            found = assert_no_halves(store)
            assert kept <= found, "a finished result is gone"
            kept = found
        assert set(hit) == {"spectra", "costs", "claim", "start", "result"}, hit
        last = started(SCRIPT, store_url, "run", str(FUNCTIONS))
        _, err = last.communicate(timeout=300)
        assert last.returncode == 0, err
        assert len(assert_no_halves(store)) == FUNCTIONS
        assert rows(store, "SELECT count(*) FROM evaluations WHERE status <> 'done'") == [(0,)]
        assert rows(store, "SELECT count(*) FROM attempts WHERE outcome IS NULL") == [(0,)]


MIGRATE = """
import os, signal, sys
import sqlalchemy as sa
from aquasurf_ray.store import Store
left = [int(sys.argv[2])]
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def kill(connection, cursor, text, *_):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
Store.open(sys.argv[1]).close()
print("through")
"""


@pytest.mark.reliability("killed-in-migration")
def test_a_process_killed_behind_any_statement_of_the_first_migration_leaves_an_empty_or_a_whole_database(
    started, store_url, injections
):
    chance, told = random.Random(3), {}
    for number in sorted(chance.sample(range(1, 100), 12)):
        process = started("-c", MIGRATE, store_url, str(number))
        out, err = process.communicate(timeout=60)
        if out == "through\n":
            break
        assert process.returncode == -signal.SIGKILL, err
        injections.add()
        told[number] = version_of(store_url)
    assert set(told.values()) <= {None, HEAD_REVISION}, told
    assert list(told.values()).count(None) >= 5, "most kills come before the commit"
    with Store.open(store_url) as store:
        assert store.runs() == []
    assert version_of(store_url) == HEAD_REVISION


def version_of(url):
    """The schema's version; None where there is no table at all. Anything between is an error."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() if tables else None
    engine.dispose()
    return found
