"""The judged score of what a search calls best, by how it spends second seeds, at equal numbers of trainings.

Searches are replayed on a benchmark whose functions were trained three times (`aquasurf_ray.analysis.replay.seeds`):
two trainings of a function are there for the search, the third judges what it calls best, by its validation and by its
test score. Every rule is compared with a search of one seed, run by run, by Wilcoxon's test; p-values are corrected by
Holm's method for the rules. A function that diverged with the judging seed is worse than any other. Prints one JSON
document, of one half of the functions.

    python benchmarks/evidence/second_seeds.py [--half first] [--runs 100] [--evaluations 100] > second_seeds.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import wilcoxon

from aquasurf_ray.analysis import Benchmark, load_benchmark
from aquasurf_ray.analysis.replay.comparison_table import markdown, p_text
from aquasurf_ray.analysis.replay.experiments import SPLIT_SEED
from aquasurf_ray.analysis.replay.seeds import RULES, Called, replayed
from aquasurf_ray.analysis.studies.correction import holm

COLUMNS = (
    *("rule", "second seeds", "called by", "judged", "lost", "test", "diverged"),
    *("better", "worse", "p", "test better", "test worse", "p test"),
)
DIVERGED = -1.0  # below every accuracy


def measured(benchmark: Benchmark, runs: int, evaluations: int) -> dict[str, list[Called]]:
    """Return what the searches of each rule call best, by run."""
    found = [replayed(benchmark, run, evaluations) for run in range(runs)]
    return {name: [called[name] for called in found] for name in RULES}


def summary(found: Mapping[str, Sequence[Called]]) -> dict[str, dict[str, float]]:
    """Return the columns of each rule but the first; those that compare with one seed are not of the first rule."""
    first, *others = found
    tests = {split: holm([_p(found[name], found[first], split) for name in others]) for split in ("judged", "test")}
    rows = {}
    for name, called in found.items():
        promised, judged, test = (_column(called, field) for field in ("promised", "judged", "test"))
        rows[name] = {
            "second seeds": float(np.mean([each.n_second for each in called])),
            "called by": float(promised.mean()),
            "judged": float(np.nanmean(judged)),
            "lost": float(np.nanmean(promised - judged)),
            "test": float(np.nanmean(test)),
            "diverged": int(np.isnan(judged).sum()),
        }
        if name != first:
            at = others.index(name)
            judged_by, tested_by = (_differences(called, found[first], split) for split in ("judged", "test"))
            rows[name] |= {"better": float((judged_by > 0).mean()), "worse": float((judged_by < 0).mean())}
            rows[name] |= {"p": tests["judged"][at], "p test": tests["test"][at]}
            rows[name] |= {"test better": float((tested_by > 0).mean()), "test worse": float((tested_by < 0).mean())}
    return rows


def table(benchmark: Benchmark, runs: int, evaluations: int) -> str:
    """Return the summary in Markdown."""
    found = summary(measured(benchmark, runs, evaluations))
    n = len(benchmark) - len(benchmark.baselines)
    about = f"{runs} runs of {evaluations} trainings, each among {n // 2:,} of {n:,} functions."
    cells = [[name, *(_text(column, row) for column in COLUMNS[1:])] for name, row in found.items()]
    return f"{markdown(COLUMNS, cells)}\n\n{about}"


def _text(column: str, row: Mapping[str, float]) -> str:
    value = row.get(column)
    if value is None:
        return "-"
    if column.startswith("p"):
        return p_text(value)
    if column.endswith(("better", "worse")):
        return f"{value:.0%}"
    return f"{value:.1f}" if column == "second seeds" else f"{value:.0f}" if column == "diverged" else f"{value:.4f}"


def _column(called: Sequence[Called], field: str) -> np.ndarray:
    return np.array([getattr(each, field) for each in called])


def _differences(called: Sequence[Called], first: Sequence[Called], split: str) -> np.ndarray:
    mine, theirs = (np.nan_to_num(_column(each, split), nan=DIVERGED) for each in (called, first))
    return np.asarray(mine - theirs)


def _p(called: Sequence[Called], first: Sequence[Called], split: str) -> float:
    differences = _differences(called, first, split)
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=("first", "second"), default="first")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=100)
    options = parser.parse_args()
    half = load_benchmark("act-bench-digits-mlp").split(SPLIT_SEED)[("first", "second").index(options.half)]
    print(json.dumps(vars(options) | {"rules": summary(measured(half, options.runs, options.evaluations))}, indent=2))


if __name__ == "__main__":
    main()
