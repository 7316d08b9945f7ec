"""A benchmark as a pandas DataFrame, one row a function."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark

Scores = NDArray[np.float64]


def table(benchmark: Benchmark) -> pd.DataFrame:
    """Columns: function, n_operators, status (done, diverged or missing), val_score (median over seeds, like `scores`),
    val_score_0 and so on (one a seed), test_score, other figures and seconds (medians over the seeds that have them),
    aliases (a list of names).
    """
    import pandas as pd

    status = np.where(benchmark.trained.any(axis=1), "diverged", "missing")
    status[~np.isnan(benchmark.scores)] = "done"
    columns = {
        "function": list(benchmark.functions),
        "n_operators": [name.count("(") for name in benchmark.functions],
        "status": status.tolist(),
        "val_score": benchmark.scores,
        **{f"val_score_{seed}": scores for seed, scores in enumerate(benchmark.seed_scores.T)},
        "test_score": _medians(benchmark.test_scores),
        **{name: _medians(values) for name, values in benchmark.figures.items()},
        "seconds": _medians(benchmark.seconds),
        "aliases": [list(names) for names in benchmark.aliases],
    }
    return pd.DataFrame(columns)


def _medians(values: Scores) -> Scores:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice", category=RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=1), dtype=np.float64)
