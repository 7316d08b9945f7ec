"""The command that makes a benchmark: benchmark build."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.open_store import store_option
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
from aquasurf_ray.cli.terminal.output import print_json
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_document import run_document
from aquasurf_ray.cli.terminal.run_result import task_of

EXAMPLE = "aquasurf benchmark build digits --space three-node --seeds 3 -o digits.json"


def build(
    task: Annotated[str | None, typer.Argument(help="A task by name, or package.module:function.")] = None,
    space: Annotated[str, typer.Option(help="three-node, four-node, coatnet, or a YAML file.")] = "three-node",
    seeds: Annotated[int, typer.Option(help="Trainings of each function, with seeds 0, 1, ...")] = 3,
    fisher: Annotated[
        str, typer.Option(help="Which Fisher information the spectra are of: sampled, empirical, or sampled,empirical.")
    ] = "sampled",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write at the end: .parquet, or .json (Act-Bench)."),
    ] = None,
    name: NewRunName = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    modules: Modules = None,
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
    """Train every unique function of a space, and the baselines, with several seeds.

    It goes on where it was when it is called again, or by `aquasurf resume`; what the store has is not trained again.
    No training is ended early, whatever becomes of it.
    """
    options = given(locals(), "as_json", "space", "seeds", "fisher", "output")
    chosen = task_of(options, EXAMPLE)
    from aquasurf_ray.driver import build_benchmark

    with progress(as_json) as callbacks:
        result = build_benchmark(
            chosen, space=space, seeds=seeds, fisher=fisher, output=output, callbacks=callbacks, **options
        )
    if as_json:
        print_json(run_document(result.name, store))
        return
    where = store_option(store)
    print(f"{result.evaluations} trainings are in run '{result.name}'")
    if output is not None:
        print(f"the benchmark is written to {output}")
    print(f"\n  aquasurf top {shlex.quote(result.name)} -n 20{where}  the best of them")
