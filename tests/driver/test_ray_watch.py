"""Ray's own processes are watched: silence is noticed in time, what never answered is not missed."""

from __future__ import annotations

import socket

import pytest

from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.driver.ray_watch import RayWatch


@pytest.fixture
def now():
    return [100.0]


def watch(now, **addresses):
    return RayWatch("aquasurf resume one", watched=addresses, patience=25.0, clock=lambda: now[0])


def test_one_that_falls_silent_is_named_after_the_patience(now):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watched = watch(now, head=address)
        watched.look()
    now[0] += 24.0
    watched.look()
    watched.check()
    now[0] += 2.0
    said = f"head at {address} is gone: no answer for 26 s; once Ray runs again: aquasurf resume one"
    with pytest.raises(RunFailed) as caught:
        watched.check()
    assert str(caught.value) == said


def test_one_that_comes_back_in_time_was_never_missed(now):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        watched = watch(now, head=f"127.0.0.1:{port}")
        watched.look()
    now[0] += 20.0
    watched.look()
    with socket.create_server(("127.0.0.1", port)):
        watched.look()
    now[0] += 20.0
    watched.check()


def test_what_never_answered_is_not_watched(now):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        watched = watch(now, head=f"127.0.0.1:{taken.getsockname()[1]}")
        watched.look()
        now[0] += 1000.0
        watched.check()
