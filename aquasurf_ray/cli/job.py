"""The commands submit and job: runs whose driver lives on a cluster, reached over HTTP by Ray Jobs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.options import AsJson
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows

if TYPE_CHECKING:
    from aquasurf_ray.driver.cluster.jobs import Job, Jobs

FAILED = 1
INTERRUPTED = 130

Dashboard = Annotated[
    str | None,
    typer.Option(
        "--dashboard", help="The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265."
    ),
]
JobId = Annotated[str, typer.Argument(help="Id of the job, as submit printed it.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        "submit",
        epilog="Example: aquasurf submit --working-dir . -- search own_tasks:net --name net",
        context_settings={"allow_interspersed_args": False},
    )(submit)
    jobs = typer.Typer(rich_markup_mode=None)
    jobs.command("list", epilog="Example: aquasurf job list")(list_jobs)
    jobs.command("attach", epilog="Example: aquasurf job attach net-0a1b2c")(attach)
    jobs.command("stop", epilog="Example: aquasurf job stop net-0a1b2c")(stop)
    app.add_typer(
        jobs,
        name="job",
        help="List, follow and stop what was submitted to a cluster.",
        epilog="Example: aquasurf job list",
    )


def submit(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="An aquasurf command, such as: search digits --name one.")
    ] = None,
    dashboard: Dashboard = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with modules of your own, copied to the cluster without its data, databases and .venv. "
            "Default: none.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id, and leave.")] = False,
) -> None:
    """Send a command to a running Ray cluster, and follow its log.

    Ctrl-C leaves the job alone; its exit code is this command's. The run is kept in the cluster's AQUASURF_STORE.
    """
    from aquasurf_ray.driver.cluster.jobs import Jobs
    from aquasurf_ray.driver.errors import BadUse

    if not command:
        raise BadUse("no command given; for example: aquasurf submit -- search digits --name digits")
    if not _works_on_a_cluster(command, context):
        raise BadUse(f"'{command[0]}' is no command that works on a cluster; those do that have the option --address")
    jobs = Jobs(dashboard)
    id = jobs.submit(command, working_dir)
    if detach:
        print(id)
        return
    print(f"job '{id}' is on the cluster; Ctrl-C leaves it alone", file=sys.stderr)
    _follow(jobs, id, dashboard)


def _works_on_a_cluster(words: Sequence[str], context: typer.Context) -> bool:
    """Whether the words begin with a command, or a group and a command of it, that can be told where Ray is."""
    found: Any = context.find_root().command
    for word in words:
        if not hasattr(found, "get_command"):
            break
        found = found.get_command(context, word)
    return any("--address" in option.opts for option in getattr(found, "params", ()))


def list_jobs(dashboard: Dashboard = None, as_json: AsJson = False) -> None:
    """List the jobs of a cluster, the latest last."""
    from aquasurf_ray.driver.cluster.jobs import Jobs

    columns = ("job", "status", "exit_code", "started", "command")
    rows = [(job.id, job.status, job.exit_code, job.started, job.command) for job in Jobs(dashboard).all()]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_rows(columns, rows, Format.table)


def attach(id: JobId, dashboard: Dashboard = None) -> None:
    """Follow a job's log, from its beginning; its exit code is this command's."""
    from aquasurf_ray.driver.cluster.jobs import Jobs

    _follow(Jobs(dashboard), id, dashboard)


def stop(id: JobId, dashboard: Dashboard = None) -> None:
    """Have a job's driver drain, as SIGTERM does, and wait for its end; what is finished is kept."""
    from aquasurf_ray.driver.cluster.jobs import Jobs

    jobs = Jobs(dashboard)
    jobs.stop(id)
    job = jobs.follow(id, lambda text: None)
    print(f"job '{id}' is {job.status.lower()}")


def _follow(jobs: Jobs, id: str, dashboard: str | None) -> None:
    """Follows the log, and ends with the job's exit code."""
    try:
        job = jobs.follow(id, _write)
    except KeyboardInterrupt:
        where = f" --dashboard {shlex.quote(dashboard)}" if dashboard else ""
        print(f"detached; job '{id}' goes on: aquasurf job attach {id}{where}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None  # of a typer.Exit with this code, main says "stopped"
    raise typer.Exit(_exit_code(job))


def _exit_code(job: Job) -> int:
    if job.exit_code is not None:
        return job.exit_code
    if job.status == "SUCCEEDED":
        return 0
    why = " ".join(job.message.split())[:300] if job.status == "FAILED" else "what is finished is kept, resume goes on"
    print(f"aquasurf: job '{job.id}' is {job.status.lower()}: {why}", file=sys.stderr)
    return FAILED


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
