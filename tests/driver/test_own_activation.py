"""The function to beat is the network's own, or the one that a task names, and first among its baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.activations import Activation, unregister
from aquasurf_ray.analysis.studies.confirmed_run import baseline_ids
from aquasurf_ray.analysis.studies.reference import reference_name
from aquasurf_ray.driver.candidates import baseline_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.own_activation import with_reference
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.verbs.arguments import loaded_task
from aquasurf_ray.driver.verbs.create_run import create_run
from aquasurf_ray.store import Store
from aquasurf_ray.tasks import load_task, network_from
from aquasurf_ray.workers.actor import Worker
from aquasurf_ray.workers.messages import TrainingJob, WorkerSettings


class Gate(nn.Module):
    """Somebody's own module, which no list of activations has."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class OwnWave(nn.Module):
    """Works in place, and is not in the zoo."""

    def forward(self, x):
        return x.mul_(torch.cos(3 * x))


class Rippled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x * torch.cos(self.scale * x)


class Learned(OwnWave):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


class Calling(nn.Module):
    """Calls its activation itself."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 16), nn.Linear(16, 10)])

    def forward(self, x):
        return self.layers[1](functional.gelu(self.layers[0](x.flatten(1))))


def network(*activations):
    def make():
        layers = [layer for each in activations for layer in (nn.Linear(16, 16), each)]
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *layers, nn.Linear(16, 10))

    return make


@pytest.fixture(scope="module")
def digits():
    return load_task("digits")


def reference_of(digits, make, only=None):
    task = replace(digits, network=network_from(make, only))
    before = task.digest
    found = with_reference(task)
    assert found.digest == before, "the reference changes no result"
    assert found.reference is None or found.baselines[-1] == found.reference
    return found.reference


def test_the_networks_own_activation_is_the_reference(digits):
    assert reference_of(digits, network(nn.GELU())) == "gelu(x)"
    assert reference_of(digits, network(nn.LeakyReLU(0.1))) == "add(relu(x),mul(0.1,min(x,0)))"
    assert reference_of(digits, Calling) == "gelu(x)"
    assert reference_of(digits, network(Gate()), Gate) == "mul(x,sigmoid(mul(1.702,x)))"


def test_a_baseline_of_the_paper_keeps_its_name_and_relu_needs_none(digits):
    assert reference_of(digits, network(nn.SiLU())) == "swish(x)"
    assert reference_of(digits, network(nn.ReLU())) is None


def test_of_several_activations_the_most_frequent_counts(digits):
    assert reference_of(digits, network(nn.Tanh(), nn.GELU(), nn.GELU())) == "gelu(x)"


def test_a_network_with_roles_has_the_activation_of_each_role_as_its_reference(digits):
    by_depth = {"early": "3", "late": ["5", "7"]}  # a Linear is before each activation
    found = reference_of(digits, network(nn.Tanh(), nn.GELU(), nn.GELU()), by_depth)
    assert found == "early=tanh(x);late=gelu(x)"
    assert reference_of(digits, network(nn.GELU(), nn.GELU(), nn.Tanh()), by_depth) == "gelu(x)", "alike in both roles"
    assert reference_of(digits, network(nn.ReLU(), nn.ReLU(), nn.ReLU()), by_depth) is None
    assert reference_of(digits, network(nn.Tanh(), OwnWave(), OwnWave()), by_depth) == "early=tanh(x);late=own_wave(x)"
    unregister("own_wave")
    recipe = replace(digits.recipe, epochs=1)
    own = network_from(network(nn.Tanh(), OwnWave(), OwnWave()), by_depth)
    worker = Worker(WorkerSettings(replace(digits, network=own, recipe=recipe)))
    worker.ready()
    assert worker.train(TrainingJob("early=tanh(x);late=own_wave(x)", "f", 0)).status == "done"
    unregister("own_wave")


def test_somebodys_own_module_is_an_operator_by_its_name_also_in_workers(digits):
    assert reference_of(digits, network(OwnWave()), OwnWave) == "own_wave(x)"
    x = torch.randn(5, 3)
    torch.testing.assert_close(Activation("own_wave(x)")(x), OwnWave()(x))
    unregister("own_wave")  # a worker is another process
    recipe = replace(digits.recipe, epochs=1)
    task = replace(digits, network=network_from(network(OwnWave()), OwnWave), recipe=recipe)
    worker = Worker(WorkerSettings(task))
    worker.ready()
    assert worker.train(TrainingJob("own_wave(x)", "f", 0)).status == "done"
    unregister("own_wave")


def test_modules_of_one_class_with_different_settings_are_different_operators(digits):
    by_depth = {"early": "3", "late": ["5", "7"]}
    make = network(Rippled(2.5), Rippled(4.5), Rippled(4.5))
    expected = "early=rippled(x);late=rippled_2(x)"
    assert reference_of(digits, make, by_depth) == expected
    x = torch.randn(5, 3)
    for name, scale in (("rippled(x)", 2.5), ("rippled_2(x)", 4.5)):
        torch.testing.assert_close(Activation(name)(x), Rippled(scale)(x))
        unregister(name[:-3])
    task = replace(digits, network=network_from(make, by_depth), recipe=replace(digits.recipe, epochs=1))
    worker = Worker(WorkerSettings(task))
    worker.ready()
    assert worker.train(TrainingJob(expected, "f", 0)).status == "done"
    torch.testing.assert_close(Activation("rippled_2(x)")(x), Rippled(4.5)(x))
    assert reference_of(digits, network(Rippled(2.5), Rippled(2.5), Rippled(2.5)), by_depth) == "rippled(x)"
    for name in ("rippled", "rippled_2"):
        unregister(name)


def test_what_no_operator_can_be_is_said_and_relu_stays(digits, caplog):
    assert reference_of(digits, network(Learned()), Learned) is None
    assert "the network's own activation Learned() is not elementwise, or has parameters" in caplog.text


def test_a_task_names_its_reference(digits):
    named = with_reference(replace(digits, reference="gelu"))
    assert (named.reference, named.baselines) == ("gelu(x)", (*digits.baselines, "gelu(x)"))
    assert with_reference(replace(digits, reference="mul(sigmoid(x),x)")).reference == "swish(x)"
    assert named.digest == digits.digest
    assert "gelu(x)" in [row.name for row in baseline_rows(named.baselines)]
    with pytest.raises(BadUse, match="nothing_of_the_kind"):
        with_reference(replace(digits, reference="nothing_of_the_kind(x)"))


def test_a_run_knows_its_reference_and_the_tasks_baselines(digits, tmp_path):
    config = make_config({"task": "own", "name": "one"})
    task = loaded_task(replace(digits, name="own", network=network_from(network(nn.GELU()))), config)
    with Store.open(f"sqlite:///{tmp_path}/runs.db") as store:
        run = create_run(store, config, task, "search", "one", {"task": "own"}, baseline_rows(task.baselines))
        assert reference_name(run) == "gelu(x)"
        assert baseline_ids(store, run)["gelu(x)"] == store.find_function("gelu(x)").id
        # An identity of before, without a reference, is the same run.
        plain = replace(task, reference=None, baselines=())
        again = create_run(store, config, plain, "search", "one", {"task": "own"}, ())
        assert (again.id, again.created) == (run.id, False)


def calling(function):
    """A network that calls its activation itself, with settings."""

    class Own(Calling):
        def forward(self, x):
            return self.layers[1](function(self.layers[0](x.flatten(1))))

    return Own


CALLS = {
    "leaky_relu": (lambda x: functional.leaky_relu(x, 0.1, True), "add(relu(x),mul(0.1,min(x,0)))"),
    "elu": (lambda x: functional.elu(x, alpha=0.5), "add(sub(x,min(x,0)),mul(0.5,expm1(min(x,0))))"),
    "hardtanh": (lambda x: functional.hardtanh(x, -2, 2), "min(max(x,-2),2)"),
    "celu_": (lambda x: torch.celu_(x, 2.0), "add(sub(x,min(x,0)),mul(2,expm1(div(min(x,0),2))))"),
    "softplus": (lambda x: functional.softplus(x, beta=3), "softplus_3(x)"),
    "threshold": (lambda x: functional.threshold(x, 0.1, -0.5), "threshold_0_1_minus_0_5(x)"),
    "softshrink": (partial(functional.softshrink, lambd=0.7), "sub(x,min(max(x,-0.7),0.7))"),
    "gelu": (lambda x: functional.gelu(x, approximate="tanh"), Activation("gelu_tanh").name),
    "silu": (lambda x: functional.silu(input=x), "swish(x)"),
}


@pytest.mark.parametrize(("function", "text"), CALLS.values(), ids=CALLS)
def test_a_called_activation_keeps_its_settings(digits, function, text):
    assert reference_of(digits, calling(function)) == text
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    torch.testing.assert_close(Activation(text)(x), function(x.clone()), rtol=1e-6, atol=1e-6)
    if text[:-3] in ("softplus_3", "threshold_0_1_minus_0_5"):
        unregister(text[:-3])


@pytest.mark.parametrize("function", [
    lambda x: functional.rrelu(x, 0.1, 0.3, training=True), lambda x: functional.prelu(x, torch.tensor([0.4]))
])  # fmt: skip
def test_a_call_that_draws_numbers_or_has_weights_is_no_reference(digits, function, caplog):
    assert reference_of(digits, calling(function)) is None
    assert "is not elementwise, or has parameters of its own, so gains are over ReLU" in caplog.text


class Wave(nn.Module):
    """Snake's values where its frequency is 1."""

    def forward(self, x):
        return x + torch.sin(x) ** 2


class Snake(nn.Module):
    def __init__(self, frequency=1.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(frequency))

    def forward(self, x):
        return x + torch.sin(self.a * x) ** 2 / self.a


class Scaled(Snake):
    """The sine's values, with a parameter."""

    def forward(self, x):
        return self.a * torch.sin(x)


def test_what_is_learned_is_part_of_the_reference_and_nothing_else_is(digits):
    assert reference_of(digits, network(Wave()), Wave) == "wave(x)"
    unregister("wave")
    snake = "add(x,div(square(sin(mul(learn({0},a),x))),learn({0},a)))"
    assert reference_of(digits, network(Snake()), Snake) == snake.format("1")
    assert reference_of(digits, network(Snake(2.0)), Snake) == snake.format("2")
    assert reference_of(digits, network(Scaled()), Scaled) is None
    assert reference_of(digits, network(nn.PReLU())) == "add(relu(x),mul(learn(0.25),min(x,0)))"
    assert reference_of(digits, network(nn.PReLU(16, 0.1))) == "add(relu(x),mul(learn_channel(0.1),min(x,0)))"


def test_modules_of_one_class_are_told_apart_by_what_they_compute(digits, caplog):
    """Their texts are the same: neither class has an `extra_repr`."""
    assert reference_of(digits, network(Rippled(2.5), Rippled(4.5), Rippled(4.5)), Rippled) == "rippled(x)"
    assert "rippled(x) and rippled_2(x); gains are over the first, which is in most places, or name" in caplog.text
    x = torch.randn(5, 3)
    for name, scale in (("rippled(x)", 4.5), ("rippled_2(x)", 2.5)):
        torch.testing.assert_close(Activation(name)(x), Rippled(scale)(x))
    unregister("rippled_2")  # a worker is another process
    task = replace(digits, network=network_from(network(Rippled(2.5), Rippled(4.5), Rippled(4.5)), Rippled))
    worker = Worker(WorkerSettings(replace(task, recipe=replace(digits.recipe, epochs=1))))
    worker.ready()
    assert worker.train(TrainingJob("rippled_2(x)", "f", 0)).status == "done"
    for name in ("rippled", "rippled_2"):
        unregister(name)
    snake = "add(x,div(square(sin(mul(learn(2,a),x))),learn(2,a)))"
    assert reference_of(digits, network(Snake(), Snake(2.0), Snake(2.0)), Snake) == snake
    assert f"{snake} and snake(x); gains" in caplog.text


def test_one_function_counts_once_however_it_is_written(digits, caplog):
    assert reference_of(digits, network(nn.Tanh(), nn.Tanh(), nn.SiLU(), Swish(), nn.SiLU())) == "swish(x)"
    assert "swish(x) and tanh(x); gains are over the first, which is in most places" in caplog.text


def test_most_places_are_only_said_where_they_are_most(digits, caplog):
    assert reference_of(digits, network(nn.SiLU(), nn.Tanh())) == "swish(x)"
    assert "swish(x) and tanh(x); gains are over the first, or name another with Task(reference=...)" in caplog.text


class Mixed(nn.Module):
    """A tanh that is called three times in two ways, a GELU, and a module after them."""

    def __init__(self, after=None):
        super().__init__()
        self.after = after
        self.layers = nn.ModuleList([nn.Linear(64, 16), *(nn.Linear(16, 16) for _ in range(3)), nn.Linear(16, 10)])

    def forward(self, x):
        x = self.layers[0](x.flatten(1))
        for layer in self.layers[1:3]:
            x = torch.tanh(layer(x))
        x = functional.gelu(self.layers[3](x)).tanh()
        return self.layers[4](x if self.after is None else self.after(x))


def test_calls_count_as_often_as_they_are_made_and_of_equally_many_the_first_to_run_is_the_reference(digits, caplog):
    assert reference_of(digits, Mixed) == "tanh(x)"
    assert "tanh(x) and gelu(x); gains are over the first, which is in most places" in caplog.text
    assert reference_of(digits, lambda: Mixed(after=nn.ELU())) == "tanh(x)"
    silu = calling(lambda x: functional.gelu(functional.silu(x)))
    assert reference_of(digits, silu) == "swish(x)"

    class Both(Calling):
        def __init__(self):
            super().__init__()
            self.act = nn.ELU()

        def forward(self, x):
            return self.layers[1](self.act(functional.silu(self.layers[0](x.flatten(1)))))

    assert reference_of(digits, Both) == "swish(x)"


def test_several_own_activations_are_named(digits, caplog):
    assert reference_of(digits, network(nn.Tanh(), nn.LeakyReLU(0.1), nn.GELU(), nn.GELU())) == "gelu(x)"
    said = "several activations of its own: gelu(x) and leaky_relu(x,0.1), tanh(x); gains are over the first"
    assert said in caplog.text
    twice = calling(lambda x: functional.leaky_relu(functional.leaky_relu(x, 0.1), 0.2))
    assert reference_of(digits, twice) == "add(relu(x),mul(0.1,min(x,0)))"
    assert "leaky_relu(x,0.1) and leaky_relu(x,0.2)" in caplog.text
