"""The answers of simulated workers: a benchmark's results, spectra and costs, and failures at random.

A function that the benchmark lacks gets all answers of one benchmark function, which a hash of its name selects: a
simulated search may have more candidates than the benchmark has functions and still has something to learn. The
learning curve of a training rises to the benchmark's score. Costs are ratios of the benchmark's run times.

There is no random state: whether an attempt fails depends only on the seed, the function, the training seed and the
number of the attempt. Nothing waits here either: the caller decides whether seconds are real or virtual.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.benchmarks.parquet import load_benchmark
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.measured_cost import MeasuredCost
from aquasurf_ray.training_metrics import TrainingMetrics
from aquasurf_ray.workers.messages import CostReply, SpectrumReply, TrainingJob
from aquasurf_ray.workers.result import Epoch, TrainingResult, final_metrics

Fault = Literal["crash", "error", "hang"]
DEVICE = "cpu"
STEP_SECONDS = 0.01  # of ReLU; any value does, since only ratios are used
ACTIVATION_BYTES = 1_000_000
CHANCE = 0.1  # share of the final score at which a learning curve begins


@dataclass(frozen=True)
class Failures:
    """The probabilities that an attempt fails: by the death of its process, by an error, or by hanging forever."""

    crash: float = 0.0
    error: float = 0.0
    hang: float = 0.0

    def __post_init__(self) -> None:
        if min(self.crash, self.error, self.hang) < 0 or self.crash + self.error + self.hang > 1:
            raise ValueError(f"probabilities of faults must be positive and at most 1 together, got {self}")


@dataclass(frozen=True)
class Simulation:
    """The behaviour of a simulated cluster.

    Args:
        benchmark: a name or a file, as `load_benchmark` takes it.
        scale: the divisor of the benchmark's run times.
        training_seconds: the duration of every training, if not the benchmark's, before the division by `scale`.
        spectrum_seconds, cost_seconds: the duration of one spectrum and of one cost, before the division by `scale`.
        epochs: the number of epochs of a training.
        trainings, spectra: the probabilities that an attempt fails.
        slow_starts: the probability that a worker takes `slow_start_seconds` (not scaled) to start.
        seed: the random seed of all failures.

    Raises:
        ValueError: the scale is not positive, or there is less than one epoch.
    """

    benchmark: str = "act-bench-digits"
    scale: float = 1.0
    training_seconds: float | None = None
    spectrum_seconds: float = 0.0
    cost_seconds: float = 0.0
    epochs: int = 8
    trainings: Failures = field(default_factory=Failures)
    spectra: Failures = field(default_factory=Failures)
    slow_starts: float = 0.0
    slow_start_seconds: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.scale > 0 or self.epochs < 1:
            raise ValueError(f"scale must be positive and epochs at least 1, got {self.scale} and {self.epochs}")

    def training_fault(self, job: TrainingJob, attempt: int) -> tuple[Fault, int] | None:
        """Return how this attempt (from 1) at a training fails, and in which epoch; None if it does not fail."""
        key = f"training {job.function} {job.seed} {attempt}"
        fault = self._fault(self.trainings, key)
        return None if fault is None else (fault, 1 + int(self._chance(f"epoch of {key}") * self.epochs))

    def spectrum_fault(self, function: str, attempt: int) -> Fault | None:
        """Return how this attempt (from 1) at a spectrum fails; None if it does not fail."""
        return self._fault(self.spectra, f"spectrum {function} {attempt}")

    def start_seconds(self, start: int) -> float:
        """Return the extra seconds that the start with this number (from 1) takes."""
        return self.slow_start_seconds if self._chance(f"start {start}") < self.slow_starts else 0.0

    def _fault(self, failures: Failures, key: str) -> Fault | None:
        drawn = self._chance(key)
        ranks: tuple[tuple[Fault, float], ...] = (
            ("crash", failures.crash),
            ("error", failures.error),
            ("hang", failures.hang),
        )
        for fault, likely in ranks:
            if drawn < likely:
                return fault
            drawn -= likely
        return None

    def _chance(self, key: str) -> float:
        return _draw(f"{self.seed} {key}") / 2**64


class Answers:
    """The benchmark's answers to the questions that workers get, with `seconds` scaled."""

    def __init__(self, simulation: Simulation, benchmark: Benchmark | None = None) -> None:
        self._simulation = simulation
        self._benchmark = benchmark or load_benchmark(simulation.benchmark)
        self._positions = {alias: i for i, names in enumerate(self._benchmark.aliases) for alias in names}
        self._positions |= {name: i for i, name in enumerate(self._benchmark.functions)}

    def training(self, job: TrainingJob) -> TrainingResult:
        """Return a training's result, with its curve up to the epoch in which the job's rule ended it.

        A benchmark is of one recipe, so the answer to another one is the same.
        """
        row = self._row(job.function)
        column = self._column(row, job.seed)
        score = float(self._benchmark.seed_scores[row, column])
        seconds = self._training_seconds(row, column)
        if math.isnan(score):
            return self._result(None, (), seconds * self._diverged_at(job), "non-finite-loss")
        curve: list[Epoch] = []
        why = None
        for number in range(1, self._simulation.epochs + 1):
            curve.append(self._epoch(number, score, row, column, seconds / self._simulation.epochs))
            why = job.stop_rule.verdict(number, curve[-1].val_score, self._simulation.epochs) if job.stop_rule else None
            if why:
                break
        return self._result(self._metrics(curve[-1], row, column, why), tuple(curve), _total(curve))

    def spectrum(self, function: str, fisher: str) -> SpectrumReply:
        """Return a spectrum in its stored form."""
        seconds = self._simulation.spectrum_seconds / self._simulation.scale
        feature = self._benchmark.spectra[fisher][self._row(function)]
        if feature is None:
            return SpectrumReply(function, "diverged", "no spectrum in the benchmark", None, seconds, DEVICE)
        return SpectrumReply(function, "done", None, feature.to_bytes(), seconds, DEVICE)

    def cost(self, function: str) -> CostReply:
        """Return a cost relative to ReLU."""
        ratio = self._mean_seconds(self._row(function)) / self._mean_seconds(self._row(REFERENCE))
        ratio = 1.0 if function == REFERENCE or not math.isfinite(ratio) else ratio
        memory = round(ACTIVATION_BYTES * max(1.0, ratio))
        cost = MeasuredCost(DEVICE, STEP_SECONDS * ratio, STEP_SECONDS, memory, ACTIVATION_BYTES)
        return CostReply(function, "done", None, cost, self._simulation.cost_seconds / self._simulation.scale)

    @cached_property
    def _trained(self) -> list[int]:
        """The rows with a training, which can stand in for functions that the benchmark lacks."""
        return np.flatnonzero(self._benchmark.trained.any(axis=1)).tolist()

    def _row(self, function: str) -> int:
        row = self._positions.get(function)
        if row is not None and self._benchmark.trained[row].any():
            return row
        return self._trained[_draw(function) % len(self._trained)]

    def _column(self, row: int, seed: int) -> int:
        """Return the column of the training with this seed, or of another one if the benchmark lacks this seed."""
        columns = np.flatnonzero(self._benchmark.trained[row])
        return int(columns[seed % len(columns)])

    def _training_seconds(self, row: int, column: int) -> float:
        seconds = self._simulation.training_seconds
        if seconds is None:
            seconds = float(np.nan_to_num(self._benchmark.seconds[row, column]))
        return seconds / self._simulation.scale

    def _mean_seconds(self, row: int) -> float:
        seconds = self._benchmark.seconds[row]
        known = seconds[np.isfinite(seconds)]
        return float(known.mean()) if len(known) else math.nan

    def _diverged_at(self, job: TrainingJob) -> float:
        return _draw(f"divergence of {job.function} {job.seed}") / 2**64

    def _epoch(self, number: int, score: float, row: int, column: int, seconds: float) -> Epoch:
        """Return an epoch of a curve that rises exponentially to the final score."""
        n = self._simulation.epochs
        share = 1.0 if number == n else CHANCE + (1 - CHANCE) * (1 - math.exp(-4 * number / n))
        at = score - (1 - share) * abs(score)  # below the final score, also where scores are negative
        train = self._metric("train_score", row, column)
        train = at if train is None else train - (1 - share) * abs(train)
        losses = (self._metric("train_loss", row, column), self._metric("val_loss", row, column))
        train_loss, val_loss = ((1.0 if loss is None else loss) / share for loss in losses)
        return Epoch(
            number, train_loss, train, self._accuracy(train), val_loss, at, self._accuracy(at), 0.1 / number, seconds
        )

    def _metrics(self, last: Epoch, row: int, column: int, why: str | None) -> TrainingMetrics:
        test = float(self._benchmark.test_scores[row, column])
        return final_metrics(
            last,
            test_loss=self._metric("test_loss", row, column),
            test_score=test,
            test_accuracy=self._accuracy(test),
            stopped_early=why,
        )

    def _metric(self, name: str, row: int, column: int) -> float | None:
        values = self._benchmark.other_metrics.get(name)
        return None if values is None or math.isnan(values[row, column]) else float(values[row, column])

    def _accuracy(self, score: float) -> float | None:
        return score if self._benchmark.metric == "accuracy" else None

    def _result(
        self, metrics: TrainingMetrics | None, curve: tuple[Epoch, ...], seconds: float, reason: str | None = None
    ) -> TrainingResult:
        return TrainingResult(
            status="done" if metrics else "diverged",
            reason=reason,
            **vars(metrics or TrainingMetrics()),
            epochs=curve,
            seconds=seconds,
            examples_per_second=1000.0,
            peak_memory_mb=100.0,
            device=DEVICE,
            n_devices=1,
            precision="float32",
        )


def _total(curve: list[Epoch]) -> float:
    return sum(epoch.seconds for epoch in curve)


def _draw(key: str) -> int:
    """Return a number below 2^64 that depends only on the text."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
