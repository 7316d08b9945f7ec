"""The untrained network of a task with a given function, and the batch that its spectrum is computed on.

Both depend on nothing but task, function and seed, so the spectrum describes exactly the network that a training with
the same seed starts from. torch's global generator is seeded inside and left as it was found.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from aquasurf_ray.activations import form_factory
from aquasurf_ray.activations.learned import sized
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.fitted_weights import FittedWeights, fit_weights
from aquasurf_ray.tasks.inputs import Inputs, batch_of, call_network, form_of, map_tensors, whole_numbers
from aquasurf_ray.tasks.loaders import (
    Examples,
    drawn_batch,
    example_set,
    has_uncollated_batch,
    in_memory,
    leading_batches,
    n_batches,
    n_examples,
)
from aquasurf_ray.tasks.losses import scalar_loss
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.tasks.targets import ignored_label
from aquasurf_ray.tasks.task import ActivationFactory
from aquasurf_ray.workers.engine.batches import has_batch_of_one
from aquasurf_ray.workers.engine.optimisation import make_optimizer

TRAIN = " in the train split"  # the end of a message on the examples that `try_network` takes


class _BatchNormOfAnyShape(_BatchNorm):
    """Stands for `SyncBatchNorm`, which waits for all processes, also where one of several computes a spectrum, and is
    for GPUs only; several processes share the statistics of all batch norms alike (`engine.shared_norm`)."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Accept inputs (n, channels, ...)."""


def untrained_network(task: Task, activation: ActivationFactory, *, seed: int, device: torch.device) -> nn.Module:
    """Return the network in training mode on `device`, its weights drawn on the CPU, so that all devices agree."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = task.new_network(activation)
    for layer in network.modules():
        if type(layer) is nn.SyncBatchNorm:
            layer.__class__ = _BatchNormOfAnyShape  # type: ignore[assignment]
    return network.to(device).train()


def sized_network(
    task: Task, splits: Splits, activation: ActivationFactory, *, seed: int, device: torch.device
) -> nn.Module:
    """Return the untrained network with its activations' parameters of channels sized, by a pass of two examples, and,
    if the task says so, with weights that fit the function, by a pass of the spectrum's batch.

    Raises:
        TaskError, torch.OutOfMemoryError, and whatever the data set, the network and the function raise.
    """
    network = untrained_network(task, activation, seed=seed, device=device)

    network = sized(network, lambda: call_network(network, two_examples(splits, device)))
    if task.fits_weights:
        fit_to_data(network, task, splits, seed=seed, device=device)
    return network


def two_examples(splits: Splits, device: torch.device) -> Inputs:
    """Return the inputs of the first two examples of the spectrum's split."""
    inputs, _ = _sent(next(leading_batches(splits.for_spectrum(), 2)), device)
    return inputs


def fit_to_data(network: nn.Module, task: Task, splits: Splits, *, seed: int, device: torch.device) -> FittedWeights:
    """Scale the weights of an untrained network to fit its activation, on the examples of its spectrum."""
    inputs, _ = spectrum_batch(task, splits, seed=seed, device=device)
    return fit_weights(network, inputs, seed=seed)


def spectrum_batch(task: Task, splits: Splits, *, seed: int, device: torch.device) -> tuple[Inputs, torch.Tensor]:
    """Draw `task.spectrum_batch_size` training inputs (n, ...) and targets (n, ...), as training gets them."""
    return _sent(drawn_batch(splits.for_spectrum(), task.spectrum_batch_size, seed), device)


def refuse_splits_without_batches(task: Task, splits: Splits) -> None:
    """Refuse a split without a batch, such as that of a `DataLoader` that drops its only one, or with an empty one.

    Raises:
        TaskError: one of the three is so, or cannot be indexed.
    """
    for name, examples in splits.named().items():
        example_set(examples)
        if isinstance(examples, DataLoader) and n_batches(examples) == 0:
            raise TaskError(
                f"{name} split of task '{task.name}' gives no batch: its DataLoader drops the last one, and has "
                f"{n_examples(examples)} examples for batches of {examples.batch_size}"
            )
        if isinstance(examples, DataLoader) and has_uncollated_batch(examples):
            raise TaskError(
                f"{name} split of task '{task.name}': its batch_sampler gives an empty batch, of which PyTorch's "
                "default_collate makes nothing; leave it out"
            )


def refuse_splits_without_targets(task: Task, splits: Splits) -> None:
    """Refuse a split without a target that counts. Each is read as far as its first one; a split in memory, as a whole.

    Raises:
        TaskError: one of the three has none, or items of a form that networks are not called with.
    """
    for name, examples in splits.named().items():
        with _naming(task, name):
            _counting_batch(task, examples)


def try_network(task: Task, splits: Splits, *, device: torch.device) -> Inputs:
    """Try the parts of a task that do not depend on the function, so that its own errors are reported first: the
    network with ReLU on two training examples, the objective on its outputs, the optimiser, and whether each split has
    batches with targets that count. Return the two examples' inputs.

    Raises:
        TaskError: one of them raises, the loss is not a scalar, a split has no batch, or a batch of one is refused.
        torch.OutOfMemoryError: the device is full.
    """
    refuse_splits_without_batches(task, splits)
    refuse_splits_without_targets(task, splits)
    # With ReLU, so that whatever fails here is the task's fault and not the function's.
    network = _relu_network(task, device)
    with _naming(task, "training"):
        inputs, labels = _sent(_counting_batch(task, splits.for_spectrum()), device)
    objective = task.objective.on(device)
    with _refusing(task, "optimizer"), _without_collection():  # PyTorch imports its compiler with the first one
        make_optimizer(network, task.recipe)
    form = "" if isinstance(inputs, torch.Tensor) else f", {form_of(inputs)}"
    ids = whole_numbers(inputs, network)  # read now: a GPU cannot be read after a wrong id
    with _refusing(task, "network", f"the task's own examples{form}{ids}"):
        outputs = output_of(call_network(network, inputs))
    with _refusing(task, "objective"):
        with objective.naming_float_labels(outputs, labels, TRAIN):
            loss = scalar_loss(objective.loss(outputs, labels), objective.loss)
        objective.refuse_ruled_out(
            outputs.detach(), labels, mixes=task.recipe.mixes, label_smoothing=task.recipe.label_smoothing
        )
        objective.refuse_hidden_labels(outputs.detach(), labels)
        objective.refuse_counted_padding(outputs.detach(), labels)
    with _refusing(task, f"metric '{task.objective.metric.name}'"):
        metric = objective.begin_metric(device)
        with objective.naming_float_labels(outputs, labels, TRAIN):
            metric.update(outputs.detach(), labels)
        task.objective.metric.number(metric.compute())
    # The recomputed form needs its input in the backward pass, so a network that changes it in place fails here.
    with _refusing(task, "backward pass"):
        torch.autograd.backward(loss)
    refuse_batch_of_one(task, splits, device=device)
    return inputs


def refuse_batch_of_one(task: Task, splits: Splits, *, device: torch.device) -> None:
    """Try the network on a single example if a training epoch has such a batch, which batch norm does not accept.

    Raises:
        TaskError: it raises.
    """
    if not has_batch_of_one(splits.train, task.recipe.batch_size):
        return
    inputs, _ = _sent(next(leading_batches(splits.for_spectrum(), 1)), device)
    with _refusing(task, "network", "a training batch of one example (change batch_size, or drop_last=True)"):
        call_network(_relu_network(task, device), inputs)


def _counting_batch(task: Task, examples: Examples) -> tuple[Inputs, torch.Tensor]:
    """Return the first two consecutive examples of which a target counts."""
    tensors = in_memory(examples)
    if tensors is not None:
        inputs, targets = batch_of(tensors)
        counted = task.objective.counted(targets).flatten(1) if targets.dim() > 1 else task.objective.counted(targets)
        places = (counted.any(1) if counted.dim() > 1 else counted).nonzero()
        if len(places):
            # Two examples, for batch norm does not accept one.
            first = max(0, min(int(places[0]), len(targets) - 2))
            return inputs[first : first + 2], targets[first : first + 2]
    else:
        n_targets = 0
        for inputs, targets in leading_batches(examples, 2):
            n_targets += len(targets)
            if task.objective.counted(targets).any():
                return inputs, targets
        if n_targets == 0:
            raise TaskError("its batches have no examples; look at the collate_fn")
    raise TaskError(f"no target counts: all are {ignored_label(task.objective.loss)}")


def _sent(batch: tuple[Inputs, torch.Tensor], device: torch.device) -> tuple[Inputs, torch.Tensor]:
    inputs, targets = batch
    return map_tensors(inputs, lambda tensor: tensor.to(device)), targets.to(device)


def _relu_network(task: Task, device: torch.device) -> nn.Module:
    return untrained_network(task, form_factory(REFERENCE, "recomputed"), seed=0, device=device)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Leave garbage until later, where an import makes hundreds of thousands of objects that stay."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _naming(task: Task, split: str) -> Iterator[None]:
    try:
        yield
    except TaskError as error:
        raise TaskError(f"{split} split of task '{task.name}': {error}") from error


@contextmanager
def _refusing(task: Task, what: str, on: str = "the task's own examples") -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, TaskError):
        raise
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is a reason to refuse the task
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskError(f"{what} of task '{task.name}' fails on {on}: {reason}") from error
