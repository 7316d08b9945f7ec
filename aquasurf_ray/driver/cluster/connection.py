"""Connects to Ray: a private instance on this machine, bound to the loopback address, or a cluster by address.

The private instance starts no dashboard, no job server and no usage reports. Ray's own token authentication stays as
the user's environment sets it (on by default since Ray 2.60). Ray replaces a loopback address by the machine's public
address unless clusters are switched off, as they are on macOS. We use that switch on Linux too, because otherwise each
of Ray's servers listens on every interface.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import ray_constants

from aquasurf_ray.driver.cluster.session_folder import session_folder
from aquasurf_ray.driver.errors import BadUse, DriverError, Interrupted

try:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
except ImportError:  # the oldest versions of Ray that work here have no tokens

    def is_token_auth_enabled() -> bool:
        """Return whether this process asks for tokens."""
        return False


LOOPBACK = "127.0.0.1"
LOOPBACKS = frozenset({LOOPBACK, "::1", "localhost"})
SECRETS = ("AQUASURF_STORE", "PGPASSWORD")  # kept from workers: only the driver talks to the database
AUTHENTICATION = "RAY_AUTH_MODE"  # while unset, Ray sends this machine's token to no explicit address
RAYS_WORDS = ("auto", "local")
HOST_AND_PORT = re.compile(r"(ray://)?\[?(?P<host>[^/\]]+?)\]?:(?P<port>\d+)")
CONNECT_SECONDS = 5.0
CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

logger = logging.getLogger(__name__)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to Ray for the duration of a run; an existing connection of this process is used and stays.

    Raises:
        BadUse: no cluster answers at `address`, or this process can no longer use a Ray without tokens.
        Interrupted: SIGTERM arrived while Ray was starting.
    """
    if ray.is_initialized():
        yield
        return
    with nullcontext() if address is not None else session_folder() as folder:
        _connect(address, folder)
        try:
            yield
        finally:
            ray.shutdown(wait_for_processes=folder is not None)  # else they write to a removed folder


def host_of(address: str) -> str:
    """Return the host in a cluster's address; the address itself where it names none, such as `auto`."""
    found = HOST_AND_PORT.fullmatch(address)
    return address if found is None else found["host"]


def _check_listening(address: str) -> None:
    """Check that something listens at the address. Ray would try for a minute, with a message for each attempt.

    Addresses of other forms are left to Ray.
    """
    found = HOST_AND_PORT.fullmatch(address)
    if found is None and address not in RAYS_WORDS and ("://" not in address or address.startswith("http")):
        raise BadUse(f"'{address}' is not the address of a Ray cluster; expected HOST:PORT, ray://HOST:PORT or auto")
    if found is None:
        return
    try:
        socket.create_connection((found["host"], int(found["port"])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BadUse(f"no Ray cluster answers at '{address}': {error}; start one with 'ray start --head'") from None


def _check_mode(address: str | None) -> None:
    """Check that this process may use a Ray without tokens if the environment asks for one.

    Ray keeps its mode for the life of a process: once a private instance has asked for a token, this process's own
    servers reject a cluster that has none, and `ray.init` waits forever or actors end before they start.
    """
    mode = os.environ.get(AUTHENTICATION)
    asks_for_none = mode == "disabled" or (mode is None and address not in (None, *RAYS_WORDS))
    if asks_for_none and is_token_auth_enabled():
        place = "a Ray of its own" if address is None else f"the cluster at '{address}'"
        raise BadUse(
            f"this process has started a Ray that asks for a token, so it cannot use {place} without one: start a new "
            f"process, or set {AUTHENTICATION}=token if the cluster asks for a token"
        )


def _connect(address: str | None, folder: str | None) -> None:
    _check_mode(address)
    if address is not None:
        _check_listening(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address is None:
            with _private_instance():
                private: dict[str, Any] = {
                    "include_dashboard": False,
                    "_node_ip_address": LOOPBACK,
                    "_temp_dir": folder,
                }
                ray.init(address="local", **private, **quiet)
        else:
            ray.init(address=address, **quiet)
    except SystemExit as error:  # Ray's own handler of SIGTERM, by which `ray.init` replaces ours
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
            "the cluster at %s requires no token, so anyone who reaches it can run programs on it; "
            "start its nodes and this driver with %s=token",
            address,
            AUTHENTICATION,
        )


@contextmanager
def _private_instance() -> Iterator[None]:
    """Set the environment in which Ray's processes start, and restore this process's environment afterwards.

    This process has read the cluster switch at import, so the constant is set; children read the environment. Ray's
    logger is silenced, or it would announce at each start that token authentication is on. Ray's processes, and the
    workers that they start, inherit no credentials of the database.
    """
    rays = logging.getLogger("ray")
    before = ray_constants.ENABLE_RAY_CLUSTER, rays.level
    mode = os.environ.get(AUTHENTICATION)
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
        if mode is None:  # Ray has set it, and clusters joined later would be taken for those that ask for a token
            os.environ.pop(AUTHENTICATION, None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
