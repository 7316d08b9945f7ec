"""Processor time of the commands that only read, and the time from `search` to the first training.

Prints one JSON document. For `status`, `top`, `show`, `find` and `report` on a store with a finished run: seconds of
processor time (user and system, children included), the best and the median of several calls after one that fills
Python's cache of compiled files; and the same for an empty Python program and for one that imports SQLAlchemy: each
command contains both. Then, unless --commands-only, the wall seconds from the start of `aquasurf search` to the start
of its first training (Python, Ray and a worker start, the worker loads the task), relative to the sum of importing
PyTorch, `ray.init` and one actor that imports PyTorch. Both are measured several times in turn, after a start that
fills the caches, and the medians are told. The time of the actor's first optimiser, for which PyTorch imports its
compiler, is told too; it is no part of the sum, but of every training.

    python benchmarks/start.py --store sqlite:///FILE --run NAME [--function FUNCTION] [--repeats 5] [--commands-only]
        [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess  # the commands are measured as processes
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from aquasurf_ray.store import Store

AQUASURF = (sys.executable, "-m", "aquasurf_ray")

PEER = """
import time
started = time.perf_counter()
import torch
imported = time.perf_counter()
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
connected = time.perf_counter()

@ray.remote
class Actor:
    def __init__(self):
        import torch
    def ready(self):
        return True
    def make_optimizer(self):
        import torch
        torch.optim.SGD([torch.zeros(1)], lr=0.1)

actor = Actor.remote()
ray.get(actor.ready.remote())
ended = time.perf_counter()
ray.get(actor.make_optimizer.remote())
print(imported - started, connected - imported, ended - connected, time.perf_counter() - ended)
"""


def main() -> None:
    """Measure the commands, and the first training unless it is left out."""
    arguments = _arguments()
    load = os.getloadavg()[0]
    document: dict[str, object] = {
        "benchmark": "start",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("sqlalchemy", "torch", "ray", "typer", "pydantic")},
        "cpus": os.cpu_count(),
        "load_average_at_start": round(load, 2),
        "processor_seconds": _commands(arguments),
    }
    if not arguments.commands_only:
        document["first_training"] = _first_training(arguments.repeats)
    document["load_average_at_end"] = round(os.getloadavg()[0], 2)
    text = json.dumps(document, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Processor time of short commands, and time to the first training.")
    parser.add_argument("--store", required=True, help="the store's URL; it is upgraded if an earlier version wrote it")
    parser.add_argument("--run", required=True, help="a finished run in it")
    parser.add_argument("--function", default="relu(x)", help="a function that the run trained")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--commands-only", action="store_true", help="leave the first training out")
    parser.add_argument("--output", type=Path, help="write the document to a file too")
    return parser.parse_args()


def _commands(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    store = ["--store", arguments.store]
    with tempfile.TemporaryDirectory() as folder:
        page = str(Path(folder) / "report.html")
        calls = {
            "python": [sys.executable, "-c", "pass"],
            "import sqlalchemy": [sys.executable, "-c", "import sqlalchemy"],
            "status": [*AQUASURF, "status", *store],
            "status NAME": [*AQUASURF, "status", arguments.run, *store],
            "top": [*AQUASURF, "top", arguments.run, *store],
            "show": [*AQUASURF, "show", arguments.function, *store],
            "find": [*AQUASURF, "find", arguments.run, *store],
            "report": [*AQUASURF, "report", arguments.run, "--output", page, *store],
        }
        return {name: _processor_seconds(call, arguments.repeats) for name, call in calls.items()}


def _processor_seconds(call: list[str], repeats: int) -> dict[str, float]:
    _run(call)
    seconds = []
    for _ in range(repeats):
        before = _of_children()
        _run(call)
        seconds.append(_of_children() - before)
    return {"best": round(min(seconds), 2), "median": round(statistics.median(seconds), 2)}


def _run(call: list[str]) -> str:
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _first_training(repeats: int) -> dict[str, float]:
    """Return the medians of several starts and of the sums measured before each of them, and their ratio."""
    _start_once()  # fills Python's cache of compiled files, and that of the task's data
    found = [_start_once() for _ in range(repeats)]
    medians = {name: round(statistics.median(start[name] for start in found), 2) for name in found[0]}
    ratio = medians["command_to_first_training_seconds"] / medians["sum_seconds"]
    return {**medians, "times_the_sum": round(ratio, 2), "starts": repeats}


def _start_once() -> dict[str, float]:
    importing, connecting, actor, optimizer = map(float, _run([sys.executable, "-c", PEER]).split())
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db"
        started = time.time()
        # The first training is a baseline's, which waits for no spectrum.
        run = ["digits", "--name", "first", "--evaluations", "1", "--candidates", "16", "--workers", "1"]
        _run([*AQUASURF, "search", *run, "--storage", folder, "--store", url])
        ended = time.time()
        with Store.open(url) as store:
            first = min(event.at for event in store.events(store.run("first").id) if event.kind == "started")
    return {
        "import_torch_seconds": importing,
        "ray_init_seconds": connecting,
        "actor_seconds": actor,
        "sum_seconds": importing + connecting + actor,
        "optimizer_seconds": optimizer,
        "command_to_first_training_seconds": first.timestamp() - started,
        "whole_command_seconds": ended - started,
    }


if __name__ == "__main__":
    main()
