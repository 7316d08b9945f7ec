"""Checkpoints that are damaged, and a storage path that is full or gone, under trainings by real workers."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess

import psutil
import pytest
from live_search import wait_for
from long_task import EPOCHS, MODULE

from aquasurf_ray.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

TRAIN = """
from aquasurf_ray.driver import evaluate
evaluate(["tanh(x)"], "longtask:make", name="one", workers=1, checkpoint_interval=0.0, storage="storage")
"""
RESUME = """
from aquasurf_ray.driver import resume
resume("one", checkpoint_interval=0.0)
"""


@pytest.fixture
def place(folder):
    """A folder with a task of forty epochs, each of which leaves a line in a log and a checkpoint."""
    (folder / "longtask.py").write_text(MODULE)
    (folder / "storage").mkdir()
    return folder


@pytest.fixture
def python(started):
    """Runs a program in the folder."""
    return lambda code: started("-c", code)


def epochs(place):
    log = place / "epochs.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def checkpoints(place):
    return sorted((place / "storage").rglob("epoch-*.ckpt"))


def kill_with_its_workers(driver):
    """And with its Ray, whose processes would outlive it by a minute."""
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    driver.communicate()
    psutil.wait_procs(children, timeout=60)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def other_version(path):
    path.write_bytes(b"AQSCKPT9" + path.read_bytes()[8:])


@pytest.mark.reliability("checkpoint-damaged")
def test_a_damaged_checkpoint_costs_one_epoch_and_damaged_ones_a_fresh_start(place, python, injections):
    """The driver and its worker are killed, the checkpoints damaged, and the run resumed, again and again."""
    driver = python(TRAIN)
    for damage, all_of_them in ((cut, False), (flip, False), (other_version, False), (cut, True)):
        before = epochs(place)
        wait_for(lambda: epochs(place) >= before + 4 and len(checkpoints(place)) == 2, 300)  # noqa: B023 - called here
        kill_with_its_workers(driver)
        found = checkpoints(place)
        for path in found if all_of_them else found[-1:]:
            damage(path)
        injections.add()
        driver = python(RESUME)
    _, err = driver.communicate(timeout=400)
    assert driver.returncode == 0, err
    with Store.open(f"sqlite:///{place}/aquasurf.db", create=False) as store:
        (request,) = store.snapshot(store.run("one").id).evaluations
        curve = store.curve(request.evaluation.id)
    assert (request.evaluation.status, request.evaluation.attempts) == ("done", 0)
    assert [epoch.epoch for epoch in curve] == list(range(1, EPOCHS + 1)), "no epoch twice, none left out"
    assert epochs(place) >= EPOCHS + 4 + 3, "the last damage meant a fresh start"


@pytest.mark.reliability("storage-full")
def test_a_full_storage_is_named_and_the_training_resumes_once_there_is_room(place, python):
    storage = place / "storage"
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(storage)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        filler = storage / "filler"
        filler.write_bytes(bytes(2_000_000))
        assert_says(python(TRAIN), place, "No space left on device")
        assert [path for path in storage.rglob("*") if path.name.endswith(".tmp")] == [], "no rest takes up the room"
        filler.unlink()
        assert_done(python(RESUME), place)
    finally:
        subprocess.run(["umount", "-l", str(storage)], check=True)


@pytest.mark.reliability("storage-gone")
def test_a_storage_path_that_goes_away_is_named_and_the_training_resumes_once_it_is_back(place, python):
    driver = python(TRAIN)
    wait_for(lambda: epochs(place) >= 5, 300)
    (place / "storage").rename(place / "away")
    (place / "storage").write_text("a mount point without its file system")
    assert_says(driver, place, "cannot be written")
    done_before = epochs(place)
    (place / "storage").unlink()
    (place / "away").rename(place / "storage")
    assert_done(python(RESUME), place)
    assert epochs(place) - done_before < EPOCHS, "it went on from what was saved"


def assert_says(driver, place, text):
    """The run fails, and its evaluation says why."""
    _, err = driver.communicate(timeout=400)
    assert driver.returncode == 1, err
    assert "1 of 1 evaluations failed on their workers" in err.splitlines()[-1]
    with Store.open(f"sqlite:///{place}/aquasurf.db", create=False) as store:
        (request,) = store.snapshot(store.run("one").id).evaluations
    assert request.evaluation.status == "failed"
    assert request.evaluation.error.startswith("CheckpointError: ")
    assert text in request.evaluation.error


def assert_done(driver, place):
    _, err = driver.communicate(timeout=400)
    assert driver.returncode == 0, err
    with Store.open(f"sqlite:///{place}/aquasurf.db", create=False) as store:
        (request,) = store.snapshot(store.run("one").id).evaluations
        assert request.evaluation.status == "done"
        assert len(store.curve(request.evaluation.id)) == EPOCHS
