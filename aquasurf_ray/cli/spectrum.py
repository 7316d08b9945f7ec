"""The command `spectrum`: the Fisher spectrum of a network with a function."""

from __future__ import annotations

from typing import Any

from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import Format, print_json, print_rows, user_code
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Function, Modules, TaskName, TaskSeed

app = Commands()

_COLUMNS = ("weights", "smallest", "q25", "median", "q75", "largest")


@app.command(epilog="Example: aquasurf spectrum 'swish(x)' --task digits")
def spectrum(
    function: Function, task: TaskName, seed: TaskSeed = 0, modules: Modules = None, as_json: AsJson = False
) -> None:
    """Compute the Fisher spectrum of a task's untrained network."""
    from aquasurf_ray.driver.examine.function_spectrum import spectrum_summary
    from aquasurf_ray.driver.user_modules import import_modules

    import_modules(modules or ())
    with user_code():
        summary = spectrum_summary(function, task, seed=seed)
    if as_json:
        print_json({"function": function, "task": task, "seed": seed, **summary})
        return
    columns = ("layer", *(("role",) if "role" in summary["layers"][0] else ()), *_COLUMNS)
    rows: list[list[Any]] = [[layer[column] for column in columns] for layer in summary["layers"]]
    print_rows(columns, rows, Format.table)
    print("natural logarithms of the Fisher eigenvalues of each layer's block")
    print(summary["coverage"]["text"])
