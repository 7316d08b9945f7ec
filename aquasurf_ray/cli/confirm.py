"""The command that tells luck from merit: confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.confirmation import print_confirmation
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
    RunName,
    Seeds,
    Storage,
    Store,
    TimeBudget,
    TimeLimit,
    WaitForNodes,
    Workers,
    given,
)
from aquasurf_ray.cli.terminal.progress import progress

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("confirm", epilog="Example: aquasurf confirm digits-1 --top 5 --seeds 5")(confirm)


def confirm(
    name: RunName,
    top: Annotated[int, typer.Option(help="How many of the run's best functions.")] = 5,
    seeds: Seeds = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
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
    """Train the best functions of a run and the baselines with further seeds, and tell what is left of their lead.

    The seed that the functions were selected on is left out: the best of many noisy trainings is partly luck.
    """
    options = given(locals(), "as_json", "name", "top")
    from aquasurf_ray.driver import confirm as start

    with progress(as_json) as callbacks:
        result = start(name, top=top, callbacks=callbacks, **options)
    print_confirmation(result.name, store, as_json)
