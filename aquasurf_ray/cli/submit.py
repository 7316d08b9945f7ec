"""The command that sends a command to a cluster: submit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.cluster_job import Dashboard, follow


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "submit",
        epilog="Example: aquasurf submit --working-dir . -- search own_tasks:net --name net",
        context_settings={"allow_interspersed_args": False},
    )(submit)


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
    follow(jobs, id, dashboard)


def _works_on_a_cluster(words: Sequence[str], context: typer.Context) -> bool:
    """Whether the words begin with a command, or a group and a command of it, that can be told where Ray is."""
    found: Any = context.find_root().command
    for word in words:
        if not hasattr(found, "get_command"):
            break
        found = found.get_command(context, word)
    return any("--address" in option.opts for option in getattr(found, "params", ()))
