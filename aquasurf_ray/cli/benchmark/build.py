"""The command `benchmark build`."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.open_store import store_option
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_document import run_document
from aquasurf_ray.cli.terminal.run_result import config_of
from aquasurf_ray.cli.terminal.settings import REQUIRED_SOMEWHERE, with_settings
from aquasurf_ray.cli.terminal.shared_parameters import FINITE_SPACE, RUN_PANEL, AsJson, training_seeds
from aquasurf_ray.driver.settings.defaults import BUILD_SEEDS, TASK_TEXT
from aquasurf_ray.duration_text import duration_text


@with_settings("TrainingConditions", "modules")
def build(
    settings: dict[str, Any],
    task: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK",
            help=f"{TASK_TEXT} Several are built one after the other. {REQUIRED_SOMEWHERE}",
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(metavar="SPACE", rich_help_panel=RUN_PANEL, help=f"{FINITE_SPACE} Default: three-node."),
    ] = None,
    seeds: Annotated[int | None, training_seeds(BUILD_SEEDS)] = None,
    fisher: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            rich_help_panel=RUN_PANEL,
            help="Kinds of Fisher information to compute spectra of: sampled, empirical or sampled,empirical. "
            "Default: sampled.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="File to write at the end: .parquet, or .json (Act-Bench). For several tasks, the folder of the "
            "files.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train every distinct function of a space, with several seeds.

    Trains the baselines too, and stops no training early. Running the command again, or `aquasurf resume`, continues
    where it stopped; functions that the store has results for are not trained again.
    """
    settings |= {} if space is None else {"space": space}
    example = "aquasurf benchmark build digits --space three-node -o digits.json"
    # A configuration file names one task.
    tasks = [task] if isinstance(task, str) else list(dict.fromkeys(task or [""]))
    several = len(tasks) > 1
    if several:
        _check_several(tasks, settings.get("name"), output)
    names = [{"name": benchmark_name(each)} if several else {} for each in tasks]
    configs = [config_of(settings | {"task": each} | name, example) for each, name in zip(tasks, names, strict=True)]
    from aquasurf_ray.driver.verbs.build import start_build

    documents = []
    for config in configs:
        file = output / f"{config.name}.parquet" if several and output is not None else output
        started = time.monotonic()
        with progress(as_json) as callbacks:
            result = start_build(
                config,
                config.task,
                seeds=BUILD_SEEDS if seeds is None else seeds,
                fisher=fisher or "sampled",
                output=file,
                callbacks=callbacks,
            )
        if as_json:
            documents.append(run_document(result.name, config.store))
            continue
        took = duration_text(round(time.monotonic() - started))
        print(f"run '{result.name}' has {result.evaluations} trainings; this command took {took}")
        if file is not None:
            print(f"benchmark written to {file}")
        print(f"\n  aquasurf top {shlex.quote(result.name)} -n 20{store_option(config.store)}  list the best functions")
    if as_json:
        print_json(documents if several else documents[0])


def _check_several(tasks: list[str], name: str | None, output: Path | None) -> None:
    from aquasurf_ray.driver.errors import BadUse

    n_tasks, made = len(tasks), dict[str, str]()
    for task in tasks:
        other = made.setdefault(benchmark_name(task), task)
        if other != task:
            raise BadUse(f"tasks '{other}' and '{task}' would both be '{benchmark_name(task)}'; build them separately")
    if name is not None:
        raise BadUse(f"name: {n_tasks} tasks are {n_tasks} runs, got one name; leave it out")
    if output is not None and not output.is_dir():
        raise BadUse(
            f"output must be an existing folder for the files of {n_tasks} tasks, got '{output}'; create it, or build "
            "one task"
        )


def benchmark_name(task: str) -> str:
    """Return the name of a task's benchmark, which is the name of its run and of its file, too.

    >>> benchmark_name("resnet-56/cifar10")
    'act-bench-resnet-56-cifar10'
    """
    return f"act-bench-{re.sub('[^A-Za-z0-9_-]+', '-', task)}"
