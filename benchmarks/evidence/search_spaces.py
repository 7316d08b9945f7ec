"""The best space for a search: real searches in `three-node` and in `open`, against random functions of `open`.

    python benchmarks/evidence/search_spaces.py --folder FOLDER [--tasks mnist1d friedman ...] [--seeds 10]
        [--first-seed 0] [--evaluations 100] [--kept benchmarks/results/MACHINE/search_spaces.json]

Each search trains the baselines and then `--evaluations` functions, with a seed that decides candidates, surrogate and
initial weights alike. Its winner, the function of the best validation score, is then judged by five further seeds, the
same for all arms, on the test split, which selected nothing. ReLU and the best baseline of each search are judged in
the same way. The arms:

    three-node    the default surrogate chooses among 200 candidates of the enumerated space
    open          the space grows from the best functions
    open-fixed    likewise, but without learned parameters
    open-random   functions of the open space without any selection: children of randomly chosen functions

Prints one JSON document with the table and all results, and appends each search and each judged training to a file of
the folder as soon as it is known, so that the script may be killed at any time and resumes. `--kept` is a document that
it printed before, whose searches are not repeated. Results of a task whose recipe has changed since are left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from kept_rows import KeptRows

from aquasurf_ray import search
from aquasurf_ray.activations import BASELINES, Activation, Expression, activation_of, parse
from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.growth import children
from aquasurf_ray.driver.candidates import candidate_rows, load_space
from aquasurf_ray.store import Store
from aquasurf_ray.tasks import Splits, Task, load_task
from aquasurf_ray.workers.training import train

LISTED = "three-node"
ARMS = {
    LISTED: {"space": LISTED},
    "open": {"space": "open"},
    "open-fixed": {"space": "open", "learned_parameters": "off"},
}
RANDOM = "open-random"
ALL_ARMS = (*ARMS, RANDOM)
JUDGES = range(1000, 1005)
REFERENCE = "relu(x)"
GENERATIONS = 8  # of children of random parents: as deep as a search of 100 trainings usually grows


def main() -> None:
    """Search and judge, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the results so far and of the stores")
    parser.add_argument("--tasks", nargs="+", default=["mnist1d", "friedman", "digits"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="to divide the seeds among several folders")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--kept", type=Path, help="a document of earlier results to begin with")
    options = parser.parse_args()
    logging.getLogger("aquasurf_ray").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    results = Results(options.folder)
    for row in json.loads(options.kept.read_text(encoding="utf-8"))["results"] if options.kept else ():
        if row not in results.rows and results.is_current(row):
            results.add(row)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.tasks:
            for arm in ALL_ARMS:
                outcome = results.of(name, arm, seed)
                if outcome is None:
                    outcome = searched(name, arm, seed, options.evaluations, options.folder)
                    results.add(outcome)
                # The winner, the best baseline of its search, and ReLU.
                judged = filter(None, (outcome["winner"], outcome["best_baseline"], REFERENCE))
                judge(results, name, load_task(name), judged)
    print(json.dumps({"table": table(results), "results": results.rows}, indent=1))


class Results(KeptRows):
    """The searches and judged trainings so far, in `results.jsonl` of a folder; those of the tasks as they are now."""

    def __init__(self, folder: Path, task_of: Callable[[str], Task] = load_task) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "results.jsonl")
        self._digest_of = cache(lambda name: task_of(name).digest)
        self.rows = [row for row in self.rows if self.is_current(row)]

    def is_current(self, row: dict[str, Any]) -> bool:
        """Return whether a result is of its task as it is now, with the same recipe."""
        return bool(row.get("task_digest") == self._digest_of(row["task"]))

    def add(self, row: dict[str, Any]) -> None:
        super().add({**row, "task_digest": self._digest_of(row["task"])})

    def of(self, task: str, arm: str, seed: int) -> dict[str, Any] | None:
        return next((r for r in self.rows if (r["task"], r.get("arm"), r["seed"]) == (task, arm, seed)), None)

    def judged(self, task: str, function: str) -> dict[int, float | None]:
        """Return the test scores of a function by the seeds that judged it; None where it diverged."""
        return {r["seed"]: r["test"] for r in self.rows if r["task"] == task and r.get("function") == function}


def searched(name: str, arm: str, seed: int, n: int, folder: Path) -> dict[str, Any]:
    """Return the outcome of one search, which resumes if it was interrupted."""
    started = time.monotonic()
    if arm == RANDOM:
        scores = random_search(load_task(name), seed, n)
    else:
        store = f"sqlite:///{folder}/{name}-{seed}.db"
        search(
            name, name=arm, store=store, storage=str(folder / "storage"), seed=seed, training_seed=seed, evaluations=n,
            workers=1, cpus_per_worker=0.5, **ARMS[arm],
        )  # fmt: skip
        scores = scores_in(store, arm)
    winner = max((s for s in scores if s["score"] is not None), key=lambda s: s["score"])
    baselines = [s for s in scores if s["origin"] == "baseline" and s["score"] is not None]
    return {
        "task": name,
        "arm": arm,
        "seed": seed,
        "winner": winner["function"],
        "score": winner["score"],
        "best_baseline": max(baselines, key=lambda s: s["score"])["function"] if baselines else None,
        "diverged": sum(s["score"] is None for s in scores if s["origin"] != "baseline"),
        "scores": [s["score"] for s in scores if s["origin"] != "baseline"],
        "seconds": round(time.monotonic() - started, 1),
    }


def scores_in(url: str, run: str) -> list[dict[str, Any]]:
    """Return the evaluations of a run in the order of their requests."""
    with Store.open(url) as store:
        requested = store.snapshot(store.run(run).id).evaluations
    return [{"function": r.function, "score": r.evaluation.score, "origin": r.origin} for r in requested]


def random_search(task: Task, seed: int, n: int) -> list[dict[str, Any]]:
    """Train the baselines, and functions of the open space that nothing selected, with the weights of this seed."""
    splits = task.splits()
    functions = [("baseline", f) for f in BASELINES] + [("random", f) for f in random_functions(seed, n)]
    return [
        {"function": f, "origin": origin, "score": train(task, Activation(f), seed=seed, splits=splits).score}
        for origin, f in functions
    ]


def random_functions(seed: int, n: int) -> list[str]:
    """Return functions of the open space: the first candidates of a search, changed by generations of random parents.

    Functions that are not finite or constant are left out, as a search leaves them out.
    """
    draw = random.Random(seed)  # noqa: S311 - not for cryptography
    functions: list[Expression] = [parse(row.name) for row in candidate_rows(load_space("open"), 200, seed)]
    evaluator = Evaluator()
    for generation in range(GENERATIONS):
        draw.shuffle(functions)
        made = [child.expression for child in children(functions, n, f"random {seed} {generation}")]
        found = evaluator.evaluate(made, identify=False)
        functions += [f for f, good in zip(made, found.finite & ~found.constant, strict=True) if good]
    draw.shuffle(functions)
    return [str(function) for function in functions[:n]]


def judge(results: Results, name: str, task: Task, functions: Iterable[str]) -> None:
    """Train functions with the seeds that judge, unless that was done."""
    splits = None
    for function, seed in itertools.product(functions, JUDGES):
        if seed not in results.judged(name, function):
            splits = splits or task.splits()
            test = tested(task, function, seed, splits)
            results.add({"task": name, "function": function, "seed": seed, "test": test})


def tested(task: Task, function: str, seed: int, splits: Splits) -> float | None:
    """Return the test score of one training; None if it diverged."""
    result = train(task, activation_of(function), seed=seed, splits=splits)
    return result.test_score if result.status == "done" else None


def table(results: Results) -> list[dict[str, Any]]:
    """Return for each task and arm the winners' mean test score, and its gain over ReLU and the best baselines; of the
    seeds with which every arm has searched.
    """
    return list(_rows(results))


def markdown(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the lines of the table in docs/evidence.md."""
    columns = (
        "task", "space", "searches", "test of the winners", "ahead of ReLU", "judging trainings ahead",
        "gain over ReLU", "median gain", "over the best baseline", "ahead of three-node",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"| --- | --- |{' ---: |' * (len(columns) - 2)}"]
    for row in rows:
        gain, error = f"{row['gain_over_relu']:+.4f}", row["standard_error"]
        over_baseline = row["gain_over_best_baseline"]
        ahead = row["ahead_of_listed"]
        cells = (
            row["task"], row["arm"], row["searches"], f"{row['test']:.4f}", row["ahead_of_relu"],
            f"{row['trainings_ahead']:.0%}", gain if error is None else f"{gain} ± {error:.4f}",
            f"{row['median_gain_over_relu']:+.4f}", "-" if over_baseline is None else f"{over_baseline:+.4f}",
            "-" if ahead is None else f"{ahead:g}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    searches = [row for row in results.rows if "arm" in row]
    for task in dict.fromkeys(row["task"] for row in searches):
        reference = _mean(results, task, REFERENCE)
        of_arms = [{row["seed"] for row in searches if (row["task"], row["arm"]) == (task, arm)} for arm in ALL_ARMS]
        complete = sorted(set.intersection(*of_arms))
        if not complete:
            continue
        listed = [_mean(results, task, results.of(task, LISTED, seed)["winner"]) for seed in complete]
        for arm in ALL_ARMS:
            own = [results.of(task, arm, seed) for seed in complete]
            tests = [_mean(results, task, row["winner"]) for row in own]
            baselines = [_mean(results, task, row["best_baseline"]) for row in own if row["best_baseline"]]
            gains = [test - reference for test in tests]
            yield {
                "task": task,
                "arm": arm,
                "searches": len(own),
                "test": mean(tests),
                "ahead_of_relu": sum(gain > 0 for gain in gains),
                "trainings_ahead": mean(_share_ahead(results, task, row["winner"]) for row in own),
                "gain_over_relu": mean(gains),
                "standard_error": stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None,
                "median_gain_over_relu": median(gains),
                # A tie counts a half.
                "ahead_of_listed": None
                if arm == LISTED
                else sum((a > b) + (a == b) / 2 for a, b in zip(tests, listed, strict=True)),
                "gain_over_best_baseline": mean(tests) - mean(baselines) if baselines else None,
                "diverged_share": mean(row["diverged"] / len(row["scores"]) for row in own),
            }


def _share_ahead(results: Results, task: str, function: str) -> float:
    """Return the share of the seeds that judge with which a function is ahead of ReLU; diverged trainings are last."""
    own, reference = (
        {seed: -math.inf if score is None else score for seed, score in results.judged(task, each).items()}
        for each in (function, REFERENCE)
    )
    return mean(own[seed] > reference[seed] for seed in own)


def _mean(results: Results, task: str, function: str) -> float:
    """Return the mean test score of a function over the seeds that judge; a diverged training counts as the worst."""
    found = results.judged(task, function)
    scores = [score for score in found.values() if score is not None]
    worst = min((r["test"] for r in results.rows if r["task"] == task and r.get("test") is not None), default=0.0)
    return mean([*scores, *[worst] * (len(found) - len(scores))])


if __name__ == "__main__":
    main()
