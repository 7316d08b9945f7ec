"""The command that goes on with a run: resume."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.open_store import open_store
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
    Until,
    WaitForNodes,
    Workers,
    given,
)
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.run_result import print_result


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("resume", epilog="Example: aquasurf resume digits-1 --evaluations 80")(resume)


def resume(
    name: RunName,
    evaluations: Annotated[int | None, typer.Option(help="A larger budget.")] = None,
    confirm: Confirm = None,
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
    """Go on with a run after any interruption, or with a larger budget.

    A configuration file may be the one that the run was started with; what makes it this run may not change.
    """
    options = given(locals(), "as_json")
    from aquasurf_ray.driver.config import make_config

    name, store = options.pop("name"), options.pop("store", None)
    make_config({"task": name, **options})  # what is wrong is told before anything heavy is loaded
    changes = _without_settled(options, name, store)
    from aquasurf_ray.driver import resume as go_on

    with progress(as_json) as callbacks:
        result = go_on(name, store=store, callbacks=callbacks, **changes)
    print_result(result, store, as_json)


def _without_settled(options: dict[str, Any], name: str, store: str | None) -> dict[str, Any]:
    """The options without those of a configuration file that are settled since the run began, and still the same.

    The driver compares the others. A run's modules are those of its configuration and those of its space.
    """
    from aquasurf_ray.driver.errors import BadUse

    settled = {key: options[key] for key in ("task", "modules") if key in options}
    if settled:
        with open_store(store) as opened:
            known = opened.run(name).config
        modules = settled.get("modules") or []
        before = known | {"modules": modules if set(modules) <= set(known.get("modules") or ()) else None}
        changed = [key for key, value in settled.items() if (value or None) != (before.get(key) or None)]
        if changed:
            raise BadUse(f"run '{name}' cannot change its {', '.join(changed)}; start another run for that")
    return {key: value for key, value in options.items() if key not in settled}
