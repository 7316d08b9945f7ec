"""A sixth network, to judge what was chosen on the five of docs/evidence-tables.md: the task, and replays on its space.

    PYTHONPATH=benchmarks/evidence aquasurf benchmark build judge_network:cancer --space three-node --seeds 1 \\
        --fisher sampled --workers 1 --name judge -o judge.parquet
    python benchmarks/evidence/judge_network.py judge.parquet [--runs 100]

Breast cancer (scikit-learn's data set of Wolberg et al. 1995, 569 rows of 30 columns), a perceptron with layer norm and
He initialisation, scored by the mean negative log-likelihood. The recipe was not tuned. Prints one JSON document: for
each policy of the experiment "reflections" the cells of its row, as in the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
from aquasurf_ray.analysis.replay.algorithms import make_policy
from aquasurf_ray.analysis.replay.comparison import compare
from aquasurf_ray.analysis.replay.comparison_table import COLUMNS, rows
from aquasurf_ray.analysis.replay.experiments import EXPERIMENTS
from aquasurf_ray.analysis.replay.simulation import Trace, draw_candidates, simulate
from aquasurf_ray.tasks import ActivationFactory, Metric, Objective, Recipe, Splits, Task

EVALUATIONS = 100


class NegativeLogLikelihood:
    """The mean cross entropy in nats, which tells functions apart where accuracies are equal."""

    def __init__(self) -> None:
        self.total, self.n = torch.zeros(()), 0

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch: outputs [n, 2], targets [n]."""
        self.total = self.total + cross_entropy(outputs, targets, reduction="sum")
        self.n += len(targets)

    def compute(self) -> torch.Tensor:
        """Return the mean over all examples so far."""
        return self.total / self.n


def network(activation: ActivationFactory) -> nn.Module:
    """Return a perceptron of two hidden layers of 32, with layer norm."""
    layers = [nn.Linear(30, 32), nn.Linear(32, 32), nn.Linear(32, 2)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    first, second, last = layers
    return nn.Sequential(first, nn.LayerNorm(32), activation(), second, nn.LayerNorm(32), activation(), last)


def data() -> Splits:
    """Return 200, 200 and 169 rows, scaled by the first split."""
    columns, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(columns))
    columns, labels = columns[order], labels[order]
    columns = (columns - columns[:200].mean(0)) / columns[:200].std(0)
    examples = torch.tensor(columns, dtype=torch.float32), torch.tensor(labels)
    train, validation, test = (
        TensorDataset(*(each[part] for each in examples)) for part in (slice(200), slice(200, 400), slice(400, None))
    )
    return Splits(train, validation, test)


def cancer() -> Task:
    """Return the task."""
    metric = Metric("nll", NegativeLogLikelihood, higher_is_better=False, low=0)
    recipe = Recipe(epochs=20, batch_size=25, learning_rate=0.02)
    return Task("cancer", network, data, recipe, Objective(cross_entropy, metric, likelihood="categorical"))


def main() -> None:
    """Replay the policies and print their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", type=Path, help="the file that `benchmark build` wrote")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    benchmark = load_benchmark(options.benchmark)
    experiment = EXPERIMENTS["reflections"]
    policies = [variant.policy for variant in experiment.variants]
    traces = {policy: [replayed(policy, benchmark, seed) for seed in range(options.runs)] for policy in policies}
    found = [dict(zip(COLUMNS, row, strict=True)) for row in rows(compare(traces, benchmark, experiment.reference))]
    print(json.dumps({"runs": options.runs, "rows": found}, indent=1))


def replayed(policy: str, benchmark: Benchmark, seed: int) -> Trace:
    """Return one search among a random half of the functions."""
    candidates = draw_candidates(benchmark, len(benchmark) // 2, seed)
    search = make_policy(policy, benchmark, seed)
    return simulate(search, benchmark, EVALUATIONS, seed=seed, candidates=candidates)


if __name__ == "__main__":
    main()
