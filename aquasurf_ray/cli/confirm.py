"""The command that tells luck from merit: confirm. A search with --confirm prints the same table at its end.

Columns: `selected` is the value that the function was selected by, `confirmed` the mean over the confirming seeds with
the interval `low` to `high` that holds the true one 95 times in a hundred, `test` their mean on the test split. `gain`
is the mean difference to relu with the same seeds, positive where better, `p` that of the paired t-test, corrected for
the number of winners by Holm's method. `shrinkage` is what the selected value has lost, `expected` what it was expected
to lose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.leaderboard import interval
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
from aquasurf_ray.cli.terminal.output import print_json, print_table
from aquasurf_ray.cli.terminal.progress import progress

if TYPE_CHECKING:
    from aquasurf_ray.driver.verbs.confirm import Confirmation, ConfirmedFunction

COLUMNS = ("selected", "confirmed", "low", "high", "test", "gain", "p", "shrinkage", "expected", "function")


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

    with progress(as_json) as reporter:
        result = start(name, top=top, reporter=reporter, **options)
    print_confirmation(result.name, store, as_json)


def print_confirmation(name: str, store: str | None, as_json: bool) -> None:
    """What is stored of a confirmation, for people or as one JSON document."""
    found = _read(name, store)
    if as_json:
        print_json(confirmation_document(found))
        return
    seeds = f"seed {found.seeds[0]}" if len(found.seeds) == 1 else f"seeds {found.seeds[0]} to {found.seeds[-1]}"
    print(f"{found.metric.name} of the best of run '{found.of}', trained anew with {seeds} (run '{found.name}'):\n")
    rows = [_in_words(function, _figures(found, function)) for function in found.functions]
    print_table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    if found.seed_effect is not None:
        did = f"{'lost' if found.seed_effect >= 0 else 'gained'} {abs(found.seed_effect):.4f}"
        print(f"\nThe baselines, which nobody selected, {did} in the median: that is the seed's doing.")


def stored_confirmation(name: str, store: str | None) -> dict[str, Any]:
    """A confirmation by its run's name, as a document."""
    return confirmation_document(_read(name, store))


def confirmation_document(found: Confirmation) -> dict[str, Any]:
    """Ready for JSON, in the metric's own values; a positive gain is better, a positive shrinkage is lost."""
    functions = [
        {
            "function": function.function,
            "baseline": function.baseline,
            **_figures(found, function),
            "seeds": function.confirmed.n,
            "diverged": function.confirmed.n_diverged,
            "p_uncorrected": function.against_reference.p_value,
        }
        for function in found.functions
    ]
    return {
        "run": found.name,
        "confirms": found.of,
        "metric": found.metric.name,
        "seeds": list(found.seeds),
        "seed_effect": found.seed_effect,
        "functions": functions,
    }


def _read(name: str, store: str | None) -> Confirmation:
    from aquasurf_ray.driver.verbs.confirm import read_confirmation

    return read_confirmation(name, store)


def _figures(found: Confirmation, function: ConfirmedFunction) -> dict[str, Any]:
    value, mean = found.metric.value, function.confirmed
    low, high = interval(found.metric, mean)
    return {
        "selected": value(function.selected),
        "confirmed": value(mean.mean),
        "low": low,
        "high": high,
        "test": value(function.test.mean),
        "gain": function.against_reference.gain,
        "p": function.against_reference.p_holm,
        "shrinkage": function.shrinkage.observed,
        "expected": function.shrinkage.expected,
    }


def _in_words(function: ConfirmedFunction, figures: dict[str, Any]) -> dict[str, Any]:
    """For the table: baselines are marked, and so is what diverged."""
    lost = function.confirmed.n_diverged
    said = f" (diverged with {lost} of {function.confirmed.n} seeds)" if lost else ""
    return figures | {"function": f"{function.function}{' (baseline)' if function.baseline else ''}{said}"}
