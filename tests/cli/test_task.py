"""`aquasurf task`: what there is, what a task is, and in a sentence what is wrong with one."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.tasks import TaskError, registry

TASKS = '''
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError, network_from

print("a module that prints")
GRADIENT_STEPS = []  # the sizes of the batches that the network was trained on

class Network(nn.Sequential):
    def forward(self, x):
        if torch.is_grad_enabled() and self[0].weight.requires_grad:
            GRADIENT_STEPS.append(len(x))
        return super().forward(x)

def network(activation):
    return Network(nn.Linear(4, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3))

def examples(n=100, targets=None, scale=1.0):
    x = torch.randn(n, 4) * scale
    return TensorDataset(x, x[:, :3].argmax(1) if targets is None else targets(n))

def task(data=lambda: Splits(examples(), examples(50), examples(50)), network=network, **recipe):
    return Task("mine", network, data, Recipe(**{"epochs": 30, "batch_size": 16, "learning_rate": 0.01, **recipe}))

def good():
    return task()

def of_data(make):
    return lambda: task(lambda: Splits(make(), make(), make()))

def of_network(make):
    return lambda: task(network=make)

def missing():
    raise TaskError("data set 'mine': no file x.bin in /data\\nget it with: aquasurf task check mine --download")

class Triples(Dataset):
    def __len__(self):
        return 100
    def __getitem__(self, i):
        return torch.zeros(4), torch.tensor(0), torch.tensor(1)

def collated(batch):
    inputs, targets = zip(*batch)
    return torch.stack(inputs), torch.stack(targets)

class Named(Dataset):
    def __len__(self):
        return 100
    def __getitem__(self, i):
        return {"image": torch.zeros(4)}

class ByName(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.body = network(activation)
    def forward(self, x):
        return {"hidden": None, "logits": self.body(x)}

class Pairs(Dataset):
    def __init__(self, form):
        self.form, self.data = form, examples()
    def __len__(self):
        return 100
    def __getitem__(self, i):
        return self.form(*self.data[i])

class Streamed(IterableDataset):
    def __iter__(self):
        yield from examples()

class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)
    def forward(self, x):
        return self.last(torch.tanh(self.activation(self.first(x)))) * torch.sigmoid(x[:, :1])  # line 42

class Repeated(Functional):
    def forward(self, x):
        inner = self.activation(self.first(x))
        inner = checkpoint(lambda t: torch.tanh(t), inner, use_reentrant=False)  # line 43
        return self.last(inner) * torch.sigmoid(x[:, :1])

def half_unlabelled(n):
    labels = torch.arange(n) % 3
    labels[:n // 2] = -100
    return labels

class Reporting:
    """A network factory that says what it replaced and kept."""
    class replacement:
        replaced = ("1", "3", "3.again")
        kept = [type("Kept", (), {"name": "2.gate", "reason": "gate: Sigmoid"})]
    def __call__(self, activation):
        return network(activation)

without_data = lambda: task(missing)
few = of_data(lambda: examples(5))
one = of_data(lambda: examples(1))
loaders = of_data(lambda: DataLoader(examples(), 32, shuffle=True, collate_fn=collated))
triples = of_data(Triples)
named = of_data(Named)
no_labels = lambda n: torch.full((n,), -100)
unlabelled = of_data(lambda: examples(targets=no_labels))
unlabelled_test = lambda: task(lambda: Splits(examples(), examples(), examples(targets=no_labels)))
def per_token(activation):
    return nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Linear(1, 8), activation(), nn.Linear(8, 4))

tokens = lambda n: torch.arange(4 * n).reshape(n, 4) % 4
square = lambda: task(lambda: Splits(*(examples(targets=tokens) for _ in range(3))), per_token)
late = of_data(lambda: examples(targets=half_unlabelled))
streamed = of_data(lambda: DataLoader(Streamed(), 16))
two_inputs = of_data(lambda: Pairs(lambda x, y: ((x[:2], x[2:]), y)))
by_name = lambda: task(lambda: Splits(*(Pairs(lambda x, y: {"x": x, "label": y}) for _ in range(3))), ByName)
functional = of_network(network_from(Functional))
repeated = of_network(network_from(Repeated))
repeated_example = of_network(network_from(Repeated, example=(4,)))
functional_example = of_network(network_from(Functional, example=(4,)))
halves = of_data(lambda: examples(targets=lambda n: torch.full((n,), 0.5)))
other_labels = of_data(lambda: examples(targets=lambda n: torch.full((n,), 3)))
nowhere = of_data(lambda: examples(scale=float("nan")))
deaf = of_network(lambda activation: nn.Linear(4, 3))
narrow = of_network(lambda activation: nn.Sequential(nn.Linear(5, 3), activation()))
fickle = of_network(lambda activation: nn.Sequential(nn.Linear(4, 3 + len(str(activation()))), activation()))
layerless = of_network(lambda activation: nn.Sequential(nn.BatchNorm1d(4), activation()))
half_dead = of_network(lambda activation: Dead(activation))
wild = lambda: task(learning_rate=1e30)
reporting = lambda: task(network=Reporting())

class Ignoring(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(4, 8), activation(), nn.Linear(8, 3)
    def forward(self, x):
        return self.last(torch.relu(self.first(x)))

def zero_head(network):
    nn.init.zeros_(network[-1].weight)
    return network

def ignoring_zero_head(activation):
    made = Ignoring(activation)
    nn.init.zeros_(made.last.weight)
    return made

def raising(outputs, targets):
    raise RuntimeError("no such average")

class Raising:
    def update(self, outputs, targets):
        raising(outputs, targets)
    def compute(self):
        return 0.0

def with_a_nan(n, place):
    found = examples(n)
    found.tensors[0][place, 2] = float("nan")
    return found

def labelled(labels):
    return examples(len(labels), targets=lambda n: labels)

three = torch.arange(100) % 3
one_too_many = lambda: task(lambda: Splits(labelled(three), labelled(three), labelled(torch.arange(8) // 7 * 3)))
one_nan = lambda: task(lambda: Splits(examples(), examples(), with_a_nan(50, 31)))
ordered = lambda: task(lambda: Splits(labelled(three), labelled(three % 2 + 3), labelled(three)))
lacking = lambda: task(lambda: Splits(labelled(three % 2), labelled(three), labelled(three)))
ignoring = of_network(Ignoring)
ignoring_zero_head = of_network(ignoring_zero_head)
zero_headed = of_network(lambda activation: zero_head(network(activation)))
shared = network(nn.ReLU)
same_network = lambda: task(network=SameNetwork())
no_test = lambda: task(lambda: Splits(examples(), examples(), None))
bare_tensors = lambda: task(lambda: Splits((torch.zeros(9, 4), torch.zeros(9)), examples(), examples()))
is_a_network = lambda: task(network=Network(nn.Linear(4, 3)))

def bad_metric():
    from dataclasses import replace
    from aquasurf_ray.tasks import Metric, Objective
    from torch.nn.functional import cross_entropy
    return replace(task(), objective=Objective(cross_entropy, Metric("f1", Raising), "categorical"))

def trying(**functions):
    return lambda: Task("mine", network, lambda: Splits(examples(), examples(50), examples(50)), **functions)

no_function = trying(baselines=["swish(x)", "foo(x)"])
no_reference = trying(reference="foo(x)")
one_text = trying(baselines="swish(x)")

class SameNetwork:
    def __call__(self, activation):
        activation()
        return shared

class Dead(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.body, self.unused = network(activation), nn.Linear(3, 3)
    def forward(self, x):
        return self.body(x)
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A working folder with `mytasks.py`; gives the imported module once a command has used it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "mytasks.py").write_text(TASKS)
    yield lambda: sys.modules["mytasks"]
    sys.modules.pop("mytasks", None)


def run(capsys, *arguments):
    code = main(["task", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_good_task_passes_every_step_and_two_steps_of_training_are_taken(mine, capsys):
    code, out, err = run(capsys, "check", "mytasks:good")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        [step, "ok"] for step in ("network", "data", "batch", "spectrum", "training", "forecast")
    ]
    for part in (
        "139 parameters, 2 activation modules",
        "100 train, 50 validation, 50 test",
        "gains are over relu(x)",
        "inputs (16, 4) float32, targets (16,) int64, outputs (16, 3) float32",
        "the spectrum covers 3 of 3 matrices, 100% of 139 weights, with relu(x)",
        "2 steps of 16 examples, with mul(sigmoid(x),elu(x)): training loss",
        "val_accuracy",
        "208 spectra, 48 trainings and 48 costs with ",
        "; the start of Ray and of the workers, each of which imports PyTorch, comes on top",
    ):
        assert part in out
    assert "a module that prints" in err
    assert 4 <= mine().GRADIENT_STEPS.count(16) <= 8, "two steps of training, and two to six to measure their time"


def test_json_is_one_document(mine, capsys):
    code, out, _ = run(capsys, "check", "mytasks:without_data", "--json", "--device", "cpu")
    document = json.loads(out)
    assert (code, document["ok"], document["task"]) == (1, False, "mytasks:without_data")
    assert [(step["name"], step["ok"]) for step in document["steps"]] == [("network", True), ("data", False)]
    assert document["problem"] == document["steps"][-1]["says"]
    assert document["problem"].startswith("data set 'mine': no file x.bin in /data; get it with: aquasurf task check")


@pytest.mark.parametrize(
    ("name", "step", "says"),
    [
        ("deaf", "network", "makes no activation; call the factory that it is given"),
        ("fickle", "network", "it must not depend on the function"),
        ("without_data", "data", "no file x.bin in /data; get it with: aquasurf task check mine --download"),
        ("narrow", "batch", "shapes cannot be multiplied (16x4 and 5x3)"),
        (
            "triples",
            "data",
            "train split: items must be (input, target) pairs, got 3 parts (Tensor, Tensor, Tensor); several inputs",
        ),
        ("named", "data", "dictionaries with the target under 'labels', got a dict with 'image'"),
        ("two_inputs", "batch", "the network does not take a tuple of inputs, as network(*inputs): ((16, 2) float32,"),
        ("unlabelled", "batch", "train split of task 'mine': no target counts: all are -100"),
        ("unlabelled_test", "batch", "test split of task 'mine': no target counts: all are -100"),
        ("streamed", "data", "data sets must be indexable and have a length, got the iterable Streamed"),
        ("halves", "batch", "the loss 'cross_entropy' does not take outputs (16, 3) float32 and targets (16,) float32"),
        (
            "other_labels",
            "data",
            "all targets of 100 sampled train examples are of class 3; all targets of 100 sampled v",
        ),
        (
            "one_too_many",
            "batch",
            "labels must be 0 to 2 for a network with 3 outputs, got 3 in the test split, such as example 7",
        ),
        ("nowhere", "data", "100 of 100 sampled train examples have NaN or infinite inputs, such as example "),
        (
            "one_nan",
            "data",
            "1 of 50 sampled test examples has NaN or infinite inputs, such as example 31",
        ),
        ("ordered", "data", "no class of the 100 validation examples (3, 4) is among those of the 100 train examples"),
        ("ignoring", "batch", "gives the same outputs whatever they return; its code calls relu (mytasks"),
        ("ignoring_zero_head", "batch", "gives the same outputs whatever they return"),
        ("same_network", "network", "must make a new network at each call, and returns the same weights"),
        ("no_test", "data", "the test split must be a data set or a DataLoader, got None; hold out some examples"),
        ("bare_tensors", "data", "got a tuple; wrap tensors in a torch.utils.data.TensorDataset(inputs, targets)"),
        ("bad_metric", "batch", "the metric 'f1' does not take outputs (16, 3) float32 and targets (16,) int64: Runti"),
        ("one", "batch", "the training split has 1 example; 2 steps need as many"),
        ("layerless", "spectrum", "no trained matrix, such as a Linear or Conv2d layer"),
        ("wild", "training", "training with mul(sigmoid(x),elu(x)) diverges in its first steps: training loss became"),
    ],
)
def test_the_first_thing_that_is_wrong_is_reported_in_a_sentence_and_ends_the_check(mine, capsys, name, step, says):
    code, out, err = run(capsys, "check", f"mytasks:{name}")
    *before, last = out.splitlines()
    assert code == 1
    assert last.split()[:2] == [step, "FAILED"]
    assert says in last
    assert all(line.split()[1] == "ok" for line in before)
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["few", "loaders"])
def test_few_examples_and_custom_loaders_are_no_problem(mine, capsys, name):
    code, out, _ = run(capsys, "check", f"mytasks:{name}")
    assert code == 0, out
    size = {"few": 2, "loaders": 32}[name]
    assert f"2 steps of {size} examples (the recipe has 16)" in out


def test_classes_that_a_split_lacks_are_a_warning(mine, capsys):
    code, out, _ = run(capsys, "check", "mytasks:lacking")
    assert code == 0, out
    assert "warning: the train split lacks class 2, which another has" in out
    assert out.count("lacks") == 1


def test_a_last_layer_that_begins_at_zero_hides_no_function(mine, capsys):
    code, out, _ = run(capsys, "check", "mytasks:zero_headed")
    assert code == 0, out


def test_a_network_in_place_of_its_factory_is_refused(mine, capsys):
    code, _, err = run(capsys, "check", "mytasks:is_a_network")
    assert code == 2
    assert "network must be a function that takes an activation factory and makes a new network, got a network" in err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_function", "baselines of task 'mine': 'foo(x)': unknown operator 'foo' at 1"),
        ("no_reference", "reference of task 'mine': 'foo(x)': unknown operator 'foo' at 1"),
    ],
)
def test_a_baseline_that_is_no_function_is_refused_by_check_show_and_search(mine, capsys, name, says):
    code, out, _ = run(capsys, "check", f"mytasks:{name}")
    (last,) = out.splitlines()
    assert (code, last.split()[:2]) == (1, ["network", "FAILED"])
    assert says in last
    code, out, err = run(capsys, "show", f"mytasks:{name}")
    assert (code, out) == (2, "")
    assert says in err
    assert main(["search", f"mytasks:{name}", "--name", "one"]) == 2
    assert says in capsys.readouterr().err


def test_baselines_that_are_one_text_are_refused(mine, capsys):
    code, _, err = run(capsys, "show", "mytasks:one_text")
    assert code == 2
    assert "baselines must be a list of functions as text, such as ['swish(x)'], got 'swish(x)'" in err


def test_the_traceback_shows_the_line_of_the_users_code(mine, capsys):
    line = 1 + TASKS[: TASKS.index('raise RuntimeError("no such average")')].count("\n")
    _, _, err = run(capsys, "check", "mytasks:bad_metric")
    assert "where in your code: aquasurf task check mytasks:bad_metric --traceback" in err
    code, _, err = run(capsys, "check", "mytasks:bad_metric", "--traceback")
    assert code == 1
    assert f'mytasks.py", line {line}, in raising' in err


def test_the_traceback_shows_where_a_module_or_a_task_function_raises(mine, capsys):
    Path("broken_module.py").write_text("value = 1\nvalue.missing\n")
    Path("broken_task.py").write_text("def make():\n    return {}['learning_rate']\n")
    modules = ["check", "mytasks:good", "--modules", "broken_module"]
    for arguments, place in {
        ("check", "broken_module:task"): 'broken_module.py", line 2',
        ("check", "broken_task:make"): 'broken_task.py", line 2, in make',
        ("check", "mytasks:is_a_network"): 'mytasks.py", line ',  # our own error, but raised by the user's call
        tuple(modules): 'broken_module.py", line 2',
    }.items():
        code, out, err = run(capsys, *arguments)
        *_, error, hint = err.splitlines()
        assert (code, out) == (2, "")
        assert error.startswith("aquasurf: ")
        assert hint == f"where in your code: aquasurf task {' '.join(arguments)} --traceback"
        assert "Traceback" not in err
        code, _, traced = run(capsys, *arguments, "--traceback")
        assert code == 2
        assert place in traced
        assert traced.splitlines()[-1] == error


def test_a_module_that_raises_an_attribute_error_is_not_said_to_lack_the_task(mine, capsys):
    Path("broken_module.py").write_text("value = 1\nvalue.missing\n")
    _, _, err = run(capsys, "check", "broken_module:task")
    assert "module 'broken_module' cannot be imported: AttributeError: 'int' object has no attribute 'missing'" in err


@pytest.mark.parametrize("name", ["digitz", "mytasks:absent", ":make"])
def test_a_task_that_is_not_there_has_no_place_in_the_users_code(mine, capsys, name):
    for arguments in (["check", name], ["check", name, "--traceback"]):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert "where in your code" not in err
        assert "Traceback" not in err


def test_layers_that_no_gradient_reaches_are_named(mine, capsys):
    code, out, _ = run(capsys, "check", "mytasks:half_dead")
    assert code == 0
    assert "left out of the spectrum: unused" in out


def test_activations_that_a_models_own_code_calls_are_replaced(mine, capsys):
    for name in ("functional", "functional_example"):
        code, out, _ = run(capsys, "check", f"mytasks:{name}")
        assert code == 0, out
        assert "67 parameters, 2 activation modules" in out
        assert "warning" not in out
        code, out, _ = run(capsys, "show", f"mytasks:{name}")
        assert "replaced    activation, called_tanh" in out


def test_calls_that_cannot_be_replaced_are_named_with_file_and_line(mine, capsys):
    line = 1 + TASKS[: TASKS.index("# line 43")].count("\n")
    code, out, _ = run(capsys, "check", "mytasks:repeated")
    assert code == 0, out
    batch = next(row for row in out.splitlines() if row.startswith("batch"))
    assert f"not replaced, since the network's own code calls them: tanh (mytasks.py:{line})" in batch
    assert "sigmoid" not in batch, "a gate"
    code, out, _ = run(capsys, "check", "mytasks:repeated_example")
    assert code == 1
    assert f"calls activations in its own code that cannot be replaced there: tanh (mytasks.py:{line})" in out


def test_examples_without_targets_at_the_start_are_no_problem(mine, capsys):
    code, out, _ = run(capsys, "check", "mytasks:late")
    assert code == 0, out
    assert "2 steps of 16 examples" in out


def test_classes_that_two_dimensions_could_hold_are_pointed_out(mine, capsys):
    _, out, _ = run(capsys, "check", "mytasks:square")
    assert "the classes may be in dimension 1 or 2, and are taken to be in 2" in out
    _, out, _ = run(capsys, "check", "mytasks:good")
    assert "the classes may be" not in out


def test_inputs_by_name_are_given_by_name(mine, capsys):
    code, out, _ = run(capsys, "check", "mytasks:by_name")
    assert code == 0, out
    batch = next(row for row in out.splitlines() if row.startswith("batch"))
    assert batch.split()[1] == "ok"
    assert "inputs {'x': (16, 4) float32}, targets (16,) int64, outputs (16, 3) float32" in batch


def test_a_large_batch_is_cut_on_a_cpu_and_kept_even(mine):
    import torch

    from aquasurf_ray.driver.examine.check_steps import CheckSteps
    from aquasurf_ray.tasks import load_task

    make = load_task("mytasks:good", import_from=Path.cwd())
    sizes = {}
    for n, device in ((2000, "cpu"), (2000, "cuda"), (45, "cuda")):
        splits = mine().Splits(*(mine().examples(n) for _ in range(3)))
        task = mine().task(lambda splits=splits: splits, batch_size=512)
        sizes[n, device] = CheckSteps(task, torch.device(device)).checked.batch_size()
    assert make.name == "mine"
    assert sizes == {(2000, "cpu"): 64, (2000, "cuda"): 512, (45, "cuda"): 22}


@pytest.fixture
def data_sets(monkeypatch):
    """Stands in for the data sets of the built-in tasks; the test sets what a download does."""
    import aquasurf_ray.tasks

    calls = []
    fake = types.SimpleNamespace(
        data_folder=lambda: Path("/data"), download=lambda name, folder: calls.append((name, folder)), calls=calls
    )
    monkeypatch.setitem(sys.modules, "aquasurf_ray.tasks.data_sets", fake)
    monkeypatch.setattr(aquasurf_ray.tasks, "data_sets", fake, raising=False)
    known = {"mytasks:good": "mine"}
    monkeypatch.setattr(registry, "data_set_of", known.get, raising=False)
    return fake


def test_a_download_is_asked_for_and_comes_first(mine, data_sets, capsys):
    code, out, _ = run(capsys, "check", "mytasks:good", "--download")
    assert code == 0
    assert data_sets.calls == [("mine", Path("/data"))]
    assert out.splitlines()[0].split()[:2] == ["download", "ok"]
    data_sets.calls.clear()
    run(capsys, "check", "mytasks:good")
    assert data_sets.calls == [], "nothing is fetched unless it is asked for"


def test_a_download_that_fails_ends_the_check(mine, data_sets, capsys):
    def fail(name, folder):
        raise TaskError(f"cannot fetch data set '{name}' into {folder}: no route to host")

    data_sets.download = fail
    code, out, _ = run(capsys, "check", "mytasks:good", "--download")
    assert code == 1
    assert len(out.splitlines()) == 1
    assert "cannot fetch data set 'mine' into /data: no route to host" in out


def test_a_task_that_brings_its_own_data_has_nothing_to_download(mine, data_sets, capsys):
    code, out, err = run(capsys, "check", "mytasks:few", "--download")
    assert (code, out) == (2, "")
    assert "task 'mytasks:few' brings its own data" in err


def test_list_names_every_task(mine, capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == registry.task_names()
    _, out, _ = run(capsys, "list", "--json")
    assert [row["task"] for row in json.loads(out)] == registry.task_names()


def test_show_prints_network_data_recipe_and_objective(mine, capsys):
    code, out, err = run(capsys, "show", "mytasks:good", "--json")
    document = json.loads(out)
    assert code == 0
    network = document["network"]
    assert (network["parameters"], network["replaced"], network["kept"]) == (139, ["1", "3"], None)
    assert network["layers"] == [
        {"layer": "0", "kind": "Linear", "weights": 40},
        {"layer": "2", "kind": "Linear", "weights": 72},
        {"layer": "4", "kind": "Linear", "weights": 27},
    ]
    assert document["data"] == {"train": 100, "validation": 50, "test": 50, "problem": None}
    assert (document["recipe"]["epochs"], document["recipe"]["batch_size"]) == (30, 16)
    assert document["objective"]["metric"] == "accuracy"
    assert document["digest"] == mine().good().digest
    assert "a module that prints" in err
    _, out, _ = run(capsys, "show", "mytasks:good")
    for part in (
        "139 parameters",
        "replaced    1, 3",
        "100 train",
        "metric accuracy (higher is better)",
        "epochs 30",
    ):
        assert part in out
    assert document["digest"] in out


def test_show_prints_what_was_kept_and_why(mine, capsys):
    _, out, _ = run(capsys, "show", "mytasks:reporting")
    assert "1 activation is not replaced:\nname    reason\n2.gate  gate: Sigmoid\n" in out
    _, out, _ = run(capsys, "show", "mytasks:reporting", "--json")
    network = json.loads(out)["network"]
    assert network["kept"] == [{"name": "2.gate", "reason": "gate: Sigmoid"}]
    assert network["replaced"] == ["1", "3", "3.again"], "one module in several places is told as often"


def test_show_prints_the_rest_where_the_data_are_missing(mine, capsys):
    code, out, _ = run(capsys, "show", "mytasks:without_data")
    assert code == 0
    assert "no file x.bin in /data; get it with" in out
    assert "unknown without the data" in out
    _, out, _ = run(capsys, "show", "mytasks:without_data", "--json")
    document = json.loads(out)
    assert (document["digest"], document["data"]["train"]) == (None, None)


def test_show_of_a_network_that_cannot_be_built_is_bad_use(mine, capsys):
    (Path("mytasks.py")).write_text(TASKS.replace("nn.Linear(5, 3)", "nn.Linear(-5, 3)"))
    code, out, err = run(capsys, "show", "mytasks:narrow")
    assert (code, out) == (2, "")
    assert "network of task 'mine' cannot be built: RuntimeError" in err
