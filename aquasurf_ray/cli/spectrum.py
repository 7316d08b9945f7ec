"""The command that computes a spectrum: spectrum."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from aquasurf_ray.cli.terminal.options import AsJson, Modules
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows
from aquasurf_ray.driver.user_modules import import_modules


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("spectrum", epilog="Example: aquasurf spectrum 'swish(x)' --task digits")(spectrum)


def spectrum(
    function: Annotated[str, typer.Argument(help="A function.")],
    task: Annotated[str, typer.Option(help="A task by name, or package.module:function.")],
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of the weights, the batch and the sampled labels.")
    ] = 0,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Compute the Fisher spectrum of a task's untrained network with a function."""
    from aquasurf_ray.driver.examine.function_spectrum import spectrum_summary

    import_modules(modules or ())
    with redirect_stdout(sys.stderr):  # the task is the user's code and may print; only results go to standard output
        summary = spectrum_summary(function, task, seed=seed)
    if as_json:
        print_json({"function": function, "task": task, "seed": seed, **summary})
        return
    columns = ("layer", "weights", "smallest", "q25", "median", "q75", "largest")
    rows: list[list[Any]] = [[layer[column] for column in columns] for layer in summary["layers"]]
    print_rows(columns, rows, Format.table)
    print("natural logarithms of the Fisher eigenvalues of each layer's block")
    print(summary["coverage"]["text"])
