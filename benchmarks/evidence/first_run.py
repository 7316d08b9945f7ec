"""The results and the cost of `make search`: its output, every training of it, and its wall and processor time.

    python benchmarks/evidence/first_run.py [--folder FOLDER] [--output first_run.json]

Runs the commands of the Makefile's target `search` in an empty folder, with the `aquasurf` next to this Python.
Processor time is that of the commands and all processes below them, Ray's included, sampled five times a second, so
that it misses at most the last 0.2 s of each process. Unlike wall time, it says what a run costs on a machine that
others use too. Prints one JSON document; the folder keeps the store, for pictures of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess  # the command is measured as a process
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from aquasurf_ray.store import Store

AQUASURF = (sys.executable, "-m", "aquasurf_ray")
MAKEFILE = Path(__file__).parents[2] / "Makefile"
SAMPLED_EVERY = 0.2
COLUMNS = ("function", "seed", "recipe_change", "status", "score", "test_score", "seconds")


def main() -> None:
    """Run the command, and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="an empty folder to run in; by default a temporary one")
    parser.add_argument("--output", type=Path, help="file that the document is written to as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(measured(folder), indent=1) + "\n"
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    print(text, end="")


def commands() -> list[str]:
    """Return the Makefile's commands, a search and its confirmation, without `aquasurf`."""
    target = re.search(r"^search:.*\n((?:\t.*\n)*)", MAKEFILE.read_text("utf-8"), re.MULTILINE)
    found = re.findall(r"\$\(BIN\)/aquasurf (.*)", target[1]) if target else []
    if [line.split()[0] for line in found] != ["search", "confirm"]:
        raise SystemExit(f"{MAKEFILE} has no target 'search' that runs aquasurf search and aquasurf confirm")
    return found


def measured(folder: Path) -> dict[str, Any]:
    """Run the commands in the folder; return their costs, what they printed, their documents and their trainings."""
    found = commands()
    load, processor, started, printed = os.getloadavg()[0], 0.0, time.perf_counter(), []
    for line in found:
        process = psutil.Popen([*AQUASURF, *shlex.split(line)], cwd=folder, stdout=subprocess.PIPE, text=True)
        processor += processor_seconds(process)
        printed += process.stdout.read().splitlines() if process.stdout is not None else []
        if process.wait() != 0:
            raise SystemExit(f"aquasurf {line} ended with exit code {process.returncode}")
    wall = time.perf_counter() - started
    # Both runs are finished, so this trains nothing.
    run, confirmation = (document(folder, line) for line in found)
    return {
        "benchmark": "first_run",
        "commands": [f"aquasurf {line}" for line in found],
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "cpus": os.cpu_count(),
        "load_average_at_start": load,
        "load_average_at_end": os.getloadavg()[0],
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(processor, 1),
        "printed": printed,
        "run": run,
        "confirmation": confirmation,
        "trainings": {name: trainings(folder, name) for name in (run["run"], confirmation["run"])},
    }


def document(folder: Path, line: str) -> dict[str, Any]:
    """Return what a command prints with `--json`."""
    words = [*AQUASURF, *shlex.split(line), "--json"]
    return json.loads(subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout)


def processor_seconds(process: psutil.Process) -> float:
    """Wait until a process ends; return the user and system time of it and of all processes that were below it."""
    seconds: dict[tuple[int, float], float] = {}
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        for each in (process, *process.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:  # it has ended since it was listed
                continue
            seconds[each.pid, each.create_time()] = times.user + times.system
        time.sleep(SAMPLED_EVERY)
    return sum(seconds.values())


def trainings(folder: Path, run: str) -> list[dict[str, Any]]:
    """Return every training of a run, in the order of its requests."""
    with Store.open(f"sqlite:///{folder}/aquasurf.db", create=False) as store:
        frame = store.evaluations(run=run)
    return json.loads(frame[list(COLUMNS)].to_json(orient="records", double_precision=6))


if __name__ == "__main__":
    main()
