"""A benchmark: all functions of a space with the results of their trainings, so that a search can be replayed on it.

Format: everything is by function, in one order: n functions, `seeds` trainings of each. A score is the task's metric on
the validation split, the higher the better (the sign is changed where less is better). A training that diverged has
the score NaN and its seconds; one that never was has NaN for both.
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
    """What trainings gave, by function.

    Args:
        name: of the benchmark.
        task: what was trained.
        metric: what `score` is, such as "accuracy".
        functions: canonical names [n].
        seed_scores: validation scores float64 [n, seeds].
        test_scores: the same of the test split.
        seconds: how long the trainings took, float64 [n, seeds].
        outputs: values on the fixed sample of N(0, 1), float32 [n, 1000]; NaN where undefined.
        spectra: compact spectra [n] by the kind of Fisher information, "sampled" or "empirical"; None where there is
            none.
        provenance: how it was made: command, versions, seeds, dates.
        aliases: other names of each function [n]; none where left out.
        figures: other figures of the trainings float64 [n, seeds], by name: train_score, train_loss, val_loss, ...
        higher_is_better: whether `metric` is, so that the sign of a score is the metric's own.

    Raises:
        BenchmarkError: parts of different lengths, or a function twice.
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
    figures: Mapping[str, Scores] = field(default_factory=dict)
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        n = len(self.functions)
        if n == 0 or len(set(self.functions)) < n:
            raise BenchmarkError(f"a benchmark needs different functions, got {n}, {len(set(self.functions))} differ")
        if not self.aliases:
            object.__setattr__(self, "aliases", ((),) * n)
        shape = self.seed_scores.shape
        if len(shape) != 2 or 0 in shape:
            raise BenchmarkError(f"seed_scores have shape {shape}; expected ({n}, seeds)")
        tables = {"seed_scores": self.seed_scores, "test_scores": self.test_scores, "seconds": self.seconds}
        for part, values in (tables | dict(self.figures)).items():
            if values.shape != (n, shape[1]):
                raise BenchmarkError(f"{part} have shape {values.shape}; expected ({n}, {shape[1]})")
        lengths = {"outputs": len(self.outputs), "aliases": len(self.aliases)}
        for part, length in (lengths | {kind: len(found) for kind, found in self.spectra.items()}).items():
            if length != n:
                raise BenchmarkError(f"{part} are of {length} functions; expected {n}")

    def __len__(self) -> int:
        return len(self.functions)

    @property
    def n_seeds(self) -> int:
        """How many trainings a function has, at most."""
        return int(self.seed_scores.shape[1])

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which trainings there are, diverged ones among them: bool [n, seeds]."""
        return ~np.isnan(self.seconds) | ~np.isnan(self.seed_scores)

    @cached_property
    def scores(self) -> Scores:
        """Median over seeds float64 [n], a diverged seed at the worse end; NaN where the median one diverged."""
        return _medians(self.seed_scores, self.trained)

    @cached_property
    def baselines(self) -> Indices:
        """Where the eight baselines are, in their fixed order, int64 [8]; fewer in a benchmark that lacks some."""
        from aquasurf_ray.activations import BASELINES

        found = [self.find(name) for name in BASELINES]
        return np.array([i for i in found if i is not None], dtype=np.int64)

    @cached_property
    def candidates(self) -> Indices:
        """What a search can train beside the baselines: functions with a training, diverged or not, int64 [c]."""
        return np.setdiff1d(np.flatnonzero(self.trained.any(axis=1)), self.baselines)

    def find(self, function: str) -> int | None:
        """Where a function is, by any of its names or by what it computes; None if the benchmark lacks it.

        Raises:
            ActivationError: not the name of a function.
        """
        from aquasurf_ray.activations import fingerprint, parse

        name = str(parse(function))
        position = self._positions.get(name)
        return self._by_fingerprint.get(fingerprint(name)) if position is None else position

    def top(self, fraction: float) -> Indices:
        """The functions whose score is at least that of the ceil(fraction * n)-th best, best first: int64 [m].

        Ties are included, so that m may be more; functions that diverged never are.

        Raises:
            BenchmarkError: a fraction outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise BenchmarkError(f"fraction is {fraction}; it must be above 0 and at most 1")
        finite = np.flatnonzero(~np.isnan(self.scores))
        order = finite[np.argsort(-self.scores[finite], kind="stable")]
        place = min(int(np.ceil(fraction * len(self) - 1e-9)), len(order))
        return order[self.scores[order] >= self.scores[order[place - 1]]] if place else order

    def subset(self, functions: Sequence[int] | Indices) -> Benchmark:
        """The benchmark of some of its functions, by position, in the order given."""
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
            figures={name: values[chosen] for name, values in self.figures.items()},
        )

    def split(self, seed: int) -> tuple[Benchmark, Benchmark]:
        """Two halves, drawn at random, to choose on one and to judge on the other.

        They have no function in common but the baselines, with which every search begins.
        """
        others = np.setdiff1d(np.arange(len(self)), self.baselines)
        drawn = others[np.argsort(np.random.PCG64(seed).random_raw(len(others)), kind="stable")]
        halves = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
        first, second = (self.subset(np.sort(np.concatenate([self.baselines, half]))) for half in halves)
        return first, second

    @property
    def table(self) -> pd.DataFrame:
        """The benchmark as a pandas DataFrame, one row a function.

        Columns: function, n_operators, status (done, diverged or missing), val_score (the median over seeds, as in
        `scores`), val_score_0, val_score_1, ... (one a seed), test_score, the other figures and seconds (medians over
        the seeds that have them), aliases (a list of names).
        """
        import pandas as pd

        status = np.where(self.trained.any(axis=1), "diverged", "missing")
        status[~np.isnan(self.scores)] = "done"
        columns = {
            "function": list(self.functions),
            "n_operators": [name.count("(") for name in self.functions],
            "status": status.tolist(),
            "val_score": self.scores,
            **{f"val_score_{seed}": scores for seed, scores in enumerate(self.seed_scores.T)},
            "test_score": _finite_medians(self.test_scores),
            **{name: _finite_medians(values) for name, values in self.figures.items()},
            "seconds": _finite_medians(self.seconds),
            "aliases": [list(names) for names in self.aliases],
        }
        return pd.DataFrame(columns)

    @cached_property
    def _positions(self) -> dict[str, int]:
        names = {alias: i for i, aliases in enumerate(self.aliases) for alias in aliases}
        return names | {name: i for i, name in enumerate(self.functions)}

    @cached_property
    def _by_fingerprint(self) -> dict[str, int]:
        """Of the functions whose operators are known here."""
        from aquasurf_ray.activations import ActivationError, fingerprint

        found: dict[str, int] = {}
        for i, name in enumerate(self.functions):
            try:
                found.setdefault(fingerprint(name), i)
            except ActivationError:
                continue  # made elsewhere, with operators of somebody's own
        return found


def _medians(values: Scores, trained: NDArray[np.bool_]) -> Scores:
    """Of each row's trainings, with NaN taken for the worst; NaN where that is in the middle."""
    counted = trained.sum(axis=1)
    low = np.where(np.isnan(values), -np.inf, values)
    low[~trained] = np.inf  # sorted behind all others
    ascending = np.sort(low, axis=1)
    rows = np.arange(len(values))
    medians: Scores = (ascending[rows, np.maximum(counted - 1, 0) // 2] + ascending[rows, counted // 2]) / 2
    medians[~np.isfinite(medians)] = np.nan
    return medians


def _finite_medians(values: Scores) -> Scores:
    """The median of each row, with NaN left out; NaN where the row has nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice", category=RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=1), dtype=np.float64)
