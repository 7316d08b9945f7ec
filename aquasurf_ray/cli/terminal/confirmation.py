"""The verdict and the table of a confirmation: `confirm` prints them, and a search with --confirm at its end.

Columns: `selected` is the value that the function was selected by, if the run selected by the same metric; `rate` the
factor on the learning rate that was chosen for it, if rates were tuned; `validation` the mean over the judging seeds on
the validation split (`confirmed` in JSON), and `test` on the test split. The interval from `low` to `high` is that of
the mean on the split that judges. `gain` is the mean difference to the reference with the same seeds, positive if
better, then its 95% interval and the p-value of the paired t-test, with Holm's correction for the number of winners.
`over best` is the gain over the best baseline, and `over relu` that over ReLU, if the reference is another function.
`shrinkage` is what the selected value has lost on the validation split, `expected` the expected loss; a run whose
values were told by a loop of the user's own has neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.cli.terminal.leaderboard import interval
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import print_json, print_table
from aquasurf_ray.counted import counted
from aquasurf_ray.recipe_change import LEARNING_RATE
from aquasurf_ray.value_text import interval_text, value_text

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.confirmation import PairedDifference
    from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction

COLUMNS = (
    *("selected", "rate", "validation", "test", "low", "high", "gain", "interval", "p", "over best", "over relu"),
    *("shrinkage", "expected", "function"),
)

_DIFFERENCES = ("gain", "p", "over best", "over relu", "shrinkage", "expected")


def print_confirmation(name: str, store: str | None, as_json: bool) -> None:
    """Print a stored confirmation, as a table or as one JSON document."""
    from aquasurf_ray.analysis.studies.verdict import at_the_edge, verdict

    found = _read(name, store)
    if as_json:
        print_json(confirmation_document(found))
        return
    seeds = f"seed {found.seeds[0]}" if len(found.seeds) == 1 else f"seeds {found.seeds[0]} to {found.seeds[-1]}"
    print(
        f"{found.metric.name} of the best functions of run '{found.of}', retrained with {seeds} (run '{found.name}'); "
        f"the {found.judge} split judges:\n"
    )
    rate = found.tuning.field
    columns = [each for each in COLUMNS if each != "rate" or rate is not None]
    columns = [each for each in columns if each != "over relu" or _is_unlike_relu(found)]
    columns = [each for each in columns if each not in ("shrinkage", "expected") or not found.is_told]
    columns = [each for each in columns if each != "selected" or not found.has_other_metric]
    rows = [_in_words(found, function) for function in found.functions]
    titles = [rate if each == "rate" and rate not in (None, LEARNING_RATE) else each for each in columns]
    print_table(titles, [[row[column] for column in columns] for row in rows], differences=_DIFFERENCES)
    for text in _notes(found):
        print(f"\n{text}")
    for text in at_the_edge(found):
        print(text)
    print(f"\n{verdict(found).sentence}")


def _notes(found: Confirmation) -> Iterator[str]:
    """Yield what the columns of the table mean, as far as this confirmation has them."""
    if sum(function.against_reference.p_holm is not None for function in found.functions) > 1:
        yield "Interval: 95%, of each gain by itself. P: corrected for the number of functions, baselines aside."
    if found.selected_by is not None and found.has_other_metric:
        told = found.selected_by.name
        yield f"No selected values: run '{found.of}' selected by its {told}, not by {found.metric.name}."
    elif found.is_told:
        yield f"Selected: told to run '{found.of}', whose trainings may differ from the task's in more than the seed."
    # The baselines were not selected for their scores, so what they lose is not shrinkage: it is the effect of the new
    # seeds, and of the rates if these were chosen.
    if found.seed_effect is not None:
        change = f"{'lost' if found.seed_effect >= 0 else 'gained'} {value_text(abs(found.seed_effect))}"
        field = found.tuning.field
        cause = "the seed alone" if field is None else f"other seeds and of each one's best {field.replace('_', ' ')}"
        yield f"The baselines, which were not selected, {change} in the median: the effect of {cause}."


def stored_confirmation(name: str, store: str | None) -> dict[str, Any]:
    """Return the document of a stored confirmation by the name of its run."""
    return confirmation_document(_read(name, store))


def confirmation_document(found: Confirmation) -> dict[str, Any]:
    """Return a document in the metric's own values; a positive gain is better, a positive shrinkage is a loss."""
    from aquasurf_ray.analysis.studies.verdict import verdict

    said = verdict(found, str)
    functions = [
        {
            "function": function.function,
            "baseline": function.baseline,
            "judged": function.is_judged,
            **_document(found, function),
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
        "verdict": said.sentence,
        "winner": said.function,
        "metric": found.metric.name,
        "judge": found.judge,
        "reference": found.reference,
        "best_baseline": found.best_baseline,
        "seeds": list(found.seeds),
        "recipe_changes": list(found.tuning.changes),
        "choosing_seeds": list(found.tuning.seeds),
        "seed_effect": found.seed_effect,
        "functions": functions,
    }


def _read(name: str, store: str | None) -> Confirmation:
    from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation

    with open_store(store) as opened:
        return read_confirmation(opened, name)


def _metrics(found: Confirmation, function: ConfirmedFunction) -> dict[str, Any]:
    value, gain = found.metric.value, function.against_reference
    low, high = interval(found.metric, found.judged(function))
    gain_low, gain_high = _gain_ends(found, gain)
    between = None if gain_low is None or gain_high is None else interval_text(gain_low, gain_high, sign="+")
    return {
        "selected": value(function.selected),
        "rate": function.rate,
        "validation": value(function.confirmed.mean),
        "test": value(function.test.mean),
        "low": low,
        "high": high,
        "gain": gain.gain,
        "interval": between,
        "p": gain.p_holm,
        "over best": function.against_best_baseline.gain,
        "over relu": function.against_relu.gain,
        "shrinkage": function.shrinkage.observed,
        "expected": function.shrinkage.expected,
    }


def _document(found: Confirmation, function: ConfirmedFunction) -> dict[str, Any]:
    metrics, (gain_low, gain_high) = _metrics(found, function), _gain_ends(found, function.against_reference)
    del metrics["rate"], metrics["interval"]
    # Programs know the mean on the validation split by this name.
    metrics = {"confirmed" if name == "validation" else name: value for name, value in metrics.items()}
    tried = {change: found.metric.value(mean.mean) for change, mean in function.tried.items()}
    return {
        **{name.replace(" ", "_"): value for name, value in metrics.items()},
        "recipe_change": function.recipe_change,
        "gain_low": gain_low,
        "gain_high": gain_high,
        "tried": tried,
    }


def _gain_ends(found: Confirmation, gain: PairedDifference) -> tuple[float | None, float | None]:
    """Return the ends of a gain's interval, within what is possible; None for no interval."""
    if gain.gain is None or gain.low is None or gain.high is None:
        return None, None
    return found.metric.gain_interval(gain.gain, gain.low, gain.high)


def _is_unlike_relu(found: Confirmation) -> bool:
    """Return whether gains over ReLU are others than those over the reference, which may be ReLU by another name."""
    return found.reference != REFERENCE and any(f.against_relu != f.against_reference for f in found.functions)


def _in_words(found: Confirmation, function: ConfirmedFunction) -> dict[str, Any]:
    """Return a row for people: the reference, baselines, those that were not judged, and diverged seeds are marked."""
    from aquasurf_ray.analysis.studies.reference import marked

    lost = function.confirmed.n_diverged
    diverged = f" (diverged with {lost} of {counted(function.confirmed.n, 'seed')})" if lost else ""
    note = "not judged" if function.baseline and not function.is_judged else ""
    is_reference = function.function == found.reference
    name = marked(readable(function.function), baseline=function.baseline, reference=is_reference, note=note)
    return _metrics(found, function) | {"function": f"{name}{diverged}"}
