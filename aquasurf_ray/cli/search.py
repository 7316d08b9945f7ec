"""The command that starts a search: search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aquasurf_ray.cli.terminal.options import (
    Address,
    AsJson,
    CheckpointInterval,
    ConfigFile,
    Confirm,
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
    Seeds,
    Storage,
    Store,
    TimeBudget,
    TimeLimit,
    Until,
    WaitForNodes,
    Workers,
    given,
)
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import print_result, task_of
from aquasurf_ray.driver.surrogate_names import DEFAULT_SURROGATE

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("search", epilog="Example: aquasurf search digits --evaluations 40 --workers 2")(search)


def search(
    task: Annotated[str | None, typer.Argument(help="A task by name, or package.module:function.")] = None,
    name: NewRunName = None,
    space: Annotated[
        str | None, typer.Option(help="three-node, four-node, coatnet, or a YAML file. Default: three-node.")
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option(help="Functions to train after the 8 baselines. Default: 40.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Functions drawn from the space that may be trained. Default: 200.")
    ] = None,
    first_candidates: Annotated[
        int | None,
        typer.Option(help="Candidates with a spectrum before the first suggestion. Default: a quarter, 256 at most."),
    ] = None,
    confirm: Confirm = None,
    seeds: Seeds = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    seed: Annotated[int | None, typer.Option(help="Of the drawn candidates and the surrogate. Default: 0.")] = None,
    training_seed: Annotated[
        int | None, typer.Option(help="Of initial weights, data order and spectra. Default: 0.")
    ] = None,
    modules: Modules = None,
    fisher: Annotated[
        str | None, typer.Option(help="Which Fisher information: sampled or empirical. Default: sampled.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="What the surrogate sees: both, spectrum or outputs. Default: both.")
    ] = None,
    layer_weighting: Annotated[
        str | None,
        typer.Option(help="Of layers in the spectrum distance: inverse, uniform or size. Default: inverse."),
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option(
            help="aquasurf: a regressor on a map of the candidates (UMAP), the authors' way. metric: one on the "
            "distances of the features themselves, a Gaussian process by expected improvement. "
            f"Default: {DEFAULT_SURROGATE}."
        ),
    ] = None,
    regressor: Annotated[
        str | None, typer.Option(help="knr, rfr, svr or gp. Default: knr for aquasurf, gp for metric.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(help="Suggest only functions whose training step takes at most this many times relu's."),
    ] = None,
    early_stop: Annotated[
        str | None,
        typer.Option(help="off, or median: end trainings of suggestions that are below the median. Default: off."),
    ] = None,
    health_gate: HealthGate = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    time_budget: TimeBudget = None,
    until: Until = None,
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
    """Search an activation function for a task.

    Trains the 8 baselines, computes Fisher spectra of the candidates, and trains the functions that the surrogate
    finds most promising. A run of the same name and configuration is gone on with.
    """
    options = given(locals(), "as_json")
    chosen = task_of(options, "aquasurf search digits")
    from aquasurf_ray.driver import search as start

    with progress(as_json) as callbacks:
        result = start(chosen, callbacks=callbacks, **options)
    print_result(result, options.get("store"), as_json)
