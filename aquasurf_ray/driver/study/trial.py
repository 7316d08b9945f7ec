"""Trials, as a user's loop has them: a function to train, which is told the value that it reached."""

from __future__ import annotations

import math
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aquasurf_ray.as_float import as_float
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.store import AskedTrial, EpochRecord, EvaluationResult

if TYPE_CHECKING:
    from aquasurf_ray.activations import Activation

State = Literal["open", "told", "failed", "lost"]


class TrialOwner(Protocol):
    """The part of `Study` that a trial uses."""

    def fail(self, trial: Trial, reason: str = "") -> None:
        """Record that a trial failed."""

    def refuse_ended(self, trial: Trial) -> None:
        """Raise TrialEnded if a trial has ended, and BadUse if the study is closed."""


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a study: its number, its function and the value that it was told."""

    number: int
    function: str
    value: float


class Trial:
    """A function that this process was asked to train, until its value is told.

    Attributes:
        number: its place in the study, from 0; a trial that is asked again keeps it.
        function: the function as text, for `aquasurf_ray.Activation`, logs and other processes.
        seed: the seed of this training: `training_seed`, or a further one if the study has `leader_seeds`.
        state: `open`, `told`, `failed`, or `lost` if its lease expired and another process was given the function.
    """

    def __init__(self, study: TrialOwner, asked: AskedTrial, function: str) -> None:
        assert asked.number is not None  # noqa: S101 - only trials that were claimed are handed out
        self.number: int = asked.number
        self.function = function
        self.seed = asked.claim.record.seed
        self.state: State = "open"
        # A weak reference: a study that nobody has any more gives its trials back.
        self._study, self.asked = weakref.ref(study), asked
        self._started = time.monotonic()
        self._course: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"Trial({self.number}, '{self.function}', {self.state})"

    def activation(self) -> Activation:
        """Return a new module of the function; learned parameters are not shared between modules."""
        from aquasurf_ray.activations import Activation

        return Activation(self.function)

    def report(self, value: float, epoch: int) -> None:
        """Add a point to the trial's learning curve, which is stored with its value.

        Raises:
            BadUse: the epoch is not a positive whole number, the value is not a number, or the Study was closed.
            TrialEnded: the trial was told before, or it failed.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 1:
            raise BadUse(f"epoch must be a whole number from 1, got {epoch!r}")
        reported = number(value)
        self._owner().refuse_ended(self)
        self._course[epoch] = reported

    def failed(self, reason: str = "") -> None:
        """Say that the training failed for no fault of the function's: it is asked again, up to `max_attempts` times.

        A function whose loss is NaN has not failed but diverged: tell NaN.

        Raises:
            BadUse: the Study was closed.
            TrialEnded: the trial was told before, or it failed.
        """
        self._owner().fail(self, reason)

    def _owner(self) -> TrialOwner:
        study = self._study()
        if study is None:
            raise BadUse(f"trial {self.number} was given back when its Study was closed")
        return study

    def is_of(self, study: TrialOwner) -> bool:
        """Return whether this very object asked for the trial."""
        return self._study() is study

    def result(self, value: float, sign: float, worker: str) -> EvaluationResult:
        """Return the result for the store; a value that is not finite means that the function diverged."""
        seconds = time.monotonic() - self._started
        curve = tuple(
            EpochRecord(epoch, val_score=sign * each if math.isfinite(each) else None)
            for epoch, each in sorted(self._course.items())
        )
        if math.isfinite(value):
            return EvaluationResult("done", score=sign * value, seconds=seconds, worker=worker, epochs=curve)
        return EvaluationResult(
            "diverged", reason=f"the value that was told is {value}", seconds=seconds, worker=worker, epochs=curve
        )


def number(value: Any, name: str = "a value") -> float:
    """Return a value as a float, `name` in messages; tensors and NumPy's scalars are numbers too.

    Raises:
        BadUse: it is none.
    """
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return as_float(value)
    except (TypeError, ValueError):
        raise BadUse(f"{name} must be a number, got {value!r:.60}") from None
