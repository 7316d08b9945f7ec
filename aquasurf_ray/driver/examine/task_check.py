"""Check a task within a minute: its network, its data, one batch, one spectrum and two training steps, in this order.

Each step does what a search would do, with the same code, on less of the data. The first step that fails ends the
check, with a sentence that says what is wrong.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aquasurf_ray.activations import Activation
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.tasks import Splits, Task, TaskError, load_task
from aquasurf_ray.tasks.held_state import numbers_in
from aquasurf_ray.tasks.inputs import Inputs, call_network, form_of, map_tensors
from aquasurf_ray.tasks.loaders import Examples, leading_batches, n_examples, some_batches
from aquasurf_ray.tasks.objective import name_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.tasks.targets import class_dimension, fitting_dimensions
from aquasurf_ray.workers.network import (
    refuse_batch_of_one,
    refuse_splits_without_batches,
    refuse_splits_without_targets,
    untrained_network,
)
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, task_spectrum
from aquasurf_ray.workers.training import TrainingResult, train

FUNCTIONS = (REFERENCE, "mul(sigmoid(x),elu(x))")  # two, to see that the network does not depend on the function
STEPS_TRAINED = 2
LARGEST_CPU_BATCH = 64  # so that the check takes about a minute on a CPU


@dataclass(frozen=True)
class CheckStep:
    """The outcome of one step: its name, whether it succeeded, and a sentence on what was found or is wrong."""

    name: str
    ok: bool
    says: str
    seconds: float


def check_task(
    name: str,
    *,
    download: bool = False,
    device: str | None = None,
    on_step: Callable[[CheckStep], None] = lambda step: None,
) -> list[CheckStep]:
    """Run the steps until one fails, and return them; all are `ok` if the task can be searched.

    Args:
        name: the name of a task, or `package.module:function`.
        download: download the task's data set first, unless it is there already.
        device: the device to use, as PyTorch names it; by default a GPU if there is one.
        on_step: called after each step.

    Raises:
        BadUse: there is no such task or device, or `download` is requested for a task that brings its own data.
    """
    try:
        task = load_task(name, import_from=Path.cwd())
    except TaskError as error:
        raise BadUse(sentence(error)) from None
    check = _Check(task, _device(device))
    steps = {
        "network": check.network,
        "data": check.data,
        "batch": check.batch,
        "spectrum": check.spectrum,
        "training": check.training,
    }
    if download:
        steps = {"download": _downloading(name)} | steps
    done: list[CheckStep] = []
    for step, work in steps.items():
        done.append(_tried(step, work))
        on_step(done[-1])
        if not done[-1].ok:
            break
    return done


def sentence(error: BaseException) -> str:
    """Return an error on one line, with its type unless it is one of this package's errors."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    text = "; ".join(line for line in lines if line)
    if isinstance(error, torch.OutOfMemoryError):
        return f"the device is full; a smaller batch_size in the recipe needs less: {text}"
    ours = type(error).__module__.split(".")[0] == "aquasurf_ray"
    return text if ours else f"{type(error).__name__}: {text}"


def _tried(name: str, work: Callable[[], str]) -> CheckStep:
    started = time.monotonic()
    try:
        ok, says = True, work()
    except (Exception, SystemExit) as error:  # the user's code: whatever it raises is what is wrong with the task
        ok, says = False, sentence(error)
    return CheckStep(name, ok, says, time.monotonic() - started)


def _device(asked: str | None) -> torch.device:
    n_gpus = torch.cuda.device_count()
    known = {"cpu", *(["cuda"] if n_gpus else []), *(f"cuda:{i}" for i in range(n_gpus))}
    if asked is not None and asked not in known:
        raise BadUse(f"device must be one of {', '.join(sorted(known))}, got '{asked}'")
    return torch.device(asked or ("cuda" if n_gpus else "cpu"))


def _downloading(task: str) -> Callable[[], str]:
    from aquasurf_ray.tasks import data_sets
    from aquasurf_ray.tasks.registry import data_set_of

    name = data_set_of(task)
    if name is None:
        raise BadUse(f"task '{task}' brings its own data; --download is for the data sets of built-in tasks")

    def download() -> str:
        data_sets.download(name, data_sets.data_folder())
        return f"data set '{name}' is in {data_sets.data_folder()}"

    return download


class _Check:
    """The steps of the check; each returns a sentence on what it found."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task = task
        self.device = device

    def network(self) -> str:
        """Build the network with two functions."""
        first, second = (self._with(function) for function in FUNCTIONS)
        n_weights, n_activations = _counts(first)
        if n_activations == 0:
            raise TaskError("the network has no activation from the factory that it is given; use it in every place")
        if _counts(second) != (n_weights, n_activations):
            other = "{:,} parameters and {} activations".format(*_counts(second))
            raise TaskError(
                f"the network has {n_weights:,} parameters and {n_activations} activations with {FUNCTIONS[0]} but"
                f" {other} with {FUNCTIONS[1]}; it must not depend on the function"
            )
        return f"{n_weights:,} parameters, {n_activations} activation modules, with {' and '.join(FUNCTIONS)}"

    def data(self) -> str:
        """Load the splits, and compute the task's digest from them."""
        refuse_splits_without_batches(self.task, self._splits())
        sizes = {name: n_examples(split) for name, split in self._splits().named().items()}
        listed = ", ".join(f"{n:,} {name}" for name, n in sizes.items())
        return f"examples: {listed}; task digest {self.task.digest}"

    def batch(self) -> str:
        """Pass one training batch through the network to the loss."""
        inputs, targets = self._first_batch()
        network = self._with(FUNCTIONS[0])
        try:
            with torch.no_grad():
                outputs = output_of(call_network(network, inputs))
        except TaskError:
            raise
        except Exception as error:  # the network may be the user's own, and raise anything
            raise TaskError(f"the network does not take {_given(inputs)}: {sentence(error)}") from error
        loss = self._loss(outputs, targets)
        if not math.isfinite(loss):
            raise TaskError(f"the loss of the untrained network is {loss} with {FUNCTIONS[0]}; look at the inputs")
        self._refuse_all_pairs(outputs, targets)
        self.task.objective.on(self.device).refuse_counted_padding(outputs, targets)
        refuse_batch_of_one(self.task, self._splits(), device=self.device)
        forms = f"inputs {form_of(inputs)}, targets {form_of(targets)}, outputs {form_of(outputs)}"
        notes = [*self._ambiguous(outputs, targets), *self._no_mean(loss, outputs, targets), *self._stay(inputs)]
        return "; ".join([f"{forms}, loss {loss:.4g}", *notes])

    def spectrum(self) -> str:
        """Compute one Fisher spectrum of the untrained network, and the share of the trained weights that it covers."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedLayerWarning)  # the coverage reports the same layers
            layers = task_spectrum(self.task, self._splits(), FUNCTIONS[0], seed=0, device=self.device)
        covers = layers.coverage.warning() or f"the spectrum covers {layers.coverage}"
        small = "warning: " if layers.coverage.is_small else ""
        return f"{small}{covers}, with {FUNCTIONS[0]}"

    def training(self) -> str:
        """Train for two steps, then validate and test."""
        size = self._batch_size()
        splits = self._splits()
        cut = Splits(
            *(
                some_batches(split, STEPS_TRAINED, size, skipped=self._first_that_counts(split)[0])
                for split in splits.named().values()
            )
        )
        numbers = _numbers_of(splits.train)
        result = train_shortly(self.task, cut, FUNCTIONS[1], size, self.device)
        changed = sorted({name for (_, name), _ in numbers.items() ^ _numbers_of(splits.train).items()})
        if result.status == "diverged" or result.score is None:
            raise TaskError(f"training with {FUNCTIONS[1]} diverges in its first steps: {result.reason}")
        metric = self.task.objective.metric
        recipe = "" if size == self.task.recipe.batch_size else f" (the recipe has {self.task.recipe.batch_size})"
        metrics = f"training loss {result.train_loss:.4g}, val_{metric.name} {metric.score(result.score):.4g}"
        steps = f"{STEPS_TRAINED} steps of {size} examples{recipe}, with {FUNCTIONS[1]}: {metrics}"
        if not changed:
            return steps
        named = ", ".join(changed)
        return f"{steps}; reading examples changes {named}, so a resumed training may differ from an uninterrupted one"

    def _with(self, function: str) -> nn.Module:
        return untrained_network(self.task, lambda: Activation(function), seed=0, device=self.device)

    def _splits(self) -> Splits:
        self._loaded = self.task.splits()  # a reference, without which the task would load them again
        return self._loaded

    def _batch_size(self) -> int:
        """Return the batch size of the recipe or the loader; smaller on a CPU or with few data, and even, for mixup."""
        examples = self._splits().train
        loader_size = examples.batch_size if isinstance(examples, DataLoader) else None
        size = loader_size or self.task.recipe.batch_size
        most = min(size, LARGEST_CPU_BATCH) if self.device.type == "cpu" else size
        n = n_examples(examples)
        if n < STEPS_TRAINED:
            raise TaskError(f"the training split has {n} example; {STEPS_TRAINED} steps need as many")
        size = min(most, n // STEPS_TRAINED)
        return size - size % 2 if size > 2 else size

    def _first_batch(self) -> tuple[Inputs, Tensor]:
        """Return the first training batch that has a target which counts."""
        refuse_splits_without_targets(self.task, self._splits())
        _, inputs, targets = self._first_that_counts(self._splits().train)
        return map_tensors(inputs, lambda tensor: tensor.to(self.device)), targets.to(self.device)

    def _first_that_counts(self, examples: Examples) -> tuple[int, Inputs, Tensor]:
        """Return the number of the split's first batch that has a target which counts, and the batch."""
        for number, (inputs, targets) in enumerate(leading_batches(examples, self._batch_size())):
            if self.task.objective.counted(targets).any():
                return number, inputs, targets
        raise TaskError("no target counts")

    def _ambiguous(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Return a sentence on the dimension of the classes, if the shape of the labels allows two."""
        objective = self.task.objective
        if objective.likelihood != "categorical" or targets.is_floating_point():
            return []
        try:
            if len(fitting_dimensions(outputs, targets)) == 1:
                return []
            dimension = class_dimension(outputs, targets, objective.on(self.device).loss)
        except TaskError:  # a loss of the user's own may take targets of any form
            return []
        return [f"the classes may be in dimension 1 or {outputs.dim() - 1}, and are taken to be in {dimension}"]

    def _refuse_all_pairs(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse a loss that broadcasts (n, 1) against (n,), and so compares each output with all examples' targets.

        Such a loss stays the same when the examples exchange their targets.
        """
        exchanged = targets.roll(1, 0)
        if self.task.objective.likelihood == "categorical" or torch.equal(exchanged, targets):
            return
        for width in (1.0, float(targets.abs().max())):  # small for losses with an exponential, large for large targets
            spread = torch.linspace(0, width, len(outputs), dtype=outputs.dtype, device=outputs.device)
            distinct = outputs + spread.reshape(-1, *[1] * (outputs.dim() - 1))
            before, after = self._loss(distinct, targets), self._loss(distinct, exchanged)
            if not math.isfinite(before) or not math.isclose(before, after, rel_tol=1e-6):
                return
        raise TaskError(
            f"the loss '{name_of(self.task.objective.loss)}' must compare each output with its own target and "
            f"compares all pairs: it broadcasts outputs {form_of(outputs)} and targets {form_of(targets)}; "
            "bring both to one shape"
        )

    def _no_mean(self, loss: float, outputs: Tensor, targets: Tensor) -> list[str]:
        """Return a warning if the losses of two parts of the batch do not make up that of the batch."""
        objective = self.task.objective
        cut = max(1, len(targets) // 3)
        parts = [(outputs[:cut], targets[:cut]), (outputs[cut:], targets[cut:])]
        weights = [float(objective.weights(part).sum()) for _, part in parts]
        if 0 in weights:
            return []
        try:
            losses = [self._loss(*part) for part in parts]
        except TaskError:  # a loss of the user's own may take whole batches only
            return []
        together = (
            sum(losses) if objective.sums else sum(map(math.prod, zip(losses, weights, strict=True))) / sum(weights)
        )
        if math.isclose(loss, together, rel_tol=1e-3, abs_tol=1e-5):
            return []
        return [
            f"warning: the loss is no mean over the targets that count, {loss:.4g} and {together:.4g} in two parts, so "
            "losses of several batches are approximate; settings within a function (ignore_index, reduction, weight) "
            "cannot be seen, those that functools.partial binds can"
        ]

    def _stay(self, inputs: Inputs) -> list[str]:
        """Return a warning about activations in the model's own code, if `network_from` had no example to find them."""
        network = self.task.network
        if not isinstance(network, ModelNetwork) or network.example is not None:
            return []
        calls = [call for call in network.calls(inputs) if not call.is_gate]
        if not calls:
            return []
        named = ", ".join(f"{call.function} in '{call.module}' ({call.place})" for call in calls)
        return [f"not replaced, since the model's own code calls them: {named}; make them modules"]

    def _loss(self, outputs: Tensor, targets: Tensor) -> float:
        loss = self.task.objective.loss
        try:
            return float(self.task.objective.on(self.device).loss(outputs, targets))
        except Exception as error:  # the loss may be the user's own, and the targets of any kind
            forms = f"outputs {form_of(outputs)} and targets {form_of(targets)}"
            raise TaskError(f"the loss '{name_of(loss)}' does not take {forms}: {sentence(error)}") from error


def train_shortly(task: Task, splits: Splits, function: str, batch_size: int, device: torch.device) -> TrainingResult:
    """Train for one epoch on a few examples, otherwise by the task's recipe."""
    short = replace(task, recipe=replace(task.recipe, epochs=1, batch_size=batch_size), data=lambda: splits)
    return train(short, Activation(function), splits=splits, seed=0, device=device)


def _numbers_of(examples: Examples) -> dict[tuple[int, str], float]:
    """Return the numbers that the data set of a split, and its loader's `collate_fn`, have as attributes."""
    if isinstance(examples, DataLoader):
        return numbers_in(examples.dataset, examples.collate_fn)
    return numbers_in(examples)


def _counts(network: nn.Module) -> tuple[int, int]:
    """Return the number of parameters, and of modules that are the searched function."""
    n_weights = sum(parameter.numel() for parameter in network.parameters())
    return n_weights, sum(isinstance(module, Activation) for module in network.modules())


def _given(inputs: Inputs) -> str:
    """Return a description of how the network was called, for a message."""
    if isinstance(inputs, Mapping):
        return f"a dict of inputs, as network(**inputs): {form_of(inputs)}"
    if isinstance(inputs, tuple | list):
        return f"a tuple of inputs, as network(*inputs): {form_of(inputs)}"
    return f"inputs {form_of(inputs)}"
