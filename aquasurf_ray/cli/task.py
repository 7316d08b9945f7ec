"""The commands `task list`, `task show` and `task check`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from textwrap import fill
from traceback import print_exception
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.cli.terminal.commands import Commands
from aquasurf_ray.cli.terminal.output import print_json, print_table, user_code
from aquasurf_ray.cli.terminal.settings import FROM_MODEL
from aquasurf_ray.cli.terminal.shared_parameters import AsJson, Modules
from aquasurf_ray.counted import counted
from aquasurf_ray.driver.settings.defaults import TASK_TEXT

if TYPE_CHECKING:
    from aquasurf_ray.driver.examine.task_check import CheckStep

app = Commands(help="List, show or check tasks.", epilog="Example: aquasurf task check digits")

TaskName = Annotated[str, typer.Argument(metavar="TASK", help=TASK_TEXT)]
WIDTH = 110
SPLITS = ("train", "validation", "test")


@app.command("list", epilog="Example: aquasurf task list")
def list_tasks(as_json: AsJson = False) -> None:
    """List the built-in tasks with a description of each."""
    descriptions = _descriptions()
    if as_json:
        print_json([{"task": name, "description": text} for name, text in descriptions.items()])
        return
    width = max(map(len, descriptions))
    for name, text in descriptions.items():
        print(f"{name:<{width}}  {text}".rstrip())
    print("\nfor a task of your own, write package.module:function", file=sys.stderr)


@app.command(epilog="Example: aquasurf task show digits")
def show(task: TaskName, modules: Modules = None, as_json: AsJson = False) -> None:
    """Show a task: network, layers, activations, data, recipe, objective and digest."""
    from aquasurf_ray.driver.examine.task_summary import task_summary
    from aquasurf_ray.driver.user_modules import import_modules

    import_modules(modules or ())
    with user_code():
        document = task_summary(task)
    if as_json:
        print_json(document)
    else:
        _print_task(document)


@app.command(epilog="Example: aquasurf task check digits")
def check(
    task: TaskName,
    download: Annotated[
        bool, typer.Option("--download", help="Download the data set first, to AQUASURF_DATA or ./data.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Device to use: cpu, cuda or cuda:1. Default: a GPU if there is one."),
    ] = None,
    candidates: Annotated[int | None, FROM_MODEL] = None,
    evaluations: Annotated[int | None, FROM_MODEL] = None,
    workers: Annotated[int | None, FROM_MODEL] = None,
    modules: Modules = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Also show where in your code an error was raised.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a task can be searched.

    Builds its network with two functions, looks at random examples of its data, passes a batch through network, loss
    and metric, computes one spectrum and two training steps, and forecasts how long a search takes. Reports the first
    step that fails, and then exits with status 1.
    """
    from aquasurf_ray.driver.examine.task_check import check_task
    from aquasurf_ray.driver.user_modules import import_modules

    search = {"candidates": candidates, "evaluations": evaluations, "workers": workers}
    options = "".join(f" --modules {shlex.quote(module)}" for module in modules or ())
    hint = f"where in your code: aquasurf task check {shlex.quote(task)}{options} --traceback"

    # Taken before `user_code` redirects it: steps are reported while the task's code runs.
    results = sys.stdout

    def report(step: CheckStep) -> None:
        if not as_json:
            mark = "ok" if step.ok else "FAILED"
            print(f"{step.name:<10} {mark:<6} {step.seconds:6.1f} s  {step.says}", file=results, flush=True)

    with _located(hint, traceback), user_code():
        import_modules(modules or ())
        # What is not given must not be passed as None: the forecast has the defaults of the model.
        chosen = {name: value for name, value in search.items() if value is not None}
        steps = check_task(task, download=download, device=device, on_step=report, **chosen)
    ok = all(step.ok for step in steps)
    if as_json:
        problem = None if ok else steps[-1].says
        print_json({"task": task, "ok": ok, "problem": problem, "steps": [asdict(step) for step in steps]})
    if not ok:
        if traceback:
            print(steps[-1].traceback, end="", file=sys.stderr)
        # A traceback of the user's code is long, and mostly one line of it matters, so it is printed only on request.
        elif not as_json:
            print(hint, file=sys.stderr)
        raise typer.Exit(1)


@contextmanager
def _located(hint: str, traceback: bool) -> Iterator[None]:
    """Add the hint to an error that the user's own module or task function has raised, or print its traceback."""
    from aquasurf_ray.driver.errors import BadUse

    try:
        yield
    except BadUse as error:
        if error.__cause__ is not None and traceback:
            print_exception(error.__cause__)
        elif error.__cause__ is not None:
            error.add_note(hint)
        raise


def _descriptions() -> dict[str, str]:
    """Return the description of each task by its name."""
    from aquasurf_ray.tasks.registry import task_descriptions

    return task_descriptions()


def _print_task(document: dict[str, Any]) -> None:
    network, data, objective = document["network"], document["data"], document["objective"]
    sizes = "" if data["problem"] else ", ".join(f"{data[split]:,} {split}" for split in SPLITS)
    better = "higher" if objective["higher_is_better"] else "lower"
    lines = {
        "task": document["task"],
        "version": document["version"],
        # The digest covers the data, so a task whose data are not downloaded has none yet.
        "digest": document["digest"] or "unknown without the data",
        "network": f"{network['made_by']}, {network['parameters']:,} parameters",
        "replaced": ", ".join(network["replaced"]),
        "reference": readable(document["reference"] or "") or "unknown without the data",
        "data": data["problem"] or sizes,
        "augment": document["augment"] or "none besides the data set's own",
        "objective": f"{objective['loss']}, metric {objective['metric']} ({better} is better)",
        "likelihood": objective["likelihood"],
        "recipe": ", ".join(f"{key} {value}" for key, value in document["recipe"].items() if value not in (None, ())),
        "spectrum": f"on {document['spectrum_batch_size']} examples",
        "weights": "scaled to fit the function" if document["init"] == "auto" else "as the network draws them",
        "time limit": f"{document['time_limit']:g} s",
    }
    if network["roles"]:
        lines["roles"] = "; ".join(f"{role}: {', '.join(places)}" for role, places in network["roles"].items())
    for key, value in lines.items():
        print(fill(value, WIDTH, initial_indent=f"{key:<12}", subsequent_indent=" " * 12, break_on_hyphens=False))
    _print_kept(network["kept"])
    print(f"\n{counted(len(network['layers']), 'module')} with trained matrices:")
    print_table(("layer", "kind", "weights"), [list(layer.values()) for layer in network["layers"]])


def _print_kept(kept: list[dict[str, str]] | None) -> None:
    """Print the activations that are not replaced, if the network's maker lists them."""
    if kept:
        print(f"\n{counted(len(kept), 'activation')} {'is' if len(kept) == 1 else 'are'} not replaced:")
        print_table(("name", "reason"), [list(item.values()) for item in kept])
