"""Padding and the place of the classes are what PyTorch's own losses make of them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks import Objective, TaskError
from aquasurf_ray.tasks.classes import class_dimension
from aquasurf_ray.tasks.objective import ACCURACY, PERPLEXITY, RMSE, cross_entropy
from aquasurf_ray.tasks.targets import counted_targets, example_weights, ignored_label, is_sum

DRAW = torch.Generator().manual_seed(0)
CPU = torch.device("cpu")


def logits(*shape):
    return torch.randn(*shape, generator=DRAW)


def labels(*shape, classes=3):
    return torch.randint(0, classes, shape, generator=DRAW)


def measured(metric, outputs, targets, loss=cross_entropy):
    state = Objective(loss, metric, "categorical").begin_metric(CPU)
    state.update(outputs, targets)
    return state.compute()


@pytest.mark.parametrize(
    ("shape", "targets", "expected"),
    [
        ((5, 3), (5,), 1),
        ((5, 3), (5, 1), 1),
        ((5, 3, 8, 7), (5, 8, 7), 1),
        ((5, 3, 8, 7), (5, 1, 8, 7), 1),
        ((5, 3, 8), (5, 8), 1),
        ((5, 8, 3), (5, 8), 2),
        ((5, 8, 7, 3), (5, 8, 7), 3),
        ((5, 8, 7, 3), (5, 8, 7, 1), 3),
        ((1, 3, 1), (1, 1), 1),
    ],
    ids=str,
)
def test_the_targets_shape_tells_where_the_classes_are(shape, targets, expected):
    assert class_dimension(torch.zeros(shape), torch.zeros(targets, dtype=torch.int64)) == expected


@pytest.mark.parametrize("shape", [(4, 3, 6, 5), (4, 3, 6)], ids=["pixels", "steps"])
def test_classes_in_dimension_1_have_pytorchs_loss_and_the_metrics_of_its_argmax(shape):
    outputs, targets = logits(*shape), labels(shape[0], *shape[2:])
    targets[0, :2] = -100
    counted = targets != -100
    expected = functional.cross_entropy(outputs.double(), targets)
    assert cross_entropy(outputs, targets).item() == pytest.approx(expected.item(), rel=1e-6)
    assert measured(PERPLEXITY, outputs, targets) == pytest.approx(expected.exp().item(), rel=1e-6)
    right = (outputs.argmax(1) == targets)[counted].double().mean().item()
    assert measured(ACCURACY, outputs, targets) == pytest.approx(right)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        functional.cross_entropy,
        partial(functional.cross_entropy, label_smoothing=0.1),
        lambda outputs, targets: functional.cross_entropy(outputs, targets),
    ],
    ids=["module", "function", "partial", "own"],
)
def test_where_both_dimensions_fit_the_loss_decides(loss):
    outputs, targets = logits(4, 3, 3), labels(4, 3)
    assert class_dimension(outputs, targets, loss) == 1
    right = (outputs.argmax(1) == targets).double().mean().item()
    assert measured(ACCURACY, outputs, targets, loss) == pytest.approx(right)


def test_a_loss_of_the_last_dimension_is_recognised_where_both_fit():
    def own(outputs, targets):
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    outputs, targets = logits(4, 3, 3), labels(4, 3)
    assert class_dimension(outputs, targets, own) == class_dimension(outputs, targets, cross_entropy) == 2
    right = (outputs.argmax(2) == targets).double().mean().item()
    assert measured(ACCURACY, outputs, targets, own) == measured(ACCURACY, outputs, targets) == pytest.approx(right)


@pytest.mark.parametrize("dimension", [1, 3])
def test_probabilities_have_their_classes_where_the_loss_has_them(dimension):
    outputs = logits(4, 3, 5, 3)
    targets = logits(4, 3, 5, 3).softmax(dimension)
    loss = nn.CrossEntropyLoss() if dimension == 1 else cross_entropy
    assert class_dimension(outputs, targets, loss) == dimension
    right = (outputs.argmax(dimension) == targets.argmax(dimension)).double().mean().item()
    assert measured(ACCURACY, outputs, targets, loss) == pytest.approx(right)


def test_one_hot_labels_of_any_type_are_the_labels():
    outputs, targets = logits(6, 3), labels(6)
    for one_hot in (functional.one_hot(targets, 3), functional.one_hot(targets, 3).float()):
        assert cross_entropy(outputs, one_hot).item() == pytest.approx(cross_entropy(outputs, targets).item(), rel=1e-6)
        assert measured(ACCURACY, outputs, one_hot) == measured(ACCURACY, outputs, targets)


def test_targets_that_fit_no_dimension_are_refused():
    with pytest.raises(TaskError, match=r"targets must have shape \(4, 3\), got \(4, 7\)"):
        class_dimension(torch.zeros(4, 3, 5), torch.zeros(4, 7, dtype=torch.int64))
    with pytest.raises(TaskError, match=r"whole numbers of an integer type, as labels\.long\(\) gives, got float32"):
        class_dimension(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(TaskError, match=r"logits must have shape \(n, classes\)"):
        class_dimension(torch.zeros(4), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    "loss",
    [
        cross_entropy,
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(ignore_index=2),
        nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 7.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 7.0]), ignore_index=0),
        partial(functional.cross_entropy, weight=torch.tensor([0.5, 2.0, 7.0]), label_smoothing=0.2),
    ],
    ids=["own", "torch", "ignore_index", "weight", "weight and ignore_index", "partial"],
)
def test_batches_weighted_by_their_examples_have_the_loss_of_all_together(loss):
    outputs, targets = logits(24, 3, 7), labels(24, 7)
    targets[5:15, 1:] = -100
    if ignored_label(loss) != -100:
        targets[targets == -100] = ignored_label(loss)
    weights = example_weights(targets, loss)
    assert weights.shape == (24,)
    parts = [slice(0, 5), slice(5, 15), slice(15, 24)]
    total = sum(loss(outputs[p], targets[p]).item() * weights[p].sum().item() for p in parts)
    whole = loss(outputs, targets).item()
    assert total / weights.sum().item() == pytest.approx(whole, rel=1e-6)
    assert counted_targets(targets, loss).sum() == (targets != ignored_label(loss)).sum()


@pytest.mark.parametrize("shape", [(24, 3), (24, 3, 7), (24, 3, 2, 5)])
def test_a_sum_over_probabilities_is_a_mean_once_divided_by_the_weights(shape):
    outputs = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    targets = outputs.flip(0).softmax(1)
    summed = nn.CrossEntropyLoss(reduction="sum")
    parts = [slice(0, 5), slice(5, 24)]
    total = sum(summed(outputs[p], targets[p]).item() for p in parts)
    divisor = sum(example_weights(targets[p], summed).sum().item() for p in parts)
    assert total / divisor == pytest.approx(functional.cross_entropy(outputs, targets).item(), rel=1e-6)
    assert example_weights(targets.movedim(1, -1), Within(summed)).sum() == divisor


class Within(nn.Module):
    """A loss of one's own around others; it calls the first."""

    def __init__(self, *losses, **settings):
        super().__init__()
        self.losses = nn.ModuleList(losses)
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, outputs, targets):
        return self.losses[0](outputs.reshape(-1, outputs.shape[-1]), targets.flatten())


@pytest.mark.parametrize("settings", [{}, {"ignore_index": 0}, {"weight": torch.tensor([0.5, 2.0, 7.0])}], ids=str)
@pytest.mark.parametrize("wrap", [Within, lambda loss: Within(Within(loss)), lambda loss: partial(Within(loss))])
def test_a_loss_in_a_module_has_the_mean_of_pytorchs_over_all_batches(wrap, settings):
    outputs, targets = logits(12, 4, 3), labels(12, 4)
    targets[3:9, 1:] = settings.get("ignore_index", -100)
    targets[3:9, 0] = 1
    loss = wrap(nn.CrossEntropyLoss(**settings))
    weights = example_weights(targets, loss)
    parts = [slice(0, 5), slice(5, 12)]
    total = sum(loss(outputs[p], targets[p]).item() * weights[p].sum().item() for p in parts)
    whole = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), **settings).item()
    assert total / weights.sum().item() == pytest.approx(whole, rel=1e-6)
    assert counted_targets(targets, loss).equal(targets != settings.get("ignore_index", -100))
    right = (outputs.argmax(2) == targets)[counted_targets(targets, loss)].double().mean().item()
    assert measured(ACCURACY, outputs, targets, loss) == pytest.approx(right)


def test_the_settings_of_a_loss_in_a_module_are_seen_unless_they_are_ambiguous():
    summed = nn.CrossEntropyLoss(reduction="sum", ignore_index=0)
    assert is_sum(Within(summed))
    assert not is_sum(Within(summed, reduction="mean"))
    assert not is_sum(Within(summed, nn.MSELoss()))
    assert ignored_label(Within(summed, ignore_index=2)) == 2
    assert ignored_label(Within(summed, summed)) == 0
    assert ignored_label(Within(summed, nn.NLLLoss(ignore_index=1))) == -100
    focal = Within(nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 7.0]), reduction="none"))
    assert example_weights(torch.tensor([0, 2]), focal).tolist() == [1.0, 1.0]


def test_numbers_to_be_predicted_all_count():
    objective = Objective(nn.MSELoss(), RMSE, "gaussian")
    targets = torch.tensor([[-100], [3]])
    assert objective.counted(targets).all()
    assert objective.weights(targets).tolist() == [1.0, 1.0]
    assert objective.weights(torch.zeros(2, 5)).tolist() == [5.0, 5.0]
    assert is_sum(nn.MSELoss(reduction="sum"))
    assert not is_sum(nn.MSELoss())


@pytest.mark.parametrize(("dtype", "ignored"), [(torch.uint8, 255), (torch.int8, -100), (torch.int16, 300)])
def test_labels_of_short_types_are_compared_as_numbers(dtype, ignored):
    """-100 is 156 in eight bits without a sign, and 255 is -1 in eight bits with one."""
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    assert counted_targets(torch.tensor([0, 156], dtype=torch.uint8)).all()
    assert counted_targets(torch.tensor([-1, 1]).to(torch.int8), nn.CrossEntropyLoss(ignore_index=255)).all()
    marked = torch.tensor([0, ignored]).to(dtype)
    assert counted_targets(marked, loss).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.int8])
def test_answers_of_yes_or_no_that_are_padding_do_not_count(dtype):
    def masked(outputs, targets):
        counted = targets != -100
        return functional.binary_cross_entropy_with_logits(outputs[counted], targets[counted].to(outputs.dtype))

    targets = torch.tensor([[1, -100, 0], [-100, -100, -100]]).to(dtype)
    objective = Objective(masked, ACCURACY, "bernoulli")
    assert objective.weights(targets).tolist() == [2.0, 0.0]
    objective.refuse_counted_padding(logits(2, 3), targets)
    counting = Objective(lambda o, t: functional.mse_loss(o, t.to(o.dtype)), ACCURACY, "bernoulli")
    with pytest.raises(TaskError, match=r"must leave out targets of -100, which are padding, and '.*' counts them"):
        counting.refuse_counted_padding(logits(2, 3), targets)
    counting.refuse_counted_padding(logits(2, 3), targets.clamp(min=0))
