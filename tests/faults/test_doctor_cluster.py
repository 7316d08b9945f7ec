"""The doctor on a cluster, and with a Ray of its own."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def seen(start, *options):
    doctor = start("doctor", "digits", "--json", *options)
    shown, told = doctor.communicate()
    assert doctor.returncode == 0, shown + told
    return json.loads(shown)["findings"]


def test_every_node_is_asked(start, ray_cluster):
    found = seen(start, "--address", ray_cluster)
    nodes = [finding for finding in found if finding["check"] == "node"]
    assert {finding["level"] for finding in nodes} == {"ok"}
    assert any("the same place on all" in finding["says"] for finding in found)


def test_a_ray_of_its_own_is_started_and_asked_and_nothing_is_left(start, folder):
    before = sorted(folder.rglob("*"))
    found = seen(start)
    assert any(finding["check"] == "ray" and "started privately" in finding["says"] for finding in found)
    assert any(finding["check"] == "node" and "the same versions" in finding["says"] for finding in found)
    assert sorted(folder.rglob("*")) == before
