"""A user's folder with a database, and a cluster in the place of Ray."""

from __future__ import annotations

import pytest
from fake_cluster import FakeCluster


@pytest.fixture
def cluster(monkeypatch):
    return FakeCluster().install(monkeypatch)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return f"sqlite:///{tmp_path}/runs.db"
