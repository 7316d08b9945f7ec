"""Targets of -100 count nowhere in a training: losses and steps are PyTorch's own, whatever the batches are."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Objective, Recipe, Splits, Task, TaskError, classification, language_modelling
from aquasurf_ray.tasks.objective import ACCURACY, PERPLEXITY
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import named_form
from aquasurf_ray.workers.engine.health import HealthLimits, check_health
from aquasurf_ray.workers.engine.loop import TrainingLoop
from aquasurf_ray.workers.engine.ranks import Alone
from aquasurf_ray.workers.network import try_network, untrained_network
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
TANH = Activation("tanh(x)")
WORDS = 7


def language_network(activation):
    return nn.Sequential(nn.Embedding(WORDS, 8), nn.Linear(8, 12), activation(), nn.Linear(12, WORDS))


def sentences(n=40, seed=0, without=()):
    """Sentences of 1 to 9 words; those in `without` have none."""
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(0, WORDS, (n, 9), generator=draw)
    targets = (3 * words) % WORDS
    lengths = torch.randint(1, 10, (n, 1), generator=draw)
    targets[torch.arange(9)[None] >= lengths] = -100
    targets[list(without)] = -100
    return TensorDataset(words, targets)


class Listed(Dataset):
    def __init__(self, tensors):
        self.tensors = tensors

    def __len__(self):
        return len(self.tensors)

    def __getitem__(self, i):
        return self.tensors[i]


KINDS = {"tensors": lambda data: data, "listed": Listed, "loader": lambda data: DataLoader(data, batch_size=7)}


def language(make=lambda data: data, *, train_without=(), objective=None, **recipe):
    splits = Splits(make(sentences(40, 0, train_without)), make(sentences(40, 1)), make(sentences(40, 2)))
    settings = {"epochs": 1, "batch_size": 7, "learning_rate": 0.1, **recipe}
    return Task("sentences", language_network, lambda: splits, Recipe(**settings), objective or language_modelling())


WEIGHTS = torch.linspace(0.2, 3.0, WORDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "loss",
    [
        language_modelling().loss,
        lambda outputs, targets: functional.cross_entropy(outputs.flatten(0, 1), targets.flatten()),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="sum"),
        partial(functional.cross_entropy, weight=WEIGHTS),
    ],
    ids=["own", "a function", "PyTorch's", "a sum", "class weights"],
)
def test_the_losses_of_a_split_are_pytorchs_on_all_of_it_together(kind, loss):
    torchs = isinstance(loss, nn.Module | partial)  # with classes in dimension 1

    class Model(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.layers = language_network(activation)

        def forward(self, words):
            outputs = self.layers(words)
            return outputs.movedim(-1, 1) if torchs else outputs

    task = language(KINDS[kind], objective=Objective(loss, PERPLEXITY, "categorical"), learning_rate=1e-12)
    task = replace(task, network=Model)
    result = train(task, TANH)
    network = untrained_network(task, lambda: TANH, seed=0, device=CPU).double()
    for seed, found in ((0, result.train_loss), (1, result.val_loss), (2, result.test_loss)):
        words, targets = sentences(40, seed).tensors
        outputs = network(words)
        rows, labels = (outputs.movedim(1, -1) if torchs else outputs).flatten(0, 1), targets.flatten()
        weight = WEIGHTS.double() if isinstance(loss, partial) else None
        expected = functional.cross_entropy(rows, labels, weight=weight).item()
        assert found == pytest.approx(expected, rel=1e-5)
        plain = functional.cross_entropy(rows, labels).item()
    assert -result.test_score == pytest.approx(math.exp(plain), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_the_perplexity_is_exp_of_the_loss_whatever_the_batch_size(batch_size):
    result = train(language(batch_size=batch_size), TANH)
    assert -result.score == pytest.approx(math.exp(result.val_loss), rel=1e-6)
    assert -result.test_score == pytest.approx(math.exp(result.test_loss), rel=1e-6)


def by_hand(task, seed=0):
    """The weights after one epoch of SGD over those batches that have a target, and the learning rate of each batch."""
    network = untrained_network(task, lambda: TANH, seed=seed, device=CPU)
    words, targets = task.splits().train.tensors
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=True)
    for chosen in order.split(task.recipe.batch_size):
        if (targets[chosen] == -100).all():
            continue
        optimizer.zero_grad()
        functional.cross_entropy(network(words[chosen]).flatten(0, 1), targets[chosen].flatten()).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("kind", ["tensors", "listed"])
def test_a_batch_without_targets_makes_no_step(kind):
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    empty = [*order[:5].tolist(), *order[15:20].tolist()]  # the first batch, and one in the middle
    task = language(KINDS[kind], train_without=empty, batch_size=5, schedule="constant", weight_decay=0.0,
                    warmup_fraction=0.0)  # fmt: skip
    loop = TrainingLoop(TrainingFeed(task, task.splits(), CPU, seed=0), named_form(TANH), Alone())
    epoch = loop.one_epoch(1, loop.network)
    reference = by_hand(replace(task, data=lambda: language(train_without=empty).splits()))
    for found, expected in zip(loop.network.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    assert math.isfinite(epoch.train_loss)
    assert math.isfinite(epoch.train_score)


def test_the_learning_rate_goes_its_way_over_batches_without_targets():
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for empty in ([], order[:5].tolist(), order[-5:].tolist()):
        task = language(train_without=empty, batch_size=5, epochs=2)
        loop = TrainingLoop(TrainingFeed(task, task.splits(), CPU, seed=0), named_form(TANH), Alone())
        loop.to_the_end(None, math.inf, None, None)
        assert loop.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 25 / 1e4)  # OneCycleLR's own end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "recipe",
    [{"ema_decay": 0.5}, {"label_smoothing": 0.1}, {"precision": "bfloat16"}, {"clip_norm": 0.1}, {"batch_size": 1}],
    ids=str,
)
def test_batches_without_targets_are_no_divergence(kind, recipe):
    task = language(KINDS[kind], train_without=range(0, 40, 2), **recipe)
    validation = KINDS[kind](sentences(40, 1, without=range(29)))
    whole = task
    task = replace(whole, data=lambda: replace(whole.splits(), validation=validation))
    result = train(task, TANH, gate=HealthLimits())
    assert (result.status, result.reason) == ("done", None)
    assert all(math.isfinite(value) for value in (result.train_loss, result.val_loss, result.train_score))
    assert -result.score == pytest.approx(math.exp(result.val_loss), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_split_without_any_target_is_refused_before_any_function(kind, name):
    task = language(KINDS[kind])
    none = KINDS[kind](sentences(40, 3, without=range(40)))
    wrong = replace(task, data=lambda: replace(task.splits(), **{name: none}))
    says = f"{name} split of task 'sentences': no target counts: all are -100"
    with pytest.raises(TaskError, match=says):
        try_network(wrong, wrong.splits(), device=CPU)
    try_network(task, task.splits(), device=CPU)
    with pytest.raises(TaskError, match="counts"):
        train(wrong, TANH)


def test_the_health_gate_takes_the_first_batch_that_has_a_target():
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    with_none, without = (
        language(train_without=order[:5].tolist(), batch_size=5),
        language(batch_size=5),
    )
    feeds = [TrainingFeed(task, task.splits(), CPU, seed=0) for task in (with_none, without)]
    health = check_health(feeds[0], TANH)
    network = untrained_network(with_none, lambda: TANH, seed=0, device=CPU)
    words, targets = sentences(40, 0, order[:5].tolist()).tensors
    second = order[5:10]
    expected = functional.cross_entropy(network(words[second]).flatten(0, 1), targets[second].flatten())
    assert health.loss == pytest.approx(expected.item(), rel=1e-5)
    assert check_health(feeds[1], TANH).loss != pytest.approx(health.loss)


def images(n, seed, unlabelled):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=draw)
    inputs = torch.randn(n, 1, 6, 6, generator=draw) + labels[:, None, None, None]
    labels[unlabelled] = -100
    return TensorDataset(inputs, labels)


def image_network(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), activation(), nn.Linear(8, 4))


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "label_smoothing": 0.1}], ids=str)
def test_examples_without_a_label_are_mixed_with_none(mixing):
    pytest.importorskip("torchvision")
    unlabelled = slice(0, 32, 3)
    splits = Splits(images(32, 0, unlabelled), images(32, 1, unlabelled), images(32, 2, unlabelled))
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.01, **mixing)
    task = Task("images", image_network, lambda: splits, recipe, classification())
    feed = TrainingFeed(task, splits, CPU, seed=0)
    network = untrained_network(task, lambda: TANH, seed=0, device=CPU)
    steps = list(feed.epoch(1, torch.Generator().manual_seed(0), network))
    assert sum(len(step.targets) for step in steps) == (splits.train.tensors[1] != -100).sum()
    assert all(step.targets.sum(1).allclose(torch.ones(len(step.targets))) for step in steps)
    assert sum(step.n for step in steps) == (splits.train.tensors[1] != -100).sum()
    result = train(task, TANH)
    assert result.status == "done"


def ignoring(outputs, targets, ignore_index):
    return functional.cross_entropy(outputs, targets, ignore_index=ignore_index)


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        (nn.CrossEntropyLoss(ignore_index=255), 255),
        (nn.CrossEntropyLoss(ignore_index=0), 0),
        (nn.CrossEntropyLoss(ignore_index=255, weight=torch.tensor([0.5, 2.0, 3.0, 4.0])), 255),
        (partial(functional.cross_entropy, ignore_index=255), 255),
        (partial(ignoring, ignore_index=0), 0),
    ],
    ids=["255", "a class", "weights", "partial", "a partial of one's own"],
)
@pytest.mark.parametrize("column", [False, True])
def test_mixing_leaves_out_the_label_that_the_loss_ignores(loss, label, column):
    pytest.importorskip("torchvision")

    def data(seed):
        inputs, labels = images(32, seed, slice(0, 32, 3)).tensors
        labels = torch.where(labels == -100, label, labels.clamp(min=1))
        return TensorDataset(inputs, labels[:, None] if column and seed == 0 else labels)

    splits = Splits(data(0), data(1), data(2))
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=1e-12, mixup=0.4)
    task = Task("images", image_network, lambda: splits, recipe, Objective(loss, ACCURACY, "categorical"))
    network = untrained_network(task, lambda: TANH, seed=0, device=CPU)
    step = next(iter(TrainingFeed(task, splits, CPU, seed=0).epoch(1, torch.Generator().manual_seed(0), network)))
    assert len(step.targets) == len(step.labels) == step.n == 21
    assert (step.labels != label).all()
    assert (step.targets[:, 0] == 0).all()  # no label that counts is of class 0
    assert step.targets.sum(1).allclose(torch.ones(21))
    result = train(task, TANH, gate=HealthLimits())
    log_likelihoods = network(step.inputs).double().log_softmax(1)
    weight = loss.weight.double() if getattr(loss, "weight", None) is not None else torch.ones(4).double()
    assert result.train_loss == pytest.approx(-(weight * step.targets * log_likelihoods).sum(1).mean().item(), rel=1e-5)
    inputs, labels = splits.validation.tensors
    counted = labels != label
    expected = functional.cross_entropy(network(inputs)[counted], labels[counted], weight=weight.float())
    assert result.val_loss == pytest.approx(expected.item(), rel=1e-5)


def test_unlabelled_examples_count_neither_in_the_accuracy_nor_in_the_loss():
    unlabelled = slice(0, 32, 3)
    splits = Splits(*(images(32, seed, unlabelled) for seed in range(3)))
    recipe = Recipe(epochs=1, batch_size=5, learning_rate=1e-12)
    task = Task(
        "images", image_network, lambda: splits, recipe, Objective(nn.CrossEntropyLoss(), ACCURACY, "categorical")
    )
    result = train(task, TANH)
    inputs, labels = splits.validation.tensors
    outputs = untrained_network(task, lambda: TANH, seed=0, device=CPU)(inputs)
    assert result.val_loss == pytest.approx(functional.cross_entropy(outputs, labels).item(), rel=1e-5)
    counted = labels != -100
    assert result.val_accuracy == pytest.approx((outputs.argmax(1) == labels)[counted].double().mean().item())


class RulesOut(nn.Module):
    """Classes of an example that its first input says cannot be."""

    def __init__(self, activation, low):
        super().__init__()
        self.low, self.layers = low, image_network(activation)

    def forward(self, x):
        outputs = self.layers(x)
        impossible = torch.arange(4)[None] == (x[:, 0, 0, 0] > 1).long()[:, None]
        return outputs.masked_fill(impossible, self.low)


def possible(seed):
    inputs, labels = images(64, seed, slice(0, 0)).tensors
    labels = torch.where(labels < 2, 3, labels)
    return TensorDataset(inputs, labels)


def test_logits_of_minus_infinity_rule_classes_out_and_are_no_overflow():
    splits = Splits(*(possible(seed) for seed in range(3)))
    found = []
    for low in (-1e9, -math.inf):
        recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.01)
        task = Task("ruled", partial(RulesOut, low=low), lambda: splits, recipe)
        check_health(TrainingFeed(task, splits, CPU, seed=0), TANH)
        found.append(train(task, TANH, gate=HealthLimits()))
    assert [result.status for result in found] == ["done", "done"]
    assert found[0].val_loss == pytest.approx(found[1].val_loss, rel=1e-6)
    assert found[0].score == found[1].score
