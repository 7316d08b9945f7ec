"""The learning rate and number of epochs at which relu does best, for the small built-in tasks.

    python benchmarks/evidence/recipes.py [TASK ...] [--output recipes.json]

A task's recipe should give ReLU its chance, so that a function that beats ReLU beats one that was trained well. For
each task, ReLU is trained at every point of a grid of learning rates and epochs with three seeds that no search uses by
default (100, 101, 102). The best point has the best mean validation score. Points whose mean lies within its standard
error are as good; of these, the ones with the fewest epochs are recommended, because more epochs would only cost time.
Prints JSON, and writes each point to the output as soon as it is known, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Task, load_task
from aquasurf_ray.workers.training import train

SEEDS = (100, 101, 102)
GRID: dict[str, tuple[tuple[float, ...], tuple[int, ...]]] = {
    "mnist1d": ((0.005, 0.01, 0.02, 0.04, 0.08), (10, 20)),
    "fashion-small": ((0.1, 0.2, 0.4, 0.8, 1.6), (5, 8)),
    "characters": ((0.003, 0.01, 0.03), (2, 4)),
    "digits": ((0.025, 0.05, 0.1, 0.2, 0.4), (8, 16)),
    "digits-mlp": ((0.003, 0.005, 0.01, 0.02, 0.04), (5, 10, 20, 40)),
    "digits-vit": ((0.003, 0.01, 0.02, 0.04), (10, 20)),
    "friedman": ((0.003, 0.01, 0.03, 0.1, 0.2, 0.4), (10, 20)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(GRID)}; by default all")
    parser.add_argument("--output", type=Path, default=Path("recipes.json"), help="file of the points known so far")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.tasks or GRID:
        task = load_task(name)
        for learning_rate in GRID[name][0]:
            for epochs in GRID[name][1]:
                measured(task, learning_rate, epochs, options.output)
    print(json.dumps(recommended(read(options.output)), indent=2))


def measured(task: Task, learning_rate: float, epochs: int, output: Path) -> None:
    """Train relu at one point of the grid with every seed, unless the output has the point."""
    points = read(output)
    if any((p["task"], p["learning_rate"], p["epochs"]) == (task.name, learning_rate, epochs) for p in points):
        return
    tuned = replace(task, recipe=replace(task.recipe, learning_rate=learning_rate, epochs=epochs))
    splits, started = tuned.splits(), time.process_time()
    results = [train(tuned, Activation("relu(x)"), seed=seed, splits=splits) for seed in SEEDS]
    scores = [result.score for result in results]
    points.append(
        {
            "task": task.name,
            "learning_rate": learning_rate,
            "epochs": epochs,
            "scores": scores,
            "test_scores": [result.test_score for result in results],
            "cpu_seconds": round((time.process_time() - started) / len(SEEDS), 2),
        }
    )
    output.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")


def read(output: Path) -> list[dict]:
    """The points that are known."""
    return json.loads(output.read_text(encoding="utf-8")) if output.exists() else []


def recommended(points: list[dict]) -> list[dict]:
    """Return for each task its best point, and those that are as good with the fewest epochs, by their mean score."""
    chosen = []
    for name in dict.fromkeys(point["task"] for point in points):
        of_task = [p for p in points if p["task"] == name and None not in p["scores"]]
        of_task.sort(key=lambda point: statistics.mean(point["scores"]), reverse=True)
        best = of_task[0]
        error = statistics.stdev(best["scores"]) / len(SEEDS) ** 0.5
        as_good = [p for p in of_task if statistics.mean(p["scores"]) >= statistics.mean(best["scores"]) - error]
        fewest = min(point["epochs"] for point in as_good)
        chosen.append({"task": name, "best": best, "recommended": [p for p in as_good if p["epochs"] == fewest]})
    return chosen


if __name__ == "__main__":
    main()
