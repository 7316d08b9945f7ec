"""The time of `ask` and `tell`: loops in several processes on one SQLite file, whose trainings take no time.

Prints one JSON document: for 1, 4 and 16 processes, the trials per second of all together, and milliseconds of `ask`
and of `tell` in a process (median, and the 95th percentile). An `ask` reads what the others have done, fits the
surrogate and suggests; both write to the disk. Features are the functions' outputs. The load average shows the
machine's other load.

    python benchmarks/ask_and_tell.py [--processes 1 4 16] [--evaluations 120] [--candidates 500] [--output FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from aquasurf_ray import Study
from aquasurf_ray.activations import outputs


def main() -> None:
    """Measure each number of processes."""
    arguments = _arguments()
    load = os.getloadavg()[0]
    outputs("relu(x)")  # imports the expression language before the processes are forked
    document = {
        "benchmark": "ask_and_tell",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average_at_start": round(load, 2),
        "evaluations": arguments.evaluations,
        "candidates": arguments.candidates,
        "rows": [_measure(n, arguments) for n in arguments.processes],
    }
    text = json.dumps(document, indent=1)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)


def _measure(n: int, arguments: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        _study(folder, arguments).close()  # the candidates are drawn once, which is not measured
        started = time.perf_counter()
        pids = [_forked(folder, number, arguments) for number in range(n)]
        codes = [os.waitpid(pid, 0)[1] for pid in pids]
        elapsed = time.perf_counter() - started
        if any(codes):
            raise SystemExit(f"{sum(map(bool, codes))} of {n} processes failed")
        times = np.concatenate([np.load(path) for path in sorted(Path(folder).glob("*.npy"))])
    milliseconds = {
        f"{verb}_ms_{name}": round(1000 * float(np.quantile(times[:, column], q)), 1)
        for column, verb in enumerate(("ask", "tell"))
        for name, q in (("median", 0.5), ("p95", 0.95))
    }
    return {"processes": n, "trials": len(times), "trials_per_second": round(len(times) / elapsed, 1), **milliseconds}


def _forked(folder: str, number: int, arguments: argparse.Namespace) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _loop(folder, number, arguments)
        code = 0
    finally:
        os._exit(code)


def _loop(folder: str, number: int, arguments: argparse.Namespace) -> None:
    study, times = _study(folder, arguments), []
    while True:
        began = time.perf_counter()
        trial = study.ask()
        if trial is None:
            break
        asked = time.perf_counter()
        study.tell(trial, int(hashlib.sha256(trial.function.encode()).hexdigest()[:8], 16) / 2**32)
        times.append((asked - began, time.perf_counter() - asked))
    np.save(Path(folder) / f"{number}.npy", np.array(times).reshape(-1, 2))
    study.close()


def _study(folder: str, arguments: argparse.Namespace) -> Study:
    return Study(
        "loops",
        direction="maximize",
        store=f"sqlite:///{folder}/store.db",
        evaluations=arguments.evaluations,
        candidates=arguments.candidates,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--evaluations", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
