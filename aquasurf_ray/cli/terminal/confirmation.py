"""A run's confirmation, as `confirm` prints it, and a search with --confirm at its end.

Columns: `selected` is the value that the function was selected by, `confirmed` the mean over the confirming seeds with
the interval `low` to `high` that holds the true one 95 times in a hundred, `test` their mean on the test split. `gain`
is the mean difference to relu with the same seeds, positive where better, `p` that of the paired t-test, corrected for
the number of winners by Holm's method. `shrinkage` is what the selected value has lost, `expected` what it was expected
to lose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquasurf_ray.cli.terminal.leaderboard import interval
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import print_json, print_table

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction

COLUMNS = ("selected", "confirmed", "low", "high", "test", "gain", "p", "shrinkage", "expected", "function")


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
    from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation

    with open_store(store) as opened:
        return read_confirmation(opened, name)


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
