"""The effect of a function's scale: how many functions train, which is the best, and how the others follow it.

    python benchmarks/evidence/scale_of_functions.py --output FILE [--tasks digits=24 friedman=20 mnist1d=20]

A fixed random sample of the three-node space, and ReLU, are trained with one seed at three factors on the recipe's
learning rate, in four arms:

    as it is       the functions and the network's own initial weights
    standardized   the functions brought to mean 0 and deviation 1 on N(0, 1)
    init auto      weights that fit the function (`Task.init`)
    both           standardized functions, and weights that fit them

A function without a standard form (a moment is infinite) counts in the two arms with standard forms as one that does
not train. A function trains if at one of the factors it does not diverge, and learns (`LEARNED`); its score is the best
over the factors, on the validation split. Writes each function's trainings to the file, a JSON document, as soon as
they are known, so that the script may be killed at any time and resumes; prints the table of docs/evidence.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

from aquasurf_ray.activations import Activation, SearchSpace, parse, unique_functions
from aquasurf_ray.activations.standardization import standardized
from aquasurf_ray.tasks import Splits, Task, load_task
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.training import train

FACTORS = (0.125, 0.5, 2.0)
"""Far apart, because functions and weights of another scale need another rate."""
SEED = 0
DRAW = 14  # the sample of functions: another seed than that of any search or training
REFERENCE = "relu(x)"
ARMS = {
    "as it is": (False, "default"),
    "standardized": (True, "default"),
    "init auto": (False, "auto"),
    "both": (True, "auto"),
}
LEARNED = {"digits": 0.5, "mnist1d": 0.5, "friedman": -0.5}
"""Scores from which a network has learned something: half of the examples, or an error of half the targets' deviation.
A constant prediction reaches 0.1 and -1.
"""


def main() -> None:
    """Train, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="file of the trainings known so far")
    parser.add_argument("--tasks", nargs="+", default=["digits=24", "friedman=20", "mnist1d=20"], metavar="TASK=N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, n in (text.split("=") for text in options.tasks):
        task, loaded = load_task(name), load_task(name).splits()
        for function in (REFERENCE, *drawn(int(n))):
            for arm in ARMS:
                measured(task, loaded, function, arm, options.output)
    print(markdown(read(options.output)["tables"]))


def drawn(n: int) -> list[str]:
    """Return the first n functions of the sample; more contain fewer."""
    table = unique_functions(SearchSpace.named("three-node"))
    names = [table.names[i] for i in table.sample(n + 1, DRAW)]
    return [name for name in names if name != REFERENCE][:n]


def measured(task: Task, splits: Splits, function: str, arm: str, output: Path) -> None:
    """Train a function in an arm at each factor, unless the file has it."""
    known = read(output)["trainings"]
    if any((row["task"], row["function"], row["arm"]) == (task.name, function, arm) for row in known):
        return
    is_standardized, init = ARMS[arm]
    trained = standardized(parse(function)) if is_standardized else parse(function)
    started, results = time.process_time(), []
    for factor in FACTORS if trained is not None else ():
        recipe = replace(task.recipe, learning_rate=task.recipe.learning_rate * factor)
        own = replace(task, recipe=recipe, init=init)
        result = train(own, Activation(trained), splits=splits, seed=SEED, gate=HealthLimits())
        results.append({"factor": factor, "score": result.score, "reason": result.reason})
    row = {"task": task.name, "function": function, "arm": arm, "trained": trained and str(trained), "results": results}
    known.append(row | {"cpu_seconds": round(time.process_time() - started, 2)})
    document = {"factors": FACTORS, "seed": SEED, "tables": tables(known), "trainings": known}
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(output: Path) -> dict[str, Any]:
    """Return the document so far."""
    return json.loads(output.read_text(encoding="utf-8")) if output.exists() else {"tables": [], "trainings": []}


def tables(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each task and arm how many functions train, the best one, and the order relative to `as it is`."""
    return [_line(rows, task, arm) for task in dict.fromkeys(row["task"] for row in rows) for arm in ARMS]


def _line(rows: list[dict[str, Any]], task: str, arm: str) -> dict[str, Any]:
    scores, plain = best_scores(rows, task, arm), best_scores(rows, task, "as it is")
    own = {f: score for f, score in scores.items() if f != REFERENCE}
    trained = {f: score for f, score in own.items() if score is not None}
    relu = scores.get(REFERENCE)
    both = [f for f in trained if plain.get(f) is not None]
    best = max(trained, key=lambda f: trained[f], default=None)
    rank = spearmanr([plain[f] for f in both], [trained[f] for f in both]).statistic if len(both) > 2 else None
    return {
        "task": task,
        "arm": arm,
        "functions": len(own),
        "without_standard_form": sum(
            row["trained"] is None for row in rows if (row["task"], row["arm"]) == (task, arm)
        ),
        "train": len(trained),
        "best": best,
        "best_score": trained[best] if best else None,
        "relu": relu,
        "beat_relu": len(trained) if relu is None else sum(score > relu for score in trained.values()),
        "train_in_both": len(both),
        "rank_correlation_with_as_it_is": None if rank is None else round(float(rank), 3),
    }


def markdown(lines: list[dict[str, Any]]) -> str:
    """Return the tables as one table for a page."""
    head = "| task | arm | functions | train | beat ReLU | best score | ReLU | rank correlation with as it is |"
    rows = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for line in lines:
        scores = [_number(line[key], 3) for key in ("best_score", "relu")]
        rank, n = _number(line["rank_correlation_with_as_it_is"], 2), line["train_in_both"]
        counts = [str(line[key]) for key in ("functions", "train", "beat_relu")]
        order = "-" if line["arm"] == "as it is" else f"{rank} of {n}"
        rows.append("| " + " | ".join([line["task"], line["arm"], *counts, *scores, order]) + " |")
    return "\n".join(rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def best_scores(rows: list[dict[str, Any]], task: str, arm: str) -> dict[str, float | None]:
    """Return each function's best score over the factors; None if it trains at none."""
    found = {}
    for row in rows:
        if (row["task"], row["arm"]) == (task, arm):
            usable = [r["score"] for r in row["results"] if r["score"] is not None and r["reason"] is None]
            best = max(usable, default=None)
            found[row["function"]] = best if best is not None and best >= LEARNED[task] else None
    return found


if __name__ == "__main__":
    main()
