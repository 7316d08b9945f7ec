"""Learned parameters in a training: sized before it begins, trained without decay, kept, resumed, and reported."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation, RecomputedActivation
from aquasurf_ray.activations.learned import learned_parameters, sized
from aquasurf_ray.tasks import Recipe, Splits, Task
from aquasurf_ray.workers.cost import measure_cost
from aquasurf_ray.workers.engine.checkpoints import CheckpointFolder
from aquasurf_ray.workers.engine.fast_form import fast_form
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.health import HealthLimits, check_health
from aquasurf_ray.workers.engine.loop import TrainingLoop
from aquasurf_ray.workers.engine.optimisation import make_optimizer
from aquasurf_ray.workers.engine.ranks import Alone
from aquasurf_ray.workers.engine.stopping import TrainingDrained
from aquasurf_ray.workers.network import sized_network
from aquasurf_ray.workers.spectrum import task_spectrum
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")
PRELU = "add(max(x,0),mul(learn_channel(0.25),min(x,0)))"
BOTH = "add(mul(learn(1),tanh(x)),mul(learn_channel(0.1),x))"


class Residual(nn.Module):
    """Convolutions over positions, which have channels in dimension 1, a sum, and a linear layer on tokens."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv1d(3, 6, 1), nn.BatchNorm1d(6), nn.Conv1d(6, 6, 1)
        self.tokens, self.drop, self.head = nn.Linear(6, 5), nn.Dropout(0.2), nn.Linear(5, 3)
        self.a, self.b, self.c = activation(), activation(), activation()

    def forward(self, x):
        """From (n, 3, 4) to (n, 3)."""
        x = self.a(self.norm(self.first(x)))
        x = self.b(x + self.second(x))
        return self.head(self.drop(self.c(self.tokens(x.mT)))).mean(1)


def data() -> Splits:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 3, 4, generator=generator)
    return Splits(*(TensorDataset(inputs, inputs.mean(2).argmax(1)) for _ in range(3)))


def task(**recipe) -> Task:
    settings = {"epochs": 3, "batch_size": 20, "learning_rate": 0.05, **recipe}
    return Task(name="residual", network=Residual, data=data, recipe=Recipe(**settings))


def test_channels_are_sized_by_the_layer_before_and_nothing_else_changes():
    network = Residual(lambda: Activation(BOTH))
    state = {name: value.clone() for name, value in network.state_dict().items() if "learned" not in name}
    before = torch.get_rng_state()
    modes = network.eval().training
    assert sized(network, lambda: network(torch.randn(2, 3, 4))) is network
    sizes = [(p.layer, p.name, tuple(p.tensor.shape)) for p in learned_parameters(network)]
    assert sizes == [
        ("a", "a", ()),
        ("a", "b", (6,)),
        ("b", "a", ()),
        ("b", "b", (6,)),
        ("c", "a", ()),
        ("c", "b", (5,)),
    ]
    assert [network.a.channel_dim, network.b.channel_dim, network.c.channel_dim] == [-2, -2, -1]
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training == modes
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items()), "batch norm's statistics too"


def test_an_error_of_the_data_or_of_the_network_is_not_the_functions():
    class Broken(Residual):
        def forward(self, x):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        train(replace(task(), network=Broken), Activation(BOTH))


def test_a_module_of_several_channel_counts_is_the_functions_fault_and_says_so():
    class Shared(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.layers, self.act = nn.ModuleList([nn.Linear(12, 8), nn.Linear(8, 4)]), activation()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = x.flatten(1)
            for layer in self.layers:
                x = self.act(layer(x))
            return self.head(x)

    result = train(replace(task(), network=Shared), Activation(PRELU))
    assert result.status == "diverged"
    assert (
        "has learned 8 channels, got 4 in dimension 1 of (2, 4); give each layer a module of its own" in result.reason
    )
    assert train(replace(task(), network=Shared), Activation("mul(learn(1),tanh(x))")).status == "done"


def test_an_activation_that_the_run_does_not_reach_is_not_trained():
    network = nn.Sequential(nn.Linear(3, 3))
    network.unused = Activation(PRELU)
    sized(network, lambda: network[0](torch.zeros(2, 3)))
    assert (network.unused.learned_a.shape, network.unused.learned_a.requires_grad) == ((1,), False)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_what_is_learned_does_not_decay(optimizer):
    given = task(optimizer=optimizer, weight_decay=0.5)
    network = sized_network(given, data(), lambda: Activation(BOTH), seed=0, device=CPU)
    decays = {
        id(p): group["weight_decay"]
        for group in make_optimizer(network, given.recipe).param_groups
        for p in group["params"]
    }
    assert {decays[id(p.tensor)] for p in learned_parameters(network)} == {0.0}
    assert decays[id(network.head.weight)] == 0.5
    assert len(decays) == len(list(network.parameters()))


def test_sgd_without_learned_parameters_is_as_before():
    given = task(optimizer="sgd", weight_decay=0.5)
    network = sized_network(given, data(), lambda: Activation("tanh(x)"), seed=0, device=CPU)
    (group,) = make_optimizer(network, given.recipe).param_groups
    assert group["params"] == list(network.parameters())


def test_a_training_reports_what_each_layer_learned():
    seen = []
    result = train(task(), Activation(BOTH), on_epoch=seen.append)
    assert result.status == "done"
    assert [(v.layer, v.parameter, v.initial, v.n_channels) for v in result.learned] == [
        ("a", "a", 1.0, None),
        ("a", "b", 0.1, 6),
        ("b", "a", 1.0, None),
        ("b", "b", 0.1, 6),
        ("c", "a", 1.0, None),
        ("c", "b", 0.1, 5),
    ]
    for values in result.learned:
        assert len(values.course) == 3
        assert values.mean == values.course[-1] != values.initial
        assert (values.spread == 0) == (values.n_channels is None)
    assert train(task(), Activation("tanh(x)")).learned == ()


def test_the_values_are_those_of_the_network_that_is_validated():
    plain, averaged = (train(task(ema_decay=decay), Activation(BOTH)).learned for decay in (None, 0.9))
    feed = TrainingFeed(task(ema_decay=0.9), data(), CPU, seed=0)
    from aquasurf_ray.workers.engine.form import named_form

    loop = TrainingLoop(feed, named_form(Activation(BOTH)), Alone())
    loop.to_the_end(None, math.inf, None, None)
    ours = [p.tensor.mean().item() for p in learned_parameters(loop.averaged.module)]
    assert [v.mean for v in averaged] == pytest.approx(ours)
    assert [v.mean for v in plain] != pytest.approx(ours)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_is_stopped_and_resumed_has_the_same_result(tmp_path, optimizer):
    given = task(optimizer=optimizer, ema_decay=0.9, weight_decay=0.1)
    whole = train(given, Activation(BOTH))
    checkpoints = CheckpointFolder(str(tmp_path / "run"), {"seed": 0})
    with pytest.raises(TrainingDrained):
        train(given, Activation(BOTH), checkpoints=checkpoints, stop_asked=lambda: True)
    seen = []
    again = train(given, Activation(BOTH), checkpoints=checkpoints, on_epoch=lambda epoch: seen.append(epoch.epoch))
    assert seen == [2, 3]
    assert again.learned == whole.learned
    assert (again.score, again.test_loss) == (whole.score, whole.test_loss)


def train_and_die(folder):
    """Train until SIGKILL comes, in the second epoch: the checkpoint of the first one stays."""
    checkpoints = CheckpointFolder(folder, {"seed": 0})

    def die(epoch):
        if epoch.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    train(task(ema_decay=0.9), Activation(BOTH), checkpoints=checkpoints, checkpoint_interval=0.0, on_epoch=die)


@pytest.mark.slow
def test_a_training_that_is_killed_and_resumed_has_the_same_result(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_learning_record import *; train_and_die(sys.argv[2])"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "run")]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    seen = []
    checkpoints = CheckpointFolder(str(tmp_path / "run"), {"seed": 0})
    given = task(ema_decay=0.9)
    again = train(given, Activation(BOTH), checkpoints=checkpoints, on_epoch=lambda epoch: seen.append(epoch.epoch))
    whole = train(given, Activation(BOTH))
    assert seen == [2, 3]
    assert again.learned == whole.learned
    assert (again.score, again.test_loss) == (whole.score, whole.test_loss)


def test_a_checkpoint_of_another_function_does_not_fit(tmp_path, caplog):
    checkpoints = CheckpointFolder(str(tmp_path / "run"), {"seed": 0})
    with pytest.raises(TrainingDrained):
        train(task(), Activation(PRELU), checkpoints=checkpoints, stop_asked=lambda: True)
    result = train(task(), Activation(BOTH), checkpoints=checkpoints)
    assert "does not fit, training from the start" in caplog.text
    assert [len(v.course) for v in result.learned] == [3] * 6


def test_a_parameter_that_breaks_first_is_the_reason():
    # The derivative of sqrt at 0 is infinite: the first step makes the parameter NaN, and the loss only the second.
    result = train(task(), Activation("add(x,mul(zero(x),sqrt(learn(0))))"))
    assert result.status == "diverged"
    assert result.reason == "learned parameter a of layer 'a' became nan by step 3 of epoch 1"


def test_a_loss_that_breaks_first_is_the_reason():
    result = train(task(learning_rate=1e30, optimizer="sgd"), Activation("mul(learn(1),square(x))"))
    assert result.status == "diverged"
    assert "learned parameter" not in result.reason or "became inf" in result.reason
    result = train(task(), Activation("mul(learn(1),div(x,sub(x,x)))"))
    assert result.status == "diverged"
    assert "learned parameter" not in result.reason


def test_the_gate_names_a_parameter_whose_first_gradient_is_not_finite():
    result = train(task(), Activation("add(x,mul(zero(x),sqrt(learn(0))))"), gate=HealthLimits())
    assert result.reason.startswith("non-finite-backward: 3 of ")
    assert result.reason.endswith("among them those by the learned parameter a of layer 'a'")


def test_the_gate_and_the_costs_take_parameters_of_channels():
    feed = TrainingFeed(task(), data(), CPU, seed=0)
    health = check_health(feed, Activation(BOTH))
    twin = check_health(feed, Activation("add(tanh(x),mul(0.1,x))"))
    assert health.saturated_share == twin.saturated_share
    assert health.loss == pytest.approx(twin.loss)
    assert health.gradient_gain == pytest.approx(twin.gradient_gain)
    assert measure_cost(feed, Activation(BOTH)).activation_bytes > 0


def test_a_function_that_is_constant_until_it_learns_is_trained():
    assert train(task(), Activation("mul(learn(0),x)")).status == "done"
    constant = train(task(), Activation("mul(zero(x),learn(1))"))
    assert constant.reason == "output is the constant 0: no gradient passes"


def test_the_spectrum_is_of_the_networks_weights_at_the_initial_values():
    ours, theirs = (
        task_spectrum(task(), data(), name, seed=0, device=CPU) for name in (BOTH, "add(tanh(x),mul(0.1,x))")
    )
    assert str(ours.coverage) == str(theirs.coverage)
    assert [layer.name for layer in ours] == [layer.name for layer in theirs]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            torch.tensor(a.log_eigenvalues()), torch.tensor(b.log_eigenvalues()), rtol=1e-4, atol=1e-3
        )


@pytest.mark.slow
def test_every_form_learns_the_same():
    results = [
        train(task(), Activation(BOTH), choose_form=lambda request, name=name: fast_form(replace(request, kept=name)))
        for name in ("eager", "recomputed", "compiled")
    ]
    for result in results[1:]:
        for a, b in zip(result.learned, results[0].learned, strict=True):
            assert a.course == pytest.approx(b.course, rel=1e-3, abs=1e-4)


def test_bfloat16_learns_in_float32():
    result = train(task(precision="bfloat16"), Activation(BOTH))
    reference = train(task(), Activation(BOTH))
    assert result.status == "done"
    for a, b in zip(result.learned, reference.learned, strict=True):
        assert a.mean == pytest.approx(b.mean, abs=0.1)


def test_recomputed_activations_train_where_only_the_parameter_needs_a_gradient():
    module = RecomputedActivation("mul(learn(2),x)")
    module(torch.ones(3)).sum().backward()
    assert module.learned_a.grad.item() == 3.0


@pytest.mark.parametrize("text", ["mul(learn(1e39),x)", "mul(learn_channel(1e39),x)"])
def test_an_initial_value_that_float32_cannot_hold_is_the_functions_fault(text):
    """Not the worker's, which would be tried again and then stop the run."""
    result = train(task(), Activation(text))
    assert (result.status, result.score) == ("diverged", None)
    assert result.reason == "output is nowhere finite on [-3, 3]"
