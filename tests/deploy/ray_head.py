"""A Ray head node with its dashboard, as `ray start --head` makes it on a machine, bound to the loopback address."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

COMMAND = "from ray.scripts.scripts import main; main()"
SECONDS = 120


def why_not() -> str | None:
    """Why a head with a dashboard cannot be started here, or None."""
    missing = [name for name in ("aiohttp", "aiohttp_cors", "opencensus") if find_spec(name) is None]
    return (
        f"{', '.join(missing)} not installed; get them with: pip install 'ray[default]' aiohttp requests"
        if missing
        else None
    )


@dataclass(frozen=True)
class RayHead:
    """Where the dashboard is, what a client needs to speak to it, and the head's process."""

    address: str
    environment: dict[str, str]
    process: psutil.Process

    def listening(self) -> list[tuple[str, int]]:
        """The addresses and ports that any of its processes listens on."""
        found = []
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.Error):
                found += [tuple(c.laddr) for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        return found


@contextmanager
def ray_head(folder: Path, options: Sequence[str] = ("--num-cpus=2",), **environment: str) -> Iterator[RayHead]:
    """A head that asks for a token, by default with two cores; `environment` is what its jobs find.

    `{port}` in a file of the folder that is named autoscaling.yaml stands for the head's port.
    """
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    asking = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    bound = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    port, dashboard, client, agent = _free_ports(4)
    command = [sys.executable, "-c", COMMAND, "start", "--head", "--block", *options]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={folder}/ray"]
    command += [f"--dashboard-agent-listen-port={agent}"]  # another Ray's agent on this machine may have the usual one
    scaling = folder / "autoscaling.yaml"
    if scaling.exists():
        scaling.write_text(scaling.read_text().replace("{port}", str(port)))
        command += [f"--autoscaling-config={scaling}"]
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **asking, **bound, "PATH": path, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{dashboard}"
    process = psutil.Process(head.pid)
    try:
        _wait_for(address, token.read_text(), head, folder / "head.log")
        yield RayHead(address, asking, process)
    finally:
        everything = _with_children(process)
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(timeout=40)
        _, alive = psutil.wait_procs(everything, timeout=10)
        for left in alive:
            left.kill()
        head.wait()


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait_for(address: str, token: str, head: subprocess.Popen[bytes], log: Path) -> None:
    """Until it takes a job: the dashboard answers seconds before the agent that starts jobs."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    job = urllib.request.Request(f"{address}/api/jobs/", data=b'{"entrypoint": "true"}', headers=headers)
    end, said = time.monotonic() + SECONDS, ""
    while time.monotonic() < end:
        assert head.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(job, timeout=30).close()
        except urllib.error.HTTPError as error:
            said = error.read().decode()
            time.sleep(0.3)
        except OSError as error:
            said = str(error)
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"{said}; {log.read_text()}")


def _free_ports(n: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports
