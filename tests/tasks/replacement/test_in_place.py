"""A module that writes into its input is replaced by one that does so too, where the network reads that input again; a
network that would still be another one than the user's is refused."""

from __future__ import annotations

import pickle
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task, TaskError, network_from, replace_activations
from aquasurf_ray.tasks.replacement.in_place import InPlace
from aquasurf_ray.workers.training import train

FUNCTION = "mul(sigmoid(x),elu(x))"
SHAPE = (5, 4)


class Swish(nn.Module):
    """Somebody's own, which works in place."""

    def forward(self, x):
        return x.mul_(torch.sigmoid(x))


class Net(nn.Module):
    """Layers and an activation, used as `how` says."""

    def __init__(self, how, activation=None):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.3)
        self.r, self.how = activation or nn.ReLU(inplace=True), how

    def forward(self, x):
        return self.how(self, x)


def residual(net, x):
    x = net.norm(net.first(x))
    return net.last(x + net.drop(net.middle(net.r(x))))


def statement(net, x):
    h = net.first(x)
    net.r(h)
    return net.last(net.middle(h))


def view(net, x):
    h = net.first(x)
    left = h[:, :2]
    return net.last(torch.cat([left, net.r(h)[:, 2:]], 1))


def only_in_evaluation(net, x):
    h = net.first(x)
    return net.last(net.r(h) if net.training else net.middle(net.r(h)) + h)


def on_the_inputs(net, x):
    return net.last(net.middle(net.r(x)) + x)


def returned(net, x):
    h = net.last(net.first(x))
    net.r(h)
    return h


def plain(net, x):
    return net.last(net.drop(net.r(net.middle(net.r(net.first(x))))))


WRITES = [residual, statement, view, only_in_evaluation, on_the_inputs, returned]


def made(how, activation=None):
    torch.manual_seed(0)
    return Net(how, activation)


def passes(model, x):
    """Return outputs in both modes, and the first layer's gradient."""
    found = []
    for training in (True, False):
        torch.manual_seed(1)
        found.append(model.train(training)(x.clone()))
    return [*found, torch.autograd.grad(found[0].square().sum(), model.first.weight, allow_unused=True)[0]]


@pytest.mark.parametrize("how", [*WRITES, plain], ids=lambda how: how.__name__)
@pytest.mark.parametrize("given", ["inputs", "none"])
def test_with_its_own_function_in_the_place_the_network_computes_the_same(how, given):
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    original, model = made(how), made(how)
    replace_activations(model, "relu(x)", **({"inputs": x} if given == "inputs" else {}))
    for found, expected in zip(passes(model, x), passes(original, x), strict=True):
        assert found is expected is None or torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("how", [*WRITES, plain], ids=lambda how: how.__name__)
def test_only_where_the_input_is_read_again_the_new_module_writes(how):
    x = torch.randn(SHAPE)
    model = made(how)
    report = replace_activations(model, FUNCTION, inputs=x)
    assert report.replaced == ("r",)
    assert report.written == (() if how is plain else ("r",))
    assert isinstance(model.r, Activation if how is plain else InPlace)
    network = network_from(partial(Net, how), example=(4,))
    assert network.replacement.written == report.written
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        copy.load_state_dict(model.state_dict())
        torch.testing.assert_close(copy.eval()(x.clone()), model.eval()(x.clone()))


@pytest.mark.parametrize(
    "activation",
    [Swish(), partial(functional.leaky_relu, negative_slope=0.3, inplace=True), nn.ELU(0.7, inplace=True)],
    ids=["own class", "attribute", "with a setting"],
)
def test_every_kind_of_activation_that_writes_is_one(activation):
    network, x = network_from(partial(Net, residual, activation), example=(4,)), torch.randn(SHAPE)
    assert network.replacement.written == ("r",)
    (own,) = network.own_activations()[""]
    torch.manual_seed(0)
    model = network(lambda: nn.Sequential(_Values(own)))
    for found, expected in zip(passes(model, x), passes(made(residual, activation), x), strict=True):
        torch.testing.assert_close(found, expected)


class _Values(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.clone())


def task_of(network, recipe=None):
    def rows(seed):
        x = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())

    splits = Splits(rows(0), rows(1), rows(2))
    return Task("in-place", network, lambda: splits, recipe or Recipe(epochs=2, batch_size=20, learning_rate=0.05))


def test_a_network_that_writes_into_its_inputs_leaves_the_data_as_they_are():
    task = task_of(network_from(partial(Net, on_the_inputs)))
    splits = task.splits()
    before = [split.tensors[0].clone() for split in splits.named().values()]
    train(task, Activation(FUNCTION), splits=splits, seed=0, device=torch.device("cpu"))
    assert all(torch.equal(a, b.tensors[0]) for a, b in zip(before, splits.named().values(), strict=True))


def test_the_digest_changes_only_where_the_new_module_writes():
    def digest(how, inplace):
        return task_of(network_from(partial(Net, how, nn.ReLU(inplace=inplace)))).digest

    def without_r(how):
        return task_of(network_from(lambda: Net(how, nn.ReLU()))).digest

    assert digest(plain, True) == digest(plain, False) == without_r(plain)
    assert digest(residual, True) != digest(residual, False)


class OfClass(nn.Module):
    """Its code does more with its activations than use their values."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.act, self.other = nn.Linear(4, 4), nn.Linear(4, 3), nn.GELU(), nn.SiLU()

    def forward(self, x):
        x = self.act(self.first(x))
        x = x * 2 if isinstance(self.act, nn.GELU) else x
        return self.last(self.other(x))


class ZeroHead(OfClass):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.last.weight)


@pytest.mark.parametrize("kind", [OfClass, ZeroHead])
def test_a_network_that_would_be_another_one_is_refused_with_both_sizes_and_the_place(kind):
    says = (
        rf"another network of {kind.__name__}: with its own activations put back, its outputs in training differ by up "
        r"to 0\.\d+ \(they are up to \d\.\d+\); its code does more than use the values of 'act' \(GELU\); call"
    )
    with pytest.raises(TaskError, match=says):
        _ = task_of(network_from(kind)).digest
    with pytest.raises(TaskError, match=says):
        network_from(kind).refuse_other_network(torch.randn(6, 4))


class Several(nn.Module):
    """Activations of different functions and settings, learned ones, and parts that draw numbers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(5)])
        self.modules_of = nn.ModuleList([nn.PReLU(4), nn.Hardswish(), Swish()])
        self.norm, self.drop, self.gate, self.last = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sigmoid(), nn.Linear(4, 3)

    def forward(self, x):
        for layer, activation in zip(self.layers, self.modules_of, strict=False):
            x = activation(layer(self.norm(x)))
        x = self.drop(functional.leaky_relu(self.layers[3](x), 0.1)) * self.gate(x)
        return self.last(functional.leaky_relu(functional.elu(self.layers[4](x), alpha=0.6), 0.3))


class Drawing(OfClass):
    """Its outputs cannot be compared, since it draws from a source of its own."""

    source = torch.Generator().manual_seed(3)

    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), 3, generator=self.source)


@pytest.mark.parametrize("kind", [Several, Drawing])
def test_networks_whose_functions_differ_or_that_draw_numbers_are_not_refused(kind):
    task = task_of(network_from(kind))
    assert task.digest
    task.network.refuse_other_network(torch.randn(20, 4))


def test_a_function_that_returns_the_same_model_is_refused_before_it_is_changed():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU6(), nn.Linear(4, 3))
    before = [type(module) for module in model]
    for network in (network_from(lambda: model), network_from(lambda: nn.Sequential(model, nn.Identity()))):
        with pytest.raises(TaskError, match=r"returns .*same.* each time; make a new one in it"):
            _ = task_of(network).digest
    assert [type(module) for module in model] == before


def test_an_activation_that_all_models_share_is_no_reason_to_refuse_them():
    shared = nn.Tanh()
    network = network_from(lambda: nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 3)))
    assert task_of(network).digest
    assert network.replacement.replaced == ("1",)


def test_weights_that_all_models_share_stay_as_they_are():
    frozen, learned = nn.Linear(4, 4), nn.PReLU()
    before = [parameter.clone() for part in (frozen, learned) for parameter in part.parameters()]
    network = network_from(lambda: nn.Sequential(frozen, learned, nn.Linear(4, 3)))
    assert task_of(network).digest
    assert network.own_activations()[""][0].weight.item() == 0.25
    after = [parameter for part in (frozen, learned) for parameter in part.parameters()]
    assert all(map(torch.equal, before, after))
