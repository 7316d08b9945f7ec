"""The steps of the check of a task: each returns a sentence on what it found, or raises with what is wrong."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aquasurf_ray.activations import Activation
from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.counted import counted
from aquasurf_ray.driver.candidates import baseline_rows
from aquasurf_ray.driver.examine.activation_check import unreached_activations
from aquasurf_ray.driver.examine.checked_task import STEPS_TRAINED, CheckedTask
from aquasurf_ray.driver.examine.data_check import (
    lacking_classes,
    one_sided_targets,
    refuse_labels_out_of_range,
    refuse_values,
)
from aquasurf_ray.driver.examine.metric_check import metric_direction, metric_of, refuse_carried_counts
from aquasurf_ray.driver.examine.objective_check import (
    ambiguous_classes,
    loss_of,
    no_mean,
    refuse_all_pairs,
    unscaled_targets,
)
from aquasurf_ray.driver.examine.output_check import squashed_outputs
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.driver.examine.split_overlap import shared_examples
from aquasurf_ray.driver.other_process import refuse_other_in_another_process
from aquasurf_ray.driver.own_activation import refuse_named_functions, with_reference
from aquasurf_ray.driver.run.forecast import START, Forecast, cost_seconds, training_seconds
from aquasurf_ray.tasks import Splits, Task, TaskError
from aquasurf_ray.tasks.held_state import numbers_in
from aquasurf_ray.tasks.inputs import Inputs, call_network, form_of, whole_numbers
from aquasurf_ray.tasks.loaders import Examples, n_examples
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATIONS, is_of
from aquasurf_ray.tasks.replacement.replace import few
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.workers.activation_use import refuse_unused_activation
from aquasurf_ray.workers.cost import step_seconds
from aquasurf_ray.workers.engine.feed import TrainingFeed
from aquasurf_ray.workers.network import (
    fit_to_data,
    refuse_batch_of_one,
    refuse_splits_without_batches,
)
from aquasurf_ray.workers.reading import reading_time
from aquasurf_ray.workers.spectrum import (
    AssumedClassesWarning,
    SkippedLayerWarning,
    UncertainRowsWarning,
    task_spectrum,
)
from aquasurf_ray.workers.training import TrainingResult, train

FUNCTIONS = (REFERENCE, "mul(sigmoid(x),elu(x))")  # two, to see that the network does not depend on the function
LONGEST_LOADING = 20.0
"""Seconds of loading the data up to which the check has a second process load them too."""
EXPLODED = 100.0
"""A loss of this many times the untrained network's after two steps comes of them, and not of the network."""


class CheckSteps:
    """The steps of the check; each returns a sentence on what it found.

    Args:
        name: loads the task in another process, to compare the two; None to compare nothing.
    """

    def __init__(self, task: Task, device: torch.device, name: str | None = None) -> None:
        self.task = task
        self.name = name
        self.device = device
        self.checked = CheckedTask(task, device)
        self._spectrum_seconds = 0.0
        self._untrained_loss = math.inf

    def network(self) -> str:
        """Build the network with two functions, and parse the task's baselines."""
        first, second = (self.checked.network(function) for function in FUNCTIONS)
        if {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}:
            raise TaskError("the network factory must make a new network at each call, and returns the same weights")
        places = self.task.places  # refuses a network that makes no activation, with a hint
        n_weights, n_activations = _counts(first)
        if n_activations == 0:
            has = [f"'{name}' ({type(m).__name__})" for name, m in first.named_modules() if is_of(m, ACTIVATIONS)]
            instead = f"; it has {few(has)} instead" if has else ""
            raise TaskError(
                f"the network keeps none of the activations that it makes{instead}; set them as attributes of modules"
            )
        if _counts(second) != (n_weights, n_activations):
            other = "{:,} parameters and {} activations".format(*_counts(second))
            raise TaskError(
                f"the network has {n_weights:,} parameters and {n_activations} activations with {FUNCTIONS[0]} but"
                f" {other} with {FUNCTIONS[1]}; it must not depend on the function"
            )
        refuse_named_functions(self.task)
        roles = [f"{role} ({len(names)})" for role, names in places.items()]
        of_roles = f", of the roles {', '.join(roles)}" if roles else ""
        replacement = getattr(self.task.network, "replacement", None)
        replaced = f"; replaced {few([*map(repr, replacement.replaced)])}" if replacement is not None else ""
        return (
            f"{n_weights:,} parameters, {counted(n_activations, 'activation module')}{of_roles}, "
            f"with {' and '.join(FUNCTIONS)}{replaced}"
        )

    def data(self) -> str:
        """Load the splits, compute the task's digest from them, and look at the values of random examples."""
        started = time.monotonic()
        refuse_splits_without_batches(self.task, self.checked.splits())
        loading = time.monotonic() - started
        sizes = {name: n_examples(split) for name, split in self.checked.splits().named().items()}
        listed = ", ".join(f"{n:,} {name}" for name, n in sizes.items())
        digest = self.task.digest
        samples = self.checked.samples()
        refuse_values(self.task.objective, samples)
        gains = f"gains are over {readable(self._referenced.reference or REFERENCE)}"
        warned = [*lacking_classes(samples), *one_sided_targets(self.task.objective, samples)]
        warned += shared_examples(self.checked.splits(), samples)
        warned += self._compared_elsewhere(loading)
        return "; ".join([f"examples: {listed}", f"task digest {digest}", gains, *warned])

    def _compared_elsewhere(self, loading: float) -> list[str]:
        """Return why the task is not compared with that of a second process, if so.

        Args:
            loading: seconds in which the data are loaded.
        """
        if self.name is None:
            return []
        if loading > LONGEST_LOADING:
            return [f"not compared with a second process, since the data take {loading:.0f} s to load"]
        reason = refuse_other_in_another_process(self.name, self.task, self.checked.splits())
        return [] if reason is None else [reason]

    def batch(self) -> str:
        """Pass one training batch through the network to the loss."""
        inputs, targets = self.checked.first_batch()
        network = self.checked.network(FUNCTIONS[0])
        given = f"{_given(inputs)}{whole_numbers(inputs, network)}"  # now: a GPU cannot be read after a wrong id
        try:
            outputs = _outputs(network, inputs)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # which reports a wrong id no earlier
        except TaskError:
            raise
        except Exception as error:  # the network may be the user's own, and raise anything
            raise TaskError(f"the network does not take {given}: {sentence(error)}") from error
        objective = self.task.objective.on(self.device)
        refuse_labels_out_of_range(objective, self.checked.samples(), outputs, targets)
        try:
            loss = self._untrained_loss = loss_of(objective, outputs, targets)
        except TaskError as error:
            raise TaskError(f"{error}{self._chosen_of(network, inputs)}") from error
        if not math.isfinite(loss):
            raise TaskError(f"the loss of the untrained network is {loss} with {FUNCTIONS[0]}; look at the inputs")
        refuse_all_pairs(objective, outputs, targets)
        objective.refuse_counted_padding(outputs, targets)
        metric_of(objective, outputs, targets)
        refuse_carried_counts(objective, outputs, targets)
        preferred = metric_direction(objective, outputs, targets)
        refuse_unused_activation(self.task, self.checked.splits(), inputs, device=self.device)
        if isinstance(self.task.network, ModelNetwork):
            self.task.network.refuse_other_network(inputs)
        refuse_batch_of_one(self.task, self.checked.splits(), device=self.device)
        forms = f"inputs {form_of(inputs)}, targets {form_of(targets)}, outputs {form_of(outputs)}"
        notes = [*ambiguous_classes(objective, outputs, targets), *no_mean(objective, loss, outputs, targets)]
        notes += [*preferred, *unscaled_targets(objective, outputs, targets)]
        # On the CPU, since numbers that a loss refuses end a GPU's process.
        notes += squashed_outputs(self.task.objective, outputs.cpu(), targets.cpu(), self._with_seed(inputs))
        notes += self._fitted()
        notes += unreached_activations(self.task, self.checked.splits(), inputs, device=self.device)
        return "; ".join([f"{forms}, loss {loss:.4g}", *notes])

    def _chosen_of(self, network: nn.Module, inputs: Inputs) -> str:
        """Return the end of a message, where a network returns several things, of which a loss gets one tensor."""
        with torch.no_grad():
            returned = call_network(network, inputs)
        if isinstance(returned, Tensor):
            return ""
        return (
            f"; the network returns a {type(returned).__name__}, of which the loss gets only 'logits' or else the "
            "first tensor: return one tensor with all that it needs, such as torch.cat of the heads"
        )

    def spectrum(self) -> str:
        """Compute one Fisher spectrum of the untrained network, and the share of the trained weights that it covers."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore", SkippedLayerWarning)  # the coverage reports the same layers
            warnings.simplefilter("always", UncertainRowsWarning)
            warnings.simplefilter("ignore", AssumedClassesWarning)  # the step of the batch says so
            started = time.monotonic()
            layers = task_spectrum(self.task, self.checked.splits(), FUNCTIONS[0], seed=0, device=self.device)
            self._spectrum_seconds = time.monotonic() - started
        covers = layers.coverage.warning() or f"the spectrum covers {layers.coverage}"
        small = "warning: " if layers.coverage.is_small else ""
        uncertain = [f"warning: {each.message}" for each in caught if each.category is UncertainRowsWarning]
        for other in (each for each in caught if each.category is not UncertainRowsWarning):  # the user's
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        return "; ".join([f"{small}{covers}, with {FUNCTIONS[0]}", *uncertain])

    def training(self) -> str:
        """Train for two steps, then validate and test."""
        size = self.checked.batch_size()
        cut = self.checked.cut(size)
        train_split = self.checked.splits().train
        numbers = _numbers_of(train_split)
        result = train_shortly(self.task, cut, FUNCTIONS[1], size, self.device)
        changed = sorted({name for (_, name), _ in numbers.items() ^ _numbers_of(train_split).items()})
        metric = self.task.objective.metric
        if result.status == "diverged" or result.score is None:
            last = result.epochs[-1] if result.epochs else None
            if last is not None and math.isnan(last.val_score) and not self._is_exploded(last.val_loss):
                raise TaskError(
                    f"the metric '{metric.name}' is nan on a part of the validation split, where the loss is "
                    f"{last.val_loss:.4g}; look at its update() and compute()"
                )
            raise TaskError(f"training with {FUNCTIONS[1]} diverges in its first steps: {result.reason}")
        exploded = self._exploded(result)
        recipe = "" if size == self.task.recipe.batch_size else f" (the recipe has {self.task.recipe.batch_size})"
        metrics = f"training loss {result.train_loss:.4g}, {on_split(metric.name)} {metric.score(result.score):.4g}"
        steps = f"{STEPS_TRAINED} steps of {size} examples{recipe}, with {FUNCTIONS[1]}: {metrics}"
        named = ", ".join(changed)
        changing = f"reading examples changes {named}, so a resumed training may differ from an uninterrupted one"
        return "; ".join([steps, *exploded, *([changing] if changed else [])])

    def _exploded(self, result: TrainingResult) -> list[str]:
        """Return a warning if the loss is a multiple of the untrained network's after the first steps."""
        losses = [loss for loss in (result.train_loss, result.val_loss) if loss is not None]
        if not self._is_exploded(max(losses)):
            return []
        return [
            f"warning: the loss rises from {self._untrained_loss:.4g} to {max(losses):.4g} in {STEPS_TRAINED} steps; "
            f"lower the learning rate, which is {self.task.recipe.learning_rate:g}, or scale the inputs and targets"
        ]

    def _is_exploded(self, loss: float) -> bool:
        # A loss that is a likelihood of numbers may begin below zero, where a multiple says nothing.
        return loss > EXPLODED * self._untrained_loss > 0

    def forecast(self, candidates: int, evaluations: int, workers: int | None) -> str:
        """Forecast a search from the time of the spectrum, of a few further steps and of reading some batches."""
        size, splits = self.checked.batch_size(), self.checked.splits()
        cut = self.checked.cut(size)
        feed = TrainingFeed(_shortened(self.task, cut, size), cut, self.device, seed=0)
        seconds, n_in_step = step_seconds(feed, Activation(FUNCTIONS[1])), min(size, self.task.step_examples)
        reading = reading_time(self.task, splits, self.device)
        sizes = {name: n_examples(split) for name, split in splits.named().items()}
        n = workers or (torch.cuda.device_count() if self.device.type == "cuda" else os.cpu_count()) or 1
        forecast = Forecast(
            self._spectrum_seconds,
            training_seconds(self.task, sizes, seconds, n_in_step, reading),
            cost_seconds(seconds / n_in_step * self.task.step_examples, reading),
        )
        n_baselines = len(baseline_rows(self._referenced.baselines))
        n_spectra, n_trainings = candidates + n_baselines, evaluations + n_baselines
        batch_size = self.task.spectrum_batch_size
        text = forecast.text(n_spectra, n_trainings, n, n_costs=n_trainings, spectrum_batch_size=batch_size)
        return f"{text.removeprefix('forecast: ')}{START}"

    @cached_property
    def _referenced(self) -> Task:
        """The task with its reference, found once, since doubts about it are warned of each time."""
        return with_reference(self.task)

    def _with_seed(self, inputs: Inputs) -> Callable[[int], Tensor]:
        """Return what returns the outputs of the untrained network with the initial weights of a seed."""
        return lambda seed: _outputs(self.checked.network(FUNCTIONS[0], seed), inputs).cpu()

    def _fitted(self) -> list[str]:
        """Return which layers have weights that are scaled to fit the function, if the task has such."""
        if not self.task.fits_weights:
            return []
        network = self.checked.network(FUNCTIONS[0])
        fitted = fit_to_data(network, self.task, self.checked.splits(), seed=0, device=self.device)
        return [f"{'' if fitted.factors else 'warning: '}init auto with {FUNCTIONS[0]}: {fitted}"]


@torch.no_grad()
def _outputs(network: nn.Module, inputs: Inputs) -> Tensor:
    return output_of(call_network(network, inputs))


def train_shortly(task: Task, splits: Splits, function: str, batch_size: int, device: torch.device) -> TrainingResult:
    """Train for one epoch on a few examples, otherwise by the task's recipe."""
    return train(_shortened(task, splits, batch_size), Activation(function), splits=splits, seed=0, device=device)


def _shortened(task: Task, splits: Splits, batch_size: int) -> Task:
    return replace(task, recipe=replace(task.recipe, epochs=1, batch_size=batch_size), data=lambda: splits)


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
