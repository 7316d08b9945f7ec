"""A training gives the same numbers again, resumes where it was interrupted, and distinguishes faults."""

from __future__ import annotations

import math
import os
import re
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from aquasurf_ray.activations import Activation, register_unary, unregister
from aquasurf_ray.tasks import Recipe, Splits, classification, load_task
from aquasurf_ray.workers.engine import memory
from aquasurf_ray.workers.engine.batches import batch_source
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.health import HealthLimits
from aquasurf_ray.workers.engine.memory import PeakMemory
from aquasurf_ray.workers.engine.precision import Arithmetic
from aquasurf_ray.workers.engine.validation import evaluate
from aquasurf_ray.workers.network import spectrum_batch, untrained_network
from aquasurf_ray.workers.training import is_function_fault, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    torch.set_num_threads(1)
    return load_task("digits")


@pytest.fixture(scope="module")
def splits(digits):
    return digits.data()


@pytest.fixture
def brief(digits):
    return replace(digits, recipe=replace(digits.recipe, epochs=3))


def figures(result):
    """All numbers of a result that a second training must repeat."""
    curve = [(e.train_loss, e.train_score, e.val_loss, e.val_score, e.learning_rate) for e in result.epochs]
    return result.score, result.test_loss, result.test_accuracy, curve


def test_digits_are_learnt(digits, splits):
    result = train(digits, Activation("relu(x)"), splits=splits, seed=0)
    assert result.status == "done"
    assert result.score == result.val_accuracy == result.epochs[-1].val_score
    assert result.test_score == result.test_accuracy
    assert result.val_accuracy > 0.95
    assert result.test_accuracy > 0.95
    assert [e.epoch for e in result.epochs] == list(range(1, 17))


def test_equal_seeds_give_equal_numbers_and_the_global_generator_is_left_alone(brief, splits):
    before = torch.random.get_rng_state()
    first = train(brief, Activation("swish(x)"), splits=splits, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert figures(train(brief, Activation("swish(x)"), splits=splits, seed=3)) == figures(first)
    assert figures(train(brief, Activation("swish(x)"), splits=splits, seed=4)) != figures(first)


class Watched(Dataset):
    """Examples that say when they are read."""

    def __init__(self, examples, events):
        self.examples, self.events = examples, events

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        self.events.append(index)
        return self.examples[index]


def test_the_test_split_is_read_exactly_once_and_at_the_end(brief, splits):
    events = []
    watched = replace(splits, test=Watched(splits.test, events))
    train(brief, Activation("relu(x)"), splits=watched, gate=HealthLimits(), on_epoch=lambda e: events.append("epoch"))
    assert events == ["epoch"] * 3 + list(range(len(splits.test)))


class Interrupted(Exception):
    pass


def interrupt_after(epoch):
    def stop(done):
        if done.epoch == epoch:
            raise Interrupted

    return stop


def with_dropout(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), activation(), nn.Dropout(0.3), nn.Linear(32, 10))


@pytest.mark.parametrize("interrupted_after", [2, 3])
def test_an_interrupted_training_resumes_bit_for_bit(digits, splits, tmp_path, interrupted_after):
    task = replace(digits, network=with_dropout, recipe=replace(digits.recipe, epochs=4))
    whole = train(task, Activation("tanh(x)"), splits=splits, seed=1)
    folder = CheckpointFolder(str(tmp_path), {"task": task.digest, "function": "tanh(x)", "seed": 1})
    arguments = {"splits": splits, "seed": 1, "checkpoints": folder, "checkpoint_interval": 0.0}
    with pytest.raises(Interrupted):
        train(task, Activation("tanh(x)"), on_epoch=interrupt_after(interrupted_after), **arguments)
    trained = []
    resumed = train(task, Activation("tanh(x)"), on_epoch=lambda e: trained.append(e.epoch), **arguments)
    assert trained == list(range(interrupted_after, 5)), "resumes from the last epoch that was written"
    assert figures(resumed) == figures(whole)


def misfit(kind, state):
    first = state["optimizer"]["state"][0]
    if kind == "other network":
        state["network"] = {"0.weight": torch.zeros(3)}
    elif kind == "other momentum":
        first["momentum_buffer"] = first["momentum_buffer"][:1]
    elif kind == "other cycle":
        state["steps"] = 7
    elif kind == "curve cut short":
        state["history"] = []
    elif kind == "another form":
        state["form"] = "compiled"
    elif kind == "averages":
        state["averaged"] = state["network"]
    else:
        del state["order"]


@pytest.mark.parametrize(
    "kind",
    [
        "other network",
        "other momentum",
        "other cycle",
        "curve cut short",
        "another form",
        "averages",
        "no generator state",
    ],
)
def test_a_checkpoint_that_does_not_fit_is_left_out_with_a_warning(digits, splits, tmp_path, caplog, kind):
    task = replace(digits, network=with_dropout, recipe=replace(digits.recipe, epochs=2))
    folder = CheckpointFolder(str(tmp_path), {"seed": 1})
    whole = train(task, Activation("tanh(x)"), splits=splits, seed=1, checkpoints=folder, checkpoint_interval=0.0)
    epoch, state = folder.load_latest(CPU)
    misfit(kind, state)
    folder.save(epoch, state)
    again = train(task, Activation("tanh(x)"), splits=splits, seed=1, checkpoints=folder)
    assert "checkpoint of 'tanh(x)' does not fit, training from the start" in caplog.text
    assert figures(again) == figures(whole)


PEAKS = """
from dataclasses import replace
import torch
from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import load_task
from aquasurf_ray.workers.engine.memory import PeakMemory
from aquasurf_ray.workers.training import train

task = load_task("digits")
task, splits = replace(task, recipe=replace(task.recipe, epochs=1)), task.data()
train(task, Activation("relu(x)"), splits=splits)  # loads what a first training loads
ballast = torch.ones(75_000_000)
print(PeakMemory(torch.device("cpu")).megabytes())
del ballast
print(train(task, Activation("relu(x)"), splits=splits).peak_memory_mb)
"""


@pytest.mark.slow
def test_peak_memory_is_this_trainings_own_where_the_system_can_tell():
    if not sys.platform.startswith("linux") or not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of resident memory cannot be set back here")
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, timeout=200)
    high, own = map(float, done.stdout.split())
    assert 50 < own < high - 150


def test_peak_memory_falls_back_to_the_process_lifetime(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "absent" / "clear_refs")
    assert PeakMemory(CPU).megabytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def test_plain_data_sets_give_the_same_numbers_as_tensors(brief, splits):
    class Wrapped(Dataset):
        def __init__(self, tensors):
            self.tensors_inside = tensors

        def __len__(self):
            return len(self.tensors_inside)

        def __getitem__(self, i):
            return self.tensors_inside[i]

    wrapped = Splits(*(Wrapped(s) for s in (splits.train, splits.validation, splits.test)))
    plain = train(brief, Activation("relu(x)"), splits=wrapped)
    assert figures(plain) == figures(train(brief, Activation("relu(x)"), splits=splits))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("exp(exp(exp(x)))", "training loss became"),
        ("zero(x)", "constant 0"),
        ("reciprocal(zero(x))", "constant|nowhere finite"),
    ],
)
def test_the_functions_own_faults_end_as_diverged_with_a_reason(brief, splits, function, reason):
    result = train(brief, Activation(function), splits=splits)
    assert result.status == "diverged"
    assert result.score is None
    assert re.search(reason, result.reason)


def complex_output(x):
    return torch.complex(x, x)


def integer_output(x):
    return x.to(torch.int64)


def raising(x):
    raise RuntimeError("this function is broken")


def late_nan(x):
    late_nan.calls += 1
    return x / 0.0 * 0.0 if late_nan.calls > 60 else x


def exhausting(x):
    raise torch.OutOfMemoryError("tried to allocate 80 GiB")


def unreachable(x):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def late_key_error(x):
    return {2: x.clone()}[x.dim()] if x.dim() != 1 else x.clone()


def failed_assertion(x):
    raise AssertionError("only for images")


def wrong_attribute(x):
    return x.no_such_method()


def detached(x):
    return x.detach().sin()


def nan_without_gradients(x):
    return x.clone() if torch.is_grad_enabled() else x * math.nan


class BrokenBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise LookupError("no gradient\nknown")


def broken_backward(x):
    return BrokenBackward.apply(x)


OWN_OPERATORS = (
    complex_output,
    integer_output,
    raising,
    late_nan,
    exhausting,
    unreachable,
    late_key_error,
    failed_assertion,
    wrong_attribute,
    detached,
    nan_without_gradients,
    broken_backward,
)


@pytest.fixture(scope="module")
def own_operators():
    for function in OWN_OPERATORS:
        register_unary(function.__name__, function)
    yield
    for function in OWN_OPERATORS:
        unregister(function.__name__)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("complex_output", "output has type torch.complex64"),
        ("integer_output", "output has type torch.int64"),
        ("raising", "RuntimeError: this function is broken"),
        ("late_nan", "training loss became nan by step"),
        ("late_key_error", "KeyError: 4"),
        ("failed_assertion", "AssertionError: only for images"),
        ("wrong_attribute", "AttributeError: 'Tensor' object has no attribute 'no_such_method'"),
        ("detached", "detached from the input: no gradient passes"),
        ("broken_backward", "LookupError: no gradient known"),
    ],
)
@pytest.mark.reliability("function-breaks")
def test_custom_operators_that_misbehave_end_as_diverged(brief, splits, own_operators, name, reason):
    late_nan.calls = 0
    result = train(brief, Activation(f"{name}(x)"), splits=splits)
    assert result.status == "diverged"
    assert reason in result.reason


@pytest.mark.parametrize(("name", "error"), [("exhausting", torch.OutOfMemoryError), ("unreachable", RuntimeError)])
def test_trouble_of_memory_or_device_is_the_machines_fault(brief, splits, own_operators, name, error):
    with pytest.raises(error) as raised:
        train(brief, Activation(f"{name}(x)"), splits=splits)
    assert not is_function_fault(raised.value)


def evaluated(network, examples):
    source = batch_source(examples, 100, CPU)
    return evaluate(network, source, classification(), Arithmetic(Recipe(), CPU), CPU)


def test_nan_logits_after_the_last_epoch_end_as_diverged(brief, splits, own_operators):
    result = train(brief, Activation("nan_without_gradients(x)"), splits=splits)
    assert result.status == "diverged"
    assert result.reason == "validation loss is nan after epoch 3"
    assert result.score is None
    assert len(result.epochs) == 3


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.0, math.nan], math.nan),
        ([0.0, math.inf], math.nan),
        ([-math.inf, 0.0], math.nan),
        ([-3e38, 3e38], math.inf),
        ([0.0, -math.inf], 0.0),
    ],
)
def test_an_evaluation_is_nan_where_logits_overflow_and_only_there(row, expected):
    logits = torch.tensor([row])
    loss, _ = evaluated(nn.Identity(), TensorDataset(logits, torch.tensor([0])))
    assert loss == pytest.approx(expected, nan_ok=True)


def test_errors_outside_the_function_are_not_the_functions_fault(brief, splits):
    broken = replace(brief, network=lambda activation: nn.Sequential(nn.Flatten(), nn.Linear(3, 10), activation()))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        train(broken, Activation("relu(x)"), splits=splits)
    assert not is_function_fault(raised.value)


def test_evaluation_equals_the_plain_formula(digits, splits):
    network = untrained_network(digits, nn.ReLU, seed=0, device=CPU)
    loss, accuracy = evaluated(network, splits.test)
    inputs, targets = splits.test.tensors
    with torch.no_grad():
        logits = network.double()(inputs.double())
    rows = logits - logits.logsumexp(1, keepdim=True)
    expected = -rows[torch.arange(len(targets)), targets].mean().item()
    assert math.isclose(loss, expected, rel_tol=1e-5)
    assert accuracy == (logits.argmax(1) == targets).double().mean().item()


def test_spectrum_batch_is_training_data_without_repeats(digits, splits):
    inputs, targets = spectrum_batch(digits, splits, seed=0, device=CPU)
    again, _ = spectrum_batch(digits, splits, seed=0, device=CPU)
    other, _ = spectrum_batch(digits, splits, seed=1, device=CPU)
    assert inputs.shape == (128, 1, 8, 8)
    assert targets.shape == (128,)
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, other)
    train_rows = {tuple(row) for row in splits.train.tensors[0].flatten(1).tolist()}
    assert all(tuple(row) in train_rows for row in inputs.flatten(1).tolist())
