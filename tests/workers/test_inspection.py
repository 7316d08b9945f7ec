"""Looking into a training changes nothing of it, and sees what hooks of one's own see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Recipe, Splits, Task
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.engine.form import named_form
from aquasurf_ray.workers.engine.loop import TrainingLoop
from aquasurf_ray.workers.engine.ranks import Alone
from aquasurf_ray.workers.inspection import N_VALUES, inspect_network, inspect_training
from aquasurf_ray.workers.network import untrained_network
from aquasurf_ray.workers.training import FunctionFault, train


def data() -> Splits:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 3, generator=generator)
    examples = TensorDataset(x, (x.sum(dim=1) > 0).long())
    return Splits(train=examples, validation=examples, test=examples)


class Twice(nn.Module):
    """One activation called twice, another once on the network's input, and batch norm between."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.norm = nn.BatchNorm1d(8)
        self.shared, self.early = activation(), activation()

    def forward(self, x):
        x = self.shared(self.norm(self.first(self.early(x))))
        return self.last(self.shared(x))


TASK = Task("twice", Twice, data, Recipe(epochs=2, batch_size=30, learning_rate=0.1))


@pytest.fixture(scope="module")
def inspection():
    return inspect_training(TASK, Activation("tanh(x)"), seed=3)


def test_the_training_is_the_one_without_a_look(inspection):
    plain = train(TASK, Activation("tanh(x)"), seed=3)
    assert inspection.metrics.score == plain.score
    assert inspection.metrics.test_loss == plain.test_loss


def test_every_call_of_an_activation_is_a_site_in_the_order_of_the_calls(inspection):
    assert [site.name for site in inspection.before.sites] == ["early", "shared:1", "shared:2"]
    assert [site.name for site in inspection.after.sites] == ["early", "shared:1", "shared:2"]


def test_pre_activations_and_gradients_are_those_of_the_first_batch(inspection):
    feed = TrainingFeed(TASK, data(), torch.device("cpu"), seed=3)
    network = untrained_network(TASK, lambda: Activation("tanh(x)"), seed=3, device=torch.device("cpu"))
    step = feed.first_step(network)
    early = torch.tanh(step.inputs)
    inside = network.norm(network.first(early))
    middle = torch.tanh(inside)
    loss = nn.functional.cross_entropy(network.last(torch.tanh(middle)), step.targets)
    loss.backward()
    sites = {site.name: site for site in inspection.before.sites}
    np.testing.assert_allclose(sites["early"].inputs, step.inputs.flatten().numpy(), rtol=1e-6)
    np.testing.assert_allclose(sites["shared:1"].inputs, inside.detach().flatten().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sites["shared:2"].inputs, middle.detach().flatten().numpy(), rtol=1e-5, atol=1e-6)
    layers = {layer.name: layer.gradient_rms for layer in inspection.before.layers}
    assert list(layers) == ["first.weight", "last.weight"]
    for name, weight in network.named_parameters():
        if name in layers:
            assert layers[name] == pytest.approx(weight.grad.square().mean().sqrt().item(), rel=1e-5)


def test_training_moves_what_reaches_the_activations(inspection):
    before, after = inspection.before.sites[1].inputs, inspection.after.sites[1].inputs
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(inspection.before.sites[0].inputs, inspection.after.sites[0].inputs)


def test_of_many_pre_activations_some_are_kept():
    wide = Task("wide", lambda make: nn.Sequential(nn.Linear(3, 1000), make(), nn.Linear(1000, 2)), data, TASK.recipe)
    (site,) = inspect_training(wide, Activation("relu(x)")).before.sites
    assert N_VALUES / 2 < len(site.inputs) <= N_VALUES


def test_a_function_that_cannot_be_trained_says_so():
    with pytest.raises(FunctionFault):
        inspect_training(TASK, Activation("reciprocal(zero(x))"))


def test_a_buffer_that_the_first_batch_fills_is_filled_by_the_training():
    class Filling(nn.Module):
        def __init__(self, make):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 4), make(), nn.Linear(4, 2))
            self.register_buffer("mean", None)

        def forward(self, x):
            if self.mean is None:
                self.mean = x.mean(0).detach()
            return self.layers(x - self.mean)

    task = Task("filling", Filling, data, TASK.recipe)
    loop = TrainingLoop(
        TrainingFeed(task, data(), torch.device("cpu"), seed=3), named_form(Activation("relu(x)")), Alone()
    )
    step = loop.feed.first_step(loop.network)
    assert inspect_network(loop, step).sites
    assert loop.network.mean is None
