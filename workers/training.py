"""One training of one function on one task with one seed: a recipe run, from the untrained network to its test score.

`train` knows neither Ray nor a database. It returns numbers, writes epoch checkpoints when given a folder for them,
and tells two kinds of trouble apart: what is the function's own fault (NaN, overflow, a wrong output type, an error
raised inside it) ends as a result with status `diverged`; everything else, memory exhaustion included, is raised,
for the caller to retry. `probe` meets most such errors, since it runs the function alone, forward and backward.

The data order is drawn from the seed, apart from torch's global generator, and checkpoints hold every generator's
state, so a training that was interrupted goes on exactly as if it had not been.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset, TensorDataset

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.tasks.task import Examples, example_set
from workers.checkpoints import CheckpointFolder
from workers.memory import PeakMemory
from workers.network import untrained_network

STEPS_BETWEEN_LOSS_CHECKS = 32
EVALUATION_BATCH = 1024
MACHINE_TROUBLE = (
    "can't allocate memory",
    "out of memory",
    "CUDA error",
    "CUDA driver error",
    "cuDNN error",
    "CUDNN_STATUS",
    "CUBLAS_STATUS",
    "cusolver error",
    "cuFFT error",
    "NCCL",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve. Losses in nats, accuracies in [0, 1]; the training figures are running means."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training gives. `score` is what a search maximises; None, like the other figures, when it diverged."""

    status: Literal["done", "diverged"]
    reason: str | None
    score: float | None
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    epochs: tuple[Epoch, ...]
    seconds: float
    peak_memory_mb: float
    device: str


class FunctionFault(ArithmeticError):
    """The activation function itself cannot be trained with; the message says why."""


ProgressCallback = Callable[[Epoch], None]


def train(
    task: Task,
    activation: Activation,
    *,
    splits: Splits | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoints: CheckpointFolder | None = None,
    checkpoint_interval: float = 30.0,
    on_epoch: ProgressCallback | None = None,
) -> TrainingResult:
    """Trains the task's network with `activation` everywhere, and evaluates it.

    Args:
        splits: the task's data; by default `task.splits()`.
        seed: of the initial weights, the data order and the dropout masks.
        checkpoints: where to write the state after an epoch, and where to go on from if something is there. What does
            not fit the network is left out, with a warning.
        checkpoint_interval: seconds that must have passed since the last checkpoint.
        on_epoch: called after each epoch.

    Raises:
        torch.OutOfMemoryError, CheckpointError, TaskError, and whatever the data set raises: faults of the machine.
    """
    device = torch.device(device)
    started = time.monotonic()
    memory = PeakMemory(device)
    history: list[Epoch] = []
    figures: dict[str, float] = {}
    status: Literal["done", "diverged"] = "done"
    reason = None
    try:
        probe(activation, device)
        run = _begun(task, activation, splits or task.splits(), seed, device, history, checkpoints)
        figures = run.to_the_end(checkpoints, checkpoint_interval, on_epoch)
    except Exception as error:  # the user's function runs in here, and may raise anything
        if not is_functions_fault(error):
            raise
        status, reason = "diverged", reason_of(error)
    return TrainingResult(
        status=status,
        reason=reason,
        score=figures.get("val_accuracy"),
        train_loss=figures.get("train_loss"),
        train_accuracy=figures.get("train_accuracy"),
        val_loss=figures.get("val_loss"),
        val_accuracy=figures.get("val_accuracy"),
        test_loss=figures.get("test_loss"),
        test_accuracy=figures.get("test_accuracy"),
        epochs=tuple(history),
        seconds=sum(e.seconds for e in history) or time.monotonic() - started,
        peak_memory_mb=memory.megabytes(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    )


def probe(activation: Activation, device: torch.device) -> None:
    """Runs the function alone on 256 points, forward and backward, before a network is built around it.

    Raises:
        FunctionFault: any error of the function's own, an output of another shape or type, a constant, nothing finite
            anywhere, or no gradient.
        torch.OutOfMemoryError, and what else is the machine's trouble.
    """
    try:
        _probe(activation, device)
    except Exception as error:  # nothing but the function runs in here
        if isinstance(error, FunctionFault) or _is_machines_trouble(error):
            raise
        raise FunctionFault(reason_of(error)) from error


def _probe(activation: Activation, device: torch.device) -> None:
    x = torch.linspace(-3.0, 3.0, 256, device=device, requires_grad=True)
    y = activation(x)
    if not isinstance(y, torch.Tensor) or y.shape != x.shape:
        raise FunctionFault(
            f"output is {getattr(y, 'shape', type(y).__name__)}, expected a tensor of the input's shape"
        )
    if y.dtype != x.dtype:
        raise FunctionFault(f"output has type {y.dtype}, expected {x.dtype}")
    values = y.detach()
    if not values.isfinite().any():
        raise FunctionFault("output is nowhere finite on [-3, 3]")
    if bool((values == values[0]).all()):
        raise FunctionFault(f"output is the constant {values[0].item():g}: no gradient passes")
    if not y.requires_grad:
        raise FunctionFault("output is detached from the input: no gradient passes")
    torch.autograd.backward(y.nan_to_num().sum())


def is_functions_fault(error: BaseException) -> bool:
    """Whether the error came out of the activation room, where the function's own code runs, and not for memory."""
    if isinstance(error, FunctionFault):
        return True
    if _is_machines_trouble(error):
        return False
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith("aquasurf_ray.activations") for name in modules)


def reason_of(error: BaseException) -> str:
    """The error on one line of at most 500 characters, as a reason to record."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, FunctionFault) else f"{type(error).__name__}: {text}"


def _is_machines_trouble(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(t in str(error) for t in MACHINE_TROUBLE)


class _Run:
    """The state of a training: network, optimiser, learning rate cycle, generators, learning curve."""

    def __init__(
        self, task: Task, activation: Activation, splits: Splits, seed: int, device: torch.device, history: list[Epoch]
    ) -> None:
        self.recipe = task.recipe
        self.splits = splits
        self.device = device
        self.history = history
        self.network = untrained_network(task, lambda: Activation(activation.expression), seed=seed, device=device)
        self.order = torch.Generator().manual_seed(seed)
        self.dropout_seed = seed
        self.steps_an_epoch = math.ceil(_size(splits.train) / self.recipe.batch_size)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            nesterov=self.recipe.momentum > 0,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=self.recipe.learning_rate,
            total_steps=self.steps_an_epoch * self.recipe.epochs + 1,
            pct_start=self.recipe.warmup_fraction,
            cycle_momentum=False,
        )

    def restore(self, epoch: int, state: dict[str, Any]) -> None:
        """Takes over the state after `epoch`. Errors of any kind mean that it is not this training's; the run is of no
        use then."""
        history = [Epoch(**row) for row in state["history"]]
        if [row.epoch for row in history] != list(range(1, epoch + 1)) or epoch > self.recipe.epochs:
            raise ValueError(f"learning curve of {len(history)} points after epoch {epoch}")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for weight, kept in self.optimizer.state.items():  # PyTorch compares their number only
            for name, value in kept.items():
                if isinstance(value, torch.Tensor) and value.shape != weight.shape:
                    raise ValueError(f"{name} of shape {tuple(value.shape)} for weights {tuple(weight.shape)}")
        if state["schedule"]["total_steps"] != self.schedule.total_steps:
            raise ValueError(f"{state['schedule']['total_steps']} steps, expected {self.schedule.total_steps}")
        self.schedule.load_state_dict(state["schedule"])
        self.order.set_state(state["order"].cpu())
        self.history.extend(history)

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.order.get_state(),
            "history": [asdict(epoch) for epoch in self.history],
        }

    def to_the_end(
        self, checkpoints: CheckpointFolder | None, interval: float, on_epoch: ProgressCallback | None
    ) -> dict[str, float]:
        """Trains the epochs that are left, and returns the final figures by name."""
        saved = time.monotonic()
        for number in range(len(self.history) + 1, self.recipe.epochs + 1):
            epoch = self.one_epoch(number)
            self.history.append(epoch)
            if on_epoch:
                on_epoch(epoch)
            if checkpoints and number < self.recipe.epochs and time.monotonic() - saved >= interval:
                checkpoints.save(number, self.state())
                saved = time.monotonic()
        last = self.history[-1]
        if math.isnan(last.val_loss):
            raise FunctionFault(f"validation loss is nan after epoch {last.epoch}")
        test_loss, test_accuracy = evaluate(self.network, self.splits.test, self.device)
        return {
            "train_loss": last.train_loss,
            "train_accuracy": last.train_accuracy,
            "val_loss": last.val_loss,
            "val_accuracy": last.val_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }

    def one_epoch(self, number: int) -> Epoch:
        started = time.monotonic()
        learning_rate = self.optimizer.param_groups[0]["lr"]
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(self.dropout_seed * 1_000_003 + number)
            train_loss, train_accuracy = self.train_steps(number)
        val_loss, val_accuracy = evaluate(self.network, self.splits.validation, self.device)
        return Epoch(
            number, train_loss, train_accuracy, val_loss, val_accuracy, learning_rate, time.monotonic() - started
        )

    def train_steps(self, number: int) -> tuple[float, float]:
        self.network.train()
        total_loss = torch.zeros((), device=self.device, dtype=torch.float64)
        n_correct = torch.zeros((), device=self.device, dtype=torch.int64)
        batches = shuffled_batches(self.splits.train, self.recipe.batch_size, self.order, self.device)
        for step, (inputs, targets) in enumerate(batches, start=1):
            logits = self.network(inputs)
            loss = functional.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            self.schedule.step()
            total_loss += loss.detach() * len(targets)
            n_correct += (logits.detach().argmax(1) == targets).sum()
            if step % STEPS_BETWEEN_LOSS_CHECKS == 0 or step == self.steps_an_epoch:
                _stop_if_not_finite(total_loss, number, step)
        n = _size(self.splits.train)
        return total_loss.item() / n, n_correct.item() / n


def _begun(
    task: Task,
    activation: Activation,
    splits: Splits,
    seed: int,
    device: torch.device,
    history: list[Epoch],
    checkpoints: CheckpointFolder | None,
) -> _Run:
    """The run as its last checkpoint left it, or at its beginning."""
    run = _Run(task, activation, splits, seed, device, history)
    found = checkpoints.load_latest(device) if checkpoints else None
    if found is None:
        return run
    try:
        run.restore(*found)
    except Exception as error:  # the file is whole but holds anything
        if _is_machines_trouble(error):
            raise
        logger.warning("checkpoint of '%s' does not fit, training anew: %s", activation.name, reason_of(error))
        return _Run(task, activation, splits, seed, device, history)
    return run


@torch.no_grad()
def evaluate(network: nn.Module, examples: Examples, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy in evaluation mode.

    The loss is NaN where the network overflowed: a batch's loss is not finite, and neither are its logits. It is
    infinite where finite logits lie too far apart for float32, which is a bad prediction and no fault; -inf for
    classes that a network rules out is no fault either, as long as no example is of such a class.
    """
    network.eval()
    loss, n_correct = 0.0, 0
    for inputs, targets in ordered_batches(examples, EVALUATION_BATCH, device):
        logits = network(inputs)
        batch_loss = functional.cross_entropy(logits, targets, reduction="sum").item()
        loss += batch_loss if math.isfinite(batch_loss) or bool(logits.isfinite().all()) else math.nan
        n_correct += int((logits.argmax(1) == targets).sum())
    return loss / _size(examples), n_correct / _size(examples)


def shuffled_batches(
    examples: Examples, batch_size: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batches in an order drawn from `generator`; tensors in memory are indexed, other data sets collated."""
    order = torch.randperm(_size(examples), generator=generator)
    yield from _batches(examples, order, batch_size, device)


def ordered_batches(examples: Examples, batch_size: int, device: torch.device) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batches in the data set's own order."""
    yield from _batches(examples, torch.arange(_size(examples)), batch_size, device)


def _batches(
    examples: Examples, order: torch.Tensor, batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, ...]]:
    if isinstance(examples, TensorDataset):
        for chosen in torch.split(order, batch_size):
            yield tuple(tensor[chosen].to(device) for tensor in examples.tensors)
    else:
        for batch in DataLoader(Subset(example_set(examples), order.tolist()), batch_size):
            yield tuple(tensor.to(device) for tensor in batch)


def _stop_if_not_finite(total_loss: torch.Tensor, epoch: int, step: int) -> None:
    value = total_loss.item()
    if not math.isfinite(value):
        raise FunctionFault(f"training loss became {value} by step {step} of epoch {epoch}")


def _size(examples: Examples) -> int:
    return len(examples)  # type: ignore[arg-type]
