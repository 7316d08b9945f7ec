"""The cost of a function relative to ReLU: counted by hand where possible, and higher where more is computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aquasurf_ray.activations import Activation, RecomputedActivation, parse, register_unary, unregister
from aquasurf_ray.activations.recognition import recognised
from aquasurf_ray.measured_cost import MeasuredCost
from aquasurf_ray.tasks import Recipe, Splits, Task, load_task, regression
from aquasurf_ray.workers.cost import measure_cost, step_seconds, timed_cost
from aquasurf_ray.workers.engine.feed import TrainingFeed

N, WIDTH, N_CLASSES = 48, 32, 10
VALUES = N * WIDTH * 4
"""Bytes of one activation's input in the network below."""


def one_activation(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, WIDTH), activation(), nn.Dropout(0.0), nn.Linear(WIDTH, N_CLASSES))


def labelled() -> Splits:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(100, 1, 4, 4, generator=generator), torch.arange(100) % N_CLASSES)
    return Splits(train=data, validation=data, test=data)


def measured() -> Splits:
    data = TensorDataset(torch.randn(100, 1, 4, 4), torch.randn(100, N_CLASSES))
    return Splits(train=data, validation=data, test=data)


SMALL = Task("small", one_activation, labelled, Recipe(epochs=1, batch_size=N))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def price(task: Task, function: str, **arguments: object) -> MeasuredCost:
    activation = Activation(function)
    return measure_cost(TrainingFeed(task, task.splits(), torch.device("cpu"), seed=0), activation, **arguments)


def test_memory_is_what_the_backward_pass_needs() -> None:
    """relu keeps its output, which the next layer keeps anyway; swish its input; a product its factors too."""
    relu, swish = price(SMALL, "relu(x)"), price(SMALL, "swish(x)")
    # inputs, hidden values, log-probabilities, labels, and the weight that the mean is divided by
    expected = N * 16 * 4 + VALUES + N * N_CLASSES * 4 + N * 8 + 4
    assert relu.activation_bytes == relu.relu_activation_bytes == expected
    assert swish.activation_bytes == expected + VALUES
    assert price(SMALL, "mul(sigmoid(x),elu(x))").activation_bytes == expected + 3 * VALUES


def test_the_form_that_training_would_use_can_be_measured() -> None:
    made: list[RecomputedActivation] = []

    def factory() -> nn.Module:
        made.append(RecomputedActivation("mul(sigmoid(x),elu(x))"))
        return made[-1]

    cost = price(SMALL, "mul(sigmoid(x),elu(x))", factory=factory)
    assert len(made) == 1
    assert cost.activation_bytes == price(SMALL, "swish(x)").activation_bytes


FUNCTIONS = {
    "leaky_relu(x,0.1)": lambda: nn.LeakyReLU(0.1),
    "hardswish(x)": nn.Hardswish,
    "elu(x,0.5)": lambda: nn.ELU(0.5),
    "gelu_tanh(x)": lambda: nn.GELU(approximate="tanh"),
    "relu6(x)": nn.ReLU6,
}


@pytest.mark.parametrize("text", FUNCTIONS)
def test_a_networks_own_function_keeps_what_its_module_keeps(text: str) -> None:
    """The reference of a run is the expression of the network's own module."""
    module = FUNCTIONS[text]()
    own = price(SMALL, str(recognised(module)))
    assert str(recognised(module)) == str(parse(text))
    assert own.activation_bytes == price(SMALL, text, factory=FUNCTIONS[text]).activation_bytes
    assert own.activation_bytes == own.relu_activation_bytes + VALUES, "its input, besides what the next layer keeps"


class Waiting(nn.Module):
    """A network that waits in `forward`, as for another machine."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.network = one_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.05)
        return self.network(x)


def test_a_step_takes_the_time_in_which_the_network_waits() -> None:
    """Costs are compared by the time of the processor, and what a step takes is asked of the wall clock."""
    task = replace(SMALL, network=Waiting)
    feed = TrainingFeed(task, task.splits(), torch.device("cpu"), seed=0)
    cost, seconds = timed_cost(feed, Activation("swish(x)"))
    assert 0.05 <= seconds < 0.5
    assert cost.step_seconds < 0.04
    assert 0.05 <= step_seconds(feed, Activation("swish(x)")) < 0.5


def test_a_function_that_computes_more_costs_more() -> None:
    def long_way(x: Tensor) -> Tensor:
        for _ in range(60):
            x = torch.sin(x)
        return x

    register_unary("long_way_here", long_way)
    try:
        costly = price(SMALL, "long_way_here(x)")
    finally:
        unregister("long_way_here")
    cheap = price(SMALL, "relu(x)")
    assert costly.time_ratio > 1.5
    assert costly.time_ratio == costly.step_seconds / costly.relu_step_seconds
    assert costly.memory_ratio == costly.activation_bytes / costly.relu_activation_bytes
    assert 0.4 < cheap.time_ratio < 2.5
    assert costly.time_ratio > cheap.time_ratio
    assert cheap.memory_ratio == 1
    assert cheap.device == "cpu"


def test_copies_of_the_weights_in_another_type_are_no_activation_memory() -> None:
    def wide(activation: Callable[[], nn.Module]) -> nn.Module:
        hidden = nn.Linear(16, 512), activation(), nn.Linear(512, 512), activation()
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, N_CLASSES))

    whole = replace(SMALL, network=wide)
    half = replace(whole, recipe=replace(whole.recipe, precision="bfloat16"))
    whole_ratio, half_ratio = (price(task, "mul(sigmoid(x),elu(x))").memory_ratio for task in (whole, half))
    assert half_ratio == pytest.approx(whole_ratio, rel=0.05)


def test_swish_keeps_nearly_twice_what_relu_keeps_in_the_digits_network() -> None:
    task = load_task("digits")
    cost = price(task, "swish(x)")
    assert 1.9 < cost.memory_ratio < 2.0


@pytest.mark.parametrize("n_workers", [0])
def test_batches_may_come_from_a_loader(n_workers: int) -> None:
    loader = DataLoader(labelled().train, batch_size=20, num_workers=n_workers)
    task = replace(SMALL, data=lambda: Splits(train=loader, validation=loader, test=loader))
    assert price(task, "swish(x)").activation_bytes == pytest.approx(
        price(SMALL, "swish(x)").activation_bytes * 20 / N, abs=4
    )


class Pairs(torch.utils.data.Dataset):
    """A data set that is not a tensor, with plain numbers for targets."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.full((1, 4, 4), float(i)), i % N_CLASSES


def test_examples_may_be_collated_and_fewer_than_a_batch() -> None:
    task = replace(SMALL, data=lambda: Splits(Pairs(), Pairs(), Pairs()))
    assert price(task, "relu(x)").activation_bytes == 30 * (16 * 4 + WIDTH * 4 + N_CLASSES * 4 + 8) + 4


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(batch_size=N, optimizer="adamw", label_smoothing=0.1),
        Recipe(batch_size=N, precision="bfloat16"),
        Recipe(batch_size=N, channels_last=True, momentum=0.0),
    ],
)
def test_recipes_are_followed(recipe: Recipe) -> None:
    cost = price(replace(SMALL, recipe=recipe), "swish(x)")
    width = 2 if recipe.precision == "bfloat16" else 4
    assert cost.activation_bytes - cost.relu_activation_bytes == N * WIDTH * width
    assert cost.step_seconds > 0


def test_any_objective_can_be_priced() -> None:
    task = Task("regression", one_activation, measured, Recipe(batch_size=N), objective=regression())
    cost = price(task, "swish(x)")
    assert cost.activation_bytes - cost.relu_activation_bytes == VALUES


def test_nothing_is_left_behind() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    price(replace(SMALL, network=with_dropout), "tanh(x)")
    assert torch.equal(torch.random.get_rng_state(), before)


def with_dropout(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, WIDTH), activation(), nn.Dropout(0.5), nn.Linear(WIDTH, N_CLASSES))


def test_what_the_function_raises_comes_out() -> None:
    def broken(x: Tensor) -> Tensor:
        raise FloatingPointError("no such value")

    register_unary("broken_here", broken)
    try:
        with pytest.raises(FloatingPointError, match="no such value"):
            price(SMALL, "broken_here(x)")
    finally:
        unregister("broken_here")
