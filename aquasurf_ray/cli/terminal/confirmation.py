"""The table of a confirmation: `confirm` prints it, and a search with --confirm at its end.

Columns: `selected` is the value that the function was selected by; `confirmed` the mean over the additional seeds, with
its 95% interval from `low` to `high`; `test` their mean on the test split. `gain` is the mean difference to ReLU with
the same seeds, positive if better, and `p` the p-value of the paired t-test, with Holm's correction for the number of
winners. `shrinkage` is what the selected value has lost, `expected` the expected loss.
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
    """Print a stored confirmation, as a table or as one JSON document."""
    found = _read(name, store)
    if as_json:
        print_json(confirmation_document(found))
        return
    seeds = f"seed {found.seeds[0]}" if len(found.seeds) == 1 else f"seeds {found.seeds[0]} to {found.seeds[-1]}"
    print(
        f"{found.metric.name} of the best functions of run '{found.of}', retrained with {seeds} (run '{found.name}'):\n"
    )
    rows = [_in_words(function, _metrics(found, function)) for function in found.functions]
    print_table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    # The baselines were not selected for their scores, so what they lose is the effect of the new seeds and no
    # shrinkage.
    if found.seed_effect is not None:
        change = f"{'lost' if found.seed_effect >= 0 else 'gained'} {abs(found.seed_effect):.4f}"
        print(f"\nThe baselines, which were not selected, {change} in the median: the effect of the seed alone.")


def stored_confirmation(name: str, store: str | None) -> dict[str, Any]:
    """Return the document of a stored confirmation by the name of its run."""
    return confirmation_document(_read(name, store))


def confirmation_document(found: Confirmation) -> dict[str, Any]:
    """Return a document in the metric's own values; a positive gain is better, a positive shrinkage is a loss."""
    functions = [
        {
            "function": function.function,
            "baseline": function.baseline,
            **_metrics(found, function),
            "seeds": function.confirmed.n,
            "diverged": function.confirmed.n_diverged,
            # The table shows only Holm's p; somebody who tests a single function needs the p-value before the
            # correction.
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


def _metrics(found: Confirmation, function: ConfirmedFunction) -> dict[str, Any]:
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


def _in_words(function: ConfirmedFunction, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row for people: baselines and diverged seeds are marked."""
    lost = function.confirmed.n_diverged
    diverged = f" (diverged with {lost} of {function.confirmed.n} seeds)" if lost else ""
    return row | {"function": f"{function.function}{' (baseline)' if function.baseline else ''}{diverged}"}
