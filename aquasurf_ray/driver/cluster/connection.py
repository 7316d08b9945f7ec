"""Connecting to Ray: a private instance on this machine, bound to the loopback address, or a cluster by address.

The private instance starts no dashboard, no job server and no usage reports. Ray's own token authentication stays as
the user's environment has it (on by default since Ray 2.60). Ray replaces a loopback address by the machine's public
one unless clusters are switched off, as it does by itself on macOS; we use that switch on Linux too, since otherwise
each of its servers listens on every interface.
"""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants

from aquasurf_ray.driver.config import SearchConfig
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


@dataclass(frozen=True)
class Workers:
    """How many workers a run has, and what each asks of Ray: `n_ranks` processes with `cpus` and `gpus` each.

    `shared` says that the number is what fits, on a cluster where others may be.
    """

    n: int
    cpus: float
    gpus: float
    n_ranks: int = 1
    shared: bool = False

    def most_in(self, resources: dict[str, float]) -> int:
        """How many such workers fit into resources of Ray's."""
        n_cpus, n_gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        return _most_workers(n_cpus, n_gpus, self.cpus, self.gpus) // self.n_ranks


def fitting_workers(config: SearchConfig) -> Workers:
    """The configured workers, or as many as the connected cluster holds: one a GPU, else one for each share of cores,
    or as many times fewer as an evaluation takes processes.

    Raises:
        BadUse: more than the cluster has room for in all.
    """
    if config.gpus_per_evaluation is not None and config.gpus_per_evaluation > 1:
        return _fitting_groups(config, config.gpus_per_evaluation)
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    n_gpus, n_cpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0), config.cpus_per_worker
    gpus = config.gpus_per_worker if config.gpus_per_worker is not None else float(n_gpus > 0)
    if gpus > 1 and gpus != int(gpus):
        raise BadUse(f"gpus-per-worker: {gpus:g} is neither a whole number nor below 1")
    most = _most_workers(n_cpus, n_gpus, cpus, gpus)
    wanted = config.workers if config.workers is not None else max(1, most)
    if wanted > most:
        raise BadUse(
            f"workers: {wanted} with {cpus:g} CPUs and {gpus:g} GPUs each do not fit the cluster's {n_cpus:g} CPUs "
            f"and {n_gpus:g} GPUs; at most {most} do"
        )
    return Workers(wanted, cpus, gpus, shared=_is_shared(config))


def _fitting_groups(config: SearchConfig, n_ranks: int) -> Workers:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    n_gpus, n_cpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0), config.cpus_per_worker
    gpus = 1.0 if config.gpus_per_worker is None else config.gpus_per_worker
    what = "GPUs" if gpus else "CPU processes"
    most = _most_workers(n_cpus, n_gpus, cpus, gpus) // n_ranks
    wanted = config.workers if config.workers is not None else max(1, most)
    if wanted > most:
        hint = "" if n_gpus or not gpus else "; with gpus-per-worker 0 it counts CPU processes"
        raise BadUse(
            f"gpus-per-evaluation: {wanted} times {n_ranks} {what} with {cpus:g} CPUs each do not fit the cluster's "
            f"{n_cpus:g} CPUs and {n_gpus:g} GPUs{hint}"
        )
    return Workers(wanted, cpus, gpus, n_ranks, shared=_is_shared(config))


def _is_shared(config: SearchConfig) -> bool:
    return config.address is not None and config.workers is None


def _most_workers(n_cpus: float, n_gpus: float, cpus: float, gpus: float) -> int:
    by_cpus = math.floor(n_cpus / cpus + 1e-9)
    if gpus == 0:
        return by_cpus
    a_gpu = math.floor(1 / gpus + 1e-9) if gpus <= 1 else 1 / gpus
    return min(by_cpus, math.floor(n_gpus * a_gpu + 1e-9))


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
