"""The command `zoo`: the published functions that have names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows
from aquasurf_ray.cli.terminal.shared_parameters import AnyFormat, AsJson

if TYPE_CHECKING:
    from aquasurf_ray.activations.zoo import NamedFunction

app = Commands()

COLUMNS = ("name", "formula", "expression", "learned", "source")
OPERATOR_COLUMNS = ("name", "kind", "written", "value")


@app.command(epilog="Example: aquasurf zoo leaky_relu hardswish --json")
def zoo(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Functions to list. Default: all.")] = None,
    operators: Annotated[
        bool, typer.Option("--operators", help="List the operators that expressions are made of instead.")
    ] = False,
    form: AnyFormat = Format.table,
    as_json: AsJson = False,
) -> None:
    """List the published activation functions that have names.

    A name stands wherever a function does: `aquasurf evaluate hardswish 'leaky_relu(0.1)' zoo --task digits` trains two
    of them and then all.
    """
    documents = _operators(names or []) if operators else [_document(function) for function in _asked(names or [])]
    if as_json or form is Format.json:
        print_json(documents)
        return
    columns = OPERATOR_COLUMNS if operators else COLUMNS
    rows = [[document[column] for column in columns] for document in documents]
    print_rows(columns, [[" ".join(cell) if isinstance(cell, list) else cell for cell in row] for row in rows], form)


def _operators(names: list[str]) -> list[dict[str, Any]]:
    from aquasurf_ray.activations.registry import all_operators
    from aquasurf_ray.driver.errors import BadUse

    if names:
        raise BadUse(f"operators: all are listed, so no names are taken, got '{names[0]}'; leave out one of the two")
    places = {"unary": "a", "binary": "a,b", "nary": "a,b,..."}
    return [
        {
            "name": operator.name,
            "kind": operator.kind,
            "written": f"{operator.name}({places[operator.kind]})",
            "value": operator.words.replace("#1", "a").replace("#2", "b").replace("#*", "a, b, ..."),
        }
        for operator in all_operators()
    ]


def _asked(names: list[str]) -> list[NamedFunction]:
    from aquasurf_ray.activations.zoo import ZOO, named_function
    from aquasurf_ray.driver.errors import BadUse

    found = [(name, named_function(name)) for name in names]
    # All names are checked before anything is printed, so that output is complete or absent.
    for name, function in found:
        if function is None:
            raise BadUse(f"no function of the zoo is called '{name}'; for all names: aquasurf zoo")
    return [function for _, function in found if function is not None] or list(ZOO)


def _document(function: NamedFunction) -> dict[str, Any]:
    from aquasurf_ray.activations import latex, parse

    expression = parse(function.name)
    return {
        "name": function.name,
        "formula": function.formula,
        "expression": str(expression),
        "learned": [parameter.text for parameter in expression.parameters],
        "source": function.source,
        "constants": list(function.constants),
        "aliases": list(function.aliases),
        "latex": latex(expression),
    }
