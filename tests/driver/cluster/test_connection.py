"""Joining a cluster by its address."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray._private import ray_constants

from aquasurf_ray.driver.cluster.capacity import Workers, fitting_workers
from aquasurf_ray.driver.cluster.connection import AUTHENTICATION, CLUSTER_SWITCH, connected
from aquasurf_ray.driver.errors import BadUse, Interrupted
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.driver.settings.reading import make_config


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "localhost:{}"])
def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch, form):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # another test's Ray may be there
    monkeypatch.setattr(ray, "init", lambda **kwargs: pytest.fail("Ray would try for a minute"))
    with socket.socket() as taken:  # bound and not listening, so that nobody else takes the port
        taken.bind(("127.0.0.1", 0))
        address = form.format(taken.getsockname()[1])
        with pytest.raises(BadUse, match="no Ray cluster answers at"), connected(address):
            pass


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.1", "http://10.0.0.1:8265", ":6379", ""])
def test_an_invalid_cluster_address_is_refused_with_the_valid_forms(monkeypatch, address):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **kwargs: pytest.fail("Ray would look for it"))
    expected = f"'{address}' is not the address of a Ray cluster; expected HOST:PORT, ray://HOST:PORT or auto"
    with pytest.raises(BadUse, match=re.escape(expected)), connected(address):
        pass


def test_sigterm_while_ray_starts_is_an_interruption_and_no_exit_code_of_rays(monkeypatch):
    def init(**kwargs):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does there
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda **_: None)
    with StopSignal(), pytest.raises(Interrupted, match="stopped by SIGTERM while Ray started"), connected(None):
        pass


TWICE = """
import os
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.errors import BadUse
with connected(None):
    pass
print(os.environ.get("RAY_AUTH_MODE"))
for mode, address in [(None, "127.0.0.1:1"), ("disabled", None)]:
    os.environ.update({} if mode is None else {"RAY_AUTH_MODE": mode})
    try:
        with connected(address):
            pass
    except BadUse as error:
        print(error)
"""


@pytest.mark.slow
def test_a_process_that_asked_for_a_token_says_so_instead_of_waiting_for_a_cluster_without(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != AUTHENTICATION}
    with process("-c", TWICE, **environment) as twice:
        out, err = twice.communicate(timeout=120)
    assert twice.returncode == 0, err
    left, joined, own = out.splitlines()
    assert left == "None", "the environment is left as it was found"
    assert "cannot use the cluster at '127.0.0.1:1' without one: start a new process, or set" in joined
    assert "cannot use a Ray of its own without one: start a new process" in own


@pytest.fixture
def cluster(monkeypatch):
    """Says what a cluster has."""

    def has(cpus, gpus):
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus})

    return has


def fitted(**options):
    return fitting_workers(make_config({"task": "digits", **options}))


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({}, Workers(8, 1.0, 1.0)),
        ({"gpus_per_evaluation": 1}, Workers(8, 1.0, 1.0)),
        ({"gpus_per_evaluation": 4}, Workers(2, 1.0, 1.0, n_ranks=4)),
        ({"gpus_per_evaluation": 3, "workers": 1}, Workers(1, 1.0, 1.0, n_ranks=3)),
        ({"gpus_per_evaluation": 4, "gpus_per_worker": 0}, Workers(8, 1.0, 0.0, n_ranks=4)),
        ({"gpus_per_evaluation": 2, "cpus_per_worker": 8}, Workers(2, 8.0, 1.0, n_ranks=2)),
    ],
)
def test_an_evaluation_on_several_gpus_makes_for_fewer_workers(cluster, options, workers):
    cluster(32.0, 8.0)
    assert fitted(**options) == workers


@pytest.mark.parametrize(
    ("options", "gpus", "text"),
    [
        (
            {"gpus_per_evaluation": 16},
            8.0,
            "1 times 16 GPUs with 1 CPUs each do not fit the cluster's 32 CPUs",
        ),
        ({"gpus_per_evaluation": 4, "workers": 3}, 8.0, "3 times 4 GPUs .* do not fit"),
        ({"gpus_per_evaluation": 4}, 0.0, "0 GPUs; with gpus-per-worker 0 it counts CPU processes"),
        ({"gpus_per_evaluation": 64, "gpus_per_worker": 0}, 0.0, "1 times 64 CPU processes .* do not fit"),
    ],
)
def test_more_gpus_an_evaluation_than_there_are_is_refused(cluster, options, gpus, text):
    cluster(32.0, gpus)
    with pytest.raises(BadUse, match=text) as refused:
        fitted(**options)
    assert "\n" not in str(refused.value)


JOIN = """
import ray, sys
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.errors import BadUse
try:
    with connected(sys.argv[1]):
        print(ray.cluster_resources()["CPU"])
except BadUse as error:
    print(error)
"""


def process(*arguments, **environment):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=environment, **pipes)


@pytest.mark.faults
def test_a_cluster_that_requires_a_token_is_joined_with_it_and_reported_without(tmp_path):
    (tmp_path / "token").write_text("1234abcd" * 8)
    plain = {name: value for name, value in os.environ.items() if name != AUTHENTICATION}
    plain |= {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "RAY_USAGE_STATS_ENABLED": "0", CLUSTER_SWITCH: "0"}
    asking = {**plain, AUTHENTICATION: "token"}
    with process(str(Path(__file__).parents[2] / "programs" / "token_cluster.py"), **asking) as cluster:
        address = cluster.stdout.readline().strip()
        joins = [process("-c", JOIN, address, **environment) for environment in (asking, plain)]
        (shown, _), (said, _) = [join.communicate(timeout=120) for join in joins]
        cluster.stdin.close()
    assert shown == "1.0\n"
    assert said.startswith(f"no Ray cluster answers at '{address}'")
    assert said.endswith(f"if it asks for a token: {AUTHENTICATION}=token\n")


def test_the_switch_that_keeps_ray_on_the_loopback_address_is_still_there():
    assert ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR == CLUSTER_SWITCH
    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
