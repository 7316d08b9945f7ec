"""aquasurf submit and job, on a real Ray cluster with a dashboard that asks for a token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import ray_head

from aquasurf_ray.store import Store, StoreError

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(400)]

BASELINES = 8
SETTINGS = ("--candidates", "16", "--evaluations", "2", "--workers", "1")
OWN, SLOW = ("search", "own_tasks:quick", *SETTINGS), ("search", "own_tasks:slow", *SETTINGS)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    reason = ray_head.why_not()
    if reason:
        pytest.skip(f"no dashboard here: {reason}")
    folder = tmp_path_factory.mktemp("head")
    with ray_head.ray_head(folder, AQUASURF_STORE=f"sqlite:///{folder}/runs.db") as head:
        yield head


@pytest.fixture(scope="module")
def runs(head):
    return clusters_store(head)


def clusters_store(head):
    """Opens the store that the cluster's jobs write to."""
    return lambda: Store.open(f"sqlite:///{head.process.cwd()}/runs.db", create=False)


def started_on(head, folder, *arguments, **environment):
    """The command, started in a folder, as somebody who has the cluster's token."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AQUASURF_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "aquasurf_ray", *arguments],
        cwd=folder,
        env=clean | head.environment | {"RAY_API_SERVER_ADDRESS": head.address} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def command_on(head, folder):
    """Runs commands to their end: exit code, standard output, standard error."""

    def command(*arguments, **environment):
        with started_on(head, folder, *arguments, **environment) as process:
            try:
                out, err = process.communicate(timeout=300)
            finally:
                process.kill()
        return process.returncode, out, err

    return command


@pytest.fixture
def say(head, folder):
    """Runs commands in the folder of the user's own tasks."""
    return command_on(head, folder)


def assert_budget_met(runs, name):
    with runs() as store:
        run = store.run(name)
        assert run.status == "finished"
        by_status = Counter(store.status(run.id).by_status)
    assert by_status.keys() <= {"done", "diverged"}
    assert sum(by_status.values()) == BASELINES + 2


def listed(say):
    code, out, err = say("job", "list", "--json")
    assert code == 0, err
    return {job["job"]: job for job in json.loads(out)}


def test_a_search_with_a_custom_task_is_shipped_detached_and_attached_to(head, folder, runs, say):
    code, out, err = say("submit", "--working-dir", ".", "--detach", "--", *OWN, "--name", "shipped")
    assert code == 0, err
    job = out.strip()
    assert job.startswith("shipped-")
    (folder / "own_tasks.py").unlink()  # what the cluster has is a copy
    code, out, err = say("job", "attach", job)
    assert code == 0, out + err
    assert "run 'shipped' is finished: 10 evaluations" in out
    assert say("job", "attach", job)[:2] == (0, out), "the whole log, also of a job that has ended"
    assert listed(say)[job] == listed(say)[job] | {
        "status": "SUCCEEDED",
        "exit_code": 0,
        "command": " ".join(("aquasurf", *OWN, "--name", "shipped")),
    }
    assert_budget_met(runs, "shipped")
    assert head.listening(), "the dashboard at least"
    assert [a for a in head.listening() if a[0].removeprefix("::ffff:") not in ("127.0.0.1", "::1")] == []


def test_ctrl_c_leaves_the_job_alone_and_stop_drains_it(head, folder, runs, say):
    with started_on(head, folder, "submit", "--working-dir", ".", "--", *SLOW, "--name", "left") as following:
        try:
            first = following.stderr.readline()
            assert first.endswith("is on the cluster; Ctrl-C leaves it running\n"), first + following.stderr.read()
            job = first.split("'")[1]
            wait_for_a_result(runs, "left")
            following.send_signal(signal.SIGINT)
            _, err = following.communicate(timeout=60)
        finally:
            following.kill()
    assert following.returncode == 130
    assert err.splitlines()[-1] == f"detached; job '{job}' keeps running: aquasurf job attach {job}"
    assert listed(say)[job]["status"] == "RUNNING"
    code, out, err = say("job", "stop", job)
    assert (code, out) == (0, f"job '{job}' is stopped\n"), err
    with runs() as store:  # a driver that is killed leaves its run and its evaluation running
        run = store.run("left")
        assert run.status == "interrupted"
        assert "running" not in store.status(run.id).by_status
    code, out, err = say("job", "attach", job)
    assert code == 1
    assert "stopped by SIGTERM" in out
    assert err == f"aquasurf: job '{job}' is stopped: finished work is kept; resume the run\n"
    code, out, err = say("submit", "--working-dir", ".", "--", "resume", "left")
    assert code == 0, out + err
    assert_budget_met(runs, "left")


def wait_for_a_result(runs, name):
    end = time.monotonic() + 200
    while time.monotonic() < end:
        try:
            with runs() as store:
                if store.status(store.run(name).id).by_status.get("done"):
                    return
        except StoreError:  # there is no such run, or no store yet
            pass
        time.sleep(0.3)
    pytest.fail(f"run '{name}' has no result in time")


def test_the_exit_code_is_the_commands_own(say):
    code, out, _ = say("submit", "--", "search", "digitz", "--name", "none")
    assert code == 2
    assert "digitz" in out


def test_whoever_has_no_token_is_told_so(head, say, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    for environment in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": str(wrong)}):
        code, out, err = say("job", "list", **environment)
        assert (code, out) == (2, "")
        assert err.startswith(f"aquasurf: the cluster at {head.address} requires its token: set RAY_AUTH_MODE=token")


def test_a_job_that_is_not_there_is_reported(head, say):
    for command in ("attach", "stop"):
        code, out, err = say("job", command, "nothing")
        assert (code, out) == (2, "")
        assert err == f"aquasurf: no such job at {head.address}; list the jobs with: aquasurf job list\n"


def test_an_explicit_address_wins_over_rays_variables(head, say):
    code, _, err = say("job", "list", "--dashboard", "http://127.0.0.1:1", RAY_ADDRESS=head.address)
    assert code == 2
    assert err.startswith("aquasurf: no Ray cluster answers at http://127.0.0.1:1: ")


def test_what_a_job_is_given_is_refused_before_anything_is_sent(say, folder):
    assert (folder / "own_tasks.py").exists()
    code, _, err = say("submit", "--", *SLOW)
    assert code == 2
    assert err == (
        "aquasurf: 'own_tasks:slow' is in this folder and not on the cluster; ship the folder with: --working-dir .\n"
    )
