"""Ray's own processes are killed: the work of a lost node moves; a run whose head is lost says so, and resumes."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from light_search import assert_whole, n_results, results
from live_search import wait_for

from aquasurf_ray.store import Store

SHORT, LONG = 8, 30  # evaluations of three seconds: LONG ones are not over before a lost head is noticed
SEARCH = ("search", "digits", "--name=one", "--candidates=40", "--workers=2")
SCRIPTED = str(Path(__file__).parents[1] / "programs/scripted_search.py")

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def cluster(ray_cluster):
    """A head without room for workers, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=node(0))
    try:
        yield made, [made.add_node(**node(1)) for _ in range(2)]
    finally:
        made.shutdown()


def node(n_cpus):
    return {"num_cpus": n_cpus, "include_dashboard": False, "node_ip_address": "127.0.0.1"}


@pytest.fixture
def url(folder):
    return f"sqlite:///{folder}/runs.db"


@pytest.fixture
def search(cluster, started, url):
    """Starts a search on the cluster and waits for some results."""

    def start(budget, *options):
        where = (f"--store={url}", f"--address={cluster[0].address}", f"--evaluations={budget}")
        process = started(SCRIPTED, *SEARCH, *where, *options)
        wait_for(lambda: process.poll() is not None or n_results(url) >= 4)
        assert process.poll() is None, process.communicate()
        return process

    return start


def assert_ends_well(process, url, budget, kept):
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert_whole(url, budget, kept)


def assert_says_and_resumes(process, url, kept, started, elsewhere, says):
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert says in err.splitlines()[-1]
    assert "aquasurf resume one" in err.splitlines()[-1]
    with Store.open(url) as store:
        run = store.run("one")
        assert (run.status, run.lease_owner) == ("failed", None)
        assert says in run.message
        assert "running" not in store.status(run.id).by_status
    assert_ends_well(started(SCRIPTED, "resume", "one", f"--store={url}", f"--address={elsewhere}"), url, LONG, kept)


@pytest.mark.reliability("node-lost")
@pytest.mark.parametrize("how", ["removed", "raylet-killed"])
def test_the_work_of_a_lost_node_moves_at_once(cluster, search, url, how):
    head, (_, lost) = cluster
    driver = search(SHORT)
    kept = results(url)
    if how == "removed":
        head.remove_node(lost)
    else:
        lost.kill_raylet()
    lost_at = time.monotonic()
    wait_for(lambda: n_results(url) >= len(kept) + 3)
    assert time.monotonic() - lost_at < 60, "no wait beyond Ray's health check"
    assert_ends_well(driver, url, SHORT, kept)


@pytest.mark.reliability("head-lost")
def test_a_run_whose_clusters_head_is_killed_says_so_and_resumes_elsewhere(cluster, search, url, started, ray_cluster):
    driver = search(LONG)
    kept = results(url)
    cluster[0].head_node.kill_gcs_server()
    assert_says_and_resumes(driver, url, kept, started, ray_cluster, "the head of the Ray cluster at")


@pytest.mark.reliability("head-stalled")
def test_a_run_waits_for_a_head_that_does_not_answer(cluster, search, url, monkeypatch):
    monkeypatch.setenv("RAY_gcs_server_request_timeout_seconds", "2")
    driver = search(SHORT, "--workers=null", "--time_limit=10")  # so many as fit, and the driver counts other runs
    kept = results(url)
    wait_for(lambda: processes("ray::SlowWorker.train"))[0].suspend()  # until the time limit
    (head,) = processes("gcs_server", cluster[0].head_node.get_session_dir_path())
    head.suspend()
    try:
        warned = [next(line for line in driver.stderr if says in line) for says in ("cannot be counted", "not started")]
    finally:
        head.resume()
    assert all("GetTimeoutError" in line for line in warned)
    assert_ends_well(driver, url, SHORT, kept)


def processes(title, says=""):
    """The processes that Ray has started here, of which the command line has these texts."""
    found = ((p, " ".join(p.cmdline())) for p in psutil.Process().children(recursive=True))
    return [process for process, line in found if title in line and says in line]


@pytest.mark.reliability("own-node-lost")
def test_a_run_whose_own_node_is_killed_says_so_and_resumes_elsewhere(cluster, search, url, started, ray_cluster):
    driver = search(LONG)
    kept = results(url)
    cluster[0].head_node.kill_raylet()
    assert_says_and_resumes(driver, url, kept, started, ray_cluster, "this machine's Ray node at")
