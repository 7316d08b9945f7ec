"""Time and memory of an import of a large Act-Bench file, compared with a plain `json.load` of the same file.

Prints one JSON document. First a file in the authors' format is written: unique functions of the three-node space by
the authors' rule (values in float32), with their equal names, metrics, and spectra as CDFs in the shape of the paper's
(zeros, a rise, ones, one layer after the other), long enough for the requested file size. Each way of reading it is a
separate process, whose peak memory the system reports: `aquasurf import` into a new SQLite store, then the same file
again (recognised by its digest), then an export of it, then `json.load`, and a process that only imports the modules of
`aquasurf import`, which is the part that does not depend on the file.

    python benchmarks/act_bench_import.py [--megabytes 130] [--entries 2913] [--folder FOLDER] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TASK = "all-cnn-c/cifar10"
LAYERS = 9
RISE = 0.15  # the share of a layer's bins in which its CDF is neither 0 nor 1
CHARACTERS_A_NUMBER = 7.4


def main() -> None:
    """Write the file and read it in every way."""
    arguments = _arguments()
    if arguments.make:
        print(_write(arguments.make, arguments.entries, arguments.megabytes))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        document = _measured(arguments, Path(name))
    text = json.dumps(document, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def _measured(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    file, written, store = folder / "act-bench-cnn.json", folder / "out.json", folder / "store.db"
    size = ["--megabytes", str(arguments.megabytes), "--entries", str(arguments.entries)]
    numbers = _run([sys.executable, __file__, "--make", str(file), *size])[0]
    command = [sys.executable, "-m", "aquasurf_ray"]
    reading = [*command, "import", str(file), "--task", TASK, "--store", f"sqlite:///{store}", "--json"]
    exporting = [*command, "export", "act-bench-cnn", "--format", "act-bench", "-o", str(written)]
    load = "import json, sys; json.load(open(sys.argv[1]))"
    report, imported = _run(reading)
    rows = {
        "import": imported,
        "import_of_a_known_file": _run(reading)[1],
        "export": _run([*exporting, "--store", f"sqlite:///{store}"])[1],
        "json_load": _run([sys.executable, "-c", load, str(file)])[1],
        "modules_only": _run([sys.executable, "-c", "import aquasurf_ray.driver.benchmarks.importing"])[1],
    }
    found = json.loads(report)
    return {
        "benchmark": "act_bench_import",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cpus": os.cpu_count(),
        "load_average_at_end": round(os.getloadavg()[0], 2),
        "file_mb": round(file.stat().st_size / 1e6, 1),
        "numbers_a_spectrum": int(numbers),
        "store_mb": round(store.stat().st_size / 1e6, 1),
        "report": {key: found[key] for key in ("entries", "functions", "diverged", "repeated", "unequal")},
        "lossless": _same(file, written),
        **rows,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of an import of a large Act-Bench file.")
    parser.add_argument("--megabytes", type=float, default=130, help="approximate size of the file")
    parser.add_argument("--entries", type=int, default=2913)
    parser.add_argument("--folder", type=Path, help="folder in which the file and the store are created and deleted")
    parser.add_argument("--make", type=Path, help="only write the file here, and print the length of its spectra")
    parser.add_argument("--output", type=Path, help="write the document to a file too")
    return parser.parse_args()


def _run(command: list[str]) -> tuple[str, dict[str, float]]:
    """Return the output of a process, and its seconds, processor seconds and peak resident memory.

    The system adds to the peak of a process the memory that its parent had when it started it. So this process uses
    little until all are measured: the file is written in a separate process too, and NumPy and the rest are imported
    there.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:5])} ended with {process.returncode}")
    row = {
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
    }
    return printed, row


def _write(path: Path, n_entries: int, megabytes: float) -> int:
    """Write the file, one entry at a time, and return how many numbers a spectrum has."""
    import numpy as np

    from aquasurf_ray.activations import SearchSpace, unique_functions

    table = unique_functions(SearchSpace.named("three-node"), rule="float32")
    spellings = [table.aliases(i) for i in range(len(table))]
    entries = [(names[0], names[1:]) for names in spellings]
    entries += [(names[-1], names[:-1]) for names in spellings if len(names) > 1]  # functions that occur twice
    if n_entries > len(entries):
        raise SystemExit(f"entries must be at most {len(entries)}, got {n_entries}")
    rng = np.random.default_rng(0)
    numbers = round(megabytes * 1e6 / n_entries / CHARACTERS_A_NUMBER)
    with path.open("w", encoding="utf-8") as file:
        for i, (name, equal) in enumerate(entries[:n_entries]):
            entry = _entry(rng, equal, numbers)
            file.write(f"{', ' if i else '{'}{json.dumps(name)}: {json.dumps(entry)}")
        file.write("}")
    return numbers


def _entry(rng: np.random.Generator, equal: list[str], numbers: int) -> dict[str, object]:
    diverged = rng.random() < 0.1
    accuracy = 0.1 if diverged else float(rng.beta(8, 2))
    loss = float("nan") if diverged else float(rng.gamma(2, 0.5))
    return {
        "Train Accuracy": accuracy,
        "Validation Accuracy": accuracy,
        "Train Loss": loss,
        "Validation Loss": float("inf") if diverged and rng.random() < 0.2 else loss,
        "Test Accuracy": accuracy,
        "Test Loss": loss,
        "Equivalent Activation Functions": equal,
        "Fisher log eigenvalue CDF": [] if rng.random() < 0.01 else _cdf(rng, numbers),
        "Runtime (s)": float(rng.gamma(20, 15)),
    }


def _cdf(rng: np.random.Generator, numbers: int) -> list[float]:
    """Return layers of CDFs of samples: multiples of 1 / weights, rounded to float64."""
    ends = [numbers * i // LAYERS for i in range(LAYERS + 1)]
    return [value for start, end in pairwise(ends) for value in _layer(rng, end - start)]


def _layer(rng: np.random.Generator, size: int) -> list[float]:
    rise = max(1, round(RISE * size))
    start = int(rng.integers(0, max(1, size - rise)))
    counts = sorted(rng.integers(1, 100 * size, rise).tolist())
    return [0.0] * start + [count / (100 * size) for count in counts] + [1.0] * (size - rise - start)


def _same(made: Path, written: Path) -> bool:
    """Return whether two files have the same content, with NaN equal to NaN."""
    return repr(_sorted(made)) == repr(_sorted(written))


def _sorted(path: Path) -> list[tuple[str, list[tuple[str, object]]]]:
    with path.open(encoding="utf-8") as file:
        return [(name, sorted(entry.items())) for name, entry in json.load(file).items()]


if __name__ == "__main__":
    main()
