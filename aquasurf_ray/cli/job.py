"""The commands about jobs on a cluster: job list, job attach, job stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.cluster_job import Dashboard, follow
from aquasurf_ray.cli.terminal.options import AsJson
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows

if TYPE_CHECKING:
    pass

JobId = Annotated[str, typer.Argument(help="Id of the job, as submit printed it.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
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

    follow(Jobs(dashboard), id, dashboard)


def stop(id: JobId, dashboard: Dashboard = None) -> None:
    """Have a job's driver drain, as SIGTERM does, and wait for its end; what is finished is kept."""
    from aquasurf_ray.driver.cluster.jobs import Jobs

    jobs = Jobs(dashboard)
    jobs.stop(id)
    job = jobs.follow(id, lambda text: None)
    print(f"job '{id}' is {job.status.lower()}")
