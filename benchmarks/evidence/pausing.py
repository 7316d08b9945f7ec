"""The epochs that a search spends to reach the top, by the rule that pauses trainings of little promise.

Searches are replayed on benchmarks with learning curves (`analysis.replay.early_stopping`), each among a random
half of the functions, with the default surrogate. Epochs are counted in full trainings, without those of the baselines,
until a function of the top has finished; a goal that is not reached counts as the budget. Every rule is compared with
full trainings, run by run, by Wilcoxon's test; p-values are corrected by Holm's method for the rules. Prints one
JSON document a line, for each benchmark as soon as it is measured.

    python benchmarks/evidence/pausing.py BENCHMARK ... [--half first] [--runs 40] [--trainings 100] > pausing.jsonl

The kept documents are those of benchmarks that were built with learning curves, for instance with
`aquasurf benchmark build digits-mlp --seeds 1 --fisher sampled,empirical`, with 20 runs and 40 trainings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from aquasurf_ray.analysis import Benchmark, load_benchmark
from aquasurf_ray.analysis.replay.comparison_table import markdown, p_text
from aquasurf_ray.analysis.replay.early_stopping.pausing import FULL, RULES, PausingSearch
from aquasurf_ray.analysis.replay.experiments import SPLIT_SEED
from aquasurf_ray.analysis.replay.measures import TOP_FRACTIONS, goals_of
from aquasurf_ray.analysis.studies.correction import holm

Row = Mapping[str, float | str]

COLUMNS = ("rule", "to top 1%", "never", "p 1%", "to top 0.1%", "never ", "p 0.1%", "regret", "p regret", "functions")


@dataclass(frozen=True)
class Outcome:
    """What one search reached: full trainings to each goal (NaN: never), its regret, and the functions it began."""

    top_1: float
    top_01: float
    regret: float
    n_begun: int


def outcome(benchmark: Benchmark, run: int, rule: str, trainings: int) -> Outcome:
    """Return what a search reaches with the epochs of so many full trainings."""
    search = PausingSearch(benchmark, run, RULES[rule])
    goals = goals_of(benchmark.scores[search.candidates])
    search.search(trainings * search.n_epochs)
    found = [(each.epochs / search.n_epochs, benchmark.scores[each.function]) for each in search.found]
    first = {name: next((at for at, s in found if s >= goals.top[name]), np.nan) for name in TOP_FRACTIONS}
    best = max((score for _, score in found if np.isfinite(score)), default=goals.worst)
    return Outcome(
        first["top_1"], first["top_01"], max(0.0, goals.best - float(best)), len(search.found) + len(search.paused)
    )


def measured(benchmark: Benchmark, runs: int, trainings: int) -> dict[str, list[Outcome]]:
    """Return the outcomes of each rule's searches, by run."""
    return {rule: [outcome(benchmark, run, rule, trainings) for run in range(runs)] for rule in RULES}


def summary(found: Mapping[str, Sequence[Outcome]], trainings: int) -> list[Row]:
    """Return the columns of each rule; those that compare with full trainings are not of these."""
    others = [rule for rule in found if rule != FULL]
    tests = {
        goal: dict(zip(others, holm([_p(found[rule], found[FULL], goal, trainings) for rule in others]), strict=True))
        for goal in ("top_1", "top_01", "regret")
    }
    rows: list[Row] = []
    for rule, outcomes in found.items():
        row: dict[str, float | str] = {"rule": rule}
        for goal, name in (("top_1", "top 1%"), ("top_01", "top 0.1%")):
            values = _column(outcomes, goal, trainings)
            never = float(np.mean([np.isnan(getattr(each, goal)) for each in outcomes]))
            row |= {f"to {name}": float(np.median(values)), "never" + " " * (goal == "top_01"): never}
            row |= {f"p {name[4:]}": tests[goal][rule]} if rule != FULL else {}
        row["regret"] = float(np.mean([each.regret for each in outcomes]))
        row |= {"p regret": tests["regret"][rule]} if rule != FULL else {}
        rows.append(row | {"functions": float(np.median([each.n_begun for each in outcomes]))})
    return rows


def document(benchmark: Benchmark, half: str, runs: int, trainings: int) -> dict[str, Any]:
    """Return the outcomes on a benchmark."""
    return {
        "benchmark": benchmark.name,
        "epochs": 0 if benchmark.curves is None else benchmark.curves.shape[2],
        "half": half,
        "runs": runs,
        "trainings": trainings,
        "rules": summary(measured(benchmark, runs, trainings), trainings),
    }


def table(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the outcomes in Markdown."""
    rows = [
        [each["benchmark"], *(_cell(column, row, each["trainings"]) for column in COLUMNS)]
        for each in documents
        for row in each["rules"]
    ]
    return markdown(("benchmark", *COLUMNS), rows)


def _cell(column: str, row: Row, trainings: int) -> str:
    value = row.get(column)
    if value is None or isinstance(value, str):
        return value or "-"
    if column.startswith("p "):
        return p_text(value)
    if column.startswith("never"):
        return f"{value:.0%}"
    if column.startswith("to"):
        return f"{value:.1f}" if value < trainings else f">{trainings}"
    return f"{value:.4f}" if column == "regret" else f"{value:.0f}"


def _column(outcomes: Sequence[Outcome], goal: str, trainings: int) -> np.ndarray:
    return np.nan_to_num(np.array([getattr(each, goal) for each in outcomes], dtype=float), nan=trainings)


def _p(outcomes: Sequence[Outcome], full: Sequence[Outcome], goal: str, trainings: int) -> float:
    differences = _column(outcomes, goal, trainings) - _column(full, goal, trainings)
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="+")
    parser.add_argument("--half", choices=("first", "second", "all"), default="all")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--trainings", type=int, default=100)
    options = parser.parse_args()
    benchmarks = [load_benchmark(name) for name in options.benchmarks]
    for benchmark in benchmarks:
        if benchmark.curves is None:
            parser.error(f"{benchmark.name} has no learning curves")
    for benchmark in benchmarks:
        part = benchmark
        if options.half != "all":
            part = benchmark.split(SPLIT_SEED)[("first", "second").index(options.half)]
        print(json.dumps(document(part, options.half, options.runs, options.trainings)), flush=True)


if __name__ == "__main__":
    main()
