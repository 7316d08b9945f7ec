"""What Prometheus gets to see of a run, over HTTP from Ray's own agent."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest
import ray
from scripted_worker import ScriptedWorker

from aquasurf_ray.driver import search

SECONDS = 90.0


def metrics_url():
    """The agent's address on this node; skips where there is none."""
    node = ray.nodes()[0]
    if node["MetricsExportPort"] < 0:
        pytest.skip("Ray was installed without ray[default], so it exports no metrics")
    assert node["NodeManagerAddress"] == "127.0.0.1", "the private instance listens on nothing else"
    return f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"


def exported(url, run):
    """{(name, the tags status, state or metric): value} of a run; Ray's own tags are left out."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if f'run="{run}"' in line]
    found = {}
    for line in lines:
        tag = re.search(r'(?:status|state|metric)="(\w+)"', line)
        found[line.partition("{")[0], tag[1] if tag else None] = float(line.rpartition(" ")[2])
    return found


@pytest.mark.usefixtures("ray_here")
def test_the_metrics_of_a_run_are_exported_by_rays_agent(tmp_path, monkeypatch):
    url = metrics_url()
    monkeypatch.chdir(tmp_path)
    options = {"name": "measured", "candidates": 12, "evaluations": 2, "cpus_per_worker": 0.2, "workers": 2}
    store = f"sqlite:///{tmp_path}/runs.db"
    result = search("digits", worker=ScriptedWorker, store=store, features="outputs", **options)
    end = time.monotonic() + SECONDS  # Ray sends every ten seconds
    while (found := exported(url, "measured")).get(("ray_aquasurf_evaluations_total", "done")) != 10:
        assert time.monotonic() < end, found
        time.sleep(0.5)
    assert found["ray_aquasurf_suggestion_seconds_count", None] == 2
    assert found["ray_aquasurf_training_seconds_count", None] == 10
    assert found["ray_aquasurf_store_write_seconds_count", None] > 20
    assert found["ray_aquasurf_best", "accuracy"] == pytest.approx(result.best[1])
    assert (found["ray_aquasurf_running", None], found["ray_aquasurf_queued", None]) == (0, 0)
    assert found["ray_aquasurf_workers", "retired"] == 0
