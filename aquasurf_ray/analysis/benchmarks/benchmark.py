"""A benchmark: all functions of a space with the results of their trainings, on which searches can be replayed.

Format: every array is by function, in the same order: n functions, `seeds` trainings of each. A score is the task's
metric on the validation split, higher is better (the sign is changed for metrics where lower is better). A training
that diverged has the score NaN and its seconds; a training that was never run has NaN for both.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.surrogate.spectra import SpectrumFeature

if TYPE_CHECKING:
    import pandas as pd

Scores = NDArray[np.float64]
Indices = NDArray[np.int64]
Spectra = tuple[SpectrumFeature | None, ...]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The results of trainings, by function.

    Args:
        name: the name of the benchmark.
        task: the name of the task.
        metric: the name of the metric, such as "accuracy".
        functions: canonical names [n].
        seed_scores: validation scores float64 [n, seeds].
        test_scores: test scores float64 [n, seeds].
        seconds: the durations of the trainings, float64 [n, seeds].
        outputs: values on the fixed sample of N(0, 1), float32 [n, 1000]; NaN where undefined.
        spectra: compact spectra [n] by the kind of Fisher information, "sampled" or "empirical"; None for a function
            without one.
        provenance: how the benchmark was built: command, versions, seeds, dates.
        aliases: other names of each function [n]; by default none.
        other_metrics: float64 [n, seeds] by name: train_score, train_loss, val_loss, ...
        curves: validation scores after each epoch, float64 [n, seeds, epochs], NaN where a training had ended; None if
            they were not recorded.
        higher_is_better: whether higher values of `metric` are better; if not, a score is the negative metric.

    Raises:
        BenchmarkError: parts have different lengths, or a function occurs twice.
    """

    name: str
    task: str
    metric: str
    functions: tuple[str, ...]
    seed_scores: Scores
    test_scores: Scores
    seconds: Scores
    outputs: NDArray[np.float32]
    spectra: Mapping[str, Spectra]
    provenance: Mapping[str, Any]
    aliases: tuple[tuple[str, ...], ...] = ()
    other_metrics: Mapping[str, Scores] = field(default_factory=dict)
    curves: Scores | None = None
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        n = len(self.functions)
        if n == 0 or len(set(self.functions)) < n:
            raise BenchmarkError(
                f"a benchmark needs distinct functions, got {n}, of which {len(set(self.functions))} are distinct"
            )
        if not self.aliases:
            object.__setattr__(self, "aliases", ((),) * n)
        shape = self.seed_scores.shape
        if len(shape) != 2 or 0 in shape:
            raise BenchmarkError(f"seed_scores have shape {shape}; expected ({n}, seeds)")
        tables = {"seed_scores": self.seed_scores, "test_scores": self.test_scores, "seconds": self.seconds}
        for part, values in (tables | dict(self.other_metrics)).items():
            if values.shape != (n, shape[1]):
                raise BenchmarkError(f"{part} have shape {values.shape}; expected ({n}, {shape[1]})")
        if self.curves is not None and (self.curves.ndim != 3 or self.curves.shape[:2] != (n, shape[1])):
            raise BenchmarkError(f"curves have shape {self.curves.shape}; expected ({n}, {shape[1]}, epochs)")
        lengths = {"outputs": len(self.outputs), "aliases": len(self.aliases)}
        for part, length in (lengths | {kind: len(found) for kind, found in self.spectra.items()}).items():
            if length != n:
                raise BenchmarkError(f"{part} are of {length} functions; expected {n}")

    def __len__(self) -> int:
        return len(self.functions)

    @property
    def n_seeds(self) -> int:
        """The largest number of trainings of a function."""
        return int(self.seed_scores.shape[1])

    @property
    def trained(self) -> NDArray[np.bool_]:
        """The mask of trainings that were run, including diverged ones: bool [n, seeds]."""
        return ~np.isnan(self.seconds) | ~np.isnan(self.seed_scores)

    @cached_property
    def scores(self) -> Scores:
        """The median over seeds, float64 [n], with diverged seeds as the worst; NaN if the median training diverged."""
        return _medians(self.seed_scores, self.trained)

    @cached_property
    def baselines(self) -> Indices:
        """The positions of the eight baselines, in their fixed order, int64 [8]; fewer if the benchmark lacks some."""
        from aquasurf_ray.activations import BASELINES

        found = [self.find(name) for name in BASELINES]
        return np.array([i for i in found if i is not None], dtype=np.int64)

    @cached_property
    def candidates(self) -> Indices:
        """The positions of all trained functions but the baselines, which a search can choose from: int64 [c]."""
        return np.setdiff1d(np.flatnonzero(self.trained.any(axis=1)), self.baselines)

    def find(self, function: str) -> int | None:
        """Return the position of a function, by any of its names or by its fingerprint; None if the benchmark lacks it.

        Raises:
            ActivationError: the text is not an expression.
        """
        from aquasurf_ray.activations import fingerprint, parse

        name = str(parse(function))
        position = self._positions.get(name)
        return self._by_fingerprint.get(fingerprint(name)) if position is None else position

    def top(self, fraction: float) -> Indices:
        """Return the functions whose score is at least that of the ceil(fraction * n)-th best, best first: int64 [m].

        Ties are included, so m may be larger; functions that diverged are not.

        Raises:
            BenchmarkError: the fraction is outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise BenchmarkError(f"fraction is {fraction}; it must be above 0 and at most 1")
        finite = np.flatnonzero(~np.isnan(self.scores))
        order = finite[np.argsort(-self.scores[finite], kind="stable")]
        # Less a rounding error: 0.07 * 100 is slightly above 7, and its ceiling would be 8.
        place = min(int(np.ceil(fraction * len(self) - 1e-9)), len(order))
        return order[self.scores[order] >= self.scores[order[place - 1]]] if place else order

    def subset(self, functions: Sequence[int] | Indices) -> Benchmark:
        """Return the benchmark of some of the functions, by position, in the order given."""
        chosen = np.asarray(functions, dtype=np.int64)
        return replace(
            self,
            functions=tuple(self.functions[i] for i in chosen),
            seed_scores=self.seed_scores[chosen],
            test_scores=self.test_scores[chosen],
            seconds=self.seconds[chosen],
            outputs=self.outputs[chosen],
            spectra={kind: tuple(found[i] for i in chosen) for kind, found in self.spectra.items()},
            aliases=tuple(self.aliases[i] for i in chosen),
            other_metrics={name: values[chosen] for name, values in self.other_metrics.items()},
            curves=None if self.curves is None else self.curves[chosen],
        )

    def split(self, seed: int) -> tuple[Benchmark, Benchmark]:
        """Return two random halves, to choose on one and to judge on the other.

        They have only the baselines in common, with which every search begins.
        """
        others = np.setdiff1d(np.arange(len(self)), self.baselines)
        # NumPy promises the raw bits of PCG64 for ever, but not the draws of its Generator: halves stay the same.
        drawn = others[np.argsort(np.random.PCG64(seed).random_raw(len(others)), kind="stable")]
        halves = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
        first, second = (self.subset(np.sort(np.concatenate([self.baselines, half]))) for half in halves)
        return first, second

    @property
    def table(self) -> pd.DataFrame:
        """The benchmark as a pandas DataFrame, one row a function.

        Columns: function, n_operators, status (done, diverged or missing), val_score (the median over seeds, as in
        `scores`), val_score_0, val_score_1, ... (one a seed), test_score, the other metrics and seconds (medians over
        the seeds that have them), aliases (a list of names).
        """
        import pandas as pd

        from aquasurf_ray.activations.expression import count_operators  # loads PyTorch, which simulated workers lack

        status = np.where(self.trained.any(axis=1), "diverged", "missing")
        status[~np.isnan(self.scores)] = "done"
        columns = {
            "function": list(self.functions),
            "n_operators": [count_operators(name) for name in self.functions],
            "status": status.tolist(),
            "val_score": self.scores,
            **{f"val_score_{seed}": scores for seed, scores in enumerate(self.seed_scores.T)},
            "test_score": _finite_medians(self.test_scores),
            **{name: _finite_medians(values) for name, values in self.other_metrics.items()},
            "seconds": _finite_medians(self.seconds),
            "aliases": [list(names) for names in self.aliases],
        }
        return pd.DataFrame(columns)

    @cached_property
    def _positions(self) -> dict[str, int]:
        # A function's own name wins over an alias of another one.
        names = {alias: i for i, aliases in enumerate(self.aliases) for alias in aliases}
        return names | {name: i for i, name in enumerate(self.functions)}

    @cached_property
    def _by_fingerprint(self) -> dict[str, int]:
        """The positions by fingerprint, of the functions whose operators are registered in this process."""
        from aquasurf_ray.activations import ActivationError, fingerprint

        found: dict[str, int] = {}
        for i, name in enumerate(self.functions):
            try:
                found.setdefault(fingerprint(name), i)
            except ActivationError:
                continue  # a benchmark may have functions with somebody's own operators
        return found


def _medians(values: Scores, trained: NDArray[np.bool_]) -> Scores:
    """Return the median of each row's trainings, with NaN as the worst; NaN if the median is NaN."""
    counted = trained.sum(axis=1)
    low = np.where(np.isnan(values), -np.inf, values)
    low[~trained] = np.inf  # sorted after all others, where the median does not look
    ascending = np.sort(low, axis=1)
    rows = np.arange(len(values))
    medians: Scores = (ascending[rows, np.maximum(counted - 1, 0) // 2] + ascending[rows, counted // 2]) / 2
    medians[~np.isfinite(medians)] = np.nan
    return medians


def _finite_medians(values: Scores) -> Scores:
    """Return the median of each row, with NaN left out; NaN where the row has nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice", category=RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=1), dtype=np.float64)
