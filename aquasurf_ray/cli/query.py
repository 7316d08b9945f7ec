"""The command `query`: SQL on the database, with saved examples and the meaning of the columns."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format, print_rows
from aquasurf_ray.cli.terminal.shared_parameters import AnyFormat, AsJson, StoreOption

if TYPE_CHECKING:
    from aquasurf_ray.store.sql.example_queries import ExampleQuery

app = Commands()

RUN_PARAMETERS = ("run", "other")
_ADVICE = {  # by a part of the database's message
    "no such": "aquasurf query --schema lists views, tables and columns",
    "does not exist": "aquasurf query --schema lists views, tables and columns",
    "not authorized": "only one SELECT is allowed, and nothing that changes data",
    "permission denied": "only one SELECT is allowed, and nothing that changes data",
}


@app.command(epilog="Example: aquasurf query --example best --set run=digits-1")
def query(
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="One SELECT statement; the database itself refuses writes.")
    ] = None,
    examples: Annotated[bool, typer.Option("--examples", help="List the saved queries.")] = False,
    example: Annotated[str | None, typer.Option(metavar="NAME", help="Run a saved query.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Value for :NAME in the SQL, or for a parameter of the example; may be repeated.",
        ),
    ] = None,
    show_sql: Annotated[
        bool, typer.Option("--show-sql", help="Print the SQL of the example instead of running it.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="List the views and tables, and the meaning of their columns.")
    ] = False,
    form: AnyFormat = Format.table,
    store: StoreOption = None,
    as_json: AsJson = False,
) -> None:
    """Query the database in SQL, read-only.

    Good starting points are the views leaderboard, learning_curves, diverged, spectra_summary, costs_summary and
    runs_overview.
    """
    form = Format.json if as_json else form
    _check_one_asked(sql, example, examples, schema, show_sql)
    values = _pairs(given or ())
    if examples:
        _print_examples(form)
    elif schema:
        _print_schema(form)
    elif example is not None:
        _ask_example(example, values, show_sql, form, store)
    elif sql is not None:
        _ask(sql, {name: _number_or_text(text) for name, text in values.items()}, form, store)


def _check_one_asked(sql: str | None, example: str | None, examples: bool, schema: bool, show_sql: bool) -> None:
    from aquasurf_ray.driver.errors import BadUse

    asked = (sql is not None) + (example is not None) + examples + schema
    if asked != 1:
        raise BadUse("query: give one SELECT, --example NAME, --examples or --schema")
    if show_sql and example is None:
        raise BadUse("query: --show-sql works only with --example; name one")


def _pairs(given: Any) -> dict[str, str]:
    from aquasurf_ray.driver.errors import BadUse

    pairs = [text.partition("=") for text in given]
    for name, equals, value in pairs:
        if not name.isidentifier() or not equals:
            raise BadUse(f"set must be NAME=VALUE, got '{name}{equals}{value}'")
    return {name: value for name, _, value in pairs}


def _number_or_text(text: str) -> str | int | float:
    """Return a number if the text is one, else the text."""
    # SQL may compare a text with a number without an error, and find them different.
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _ask(sql: str, values: dict[str, Any], form: Format, store: str | None) -> None:
    from aquasurf_ray.driver.errors import BadUse
    from aquasurf_ray.driver.settings.places import store_url
    from aquasurf_ray.store import read_only_query
    from aquasurf_ray.store.errors import QueryError

    try:
        answer = read_only_query(store_url(store), sql, parameters=values)
    except QueryError as error:
        advice = (f"; {what}" for part, what in _ADVICE.items() if part in str(error))
        raise BadUse(f"query: {error}{next(advice, '')}") from None
    print_rows(answer.columns, answer.rows, form)


def _ask_example(name: str, given: dict[str, str], show_sql: bool, form: Format, store: str | None) -> None:
    from aquasurf_ray.store.sql.example_queries import example_query

    example = example_query(name)
    if show_sql:
        print(textwrap.dedent(example.sql).strip())
        return
    values = example.values(given)
    with open_store(store) as opened:
        for parameter in RUN_PARAMETERS:
            if parameter in values:
                opened.run(str(values[parameter]))  # an unknown name would only return no rows
    _ask(example.sql, values, form, store)


def _print_examples(form: Format) -> None:
    from aquasurf_ray.store.sql.example_queries import EXAMPLE_QUERIES

    if form is Format.table:
        rows: list[list[Any]] = [[example.name, _parameters(example), example.question] for example in EXAMPLE_QUERIES]
        print_rows(("example", "parameters", "question"), rows, form)
        return
    whole = [[e.name, _parameters(e), e.question, textwrap.dedent(e.sql).strip()] for e in EXAMPLE_QUERIES]
    print_rows(("example", "parameters", "question", "sql"), whole, form)


def _parameters(example: ExampleQuery) -> str:
    """Return the parameters as in `run n=10`: those that must be given, then those with a default."""
    with_value = (
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in example.defaults.items()
    )
    return " ".join((*example.needs, *with_value))


def _print_schema(form: Format) -> None:
    from aquasurf_ray.store.sql.table_columns import everything

    rows = [[view.name, column.name, column.kind, column.meaning] for view in everything() for column in view.columns]
    print_rows(("view or table", "column", "type", "meaning"), rows, form)
