"""The two ways in which a training ends before its last epoch: its scores are too low, or it is asked to stop.

A training that is asked to stop writes a checkpoint after the current epoch, raises `TrainingDrained`, and resumes from
there when it is started again. A training that the rule for low scores ends writes no checkpoint: it returns its
metrics with the reason, and is final for the run that ended it.

The rule for low scores is data: scores that must be reached after some epochs. The driver sets these thresholds to the
medians of the scores that other functions had after the same epoch, a variant of the median rule of Golovin et al. 2017
("Google Vizier").
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
