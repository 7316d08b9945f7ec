"""The cost of an activation function: step time and activation memory of a task's network, relative to ReLU.

A step is the forward pass, the backward pass and the optimiser's step on one training batch, in the precision of the
recipe. The two networks take turns, so that the machine's other load affects both, and the learning rate is zero, so
that every step does the same work. Activation memory is what autograd saves between forward and backward pass, without
the parameters. This module knows neither Ray nor SQL.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aquasurf_ray.activations import Activation, RoleActivations, factory_of, parse
from aquasurf_ray.activations.forms.stopwatch import kept_bytes, side_by_side
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.measured_cost import ENOUGH_SECONDS, MAX_ROUNDS, MIN_ROUNDS, MeasuredCost
from aquasurf_ray.tasks import ActivationFactory, Task
from aquasurf_ray.tasks.losses import scalar_loss
from aquasurf_ray.workers.engine.feed import Step, TrainingFeed
from aquasurf_ray.workers.engine.optimisation import make_optimizer
from aquasurf_ray.workers.engine.precision import Arithmetic, process_settings
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.network import sized_network


def measure_cost(
    feed: TrainingFeed, activation: Activation | RoleActivations, *, factory: ActivationFactory | None = None
) -> MeasuredCost:
    """Measure the cost of a function in the training that `feed` is for, on its device, as `timed_cost` does.

    Example:
        >>> from aquasurf_ray.tasks import load_task
        >>> task = load_task("digits")
        >>> feed = TrainingFeed(task, task.splits(), torch.device("cpu"), seed=0)
        >>> cost = measure_cost(feed, Activation("swish(x)"))
        >>> cost.memory_ratio > 1
        True
    """
    cost, _ = timed_cost(feed, activation, factory=factory)
    return cost


def timed_cost(
    feed: TrainingFeed, activation: Activation | RoleActivations, *, factory: ActivationFactory | None = None
) -> tuple[MeasuredCost, float]:
    """Measure the cost of a function, and how long a training step with it takes: the fastest, by the wall clock.

    Args:
        activation: the function.
        factory: the form of the function that the training would use (`FastForm.factory`); by default the eager one.

    Raises:
        torch.OutOfMemoryError, TaskError, whatever the data set raises, and whatever the function raises.
    """
    task, seed, device, arithmetic = feed.task, feed.seed, feed.device, feed.arithmetic
    makers = factory or factory_of(activation.expression), factory_of(parse(REFERENCE))
    with process_settings(task.recipe, device), seeded(seed, device):
        networks = [
            arithmetic.prepared(sized_network(task, feed.splits, make, seed=seed, device=device)) for make in makers
        ]
        batch = feed.first_step(networks[1])
        steppers = [_Stepper(task, network, batch, arithmetic) for network in networks]
        for stepper in steppers:
            stepper.step()  # warm-up: one-time compilation, tuning and allocation are not part of the cost
        n_bytes, relu_bytes = (stepper.activation_bytes() for stepper in steppers)
        step, relu_step = side_by_side(
            [stepper.step for stepper in steppers],
            device,
            min_rounds=MIN_ROUNDS,
            max_rounds=MAX_ROUNDS,
            enough_seconds=ENOUGH_SECONDS,
        )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return MeasuredCost(name, step.median, relu_step.median, n_bytes, relu_bytes), step.fastest


def step_seconds(feed: TrainingFeed, activation: Activation | RoleActivations) -> float:
    """Return the time of one training step in the training that `feed` is for: the fastest of a few, after a warm-up,
    by the wall clock, because a network may wait for something else than this processor.

    Raises:
        As `timed_cost`.
    """
    with process_settings(feed.task.recipe, feed.device), seeded(feed.seed, feed.device):
        make = factory_of(activation.expression)
        network = sized_network(feed.task, feed.splits, make, seed=feed.seed, device=feed.device)
        network = feed.arithmetic.prepared(network)
        stepper = _Stepper(feed.task, network, feed.first_step(network), feed.arithmetic)
        stepper.step()
        (step,) = side_by_side([stepper.step], feed.device, min_rounds=2, max_rounds=5, enough_seconds=ENOUGH_SECONDS)
    return step.fastest


class _Stepper:
    """One network on the first batch of its training, with an optimiser that does its work at learning rate zero."""

    def __init__(self, task: Task, network: nn.Module, batch: Step, arithmetic: Arithmetic) -> None:
        self.network, self.batch, self.arithmetic = network, batch, arithmetic
        objective, recipe = task.objective.on(batch.targets.device), task.recipe
        self.loss = objective.training_loss(recipe.label_smoothing, mixes=recipe.mixes)
        self.optimizer = make_optimizer(network, recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # the step does all its work, and the weights stay

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.forward())
        self.optimizer.step()

    def forward(self) -> Tensor:
        outputs = self.arithmetic.forward(self.network, self.batch.inputs)
        return scalar_loss(self.loss(outputs, self.batch.targets), self.loss)

    def activation_bytes(self) -> int:
        """Return the bytes that one forward pass saves for the backward pass."""
        return kept_bytes(self.forward, self.network.parameters())
