"""The options that more than one command has, each defined once: the same flag means the same thing everywhere.

Every field of `SearchConfig` is a flag of `search`, spelled with dashes; so are the keys of `--config` files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.output import Format

RunName = Annotated[str, typer.Argument(help="Name of the run.")]
NewRunName = Annotated[str | None, typer.Option("--name", help="Name of the run. Default: one that tells its task.")]
Store = Annotated[
    str | None, typer.Option("--store", help="Database URL; default: AQUASURF_STORE, else sqlite:///aquasurf.db here.")
]
Storage = Annotated[str | None, typer.Option(help="Folder or URI for epoch checkpoints. Default: aquasurf-storage.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes. Default: one a GPU, else one a core.")]
GpusPerWorker = Annotated[float | None, typer.Option(help="GPUs a worker owns, fractions allowed.")]
GpusPerEvaluation = Annotated[
    int | None,
    typer.Option(help="GPUs that train one function together; CPU processes with --gpus-per-worker 0. Default: 1."),
]
CpusPerWorker = Annotated[float | None, typer.Option(help="CPU cores a worker owns. Default: 1.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to use. Default: Ray starts on this machine.")]
WaitForNodes = Annotated[
    float | None, typer.Option(help="Seconds to wait for nodes that an autoscaler starts, also from none. Default: 0.")
]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds a training may take. Default: the task's.")]
TimeBudget = Annotated[
    str | None,
    typer.Option(help="End in good order after so long: seconds, or a time such as 2h30m. Anew at each resume."),
]
Until = Annotated[
    str | None, typer.Option(help="End when the best is as good as this, such as val_accuracy>=0.99 or val_rmse<=0.1.")
]
MaxAttempts = Annotated[int | None, typer.Option(help="Tries of one evaluation when machines fail. Default: 3.")]
LeaseSeconds = Annotated[
    float | None, typer.Option(help="Silence after which another driver may take the run over. Default: 30.")
]
Log = Annotated[
    str | None,
    typer.Option(help="File that a line of JSON is appended to for whatever happens."),
]
CheckpointInterval = Annotated[float | None, typer.Option(help="Seconds between two epoch checkpoints. Default: 30.")]
Confirm = Annotated[
    int | None, typer.Option(help="Train so many of the best functions anew at the end, with further seeds.")
]
Seeds = Annotated[
    int | None, typer.Option(help="Further seeds that the best functions and the baselines get. Default: 5.")
]
HealthGate = Annotated[
    str | None, typer.Option(help="on or off: refuse what the first training step shows to be hopeless. Default: on.")
]
FastActivations = Annotated[
    str | None, typer.Option(help="on or off: train in a form of the function that is measured faster. Default: on.")
]
LogTo = Annotated[
    list[str] | None,
    typer.Option(help="tensorboard:FOLDER or mlflow:URI: show results there too; may be given several times."),
]
DataFolder = Annotated[
    str | None, typer.Option("--data", help="Folder of data sets. Default: AQUASURF_DATA, else ./data.")
]
LoaderWorkers = Annotated[
    int | None, typer.Option(help="Processes a worker that read examples which are not in memory. Default: 0.")
]
Modules = Annotated[
    list[str] | None, typer.Option(help="Module that registers operators of your own; may be given several times.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with these options; flags given here win over it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AnyFormat = Annotated[Format, typer.Option("--format", help="table, json or csv.")]


def given(flags: dict[str, Any], *but: str) -> dict[str, Any]:
    """The flags that were given, without those named in `but` and `config`, over the keys of the file `config`."""
    from aquasurf_ray.driver.config import read_config_file

    file = read_config_file(flags["config"]) if flags.get("config") else {}
    # an option that may be repeated and was not given is an empty list
    return file | {k: v for k, v in flags.items() if k not in ("config", *but) and v is not None and v != []}
