"""The forecast of a search's duration, from one spectrum and one training, and what to change if it is long.

A run forecasts from its own first spectrum and its first measured cost, which it needs anyway, so the forecast costs no
work of its own; only the first spectrum comes before the first training. By then Ray and the workers have started. How
long that takes is not known before, so the forecast of a check says that it comes on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from aquasurf_ray.counted import counted
from aquasurf_ray.driver.cluster.slot import Outcome, SpectraJob
from aquasurf_ray.driver.run.claims import Budget
from aquasurf_ray.driver.run.store_records import evaluation_result
from aquasurf_ray.driver.run_kinds import KINDS
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.duration_text import duration_text
from aquasurf_ray.measured_cost import IN_NO_TIME, ReadingTime, measurement_seconds
from aquasurf_ray.tasks import Task
from aquasurf_ray.workers.messages import Drained, TrainingJob

FORWARD_SHARE = 1 / 3
"""The time of a validation step as a part of a training step's, which has the backward pass too."""
FIRST_BATCHES = 2
"""Batches besides those of the epochs: for the health gate and the choice of a form, or for the form and the cost."""
LONG_SECONDS = 86_400.0
LONG_SPECTRUM_SECONDS = 60.0
"""A spectrum that takes longer is worth a smaller batch also in a search that takes no day."""
SMALLER_BATCH = 4
LEAST_SPECTRUM_BATCH = 16
START = "; the start of Ray and of the workers, each of which imports PyTorch, comes on top"
"""What the forecast of a search that has not begun leaves out; more than the rest of a search of short trainings."""


@dataclass(frozen=True)
class Forecast:
    """Seconds of one spectrum, None where none is needed, of one training, and of the measurement of one function's
    cost, None where none is measured, on one worker."""

    spectrum_seconds: float | None
    training_seconds: float
    cost_seconds: float | None = None

    def seconds(self, n_spectra: int, n_trainings: int, n_workers: int, n_costs: int = 0) -> float:
        """Return how long the whole takes; the last round of trainings leaves some workers idle.

        >>> Forecast(2.0, 60.0).seconds(100, 10, 4), Forecast(2.0, 60.0, 0.5).seconds(100, 10, 4, 8)
        (230.0, 231.0)
        """
        return sum(self._parts(n_spectra, n_trainings, n_workers, n_costs))

    def text(
        self,
        n_spectra: int,
        n_trainings: int,
        n_workers: int,
        *,
        n_costs: int = 0,
        spectrum_batch_size: int | None = None,
    ) -> str:
        """Return the forecast as a sentence, with what to change if the whole takes days or a spectrum takes minutes.

        Args:
            spectrum_batch_size: the task's; None if the task and the candidates cannot be changed any more, so that
                there is nothing to advise.
        """
        seconds = self._parts(n_spectra, n_trainings, n_workers, n_costs)
        parts = [
            ("a spectrum takes", self.spectrum_seconds, counted(n_spectra, "spectrum", "spectra")),
            ("a training takes", self.training_seconds, counted(n_trainings, "training")),
            ("measuring a cost takes", self.cost_seconds, counted(n_costs, "cost")),
        ]
        known = [(takes, of_one, work) for takes, of_one, work in parts if of_one is not None]
        each = ", ".join(f"{takes} about {_seconds(of_one)}" for takes, of_one, _ in known)
        *first, last = (work for *_, work in known)
        work = f"{', '.join(first)} and {last}" if first else last
        text = f"forecast: {each}; {work} with {counted(n_workers, 'worker')} take about {duration_text(sum(seconds))}"
        advice = [] if spectrum_batch_size is None else self._advice(seconds, spectrum_batch_size)
        return "; ".join([text, *advice])

    def _parts(self, n_spectra: int, n_trainings: int, n_workers: int, n_costs: int) -> tuple[float, float, float]:
        """Return how long spectra, trainings and costs take."""
        return (
            (self.spectrum_seconds or 0.0) * n_spectra / n_workers,
            self.training_seconds * math.ceil(n_trainings / n_workers),
            (self.cost_seconds or 0.0) * n_costs / n_workers,
        )

    def _advice(self, parts: tuple[float, float, float], spectrum_batch_size: int) -> list[str]:
        """Return what shortens the largest part of a search of days, and what shortens spectra of minutes."""
        spectra, trainings, costs = parts
        most = max(parts) if sum(parts) >= LONG_SECONDS else None
        smaller = max(LEAST_SPECTRUM_BATCH, spectrum_batch_size // SMALLER_BATCH)
        advice = []
        if spectra and (spectra == most or (self.spectrum_seconds or 0.0) >= LONG_SPECTRUM_SECONDS):
            remedy = (
                f"Task(spectrum_batch_size={smaller}) instead of {spectrum_batch_size} makes them faster, and "
                "--candidates fewer"
                if smaller < spectrum_batch_size
                else "fewer --candidates or more --workers shorten it"
            )
            advice.append(f"{duration_text(spectra)} of it are spectra: {remedy}")
        if trainings == most:
            remedy = "a recipe of fewer epochs, more --workers or fewer --evaluations shorten it"
            advice.append(f"{duration_text(trainings)} of it are trainings: {remedy}")
        if costs == most:
            remedy = "fewer --candidates, more --workers or no --max-cost shorten it"
            advice.append(f"{duration_text(costs)} of it are costs: {remedy}")
        return advice


def training_seconds(
    task: Task, sizes: dict[str, int], step_seconds: float, step_size: float, reading: ReadingTime = IN_NO_TIME
) -> float:
    """Return how long one training takes, from the time of a step of `step_size` examples that are read already.

    Args:
        sizes: the number of examples of each split.
        reading: the time of reading them; batches that come before the first epoch are read for themselves.
    """
    n_trained = sizes["train"] + FORWARD_SHARE * sizes["validation"]
    computing = step_seconds / step_size * (task.recipe.epochs * n_trained + FORWARD_SHARE * sizes["test"])
    together = max if reading.overlaps else sum
    return together((computing, reading.training_seconds)) + FIRST_BATCHES * reading.batch_seconds


def cost_seconds(step_seconds: float, reading: ReadingTime = IN_NO_TIME) -> float:
    """Return how long the measurement of one function's cost takes, with the batches that are read for it."""
    return measurement_seconds(step_seconds) + FIRST_BATCHES * reading.batch_seconds


class RunForecast:
    """The forecast of one search, or of what is left of one that is resumed, noted once, as soon as the times of a
    spectrum and of a training are known."""

    def __init__(self, context: RunContext, task: Task, budget: Budget, *, spectra: bool) -> None:
        self._context, self._task = context, task
        history = context.history
        # All that this session has to do, so that the forecast, the check and the progress have the same counts.
        self._n_spectra = len(history.without_spectrum(len(history.candidates))) if spectra else 0
        self._n_trainings = budget.in_total(history.evaluations) - history.n_finished(baselines=True)
        self._n_measured = 0
        self._spectrum_seconds: float | None = None
        self._training_seconds: float | None = None
        self._reading: ReadingTime | None = None
        self._steps: list[float] = []
        self._is_resumed = history.n_finished(baselines=True) > 0
        self._is_over = not KINDS[context.run.kind].suggests
        self._is_begun = False

    def take_first_spectrum(self) -> bool:
        """Return, once, whether a spectrum should be computed before all else."""
        first = self._n_spectra and not self._is_over and not self._is_begun and not self._context.history.spectra
        self._is_begun = True
        return bool(first)

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what workers have done, and note the forecast once it is known."""
        if self._is_over and self._training_seconds is not None:
            return
        for outcome in outcomes:
            if outcome.fault is None and not isinstance(outcome.reply, Drained):
                self._take_in(outcome)
        self._training_seconds = self._training_seconds or self._from_costs()
        spectrum = self._spectrum_seconds or self._stored_spectrum_seconds()
        if not self._is_over and self._training_seconds is not None and (spectrum is not None or not self._n_spectra):
            self._is_over = True
            self._note(spectrum, self._training_seconds)

    @property
    def of_a_training(self) -> float | None:
        """How long a training takes, if that can be told."""
        return self._training_seconds

    def _take_in(self, outcome: Outcome) -> None:
        if isinstance(outcome.job, SpectraJob):
            self._spectrum_seconds = sum(reply.seconds for reply in outcome.reply) / len(outcome.reply)
        elif isinstance(outcome.job, TrainingJob):
            result = evaluation_result(outcome.reply, outcome.worker)
            if result.status == "done" and result.stopped_early is None:
                self._training_seconds = result.seconds
        else:
            self._n_measured += len(outcome.job.functions)
            self._steps += [reply.step_seconds for reply in outcome.reply if reply.step_seconds is not None]
            measured = [reply.reading for reply in outcome.reply if reply.reading is not None]
            self._reading = next(iter(measured), self._reading or IN_NO_TIME)

    def _from_costs(self) -> float | None:
        """Return how long a training takes by the time of a step and of reading; None before this run has measured a
        cost, since the store has no time of reading."""
        step = self._step_seconds()
        if step is None or self._reading is None:
            return None
        sizes = self._task.spec()["data"]
        return training_seconds(self._task, sizes, step, self._task.step_examples, self._reading)

    def _stored_spectrum_seconds(self) -> float | None:
        """Return how long a spectrum took that the run found in the store, before it was resumed or in another run."""
        seconds = [found.seconds for found in self._context.history.spectra.values() if found.seconds is not None]
        return median(seconds) if seconds else None

    def _step_seconds(self) -> float | None:
        """Return how long a training step takes by the wall clock; of costs that are known without that, as they are
        compared: they lack the time in which a network waits."""
        costs = self._context.history.costs.values()
        seconds = self._steps or [cost.step_seconds for of_function in costs for cost in of_function.values()]
        return median(seconds) if seconds else None

    def _n_costs(self) -> int:
        """Return how many costs the run measures: those of all candidates, if it limits the cost, or else those of the
        functions that it trains; none if it has measured none yet, since the store may have them all."""
        history = self._context.history
        if not self._n_measured:
            return 0
        if self._context.config.max_cost is not None:
            return self._n_measured + sum(function.id not in history.costs for function in history.candidates)
        return max(0, self._n_trainings - len(history.costs)) + self._n_measured

    def _note(self, spectrum_seconds: float | None, training_seconds: float) -> None:
        step, n_costs = self._step_seconds(), self._n_costs()
        of_cost = cost_seconds(step, self._reading or IN_NO_TIME) if n_costs and step is not None else None
        forecast = Forecast(spectrum_seconds if self._n_spectra else None, training_seconds, of_cost)
        # Of a run that is resumed, neither the task nor the candidates can be changed any more.
        batch_size = None if self._is_resumed else self._task.spectrum_batch_size
        work = self._n_spectra, self._n_trainings, self._context.pool.n
        self._context.events.note(forecast.text(*work, n_costs=n_costs, spectrum_batch_size=batch_size))


def _seconds(seconds: float) -> str:
    """Return a time; those below ten seconds with the digits that make two of them comparable."""
    return f"{seconds:.2g} s" if seconds < 10 else duration_text(seconds)
