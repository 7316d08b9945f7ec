"""What a network is trained for: the loss it minimises, the metric it is judged by, the distribution it predicts.

Outputs have the shape (n, ..., c): n examples, any positions (tokens, pixels), c classes or values. Losses are means
over examples and positions. A metric is accumulated batch by batch by an object with `update(outputs, targets)` and
`compute()`, which every metric of torchmetrics has too. The score that a search maximises is the metric's value on the
validation split, with the sign changed where lower is better, so nothing after this module asks which way is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from aquasurf_ray.tasks.errors import TaskError, require

Loss = Callable[[Tensor, Tensor], Tensor]
Likelihood = Literal["categorical", "gaussian", "bernoulli"]

PLAIN = (bool, int, float, str, tuple)
LIKELIHOODS: tuple[Likelihood, ...] = ("categorical", "gaussian", "bernoulli")


class MetricState(Protocol):
    """One pass over a split: fed with batches, then asked for the value."""

    def update(self, outputs: Tensor, targets: Tensor) -> Any:
        """Takes one batch in: detached outputs (n, ..., c), and targets."""
        ...

    def compute(self) -> Any:
        """The value over all batches: a float, or a tensor with one element."""
        ...


@dataclass(frozen=True)
class Metric:
    """What a network is judged by.

    Args:
        name: as people write it in a table: `accuracy`, `rmse`.
        make: begins one pass over a split.
        higher_is_better: whether the search looks for large values.
    """

    name: str
    make: Callable[[], MetricState]
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "metric name", self.name, "a non-empty string")
        require(callable(self.make), "metric", self.make, "a callable that begins one pass over a split")

    def score(self, value: float) -> float:
        """What a search maximises, from the metric's value; the other way round it is the same function.

        >>> RMSE.score(0.25), ACCURACY.score(0.25)
        (-0.25, 0.25)
        """
        return value if self.higher_is_better else -value


class RunningMean:
    """The mean of a quantity over all examples and positions, then `finish` of it.

    The sum stays on the device of the outputs until it is asked for, in float64 where the device has it.
    """

    def __init__(self, quantity: Loss, finish: Callable[[float], float] = float) -> None:
        self._quantity = quantity
        self._finish = finish
        self._sum: Tensor | float = 0.0
        self._n = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Takes one batch in."""
        values = self._quantity(outputs, targets)
        self._sum = self._sum + values.sum(dtype=torch.float64)
        self._n += values.numel()

    def compute(self) -> float:
        """The value so far; NaN before the first batch."""
        return self._finish(float(self._sum) / self._n) if self._n else float("nan")


def _is_hit(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(-1) == labels


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - _shaped(targets, outputs).double()).square()


def _token_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    rows = logits.reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(rows, labels.reshape(-1), reduction="none")


def _exp(mean: float) -> float:
    return float(torch.tensor(mean, dtype=torch.float64).exp())


def _root(mean: float) -> float:
    return float(mean**0.5)


def _accuracy() -> MetricState:
    return RunningMean(_is_hit)


def _rmse() -> MetricState:
    return RunningMean(_squared_error, _root)


def _perplexity() -> MetricState:
    return RunningMean(_token_cross_entropy, _exp)


ACCURACY = Metric("accuracy", _accuracy)
RMSE = Metric("rmse", _rmse, higher_is_better=False)
PERPLEXITY = Metric("perplexity", _perplexity, higher_is_better=False)


@dataclass(frozen=True)
class Objective:
    """A loss, a metric, and the distribution that the outputs stand for.

    Args:
        loss: (outputs, targets) -> the mean over examples and positions, a scalar.
        metric: what a network is judged by.
        likelihood: what the Fisher information draws its targets from: `categorical` with the outputs as logits (the
            last dimension is the classes), `gaussian` with the outputs as means and unit variance, `bernoulli` with
            each output as the logit of a yes.

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

    def training_loss(self, label_smoothing: float = 0.0) -> Loss:
        """The loss to minimise: `loss` itself, or with smoothed labels.

        Raises:
            TaskError: smoothing is asked for, and the loss is not `cross_entropy`.
        """
        if label_smoothing == 0:
            return self.loss
        if self.loss is not cross_entropy:
            raise TaskError(f"label_smoothing is for cross_entropy, and the loss is {name_of(self.loss)}")
        return partial(cross_entropy, label_smoothing=label_smoothing)

    def spec(self) -> dict[str, Any]:
        """What identifies the objective, as JSON-ready values: names, since functions have nothing better."""
        return {
            "loss": name_of(self.loss),
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "likelihood": self.likelihood,
        }


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy in nats. Logits (n, ..., classes); targets (n, ...) int64, or probabilities like logits.

    >>> round(cross_entropy(torch.zeros(2, 7, 4), torch.zeros(2, 7, dtype=torch.int64)).item(), 4)
    1.3863
    """
    rows = logits.reshape(-1, logits.shape[-1])
    labels = targets.reshape(rows.shape) if targets.is_floating_point() else targets.reshape(-1)
    return functional.cross_entropy(rows, labels, label_smoothing=label_smoothing)


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of the squared differences; targets (n,) fit outputs (n, 1)."""
    return functional.mse_loss(outputs, _shaped(targets, outputs).to(outputs.dtype))


def _shaped(targets: Tensor, outputs: Tensor) -> Tensor:
    """Targets in the outputs' shape: broadcasting (n,) against (n, 1) would silently compare all pairs."""
    return targets.reshape(outputs.shape)


def classification() -> Objective:
    """Cross-entropy and accuracy."""
    return Objective(cross_entropy, ACCURACY, "categorical")


def regression() -> Objective:
    """Mean squared error and its root."""
    return Objective(mean_squared_error, RMSE, "gaussian")


def language_modelling() -> Objective:
    """Cross-entropy of the next token and perplexity; logits (n, tokens, vocabulary), targets (n, tokens)."""
    return Objective(cross_entropy, PERPLEXITY, "categorical")


def name_of(function: object) -> str:
    """How a callable is called where it was defined; of a partial one, with the plain values that it is bound to.

    >>> name_of(partial(cross_entropy, label_smoothing=0.1))
    'cross_entropy(label_smoothing=0.1)'
    """
    if isinstance(function, partial):
        bound = [repr(a) for a in function.args if isinstance(a, PLAIN)]
        bound += [f"{key}={value!r}" for key, value in sorted(function.keywords.items()) if isinstance(value, PLAIN)]
        return f"{name_of(function.func)}({', '.join(bound)})"
    return getattr(function, "__qualname__", type(function).__qualname__)
