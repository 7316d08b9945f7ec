"""A function per role against one function, in real searches: the same network, space and number of trainings.

    python benchmarks/evidence/roles.py --folder FOLDER [--tasks characters] [--seeds 5] [--evaluations 60]
        [--candidates 200]

The network of each task is taken apart into two roles: the first half of its activations are `early`, the others are
`late`. Each search trains the baselines and then `--evaluations` functions, with a seed that decides candidates,
surrogate and initial weights alike. The arms:

    one      one function in all places, as a search of the task itself finds it
    roles    a function per role; its first candidates are those of the other arm

The winner of each search, the function of the best validation score, is judged by five further seeds, the same for both
arms, on the test split, which selected nothing; and so is ReLU.

Prints one JSON document with the table and all results, and appends each search and each judged training to a file of
the folder as soon as it is known, so that the script may be killed at any time and resumes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from search_spaces import REFERENCE, Results, judge, scores_in
from torch import nn

from aquasurf_ray import search
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.tasks import ActivationFactory, NetworkFactory, Task, load_task

ONE, ROLES = "one", "roles"


def main() -> None:
    """Search and judge, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the results so far and of the stores")
    parser.add_argument("--tasks", nargs="+", default=["characters"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=200)
    options = parser.parse_args()
    logging.getLogger("aquasurf_ray").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    results = Results(options.folder.resolve(), task_of)
    for seed, name, arm in itertools.product(range(options.seeds), options.tasks, (ONE, ROLES)):
        outcome = results.of(name, arm, seed)
        if outcome is None:
            outcome = searched(name, arm, seed, options)
            results.add(outcome)
        judge(results, name, task_of(name), (outcome["winner"], REFERENCE))
    table = [row for name in options.tasks for row in rows(results, name)]
    print(json.dumps({"table": table, "results": results.rows}, indent=1))


def in_halves(network: NetworkFactory) -> NetworkFactory:
    """Return the factory of a network with the roles early and late, by the order in which it makes its activations."""
    made = itertools.count()

    def counting() -> nn.Module:
        next(made)
        return nn.Identity()

    network(counting)
    n_early = next(made) // 2

    def halves(*, early: ActivationFactory, late: ActivationFactory) -> nn.Module:
        numbers = itertools.count()
        return network(lambda: early() if next(numbers) < n_early else late())

    return halves


def task_of(name: str, arm: str = ROLES) -> Task:
    """Return a task as an arm searches it."""
    task = load_task(name)
    return task if arm == ONE else replace(task, name=f"{name}-halves", network=in_halves(task.network))


def searched(name: str, arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the outcome of one search, which resumes if it was interrupted."""
    started = time.monotonic()
    store = f"sqlite:///{options.folder.resolve()}/{name}-{seed}.db"
    search(
        task_of(name, arm), name=arm, store=store, storage=str(options.folder.resolve() / "storage"), seed=seed,
        training_seed=seed, evaluations=options.evaluations, candidates=options.candidates, workers=1,
        cpus_per_worker=0.5, progress=False,
    )  # fmt: skip
    scores = scores_in(store, arm)
    finished = [each for each in scores if each["score"] is not None]
    winner = max(finished, key=lambda each: each["score"])
    best = max((each for each in finished if not parts_of(each["function"])), key=lambda each: each["score"])
    return {
        "task": name,
        "arm": arm,
        "seed": seed,
        "winner": winner["function"],
        "score": winner["score"],
        "best_score_of_one_function": best["score"],
        "of_roles": sum(bool(parts_of(each["function"])) for each in scores),
        "diverged": len(scores) - len(finished),
        "scores": [each["score"] for each in scores if each["origin"] != "baseline"],
        "seconds": round(time.monotonic() - started, 1),
    }


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """Return each arm's mean test score of the winners with its gain over ReLU, and the paired gain of roles.

    A judged training that diverged counts as the worst that any function has.
    """
    known = [row["test"] for row in results.rows if row["task"] == task and row.get("test") is not None]

    def tests(arm: str) -> dict[int, float]:
        winners = {row["seed"]: row["winner"] for row in results.rows if (row["task"], row.get("arm")) == (task, arm)}
        return {seed: of(function) for seed, function in winners.items()}

    def of(function: str) -> float:
        return mean(min(known) if test is None else test for test in results.judged(task, function).values())

    found = {arm: tests(arm) for arm in (ONE, ROLES)}
    both = sorted(found[ONE].keys() & found[ROLES].keys())
    gains = [found[ROLES][seed] - found[ONE][seed] for seed in both]
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
    arms = [
        {"task": task, "arm": arm, "test": mean(each.values()), "gain_over_relu": mean(each.values()) - of(REFERENCE)}
        for arm, each in found.items()
    ]
    return [*arms, {"task": task, "gain_of_roles": mean(gains), "standard_error": error, "gains": gains}]


if __name__ == "__main__":
    main()
