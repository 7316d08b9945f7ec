"""Time and memory of the deduplication of a search space's functions.

    python benchmarks/space.py [--spaces three-node four-node] [--output FILE]

Prints one JSON document: for each space and rule, the names, the distinct functions, and seconds and peak resident
memory of a cold enumeration and of a second use from the cache. Every measurement is a separate process, timed from the
call on (the import of PyTorch is reported separately). The load average shows the machine's other load.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RULES = ("float64", "float32")


def main() -> None:
    """Measure every space and rule, cold and cached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spaces", nargs="+", default=["three-node", "four-node"])
    parser.add_argument("--output", type=Path, help="write the document to a file too")
    parser.add_argument("--one", nargs=3, metavar=("SPACE", "RULE", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one)))
        return
    document = json.dumps(
        {"machine": machine(), "spaces": [entry for s in options.spaces for entry in both(s)]}, indent=2
    )
    print(document)
    if options.output:
        options.output.write_text(document + "\n", encoding="utf-8")


def both(space: str) -> list[dict[str, Any]]:
    """Return the measurements of one space under both rules."""
    with tempfile.TemporaryDirectory() as cache:
        return [
            {
                "space": space,
                "rule": rule,
                "cold": in_a_process(space, rule, cache),
                "cached": in_a_process(space, rule, cache),
            }
            for rule in RULES
        ]


def in_a_process(space: str, rule: str, cache: str) -> dict[str, Any]:
    """Return one measurement, taken in a fresh interpreter."""
    command = [sys.executable, __file__, "--one", space, rule, cache]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def measured(space: str, rule: str, cache: str) -> dict[str, Any]:
    """Return names, distinct functions, seconds, processor seconds and peak memory (MB) of one use of a space."""
    start = time.perf_counter()
    from aquasurf_ray.activations import SearchSpace, unique_functions

    imported, imported_memory = time.perf_counter(), peak_memory()
    processor = time.process_time()
    table = unique_functions(SearchSpace.named(space), rule=rule, cache_dir=Path(cache))  # type: ignore[arg-type]
    return {
        "names": table.n_names,
        "unique": len(table),
        "seconds": round(time.perf_counter() - imported, 3),
        "processor_seconds": round(time.process_time() - processor, 3),
        "import_seconds": round(imported - start, 3),
        "peak_memory_mb": round(peak_memory()),
        "import_memory_mb": round(imported_memory),
        "load_average": round(os.getloadavg()[0], 2),
    }


def peak_memory() -> float:
    """Return the largest resident size so far, in MB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    import torch

    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
