"""The result of a training: learning curve, metrics, time and memory, as data that pass from workers to the driver.

`aquasurf_ray.training_metrics` defines each metric and learned value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aquasurf_ray.training_metrics import LearnedValues, TrainingMetrics


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve. `learning_rate` is the first step's; `seconds` include the validation."""

    epoch: int
    train_loss: float
    train_score: float
    train_accuracy: float | None
    val_loss: float
    val_score: float
    val_accuracy: float | None
    learning_rate: float
    seconds: float


def final_metrics(
    last: Epoch,
    *,
    test_loss: float | None,
    test_score: float,
    test_accuracy: float | None,
    stopped_early: str | None,
) -> TrainingMetrics:
    """Return the metrics of the last epoch together with the test metrics."""
    return TrainingMetrics(
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


@dataclass(frozen=True, kw_only=True)
class TrainingResult(TrainingMetrics):
    """A finished or diverged training.

    Attributes:
        reason: why the function diverged; None for a training that is done.
        seconds: the duration of all epochs together, including epochs before an interruption.
        examples_per_second: training examples per second of training time, validation excluded.
        peak_memory_mb: the peak memory of this process in units of 10^6 bytes (`workers.engine.memory`).
        device: the GPU's name, or `cpu`.
        n_devices: the number of processes that trained together.
        precision: the float type that the forward pass really used: `float32` or `bfloat16`.
        learned: the values that the function's learned parameters reached, layer by layer; empty without any.
    """

    status: Literal["done", "diverged"] = field(kw_only=False)
    reason: str | None
    epochs: tuple[Epoch, ...]
    seconds: float
    examples_per_second: float
    peak_memory_mb: float
    device: str
    n_devices: int
    precision: str
    learned: tuple[LearnedValues, ...] = ()
