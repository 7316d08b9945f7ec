"""The values of a task's data are checked on random examples, of which there are not too many."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from aquasurf_ray.driver.examine import split_sample
from aquasurf_ray.driver.examine.data_check import (
    lacking_classes,
    one_sided_targets,
    refuse_labels_out_of_range,
    refuse_values,
)
from aquasurf_ray.driver.examine.split_sample import sample_splits
from aquasurf_ray.tasks import Metric, Objective, Splits, TaskError, classification, regression
from aquasurf_ray.tasks.samples import random_batches


class Folder(Dataset):
    """Images in the order of their classes, as in a folder for each, which are slow to read one by one."""

    def __init__(self, n, n_classes):
        self.n, self.n_classes, self.read = n, n_classes, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        return torch.ones(2), torch.tensor(i * self.n_classes // self.n)


def test_a_folder_in_order_shows_all_of_its_classes_and_is_not_read_as_a_whole():
    folder = Folder(50_000, 10)
    samples = sample_splits(classification(), Splits(folder, Folder(500, 10), Folder(500, 10)))
    refuse_values(classification(), samples)
    assert lacking_classes(samples) == []
    assert len(samples[0].labels) == 10
    assert len(folder.read) == len(set(folder.read)) == samples[0].n_read < 3_000
    assert samples[0].says == f"{samples[0].n_read:,} of 50,000 train"


def test_slow_examples_are_read_for_a_while_only(monkeypatch):
    monkeypatch.setattr(split_sample, "SECONDS_PER_SPLIT", 0.0)
    folder = Folder(1_000, 2)
    sample_splits(classification(), Splits(folder, folder, folder))
    assert len(folder.read) == 3 * split_sample.BATCH


def test_a_class_that_is_rare_is_not_missed_by_chance_but_one_that_a_split_lacks_is():
    labels = torch.zeros(4_000, dtype=torch.int64)
    labels[:20], labels[20:220] = 1, 2
    x = torch.zeros(4_000, 1)
    without = TensorDataset(x[220:], labels[220:] + torch.arange(3_780) % 2 * 3)
    samples = sample_splits(classification(), Splits(TensorDataset(x, labels), without, TensorDataset(x, labels)))
    assert lacking_classes(samples) == [
        "warning: the train split lacks class 3, which another has",
        "warning: the validation split lacks classes 1, 2, which another has",
        "warning: the test split lacks class 3, which another has",
    ]
    few = TensorDataset(x[220:320], torch.arange(100) % 2 * 3)
    samples = sample_splits(classification(), Splits(TensorDataset(x, labels), few, few))
    assert "warning: the validation split lacks class 2" not in lacking_classes(samples)[1:], "a sample of 100"


def splits_of(inputs, targets):
    whole = TensorDataset(inputs, targets)
    return Splits(whole, whole, whole)


@pytest.mark.parametrize(
    ("objective", "targets", "told"),
    [
        (regression(), torch.full((30, 1), 2.5), "all targets of 30 sampled train examples are 2.5; all targets of 30"),
        (classification(), torch.full((30,), 4), "are of class 4"),
        (classification(), torch.eye(3)[[1]].repeat(30, 1), "30 sampled train examples are the same, for class 1; "),
        (classification(), torch.tensor([[0.2, 0.5, 0.3]]).repeat(30, 1), "are the same, for class 1; "),
        (classification(), torch.eye(3).long()[[1]].repeat(30, 1), "30 sampled train examples are the same; "),
        (classification(), torch.full((30, 4), 0.25), "30 sampled train examples are the same; "),
        (
            regression(),
            torch.linspace(0, 1, 30).where(torch.arange(30) != 7, torch.inf),
            "infinite targets, such as example 7",
        ),
    ],
)
def test_targets_that_teach_nothing_are_refused(objective, targets, told):
    samples = sample_splits(objective, splits_of(torch.randn(30, 2), targets))
    with pytest.raises(TaskError, match=told):
        refuse_values(objective, samples)


ONE_OF_THREE = torch.stack([torch.arange(30.0), torch.full((30,), 0.5), -torch.arange(30.0)], 1)
FAVOURING = torch.stack([torch.linspace(0.6, 0.9, 30), 1 - torch.linspace(0.6, 0.9, 30)], 1)
PIXELS = torch.stack([FAVOURING, FAVOURING], 2)  # (n, classes, 2)


@pytest.mark.parametrize(
    ("objective", "targets", "warning"),
    [
        (regression(), ONE_OF_THREE, "target 1 (from 0) of the 3 targets is 0.5"),
        (regression(), ONE_OF_THREE[..., None], "target 1 (from 0) of the 3 targets is 0.5"),
        (regression(), ONE_OF_THREE[:, [1, 0, 1]], "targets 0, 2 (from 0) of the 3 targets are the same"),
        (classification(), FAVOURING, "class 0 is the most probable"),
        (classification(), FAVOURING.flip(1), "class 1 is the most probable"),
        (classification(), PIXELS, "class 0 is the most probable"),
    ],
)
def test_targets_of_which_a_part_teaches_nothing_are_warned_of(objective, targets, warning):
    samples = sample_splits(objective, splits_of(torch.randn(30, 2), targets))
    refuse_values(objective, samples)
    assert one_sided_targets(objective, samples) == [
        f"warning: {warning} in all 30 sampled {split} examples" for split in ("train", "validation", "test")
    ]


@pytest.mark.parametrize(
    ("objective", "targets"),
    [
        (regression(), torch.randn(30, 3)),
        (regression(), torch.stack([torch.randn(30, 3), torch.zeros(30, 3)], 2)),  # a picture with a border
        (classification(), torch.eye(3)[torch.arange(30) % 3]),
        (classification(), torch.cat([FAVOURING, torch.full((1, 2), 0.5)])[1:]),  # a tie favours nothing
        (classification(), torch.arange(30) % 3),
        (classification(), (torch.arange(120) % 4).reshape(30, 4)),  # a label for each of four places
    ],
)
def test_targets_that_vary_are_not_warned_of(objective, targets):
    samples = sample_splits(objective, splits_of(torch.randn(30, 2), targets))
    refuse_values(objective, samples)
    assert one_sided_targets(objective, samples) == []


def test_yes_and_no_are_0_and_1():
    outputs = torch.zeros(30, 1)
    metric = Metric("loss", lambda: None, higher_is_better=False)
    objective = Objective(torch.nn.BCEWithLogitsLoss(), metric, "bernoulli")
    targets = (torch.arange(30) % 3).float()[:, None]
    samples = sample_splits(objective, splits_of(torch.randn(30, 2), targets))
    with pytest.raises(TaskError, match=r"targets must lie in \[0, 1\], got 0 to 2 in the train split"):
        refuse_labels_out_of_range(objective, samples, outputs, targets)


def test_padding_is_no_class():
    labels = torch.tensor([[0, 1, -100], [1, -100, -100]] * 10)
    samples = sample_splits(classification(), splits_of(torch.randn(20, 2), labels))
    refuse_values(classification(), samples)
    refuse_labels_out_of_range(classification(), samples, torch.zeros(2, 2, 3), labels[:2])
    assert samples[0].labels == {0: 10, 1: 20}


class Masked(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return {
            "x": torch.ones(3),
            "attention_mask": torch.tensor([0.0, -torch.inf, 0.0]),
            "label": torch.tensor(i % 2),
        }


def test_a_mask_may_rule_places_out_with_minus_infinity():
    samples = sample_splits(classification(), Splits(Masked(), Masked(), Masked()))
    refuse_values(classification(), samples)


def test_examples_come_in_random_order_each_once_and_as_a_sampler_gives_them():
    examples = TensorDataset(torch.arange(100.0)[:, None], torch.arange(100))
    numbers = [number for chunk, _, _ in random_batches(examples, 7, 0) for number in chunk]
    assert sorted(numbers) == list(range(100))
    assert numbers != sorted(numbers)
    for chunk, inputs, targets in random_batches(DataLoader(examples, 8, shuffle=True), 7, 0):
        assert inputs[:, 0].tolist() == targets.tolist() == chunk
    weights = torch.zeros(100)
    weights[[3, 5]] = 1.0
    loader = DataLoader(examples, 8, sampler=WeightedRandomSampler(weights, 50))
    assert {int(t) for _, _, targets in random_batches(loader, 7, 0) for t in targets} == {3, 5}
