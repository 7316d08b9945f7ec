"""The two ways in which a training ends before its last epoch: its scores are too low, or it is asked to stop.

A training that is asked to stop writes a checkpoint after the current epoch, raises `TrainingDrained`, and resumes from
there when it is started again. A training that the rule for low scores ends returns its metrics with the reason; if the
rule pauses, it also writes a checkpoint.

The rule for low scores is data: scores that must be reached after some epochs. The driver computes these thresholds
from the scores of other functions after the same epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

StopAsked = Callable[[], bool]


class TrainingDrained(RuntimeError):
    """The training was asked to stop, and has written a checkpoint after its epoch number `epoch`."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"asked to stop after epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True)
class StopRule:
    """The scores that a training must reach to continue.

    Args:
        thresholds: pairs (epoch, score): a training whose validation score after that epoch is lower, or is NaN,
            ends there with the metrics that it has.
        text: where the thresholds come from, in words, for the record; may be empty.
        pauses: whether a training that ends writes a checkpoint, from which it resumes when it is started again.

    Raises:
        ValueError: an epoch below 1 or given twice, or a threshold that is not finite.

    Example:
        >>> rule = StopRule(((5, 0.52),), "median of 7 evaluations")
        >>> rule.verdict(5, 0.31, 30)
        'score 0.31 after epoch 5 of 30 is below 0.52 (median of 7 evaluations)'
        >>> rule.verdict(5, 0.52, 30) is None and rule.verdict(6, 0.31, 30) is None
        True
    """

    thresholds: tuple[tuple[int, float], ...]
    text: str = ""
    pauses: bool = False

    def __post_init__(self) -> None:
        epochs = [epoch for epoch, _ in self.thresholds]
        if len(set(epochs)) < len(epochs) or any(epoch < 1 for epoch in epochs):
            raise ValueError(f"epochs of a StopRule must be different and at least 1, got {epochs}")
        for epoch, threshold in self.thresholds:
            if not math.isfinite(threshold):
                raise ValueError(f"threshold after epoch {epoch} must be finite, got {threshold}")

    def verdict(self, epoch: int, score: float, epochs: int) -> str | None:
        """Return why the training ends after `epoch` of `epochs`, or None. The last epoch ends it anyway."""
        threshold = dict(self.thresholds).get(epoch)
        # Written as "not at least", so that NaN, which compares false, ends the training.
        if threshold is None or score >= threshold or epoch >= epochs:
            return None
        source = f" ({self.text})" if self.text else ""
        return f"score {score:.4g} after epoch {epoch} of {epochs} is below {threshold:.4g}{source}"
