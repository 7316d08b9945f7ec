"""The table of an evaluation, which `evaluate --format` prints: functions side by side, best mean first.

Columns: `mean` over the seeds with its 95% interval from `low` to `high`, which stays within the metric's range; `test`
is the mean on the test split, all else is on the validation split. `gain` is the mean difference to the task's
reference with the same seeds, positive if better, and `p` the p-value of the paired t-test with Holm's correction for
the number of functions; both are unknown if the run did not train the reference.
"""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.cli.terminal.leaderboard import interval
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows, print_table
from aquasurf_ray.cli.terminal.paper_table import Table, cell, escaped, gain_words, print_latex, print_markdown
from aquasurf_ray.counted import counted
from aquasurf_ray.value_text import interval_text, value_text

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.evaluated_run import EvaluatedFunction, Evaluation

COLUMNS = ("rank", "name", "mean", "low", "high", "test", "gain", "p", "seeds", "diverged", "function")
PAPER = ("rank", "name", "function", "mean", "95% interval", "test", "gain", "p", "seeds")
# Four decimals are shown, so smaller p-values would print as 0, which no p-value is.
SMALLEST_P = 1e-4
WIDTH = 110


def print_evaluation(name: str, store: str | None, form: Table) -> None:
    """Print the table of a run of `evaluate`."""
    from aquasurf_ray.analysis.studies.evaluated_run import read_evaluation

    with open_store(store) as opened:
        found = read_evaluation(opened, name)
    rows = [_row(found, function) for function in found.functions]
    if form is Table.markdown:
        print_markdown(_title(found), PAPER, [_markdown(found, row, rows) for row in rows], _note(found))
    elif form is Table.latex:
        # Rank to the right; name and formula to the left; numbers to the right.
        alignment = "rll" + "r" * (len(PAPER) - 3)
        print_latex(_title(found), PAPER, [_latex(found, row, rows) for row in rows], alignment, _note(found))
    elif form is Table.csv:
        print_rows(COLUMNS, [[row[column] for column in COLUMNS] for row in rows], Format.csv)
    elif form is Table.json:
        about = {"run": found.name, "task": found.task, "metric": found.metric.name, "seeds": list(found.seeds)}
        reference = found.reference if found.is_compared else None
        print_json(about | {"reference": reference, "functions": rows})
    else:
        print(f"{_title(found)}:\n")
        shown = [row | {"function": _marked(found, row, readable(row["function"]))} for row in rows]
        print_table(COLUMNS, [[row[column] for column in COLUMNS] for row in shown])
        print(f"\n{fill(_note(found), WIDTH)}")


def _row(found: Evaluation, function: EvaluatedFunction) -> dict[str, Any]:
    value, (low, high) = found.metric.value, interval(found.metric, function.mean)
    return {
        "rank": function.rank,
        "name": function.name,
        "mean": value(function.mean.mean),
        "low": low,
        "high": high,
        "test": value(function.test.mean),
        "gain": function.against_reference.gain,
        "p": function.against_reference.p_holm,
        "seeds": function.mean.n,
        "diverged": function.mean.n_diverged or None,
        "function": function.function,
    }


def _title(found: Evaluation) -> str:
    n = len(found.seeds)
    return f"{found.metric.name} on {found.task}, {counted(n, 'seed')} each (run '{found.name}')"


def _note(found: Evaluation) -> str:
    """Return what the columns are: splits, and how gains are tested."""
    splits, reference = "Mean with 95% interval, gain and p are on the validation split.", readable(found.reference)
    if found.is_compared:
        return f"{splits} {gain_words(reference, 'number of functions')}"
    return f"{splits} Gain and p need the reference, {reference}, which this run did not train: evaluate it too."


def _cells(row: dict[str, Any]) -> list[str]:
    """Return the cells behind the function, as plain text."""
    low, high, p, lost = row["low"], row["high"], row["p"], row["diverged"]
    return [
        # A mean over the seeds that happened to survive would flatter the function.
        f"diverged with {lost}" if lost else cell(row["mean"]),
        "" if low is None else interval_text(low, high),
        cell(row["test"]),
        "" if row["gain"] is None else value_text(row["gain"], among=row["mean"] or 0.0, sign="+"),
        f"<{SMALLEST_P}" if p is not None and p < SMALLEST_P else cell(p, 1.0),
        str(row["seeds"]),
    ]


def _marked(found: Evaluation, row: dict[str, Any], text: str) -> str:
    from aquasurf_ray.analysis.studies.reference import marked

    return marked(text, baseline=False, reference=row["function"] == found.reference)


def _markdown(found: Evaluation, row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    mean, *others = _cells(row)
    mean = f"**{mean}**" if _best(row, rows) else mean
    return [cell(row["rank"]), row["name"] or "", _marked(found, row, f"`{readable(row['function'])}`"), mean, *others]


def _latex(found: Evaluation, row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    from aquasurf_ray.activations import latex

    mean, *others = map(escaped, _cells(row))
    mean = rf"\textbf{{{mean}}}" if _best(row, rows) else mean
    formula = _marked(found, row, f"${latex(row['function'])}$")
    return [cell(row["rank"]), escaped(row["name"] or ""), formula, mean, *others]


def _best(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Return whether the mean is the best in the decimals that are shown."""
    # Compared as printed: if two means look equal, both are bold, or a reader would ask why one is not.
    best = next((other["mean"] for other in rows if other["rank"] == 1), None)
    return best is not None and row["mean"] is not None and cell(row["mean"]) == cell(best)
