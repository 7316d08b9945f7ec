"""What searches gain, on several networks: their winners against ReLU, GELU and the best baseline, each at its own rate.

    python benchmarks/evidence/winner_gains.py BENCHMARK ... --output FILE [--runs 10] [--evaluations 100]

For each benchmark, searches with the default surrogate are replayed, each among a random half of the functions. The
winner is the function of the best score that a search saw. Then everything is trained anew, on the benchmark's task,
with seeds that no benchmark has: each winner and each rival gets three learning rates (the recipe's, half and twice of
it) on one seed, whose validation score chooses its rate and, among the paper's eight baselines, the best one. Five
further seeds judge on the test split.

Appends each training to the file, a JSON document a line, as soon as it is known, so that the script may be killed at
any time and resumes; prints the table of docs/evidence.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from aquasurf_ray.activations import activation_of
from aquasurf_ray.analysis import Benchmark, draw_candidates, load_benchmark, make_policy, simulate
from aquasurf_ray.analysis.studies.confirmation import paired_difference, with_holm
from aquasurf_ray.baselines import BASELINES, REFERENCE
from aquasurf_ray.driver.settings.setting import AUTO_RATES
from aquasurf_ray.driver.settings.surrogate_names import DEFAULT_SURROGATE
from aquasurf_ray.recipe_change import LEARNING_RATE, applied, changes_of
from aquasurf_ray.tasks import Splits, Task, load_task
from aquasurf_ray.workers.training import train

GELU = "gelu"
CHOOSES = 2000
JUDGES = tuple(range(2001, 2006))
Row = dict[str, Any]
Add = Callable[[Row], None]


def main() -> None:
    """Replay, train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="+", help="benchmarks, by name or file")
    parser.add_argument("--output", type=Path, required=True, help="file of the searches and trainings so far")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(options.output)

    def add(row: Row) -> None:
        rows.append(row)
        with options.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    for name in options.benchmarks:
        benchmark = load_benchmark(name)
        for run in range(len(winners(rows, benchmark.task)), options.runs):
            add({"task": benchmark.task, "run": run, "winner": winner(benchmark, run, options.evaluations)})
        judge(rows, benchmark.task, add)
    print(markdown(rows))


def read(output: Path) -> list[Row]:
    """Return the searches and trainings so far."""
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()] if output.exists() else []


def winner(benchmark: Benchmark, run: int, evaluations: int) -> str:
    """Return the function of the best score among those that a replayed search trained, without the baselines."""
    candidates = draw_candidates(benchmark, len(benchmark) // 2, run)
    trace = simulate(
        make_policy(DEFAULT_SURROGATE, benchmark, run), benchmark, evaluations, seed=run, candidates=candidates
    )
    return str(benchmark.functions[trace.order[np.nanargmax(trace.observed)]])


def judge(rows: list[Row], name: str, add: Add) -> None:
    """Train all functions of a task that the rows lack: at each rate on one seed, then at the own rate on the others."""
    task = load_task(name)
    splits = task.splits()
    for function in dict.fromkeys([*winners(rows, name), *BASELINES, GELU]):
        for change in changes_of(LEARNING_RATE, AUTO_RATES, task.recipe):
            trained(rows, task, splits, function, change, CHOOSES, add)
    for function in dict.fromkeys([*winners(rows, name), REFERENCE, GELU, best_baseline(rows, name)]):
        for seed in JUDGES:
            trained(rows, task, splits, function, own_change(rows, name, function), seed, add)


def trained(rows: list[Row], task: Task, splits: Splits, function: str, change: str, seed: int, add: Add) -> None:
    """Train once, unless the rows have it; a training that diverges has no scores."""
    which = {"task": task.name, "function": function, "change": change, "seed": seed}
    if any(which.items() <= row.items() for row in rows):
        return
    result = train(task.with_recipe(applied(change, task.recipe)), activation_of(function), seed=seed, splits=splits)
    done = result.status == "done"
    add(which | {"score": result.score if done else None, "test": result.test_score if done else None})


def winners(rows: Iterable[Row], task: str) -> list[str]:
    """Return the winner of each search on a task."""
    return [row["winner"] for row in rows if row["task"] == task and "winner" in row]


def chosen(rows: Iterable[Row], task: str, function: str) -> Row:
    """Return the training whose rate is the function's own: that of the best validation score on the choosing seed."""
    tried = [r for r in rows if (r["task"], r.get("function"), r.get("seed")) == (task, function, CHOOSES)]
    return max(tried, key=lambda row: -np.inf if row["score"] is None else row["score"])


def own_change(rows: Iterable[Row], task: str, function: str) -> str:
    """Return the change of the recipe to the function's own rate."""
    return str(chosen(rows, task, function)["change"])


def best_baseline(rows: list[Row], task: str) -> str:
    """Return the baseline of the best validation score at its own rate, on the choosing seed."""
    score = {function: chosen(rows, task, function)["score"] for function in BASELINES}
    return max(BASELINES, key=lambda function: -np.inf if score[function] is None else score[function])


def tests(rows: Iterable[Row], task: str, function: str) -> np.ndarray:
    """Return a function's test scores [s] by the judging seeds, NaN where it diverged."""
    found = {row["seed"]: row["test"] for row in rows if (row["task"], row.get("function")) == (task, function)}
    return np.array([found[seed] for seed in JUDGES], dtype=np.float64)


def table(rows: list[Row]) -> list[Row]:
    """Return for each task and rival the winners' mean gain, and how many of them are better, also significantly."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        found = winners(rows, task)
        for rival in (REFERENCE, GELU, best_baseline(rows, task)):
            lines.append(_line(rows, task, found, rival))
    return lines


def _line(rows: list[Row], task: str, found: Sequence[str], rival: str) -> Row:
    reference = tests(rows, task, rival)
    distinct = list(dict.fromkeys(found))
    differences = with_holm([paired_difference(tests(rows, task, function), reference) for function in distinct])
    by_function = dict(zip(distinct, differences, strict=True))
    gains = [gain for function in found if (gain := by_function[function].gain) is not None]
    return {
        "task": task,
        "rival": rival,
        "rival_change": own_change(rows, task, rival),
        "rival_test": float(np.nanmean(reference)),
        "rival_diverged": int(np.isnan(reference).sum()),
        "searches": len(found),
        "diverged": sum(bool(np.isnan(tests(rows, task, function)).any()) for function in found),
        "gain": mean(gains) if gains else None,
        "standard_error": stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None,
        "ahead": sum(gain > 0 for gain in gains),
        "better": sum(by_function[function].is_better for function in found),
    }


def markdown(rows: list[Row]) -> str:
    """Return the table as it stands on the page."""
    columns = ("task", "rival", "its rate", "its test score", "winners' gain", "ahead", "significantly", "diverged")
    lines = [f"| {' | '.join(columns)} |", f"| --- | --- |{' ---: |' * (len(columns) - 2)}"]
    for line in table(rows):
        gain = "-" if line["gain"] is None else f"{line['gain']:+.4f}"
        error = "" if line["standard_error"] is None else f" ± {line['standard_error']:.4f}"
        of = f" of {line['searches']}"
        cells = (
            line["task"], f"`{line['rival']}`", line["rival_change"].rpartition("*")[2] or "1",
            f"{line['rival_test']:.4f}", gain + error, f"{line['ahead']}{of}", line["better"], line["diverged"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
