"""Detect that Ray itself is gone, before Ray ends this process without a message or leaves it waiting forever.

Measured with Ray 2.60: a driver whose cluster has lost its head (the GCS server) keeps running for a minute, since its
workers answer it directly. Then Ray's own code ends the process, with no chance to release the run's lease or to say
how to resume. A driver whose own node has lost its raylet gets no answer from any worker, and waits. So a thread
connects to both every few seconds. A process that answers again in time causes no error. Time in which this process was
suspended does not count, since Ray may be alive when this process wakes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping

import ray

from aquasurf_ray.driver.errors import RunFailed

INTERVAL_SECONDS = 2.0
ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 25.0  # Ray's own patience is 60 s, of which an orderly end takes up to 15 s
LOOK_SECONDS = INTERVAL_SECONDS + 2 * ANSWER_SECONDS  # between two looks, if neither process answers


class RayWatch:
    """A context manager during which a thread watches Ray's processes.

    A process that has never answered is not watched, such as a head that is reached through a Ray client.

    Args:
        resume: the command that continues the run, for the message of the error.
        watched: host and port by the name of a process; by default head and node of the connected cluster.
    """

    def __init__(
        self,
        resume: str,
        *,
        watched: Mapping[str, str] | None = None,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resume, self._patience, self._clock = resume, patience, clock
        self._watched = _connected() if watched is None else watched
        self._silent: dict[str, float] = {}  # seconds without an answer, for each process that has answered once
        self._looked = self._clock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray watch", daemon=True)

    def __enter__(self) -> RayWatch:
        if self._watched:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def check(self) -> None:
        """Raise RunFailed once one of the processes has not answered for too long."""
        for what, silent in list(self._silent.items()):
            if silent > self._patience:
                raise RunFailed(
                    f"{what} at {self._watched[what]} is gone: no answer for {silent:.0f} s; "
                    f"once Ray runs again: {self._resume}"
                )

    def poll(self) -> None:
        """Connect to each process once."""
        answered = {what: _answers(address) for what, address in self._watched.items()}
        now = self._clock()
        listened = min(now - self._looked, LOOK_SECONDS)  # more has passed where this process was suspended
        self._looked = now
        for what, answers in answered.items():
            if answers:
                self._silent[what] = 0.0
            elif what in self._silent:
                self._silent[what] += listened

    def _watch(self) -> None:
        self.poll()
        while not self._stopped.wait(INTERVAL_SECONDS):
            self.poll()


def _connected() -> dict[str, str]:
    if not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    watched = {"the head of the Ray cluster": context.gcs_address}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == context.get_node_id():
            watched["this machine's Ray node"] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return watched


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
