"""The report's text and tables: the run, its best functions, and how to reproduce it."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Sequence

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.report.front import front, named
from aquasurf_ray.analysis.studies.findings import Findings
from aquasurf_ray.analysis.studies.headline import Headline
from aquasurf_ray.analysis.studies.ranking import confirmed_mean
from aquasurf_ray.analysis.studies.reference import OWN_OPERATORS, marked, standing
from aquasurf_ray.counted import counted
from aquasurf_ray.recipe_change import with_change
from aquasurf_ray.store import LeaderboardRow
from aquasurf_ray.store.records.runs import N_BASELINES
from aquasurf_ray.value_text import value_text

SHOWN = 10
_NOTES = {
    "confirmed": "Confirmed: mean over seeds that the function was not selected on, with their number.",
    "seeds": "Seeds: number of trainings that the metrics are means over.",
    "step time": "Step time: training-step time relative to ReLU.",
}


def heading(findings: Findings) -> str:
    """Return the first screen, and the run in two lines."""
    run, status, best = findings.run, findings.status, findings.best
    lines = [
        f"Task <b>{_text(findings.task.name)}</b>, {counted(status.finished, 'result')}, "
        f"{counted(len(findings.candidates), 'candidate')}, "
        f"seed {run.seed}. The run is {_text(run.status)}{_why(findings)}; read {findings.read_at:%Y-%m-%d %H:%M} UTC."
    ]
    if best:
        mark = standing(baseline=best.row.baseline, reference=findings.is_reference(best.function))
        lines.append(
            f"Best: <code>{named(best.function)}</code>{f' ({mark})' if mark else ''}{_at_change(best)} with "
            f"{_text(best.metric_name)} <b>{value_text(best.value)}</b>{_certainty(best)}"
            f"{_against_reference(findings, best)}."
        )
    return front(findings) + "".join(f"<p>{line}</p>" for line in lines)


def _why(findings: Findings) -> str:
    """Return why the run ended as it did, unless the first sentence is about it."""
    message = findings.run.message
    return f": {_text(message)}" if message and findings.run.status != "failed" else ""


def _at_change(best: Headline) -> str:
    return f", trained with {_text(best.recipe_change)}," if best.recipe_change else ""


def _certainty(best: Headline) -> str:
    """Return what the number is: a confirmed mean, or a mean of the search with its noise."""
    if best.confirmed is not None:
        return f" (confirmed: {best.confirmed})"
    if best.noise is None:
        return ""
    n = counted(len(best.row.seeds), "seed")
    return f" ± {value_text(best.noise, among=best.score)} ({n}, standard error)"


def _against_reference(findings: Findings, best: Headline) -> str:
    """Return the reference's number, if it is of the same kind: a confirmed mean does not compare with a selected
    score."""
    if findings.reference is None or findings.reference.function == best.function:
        return ""
    reference = findings.headline(findings.reference)
    if reference.is_confirmed is not best.is_confirmed:
        return ""
    return f", {named(reference.function)} {value_text(reference.value)}"


def leaderboard(findings: Findings) -> str:
    """Return the best functions and all baselines as a table; confirmed is the mean over other seeds."""
    rows = [row for row in findings.winners if row.rank <= SHOWN or row.baseline]
    if not rows:
        n = findings.status.diverged
        return f"<p>No training has a score{f'; {n} diverged' if n else ' yet'}.</p>"
    columns = ("rank", "function", findings.metric_name, "test", "seeds", "confirmed", "step time", "seconds")
    cells = [_cells(findings, row) for row in rows]
    # A column without a single value, such as the test score of a task without a test split, is left out.
    filled = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    notes = [_NOTES[columns[i]] for i in filled if columns[i] in _NOTES]
    if findings.confirmation is not None:
        means = (
            f"Confirmed means{findings.confirmation.of_other_metric}, on the {findings.confirmation.judge} split, rank"
        )
        notes.append(f"{means}; functions without one follow, by their {findings.metric_name}.")
    # A column's first click sorts what is best to the top; more seeds say more.
    down = {"seeds"} | ({findings.metric_name, "test"} if findings.task.metric.higher_is_better else set())
    down |= {"confirmed"} if findings.judged_metric.higher_is_better else set()
    board = table([columns[i] for i in filled], [[row[i] for i in filled] for row in cells], sortable=True, down=down)
    return board + (f"<p>{' '.join(notes)}</p>" if notes else "")


def _cells(findings: Findings, row: LeaderboardRow) -> list[str]:
    others = confirmed_mean(row, findings.confirmation, findings.seed_scores)
    mean = findings.judged_metric.value(others.mean)
    confirmed = "" if mean is None else f"{value_text(mean)}\N{NO-BREAK SPACE}({others.n}){_judged_with(findings, row)}"
    return [
        str(row.rank),
        marked(
            with_change(readable(row.function), row.recipe_change),
            baseline=row.baseline,
            reference=findings.is_reference(row.function),
        ),
        value_text(findings.value(row.score)),
        "" if row.test_score is None else value_text(findings.value(row.test_score)),
        "" if row.noise is None else str(len(row.seeds)),
        confirmed if not others.n_diverged else f"diverged with {others.n_diverged} of {others.n}",
        "" if row.time_ratio is None else f"{row.time_ratio:.2f}",
        "" if row.seconds is None else f"{row.seconds:.1f}",
    ]


def _judged_with(findings: Findings, row: LeaderboardRow) -> str:
    """Return the change of the recipe that a confirmed mean is of; empty where the row's own values are of it too."""
    judged = () if findings.confirmation is None else findings.confirmation.functions
    change = next((each.recipe_change for each in judged if each.function == row.function), row.recipe_change)
    return "" if change == row.recipe_change else f" with {_text(change or 'the recipe as it is')}"


def notes(findings: Findings) -> str:
    """Return what people noted on the run."""
    items = (f"<li><time>{note.at:%Y-%m-%d %H:%M}</time>{_text(note.text)}</li>" for note in findings.notes)
    return f'<ul class="events">{"".join(items)}</ul>'


def reproduction(findings: Findings) -> str:
    """Return the command or the call that repeats the run, the versions and the configuration."""
    run = findings.run
    # Without what only readers need; the values of the network's own operators are hundreds of numbers.
    config = {
        key: value for key, value in run.config.items() if value is not None and key not in (OWN_OPERATORS, N_BASELINES)
    }
    rows = [
        *([name, text] for name, text in (findings.versions or {"aquasurf-ray": run.code_version}).items()),
        ["seed", str(run.seed)],
        ["training seed", str(run.config.get("training_seed", 0))],
        ["task", f"{findings.task.name}, version {findings.task.version}, digest {findings.task.digest}"],
        ["started", f"{run.created_at:%Y-%m-%d %H:%M} UTC"],
    ]
    return (
        f"<pre>{_text(findings.again)}</pre>{table(('what', 'value'), rows)}"
        f"<details><summary>Configuration</summary><pre>{_text(json.dumps(config, indent=1))}</pre></details>"
    )


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, sortable: bool = False, down: Collection[str] = ()
) -> str:
    """Return an HTML table, with its text escaped; the columns in `down` sort the highest value first.

    A phone shows each row as a block, with the columns' names as labels. Browsers take the meaning of a table from its
    looks, so the roles are written out.

    >>> table(["a"], [["<"]]).partition("<tbody")[2]
    ' role="rowgroup"><tr role="row"><td role="cell" data-label="a">&lt;</td></tr></tbody></table></div>'
    """
    head = "".join(
        f'<th scope="col" role="columnheader"{" data-down" if column in down else ""}>{_text(column)}</th>'
        for column in columns
    )
    cells = (
        "".join(
            f'<td role="cell" data-label="{_text(column)}">{_text(cell)}</td>'
            for column, cell in zip(columns, row, strict=True)
        )
        for row in rows
    )
    body = "".join(f'<tr role="row">{row}</tr>' for row in cells)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="table"><table role="table"{kind}><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _text(value: str) -> str:
    return html.escape(value)
