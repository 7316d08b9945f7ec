"""The command `submit`: send a command to a Ray cluster, over HTTP by Ray Jobs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.cluster_job import Dashboard, follow
from aquasurf_ray.cli.terminal.commands import Commands

app = Commands()


@app.command(
    epilog="Example: aquasurf submit --working-dir . -- search own_tasks:net --name net",
    context_settings={"allow_interspersed_args": False},  # options after the command's name belong to that command
)
def submit(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="An aquasurf command, such as: search digits --name one. Required."),
    ] = None,
    dashboard: Dashboard = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with your own modules, copied to the cluster without its data, databases and .venv. "
            "Default: none.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and exit.")] = False,
) -> None:
    """Send a command to a running Ray cluster, and follow its log.

    Ctrl-C only detaches; the job keeps running. This command exits with the status of the job. The run is stored in
    the cluster's AQUASURF_STORE.
    """
    from aquasurf_ray.driver.cluster.jobs import Jobs
    from aquasurf_ray.driver.errors import BadUse

    if not command:
        raise BadUse("no command given; for example: aquasurf submit -- search digits --name digits")
    if not _works_on_a_cluster(command, context):
        raise BadUse(f"'{command[0]}' cannot be submitted; only commands with the option --address run on a cluster")
    jobs = Jobs(dashboard)
    id = jobs.submit(command, working_dir)
    if detach:
        print(id)  # alone, for scripts
        return
    print(f"job '{id}' is on the cluster; Ctrl-C leaves it running", file=sys.stderr)
    follow(jobs, id, dashboard)


def _works_on_a_cluster(words: Sequence[str], context: typer.Context) -> bool:
    """Return whether the words begin with a command, or a group and its command, that takes Ray's address."""
    found: Any = context.find_root().command
    for word in words:
        if not hasattr(found, "get_command"):
            break
        found = found.get_command(context, word)
    return any("--address" in option.opts for option in getattr(found, "params", ()))
