"""Connecting to Ray: a private instance on this machine, bound to the loopback address, or a cluster by address.

The private instance starts no dashboard, no job server and no usage reports. Ray's own token authentication stays as
the user's environment has it (on by default since Ray 2.60). Ray replaces a loopback address by the machine's public
one unless clusters are switched off, as it does by itself on macOS; we use that switch on Linux too, since otherwise
each of its servers listens on every interface.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants

from aquasurf_ray.driver.errors import BadUse, DriverError, Interrupted

LOOPBACK = "127.0.0.1"
LOOPBACKS = frozenset({LOOPBACK, "::1", "localhost"})
SECRETS = ("AQUASURF_STORE", "PGPASSWORD")  # which workers need not know: the driver alone speaks to the database
AUTHENTICATION = "RAY_AUTH_MODE"  # unset, Ray shows this machine's token to no explicit address
RAYS_WORDS = ("auto", "local")
HOST_AND_PORT = re.compile(r"(ray://)?\[?(?P<host>[^/\]]+?)\]?:(?P<port>\d+)")
CONNECT_SECONDS = 5.0
CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

logger = logging.getLogger(__name__)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for the length of a run. An instance that this process has already is used and left alone.

    Raises:
        BadUse: no cluster answers at `address`.
        Interrupted: by SIGTERM while Ray starts.
    """
    if ray.is_initialized():
        yield
        return
    _connect(address)
    try:
        yield
    finally:
        ray.shutdown()


def host_of(address: str) -> str:
    """The host in a cluster's address; the address itself where it names none, such as `auto`."""
    found = HOST_AND_PORT.fullmatch(address)
    return address if found is None else found["host"]


def _check_listening(address: str) -> None:
    """Ray itself tries for a minute, and tells of each try on standard error. Clients of other kinds are its affair."""
    found = HOST_AND_PORT.fullmatch(address)
    if found is None and address not in RAYS_WORDS and ("://" not in address or address.startswith("http")):
        raise BadUse(f"'{address}' is no address of a Ray cluster; expected HOST:PORT, ray://HOST:PORT or auto")
    if found is None:
        return
    try:
        socket.create_connection((found["host"], int(found["port"])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BadUse(f"no Ray cluster answers at '{address}': {error}; start one with 'ray start --head'") from None


def _connect(address: str | None) -> None:
    if address is not None:
        _check_listening(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address is None:
            with _private_instance():
                ray.init(address="local", include_dashboard=False, _node_ip_address=LOOPBACK, **quiet)
        else:
            ray.init(address=address, **quiet)
    except SystemExit as error:  # Ray's own answer to SIGTERM, which `ray.init` puts in the place of ours
        if error.code != signal.SIGTERM:
            raise
        ray.shutdown()
        raise Interrupted("stopped by SIGTERM while Ray started; nothing was begun") from None
    except (ConnectionError, ValueError, TimeoutError) as error:
        hint = "" if os.environ.get(AUTHENTICATION) == "token" else f"; if it asks for a token: {AUTHENTICATION}=token"
        raise BadUse(f"no Ray cluster answers at '{address}': {_first_line(error)}{hint}") from None
    except Exception as error:  # Ray raises plain exceptions of many kinds while it starts
        raise DriverError(f"Ray does not start: {type(error).__name__}: {_first_line(error)}") from error
    if address is not None and host_of(address) not in LOOPBACKS and os.environ.get(AUTHENTICATION) != "token":
        logger.warning(
            "the cluster at %s asks for no token, so whoever reaches it may run programs on it; "
            "start its nodes and this driver with %s=token",
            address,
            AUTHENTICATION,
        )


@contextmanager
def _private_instance() -> Iterator[None]:
    """The surroundings in which Ray's processes start; this process's own are restored afterwards.

    The cluster switch is read once, at import, in this process, and from the environment in its children. Ray's logger
    is kept from announcing at each start that token authentication is on. Ray's processes, and the workers that they
    start, inherit nothing that opens the database.
    """
    rays = logging.getLogger("ray")
    before = ray_constants.ENABLE_RAY_CLUSTER, rays.level
    environment = {name: os.environ.pop(name, None) for name in (CLUSTER_SWITCH, *SECRETS)}
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[CLUSTER_SWITCH] = False, "0"
    rays.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[0]
        rays.setLevel(before[1])
        del os.environ[CLUSTER_SWITCH]
        os.environ.update({name: value for name, value in environment.items() if value is not None})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
