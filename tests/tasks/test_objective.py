"""Losses and metrics take targets in any sensible shape and refuse others; what tells two objectives apart is seen."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks import Metric, Objective, TaskError, classification, regression
from aquasurf_ray.tasks.identity import data_identity
from aquasurf_ray.tasks.objective import ACCURACY, PERPLEXITY, RMSE, cross_entropy, mean_squared_error

LABELS = torch.tensor([0, 1, 2, 3, 0, 0])
LOGITS = 5 * torch.eye(4)[LABELS]


def value(metric, outputs, targets):
    state = metric.begin(torch.device("cpu"))
    state.update(outputs, targets)
    return float(state.compute())


@pytest.mark.parametrize("targets", [LABELS, LABELS[:, None], LABELS.to(torch.int32), torch.eye(4)[LABELS]])
def test_perfect_predictions_are_all_right_however_labels_are_given(targets):
    assert value(ACCURACY, LOGITS, targets) == 1.0
    assert cross_entropy(LOGITS, targets).item() == pytest.approx(cross_entropy(LOGITS, LABELS).item())


def test_padding_is_counted_neither_by_the_loss_nor_by_the_metrics():
    padded = torch.where(torch.arange(6) < 3, LABELS, -100)
    assert value(ACCURACY, LOGITS, padded) == value(ACCURACY, LOGITS[:3], LABELS[:3]) == 1.0
    assert value(PERPLEXITY, LOGITS, padded) == pytest.approx(cross_entropy(LOGITS, padded).exp().item())
    assert value(PERPLEXITY, LOGITS, padded) == pytest.approx(value(PERPLEXITY, LOGITS[:3], LABELS[:3]))


def test_perplexity_of_equal_logits_is_the_number_of_tokens():
    assert value(PERPLEXITY, torch.zeros(2, 3, 7), torch.zeros(2, 3, dtype=torch.int32)) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("outputs", "targets"), [((4, 1), (4,)), ((4,), (4, 1)), ((4, 3), (4, 3)), ((1, 3), (3,))], ids=str
)
def test_numbers_may_differ_from_outputs_by_dimensions_of_size_one(outputs, targets):
    assert mean_squared_error(torch.zeros(outputs), torch.full(targets, 2.0)).item() == 4.0
    assert value(RMSE, torch.zeros(outputs), torch.full(targets, 2.0)) == 2.0


def test_targets_of_another_shape_are_refused():
    for loss in (mean_squared_error, lambda y, t: value(RMSE, y, t)):
        with pytest.raises(TaskError, match=r"targets must have shape \(2, 3\), got \(3, 2\)"):
            loss(torch.zeros(2, 3), torch.zeros(3, 2))
    for loss in (cross_entropy, lambda y, t: value(ACCURACY, y, t)):
        with pytest.raises(TaskError, match=r"targets must have shape \(6,\), got \(2, 3\)"):
            loss(LOGITS, LABELS.reshape(2, 3))


class Elsewhere(nn.Module):
    """A metric that is a module, as those of torchmetrics are, and remembers where it was put."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def update(self, outputs, targets):
        self.total += (outputs - targets).sum()

    def compute(self):
        return self.total


def test_a_metric_that_is_a_module_lives_where_the_outputs_are():
    assert Metric("bias", Elsewhere).begin(torch.device("meta")).total.device.type == "meta"


def test_the_range_of_a_metric_is_no_part_of_an_objectives_identity():
    plain = Metric("error_rate", Elsewhere, higher_is_better=False)
    bounded = replace(plain, low=0.0, high=1.0)
    assert (
        Objective(mean_squared_error, plain, "gaussian").spec()
        == Objective(mean_squared_error, bounded, "gaussian").spec()
    )
    assert (plain.bounds, bounded.bounds, RMSE.bounds) == ({}, {"low": 0.0, "high": 1.0}, {"low": 0.0})


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ({"low": 1.0, "high": 0.0}, "high must be more than low, 1, got 0.0"),
        ({"low": float("-inf")}, "low must be a finite number, or None for no bound, got -inf"),
        ({"high": "1"}, "high must be a finite number, or None for no bound, got '1'"),
    ],
)
def test_a_range_that_is_none_is_refused(bounds, says):
    with pytest.raises(TaskError) as refused:
        Metric("f1", Elsewhere, **bounds)
    assert str(refused.value) == says


def test_settings_of_a_loss_tell_objectives_apart():
    specs = [
        Objective(loss, RMSE, "gaussian").spec()["loss"]
        for loss in (nn.HuberLoss(delta=1.0), nn.HuberLoss(delta=2.0), nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)))
    ]
    assert len(set(specs)) == 3
    assert "(1.0, 1.0)" in specs[2]
    assert classification().spec()["loss"] == "cross_entropy"
    assert regression().spec()["loss"] == "mean_squared_error"


def test_the_last_bits_of_real_targets_are_not_looked_at():
    inputs, targets = torch.randn(9, 2), torch.linspace(-1, 1, 9)[:, None]

    def identity(y):
        return data_identity({name: TensorDataset(inputs, y) for name in ("train", "validation", "test")})

    assert identity(targets) == identity(targets + 1e-6)
    assert identity(targets) != identity(targets[:, 0])
    assert identity((targets > 0).long()) != identity((targets > 0.3).long())


def test_a_metric_with_its_graph_is_a_number_without_a_warning():
    computed = torch.ones(1, requires_grad=True).mean()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ACCURACY.number(computed) == 1.0
