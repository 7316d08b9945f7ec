"""A check that a task's metric accepts one batch, starts each pass at zero, and prefers right answers to wrong ones.

A search maximises the metric's score, so a metric that prefers wrong answers makes it choose the worst function, and
one that carries its counts over to the next pass makes it choose by whichever function was trained before.
"""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from aquasurf_ray.driver.examine.objective_check import TRAIN, forms, loss_of, refusal
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.tasks import Metric, Objective, TaskError
from aquasurf_ray.tasks.classes import class_dimension
from aquasurf_ray.tasks.seeding import seeded

SURE = 20.0
"""A logit of this size is a probability of 1: measures of calibration prefer wrong answers to right ones of less."""
SAME = 1e-4
"""The relative difference of two passes over the same data on a GPU is smaller."""
Pair = tuple[Tensor, Tensor]


def metric_of(objective: Objective, outputs: Tensor, targets: Tensor) -> float:
    """Return the metric of one batch.

    Raises:
        TaskError: the metric raises, is not a single number, or is outside of its range.
    """
    name = objective.metric.name
    try:
        metric = objective.begin_metric(outputs.device)
    except Exception as error:  # the metric may be the user's own, here and below
        raise TaskError(f"the metric '{name}' cannot begin a pass over a split: {sentence(error)}") from error
    try:
        with objective.naming_float_labels(outputs, targets, TRAIN):
            metric.update(outputs, targets)
    except Exception as error:
        raise TaskError(refusal("metric", name, outputs, targets, error)) from error
    try:
        computed = metric.compute()
    except Exception as error:
        after = f"after a batch of {forms(outputs, targets)}"
        raise TaskError(f"compute() of the metric '{name}' fails {after}: {sentence(error)}") from error
    value = objective.metric.number(computed)
    _refuse_outside_range(objective.metric, value)
    return value


def _refuse_outside_range(metric: Metric, value: float) -> None:
    below, above = metric.low is not None and value < metric.low, metric.high is not None and value > metric.high
    # Rounding may end a little outside.
    if (below or above) and not any(math.isclose(value, end, abs_tol=1e-6) for end in metric.bounds.values()):
        ends = " and ".join(f"{name}={end:g}" for name, end in metric.bounds.items())
        raise TaskError(
            f"the metric '{metric.name}' is {value:.4g} on a batch, but was declared with {ends}; correct that, or its "
            "compute()"
        )


def refuse_carried_counts(objective: Objective, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a metric whose value for a batch depends on what other passes were fed with.

    Raises:
        TaskError: it does.
    """
    others = list(chain(*_right_and_wrong(objective, outputs, targets))) or [-outputs]
    first = _seeded_metric(objective, outputs, targets)
    for answers in others:
        try:
            metric_of(objective, answers, targets)
        except TaskError:  # a metric of the user's own may refuse answers that no network gives
            continue
    again = _seeded_metric(objective, outputs, targets)
    if first != again and not math.isclose(first, again, rel_tol=SAME) and not math.isnan(first):
        raise TaskError(
            f"the metric '{objective.metric.name}' is {first:.4g} for a batch, and {again:.4g} for the same batch after"
            " passes over other outputs; each pass must begin anew: set counts in __init__, not in the class, and let "
            "the metric's factory make a new object"
        )


def _seeded_metric(objective: Objective, outputs: Tensor, targets: Tensor) -> float:
    # A metric may draw random numbers, such as pairs of examples, which must not pass for a difference.
    with seeded(0, outputs.device):
        return metric_of(objective, outputs, targets)


def metric_direction(objective: Objective, outputs: Tensor, targets: Tensor) -> list[str]:
    """Return a warning if the metric is the same for the network's outputs, for right answers and for wrong ones, or
    if its score is better for wrong answers though nothing tells whether these are worse.

    Raises:
        TaskError: its score is better for wrong answers, whose loss is higher.
    """
    metric, pairs = objective.metric, _right_and_wrong(objective, outputs, targets)
    try:
        value = _seeded_metric(objective, outputs, targets)
        values = [tuple(_seeded_metric(objective, answers, targets) for answers in pair) for pair in pairs]
    except TaskError:  # a metric of the user's own may refuse answers that no network gives
        return []
    if values and all(other == value for other in chain(*values)):
        return [
            f"warning: the metric '{metric.name}' is {value:.4g} for the network's outputs, for right answers "
            "and for wrong ones, so it tells no functions apart; look at its update() and compute()"
        ]
    # With any infinite or undefined value, nothing is said.
    if not values or not all(metric.score(right) < metric.score(wrong) for right, wrong in values):
        return []
    right, wrong = values[0]
    found = (
        f"the metric '{metric.name}' is {right:.4g} for right answers and {wrong:.4g} for wrong ones, but was declared "
    )
    found += f"with higher_is_better={metric.higher_is_better}"
    gains = [_gain_in_loss(objective, pair, targets) for pair in pairs]
    if all(gain > 0 for gain in gains):
        raise TaskError(
            f"{found}, so a search would choose the worst function; declare higher_is_better="
            f"{not metric.higher_is_better}, or correct its compute()"
        )
    if any(gain < 0 for gain in gains):  # the loss wants something else than the targets themselves
        return []
    return [
        f"warning: {found}; if these answers are right for your loss, too, a search would choose the worst function"
    ]


def _gain_in_loss(objective: Objective, pair: Pair, targets: Tensor) -> float:
    """Return by how much the loss of right answers is lower than that of wrong ones; NaN where nothing tells."""
    try:
        right, wrong = (loss_of(objective, answers, targets) for answers in pair)
    except TaskError:  # a loss of the user's own may refuse answers that no network gives
        return math.nan
    return wrong - right


def _right_and_wrong(objective: Objective, outputs: Tensor, targets: Tensor) -> list[Pair]:
    """Return outputs that are right about all targets that count, with outputs that are wrong about all of them."""
    if objective.likelihood == "categorical":
        try:
            return _right_and_wrong_classes(objective, outputs, targets)
        except TaskError:  # the targets fit no dimension of classes
            return []
    if targets.numel() != outputs.numel():
        return []
    counted = objective.counted(targets)
    right = torch.where(counted, targets, torch.zeros_like(targets)).reshape(outputs.shape).to(outputs.dtype)
    if objective.likelihood == "bernoulli":
        yes = 2 * right - 1
        return [(yes, -yes), (SURE * yes, -SURE * yes)]
    return [(right, 1 - 2 * right)]  # far away, and in reversed order for a metric that ranks


def _right_and_wrong_classes(objective: Objective, outputs: Tensor, targets: Tensor) -> list[Pair]:
    """Return such outputs as probabilities, for metrics that take them, and as logits of sure answers.

    Raises:
        TaskError: the targets fit no dimension of classes.
    """
    dimension = class_dimension(outputs, targets, objective.loss)
    n_classes = outputs.shape[dimension]
    if n_classes == 1:
        return []
    if targets.numel() == outputs.numel():
        right = targets.reshape(outputs.shape).to(outputs.dtype)
    else:
        labels = torch.where(objective.counted(targets), targets, torch.zeros_like(targets)).long()
        shape = [size for d, size in enumerate(outputs.shape) if d != dimension]
        right = functional.one_hot(labels.reshape(shape), n_classes).movedim(-1, dimension).to(outputs.dtype)
    # The right class is the last of all, for metrics of the top k.
    wrong = (1 - right) / (n_classes - 1)
    return [(right, wrong), (SURE * right, SURE * wrong)]
