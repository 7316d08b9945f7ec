"""The options that several commands have, each defined once: the same flag means the same thing everywhere.

Settings of a run are defined in `driver.settings.models`. A command that takes a few of them
annotates its parameters as `Setting` or `Modules`; `with_settings` gives a command a whole model. The store is an
option of its own, so that commands that only read need not wait for the models.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.output import Format
from aquasurf_ray.cli.terminal.settings import FROM_MODEL
from aquasurf_ray.driver.settings.defaults import MODULES_TEXT, STORE_DEFAULT, STORE_TEXT, TASK_TEXT

Setting = Annotated[str | None, FROM_MODEL]
Modules = Annotated[list[str] | None, FROM_MODEL]

ReaderModules = Annotated[list[str] | None, typer.Option("--modules", metavar="MODULE", help=MODULES_TEXT)]
"""`Modules` for a command that only reads, and need not load the models."""

StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help=f"{STORE_TEXT} Default: {STORE_DEFAULT}.")
]
RunName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.")]
FINITE_SPACE = "Search space: three-node, four-node, coatnet, or a YAML file."
Function = Annotated[str, typer.Argument(metavar="FUNCTION", help="Function, such as 'mul(sigmoid(x),elu(x))'.")]
TaskName = Annotated[str, typer.Option("--task", metavar="TASK", help=TASK_TEXT)]
TaskSeed = Annotated[
    int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="Random seed for weights, data order and labels.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AnyFormat = Annotated[Format, typer.Option("--format", metavar="table|json|csv", help="Format of the table.")]
RUN_PANEL = "Run"
"""The panel of options that are not settings, but say what a run consists of: `driver.settings.setting.Panel.RUN`."""

Top = Annotated[
    int, typer.Option(metavar="N", rich_help_panel=RUN_PANEL, help="Number of the run's best functions to train.")
]


def training_seeds(default: int) -> Any:
    """Return the option `--seeds`. Its default is none of Typer's, since a configuration file may give another one."""
    text = f"Trainings of each function, with seeds 0, 1, ... Default: {default}."
    return typer.Option("--seeds", metavar="N", rich_help_panel=RUN_PANEL, help=text)
