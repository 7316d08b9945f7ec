"""What searches gain: their winners against ReLU, GELU and the best baseline, each at its own learning rate.

    python benchmarks/evidence/winner_gains.py BENCHMARK ... --output FILE [--runs 10] [--evaluations 100]

For each benchmark, searches with the default surrogate are replayed, each among a random half of the functions. The
winner is the function of the best score that a search saw. Then winners and rivals are trained on the benchmark's task,
with seeds that no benchmark has. Each tries three learning rates on one seed, the recipe's, half and twice of it, and
further ones as long as the lowest or the highest is as good as any. The validation score chooses its rate and, among
the paper's eight baselines, the best one; of equal scores, that at the rate nearest to the recipe's, and the lower of
two. Ten further seeds judge on the test split: the mean of the winners that diverge with none of them, one a search,
against each rival by the paired t-test, without seeds with which the rival diverged. Holm's method corrects the
p-values of the whole table.

Appends each training to the file, a JSON document a line, as soon as it is known, so that the script may be killed at
any time and resumes; prints the table of docs/evidence.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from kept_rows import KeptRows, Row
from numpy.typing import NDArray

from aquasurf_ray.activations import activation_of
from aquasurf_ray.analysis import Benchmark, draw_candidates, load_benchmark, make_policy, simulate
from aquasurf_ray.analysis.replay.experiments import DEFAULT
from aquasurf_ray.analysis.studies.confirmation import paired_difference, with_holm
from aquasurf_ray.baselines import BASELINES, REFERENCE
from aquasurf_ray.driver.settings.setting import AUTO_RATES
from aquasurf_ray.recipe_change import LEARNING_RATE, RecipeChange, applied, changes_of
from aquasurf_ray.tasks import Splits, Task, load_task
from aquasurf_ray.workers.training import train

GELU = "gelu"
CHOOSING_SEED = 2000
JUDGING_SEEDS = tuple(range(2001, 2011))
WIDEST = (1 / 16, 16.0)
"""Factors on the recipe's rate beyond which none is tried."""


def main() -> None:
    """Replay, train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="+", help="benchmarks, by name or file")
    parser.add_argument("--output", type=Path, required=True, help="file of the searches and trainings so far")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = KeptRows(options.output)
    benchmarks = [load_benchmark(name) for name in options.benchmarks]
    for benchmark in benchmarks:
        # The default surrogate by its full name: what "metric" means has changed before.
        search = {
            "task": benchmark.task,
            "benchmark": benchmark.name,
            "evaluations": options.evaluations,
            "surrogate": DEFAULT,
        }
        searches = [row for row in kept.rows if "winner" in row and row["task"] == benchmark.task]
        if not all(search.items() <= row.items() for row in searches):
            parser.error(f"{options.output} has other searches on {benchmark.task}; give another file")
        for run in range(len(searches), options.runs):
            kept.add(search | {"run": run, "winner": winner(benchmark, run, options.evaluations)})
        judge(kept, benchmark.task)
    print(markdown(kept.rows, [benchmark.task for benchmark in benchmarks]))


def winner(benchmark: Benchmark, run: int, evaluations: int) -> str:
    """Return the function of the best score among those that a replayed search trained, without the baselines."""
    candidates = draw_candidates(benchmark, len(benchmark) // 2, run)
    trace = simulate(make_policy(DEFAULT, benchmark, run), benchmark, evaluations, seed=run, candidates=candidates)
    return str(benchmark.functions[trace.order[np.nanargmax(trace.observed)]])


def judge(kept: KeptRows, name: str) -> None:
    """Train what is not kept of a task: each function at each rate on one seed, then at its own on the others."""
    task = load_task(name)
    splits, rows = task.splits(), kept.rows
    for function in dict.fromkeys([*winners(rows, name), *BASELINES, GELU]):
        factors = AUTO_RATES
        while factors:
            for change in changes_of(LEARNING_RATE, factors, task.recipe):
                train_once(kept, task, splits, function, change, CHOOSING_SEED)
            factors = further(rows, name, function)
    for function in dict.fromkeys([*winners(rows, name), REFERENCE, GELU, best_baseline(rows, name)]):
        change = own_change(rows, name, function)
        for seed in JUDGING_SEEDS:
            train_once(kept, task, splits, function, change, seed)


def further(rows: list[Row], task: str, function: str) -> tuple[float, ...]:
    """Return the next factor on the rate to try; none once one on either side of the best has been tried."""
    scores = {factor_of(row["change"]): score_of(row) for row in tried(rows, task, function)}
    lowest, highest, best = min(scores), max(scores), max(scores.values())
    if scores[lowest] == best and lowest > WIDEST[0]:
        return (lowest / 2,)
    return (highest * 2,) if scores[highest] == best > -np.inf and highest < WIDEST[1] else ()


def score_of(row: Row) -> float:
    """Return the validation score of a training; one that diverged is worse than any other."""
    return -np.inf if row["score"] is None else row["score"]


def factor_of(change: str) -> float:
    """Return the factor on the recipe's learning rate."""
    parsed = RecipeChange.parse(change)
    return 1.0 if parsed is None else parsed.value


def train_once(kept: KeptRows, task: Task, splits: Splits, function: str, change: str, seed: int) -> None:
    """Train, unless the kept rows have it; a training that diverges has no scores."""
    which = {"task": task.name, "function": function, "change": change, "seed": seed}
    if any(which.items() <= row.items() for row in kept.rows):
        return
    result = train(task.with_recipe(applied(change, task.recipe)), activation_of(function), seed=seed, splits=splits)
    done = result.status == "done"
    kept.add(which | {"score": result.score if done else None, "test": result.test_score if done else None})


def winners(rows: Iterable[Row], task: str) -> list[str]:
    """Return the winner of each search on a task."""
    return [row["winner"] for row in rows if row["task"] == task and "winner" in row]


def tried(rows: Iterable[Row], task: str, function: str) -> list[Row]:
    """Return a function's trainings with the seed that chooses its rate."""
    return [r for r in rows if (r["task"], r.get("function"), r.get("seed")) == (task, function, CHOOSING_SEED)]


def chosen(rows: Iterable[Row], task: str, function: str) -> Row:
    """Return the training whose rate is the function's own: best score, of equal ones nearest the recipe's."""
    return max(tried(rows, task, function), key=_merit)


def _merit(row: Row) -> tuple[float, float, float]:
    factor = factor_of(row["change"])
    return score_of(row), -abs(math.log(factor)), -factor


def own_change(rows: Iterable[Row], task: str, function: str) -> str:
    """Return the change of the recipe to the function's own rate."""
    return str(chosen(rows, task, function)["change"])


def best_baseline(rows: list[Row], task: str) -> str:
    """Return the baseline of the best validation score at its own rate; of equal ones, as for rates."""
    return max(BASELINES, key=lambda function: _merit(chosen(rows, task, function)))


def test_scores(rows: list[Row], task: str, function: str) -> NDArray[np.float64]:
    """Return a function's test scores [s] by the judging seeds at its own rate, NaN where it diverged."""
    own = (task, function, own_change(rows, task, function))
    found = {row["seed"]: row["test"] for row in rows if (row["task"], row.get("function"), row.get("change")) == own}
    return np.array([found[seed] for seed in JUDGING_SEEDS], dtype=np.float64)


def table(rows: list[Row], tasks: Iterable[str]) -> list[Row]:
    """Return for each task and rival the gain of the winners' mean, with its interval over the seeds that judge."""
    lines, differences = [], []
    for task in tasks:
        found = np.array([test_scores(rows, task, function) for function in winners(rows, task)])
        whole = found[~np.isnan(found).any(axis=1)]
        for rival in dict.fromkeys((REFERENCE, GELU, best_baseline(rows, task))):
            reference = test_scores(rows, task, rival)
            trained_with = ~np.isnan(reference)
            differences.append(paired_difference(whole.mean(axis=0), reference))
            lines.append(
                {
                    "task": task,
                    "rival": rival,
                    "factor": factor_of(own_change(rows, task, rival)),
                    "test": float(reference[trained_with].mean()) if trained_with.any() else None,
                    "searches": len(found),
                    "diverged": len(found) - len(whole),
                    "ahead": int(((whole - reference)[:, trained_with].sum(axis=1) > 0).sum()),
                }
            )
    return [
        line | {"gain": difference.gain, "low": difference.low, "high": difference.high, "p": difference.p_holm}
        for line, difference in zip(lines, with_holm(differences), strict=True)
    ]


def markdown(rows: list[Row], tasks: Iterable[str]) -> str:
    """Return the table as it stands on the page; "-" for what the test cannot tell."""
    columns = ("task", "rival", "its rate", "its test score", "winners' gain", "p", "searches ahead", "diverged")
    lines = [f"| {' | '.join(columns)} |", f"| --- | --- |{' ---: |' * (len(columns) - 2)}"]
    for line in table(rows, list(tasks)):
        known = line["p"] is not None
        gain = "{gain:+.4f} [{low:+.4f}, {high:+.4f}]".format(**line) if known else "-"
        p = "-" if not known else "<0.0001" if line["p"] < 1e-4 else f"{line['p']:.2g}"
        test = "-" if line["test"] is None else f"{line['test']:.4f}"
        ahead = f"{line['ahead']} of {line['searches']}"
        cells = (
            line["task"], f"`{line['rival']}`", f"{line['factor']:g}", test, gain, p, ahead,
            line["diverged"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
