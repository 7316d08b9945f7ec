"""The commands `job list`, `job attach` and `job stop`: what was submitted to a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.cluster_job import Dashboard, follow
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import Format, print_rows
from aquasurf_ray.cli.terminal.shared_parameters import AsJson

app = Commands(help="List, follow and stop jobs on a cluster.", epilog="Example: aquasurf job list")

JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, as submit printed it.")]


@app.command("list", epilog="Example: aquasurf job list")
def list_jobs(dashboard: Dashboard = None, as_json: AsJson = False) -> None:
    """List the jobs of a cluster, the latest last."""
    from aquasurf_ray.driver.cluster.jobs import Jobs

    columns = ("job", "status", "exit_code", "started", "command")
    rows = [(job.id, job.status, job.exit_code, job.started, job.command) for job in Jobs(dashboard).all()]
    print_rows(columns, rows, Format.json if as_json else Format.table)


@app.command(epilog="Example: aquasurf job attach net-0a1b2c")
def attach(id: JobId, dashboard: Dashboard = None) -> None:
    """Follow a job's log from its beginning, and exit with the job's status."""
    from aquasurf_ray.driver.cluster.jobs import Jobs

    follow(Jobs(dashboard), id, dashboard)


@app.command(epilog="Example: aquasurf job stop net-0a1b2c")
def stop(id: JobId, dashboard: Dashboard = None) -> None:
    """Stop a job cleanly, as SIGTERM does, and wait until it has ended.

    Everything that is finished is kept.
    """
    from aquasurf_ray.driver.cluster.jobs import Jobs

    jobs = Jobs(dashboard)
    jobs.stop(id)
    job = jobs.follow(id, lambda text: None)  # waits for its end; the log is not shown
    print(f"job '{id}' is {job.status.lower()}")
