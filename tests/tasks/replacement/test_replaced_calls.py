"""Activations that a model's own code calls are replaced, in training, in copies and in exports, or named."""

from __future__ import annotations

import inspect
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError, activation_calls, network_from, replace_activations
from aquasurf_ray.tasks.replacement import Kept
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, fisher_spectrum
from aquasurf_ray.workers.training import train

FUNCTION = "mul(sigmoid(x),elu(x))"
SHAPE = (3, 4)


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Block(nn.Module):
    """Calls an activation in every way that there is."""

    def __init__(self, call):
        super().__init__()
        self.first, self.second, self.call = nn.Linear(4, 4), nn.Linear(4, 4), call

    def forward(self, x, scale=1.0):
        return scale * self.second(self.call(self.first(x)))


def after_in_place(call):
    def used(x):
        call(x)  # what it returns is not used
        return x

    return used


def with_out(x):
    return torch.tanh(x, out=torch.empty_like(x)) if not x.requires_grad else torch.tanh(x)


CALLS = {
    "functional": lambda x: functional.relu(x),
    "torch": lambda x: torch.relu(x),
    "method": lambda x: x.relu(),
    "method in place": after_in_place(lambda x: x.relu_()),
    "torch in place": after_in_place(torch.relu_),
    "functional in place": after_in_place(lambda x: functional.relu(x, inplace=True)),
    "functional in place by position": after_in_place(lambda x: functional.elu(x, 1.0, True)),
    "by name": lambda x: functional.leaky_relu(input=x, negative_slope=0.2),
    "with settings": lambda x: functional.gelu(x, approximate="tanh"),
    "with a weight": lambda x: functional.prelu(x, torch.tensor([0.1])),
    "logsigmoid": lambda x: functional.logsigmoid(x),
    "relu6": lambda x: functional.relu6(x),
    "of a table": lambda x: {"a": functional.silu}["a"](x),
    "out": with_out,
}


@pytest.mark.parametrize("how", CALLS)
def test_a_call_is_replaced_with_its_gradient_however_it_is_written(how):
    def searched(model, x):
        return model.second(torch.sin(model.first(x)))

    model, x = Block(CALLS[how]), torch.randn(SHAPE)
    (call,) = {c.function for c in activation_calls(model, x) if c.in_python}
    report = replace_activations(model, Sine, inputs=x)
    assert report.replaced == (f"called_{call}",)
    assert activation_calls(model, x, outside=[model.get_submodule(f"called_{call}")], backward=True) == ()
    found, expected = model(x), searched(model, x)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.square().sum(), model.first.weight)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients)


def calls_functional(x):
    return functional.relu(x)


def calls_torch(x):
    return torch.relu(x)


class Mixed(nn.Module):
    """Two blocks, a kept module, a gate, a function in an attribute and a branch that only training takes."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(calls_functional), Block(calls_torch)])
        self.norm, self.module, self.attribute = nn.BatchNorm1d(4), nn.ReLU(), functional.gelu

    def forward(self, x):
        for block in self.blocks:
            x = block(x, scale=2.0)
        x = self.attribute(self.module(self.norm(x)))
        x = functional.silu(x) if self.training else functional.silu(x) + 1
        return x * torch.sigmoid(x)


def by_hand(model, x):
    for block in model.blocks:
        x = 2.0 * block.second(torch.sin(block.first(x)))
    x = torch.sin(torch.sin(model.norm(x)))
    x = torch.sin(x) if model.training else torch.sin(x) + 1
    return x * torch.sigmoid(x)


def replaced_mixed():
    torch.manual_seed(0)
    model = Mixed()
    return model, replace_activations(model, Sine, inputs=torch.randn(SHAPE))


def test_calls_modules_and_attributes_are_replaced_together_and_gates_stay():
    model, report = replaced_mixed()
    assert set(report.replaced) == {
        "attribute", "module", "called_silu", "blocks.0.called_relu", "blocks.1.called_relu"
    }  # fmt: skip
    assert report.kept == (Kept("", "part of an activation: sigmoid, called by its own code"),)
    x = torch.randn(SHAPE)
    for mode in (True, False):
        model.train(mode)
        torch.testing.assert_close(model(x), by_hand(model, x))


def test_copies_pickles_and_exports_keep_the_replacement():
    model, _ = replaced_mixed()
    model.eval()
    x = torch.randn(SHAPE)
    expected = by_hand(model, x)
    assert type(model).__name__ == "Mixed"
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(copy, Mixed)
        torch.testing.assert_close(copy(x), expected)
    exported = torch.export.export(model, (x,), strict=False)
    torch.testing.assert_close(exported.module()(x), expected)
    operators = " ".join(str(node.target) for node in exported.graph.nodes)
    assert "sin" in operators
    assert not any(name in operators for name in ("relu", "silu", "gelu"))


def test_a_module_that_stays_keeps_its_function_inside_of_a_module_whose_calls_are_replaced():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.kept = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            return self.kept(functional.relu(self.first(x)))

    model, x = Outer(), torch.randn(SHAPE)
    report = replace_activations(model, Sine, "called_*", inputs=x)
    assert (report.replaced, report.kept) == (("called_relu",), (Kept("kept", "not selected by only="),))
    torch.testing.assert_close(model(x), torch.relu(torch.sin(model.first(x))))


def test_only_selects_calls_by_name_and_a_pattern_without_any_leaves_the_model_as_it_was():
    model, x = Mixed(), torch.randn(SHAPE)
    report = replace_activations(deepcopy(model), Sine, ("module", "blocks.1.*"), inputs=x)
    assert report.replaced == ("module", "blocks.1.called_relu")
    assert Kept("blocks.0", "relu, called by its own code") in report.kept
    with pytest.raises(TaskError, match=r"only= matches nothing with blocks\.2\.\* in Mixed"):
        replace_activations(model, Sine, ("module", "blocks.2.*"), inputs=x)
    assert isinstance(model.module, nn.ReLU)
    assert type(model) is Mixed


class WrittenOut(nn.Module):
    """A GELU of the user's own."""

    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3)))


def test_a_custom_activation_is_replaced_as_a_whole():
    model = nn.Sequential(nn.Linear(4, 4), WrittenOut(), nn.Linear(4, 2))
    assert replace_activations(model, Sine, inputs=torch.randn(SHAPE)).replaced == ("1",)
    assert isinstance(model[1], Sine)


def test_a_bounded_function_in_a_product_is_a_gate():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))

        def forward(self, x):
            inner = self.scale * torch.tanh(self.a(x))
            gelu = 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))
            return functional.relu(self.a(x)) + self.b(x) * torch.tanh(self.b(x)) + gelu + inner

    report = replace_activations(Cell(), Sine, inputs=torch.randn(SHAPE))
    assert report.replaced == ("called_relu",)
    assert report.kept == (Kept("", "gate: tanh, called by its own code"),)


class Checkpointed(nn.Module):
    """A function that the backward pass runs again, and a module of which the same is true."""

    def __init__(self):
        super().__init__()
        self.first, self.block = nn.Linear(4, 4), Block(calls_functional)

    def forward(self, x):
        x = checkpoint(lambda t: functional.elu(self.first(t)), x, use_reentrant=False)
        return checkpoint(self.block, x, use_reentrant=False)


def test_a_call_that_the_backward_pass_repeats_outside_of_forward_is_named_and_stays_in_both_passes():
    with pytest.raises(TaskError, match=r"cannot be replaced there: elu \(.*test_replaced_calls\.py:\d+\)"):
        replace_activations(Checkpointed(), Sine, inputs=torch.randn(SHAPE))
    model, x = Checkpointed(), torch.randn(SHAPE)
    report = replace_activations(model, Sine, "*.called_*", inputs=x)
    assert report.replaced == ("block.called_relu",)
    assert report.kept == (Kept("", "elu, called by its own code"),)
    expected = model.block.second(torch.sin(model.block.first(functional.elu(model.first(x)))))
    gradients = [torch.autograd.grad(y.square().sum(), model.first.weight)[0] for y in (model(x), expected)]
    torch.testing.assert_close(*gradients)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.inner, self.out = nn.Embedding(7, 8), nn.Linear(8, 8), nn.Linear(8, 7)

    def forward(self, tokens):
        assert tokens.shape[1] <= 5
        return self.out(functional.gelu(self.inner(self.table(tokens))))


def test_an_example_of_a_token_model_is_of_whole_numbers():
    network = network_from(Tokens, example=(5,))
    assert network.replacement.replaced == ("called_gelu",)
    with pytest.raises(TaskError, match=r"Tokens fails on inputs of shape \(2, 6\): "):
        network_from(Tokens, example=(6,))(Sine)


def tokens(n, seed):
    draw = torch.Generator().manual_seed(seed)
    found = torch.randint(0, 7, (n, 5), generator=draw)
    return TensorDataset(found, (found + 1) % 7)


def token_task():
    from aquasurf_ray.tasks import language_modelling

    return Task(
        "tokens",
        network_from(Tokens),
        lambda: Splits(tokens(64, 0), tokens(32, 1), tokens(32, 2)),
        Recipe(epochs=3, batch_size=16, learning_rate=0.5),
        language_modelling(),
    )


def test_a_task_finds_the_calls_on_its_own_data_and_training_and_spectra_follow_the_function():
    task = token_task()
    made = task.new_network(lambda: Activation(FUNCTION))
    assert isinstance(made.called_gelu, Activation)
    by_factory = replace(task, network=lambda activation: SearchedTokens(activation))
    results = [train(each, Activation(FUNCTION), seed=0) for each in (task, by_factory)]
    assert results[0].score == pytest.approx(results[1].score, rel=1e-5)
    assert results[0].score != pytest.approx(train(task, Activation("relu(x)"), seed=0).score, rel=1e-3)
    networks = []
    for each in (task, by_factory):
        torch.manual_seed(0)
        networks.append(each.new_network(lambda: Activation(FUNCTION)))
    inputs, targets = tokens(16, 3).tensors
    with pytest.warns(SkippedLayerWarning, match="table"):
        spectra = [fisher_spectrum(network, inputs, like=targets) for network in networks]
    for one, other in zip(*spectra, strict=True):
        torch.testing.assert_close(torch.tensor(one.log_eigenvalues()), torch.tensor(other.log_eigenvalues()))
    assert pickle.loads(pickle.dumps(task.network)).replacement.replaced == ("called_gelu",)


class SearchedTokens(Tokens):
    """The same network, written for the searched function."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation()

    def forward(self, tokens):
        return self.out(self.activation(self.inner(self.table(tokens))))


class Cell(nn.Module):
    """A gated recurrent cell, whose functions are all factors."""

    def __init__(self):
        super().__init__()
        self.gate, self.state = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        h = torch.zeros_like(x)
        for _ in range(3):
            both = torch.cat([x, h], 1)
            z = torch.sigmoid(self.gate(both))
            h = z * h + (1 - z) * torch.tanh(self.state(both))
        return h


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.last = Cell(), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.cell(x))


class Rectified(nn.Module):
    """Writes out its only activations."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x).clamp(min=0)
        x = (h := self.second(x)) * torch.sigmoid(h)
        return self.last(x)


def line_of(kind, text):
    lines, first = inspect.getsourcelines(kind)
    return f"{Path(__file__).relative_to(Path.cwd())}:{first + next(i for i, line in enumerate(lines) if text in line)}"


def numbers_task(make, only=None):
    def split(seed):
        x = torch.randn(20, 4, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(x, (x[:, 0] > 0).long())

    return Task(
        "numbers", network_from(make, only), lambda: Splits(*map(split, range(3))), Recipe(epochs=1, batch_size=10)
    )


@pytest.mark.parametrize("make", [Cell, Recurrent])
@pytest.mark.parametrize("only", [None, "tanh", nn.Tanh])
def test_where_all_calls_are_gates_each_is_named_with_its_place_and_what_only_takes(make, only):
    prefix = "cell." if make is Recurrent else ""
    gates = [f"'{prefix}called_{n}' ({line_of(Cell, f'torch.{n}(')})" for n in ("sigmoid", "tanh")]
    with pytest.raises(TaskError) as refused:
        _ = numbers_task(make, only).digest
    assert f"; gates in its code, which stay unless only= names them: {', '.join(gates)}; it has" in str(refused.value)
    with pytest.raises(TaskError, match="which stay unless only= names them"):
        replace_activations(make(), nn.Identity, only, inputs=torch.randn(SHAPE))


@pytest.mark.parametrize(("make", "name"), [(Cell, "called_tanh"), (Recurrent, "cell.called_tanh")])
def test_a_gate_in_code_is_replaced_where_only_has_its_full_name(make, name):
    task = numbers_task(make, name)
    assert task.digest, "finds the calls"
    assert task.network.replacement.replaced == (name,)
    assert [str(own) for own in task.network.own_activations()[""]] == ["tanh(x)"] * 3
    model, x = make(), torch.randn(SHAPE)
    before = model(x)
    report = replace_activations(model, nn.Tanh, name, inputs=x)
    assert (report.replaced, torch.equal(model(x), before)) == ((name,), True)
    assert any("gate: sigmoid" in each.reason for each in report.kept)
    changed = make()
    changed.load_state_dict(model.state_dict())
    replace_activations(changed, Sine, name, inputs=x)
    assert not torch.equal(changed(x), before)
    with pytest.raises(TaskError, match=r"only= matches nothing with \*tanh"):  # a pattern names no gate in full
        replace_activations(make(), nn.Tanh, "*tanh", inputs=x)


def test_where_all_activations_are_written_out_each_is_named_with_its_place():
    places = [f"{name} ({line_of(Rectified, name.split('(')[0])})" for name in ("clamp(min=0)", "sigmoid")]
    with pytest.raises(TaskError) as refused:
        _ = numbers_task(Rectified).digest
    assert str(refused.value).startswith(
        f"no activation found in Rectified; activations that its code writes out: {', '.join(places)}: make each a mod"
    )
