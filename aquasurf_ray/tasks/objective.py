"""The objective of a network: the loss to minimise, the metric that judges it, the distribution that it predicts.

Outputs have the shape (n, ..., c) or (n, c, ...): n examples, any positions (tokens, pixels), c classes or values;
`aquasurf_ray.tasks.classes` says which dimension holds the classes, `aquasurf_ray.tasks.targets` which targets count.
Losses are means over the targets that count. A metric is accumulated batch by batch by an object with
`update(outputs, targets)` and `compute()`, which every metric of torchmetrics has too. The score that a search
maximises is the metric's value on the validation split, with the sign changed where lower is better, so nothing after
this module asks which way is up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from aquasurf_ray.as_float import as_float
from aquasurf_ray.tasks.classes import are_float_labels, class_rows, float_labels_text
from aquasurf_ray.tasks.errors import TaskError, require
from aquasurf_ray.tasks.hidden_settings import refuse_hidden_labels
from aquasurf_ray.tasks.losses import cross_entropy as cross_entropy
from aquasurf_ray.tasks.losses import mean_squared_error as mean_squared_error
from aquasurf_ray.tasks.losses import moved, shaped_like, without_ruled_out
from aquasurf_ray.tasks.losses import name_of as name_of
from aquasurf_ray.tasks.ruled_out import refuse_ruled_out
from aquasurf_ray.tasks.targets import IGNORED as IGNORED
from aquasurf_ray.tasks.targets import (
    Loss,
    counted_answers,
    counted_targets,
    example_weights,
    ignored_label,
    is_sum,
    loss_of_probabilities,
    numbers_counted,
)

Quantity = Callable[[Tensor, Tensor, Loss | None], tuple[Tensor, Tensor]]
Likelihood = Literal["categorical", "gaussian", "bernoulli"]

LIKELIHOODS: tuple[Likelihood, ...] = ("categorical", "gaussian", "bernoulli")


class MetricState(Protocol):
    """One pass over a split: fed with batches, then asked for the value."""

    def update(self, outputs: Tensor, targets: Tensor) -> Any:
        """Add one batch: detached outputs as the network gives them, and targets."""
        ...

    def compute(self) -> Any:
        """Return the value over all batches: a float, or a tensor with one element."""
        ...


@dataclass(frozen=True)
class Metric:
    """A measure that networks are judged by.

    Args:
        name: as people write it in a table: `accuracy`, `rmse`.
        make: begins one pass over a split.
        higher_is_better: whether the search maximises the metric.
        low, high: the lowest and the highest possible value, if there are; 95% intervals in tables end there. They
            change no result, so they are no part of a task's identity.
    """

    name: str
    make: Callable[[], MetricState]
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        require(bool(self.name.strip()) and self.name.isprintable(), "metric name", self.name, "a name on one line")
        require(callable(self.make), "metric", self.make, "a callable that begins one pass over a split")
        for name, bound in self.bounds.items():
            is_number = isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound)
            require(is_number, name, bound, "a finite number, or None for no bound")
        if self.low is not None and self.high is not None:
            require(self.low < self.high, "high", self.high, f"more than low, {self.low:g}")

    @property
    def bounds(self) -> dict[str, float]:
        """The ends of the metric's range that it has, by `low` and `high`, as the store has them in a task's spec."""
        return {name: end for name, end in (("low", self.low), ("high", self.high)) if end is not None}

    def begin(self, device: torch.device) -> MetricState:
        """Begin a pass over a split whose outputs are on `device`, where a metric that is a module must live too."""
        state = self.make()
        if not isinstance(state, nn.Module):
            return state
        for part in state.modules():
            if hasattr(part, "distributed_available_fn"):  # torchmetrics'
                part.distributed_available_fn = _is_alone  # type: ignore[assignment]
        return state.to(device)

    def score(self, value: float) -> float:
        """Return the score, which a search maximises, for a value of the metric. The function is its own inverse.

        >>> RMSE.score(0.25), ACCURACY.score(0.25)
        (-0.25, 0.25)
        """
        return value if self.higher_is_better else -value

    def number(self, computed: Any) -> float:
        """Return what `compute()` of a pass returned as a float.

        Raises:
            TaskError: it is not one number.

        >>> ACCURACY.number(torch.tensor([0.5]))
        0.5
        """
        try:
            is_array = isinstance(computed, Tensor) and computed.numel() != 1
            if is_array or isinstance(computed, str | bytes | bytearray):
                raise TypeError
            return as_float(computed)
        except (TypeError, ValueError):
            raise TaskError(
                f"compute() of the metric '{self.name}' must return one number, got {_kind_of(computed)}"
            ) from None


def _kind_of(value: Any) -> str:
    """Return the type of a value, with the shape of an array, for a message."""
    shape = getattr(value, "shape", None)
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}"


def _is_alone() -> bool:
    """Answer whether other processes take part in a metric: where several train, one evaluates while they wait."""
    return False


class RunningMean:
    """The mean of a quantity over all targets that count, then `finish` of it.

    Sums stay on the device of the outputs until they are asked for, in float64. `Objective.begin_metric` sets `loss`,
    which says which labels are padding and where the classes are; without one they are as in `cross_entropy`.

    Args:
        quantity: (outputs, targets, loss) -> values, and which of them count, as booleans of the same shape.
        finish: applied to the mean.
    """

    def __init__(self, quantity: Quantity, finish: Callable[[float], float] = float) -> None:
        self.loss: Loss | None = None
        self._quantity = quantity
        self._finish = finish
        self._sum: Tensor | float = 0.0
        self._n: Tensor | int = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add one batch."""
        values, counted = self._quantity(outputs, targets, self.loss)
        # Kept on the device: reading a number back at each batch would make a GPU wait.
        self._n = self._n + counted.sum()
        # Not values[counted]: the size of that is unknown until the GPU has caught up. NaN in padding must not reach
        # the sum.
        self._sum = self._sum + torch.where(counted, values, torch.zeros_like(values)).sum(dtype=torch.float64)

    def add_all(self, total: Callable[[Tensor], Tensor]) -> None:
        """Extend the pass to the batches of all processes; `total` returns the sum of a number over them."""
        self._sum, self._n = (total(torch.as_tensor(part, dtype=torch.float64)) for part in (self._sum, self._n))

    def compute(self) -> float:
        """Return the value so far; NaN before the first target that counts."""
        n = int(self._n)
        return self._finish(float(self._sum) / n) if n else float("nan")


def _hits(outputs: Tensor, targets: Tensor, loss: Loss | None) -> tuple[Tensor, Tensor]:
    logits, labels = class_rows(outputs, targets, loss)
    if labels.dim() == 2:
        labels = labels.argmax(-1)
        # Probabilities have no padding label, so all of them count.
        return logits.argmax(-1) == labels, torch.ones_like(labels, dtype=torch.bool)
    return logits.argmax(-1) == labels, counted_targets(labels, loss)


def _squared_error(outputs: Tensor, targets: Tensor, _: Loss | None) -> tuple[Tensor, Tensor]:
    errors = (outputs.double() - shaped_like(targets, outputs).double()).square()
    return errors, torch.ones_like(errors, dtype=torch.bool)


def _nats(outputs: Tensor, targets: Tensor, loss: Loss | None) -> tuple[Tensor, Tensor]:
    logits, labels = class_rows(outputs, targets, loss)
    ignored = ignored_label(loss)
    logits = without_ruled_out(logits.float(), labels)
    nats = functional.cross_entropy(logits, labels, ignore_index=ignored, reduction="none")
    counted = counted_targets(labels, loss) if labels.dim() == 1 else torch.ones_like(nats, dtype=torch.bool)
    return nats, counted


# By torch, because math.exp raises on overflow, and a perplexity that is infinite is a result.
def _exp(mean: float) -> float:
    return float(torch.tensor(mean, dtype=torch.float64).exp())


def _root(mean: float) -> float:
    return float(mean**0.5)


def _accuracy() -> MetricState:
    return RunningMean(_hits)


def _rmse() -> MetricState:
    return RunningMean(_squared_error, _root)


def _perplexity() -> MetricState:
    return RunningMean(_nats, _exp)


ACCURACY = Metric("accuracy", _accuracy, low=0.0, high=1.0)
RMSE = Metric("rmse", _rmse, higher_is_better=False, low=0.0)
PERPLEXITY = Metric("perplexity", _perplexity, higher_is_better=False, low=1.0)


@dataclass(frozen=True)
class Objective:
    """A loss, a metric, and the distribution that the outputs stand for.

    Args:
        loss: (outputs, targets) -> the mean over the targets that count, a scalar.
        metric: the measure that networks are judged by.
        likelihood: the distribution that the Fisher information draws its targets from: `categorical` with the outputs
            as logits, `gaussian` with the outputs as means and unit variance, `bernoulli` with each output as the
            logit of a yes.

    Example:
        >>> Objective(torch.nn.functional.l1_loss, RMSE, "gaussian").metric.name
        'rmse'
    """

    loss: Loss
    metric: Metric
    likelihood: Likelihood

    def __post_init__(self) -> None:
        require(callable(self.loss), "loss", self.loss, "a callable (outputs, targets) -> scalar")
        require(isinstance(self.metric, Metric), "metric", self.metric, "a Metric")
        require(self.likelihood in LIKELIHOODS, "likelihood", self.likelihood, f"one of {', '.join(LIKELIHOODS)}")

    def training_loss(self, label_smoothing: float = 0.0, *, mixes: bool = False) -> Loss:
        """Return the loss to minimise: `loss` itself, or with smoothed labels, or for mixed labels.

        Raises:
            TaskError: smoothing is asked for, and the loss is not `cross_entropy`.
        """
        if label_smoothing == 0:
            return loss_of_probabilities(self.loss) if mixes else self.loss
        # Smoothing happens inside the loss, and only this one has an argument for it.
        if self.loss is not cross_entropy:
            raise TaskError(f"label_smoothing is for cross_entropy, and the loss is {name_of(self.loss)}")
        return partial(cross_entropy, label_smoothing=label_smoothing)

    def on(self, device: torch.device) -> Objective:
        """Return the objective with its loss's tensors, such as class weights, on a device."""
        loss = moved(self.loss, device)
        return self if loss is self.loss else replace(self, loss=loss)

    def begin_metric(self, device: torch.device) -> MetricState:
        """Begin a pass of the metric over a split, with padding and classes as the loss has them."""
        state = self.metric.begin(device)
        if isinstance(state, RunningMean):
            state.loss = self.loss
        return state

    def counted(self, targets: Tensor) -> Tensor:
        """Return which targets count, as booleans of the targets' shape; numbers to be predicted all do."""
        if self.likelihood == "gaussian":
            return torch.ones_like(targets, dtype=torch.bool)
        counted = counted_answers if self.likelihood == "bernoulli" else counted_targets
        return counted(targets, self.loss)

    def weights(self, targets: Tensor) -> Tensor:
        """Return what each example counts for in the loss's mean, float64 (n,) on the CPU; see `example_weights`.

        Raises:
            TaskError: targets are NaN or infinite, of which nothing says whether they count, or answers outside [0, 1].
        """
        if self.likelihood == "categorical":
            return example_weights(targets, self.loss)
        if not bool(targets.isfinite().all()):
            mark = f"; {ignored_label(self.loss)} marks an answer that is missing" * (self.likelihood == "bernoulli")
            raise TaskError(f"targets must be finite, got NaN or infinity{mark}")
        counted = self.counted(targets)
        if self.likelihood == "bernoulli":
            wrong = targets[counted & ((targets < 0) | (targets > 1))]
            if len(wrong):
                raise TaskError(
                    f"targets must lie in [0, 1], or be {ignored_label(self.loss)} where there is no answer, got "
                    f"{wrong[0]:g}"
                )
        return numbers_counted(counted)

    def refuse_ruled_out(
        self, outputs: Tensor, targets: Tensor, *, mixes: bool = False, label_smoothing: float = 0.0
    ) -> None:
        """Refuse a loss that is not finite because the network rules classes out; see `tasks.ruled_out`.

        Raises:
            TaskError: it is, with these targets or with those that mixing and smoothing make of labels.
        """
        if self.likelihood == "categorical":
            loss = self.training_loss(label_smoothing, mixes=mixes)
            refuse_ruled_out(loss, outputs, targets, mixes=mixes, smooths=label_smoothing > 0)

    def refuse_hidden_labels(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse a loss that leaves out labels which are counted, or weighs them; see `tasks.hidden_settings`.

        Raises:
            TaskError: it does.
        """
        if self.likelihood == "categorical":
            refuse_hidden_labels(self.loss, outputs, targets)

    def refuse_counted_padding(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse a loss of yes-or-no targets that changes with the outputs at targets of padding: PyTorch's own have no
        `ignore_index` for them.

        Raises:
            TaskError: it does.
        """
        counted = self.counted(targets)
        if self.likelihood != "bernoulli" or bool(counted.all()) or counted.numel() != outputs.numel():
            return
        # A loss that masks padding cannot see this change; one that counts it must.
        other = torch.where(counted.reshape(outputs.shape), outputs, outputs + 1)
        if not torch.allclose(self.loss(other, targets), self.loss(outputs, targets), rtol=0, atol=0, equal_nan=True):
            raise TaskError(
                f"the loss must leave out targets of {ignored_label(self.loss)}, which are padding, and "
                f"'{name_of(self.loss)}' counts them; mask them in the loss"
            )

    @contextmanager
    def naming_float_labels(self, outputs: Tensor, targets: Tensor, place: str) -> Iterator[None]:
        """Report an error of the loss or the metric as the fault of class labels that are floats, if they are.

        Args:
            place: where the targets come from, such as " in the train split".

        Raises:
            TaskError: in place of the error. A loss of one's own that takes such labels raises none.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # PyTorch's losses and those of users raise anything here
            if self.likelihood != "categorical" or not are_float_labels(outputs, targets):
                raise
            raise TaskError(float_labels_text(targets.dtype, place)) from error

    @property
    def sums(self) -> bool:
        """True if the loss is a sum over the targets and not their mean."""
        return is_sum(self.loss)

    def spec(self) -> dict[str, Any]:
        """Return what identifies the objective, as JSON-ready values: names, since functions have nothing better."""
        return {
            "loss": name_of(self.loss),
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "likelihood": self.likelihood,
        }


def classification() -> Objective:
    """Return the objective of classification: cross-entropy and accuracy."""
    return Objective(cross_entropy, ACCURACY, "categorical")


def regression() -> Objective:
    """Return the objective of regression: the mean squared error, and its root as the metric."""
    return Objective(mean_squared_error, RMSE, "gaussian")


def language_modelling() -> Objective:
    """Return the objective of language models: the next token's cross-entropy, and perplexity; logits (n, tokens,
    vocabulary), targets (n, tokens)."""
    return Objective(cross_entropy, PERPLEXITY, "categorical")
