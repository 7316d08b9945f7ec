"""A job on a cluster, followed from this terminal."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aquasurf_ray.driver.cluster.jobs import Job, Jobs

FAILED = 1
INTERRUPTED = 130

Dashboard = Annotated[
    str | None,
    typer.Option(
        "--dashboard",
        metavar="URL",
        help="Ray dashboard of the cluster. Default: RAY_API_SERVER_ADDRESS, or else http://127.0.0.1:8265.",
    ),
]


def follow(jobs: Jobs, id: str, dashboard: str | None) -> None:
    """Print a job's log until the job ends, and exit with its status."""
    try:
        job = jobs.follow(id, _write)
    except KeyboardInterrupt:
        where = f" --dashboard {shlex.quote(dashboard)}" if dashboard else ""
        print(f"detached; job '{id}' keeps running: aquasurf job attach {id}{where}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None  # for a typer.Exit with this status, main would print "stopped"
    raise typer.Exit(_exit_code(job))


def _exit_code(job: Job) -> int:
    if job.exit_code is not None:
        return job.exit_code
    if job.status == "SUCCEEDED":
        return 0
    why = " ".join(job.message.split())[:300] if job.status == "FAILED" else "finished work is kept; resume the run"
    print(f"aquasurf: job '{job.id}' is {job.status.lower()}: {why}", file=sys.stderr)
    return FAILED


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
