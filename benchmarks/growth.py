"""How many candidates a second growth makes and evaluates for `--space open`: JSON on stdout.

    python benchmarks/growth.py [--children 2000] [--parents 50]

The parents are random functions; the children are made from them by mutation and crossover, evaluated on the sample,
and told apart by fingerprint.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.growth import children

REPEATS = 3


def measured(n_children: int, n_parents: int, seed: int) -> dict[str, float]:
    """Return the seconds of each step, and how many different functions there were."""
    parents = [child.expression for child in children([], n_parents, f"parents {seed}")]
    started = time.perf_counter()
    made = [child.expression for child in children(parents, n_children, f"children {seed}")]
    grown = time.perf_counter()
    found = Evaluator().evaluate(made)
    evaluated = time.perf_counter()
    return {
        "children": len(made),
        "functions": len(set(found.fingerprints)),
        "growth_seconds": grown - started,
        "evaluation_seconds": evaluated - grown,
    }


def main() -> None:
    """Measure several times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=2000)
    parser.add_argument("--parents", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [measured(arguments.children, arguments.parents, seed) for seed in range(REPEATS + 1)][1:]  # first: warm-up
    result = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result["candidates_per_second"] = result["children"] / (result["growth_seconds"] + result["evaluation_seconds"])
    print(json.dumps({key: round(value, 4) for key, value in result.items()}))


if __name__ == "__main__":
    main()
