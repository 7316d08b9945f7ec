"""Commands about tasks: task list, task show, task check."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aquasurf_ray.cli.terminal.options import AsJson
from aquasurf_ray.cli.terminal.output import print_json, print_table

if TYPE_CHECKING:
    from aquasurf_ray.driver.examine.task_check import CheckStep

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="A task by name, or package.module:function.")]
WIDTH = 110
SPLITS = ("train", "validation", "test")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    tasks = typer.Typer(rich_markup_mode=None)
    tasks.command("list", epilog="Example: aquasurf task list")(list_tasks)
    tasks.command("show", epilog="Example: aquasurf task show digits")(show)
    tasks.command("check", epilog="Example: aquasurf task check digits")(check)
    app.add_typer(
        tasks,
        name="task",
        help="List the tasks, show what one is, or check that it can be searched.",
        epilog="Example: aquasurf task check digits",
    )


def list_tasks(as_json: AsJson = False) -> None:
    """List the tasks that have a name, each with what it is."""
    descriptions = _descriptions()
    if as_json:
        print_json([{"task": name, "description": text} for name, text in descriptions.items()])
        return
    width = max(map(len, descriptions))
    for name, text in descriptions.items():
        print(f"{name:<{width}}  {text}".rstrip())
    print("\nor one of your own: package.module:function", file=sys.stderr)


def show(task: TaskName, as_json: AsJson = False) -> None:
    """Show what a task is: network, layers, activations, data, recipe, objective, digest."""
    from aquasurf_ray.driver.examine.task_summary import task_summary

    with redirect_stdout(sys.stderr):  # the task is the user's code and may print; only results go to standard output
        document = task_summary(task)
    if as_json:
        print_json(document)
    else:
        _print_task(document)


def check(
    task: TaskName,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the task's data set first, into AQUASURF_DATA or ./data.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or cuda:1. Default: a GPU if there is one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try a task: build its network with two functions, load a batch, take one spectrum and two training steps.

    Says what is wrong at the first step that fails, and then exits with 1.
    """
    from aquasurf_ray.driver.examine.task_check import check_task

    results = sys.stdout

    def tell(step: CheckStep) -> None:
        if not as_json:
            mark = "ok" if step.ok else "FAILED"
            print(f"{step.name:<10} {mark:<6} {step.seconds:6.1f} s  {step.says}", file=results, flush=True)

    with redirect_stdout(sys.stderr):  # the task is the user's code and may print; only results go to standard output
        steps = check_task(task, download=download, device=device, on_step=tell)
    ok = all(step.ok for step in steps)
    if as_json:
        problem = None if ok else steps[-1].says
        print_json({"task": task, "ok": ok, "problem": problem, "steps": [asdict(step) for step in steps]})
    if not ok:
        raise typer.Exit(1)


def _descriptions() -> dict[str, str]:
    """What each task is, by name."""
    from aquasurf_ray.tasks.registry import task_descriptions

    return task_descriptions()


def _print_task(document: dict[str, Any]) -> None:
    network, data, objective = document["network"], document["data"], document["objective"]
    sizes = "" if data["problem"] else ", ".join(f"{data[split]:,} {split}" for split in SPLITS)
    better = "higher" if objective["higher_is_better"] else "lower"
    lines = {
        "task": document["task"],
        "version": document["version"],
        "digest": document["digest"] or "none without the data",
        "network": f"{network['made_by']}, {network['parameters']:,} parameters",
        "replaced": ", ".join(network["replaced"]),
        "data": data["problem"] or sizes,
        "augment": document["augment"] or "none beside the data's own",
        "objective": f"{objective['loss']}, judged by {objective['metric']} ({better} is better)",
        "likelihood": objective["likelihood"],
        "recipe": ", ".join(f"{key} {value}" for key, value in document["recipe"].items() if value not in (None, ())),
        "spectrum": f"on {document['spectrum_batch_size']} examples",
        "time limit": f"{document['time_limit']:g} s",
    }
    for key, value in lines.items():
        print(fill(value, WIDTH, initial_indent=f"{key:<12}", subsequent_indent=" " * 12, break_on_hyphens=False))
    _print_kept(network["kept"])
    print(f"\n{len(network['layers'])} modules with trained matrices:")
    print_table(("layer", "kind", "weights"), [list(layer.values()) for layer in network["layers"]])


def _print_kept(kept: list[dict[str, str]] | None) -> None:
    """The activations that stay as they are, where the network's maker knows them."""
    if kept:
        print(f"\n{len(kept)} activations stay what they are:")
        print_table(("name", "reason"), [list(item.values()) for item in kept])
