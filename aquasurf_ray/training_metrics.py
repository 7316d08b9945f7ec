"""The metrics of one training and its learned values: the names that workers, the store, tables and exports share.

This module depends on nothing, because the rooms `workers` and `store` may not import each other and both need it. A
loss is a mean over examples, in the unit of the loss (nats for a cross-entropy). A score is the task's metric, with the
sign changed where lower is better, so that higher is always better; an accuracy is given only if the metric is
`accuracy`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

_OF_METRIC = "though the network's outputs were finite"


def metric_reason(metric: str, value: float, epoch: int) -> str:
    """Return why a training with finite outputs has no score: its metric gave NaN or infinity after this epoch.

    >>> metric_reason("f1", float("nan"), 3)
    "the metric f1 gave nan on the validation split after epoch 3, though the network's outputs were finite"
    """
    return f"the metric {metric} gave {value} on the validation split after epoch {epoch}, {_OF_METRIC}"


def is_metric_reason(reason: str | None) -> bool:
    """Return whether a training has no score because of its metric alone, which may be the metric's fault."""
    return reason is not None and reason.endswith(_OF_METRIC)


@dataclass(frozen=True, kw_only=True)
class TrainingMetrics:
    """The metrics that a training reached: all None if it diverged before its first epoch ended.

    Attributes:
        score: the score on the validation split, which a search maximises; finite.
        train_loss, train_score, train_accuracy: running means over the last epoch's batches, each taken before its
            step, with dropout and, under mixup or cutmix, of the mixed inputs against the labels before mixing.
        stopped_early: the reason if a rule ended the training before its last epoch or the health gate refused it; None
            for a whole training, and for one that diverged while it ran.
    """

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


@dataclass(frozen=True)
class LearnedValues:
    """The value that one learned parameter of the function reached in one layer.

    Attributes:
        layer: the activation's name in the network.
        parameter: the parameter's name in the function.
        initial: its value before the training.
        n_channels: how many channels have a value of their own; None for one value for the layer.
        mean, spread: mean and standard deviation over the channels after the last epoch; the spread of one value is 0.
        course: the mean after each epoch.
    """

    layer: str
    parameter: str
    initial: float
    n_channels: int | None
    mean: float | None
    spread: float | None
    course: tuple[float, ...] = ()


Split = Literal["validation", "test"]
_NAMED_SPLIT = ("val_", "eval_")
_TOLD = "value"


def on_split(metric: str, split: Split = "validation") -> str:
    """Return a metric's name on a split, as the columns of tables and the axes of pictures have it.

    A user's own loop may have named its metric by the split already, and the value of a study has no other name.

    >>> on_split("rmse"), on_split("rmse", "test"), on_split("val_loss"), on_split("val_loss", "test")
    ('val_rmse', 'test_rmse', 'val_loss', 'test_loss')
    >>> on_split("value")
    'value'
    """
    named = next((prefix for prefix in _NAMED_SPLIT if metric.startswith(prefix)), "")
    if split == "test":
        return f"test_{metric.removeprefix(named)}"
    return metric if named or metric == _TOLD else f"val_{metric}"


METRIC_NAMES = tuple(field.name for field in fields(TrainingMetrics))
