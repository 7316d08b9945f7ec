"""Nothing assumes classes: regression, language modelling, metrics of one's own, and what an odd metric value means."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Metric, Objective, Recipe, Splits, Task, TaskError, language_modelling, regression
from aquasurf_ray.workers.network import spectrum_batch, try_network
from aquasurf_ray.workers.training import train

TANH = Activation("tanh(x)")


def diabetes_network(activation):
    return nn.Sequential(nn.Linear(10, 16), activation(), nn.Linear(16, 1))


def diabetes_data():
    from sklearn.datasets import load_diabetes

    inputs, targets = (torch.as_tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
    inputs, targets = inputs * 20, (targets - targets.mean()) / targets.std()
    return Splits(*(TensorDataset(inputs[i:j], targets[i:j]) for i, j in ((0, 300), (300, 370), (370, 442))))


@pytest.fixture(scope="module")
def diabetes():
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=0.01, weight_decay=1e-3)
    return Task(name="diabetes", network=diabetes_network, data=diabetes_data, recipe=recipe, objective=regression())


def linear_fit(splits):
    """Test error (root mean square) of ordinary least squares."""
    from sklearn.linear_model import LinearRegression

    (x, y), (u, v) = ([t.numpy() for t in s.tensors] for s in (splits.train, splits.test))
    return float(((LinearRegression().fit(x, y).predict(u) - v) ** 2).mean() ** 0.5)


def test_regression_is_about_as_good_as_a_linear_fit_and_a_lower_error_scores_higher(diabetes):
    result = train(diabetes, TANH)
    assert result.status == "done"
    assert result.score == result.epochs[-1].val_score < 0
    assert -result.test_score == pytest.approx(linear_fit(diabetes.splits()), rel=0.15)
    assert result.test_score == pytest.approx(-math.sqrt(result.test_loss), rel=1e-5)
    assert (result.train_accuracy, result.val_accuracy, result.test_accuracy) == (None, None, None)
    assert {epoch.val_accuracy for epoch in result.epochs} == {None}
    assert result.epochs[-1].train_score > result.epochs[0].train_score


def language_network(activation):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5, 8)
            self.layers = nn.Sequential(nn.Linear(8, 16), activation(), nn.Linear(16, 5))

        def forward(self, tokens):
            return self.layers(self.embedding(tokens))

    return Model()


def sequences():
    """Each token is its predecessor's successor modulo 5, so the next one is certain."""
    tokens = (torch.randint(5, (96, 1), generator=torch.Generator().manual_seed(0)) + torch.arange(13)) % 5
    parts = (tokens[:64], tokens[64:80], tokens[80:])
    return Splits(*(TensorDataset(part[:, :-1], part[:, 1:]) for part in parts))


def test_a_toy_language_is_learnt():
    recipe = Recipe(epochs=10, batch_size=8, learning_rate=0.02, optimizer="adamw", schedule="cosine")
    task = Task("tokens", language_network, sequences, recipe, language_modelling())
    result = train(task, TANH)
    assert -result.epochs[0].val_score > 1.5
    assert 1.0 <= -result.score < 1.05, "perplexity"
    assert -result.score == pytest.approx(math.exp(result.val_loss), rel=1e-4)


class Fixed:
    """A metric with a value of one's choice."""

    def __init__(self, value):
        self.value = value

    def update(self, outputs, targets):
        assert not outputs.requires_grad

    def compute(self):
        return torch.tensor(self.value)


def with_metric(task, value, higher=True):
    objective = replace(regression(), metric=Metric("fixed", lambda: Fixed(value), higher_is_better=higher))
    return replace(task, objective=objective, recipe=replace(task.recipe, epochs=2))


def test_a_custom_metric_is_scored_with_its_sign(diabetes):
    assert train(with_metric(diabetes, 3.0), TANH).score == 3.0
    assert train(with_metric(diabetes, 3.0, higher=False), TANH).score == -3.0


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_score_that_is_not_finite_ends_as_diverged(diabetes, value, shown):
    result = train(with_metric(diabetes, value, higher=False), TANH)
    assert result.status == "diverged"
    assert result.reason == (
        f"the metric fixed gave {shown} on the validation split after epoch 2, though the network's outputs were finite"
    )
    assert result.score is None


def test_custom_losses_are_minimised(diabetes):
    objective = Objective(lambda out, y: (out.squeeze(1) - y).abs().mean(), regression().metric, "gaussian")
    result = train(replace(diabetes, objective=objective), TANH)
    splits = diabetes.splits()
    assert result.status == "done"
    assert result.test_loss < splits.test.tensors[1].abs().mean().item() * 0.9, "better than always the mean"


def test_an_infinite_loss_of_finite_outputs_is_a_bad_prediction_and_no_fault(diabetes):
    objective = Objective(
        lambda out, y: ((out.squeeze(1) - y).square().mean() if out.requires_grad else out.sum() * math.inf).abs(),
        regression().metric,
        "gaussian",
    )
    result = train(replace(diabetes, objective=objective, recipe=replace(diabetes.recipe, epochs=1)), TANH)
    assert (result.status, result.val_loss, result.test_loss) == ("done", math.inf, math.inf)
    assert math.isfinite(result.score)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (lambda out, y: (out.squeeze(1) - y).abs(), r"must return a scalar tensor, .*, got shape \(2,\)"),
        (lambda out, y: nn.functional.cross_entropy(out, y), "objective of task 'diabetes' fails on the task's own"),
    ],
)
def test_an_objective_that_does_not_fit_the_task_is_reported_before_any_function(diabetes, loss, reason):
    wrong = replace(diabetes, objective=Objective(loss, regression().metric, "gaussian"))
    with pytest.raises(TaskError, match=reason):
        try_network(wrong, wrong.splits(), device=torch.device("cpu"))
    try_network(diabetes, diabetes.splits(), device=torch.device("cpu"))


def changed_below(activation):
    class Changed(nn.Module):
        """Adds to its input in place after the activation has seen it."""

        def __init__(self):
            super().__init__()
            self.first, self.activation, self.last = nn.Linear(10, 1), activation(), nn.Linear(1, 1)

        def forward(self, x):
            x = self.first(x)
            y = self.activation(x)
            x += 1.0
            return self.last(x + y)

    return Changed()


def normed(activation):
    return nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4), activation(), nn.Linear(4, 1))


def test_a_last_batch_of_one_is_left_out_or_reported_where_batch_norm_cannot_take_it(diabetes):
    splits = diabetes.splits()
    few = replace(splits, train=TensorDataset(*splits.train[:65]))
    task = replace(diabetes, network=normed, data=lambda: few, recipe=Recipe(epochs=2, batch_size=32))
    try_network(task, few, device=torch.device("cpu"))
    assert train(task, TANH).status == "done"
    told = r"network of task 'diabetes' fails on a training batch of one example .* more than 1 value per channel"
    for examples, recipe in [(few.train, Recipe(batch_size=1)), (DataLoader(few.train, batch_size=32), task.recipe)]:
        wrong = replace(task, data=lambda examples=examples: replace(few, train=examples), recipe=recipe)
        with pytest.raises(TaskError, match=told):
            try_network(wrong, wrong.splits(), device=torch.device("cpu"))


LAST_DROPPED = {"batch_size": 10_000, "drop_last": True}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {"recipe": replace(t.recipe, optimizer="nonsense")}, "optimizer 'nonsense' cannot be made"),
        (lambda t: {"network": changed_below}, "backward pass of task 'diabetes' fails .* inplace operation"),
        *[
            (
                lambda t, name=name: {
                    "data": lambda: replace(t.splits(), **{name: DataLoader(getattr(t.splits(), name), **LAST_DROPPED)})
                },
                f"{name} split of task 'diabetes' gives no batch",
            )
            for name in ("train", "validation", "test")
        ],
    ],
    ids=["optimizer", "in place", "train", "validation", "test"],
)
def test_a_fault_of_the_task_is_reported_before_any_function_is_tried(diabetes, change, reason):
    wrong = replace(diabetes, **change(diabetes))
    with pytest.raises(TaskError, match=reason):
        try_network(wrong, wrong.splits(), device=torch.device("cpu"))


def test_examples_may_be_arrays_and_must_be_pairs(diabetes):
    class Arrays(Dataset):
        def __init__(self, n_parts):
            self.n_parts = n_parts

        def __len__(self):
            return 12

        def __getitem__(self, i):
            return (np.full(10, i, dtype=np.float32), np.float32(i), i)[: self.n_parts]

    pairs = replace(diabetes, data=lambda: Splits(Arrays(2), Arrays(2), Arrays(2)))
    try_network(pairs, pairs.splits(), device=torch.device("cpu"))
    inputs, targets = spectrum_batch(pairs, pairs.splits(), seed=0, device=torch.device("cpu"))
    assert (inputs.shape, targets.shape) == ((12, 10), (12,))
    triples = Splits(Arrays(3), Arrays(3), Arrays(3))
    with pytest.raises(TaskError, match=r"must be \(input, target\) pairs, got 3 parts"):
        try_network(diabetes, triples, device=torch.device("cpu"))


def test_mixing_is_for_class_labels(diabetes):
    with pytest.raises(TaskError, match="likelihood must be categorical for mixup and cutmix"):
        replace(diabetes, recipe=Recipe(mixup=0.2))
