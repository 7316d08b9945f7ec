"""deploy/slurm/search.sbatch, submitted to a real Slurm: it finishes, is cut off and resumes, is cancelled, fails."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from aquasurf_ray.store import Store, StoreError

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "search.sbatch"
BASELINES = 8
SMALL = ("--name", "one", "--candidates", "16", "--evaluations", "4")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
    return found


@pytest.fixture
def submit(slurm, folder):
    """Submits the script with sbatch's options and the command; returns the job's number."""

    def sbatch(options, *command):
        made = slurm.command("sbatch", "--parsable", "--cpus-per-task=1", *options, SCRIPT, *command, cwd=folder)
        jobs.append(made)
        return made

    jobs = []
    yield sbatch
    for job in jobs:
        if slurm.job(job)["JobState"] not in ENDED:
            slurm.command("scancel", job)
            ended(slurm, job)


def ended(slurm, job, seconds=120):
    """The job's state once nothing more happens to it."""

    def state():
        now = slurm.job(job)["JobState"]
        return now if now in ENDED else None

    return wait_for(state, seconds)


def log(folder, job):
    path = folder / f"aquasurf-{job}.log"
    return path.read_text() if path.exists() else ""


def counts(folder):
    """How many evaluations of the run have which status; nothing before there is a run."""
    try:
        with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
            return Counter(store.status(store.run("one").id).by_status)
    except StoreError:
        return Counter()


def run_status(folder):
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        return store.run("one").status


def n_finished(folder):
    return counts(folder)["done"] + counts(folder)["diverged"]


def assert_budget_met(folder, budget):
    assert counts(folder).keys() <= {"done", "diverged"}
    assert n_finished(folder) == budget + BASELINES
    assert run_status(folder) == "finished"


def assert_nothing_left(folder, job):
    """No token, and no process that was given this job's folder or was begun in it."""
    wait_for(lambda: not (folder / f"aquasurf-job-{job}" / "token").exists(), 60)  # cancelled, it has 30 s
    wait_for(lambda: not processes_of(folder), 60)


def processes_of(folder):
    """Those that work in the folder, zombies apart."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def command_lines():
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return lines


def test_a_search_on_two_nodes_finishes_and_keeps_its_token_to_itself(slurm, folder, submit):
    job = submit(["--nodes=2", "--time=10"], "search", "digits", *SMALL)
    token = folder / f"aquasurf-job-{job}" / "token"
    wait_for(lambda: n_finished(folder) >= 1, 180)
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o777 == 0o700
    secret = token.read_text()
    assert len(secret) == 64
    assert [line for line in command_lines() if secret in line] == []
    raylets = [line for line in command_lines() if "raylet/raylet" in line and "aquasurf-" in line]
    assert len(raylets) == 2, "one on each node"
    assert ended(slurm, job, 300) == "COMPLETED", log(folder, job)
    assert "Ray is up on 2 of 2 nodes" in log(folder, job)
    assert secret not in log(folder, job)
    assert slurm.job(job)["Restarts"] == "0"
    assert_budget_met(folder, 4)
    assert_nothing_left(folder, job)


@pytest.mark.timeout(2400)
def test_a_search_that_is_cut_off_at_its_time_limit_continues_until_its_budget_is_met(slurm, folder, submit):
    """More than 4 minutes of trainings on one worker, in slices of 4 minutes, of which one is for draining and another
    may be taken away by Slurm's clock, whose resolution is a minute. What a slice has begun it leaves as a checkpoint,
    so that a slow machine takes more of them, and no other test is needed for it."""
    budget = 12
    command = ["search", "own_tasks:long", "--name", "one", "--candidates", "16", "--evaluations", str(budget)]
    options = ["--nodes=1", "--time=4", "--signal=B:USR1@60"]
    job = submit(options, *command, "--workers", "1", "--checkpoint-interval", "2")
    wait_for(lambda: is_queued(slurm, job) and slurm.job(job)["Restarts"] == "1", 360)
    assert n_finished(folder) < budget + BASELINES
    assert counts(folder)["running"] == 0
    assert run_status(folder) == "interrupted"
    while is_queued(slurm, job):
        start_again(slurm, folder, job)
        wait_for(lambda: is_queued(slurm, job) or has_ended(slurm, folder, job), 360)
    assert slurm.job(job)["JobState"] == "COMPLETED", log(folder, job)
    assert "the driver did not end" not in log(folder, job)
    assert_budget_met(folder, budget)
    assert_nothing_left(folder, job)
    assert len(evaluated(folder)) == len(set(evaluated(folder))) == budget + BASELINES


def has_ended(slurm, folder, job):
    """Whether it will not come back: its last start was not drained, or was finished by then. On its way into the queue
    Slurm shows a job as failed for a moment, and counts the restart already."""
    last = log(folder, job).rsplit(": start ", 1)[-1]
    stays = "draining" not in last or "ended with exit code 0" in last
    return stays and slurm.job(job)["JobState"] in ENDED


def is_queued(slurm, job):
    return slurm.job(job)["JobState"] == "PENDING"


def start_again(slurm, folder, job):
    """Starts a job that is in the queue for the second time as soon as its last start is over: Slurm itself would wait
    two minutes, and a start that meets the rest of the last one is ended with it."""
    wait_for(lambda: slurm.command("squeue", "--noheader", "--format=%T", f"--jobs={job}") == "PENDING", 120)
    wait_for(lambda: not processes_of(folder), 60)
    wait_for(lambda: not any(line.startswith(f"slurmstepd: [{job}.") for line in command_lines()), 60)
    slurm.command("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: not is_queued(slurm, job), 60)


def evaluated(folder):
    """The functions and seeds that the run has evaluations of, as often as it has them."""
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        snapshot = store.snapshot(store.run("one").id)
        return [(one.function, one.evaluation.seed) for one in snapshot.evaluations]


def test_a_job_that_is_cancelled_drains_and_is_not_put_into_the_queue_again(slurm, folder, submit):
    job = submit(["--nodes=1", "--time=10"], "search", "own_tasks:slow", *SMALL, "--workers", "1")
    wait_for(lambda: n_finished(folder) >= 1, 180)
    slurm.command("scancel", job)
    assert ended(slurm, job) == "CANCELLED"
    assert slurm.job(job)["Restarts"] == "0"
    assert run_status(folder) == "interrupted"
    assert counts(folder)["running"] == 0
    assert_nothing_left(folder, job)


def test_a_run_that_fails_is_not_put_into_the_queue_again(slurm, folder, submit):
    job = submit(["--nodes=1", "--time=10"], "search", "own_tasks:broken", *SMALL)
    assert ended(slurm, job, 240) == "FAILED"
    assert slurm.job(job)["ExitCode"] == "1:0", log(folder, job)
    assert slurm.job(job)["Restarts"] == "0"
    assert "the network needs a library that this machine has not" in log(folder, job)
    assert_nothing_left(folder, job)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["search", "digits"], "the command must name its run"),
        (["search", "digitz", "--name", "one"], "digits"),
    ],
)
def test_bad_use_is_reported_and_ends_the_job(slurm, folder, submit, command, text):
    job = submit(["--nodes=1", "--time=10"], *command)
    assert ended(slurm, job) == "FAILED"
    assert slurm.job(job)["ExitCode"] == "2:0", log(folder, job)
    assert text in log(folder, job)
    assert not (folder / "aquasurf.db").exists()
