"""The price of an activation function: the step time and the activation memory of a task's network, beside relu's.

A step is the forward pass, the backward pass and the optimiser's step on one training batch, in the precision of the
recipe. The two networks take turns, so that what else the machine does meets both, and the learning rate is zero, so
that every step does the same work. Activation memory is what autograd keeps between forward and backward pass,
parameters left out. Knows neither Ray nor SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.activations.stopwatch import kept_bytes, side_by_side
from aquasurf_ray.tasks import ActivationFactory, Recipe, Splits, Task
from aquasurf_ray.tasks.task import Examples
from workers.messages import FunctionCost
from workers.network import untrained_network

RELU = "relu(x)"
MIN_ROUNDS = 3
MAX_ROUNDS = 15
ENOUGH_SECONDS = 0.1
"""After as many rounds as fit this time, but at least `MIN_ROUNDS`, the medians are taken."""


def measure_cost(
    task: Task,
    activation: Activation,
    *,
    splits: Splits,
    seed: int,
    device: torch.device | str,
    factory: ActivationFactory | None = None,
) -> FunctionCost:
    """The price of a function on this device.

    The optimiser is SGD, or AdamW where the recipe has another: it costs both networks the same.

    Args:
        activation: the function.
        seed: of the initial weights, the batch and the dropout masks.
        factory: the form of the function that training would use (`FastForm.factory`); by default the eager one.

    Raises:
        torch.OutOfMemoryError, TaskError, whatever the data set raises, and whatever the function raises.

    Example:
        >>> from aquasurf_ray.tasks import load_task
        >>> task = load_task("digits")
        >>> cost = measure_cost(task, Activation("swish(x)"), splits=task.splits(), seed=0, device="cpu")
        >>> cost.memory_ratio > 1
        True
    """
    device = torch.device(device)
    inputs, targets = _training_batch(task, splits, seed, device)
    makers = factory or partial(Activation, activation.name), partial(Activation, RELU)
    with _seeded(seed, device):
        steppers = [_Stepper(task, maker, inputs, targets, seed, device) for maker in makers]
        for stepper in steppers:
            stepper.step()  # what is compiled, tuned or allocated once is no part of the price
        n_bytes, relu_bytes = (stepper.activation_bytes() for stepper in steppers)
        seconds, relu_seconds = side_by_side(
            [stepper.step for stepper in steppers],
            device,
            min_rounds=MIN_ROUNDS,
            max_rounds=MAX_ROUNDS,
            enough_seconds=ENOUGH_SECONDS,
        )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return FunctionCost(activation.name, name, seconds, relu_seconds, n_bytes, relu_bytes)


class _Stepper:
    """One network on one batch."""

    def __init__(
        self,
        task: Task,
        activation: ActivationFactory,
        inputs: Tensor,
        targets: Tensor,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network = untrained_network(task, activation, seed=seed, device=device)
        if task.recipe.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
            inputs = inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
        self.inputs, self.targets = inputs, targets
        self.loss = task.objective.training_loss(task.recipe.label_smoothing)
        self.optimizer = _idle_optimizer(self.network, task.recipe)
        self.precision = partial(_precision, task.recipe, device)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.forward())
        self.optimizer.step()

    def forward(self) -> Tensor:
        with self.precision():
            return self.loss(self.network(self.inputs), self.targets)

    def activation_bytes(self) -> int:
        """What one forward pass keeps for the backward pass."""
        return kept_bytes(self.forward, self.network.parameters())


def _idle_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """An optimiser that does all its work and moves nothing."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=0.0,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(parameters, lr=0.0, weight_decay=recipe.weight_decay)


def _precision(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if recipe.precision == "bfloat16" or (recipe.precision == "auto" and has_bfloat16):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _training_batch(task: Task, splits: Splits, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """As many training examples as the recipe takes a step: from a `DataLoader` its next batch, else a random draw."""
    inputs, targets = _batch(splits.train, task.recipe.batch_size, torch.Generator().manual_seed(seed))
    return inputs.to(device), targets.to(device)


def _batch(examples: Examples, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if isinstance(examples, DataLoader):
        inputs, targets = next(iter(examples))
        return inputs, targets
    n: int = len(examples)  # type: ignore[arg-type]
    chosen = torch.randperm(n, generator=generator)[:batch_size]
    if isinstance(examples, TensorDataset):
        inputs, targets = (tensor[chosen.to(tensor.device)] for tensor in examples.tensors)
        return inputs, targets
    drawn_inputs, drawn_targets = zip(*(examples[i] for i in chosen.tolist()), strict=True)
    return torch.stack(drawn_inputs), torch.stack([torch.as_tensor(t) for t in drawn_targets])


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators in a fixed state for dropout, and afterwards as they were found."""
    index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
    devices = [index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for number in devices:
            torch.cuda.default_generators[number].manual_seed(seed)
        yield
