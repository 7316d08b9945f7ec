"""The command that trains given functions: evaluate."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.options import (
    Address,
    AsJson,
    CheckpointInterval,
    ConfigFile,
    CpusPerWorker,
    DataFolder,
    FastActivations,
    GpusPerEvaluation,
    GpusPerWorker,
    HealthGate,
    LeaseSeconds,
    LoaderWorkers,
    Log,
    LogTo,
    MaxAttempts,
    Modules,
    NewRunName,
    Storage,
    Store,
    TimeBudget,
    TimeLimit,
    WaitForNodes,
    Workers,
    given,
)
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import print_result, task_of


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate", epilog="Example: aquasurf evaluate 'mul(sigmoid(x),elu(x))' --task digits --seeds 3")(
        evaluate
    )


def evaluate(
    functions: Annotated[list[str], typer.Argument(help="Functions, for example 'mul(sigmoid(x),elu(x))'.")],
    task: Annotated[str | None, typer.Option(help="A task by name, or package.module:function.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each function, with seeds 0, 1, ...")] = 1,
    name: NewRunName = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    modules: Modules = None,
    health_gate: HealthGate = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    time_budget: TimeBudget = None,
    lease_seconds: LeaseSeconds = None,
    log: Log = None,
    checkpoint_interval: CheckpointInterval = None,
    fast_activations: FastActivations = None,
    data: DataFolder = None,
    loader_workers: LoaderWorkers = None,
    log_to: LogTo = None,
    config: ConfigFile = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = None,
    as_json: AsJson = False,
) -> None:
    """Train the given functions, without a search."""
    options = given(locals(), "functions", "seeds", "as_json")
    chosen = task_of(options, "aquasurf evaluate 'swish(x)' --task digits")
    from aquasurf_ray.driver import evaluate as train

    with progress(as_json) as callbacks:
        result = train(functions, chosen, seeds=seeds, callbacks=callbacks, **options)
    print_result(result, options.get("store"), as_json)
