"""Joining a cluster by its address."""

from __future__ import annotations

import socket

import pytest
import ray

from aquasurf_ray.driver.cluster import connected
from aquasurf_ray.driver.errors import BadUse


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "localhost:{}"])
def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch, form):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # another test's Ray may be there
    monkeypatch.setattr(ray, "init", lambda **kwargs: pytest.fail("Ray would try for a minute"))
    with socket.socket() as taken:  # bound and not listening, so that nobody else takes the port
        taken.bind(("127.0.0.1", 0))
        address = form.format(taken.getsockname()[1])
        with pytest.raises(BadUse, match="no Ray cluster answers at"), connected(address):
            pass
