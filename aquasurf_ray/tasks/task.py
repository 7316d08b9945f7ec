"""What a network is trained on: the Task, its data splits and its recipe.

A task is network + data + recipe + version. Everything that decides a result, apart from the function and the
seed, belongs to the task, because results compare only within one task: `Task.digest` identifies it in the store.
It is computed where it is asked for, by the driver and by each worker, and both must get the same, so
`aquasurf_ray.tasks.identity` looks at nothing that differs from machine to machine.
The formats are those of `torch.utils.data`: every item of a split is an (input, target) pair, inputs float32 without
the batch dimension, targets integer class labels.

This room knows no activation functions. A network factory gets a callable that makes one new activation module at
each call, and must use it wherever the network would have had its own activation.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from aquasurf_ray.tasks.identity import data_identity, network_identity

ActivationFactory = Callable[[], nn.Module]
NetworkFactory = Callable[[ActivationFactory], nn.Module]
Examples = Dataset[tuple[torch.Tensor, ...]]

_loading = threading.RLock()  # a worker trains in one thread and answers in another


class TaskError(ValueError):
    """A task is not known, not well formed, or its data cannot be had."""


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples. The test split is read once, after the last epoch."""

    train: Examples
    validation: Examples
    test: Examples


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum under a one-cycle learning rate.

    `learning_rate` is the peak of the cycle (Smith and Topin 2018, arXiv 1708.07120), `epochs` its length.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_fraction: float = 0.25
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "positive and finite")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        _require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "not negative")
        _require(0 < self.warmup_fraction < 1, "warmup_fraction", self.warmup_fraction, "between 0 and 1")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")


@dataclass(frozen=True)
class Task:
    """A network, the data it learns, and the recipe.

    Args:
        name: what people call it, for example `digits` or `resnet56/cifar10`.
        network: makes an untrained network from an activation factory; it draws its weights from torch's global
            generator, which the caller seeds.
        data: loads the three splits, in every worker and, for `digest`, where the search is started; torch's global
            generator is seeded for it, so that what it draws (a random split) is the same everywhere.
        recipe: the training settings.
        version: raise it when results change in a way that `spec` does not show: other code in the network's
            `forward`, other initial weights, other pre-processing or augmentation, or other examples of the same
            number, form and first labels.
        spectrum_batch_size: training examples that a spectrum is taken on.
        time_limit: seconds after which one training counts as hanging.

    Example:
        >>> from aquasurf_ray.tasks import load_task
        >>> task = load_task("digits")
        >>> network = task.network(torch.nn.ReLU)
        >>> network(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    name: str
    network: NetworkFactory
    data: Callable[[], Splits]
    recipe: Recipe = field(default_factory=Recipe)
    version: str = "1"
    spectrum_batch_size: int = 128
    time_limit: float = 24 * 3600.0

    def __post_init__(self) -> None:
        _require(bool(self.name.strip()), "name", self.name, "a non-empty string")
        _require(callable(self.network), "network", self.network, "a callable taking an activation factory")
        _require(callable(self.data), "data", self.data, "a callable returning Splits")
        _require(self.spectrum_batch_size >= 2, "spectrum_batch_size", self.spectrum_batch_size, "at least 2")
        _require(self.time_limit > 0, "time_limit", self.time_limit, "positive")

    def splits(self) -> Splits:
        """The data. What is loaded already is given again, as long as anybody holds it.

        Raises:
            TaskError: `data` raised, with its reason, or returned something else.
        """
        with _loading:
            known: weakref.ref[Splits] | None = self.__dict__.get("_splits")
            splits = known() if known else None
            if splits is None:
                splits = self._load()
                self.__dict__["_splits"] = weakref.ref(splits)
            return splits

    def spec(self) -> dict[str, Any]:
        """What identifies the task, as JSON-ready values. The time limit is left out: it changes no result.

        The network is built once and the data are loaded for it, unless they are already: `network_identity` and
        `data_identity` say what is looked at.

        Raises:
            TaskError: the network cannot be built, or the data cannot be had.
        """
        return {
            "name": self.name,
            "version": self.version,
            "recipe": asdict(self.recipe),
            "spectrum_batch_size": self.spectrum_batch_size,
            "network": dict(self._network_identity),
            "data": dict(self._data_identity),
        }

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of SHA-256 over `spec()`, which says what it raises: two tasks with one digest share
        their results."""
        return hashlib.sha256(json.dumps(self.spec(), sort_keys=True).encode()).hexdigest()[:32]

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: another process looks at its own network and data."""
        return {f.name: self.__dict__[f.name] for f in fields(self)}

    @cached_property
    def _network_identity(self) -> dict[str, Any]:
        made: list[nn.Module] = []

        def activation() -> nn.Module:
            made.append(nn.Identity())
            return made[-1]

        with self._refusing("network", "be built"), _seeded():
            identity = network_identity(self.network(activation))
        if not made:
            raise TaskError(f"network of task '{self.name}' makes no activation; call the factory that it is given")
        return identity

    @cached_property
    def _data_identity(self) -> dict[str, Any]:
        splits = self.splits()
        with self._refusing("data", "be read"), _seeded():
            return data_identity({"train": splits.train, "validation": splits.validation, "test": splits.test})

    def _load(self) -> Splits:
        with self._refusing("data", "be loaded"), _seeded():
            splits = self.data()
        if not isinstance(splits, Splits):
            raise TaskError(f"data of task '{self.name}' must return Splits, got {type(splits).__name__}")
        return splits

    @contextmanager
    def _refusing(self, what: str, be_done: str) -> Iterator[None]:
        try:
            yield
        except TaskError:
            raise
        except Exception as error:  # the user's own code: whatever it raises is a reason to refuse the task
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise TaskError(f"{what} of task '{self.name}' cannot {be_done}: {reason}") from error


@contextmanager
def _seeded() -> Iterator[None]:
    """torch's global generator on the CPU in a fixed state, and afterwards as it was found."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise TaskError(f"{name} must be {expected}, got {value!r}")
