"""A search on a cluster that has no worker node until somebody asks: Ray's own autoscaler starts them, as processes."""

from __future__ import annotations

import pytest
import ray_head
import yaml
from test_submit import assert_budget_met, clusters_store, command_on

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(400)]

NODE_TYPES = {
    "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "cores": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
}
LISTS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
SCALING = {
    **{f"{name}_commands": [] for name in LISTS},
    **{name: {} for name in ("auth", "docker", "file_mounts")},
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    "file_mounts_sync_continuously": False,
    "cluster_name": "test",
    "max_workers": 2,
    "idle_timeout_minutes": 30,
    "provider": {"type": "fake_multinode", "gcs_address": "127.0.0.1:{port}", "disable_node_updaters": True},
    "available_node_types": NODE_TYPES,
    "head_node_type": "ray.head.default",
    "upscaling_speed": 8.0,
}
OPTIONS = ("--evaluations", "2", "--candidates", "16", "--name", "grown", "--wait-for-nodes")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    reason = ray_head.why_not()
    if reason:
        pytest.skip(f"no dashboard here: {reason}")
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "autoscaling.yaml").write_text(yaml.safe_dump(SCALING))
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    store = f"sqlite:///{folder}/runs.db"
    with ray_head.ray_head(folder, ("--num-cpus=0",), AQUASURF_STORE=store, **fake) as head:
        yield head


def test_a_search_waits_for_nodes_that_are_started_for_it_and_no_longer_than_it_is_told_to(head, tmp_path):
    run = command_on(head, tmp_path)
    code, out, err = run("submit", "--", "search", "digits", "--workers", "3", *OPTIONS, "5")
    assert code == 2, out + err
    assert "workers: 3 with 1 CPUs and 0 GPUs each do not fit the cluster's" in out
    code, out, err = run("submit", "--", "search", "digits", "--workers", "2", *OPTIONS, "200")
    assert code == 0, out + err
    assert_budget_met(clusters_store(head), "grown")
