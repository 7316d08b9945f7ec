"""The cost of a function in a task's network on one kind of device, as workers measure it and the store keeps it, how
long the measurement takes, and the time of reading the data, which no function changes.

This module depends on nothing, because the rooms `workers` and `store` may not import each other and both need it.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_ROUNDS = 3
MAX_ROUNDS = 15
ENOUGH_SECONDS = 0.1
"""The time for all rounds together; at least `MIN_ROUNDS` are measured, whatever they take."""


@dataclass(frozen=True)
class MeasuredCost:
    """A function's cost, with ReLU's cost measured in turns with it.

    A step is a forward pass, a backward pass and an optimiser step on one training batch; the bytes are what autograd
    saves for the backward pass, without the parameters.

    Attributes:
        device: the GPU's name, or "cpu".
        step_seconds, relu_step_seconds: medians of one training step.

    >>> cost = MeasuredCost("cpu", 0.03, 0.02, 600, 400)
    >>> round(cost.time_ratio, 6), cost.memory_ratio
    (1.5, 1.5)
    """

    device: str
    step_seconds: float
    relu_step_seconds: float
    activation_bytes: int
    relu_activation_bytes: int

    @property
    def time_ratio(self) -> float:
        """The step time relative to ReLU."""
        return self.step_seconds / self.relu_step_seconds

    @property
    def memory_ratio(self) -> float:
        """The activation memory relative to ReLU."""
        return self.activation_bytes / self.relu_activation_bytes


@dataclass(frozen=True)
class ReadingTime:
    """How long it takes to read the data of a task.

    Attributes:
        batch_seconds: for one training batch.
        training_seconds: for all batches of one training: training and validation in each epoch, and one test.
        overlaps: whether the data are read while the network computes, on a GPU or by other processes.
    """

    batch_seconds: float = 0.0
    training_seconds: float = 0.0
    overlaps: bool = False


IN_NO_TIME = ReadingTime()


def measurement_seconds(step_seconds: float) -> float:
    """Return how long a measurement takes about: its rounds, and the steps before them, of the function and of ReLU.

    >>> measurement_seconds(1.0), round(measurement_seconds(0.01), 2)
    (8.0, 0.12)
    """
    pair = 2 * step_seconds
    rounds = min(max(ENOUGH_SECONDS / pair, MIN_ROUNDS), MAX_ROUNDS) if pair else MAX_ROUNDS
    return pair * (rounds + 1)
