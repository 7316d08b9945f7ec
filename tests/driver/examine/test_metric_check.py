"""A metric that prefers wrong answers, or carries its counts over to the next pass, is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.driver.examine.metric_check import metric_direction, refuse_carried_counts
from aquasurf_ray.tasks import Metric, Objective, TaskError, classification, language_modelling, regression

LABELS = torch.arange(24) % 3
NUMBERS = torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
YES = (torch.arange(24) % 2).float()[:, None]


class Kept:
    """Keeps all batches; `measure` of them is the value."""

    def __init__(self, measure):
        self.measure, self.outputs, self.targets = measure, [], []

    def update(self, outputs, targets):
        self.outputs.append(outputs)
        self.targets.append(targets)

    def compute(self):
        return self.measure(torch.cat(self.outputs), torch.cat(self.targets))


def metric(measure, *, higher=True):
    return Metric("mine", lambda: Kept(measure), higher_is_better=higher)


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean()


def area(outputs, targets):
    """The area under the curve of class 1 against the others."""
    scores, is_one = outputs.softmax(1)[:, 1], targets == 1
    return (scores[is_one][:, None] > scores[~is_one]).double().mean()


def calibration(outputs, targets):
    """The gap between confidence and accuracy."""
    sure, answers = outputs.softmax(1).max(1)
    return (sure.mean() - (answers == targets).double().mean()).abs()


def brier(outputs, targets):
    return (outputs.softmax(1) - functional.one_hot(targets, 3)).square().mean()


def r_squared(outputs, targets):
    return 1 - functional.mse_loss(outputs, targets) / targets.var()


def correlation(outputs, targets):
    return torch.corrcoef(torch.stack([outputs.flatten(), targets.flatten()]))[0, 1]


def hits(outputs, targets):
    return ((outputs > 0) == (targets > 0.5)).double().mean()


MEASURES = [
    (classification(), LABELS, accuracy, True),
    (classification(), LABELS, area, True),
    (classification(), LABELS, brier, False),
    (classification(), LABELS, functional.cross_entropy, False),
    (classification(), functional.one_hot(LABELS, 3).float(), functional.cross_entropy, False),
    (regression(), NUMBERS, functional.mse_loss, False),
    (regression(), NUMBERS, r_squared, True),
    (regression(), NUMBERS, correlation, True),
    (Objective(functional.binary_cross_entropy_with_logits, metric(hits), "bernoulli"), YES, hits, True),
]


@pytest.mark.parametrize(("objective", "targets", "measure", "higher"), MEASURES)
def test_a_metric_declared_in_the_wrong_direction_is_refused_and_in_the_right_one_passes(
    objective, targets, measure, higher
):
    outputs = torch.randn(24, 1 if targets is YES else targets.shape[-1] if targets.dim() == 2 else 3)
    right = replace(objective, metric=metric(measure, higher=higher))
    refuse_carried_counts(right, outputs, targets)
    assert metric_direction(right, outputs, targets) == []
    wrong = replace(objective, metric=metric(measure, higher=not higher))
    with pytest.raises(TaskError, match=f"choose the worst function; declare higher_is_better={higher}, or correct"):
        metric_direction(wrong, outputs, targets)


def test_the_values_and_the_declaration_are_named():
    wrong = replace(classification(), metric=metric(lambda o, t: 1 - area(o, t)))
    with pytest.raises(TaskError) as refused:
        metric_direction(wrong, torch.randn(24, 3), LABELS)
    assert str(refused.value).startswith(
        "the metric 'mine' is 0 for right answers and 1 for wrong ones, but was declared with higher_is_better=True"
    )


def test_padding_and_positions_do_not_hide_the_direction():
    targets = torch.where(torch.rand(8, 5) < 0.4, -100, torch.randint(0, 3, (8, 5)))
    objective = language_modelling()
    assert metric_direction(objective, torch.randn(8, 5, 3), targets) == []
    wrong = replace(objective, metric=replace(objective.metric, higher_is_better=True))
    with pytest.raises(TaskError, match="declare higher_is_better=False"):
        metric_direction(wrong, torch.randn(8, 5, 3), targets)


def test_a_measure_of_calibration_is_not_refused():
    """Unsure answers that are all right are less well calibrated than unsure ones that are all wrong."""
    objective = replace(classification(), metric=metric(calibration, higher=False))
    assert metric_direction(objective, torch.randn(24, 3), LABELS) == []


def test_targets_that_are_not_the_best_outputs_are_not_taken_for_right_answers():
    """Outputs are logarithms of the rates, as the loss has it."""
    counts = torch.randint(3, 9, (24, 1)).float()

    def error(outputs, targets):
        return functional.mse_loss(outputs.exp(), targets)

    objective = Objective(nn.PoissonNLLLoss(), metric(error, higher=False), "gaussian")
    assert metric_direction(objective, torch.zeros(24, 1), counts) == []


def test_answers_that_the_loss_does_not_take_are_a_warning():
    def refusing(outputs, targets):
        if bool((outputs == outputs.round()).all()):
            raise ValueError("not those of a network")
        return functional.cross_entropy(outputs, targets)

    objective = Objective(refusing, metric(accuracy, higher=False), "categorical")
    (said,) = metric_direction(objective, torch.randn(24, 2), LABELS % 2)
    assert said.startswith("warning: the metric 'mine' is 1 for right answers and 0 for wrong ones")


class OfAll(Kept):
    """Keeps the batches of all passes in the class."""

    outputs, targets = [], []

    def __init__(self):
        self.measure = accuracy


@pytest.mark.parametrize(
    ("objective", "outputs", "targets", "make"),
    [
        (classification(), torch.randn(24, 3), LABELS, OfAll),
        (regression(), torch.randn(24, 2), NUMBERS, repeat(Kept(functional.mse_loss)).__next__),
        (regression(), torch.randn(24, 4), NUMBERS, repeat(Kept(lambda o, t: o.mean())).__next__),
    ],
    ids=["kept in the class", "one object for all passes", "no right answers known"],
)
def test_a_metric_that_keeps_the_counts_of_earlier_passes_is_refused(objective, outputs, targets, make):
    objective = replace(objective, metric=Metric("mine", make))
    with pytest.raises(TaskError, match=r"is \S+ for a batch, and \S+ for the same batch after passes over other out"):
        refuse_carried_counts(objective, outputs, targets)


def test_a_metric_that_draws_random_numbers_keeps_nothing_and_prefers_nothing():
    drawn = replace(classification(), metric=metric(lambda *_: torch.rand(()) + random.random()))
    refuse_carried_counts(drawn, torch.randn(24, 3), LABELS)
    (said,) = metric_direction(drawn, torch.randn(24, 3), LABELS)
    assert "tells no functions apart" in said
