"""How fast a run gets on, and how long the rest of it takes: the one estimate that terminal, `status` and `watch` show.

It is made of what workers have measured in this session: the seconds that a training occupies a worker, and those of a
spectrum and of a cost. The time before is in none of them: Ray and the workers start once, and spectra are not as long
as trainings. Nothing is estimated before all that is left has been measured, or forecast, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean, median

from aquasurf_ray.driver.cluster.slot import CostsJob, Outcome, Slot, SpectraJob
from aquasurf_ray.driver.events import RunPace
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.workers.messages import Drained, TrainingJob

RECENT = 50  # trainings that a mean is over, so that it follows machines that come and go
RECENT_FUNCTIONS = 100


class PaceOfWorkers:
    """The times that the workers of one session take."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._trainings: deque[float] = deque(maxlen=RECENT)
        stored = (found.seconds for found in context.history.spectra.values() if found.seconds is not None)
        self._spectra = deque(stored, maxlen=RECENT_FUNCTIONS)
        self._costs: deque[float] = deque(maxlen=RECENT_FUNCTIONS)
        # Trainings that began before may resume from a checkpoint, so that they say nothing about a whole one.
        self._begun = {number for number, each in context.history.evaluations.items() if each.begun}
        self._measuring: dict[int, float] = {}  # by evaluation: seconds of its cost, which precedes its training
        self._warm: set[int] = set()
        self._has_whole = False

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what workers have done."""
        now = self._context.clock()
        for outcome in outcomes:
            claim, seconds = outcome.work.claim, now - outcome.work.started
            if outcome.fault is not None or isinstance(outcome.reply, Drained):
                if claim is not None:
                    self._begun.add(claim.evaluation_id)
            elif isinstance(outcome.job, SpectraJob):
                self._spectra.extend(reply.seconds for reply in outcome.reply)
            elif claim is None:
                self._costs.extend(reply.seconds for reply in outcome.reply)
            elif isinstance(outcome.job, CostsJob):
                self._measuring[claim.evaluation_id] = seconds if outcome.slot in self._warm else 0.0
                self._warm.add(outcome.slot)
            else:
                self._settle_training(outcome, claim.evaluation_id, seconds)

    def _settle_training(self, outcome: Outcome, evaluation_id: int, seconds: float) -> None:
        seconds += self._measuring.pop(evaluation_id, 0.0)
        if evaluation_id not in self._begun:
            self._begun.add(evaluation_id)  # a paused training goes on later
            # In a worker's first training, modules are imported before the first epoch.
            is_first = outcome.slot not in self._warm
            self._trainings.append(min(seconds, outcome.reply.seconds) if is_first else seconds)
            self._has_whole |= outcome.reply.status == "done" and outcome.reply.stopped_early is None
        self._warm.add(outcome.slot)

    def now(self, n_trainings: int, n_spectra: int, n_costs: int, forecast: float | None) -> RunPace:
        """Return the pace, and the seconds that the rest takes.

        Args:
            n_trainings: the trainings that are left, with those under way.
            n_spectra, n_costs: those of candidates that are left, with those under way.
            forecast: the seconds of a training, if they were forecast.
        """
        workers = [slot for slot in self._context.pool.live() if slot.info is not None and not slot.leaving]
        each = self._training_seconds(workers, forecast)
        spectrum, cost = (median(seconds) if seconds else None for seconds in (self._spectra, self._costs))
        parts = ((n_trainings, each), (n_spectra, spectrum), (n_costs, cost))
        is_known = workers and all(seconds is not None for n, seconds in parts if n)
        preparing = n_spectra * (spectrum or 0.0) + n_costs * (cost or 0.0)
        return RunPace(
            training_seconds=each,
            spectrum_seconds=spectrum,
            cost_seconds=cost,
            per_hour=3600 * len(workers) / each if each else None,
            seconds_left=self._seconds_left(workers, n_trainings, each or 0.0, preparing) if is_known else None,
        )

    def _training_seconds(self, workers: Sequence[Slot], forecast: float | None) -> float | None:
        """Return how long a training occupies a worker: the mean, in which those that end early have their share, once
        one ran to its end."""
        if self._has_whole:
            return fmean(self._trainings)
        under_way = [self._elapsed(slot) for slot in workers if isinstance(slot.job, TrainingJob)]
        return None if forecast is None else max(forecast, *under_way, 0.0)

    def _seconds_left(self, workers: Sequence[Slot], n_trainings: int, each: float, preparing: float) -> float:
        elapsed = [(self._elapsed(slot), slot.work is not None and slot.work.claim is not None) for slot in workers]
        busy = [max(0.0, each - seconds) if trains else 0.0 for seconds, trains in elapsed]
        prepared = sum(seconds for seconds, trains in elapsed if not trains)
        n_to_begin = max(0, n_trainings - sum(trains for _, trains in elapsed))
        return max(0.0, preparing - prepared) / len(workers) + seconds_until_all_end(busy, n_to_begin, each)

    def _elapsed(self, slot: Slot) -> float:
        return 0.0 if slot.work is None else self._context.clock() - slot.work.started


def seconds_until_all_end(busy: Sequence[float], n: int, each: float) -> float:
    """Return when the last of `n` trainings of `each` seconds ends, which workers begin in turn.

    Args:
        busy: the seconds for which each worker has something else to do, at most `each`.

    >>> seconds_until_all_end([2.0, 0.0], 0, 10.0), seconds_until_all_end([2.0, 0.0], 1, 10.0)
    (2.0, 10.0)
    >>> seconds_until_all_end([2.0, 0.0], 2, 10.0), seconds_until_all_end([2.0, 0.0], 3, 10.0)
    (12.0, 20.0)
    """
    rounds, rest = divmod(n, len(busy))
    ends = sorted(seconds + rounds * each for seconds in busy)
    return max(*ends, *(end + each for end in ends[:rest]), 0.0)
