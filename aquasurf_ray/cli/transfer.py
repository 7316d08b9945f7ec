"""The command `transfer`: try the best functions of a run on another task."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.leaderboard import interval
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows, print_table
from aquasurf_ray.cli.terminal.paper_table import Table, cell, gain_words, print_latex, print_markdown
from aquasurf_ray.cli.terminal.progress import progress
from aquasurf_ray.cli.terminal.settings import with_settings
from aquasurf_ray.cli.terminal.shared_parameters import RUN_PANEL, Top, training_seeds
from aquasurf_ray.counted import counted
from aquasurf_ray.driver.settings.defaults import TRANSFER_SEEDS, TRANSFER_TOP

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.transferred_run import Transfer, TransferredFunction
    from aquasurf_ray.analysis.studies.verdict import Verdict

app = Commands()

COLUMNS = ("function", "source", "median", "test median", "mean", "low", "high", "gain", "p")
WIDTH = 110


@app.command(epilog="Example: aquasurf transfer --from digits-1 --top 3 --to digits-mlp --seeds 3")
@with_settings("TrainingConditions", "modules")
def transfer(
    source: Annotated[
        str,
        typer.Option("--from", metavar="NAME", rich_help_panel=RUN_PANEL, help="Run whose best functions are trained."),
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="TASK",
            rich_help_panel=RUN_PANEL,
            help="Other task by name, or package.module:function for your own.",
        ),
    ],
    settings: dict[str, Any],
    top: Top = TRANSFER_TOP,
    seeds: Annotated[int | None, training_seeds(TRANSFER_SEEDS)] = None,
    form: Annotated[
        Table, typer.Option("--format", metavar="|".join(Table), help="Format of the table.")
    ] = Table.table,
) -> None:
    """Train the best functions of a run on another task.

    Trains them and the baselines, and prints medians over the seeds, means with 95% intervals, and paired t-tests
    against the task's reference, with Holm's correction for the number of functions, all on the validation split; the
    best mean comes first. One sentence says whether a function beats the reference.
    Existing results are reused, so another --format costs nothing.
    """
    from aquasurf_ray.analysis.studies.transferred_run import read_transfer
    from aquasurf_ray.driver import transfer as start

    seeds = TRANSFER_SEEDS if seeds is None else seeds
    with progress(form is not Table.table) as callbacks:
        result = start(source, to, top=top, seeds=seeds, progress=False, callbacks=callbacks, **settings)
    with open_store(settings.get("store")) as opened:
        found = read_transfer(opened, source, result.name)
    _PRINTERS[form](found)


def _metrics(found: Transfer, function: TransferredFunction) -> dict[str, Any]:
    value, mean = found.metric.value, function.mean
    low, high = interval(found.metric, mean)
    return {
        "function": _marked(found, function, readable(function.function)),
        "source": found.source_value(function),
        "median": value(function.median),
        "test median": value(function.test_median),
        "mean": value(mean.mean),
        "low": low,
        "high": high,
        "gain": function.against_reference.gain,
        "p": function.against_reference.p_holm,
    }


def _marked(found: Transfer, function: TransferredFunction, name: str) -> str:
    from aquasurf_ray.analysis.studies.reference import marked

    return marked(name, baseline=function.baseline, reference=function.function == found.reference)


def _title(found: Transfer) -> str:
    means = f"{found.metric.name} on {found.task}, {counted(len(found.seeds), 'seed')}"
    return f"{means} (run '{found.name}'), of the best of run '{found.source}' on {found.source_task}"


def _note(found: Transfer) -> str:
    """Return what the columns are: splits, and how gains are tested."""
    if found.source_judge is None:
        source = f"the best score of run '{found.source}', on the validation split"
    else:
        mean = f"the mean{_other_metric(found)} in the confirmation of run '{found.source}'"
        source = f"{mean}, on the {found.source_judge} split"
        if not all(each.is_confirmed for each in found.functions):
            source += "; for a function without one, the score that selected it, on the validation split"
    gains = (
        gain_words(readable(found.reference), "transferred functions")
        if any(each.function == found.reference for each in found.functions)
        else f"Gain and p need the reference, {readable(found.reference)}, which is not among the functions."
    )
    means = f"Median, mean with 95% interval, gain and p are on the validation split of {found.task}"
    return f"Source: {source}. {means}. {gains}"


def _other_metric(found: Transfer) -> str:
    """Return the words for the metric of confirmed source scores, where the source run has another one."""
    metric = found.confirmed_metric
    return "" if metric is None or metric.compares_with(found.source_metric) else f" of {metric.name}"


def _verdict(found: Transfer) -> Verdict:
    from aquasurf_ray.analysis.studies.verdict import transfer_verdict

    return transfer_verdict(found)


def _said(found: Transfer) -> str:
    return f"{_note(found)} {_verdict(found)}"


def _print_plain(found: Transfer) -> None:
    print(f"{_title(found)}:\n")
    print_table(
        COLUMNS, [list(_metrics(found, function).values()) for function in found.functions], differences=("gain", "p")
    )
    print(f"\n{fill(_note(found), WIDTH)}\n\n{_verdict(found).sentence}")


def _cells(found: Transfer) -> list[list[str]]:
    rows = [_metrics(found, function) for function in found.functions]
    return [[cell(row[column], {"gain": row["mean"], "p": 1.0}.get(column)) for column in COLUMNS] for row in rows]


def _print_markdown(found: Transfer) -> None:
    print_markdown(_title(found), COLUMNS, [[f"`{row[0]}`", *row[1:]] for row in _cells(found)], _said(found))


def _print_latex(found: Transfer) -> None:
    """Print the table with functions as formulas."""
    from aquasurf_ray.activations import latex

    # The formula replaces the function's text; the other cells are numbers, which need no escaping.
    names = [_marked(found, each, f"${latex(each.function)}$") for each in found.functions]
    rows = [[name, *row[1:]] for name, row in zip(names, _cells(found), strict=True)]
    print_latex(_title(found), COLUMNS, rows, "l" + "r" * (len(COLUMNS) - 1), _said(found))


def _print_csv(found: Transfer) -> None:
    columns = [column.replace(" ", "_") for column in (*COLUMNS, "baseline")]
    rows = [
        # Without its mark: programs read from a column of its own whether it is a baseline.
        [*(_metrics(found, function) | {"function": function.function}).values(), function.baseline]
        for function in found.functions
    ]
    print_rows(columns, rows, Format.csv)


def _print_document(found: Transfer) -> None:
    functions = [
        {
            **{column.replace(" ", "_"): value for column, value in _metrics(found, function).items()},
            "function": function.function,
            "baseline": function.baseline,
            "source_is_confirmed": function.is_confirmed,
            "diverged": function.mean.n_diverged,
        }
        for function in found.functions
    ]
    said = _verdict(found)
    about = {"run": found.name, "source": found.source, "source_task": found.source_task, "task": found.task}
    about |= {"metric": found.metric.name, "reference": found.reference, "note": _note(found)}
    judged = {"verdict": said.sentence, "winner": said.function}
    print_json({**about, **judged, "seeds": list(found.seeds), "functions": functions})


# One printer a format: a new format is a line here and a member of `Table`.
_PRINTERS = {
    Table.table: _print_plain,
    Table.markdown: _print_markdown,
    Table.latex: _print_latex,
    Table.csv: _print_csv,
    Table.json: _print_document,
}
