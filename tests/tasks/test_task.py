"""Tasks are found by name, identify themselves, and their networks and data are what the literature says."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from dataclasses import fields, replace

import numpy
import pytest
import torch
from digits_version_1 import digits_version_1
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split

from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError, load_task, network_from
from aquasurf_ray.tasks.networks.all_cnn_c import all_cnn_c
from aquasurf_ray.tasks.networks.digits import digits_data
from aquasurf_ray.tasks.networks.digits_mlp import digits_table, perceptron
from aquasurf_ray.tasks.networks.resnet56 import BasicBlock, resnet56
from aquasurf_ray.tasks.objective import RMSE


def n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "n_classes", "expected"),
    [(all_cnn_c, 10, 1_369_738), (all_cnn_c, 100, 1_387_108), (resnet56, 10, 853_018), (resnet56, 100, 858_868)],
)
def test_parameter_counts_are_the_published_ones(network, n_classes, expected):
    assert n_parameters(network(nn.ReLU, n_classes=n_classes)) == expected


@pytest.mark.parametrize("network", [all_cnn_c, resnet56])
def test_networks_use_the_activation_they_are_given_and_no_other(network):
    model = network(nn.Tanh)
    kinds = {type(m) for m in model.modules() if type(m).__module__ == "torch.nn.modules.activation"}
    assert kinds == {nn.Tanh}
    assert model.train()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_option_a_shortcut_keeps_the_input_in_the_middle_channels():
    block = resnet56(nn.Identity)[3 + 9]
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_digits_splits_are_disjoint_stratified_and_standardised():
    splits = digits_data()
    sizes = [len(s) for s in (splits.train, splits.validation, splits.test)]
    assert sizes == [899, 449, 449]
    inputs, _ = splits.train.tensors
    assert abs(inputs.mean().item()) < 1e-5
    assert abs(inputs.std().item() - 1) < 1e-3
    for split in (splits.train, splits.validation, splits.test):
        counts = torch.bincount(split.tensors[1], minlength=10) / len(split)
        assert counts.min() > 0.09
        assert counts.max() < 0.11


def test_the_table_of_digits_is_disjoint_stratified_and_standardised_by_column():
    splits = digits_table()
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [600, 800, 397]
    inputs, _ = splits.train.tensors
    assert inputs.shape == (600, 64)
    assert inputs.mean(dim=0).abs().max() < 1e-5
    varied = inputs.std(dim=0, correction=0)
    assert ((varied - 1).abs() < 1e-3).logical_or(varied == 0).all(), "pixels that are always white stay so"
    for split in (splits.train, splits.validation, splits.test):
        counts = torch.bincount(split.tensors[1], minlength=10) / len(split)
        assert counts.min() > 0.09
        assert counts.max() < 0.11


def test_the_perceptron_has_the_activation_between_all_its_layers():
    model = perceptron(nn.Tanh)
    assert [type(m) for m in model] == [nn.Linear, nn.Tanh] * 6 + [nn.Linear]
    assert n_parameters(model) == 64 * 48 + 48 + 5 * (48 * 48 + 48) + 48 * 10 + 10
    assert model(torch.randn(3, 64)).shape == (3, 10)


def test_settings_that_came_in_later_leave_the_digest_of_earlier_results_as_it_was():
    task = digits_version_1()
    assert task.digest == "e23317cba6e4119c5846aa85f1f39b76"
    later = {"optimizer": "adamw", "ema_decay": 0.9, "mixup": 0.1, "precision": "auto", "deterministic": True}
    digests = [replace(task, recipe=replace(task.recipe, **{key: value})).digest for key, value in later.items()]
    digests += [replace(task, objective=replace(task.objective, metric=RMSE)).digest, replace(task, augment=abs).digest]
    assert len({task.digest, *digests}) == 1 + len(digests), "each of them matters where it is used"


def test_weights_that_fit_the_function_make_another_task_whoever_asks_for_them():
    task = load_task("digits")
    auto = replace(task, init="auto")
    assert auto.fits_weights
    assert not task.fits_weights
    assert auto.digest != task.digest == replace(task, init="default").digest
    assert "init" not in task.spec()
    assert auto.with_recipe(replace(task.recipe, epochs=1)).fits_weights
    of_model = network_from(lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()), example=(2,), init="auto")
    assert replace(task, network=of_model).fits_weights
    assert pickle.loads(pickle.dumps(auto)).digest == auto.digest


def test_what_the_store_has_of_a_task_has_the_range_of_its_metric_too():
    task = load_task("digits")
    stored = task.stored_spec()
    assert {key: stored["objective"].pop(key) for key in ("low", "high")} == {"low": 0.0, "high": 1.0}
    assert stored == task.spec()


def test_digest_follows_recipe_and_version_but_not_the_time_limit():
    task = load_task("digits")
    assert task.digest == load_task("digits").digest
    assert replace(task, time_limit=1.0).digest == task.digest
    assert replace(task, version="3").digest != task.digest
    assert replace(task, recipe=replace(task.recipe, epochs=9)).digest != task.digest


def narrow(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), activation(), nn.Dropout(0.1), nn.Linear(8, 10))


def wide(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), activation(), nn.Dropout(0.1), nn.Linear(9, 10))


def more_dropout(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), activation(), nn.Dropout(0.2), nn.Linear(8, 10))


def frozen(activation):
    network = narrow(activation)
    network[1].weight.requires_grad_(False)
    return network


def examples(n, first_label=0, n_features=64):
    return TensorDataset(torch.zeros(n, n_features), torch.arange(first_label, first_label + n) % 10)


def own_task(network=narrow, train=None, **fields):
    splits = Splits(train or examples(40), examples(20), examples(10))
    return Task("own", network, lambda: splits, **fields)


@pytest.mark.parametrize("other", [wide, more_dropout, frozen])
def test_digest_follows_the_network(other):
    assert own_task().digest == own_task().digest
    assert own_task(other).digest != own_task().digest


def test_digest_follows_strides_that_no_shape_shows():
    assert (
        own_task(lambda a: nn.Sequential(BasicBlock(4, 4, 1, a))).digest
        != own_task(lambda a: nn.Sequential(BasicBlock(4, 4, 2, a))).digest
    )


@pytest.mark.parametrize("other", [examples(41), examples(40, first_label=1), examples(40, n_features=32)])
def test_digest_follows_size_labels_and_form_of_the_data(other):
    assert own_task(train=other).digest != own_task().digest


def test_digest_does_not_follow_random_augmentation():
    class Augmented(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return torch.as_tensor(numpy.random.default_rng().normal(size=64)), i % 10

    plain = own_task(train=TensorDataset(torch.zeros(40, 64, dtype=torch.float64), torch.arange(40) % 10))
    assert own_task(train=Augmented()).digest == own_task(train=Augmented()).digest == plain.digest


def test_digest_of_a_random_split_is_the_same_each_time_and_leaves_the_generator_alone():
    def data():
        return Splits(*random_split(TensorDataset(torch.zeros(30, 64), torch.arange(30)), [10, 10, 10]))

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = Task("own", narrow, data).digest
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert Task("own", narrow, data).digest == first


@pytest.mark.slow
def test_digest_is_the_same_in_another_process():
    code = "from aquasurf_ray.tasks import load_task; print(load_task('digits').digest)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == load_task("digits").digest


def test_digest_reads_few_examples_and_none_of_the_test_split():
    read = []

    class Counted(Dataset):
        def __init__(self, name):
            self.name = name

        def __len__(self):
            return 10**9

        def __getitem__(self, i):
            read.append(self.name)
            return torch.zeros(64), 0

    task = Task("own", narrow, lambda: Splits(Counted("train"), Counted("validation"), Counted("test")))
    assert task.digest == task.digest
    assert read == ["train"] * 8 + ["validation"] * 8


def test_data_are_loaded_once_while_they_are_held():
    loaded = []
    task = Task("own", narrow, lambda: loaded.append(1) or Splits(examples(40), examples(20), examples(10)))
    splits = task.splits()
    assert task.splits() is splits
    assert len(task.digest) == 32
    assert loaded == [1]


def test_spec_is_json_and_a_pickled_task_carries_its_fields_alone():
    task = load_task("digits")
    spec = json.loads(json.dumps(task.spec()))
    assert spec == task.spec()
    assert spec["data"].items() >= {"train": 899, "validation": 449, "test": 449}.items()
    assert spec["network"]["n_weights"] == n_parameters(task.network(nn.ReLU))
    copy = pickle.loads(pickle.dumps(task))
    assert copy == task
    assert set(vars(copy)) == {f.name for f in fields(Task)}
    assert copy.digest == task.digest


def refusing_data():
    raise FileNotFoundError("no folder\n'photos'")


def refusing_network(activation):
    raise KeyError("depth")


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (
            Task("own", narrow, refusing_data),
            "data of task 'own' cannot be loaded: FileNotFoundError: no folder",
        ),
        (Task("own", refusing_network, lambda: None), "network of task 'own' cannot be built: KeyError: 'depth'"),
        (Task("own", narrow, lambda: (1, 2, 3)), "data of task 'own' must return Splits, got tuple"),
        (Task("own", narrow, lambda: Splits(examples(4), [], examples(4))), "split 'validation' has no examples"),
        (
            Task("own", narrow, lambda: Splits(examples(4), iter(()), examples(4))),
            "the validation split must be a data set or a DataLoader, got a tuple_iterator",
        ),
    ],
)
def test_a_task_whose_parts_cannot_be_had_says_so_in_one_line(task, text):
    with pytest.raises(TaskError, match=text) as raised:
        _ = task.digest
    assert "\n" not in str(raised.value)


def test_unknown_task_is_refused_with_a_suggestion():
    with pytest.raises(TaskError, match="unknown task 'digit'; did you mean 'digits'"):
        load_task("digit")


def test_own_task_is_imported_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "own_task_module.py").write_text(
        "from aquasurf_ray.tasks import Task\n"
        "from aquasurf_ray.tasks.networks.digits import digits_network, digits_data\n"
        "def make(): return Task('own', digits_network, digits_data)\n"
        "def wrong(): return 7\n"
        "def broken(): raise RuntimeError('no data here')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_task("own_task_module:make", import_from=tmp_path).name == "own"
    with pytest.raises(TaskError, match="must return a Task, got int"):
        load_task("own_task_module:wrong")
    with pytest.raises(TaskError, match="RuntimeError: no data here"):
        load_task("own_task_module:broken")
    with pytest.raises(TaskError, match="has no 'absent'"):
        load_task("own_task_module:absent")
    with pytest.raises(TaskError, match="cannot be imported: ModuleNotFoundError"):
        load_task("no_such_module_here:make")
    for wrong in (":", ":make", "own_task_module:", "../own_task_module:make", "own..task:make"):
        with pytest.raises(TaskError, match=f"task '{wrong}' must be a name, or package.module:function"):
            load_task(wrong, import_from=tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("batch_size", 0), ("learning_rate", float("nan")), ("momentum", 1.0)]
)
def test_recipe_refuses_nonsense_by_name(field, value):
    with pytest.raises(TaskError, match=f"{field} must be"):
        Recipe(**{field: value})


def test_task_refuses_a_network_that_is_no_factory():
    with pytest.raises(TaskError, match="network must be a callable"):
        Task("own", None, digits_data)


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (lambda activation: None, "got None; is a `return` missing?"),
        (lambda activation: "net", "got a str"),
        (lambda activation: (nn.Linear(4, 2),), "got a tuple"),
        (lambda activation: nn.Sequential, "got the class Sequential; call it: Sequential()"),
        (lambda activation, *, late: None, "got None; is a `return` missing?"),
    ],
    ids=["none", "text", "tuple", "class", "roles"],
)
def test_a_network_function_that_returns_no_network_is_refused(network, text):
    with pytest.raises(TaskError, match=f"^network of task 'own' must return an nn.Module, {re.escape(text)}$"):
        Task("own", network, digits_data).new_network(nn.ReLU)


def test_a_network_function_must_take_the_factory():
    for network in (lambda: nn.Linear(4, 2), lambda activation, width: nn.Linear(4, width)):
        with pytest.raises(TaskError, match=r"must take the activation factory alone, .* got <lambda>\("):
            Task("own", network, digits_data).new_network(nn.ReLU)


class HoldsFactory(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.act = activation


def test_a_network_that_holds_the_factory_and_never_calls_it_is_told_where():
    with pytest.raises(TaskError, match=r"; HoldsFactory holds the factory itself: self\.act = activation\(\)$"):
        _ = Task("own", HoldsFactory, digits_data).digest


def test_a_network_that_makes_no_activation_of_ours_is_refused():
    deaf = Task("deaf", lambda activation: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits_data)
    with pytest.raises(TaskError, match="network of task 'deaf' makes no activation"):
        _ = deaf.digest


def test_a_task_module_that_exits_is_refused_like_any_other_error(tmp_path, monkeypatch):
    (tmp_path / "exiting_task_module.py").write_text("import sys\ndef make(): sys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match="could not be created: SystemExit: 3"):
        load_task("exiting_task_module:make")


def test_data_that_cannot_be_indexed_are_refused_in_a_sentence():
    class Endless(IterableDataset):
        def __iter__(self):
            yield torch.zeros(64), 0

    task = Task("own", narrow, lambda: Splits(DataLoader(Endless()), examples(20), examples(10)))
    with pytest.raises(TaskError, match="must be indexable and have a length, got the iterable Endless"):
        _ = task.digest
