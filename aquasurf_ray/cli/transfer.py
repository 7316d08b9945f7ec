"""The command that tries the best functions of a run on another task: transfer."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.leaderboard import interval
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.options import (
    Address,
    ConfigFile,
    CpusPerWorker,
    DataFolder,
    GpusPerEvaluation,
    GpusPerWorker,
    LoaderWorkers,
    LogTo,
    NewRunName,
    Storage,
    Store,
    TimeLimit,
    Workers,
    given,
)
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows, print_table
from aquasurf_ray.cli.terminal.progress import progress

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.transferred_run import Transfer, TransferredFunction

COLUMNS = ("function", "source", "median", "test median", "mean", "low", "high", "gain", "p")


class Table(StrEnum):
    """How the table is printed."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("transfer", epilog="Example: aquasurf transfer --from digits-1 --top 3 --to digits-mlp --seeds 3")(
        transfer
    )


def transfer(
    source: Annotated[str, typer.Option("--from", help="The run whose best functions are tried.")],
    to: Annotated[str, typer.Option(help="The other task: its name, or package.module:function.")],
    top: Annotated[int, typer.Option(help="How many of the run's best functions.")] = 3,
    seeds: Annotated[int, typer.Option(help="Seeds that each function is trained with.")] = 3,
    form: Annotated[Table, typer.Option("--format", help="table, markdown, latex, csv or json.")] = Table.table,
    name: NewRunName = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    gpus_per_evaluation: GpusPerEvaluation = None,
    cpus_per_worker: CpusPerWorker = None,
    store: Store = None,
    storage: Storage = None,
    time_limit: TimeLimit = None,
    data: DataFolder = None,
    loader_workers: LoaderWorkers = None,
    log_to: LogTo = None,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Train the best functions of a run and the baselines on another task, and hold them against relu.

    Prints medians over the seeds, means with 95% intervals, and paired t-tests against relu, corrected by Holm's method
    for the number of functions. What is trained already is not trained again, so another --format costs nothing.
    """
    options = given(locals(), "source", "to", "top", "seeds", "form")
    from aquasurf_ray.analysis.studies.transferred_run import read_transfer
    from aquasurf_ray.driver.verbs.transfer import transfer as start

    with progress(form is not Table.table) as callbacks:
        result = start(source, to, top=top, seeds=seeds, callbacks=callbacks, **options)
    with open_store(store) as opened:
        found = read_transfer(opened, source, result.name)
    _PRINTERS[form](found)


def _figures(found: Transfer, function: TransferredFunction) -> dict[str, Any]:
    value, mean = found.metric.value, function.mean
    low, high = interval(found.metric, mean)
    return {
        "function": f"{function.function}{' (baseline)' if function.baseline else ''}",
        "source": found.source_metric.value(function.source),
        "median": value(function.median),
        "test median": value(function.test_median),
        "mean": value(mean.mean),
        "low": low,
        "high": high,
        "gain": function.against_reference.gain,
        "p": function.against_reference.p_holm,
    }


def _title(found: Transfer) -> str:
    return (
        f"{found.metric.name} on {found.task}, {len(found.seeds)} seeds (run '{found.name}'), of the best of run "
        f"'{found.source}' on {found.source_task}"
    )


def _print_plain(found: Transfer) -> None:
    print(f"{_title(found)}:\n")
    print_table(COLUMNS, [list(_figures(found, function).values()) for function in found.functions])


def _cells(found: Transfer) -> list[list[str]]:
    rows = [_figures(found, function) for function in found.functions]
    return [[_text(row[column]) for column in COLUMNS] for row in rows]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_markdown(found: Transfer) -> None:
    print(f"{_title(found)}.\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for row in _cells(found):
        print(f"| {' | '.join([f'`{row[0]}`', *row[1:]])} |")


def _print_latex(found: Transfer) -> None:
    """With booktabs; functions as formulas."""
    from aquasurf_ray.activations import latex

    print(f"% {_title(found)}\n\\begin{{tabular}}{{l{'r' * (len(COLUMNS) - 1)}}}\n\\toprule")
    print(f"{' & '.join(COLUMNS)} \\\\\n\\midrule")
    for function, row in zip(found.functions, _cells(found), strict=True):
        name = f"${latex(function.function)}${' (baseline)' if function.baseline else ''}"
        print(f"{' & '.join([name, *row[1:]])} \\\\")
    print("\\bottomrule\n\\end{tabular}")


def _print_csv(found: Transfer) -> None:
    columns = [column.replace(" ", "_") for column in (*COLUMNS, "baseline")]
    rows = [
        [*(_figures(found, function) | {"function": function.function}).values(), function.baseline]
        for function in found.functions
    ]
    print_rows(columns, rows, Format.csv)


def _print_document(found: Transfer) -> None:
    functions = [
        {
            **{column.replace(" ", "_"): value for column, value in _figures(found, function).items()},
            "function": function.function,
            "baseline": function.baseline,
            "diverged": function.mean.n_diverged,
        }
        for function in found.functions
    ]
    about = {"run": found.name, "source": found.source, "source_task": found.source_task, "task": found.task}
    print_json({**about, "metric": found.metric.name, "seeds": list(found.seeds), "functions": functions})


_PRINTERS = {
    Table.table: _print_plain,
    Table.markdown: _print_markdown,
    Table.latex: _print_latex,
    Table.csv: _print_csv,
    Table.json: _print_document,
}
