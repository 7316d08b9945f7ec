"""The effect of confirming winners with another seed, on a benchmark whose functions were trained with three.

A search observes the scores of one seed. Either its best function wins ("selected"), or the K best are trained with a
second seed and the best mean of both wins ("confirmed"). Both are judged by the third seed, which chose neither:
validation score, test score, and the share of winners that are at least as good as ReLU there. The searches are
replayed with the default surrogate, each among a random half of the functions; every seed is first, second and third in
turn. Prints one JSON document.

    python benchmarks/evidence/winners.py [BENCHMARK] [--runs 60] [--evaluations 100] [--top 5] > winners.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np

from aquasurf_ray.analysis import Benchmark, draw_candidates, load_benchmark, make_policy, simulate
from aquasurf_ray.analysis.replay.experiments import DEFAULT
from aquasurf_ray.baselines import REFERENCE

SEEDS_NEEDED = 3  # one chooses, one confirms, one judges
TOP = 5


@dataclass(frozen=True)
class Winner:
    """A function, the score that it was chosen by, and its scores with a seed that did not choose it."""

    chosen_by: float
    judged: float
    test: float
    beats_relu: bool


def winners(benchmark: Benchmark, run: int, evaluations: int, top: int) -> tuple[Winner, Winner]:
    """Return the selected and the confirmed winner of one search."""
    first, second, third = ((run + offset) % 3 for offset in range(3))
    candidates = draw_candidates(benchmark, len(benchmark) // 2, run)
    policy = make_policy(DEFAULT, benchmark, run)
    trace = simulate(policy, benchmark, evaluations, seed=first, candidates=candidates)
    trained = np.union1d(trace.order, benchmark.baselines)
    seen = np.nan_to_num(benchmark.seed_scores[trained, first], nan=-np.inf)
    best = trained[np.argsort(-seen, kind="stable")[:top]]
    both = benchmark.seed_scores[best][:, [first, second]].mean(axis=1)
    confirmed = int(best[np.argmax(np.nan_to_num(both, nan=-np.inf))])
    relu = benchmark.find(REFERENCE)

    def judged(function: int, chosen_by: float) -> Winner:
        score = benchmark.seed_scores[function, third]
        test = benchmark.test_scores[function, third]
        return Winner(float(chosen_by), float(score), float(test), bool(score >= benchmark.seed_scores[relu, third]))

    return judged(int(best[0]), seen.max()), judged(confirmed, np.nanmax(both))


def summary(found: list[Winner]) -> dict[str, float]:
    """Return means over searches; a winner that diverges with the judging seed has no score and is counted."""
    columns = {name: np.array([getattr(winner, name) for winner in found]) for name in Winner.__annotations__}
    lost = columns["chosen_by"] - columns["judged"]
    return {
        "chosen_by": round(float(columns["chosen_by"].mean()), 4),
        "judged": round(float(np.nanmean(columns["judged"])), 4),
        "lost": round(float(np.nanmean(lost)), 4),
        "test": round(float(np.nanmean(columns["test"])), 4),
        "as_good_as_relu": round(float(columns["beats_relu"].mean()), 3),
        "diverged": int(np.isnan(columns["judged"]).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmark", nargs="?", default="act-bench-digits-mlp")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--top", type=int, default=TOP)
    options = parser.parse_args()
    benchmark = load_benchmark(options.benchmark)
    if benchmark.n_seeds < SEEDS_NEEDED:
        parser.error(f"{SEEDS_NEEDED} seeds are needed, the benchmark has {benchmark.n_seeds}")
    pairs = [winners(benchmark, run, options.evaluations, options.top) for run in range(options.runs)]
    selected, confirmed = zip(*pairs, strict=True)
    settings = {"runs": options.runs, "evaluations": options.evaluations, "top": options.top}
    print(json.dumps(settings | {"selected": summary(list(selected)), "confirmed": summary(list(confirmed))}, indent=2))


if __name__ == "__main__":
    main()
