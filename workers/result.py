"""What a training gives: its learning curve and its final figures, as data that cross rooms.

Losses are means over examples, in the loss's own unit (nats for a cross-entropy). A score is the metric's value with
the sign changed where lower is better, so a higher score is always better; an accuracy is filled in only where the
metric is called `accuracy`. The training figures are running ones: means over an epoch's batches, each taken before
its step, with dropout and, under mixup or cutmix, of the mixed inputs against the labels before mixing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve. `learning_rate` is that of the first step; `seconds` include the validation."""

    epoch: int
    train_loss: float
    train_score: float
    train_accuracy: float | None
    val_loss: float
    val_score: float
    val_accuracy: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Figures:
    """What is known of a network in the end, under the names of `TrainingResult`; nothing, where it diverged."""

    score: float | None = None
    train_loss: float | None = None
    train_score: float | None = None
    train_accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    test_score: float | None = None
    test_accuracy: float | None = None
    stopped_early: str | None = None

    @classmethod
    def after(
        cls,
        last: Epoch,
        *,
        test_loss: float | None,
        test_score: float,
        test_accuracy: float | None,
        stopped_early: str | None,
    ) -> Figures:
        """Those of the last epoch, with the test split's."""
        return cls(
            score=last.val_score,
            train_loss=last.train_loss,
            train_score=last.train_score,
            train_accuracy=last.train_accuracy,
            val_loss=last.val_loss,
            val_accuracy=last.val_accuracy,
            test_loss=test_loss,
            test_score=test_score,
            test_accuracy=test_accuracy,
            stopped_early=stopped_early,
        )


@dataclass(frozen=True)
class TrainingResult:
    """What a training gives; the figures are None where it diverged.

    Attributes:
        score: of the validation split, what a search maximises; finite.
        stopped_early: why a `StopRule` ended it, or that the health gate did not let it begin; None for a whole
            training, and for one that diverged in its course.
        seconds: of all epochs together, those before an interruption included.
        examples_per_second: training examples a second of training time, validation left out.
        peak_memory_mb: in units of 10^6 bytes, of this process (`workers.engine.memory`).
        device: the GPU's name, or `cpu`.
        n_devices: processes that trained together.
        precision: of the forward pass, the one really used: `float32` or `bfloat16`.
    """

    status: Literal["done", "diverged"]
    reason: str | None
    score: float | None
    train_loss: float | None
    train_score: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    test_loss: float | None
    test_score: float | None
    test_accuracy: float | None
    stopped_early: str | None
    epochs: tuple[Epoch, ...]
    seconds: float
    examples_per_second: float
    peak_memory_mb: float
    device: str
    n_devices: int
    precision: str
