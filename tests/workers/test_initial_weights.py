"""Weights that fit the function (`Task.init`), where a network is built for a spectrum, a training and the check."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from digits_version_1 import digits_version_1

from aquasurf_ray.activations import Activation
from aquasurf_ray.driver.examine import check_steps
from aquasurf_ray.driver.examine.check_steps import CheckSteps
from aquasurf_ray.tasks import Task, load_task, network_from
from aquasurf_ray.workers.network import sized_network, spectrum_batch
from aquasurf_ray.workers.spectrum import task_spectrum
from aquasurf_ray.workers.training import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, Task]:
    task = load_task("digits")
    return task, replace(task, init="auto")


def network_of(task: Task, function: str = "relu(x)", seed: int = 3) -> torch.nn.Module:
    return sized_network(task, task.splits(), lambda: Activation(function), seed=seed, device=CPU)


@pytest.mark.parametrize("function", ["relu(x)", "mul(x,add(x,5))", "mul(learn_channel(3),tanh(x))"])
def test_what_enters_each_activation_has_mean_0_and_variance_1_on_the_batch_of_the_spectrum(tasks, function):
    _, auto = tasks
    network, signals = network_of(auto, function), []
    for module in network.modules():
        if isinstance(module, Activation | torch.nn.AdaptiveAvgPool2d):  # the pooling follows the last layer
            module.register_forward_hook(lambda module, args, output: signals.append(args[0].double()))
    inputs, _ = spectrum_batch(auto, auto.splits(), seed=3, device=CPU)
    network(inputs)
    assert len(signals) == 4
    for signal in signals:
        assert abs(signal.mean().item()) < 2e-3
        assert signal.var().item() == pytest.approx(1, abs=1e-2)


def test_weights_are_the_same_each_time_and_the_default_ones_scaled(tasks):
    plain, auto = (network_of(task).state_dict() for task in tasks)
    again = network_of(tasks[1]).state_dict()
    for name, weights in plain.items():
        assert torch.equal(auto[name], again[name])
        if weights.dim() > 1:
            ratio = auto[name] / weights
            assert ratio.std() < 1e-4 * ratio.mean(), "one factor for the whole layer"


def test_spectra_are_of_the_network_as_it_is_initialised(tasks):
    plain, auto = (task_spectrum(task, task.splits(), "relu(x)", seed=0, device=CPU) for task in tasks)
    again = task_spectrum(tasks[1], tasks[1].splits(), "relu(x)", seed=0, device=CPU)
    assert all((a.log_eigenvalues() == b.log_eigenvalues()).all() for a, b in zip(auto, again, strict=True))
    # The inputs of the first layer are the data; its gradients, and all that follows, see other weights.
    assert (plain[0].input_eigenvalues == auto[0].input_eigenvalues).all()
    assert not (plain[0].gradient_eigenvalues == auto[0].gradient_eigenvalues).any()


@pytest.mark.slow
def test_where_a_network_has_default_weights_relu_gains_what_he_initialisation_gives_it():
    task = digits_version_1()
    tasks = task, replace(task, init="auto")
    plain, auto = (train(each, Activation("relu(x)"), splits=task.splits(), seed=0) for each in tasks)
    assert auto.score > plain.score + 0.02


def test_the_check_says_which_layers_are_scaled(tasks):
    assert "init auto" not in CheckSteps(tasks[0], CPU).batch()
    says = CheckSteps(tasks[1], CPU).batch()
    assert "init auto with relu(x): " in says
    assert "layers scaled, weights times " in says


def test_the_check_warns_where_nothing_can_be_scaled(tasks, monkeypatch):
    def frozen() -> torch.nn.Module:
        layers = torch.nn.Flatten(), torch.nn.Linear(64, 10).requires_grad_(False), torch.nn.ReLU()
        return torch.nn.Sequential(*layers, torch.nn.BatchNorm1d(10))

    task = replace(tasks[0], network=network_from(frozen, init="auto"))
    monkeypatch.setattr(check_steps, "refuse_unused_activation", lambda *args, **options: None)
    assert (
        "warning: init auto with relu(x): no layer is scaled; left as drawn: 1 (frozen)"
        in CheckSteps(task, CPU).batch()
    )
