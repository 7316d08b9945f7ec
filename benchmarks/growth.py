"""The number of candidates that growth makes and screens in a second of one processor, for `--space open`: JSON.

    python benchmarks/growth.py [--children 960] [--parents 200]

The parents are random functions with random scores. Children are made from them by mutation and crossover, evaluated
on the sample, told apart by fingerprint, and screened: the surrogate on outputs chooses one in eight, whose exact
identities are computed. Hidden constants are looked for only where they matter, as a search does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter

import numpy as np
import torch

from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.growth import children
from aquasurf_ray.driver.suggestions.growth import CHILDREN_A_CANDIDATE
from aquasurf_ray.surrogate.screening import screened

REPEATS = 3


def measured(n_children: int, n_parents: int, seed: int) -> dict[str, float]:
    """Return the seconds of each step, and the number of functions of different outputs."""
    parents = [child.expression for child in children([], n_parents, f"parents {seed}")]
    started = time.process_time()
    made = [child.expression for child in children(parents, n_children, f"children {seed}")]
    grown = time.process_time()
    evaluator = Evaluator()
    found = evaluator.evaluate(made, identify=False)
    of_outputs = Counter(found.fingerprints)
    pairs = zip(made, found.fingerprints, strict=True)
    evaluator.evaluate([each for each, identity in pairs if identity and of_outputs[identity] > 1])
    evaluated = time.process_time()
    trained = evaluator.evaluate(parents, identify=False)
    usable, new = np.flatnonzero(trained.finite), np.flatnonzero(found.finite & ~found.constant)
    scores = np.random.default_rng(seed).normal(size=len(usable)).tolist()
    chosen = screened(trained.outputs[usable], scores, found.outputs[new], len(made) // CHILDREN_A_CANDIDATE)
    evaluator.evaluate([made[i] for i in new[chosen].tolist()])
    return {
        "children": len(made),
        "functions": len(set(found.fingerprints)),
        "growth_seconds": grown - started,
        "evaluation_seconds": evaluated - grown,
        "screening_seconds": time.process_time() - evaluated,
    }


def main() -> None:
    """Measure several times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=960)
    parser.add_argument("--parents", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [measured(arguments.children, arguments.parents, seed) for seed in range(REPEATS + 1)][1:]  # first: warm-up
    result = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result["candidates_per_cpu_second"] = result["children"] / sum(
        v for k, v in result.items() if k.endswith("_seconds")
    )
    print(json.dumps({key: round(value, 4) for key, value in result.items()}))


if __name__ == "__main__":
    main()
