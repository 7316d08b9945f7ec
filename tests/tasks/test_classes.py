"""Where shapes allow two dimensions for the classes, they are where the loss's own softmax, or PyTorch, has them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.tasks import Objective, TaskError, classification
from aquasurf_ray.tasks.classes import assumed_dimension, class_dimension
from aquasurf_ray.tasks.objective import ACCURACY, PERPLEXITY, cross_entropy

CPU = torch.device("cpu")


def plain(outputs, targets):
    return functional.cross_entropy(outputs, targets)


def weighted(outputs, targets):
    """Its weights are float32, so it does not take logits in float64."""
    return functional.cross_entropy(outputs, targets, weight=torch.tensor([0.5, 2.0, 7.0, 1.0, 1.0]))


def summed(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="sum")


def dice(outputs, targets):
    return 1 - 2 * (outputs.softmax(1) * targets).sum() / (outputs.softmax(1) + targets).sum()


def both(outputs, targets):
    return dice(outputs, targets) + plain(outputs, targets)


def focal(outputs, targets):
    losses = -targets * outputs.log_softmax(1)
    return ((1 - outputs.softmax(1)) ** 2 * losses).sum(1).mean()


def with_z_loss(outputs, targets):
    return plain(outputs, targets) + 0.01 * outputs.logsumexp(1).square().mean()


class Smoothed(nn.Module):
    def forward(self, outputs, targets):
        return functional.cross_entropy(outputs, targets, label_smoothing=0.1)


def drawn(n, *shape, seed=0, classes=5):
    """Logits [n, classes, *shape] and labels [n, *shape]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, *shape, generator=draw), torch.randint(0, classes, (n, *shape), generator=draw)


def one_hot(labels, classes=5):
    return functional.one_hot(labels, classes).movedim(-1, 1)


def last(loss):
    """The same loss for classes in the last dimension."""
    return lambda outputs, targets: loss(outputs.movedim(-1, 1), targets.movedim(-1, 1))


def name(loss):
    return getattr(loss, "__name__", str(loss))


@pytest.mark.parametrize("n", [1, 2, 16, 128, 512])
@pytest.mark.parametrize("loss", [plain, weighted, summed, dice, both, focal, Smoothed()], ids=name)
def test_the_softmax_of_a_loss_is_found_for_masks_at_any_number_of_examples(loss, n):
    for seed in range(4):
        outputs, labels = drawn(n, 4, 3, seed=seed)
        targets = one_hot(labels).float()
        assert class_dimension(outputs, targets, loss) == 1
        assert class_dimension(outputs.movedim(1, -1), targets.movedim(1, -1), last(loss)) == 3


@pytest.mark.parametrize("n", [1, 2, 16, 128, 512])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("loss", [plain, weighted, summed, Smoothed()], ids=name)
def test_the_softmax_of_a_loss_is_found_for_as_many_labels_as_classes(loss, scale, n):
    for seed in range(4):
        outputs, labels = drawn(n, 5, seed=seed)
        assert class_dimension(scale * outputs, labels, loss) == 1
        in_the_last = lambda outputs, targets: loss(outputs.movedim(-1, 1), targets)  # noqa: E731
        assert class_dimension(scale * outputs.movedim(1, -1), labels, in_the_last) == 2
    padded = labels.clone()
    padded[:, 1:] = -100
    assert class_dimension(outputs.bfloat16(), padded, loss) == 1


def measured(objective, outputs, targets):
    metric = objective.begin_metric(CPU)
    metric.update(outputs, targets)
    return metric.compute()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_one_hot_masks_have_the_loss_and_metrics_of_their_labels_in_classification(dtype):
    outputs, labels = drawn(40, 4, 4, classes=3)
    targets = one_hot(labels, 3).to(dtype)
    expected = functional.cross_entropy(outputs.double(), labels).item()
    assert classification().loss(outputs, targets).item() == pytest.approx(expected, rel=1e-6)
    assert measured(classification(), outputs, targets) == (outputs.argmax(1) == labels).double().mean().item()
    in_the_last = cross_entropy(outputs.movedim(1, -1), targets.movedim(1, -1))
    assert in_the_last.item() == pytest.approx(expected, rel=1e-6)
    targets[0, :, 0, 0] = 0  # a pixel of no class
    assert class_dimension(outputs, targets, cross_entropy) == 1
    assert class_dimension(outputs.movedim(1, -1), targets.movedim(1, -1), None) == 3


@pytest.mark.parametrize(
    ("loss", "dimension"),
    [
        (with_z_loss, 1),
        (last(with_z_loss), 3),
        (nn.BCEWithLogitsLoss(), 1),
        (nn.BCEWithLogitsLoss(), 3),
        (lambda outputs, targets: (outputs.sigmoid() - targets).square().mean(), 3),
    ],
    ids=["z-loss", "z-loss in the last", "bce", "bce in the last", "square"],
)
def test_the_sums_of_the_targets_decide_where_no_softmax_is_seen(loss, dimension):
    outputs, labels = drawn(16, 4, 4, classes=3)
    outputs, targets = outputs.movedim(1, dimension), one_hot(labels, 3).float().movedim(1, dimension)
    assert class_dimension(outputs, targets, loss) == dimension
    assert assumed_dimension(outputs, targets, loss) is None


def test_classes_that_nothing_tells_are_in_dimension_1_and_said_to_be():
    outputs, labels = drawn(16, 5)
    assert class_dimension(outputs, labels, with_z_loss) == 1
    right = (outputs.argmax(1) == labels).double().mean().item()
    assert measured(Objective(with_z_loss, ACCURACY, "categorical"), outputs, labels) == right
    said = assumed_dimension(outputs, labels, with_z_loss)
    assert said is not None
    assert said.startswith("the classes may be in dimension 1 or 2 of the outputs (16, 5, 5), neither loss nor targets")
    for loss in (plain, nn.CrossEntropyLoss(), cross_entropy):
        assert assumed_dimension(outputs, labels, loss) is None
    even = torch.full((16, 5, 5), 0.2)
    assert assumed_dimension(outputs, even, cross_entropy) is not None
    assert assumed_dimension(outputs, even, nn.CrossEntropyLoss()) is None


def test_whole_numbers_in_the_outputs_shape_that_are_not_one_hot_are_refused():
    for outputs in (torch.zeros(2, 3), torch.zeros(2, 3, 4, 4)):
        targets = torch.full(outputs.shape, 4)
        for refused in (cross_entropy, lambda o, t: measured(Objective(dice, ACCURACY, "categorical"), o, t)):
            with pytest.raises(TaskError, match=r"must be one-hot or probabilities, which sum to 1 .* from 4 to 4"):
                refused(outputs, targets)


def test_a_class_that_is_ruled_out_adds_nothing_where_its_probability_is_0():
    outputs, labels = drawn(40, classes=4)
    labels = labels.clamp(max=2)
    ruled = outputs.clone()
    ruled[:, 3] = -torch.inf
    ruled.requires_grad_()
    expected = functional.cross_entropy(ruled[:, :3], labels)
    (gradient,) = torch.autograd.grad(expected, ruled)
    targets = one_hot(labels, 4).float()
    assert cross_entropy(ruled, targets).item() == pytest.approx(expected.item(), rel=1e-6)
    (found,) = torch.autograd.grad(cross_entropy(ruled, targets), ruled)
    torch.testing.assert_close(found, gradient)
    perplexity = Objective(cross_entropy, PERPLEXITY, "categorical")
    assert measured(perplexity, ruled.detach(), targets) == pytest.approx(expected.exp().item(), rel=1e-6)
    assert cross_entropy(ruled, targets.roll(1, 1)).item() > 1e30, "a class that occurs must not be ruled out"
    torchs = Objective(nn.CrossEntropyLoss(), ACCURACY, "categorical")
    for given, mixes in ((targets, False), (labels, True)):
        with pytest.raises(TaskError, match="is NaN where a logit is minus infinity and targets are one-hot"):
            torchs.refuse_ruled_out(ruled.detach(), given, mixes=mixes)
        classification().refuse_ruled_out(ruled.detach(), given, mixes=mixes)
    torchs.refuse_ruled_out(ruled.detach(), labels)


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, -100, 2]), torch.tensor([0, 3, -100, 2])])
@pytest.mark.parametrize("mixes", [False, True])
def test_smoothed_labels_of_a_network_that_rules_a_class_out_are_refused(labels, mixes):
    """PyTorch's loss is infinite, or NaN: smoothing gives the class a probability, whatever the labels are."""
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    ruled = logits.masked_fill(torch.tensor([False, False, False, True]), -torch.inf)
    smoothing = Objective(nn.CrossEntropyLoss(label_smoothing=0.1), ACCURACY, "categorical")
    assert not functional.cross_entropy(ruled, torch.tensor([0, 1, -100, 2]), label_smoothing=0.1).isfinite()
    with pytest.raises(TaskError, match="is not finite where a logit is minus infinity, since smoothed labels"):
        classification().refuse_ruled_out(ruled, labels, mixes=mixes, label_smoothing=0.1)
    if not mixes:
        with pytest.raises(TaskError, match=r"label_smoothing=0.1.*since smoothed labels give that class"):
            smoothing.refuse_ruled_out(ruled, labels)
    classification().refuse_ruled_out(logits, labels, mixes=mixes, label_smoothing=0.1)
    classification().refuse_ruled_out(ruled, labels, mixes=mixes)


def test_the_tensors_that_partial_binds_move_with_the_objective():
    weight = torch.tensor([0.5, 2.0, 7.0])
    moved = Objective(partial(functional.cross_entropy, weight=weight), ACCURACY, "categorical").on(
        torch.device("meta")
    )
    assert moved.loss.keywords["weight"].device.type == "meta"
    within = partial(partial(nn.CrossEntropyLoss(weight=weight)))
    assert Objective(within, ACCURACY, "categorical").on(torch.device("meta")).loss.func.weight.device.type == "meta"
    assert weight.device.type == "cpu"
    for loss in (cross_entropy, partial(cross_entropy, label_smoothing=0.1), nn.CrossEntropyLoss()):
        assert Objective(loss, ACCURACY, "categorical").on(torch.device("meta")).loss is loss
