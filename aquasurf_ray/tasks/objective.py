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
from torch import Tensor, nn
from torch.nn import functional

from aquasurf_ray.tasks.errors import TaskError, require

Loss = Callable[[Tensor, Tensor], Tensor]
Likelihood = Literal["categorical", "gaussian", "bernoulli"]

IGNORED = -100
"""PyTorch's own mark of a target that does not count, such as padding."""
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
        require(bool(self.name.strip()) and self.name.isprintable(), "metric name", self.name, "a name on one line")
        require(callable(self.make), "metric", self.make, "a callable that begins one pass over a split")

    def begin(self, device: torch.device) -> MetricState:
        """Begins a pass over a split whose outputs are on `device`, where a metric that is a module must live too."""
        state = self.make()
        return state.to(device) if isinstance(state, nn.Module) else state

    def score(self, value: float) -> float:
        """What a search maximises, from the metric's value; the other way round it is the same function.

        >>> RMSE.score(0.25), ACCURACY.score(0.25)
        (-0.25, 0.25)
        """
        return value if self.higher_is_better else -value


class RunningMean:
    """The mean of a quantity over all examples and positions that count, then `finish` of it.

    Sums stay on the device of the outputs until they are asked for, in float64.

    Args:
        quantity: (outputs, targets) -> values.
        finish: of the mean.
        counted: (outputs, targets) -> which of the values count, as booleans of the same shape; by default all.
    """

    def __init__(self, quantity: Loss, finish: Callable[[float], float] = float, counted: Loss | None = None) -> None:
        self._quantity = quantity
        self._finish = finish
        self._counted = counted
        self._sum: Tensor | float = 0.0
        self._n: Tensor | int = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Takes one batch in."""
        values = self._quantity(outputs, targets)
        if self._counted is None:
            self._n = self._n + values.numel()
        else:
            counted = self._counted(outputs, targets)
            values = torch.where(counted, values, torch.zeros_like(values))
            self._n = self._n + counted.sum()
        self._sum = self._sum + values.sum(dtype=torch.float64)

    def compute(self) -> float:
        """The value so far; NaN before the first value that counts."""
        n = int(self._n)
        return self._finish(float(self._sum) / n) if n else float("nan")


def _is_hit(logits: Tensor, targets: Tensor) -> Tensor:
    hits = logits.argmax(-1)
    labels = _shaped(targets, logits).argmax(-1) if targets.is_floating_point() else targets
    return hits == _shaped(labels, hits)


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - _shaped(targets, outputs).double()).square()


def _token_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    rows = logits.reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(rows, _fitting(labels, logits), reduction="none").reshape(logits.shape[:-1])


def _is_labelled(logits: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
    return _shaped(targets, logits[..., 0]) != IGNORED


def _exp(mean: float) -> float:
    return float(torch.tensor(mean, dtype=torch.float64).exp())


def _root(mean: float) -> float:
    return float(mean**0.5)


def _accuracy() -> MetricState:
    return RunningMean(_is_hit, counted=_is_labelled)


def _rmse() -> MetricState:
    return RunningMean(_squared_error, _root)


def _perplexity() -> MetricState:
    return RunningMean(_token_cross_entropy, _exp, _is_labelled)


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

    Targets of -100 are padding: neither the loss nor the metrics here count them.

    >>> round(cross_entropy(torch.zeros(2, 7, 4), torch.zeros(2, 7, dtype=torch.int64)).item(), 4)
    1.3863
    """
    rows = logits.reshape(-1, logits.shape[-1])
    return functional.cross_entropy(rows, _fitting(targets, logits), label_smoothing=label_smoothing)


def _fitting(targets: Tensor, logits: Tensor) -> Tensor:
    """Targets of logits, a row for each: labels [rows] int64, or probabilities [rows, classes]."""
    if targets.is_floating_point():
        return _shaped(targets, logits).reshape(-1, logits.shape[-1]).to(logits.dtype)
    return _shaped(targets, logits[..., 0]).reshape(-1).long()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of the squared differences; targets (n,) fit outputs (n, 1)."""
    return functional.mse_loss(outputs, _shaped(targets, outputs).to(outputs.dtype))


def _shaped(targets: Tensor, outputs: Tensor) -> Tensor:
    """Targets in the outputs' shape, where they differ by dimensions of size one.

    Broadcasting (n,) against (n, 1) would silently compare all pairs.

    Raises:
        TaskError: they differ by more.
    """
    if [d for d in targets.shape if d != 1] != [d for d in outputs.shape if d != 1]:
        raise TaskError(f"targets must have shape {tuple(outputs.shape)}, got {tuple(targets.shape)}")
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
    """How a callable is called where it was defined; of a partial one or an object, with its plain settings.

    >>> name_of(partial(cross_entropy, label_smoothing=0.1))
    'cross_entropy(label_smoothing=0.1)'
    >>> name_of(nn.HuberLoss(delta=2.0))
    "HuberLoss(delta=2.0, reduction='mean')"
    """
    if isinstance(function, partial):
        bound = [repr(a) for a in function.args if isinstance(a, PLAIN)]
        return _called(name_of(function.func), bound, function.keywords)
    name = getattr(function, "__qualname__", None)
    if name is not None:
        return str(name)
    settings = {
        key: value for key, value in getattr(function, "__dict__", {}).items() if key[0] != "_" and key != "training"
    }
    if isinstance(function, nn.Module):
        settings |= {key: tuple(buffer.flatten().tolist()) for key, buffer in function.named_buffers()}
    return _called(type(function).__qualname__, [], settings)


def _called(name: str, bound: list[str], settings: dict[str, Any]) -> str:
    given = bound + [f"{key}={value!r}" for key, value in sorted(settings.items()) if isinstance(value, PLAIN)]
    return f"{name}({', '.join(given)})" if given else name
