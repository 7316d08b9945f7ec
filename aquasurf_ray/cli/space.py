"""The command that lists the functions of a search space: space."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.options import AsJson
from aquasurf_ray.cli.terminal.output import print_json


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("space", epilog="Example: aquasurf space four-node --count")(space)


def space(
    name: Annotated[str, typer.Argument(metavar="SPACE", help="three-node, four-node, coatnet, or a YAML file.")],
    count: Annotated[bool, typer.Option("--count", help="Print the numbers of names and of unique functions.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="Print this many functions, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List the unique functions of a search space, count them, or draw some."""
    from aquasurf_ray.driver.candidates import function_table

    with redirect_stdout(sys.stderr):  # a space may name modules that print
        table = function_table(name)
    counts = {"space": name, "names": table.n_names, "unique": len(table)}
    chosen = table.sample(min(sample, len(table)), seed) if sample else [] if count else range(len(table))
    names = [table.names[i] for i in chosen]
    if as_json:
        print_json({**counts, "functions": names})
    else:
        if count:
            print(f"{counts['names']} names, {counts['unique']} unique functions")
        for function in names:
            print(function)
