"""Runs on a cluster that is reached over HTTP: Ray Jobs are submitted, followed, stopped and listed.

The driver then runs on the cluster's head node and needs no terminal: people who follow its log may leave and return.
Ray shows a job's command to everybody who has the cluster's token, so a command that contains a password is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from aquasurf_ray.driver.errors import BadUse, RunFailed
from aquasurf_ray.driver.settings.defaults import STORAGE

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray prefers these to an address in the code
STOP_SECONDS = 90
"""The time that a driver has for draining before Ray kills it; Ray's default of 3 s is too short for a checkpoint."""
# What a working folder holds besides code: too large to upload, or of this machine only.
NOT_SHIPPED = (".git", ".venv", "/data", f"/{STORAGE}", "*.db", "*.db-wal", "*.db-shm", "__pycache__")
LOST_SECONDS = 60.0  # without an answer, after which the cluster counts as gone
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@|[?&]password=")
NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Job:
    """A command on a cluster. `exit_code` is None while the command runs, or if it was killed."""

    id: str
    status: str
    command: str
    started: datetime | None
    exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        """True if the job has ended."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class Jobs:
    """The jobs of the cluster whose dashboard is at `address`.

    All methods raise BadUse if nothing answers, the cluster requires a token, or the job client is not installed, and
    RunFailed if the cluster refuses for another reason.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = _checked(address or os.environ.get(ADDRESS_VARIABLES[0]) or DEFAULT_ADDRESS)

    def submit(self, command: Sequence[str], working_dir: Path | None = None) -> str:
        """Start an `aquasurf` command on the cluster's head node, and return the job's id.

        Args:
            command: the words after `aquasurf`; `--address auto` is added, and the store is the head's AQUASURF_STORE.
            working_dir: a folder that is copied to the cluster, for the driver and the workers to import from.

        Raises:
            BadUse: the command cannot work on the cluster.
        """
        check_command(command, Path.cwd() if working_dir is None else None)
        environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
        if working_dir is not None:
            environment |= {"working_dir": str(working_dir.absolute()), "excludes": list(NOT_SHIPPED)}
        # Ids must be unique for the life of the cluster, and a run may be submitted again.
        id = f"{NAME.sub('-', _name_in(command) or command[0])}-{secrets.token_hex(3)}"
        with self._answering():
            self._client.submit_job(entrypoint=entrypoint(command), submission_id=id, runtime_env=environment)
        return id

    def job(self, id: str) -> Job:
        """Return the state of a job.

        Raises:
            BadUse: there is no job with this id.
        """
        with self._answering():
            return _job(self._client.get_job_info(id))

    def all(self) -> list[Job]:
        """Return the submitted jobs of the cluster, the latest last."""
        with self._answering():
            details = self._client.list_jobs()
        return [_job(one) for one in sorted(details, key=lambda one: one.start_time or 0) if one.submission_id]

    def stop(self, id: str) -> None:
        """Request a job's driver to drain, as SIGTERM does; return at once."""
        self.job(id)
        with self._answering():
            self._client.stop_job(id)

    def follow(self, id: str, write: Callable[[str], object]) -> Job:
        """Write a job's log from its beginning until the job has ended, and return its state.

        Raises:
            BadUse: there is no such job.
            RunFailed: the cluster has not answered for a minute; the job may still be running.
        """
        self.job(id)
        return asyncio.run(self._follow(id, write))

    async def _follow(self, id: str, write: Callable[[str], object]) -> Job:
        """Reconnect whenever the connection breaks, and skip the part of the log that was written already."""
        written, heard = 0, time.monotonic()
        while True:
            try:
                read = 0
                async for text in self._log(id):
                    write(text[max(0, written - read) :])
                    read += len(text)
                    written, heard = max(written, read), time.monotonic()
                job = _job(self._client.get_job_info(id))
                if job.ended:
                    return job
                heard = time.monotonic()
            except _broken_connections() as error:
                if time.monotonic() - heard > LOST_SECONDS:
                    raise RunFailed(
                        f"the cluster at {self.address} does not answer any more: {_line(error)}; "
                        f"job '{id}' may still be running"
                    ) from None
            await asyncio.sleep(0.5)

    async def _log(self, id: str) -> AsyncIterator[str]:
        async for text in self._client.tail_job_logs(id):
            yield text

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        for talkative in ("job.sdk", "dashboard_sdk"):  # both log every upload and closed connection
            logging.getLogger(f"ray.dashboard.modules.{talkative}").setLevel(logging.WARNING)
        logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
        with _without(ADDRESS_VARIABLES), self._answering():
            return JobSubmissionClient(self.address)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        broken = _broken_connections()
        try:
            yield
        except AuthenticationError:
            raise BadUse(
                f"the cluster at {self.address} requires its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to"
                " the file that holds it"
            ) from None
        except broken as error:
            if "status code 404" in str(error):
                raise BadUse(f"no such job at {self.address}; list the jobs with: aquasurf job list") from None
            if "status code" in str(error):
                raise RunFailed(f"the cluster at {self.address} refuses: {_line(error)}") from None
            raise BadUse(f"no Ray cluster answers at {self.address}: {_line(error)}") from None


def entrypoint(command: Sequence[str]) -> str:
    """Return the shell command for the head node. If AQUASURF_STORE is not set there, the store is a file in the home
    folder, because the folder in which a job is started is deleted with the job."""
    store = 'AQUASURF_STORE="${AQUASURF_STORE:-sqlite:///$HOME/aquasurf.db}"'
    return f"{store} exec aquasurf {shlex.join(command)} --address auto"


def check_command(command: Sequence[str], folder: Path | None) -> None:
    """Refuse a command that cannot work on the cluster. `folder` is the working folder, unless it is shipped.

    Raises:
        BadUse: the command contains a password or an address, or names a file that is only on this machine.
    """
    if any(PASSWORD.search(argument) for argument in command):
        raise BadUse(
            "the command has a password in it, which the cluster would show in its list of jobs;"
            " set AQUASURF_STORE where the cluster's head node is started"
        )
    if any(argument.split("=")[0] == "--address" for argument in command):
        raise BadUse("--address is set on the cluster; name its dashboard instead: submit --dashboard URL -- ...")
    here = None if folder is None else next((one for one in _named_here(command, folder)), None)
    if here is not None:
        raise BadUse(f"'{here}' is in this folder and not on the cluster; ship the folder with: --working-dir .")


def _named_here(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield the arguments that are files of the folder, or begin with one of its modules."""
    for before, argument in pairwise(("", *command)):
        option, _, value = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
        top = re.split(r"\W", value)[0] if ":" in value or "--modules" in (before, option) else ""
        found = top and ((folder / f"{top}.py").is_file() or (folder / top).is_dir())
        if found or (value and "\0" not in value and (folder / value).is_file()):
            yield value


def _name_in(command: Sequence[str]) -> str | None:
    """Return the name of the run in the command, if it has one."""
    for position, argument in enumerate(command):
        if argument.startswith("--name="):
            return argument.removeprefix("--name=")
        if argument == "--name" and position + 1 < len(command):
            return command[position + 1]
    return command[1] if command[0] == "resume" and len(command) > 1 else None


def _job(details: Any) -> Job:
    return Job(
        id=details.submission_id,
        status=details.status.value,
        command=_command_of(details.entrypoint),
        started=datetime.fromtimestamp(details.start_time / 1000, UTC) if details.start_time else None,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def _command_of(line: str) -> str:
    """Return the command of a job that `submit` started; for any other job, its whole entrypoint."""
    return line.partition(" exec ")[2].removesuffix(" --address auto") or line


def _checked(address: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+/?", address):
        raise BadUse(f"dashboard: a cluster takes jobs at its dashboard, as in {DEFAULT_ADDRESS}, got '{address}'")
    return address.rstrip("/")


@contextmanager
def _without(variables: Sequence[str]) -> Iterator[None]:
    before: Mapping[str, str] = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _broken_connections() -> tuple[type[Exception], ...]:
    """Return the exceptions of the job client for a connection that breaks or cannot be made."""
    if find_spec("aiohttp") is None:
        raise BadUse("Ray's job client is not installed; get it with: pip install 'ray[default]' aiohttp requests")
    import aiohttp
    import requests

    return ConnectionError, RuntimeError, aiohttp.ClientError, requests.RequestException


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
