"""The command `space`: the functions of a search space."""

from __future__ import annotations

from typing import Annotated

import typer

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import print_json, user_code
from aquasurf_ray.cli.terminal.shared_parameters import FINITE_SPACE, AsJson

app = Commands()


@app.command(epilog="Example: aquasurf space four-node --count")
def space(
    name: Annotated[str, typer.Argument(metavar="SPACE", help=FINITE_SPACE)],
    count: Annotated[
        bool, typer.Option("--count", help="Print the numbers of expressions and of distinct functions.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Print this many functions, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed for --sample.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List, count or sample the distinct functions of a search space."""
    from aquasurf_ray.driver.candidates import function_table

    with user_code():
        table = function_table(name)
    counts = {"space": name, "names": table.n_names, "unique": len(table)}
    # --count alone prints no functions: a four-node space would be 385,830 lines.
    chosen = table.sample(min(sample, len(table)), seed) if sample else [] if count else range(len(table))
    names = [table.names[i] for i in chosen]
    if as_json:
        print_json({**counts, "functions": names})
    else:
        if count:
            print(f"{counts['names']} expressions, {counts['unique']} distinct functions")
        for function in names:
            print(function)
