"""Every built-in task passes its check on tiny data in the real format: a spectrum, two training steps, and the rest.

The networks are whole; the batches have two examples, because CPUs are slow at images of 224 x 224 pixels. Even so, the
check of such a network takes up to a minute of a core, so `make test-faults` runs those.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.driver.examine import task_check
from aquasurf_ray.driver.examine.metric_check import metric_direction
from aquasurf_ray.tasks import (
    Metric,
    Objective,
    Recipe,
    Splits,
    Task,
    TaskError,
    classification,
    data_set_of,
    load_task,
    network_from,
    regression,
    task_names,
)
from aquasurf_ray.tasks.objective import ACCURACY, PERPLEXITY, RMSE
from aquasurf_ray.workers.network import try_network
from aquasurf_ray.workers.spectrum import AssumedClassesWarning, task_spectrum
from aquasurf_ray.workers.training import train

STEPS = ["network", "data", "batch", "spectrum", "training", "forecast"]


@pytest.fixture
def small_batches(monkeypatch):
    def load(name, **options):
        task = load_task(name, **options)
        return replace(task, spectrum_batch_size=2, recipe=replace(task.recipe, batch_size=2))

    monkeypatch.setattr(task_check, "load_task", load)


def marked(name):
    large = data_set_of(name) in ("imagenet", "imagenette")
    return pytest.param(name, marks=pytest.mark.slow if large else ())


@pytest.mark.parametrize("name", [marked(name) for name in task_names()])
@pytest.mark.slow
def test_a_built_in_task_passes_its_check_on_synthetic_data(name, synthetic_data, small_batches):
    done = task_check.check_task(name)
    assert [(step.name, step.says) for step in done if not step.ok] == []
    assert [step.name for step in done] == STEPS
    assert done[-2].says.startswith("2 steps of 2 examples")
    _, _, left_out = done[3].says.partition("left out of the spectrum: ")
    named = re.findall(r"(\S+) \(([^)]*)\)", left_out)
    assert [name for name, kind in named if kind != "embedding" and not name.endswith("position_bias_table")] == []


def test_a_task_without_its_data_says_where_it_looked_and_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("AQUASURF_DATA", str(tmp_path))
    last = task_check.check_task("all-cnn-c/cifar10")[-1]
    assert (last.name, last.ok) == ("data", False)
    assert str(tmp_path) in last.says
    assert "aquasurf task check all-cnn-c/cifar10 --download" in last.says


def normed(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), activation(), nn.Linear(4, 10))


def test_a_batch_of_one_that_the_network_does_not_take_is_reported(monkeypatch):
    digits = load_task("digits")
    splits = digits.splits()
    one_left = DataLoader(TensorDataset(*splits.train[:33]), batch_size=32)
    task = replace(digits, network=normed, data=lambda: replace(splits, train=one_left))
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    last = task_check.check_task("mine")[-1]
    assert (last.name, last.ok) == ("batch", False)
    assert last.says.startswith("network of task 'digits' fails on a training batch of one example (change batch_size")


def mean_square(outputs, targets):
    return (outputs - targets).square().mean()


def squeezed(outputs, targets):
    return functional.mse_loss(outputs.squeeze(1), targets)


@pytest.mark.parametrize("loss", [functional.mse_loss, nn.L1Loss(), mean_square, squeezed, regression().loss])
@pytest.mark.parametrize("shape", [(12,), (12, 1)], ids=str)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_broadcasts_to_all_pairs_of_examples_is_refused(loss, shape, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 3, generator=draw)
    examples = TensorDataset(inputs, (100 * inputs[:, 0]).reshape(shape))

    def network(activation):
        return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 1))

    objective = Objective(loss, regression().metric, "gaussian")
    recipe = Recipe(epochs=1, batch_size=6, learning_rate=1e-6)
    task = Task("mine", network, lambda: Splits(examples, examples, examples), recipe, objective)
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    checked = task_check.check_task("mine")
    outputs, targets = inputs[:6, :1], examples.tensors[1][:6]
    one_by_one = sum(loss(outputs[i : i + 1], targets[i : i + 1]).item() for i in range(6)) / 6
    step = next(step for step in checked if step.name == "batch")
    assert step.ok == (loss(outputs, targets).item() == pytest.approx(one_by_one, rel=1e-5)), step.says
    if not step.ok:
        assert "compares all pairs: it broadcasts outputs (6, 1) float32 and targets (6" in step.says


def test_losses_with_an_exponential_are_not_taken_to_broadcast(monkeypatch):
    inputs = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    examples = TensorDataset(inputs, torch.arange(0.0, 1200.0, 100.0)[:, None])
    task = Task(
        "counts",
        lambda activation: nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 1)),
        lambda: Splits(examples, examples, examples),
        Recipe(epochs=1, batch_size=6, learning_rate=1e-6),
        Objective(nn.PoissonNLLLoss(), regression().metric, "gaussian"),
    )
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    assert [step.says for step in task_check.check_task("counts") if not step.ok] == []


LABELLED = TensorDataset(torch.randn(24, 3, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3)


class NoLength:
    def __iter__(self):
        return iter(range(24))


class Counting(Dataset):
    """Changes with each item that is read."""

    def __init__(self):
        self.n_read = 0

    def __len__(self):
        return len(LABELLED)

    def __getitem__(self, index):
        self.n_read += 1
        x, y = LABELLED[index]
        return x + 0.01 * self.n_read, y


def all_checked(monkeypatch, examples, objective):
    held_out = LABELLED if objective is None else examples
    task = Task(
        "loaded",
        lambda activation: nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 3)),
        lambda: Splits(examples, held_out, held_out),
        Recipe(epochs=1, batch_size=6),
        objective or classification(),
    )
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    return task_check.check_task("loaded")


def checked(monkeypatch, examples, objective=None):
    """The step that fails, or the training."""
    return next(
        step for step in all_checked(monkeypatch, examples, objective) if not step.ok or step.name == "training"
    )


def checked_batch(monkeypatch, examples, objective):
    return all_checked(monkeypatch, examples, objective)[2]


def nothing(items):
    return torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        (lambda: DataLoader(LABELLED, 6, sampler=NoLength()), "a DataLoader must have a length, which schedules need"),
        (lambda: DataLoader(LABELLED, 6, collate_fn=nothing), "its batches have no examples; look at the collate_fn"),
    ],
    ids=["no length", "empty batches"],
)
def test_loaders_that_cannot_be_used_are_refused_in_a_sentence(loader, says, monkeypatch):
    step = checked(monkeypatch, loader())
    assert not step.ok
    assert says in step.says


@pytest.mark.parametrize("wrap", [lambda examples: examples, lambda examples: DataLoader(examples, batch_size=6)])
def test_a_data_set_that_changes_as_it_is_read_is_named(wrap, monkeypatch):
    step = checked(monkeypatch, wrap(Counting()))
    assert step.ok
    says = "reading examples changes Counting.n_read, so a resumed training may differ from an uninterrupted one"
    assert step.says.endswith(says)
    assert "resumed" not in checked(monkeypatch, wrap(LABELLED)).says


def test_a_loss_that_counts_padding_among_answers_is_refused(monkeypatch):
    numbers = torch.arange(72).reshape(24, 3)
    answers = torch.where(numbers % 5 == 0, -100.0, numbers // 2 % 2)
    examples = TensorDataset(LABELLED.tensors[0], answers)
    objective = Objective(nn.BCEWithLogitsLoss(), regression().metric, "bernoulli")
    step = checked(monkeypatch, examples, objective)
    assert not step.ok
    assert "the loss must leave out targets of -100, which are padding" in step.says


def ignoring(outputs, targets, **settings):
    return functional.cross_entropy(outputs, targets, **settings)


@pytest.mark.parametrize(
    ("loss", "is_seen"),
    [
        (ignoring, True),
        (partial(ignoring, ignore_index=0), True),
        (partial(ignoring, reduction="sum"), True),
        (lambda outputs, targets: ignoring(outputs, targets, reduction="sum"), False),
    ],
)
def test_settings_that_cannot_be_seen_are_warned_of(loss, is_seen, monkeypatch):
    labels = (torch.arange(24) % 6 > 1).long() + (torch.arange(24) % 6 > 3)
    step = checked_batch(
        monkeypatch, TensorDataset(LABELLED.tensors[0], labels), Objective(loss, ACCURACY, "categorical")
    )
    assert step.ok
    assert ("the loss is not a mean over the targets that count" in step.says) is not is_seen


def test_class_weights_within_a_function_are_refused(monkeypatch):
    labels = (torch.arange(24) % 6 > 1).long() + (torch.arange(24) % 6 > 3)
    weights = torch.tensor([1.0, 9.0, 1.0])
    own = Objective(lambda outputs, targets: ignoring(outputs, targets, weight=weights), ACCURACY, "categorical")
    step = checked_batch(monkeypatch, TensorDataset(LABELLED.tensors[0], labels), own)
    assert not step.ok
    assert "divides by a number that depends on the batch's labels" in step.says


def test_a_label_that_a_function_leaves_out_is_refused(monkeypatch):
    labels = (torch.arange(24) % 6 > 1).long() + (torch.arange(24) % 6 > 3)
    own = Objective(lambda outputs, targets: ignoring(outputs, targets, ignore_index=0), ACCURACY, "categorical")
    step = checked_batch(monkeypatch, TensorDataset(LABELLED.tensors[0], labels), own)
    assert not step.ok
    assert "leaves out targets of label 0, which metrics and spectra would count" in step.says


def unreduced(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


def as_number(outputs, targets):
    return functional.cross_entropy(outputs, targets).item()


@pytest.mark.parametrize(
    ("loss", "named", "got"),
    [
        (unreduced, "unreduced", r"shape \(6,\)"),
        (nn.CrossEntropyLoss(reduction="none"), r"CrossEntropyLoss\(.*reduction='none'\)", r"shape \(6,\)"),
        (as_number, "as_number", "float"),
        (lambda outputs, targets: (functional.cross_entropy(outputs, targets), 1), "<lambda>", "tuple"),
    ],
    ids=["function", "module", "number", "tuple"],
)
def test_a_loss_that_is_no_scalar_is_refused_by_name_in_check_and_training(loss, named, got, monkeypatch):
    objective = replace(classification(), loss=loss)
    rule = rf"the loss '.*{named}' must return a scalar tensor, the mean over the counted targets, got {got}$"
    step = checked(monkeypatch, LABELLED, objective)
    assert (step.name, step.ok) == ("batch", False)
    assert re.match(rule, step.says), step.says
    with pytest.raises(TaskError, match=rule):
        train(task_check.load_task("loaded"), Activation("tanh(x)"))


def test_a_loss_of_one_element_is_trained_as_its_element(monkeypatch):
    metrics = []
    for loss in (functional.cross_entropy, lambda outputs, targets: functional.cross_entropy(outputs, targets)[None]):
        assert checked(monkeypatch, LABELLED, replace(classification(), loss=loss)).ok
        metrics.append(train(task_check.load_task("loaded"), Activation("tanh(x)")))
    assert metrics[0].status == "done"
    assert (metrics[0].train_loss, metrics[0].val_loss) == (metrics[1].train_loss, metrics[1].val_loss)


class Answering:
    """A metric of the user's own, whose `compute()` gives the same answer whatever it was fed with."""

    def __init__(self, answer):
        self.answer = answer

    def update(self, outputs, targets):
        """Take any batch."""

    def compute(self):
        return self.answer() if callable(self.answer) else self.answer


def with_metric(answer):
    return replace(classification(), metric=Metric("bad", lambda: Answering(answer)))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda: 1 / 0,
            "compute() of the metric 'bad' fails after a batch of outputs (6, 3) float32 and targets (6,) i",
        ),
        ("0.5", "compute() of the metric 'bad' must return one number, got a str"),
        (None, "compute() of the metric 'bad' must return one number, got None"),
        (torch.ones(3), "compute() of the metric 'bad' must return one number, got a tensor of shape (3,)"),
        (np.ones((2, 3)), "compute() of the metric 'bad' must return one number, got a ndarray of shape (2, 3)"),
        ({"f1": 0.5}, "compute() of the metric 'bad' must return one number, got a dict"),
    ],
    ids=["raises", "text", "none", "tensor", "array", "dict"],
)
def test_a_metric_whose_compute_gives_no_number_is_refused_for_that(answer, says, monkeypatch):
    step = checked(monkeypatch, LABELLED, with_metric(answer))
    assert (step.name, step.ok) == ("batch", False)
    assert step.says.startswith(says)
    assert "does not take" not in step.says
    with pytest.raises(TaskError, match=r"must return one number|metric 'bad' of task 'loaded' fails on .*ZeroDiv"):
        try_network(task_check.load_task("loaded"), task_check.load_task("loaded").splits(), device=torch.device("cpu"))


def test_a_metric_that_cannot_begin_is_refused_for_that(monkeypatch):
    objective = replace(classification(), metric=Metric("bad", lambda: 1 / 0))
    step = checked(monkeypatch, LABELLED, objective)
    assert step.says == "the metric 'bad' cannot begin a pass over a split: ZeroDivisionError: division by zero"


def test_a_metric_outside_of_the_range_that_it_was_declared_with_is_refused(monkeypatch):
    objective = replace(classification(), metric=Metric("f1", lambda: Answering(94.2), low=0, high=1))
    step = checked(monkeypatch, LABELLED, objective)
    assert not step.ok
    assert step.says.startswith("the metric 'f1' is 94.2 on a batch, but was declared with low=0 and high=1; correct")
    inside = replace(classification(), metric=Metric("f1", lambda: Answering(1 + 1e-9), low=0, high=1))
    assert checked(monkeypatch, LABELLED, inside).ok


def test_a_metric_that_is_the_same_for_right_and_wrong_answers_is_warned_of(monkeypatch):
    step = all_checked(monkeypatch, LABELLED, with_metric(0.5))[2]
    assert step.ok
    warning = "warning: the metric 'bad' is 0.5 for the network's outputs, for right answers and for wrong ones"
    assert warning in step.says
    assert "warning: the metric" not in all_checked(monkeypatch, LABELLED, None)[2].says


class InTopTwo(Answering):
    """Equal on any outputs that agree about the last class."""

    def update(self, outputs, targets):
        self.answer = (outputs.topk(2, 1).indices == targets[:, None]).any(1).double().mean()


YES = (torch.arange(24) % 2).float()[:, None]


@pytest.mark.parametrize(
    ("objective", "targets"),
    [
        (replace(classification(), metric=Metric("top 2", lambda: InTopTwo(0.0))), LABELLED.tensors[1]),
        (replace(classification(), metric=PERPLEXITY), LABELLED.tensors[1]),
        (regression(), YES),
        (Objective(functional.binary_cross_entropy_with_logits, RMSE, "bernoulli"), YES),
        (classification(), functional.one_hot(LABELLED.tensors[1], 3).float()),
    ],
    ids=["top k", "perplexity", "regression", "yes or no", "probabilities"],
)
def test_a_metric_that_tells_right_from_wrong_is_not_warned_of(objective, targets):
    outputs = torch.zeros(24, 1 if targets.shape == (24, 1) else 3)
    assert metric_direction(objective, outputs, targets) == []
    constant = replace(objective, metric=Metric("bad", lambda: Answering(0.5)))
    assert len(metric_direction(constant, outputs, targets)) == 1


def labels_checked(monkeypatch, objective, *splits):
    task = Task(
        "labels",
        lambda activation: nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 3)),
        lambda: Splits(*(TensorDataset(LABELLED.tensors[0], labels) for labels in splits)),
        Recipe(epochs=1, batch_size=6),
        objective,
    )
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    return task_check.check_task("labels")[-1]


WHOLE = LABELLED.tensors[1]
TORCHS = Objective(nn.CrossEntropyLoss(), ACCURACY, "categorical")
LABEL_RULE = "classes must be whole numbers of an integer type, as labels.long() gives, got {} in the {} split"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_float_labels_of_one_split_are_named_by_their_type_and_split(place, monkeypatch):
    splits = [WHOLE, WHOLE, WHOLE]
    splits[place] = WHOLE.double()[:, None] if place else WHOLE.float()
    step = labels_checked(monkeypatch, classification(), *splits)
    assert (step.name, step.ok) == ("data", False)
    split, dtype = ("train", "validation", "test")[place], "float64" if place else "float32"
    assert step.says == LABEL_RULE.format(dtype, split)


@pytest.mark.parametrize("objective", [classification(), TORCHS], ids=["ours", "torch's"])
def test_float_labels_of_all_splits_are_named_by_their_type(objective, monkeypatch):
    step = labels_checked(monkeypatch, objective, *[WHOLE.float()] * 3)
    assert (step.name, step.ok) == ("batch", False)
    assert step.says.endswith(LABEL_RULE.format("float32", "train"))
    task = task_check.load_task("labels")
    with pytest.raises(TaskError, match=r"^classes must be whole numbers .*, got float32 in the train split$"):
        try_network(task, task.splits(), device=torch.device("cpu"))


def test_probabilities_for_training_and_labels_for_validation_are_no_fault(monkeypatch):
    soft = functional.one_hot(WHOLE, 3).float()
    step = labels_checked(monkeypatch, classification(), soft, WHOLE, WHOLE)
    assert step.ok, step.says


class Embedding(nn.Module):
    def __init__(self, activation, n):
        super().__init__()
        self.words, self.place = nn.Embedding(n, 4), nn.Embedding(50, 4)
        self.activation, self.head = activation(), nn.Linear(4, 3)

    def forward(self, ids, mask):
        return self.head(self.activation(self.words(ids) * mask[..., None]).mean(1))


class Tokens(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        return {"ids": torch.arange(5) + 16 * (index > -1), "mask": torch.ones(5), "labels": index % 3}


def test_an_id_that_no_embedding_has_is_named(monkeypatch):
    task = Task(
        "tokens", partial(Embedding, n=20), lambda: Splits(Tokens(), Tokens(), Tokens()), Recipe(epochs=1, batch_size=6)
    )
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    step = task_check.check_task("tokens", device="cpu")[-1]
    assert (step.name, step.ok) == ("batch", False)
    assert ", values of 'ids' 16 to 20; its smallest embedding has ids 0 to 19: IndexError: index out of" in step.says
    with pytest.raises(TaskError, match="values of 'ids' 16 to 20; its smallest embedding has ids 0 to 19"):
        try_network(task, task.splits(), device=torch.device("cpu"))


def ruling_out(activation):
    """Rules out class 2."""

    class Ruling(nn.Module):
        def forward(self, outputs):
            return outputs.masked_fill(torch.tensor([False, False, True]), -torch.inf)

    return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 3), Ruling())


@pytest.mark.parametrize("recipe", [Recipe(epochs=1, batch_size=6), Recipe(epochs=1, batch_size=8)], ids=["6", "8"])
def test_one_hot_targets_of_a_network_that_rules_a_class_out_blame_no_function(recipe, monkeypatch):
    inputs = LABELLED.tensors[0]
    examples = TensorDataset(inputs, functional.one_hot(torch.arange(24) % 2, 3).float())
    task = Task("ruling", ruling_out, lambda: Splits(examples, examples, examples), recipe, classification())
    torchs = replace(task, objective=Objective(nn.CrossEntropyLoss(), ACCURACY, "categorical"))
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: torchs)
    step = task_check.check_task("ruling")[-1]
    rule = r"the loss 'CrossEntropyLoss\(.*\)' is NaN where a logit is minus infinity and targets are one-hot"
    assert (step.name, step.ok) == ("batch", False)
    assert re.match(rule, step.says), step.says
    with pytest.raises(TaskError, match=rule):
        train(torchs, Activation("tanh(x)"))
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    assert [step.says for step in task_check.check_task("ruling") if not step.ok] == []


def test_classes_whose_dimension_nothing_tells_are_named(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    examples = TensorDataset(torch.randn(24, 1, 4, generator=draw), torch.randint(0, 4, (24, 4), generator=draw))

    def with_z_loss(outputs, targets):
        return functional.cross_entropy(outputs, targets) + 0.01 * outputs.logsumexp(1).square().mean()

    task = Task(
        "steps",
        lambda activation: nn.Sequential(nn.Conv1d(1, 3, 1), activation(), nn.Conv1d(3, 4, 1)),
        lambda: Splits(examples, examples, examples),
        Recipe(epochs=1, batch_size=6),
        Objective(with_z_loss, ACCURACY, "categorical"),
    )
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    steps = task_check.check_task("steps")
    assert all(step.ok for step in steps), steps
    assert "warning: the classes may be in dimension 1 or 2 of the outputs (6, 4, 4), neither loss nor" in steps[2].says
    with pytest.warns(AssumedClassesWarning, match="they are taken to be in 1"):
        task_spectrum(task, task.splits(), "tanh(x)", seed=0, device=torch.device("cpu"))


class FirstRows(nn.Module):
    """Takes all positions of a batch but the last one at once, so that no shape shows its samples."""

    def __init__(self, activation):
        super().__init__()
        self.inner, self.activation, self.head = nn.Linear(5, 2), activation(), nn.Linear(2, 3)

    def forward(self, x):
        h = self.activation(self.inner(x.flatten(0, 1)[:-1]))
        return self.head(torch.cat([h, torch.zeros_like(h[:1])]).unflatten(0, x.shape[:2]))


def test_layers_of_which_nothing_tells_the_padding_are_named(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (64, 3), generator=draw)
    labels = torch.where(torch.rand(64, 3, generator=draw) < 0.3, -100, labels)
    examples = TensorDataset(torch.randn(64, 3, 5, generator=draw), labels)
    task = Task("rows", FirstRows, lambda: Splits(examples, examples, examples), Recipe(epochs=1), classification())
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    steps = task_check.check_task("rows")
    assert all(step.ok for step in steps), steps
    assert re.search(r"; warning: some targets do not count, and neither .* of: inner$", steps[3].says)


class Noise(nn.Module):
    """Draws from all three generators in each pass."""

    def forward(self, x):
        return x + torch.rand_like(x) * random.random() * float(np.random.rand())


def test_the_generators_of_the_process_are_left_as_found(monkeypatch):
    examples = TensorDataset(torch.randn(40, 6), torch.arange(40) % 3)

    def network(activation):
        return nn.Sequential(nn.Linear(6, 8), activation(), Noise(), nn.Dropout(0.2), nn.Linear(8, 3))

    task = Task("noisy", network, lambda: Splits(examples, examples, examples), Recipe(epochs=1, batch_size=8))
    monkeypatch.setattr(task_check, "load_task", lambda *_, **__: task)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1:]
    steps = task_check.check_task("noisy", device="cpu")
    assert [step.name for step in steps if step.ok] == STEPS
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    np.testing.assert_equal(np.random.get_state()[1:], before[2])


def test_what_is_replaced_and_what_gains_are_over_is_said(monkeypatch):
    def network():
        layers = [nn.Linear(64, 8), nn.LeakyReLU(0.1), nn.Linear(8, 8), nn.LeakyReLU(0.1), nn.Linear(8, 10)]
        return nn.Sequential(nn.Flatten(), *layers)

    task = replace(load_task("digits-mlp"), network=network_from(network))
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    network_says, data_says = (step.says for step in task_check.check_task("own")[:2])
    assert network_says.endswith("; replaced '2', '4'")
    assert "gains are over leaky_relu(x,0.1)" in data_says


def test_an_activation_that_is_not_called_is_named(monkeypatch):
    def network(activation):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), activation, nn.Linear(8, 10))

    task = replace(load_task("digits-mlp"), network=network)
    monkeypatch.setattr(task_check, "load_task", lambda name, **_: task)
    step = task_check.check_task("own")[-1]
    assert (step.name, step.ok) == ("network", False)
    assert step.says.endswith("if that is the activation, which is a factory, call it in each place: activation()")
