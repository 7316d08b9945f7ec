"""The task: a network, the data that it is trained on, and everything else that decides a result.

A task is network + data + objective + recipe + version. Everything that decides a result, apart from the function and
the seed, belongs to the task, because results compare only within one task: `Task.digest` identifies it in the store.
It is computed where it is asked for, by the driver and by each worker, and both must get the same, so
`aquasurf_ray.tasks.identity` looks at nothing that differs from machine to machine.
The formats are those of `torch.utils.data`: a split is a data set, or a `DataLoader`, which then makes the batches
itself. `aquasurf_ray.tasks.inputs` lists the forms of items and batches; the objective decides what targets are: class
labels, numbers, tokens.

This room knows no activation functions. A network factory gets a callable that makes one new activation module at
each call, and must use it wherever the network would have had its own activation.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from aquasurf_ray.tasks.errors import TaskError, require
from aquasurf_ray.tasks.fitted_weights import checked_init
from aquasurf_ray.tasks.identity import data_identity, network_identity
from aquasurf_ray.tasks.inputs import Inputs
from aquasurf_ray.tasks.loaders import Examples as Examples
from aquasurf_ray.tasks.loaders import ExampleSet as ExampleSet
from aquasurf_ray.tasks.loaders import drawn_batch, mean_batch
from aquasurf_ray.tasks.objective import Objective, classification, name_of
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.roles import CountedActivations, made_network, refuse_arguments, roles_of, with_roles
from aquasurf_ray.tasks.seeding import seeded

ActivationFactory = Callable[[], nn.Module]
NetworkFactory = Callable[..., nn.Module]
Augmentation = Callable[[Inputs, torch.Generator], Inputs]

FIRST_SETTINGS = frozenset(
    {"epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "warmup_fraction", "label_smoothing"}
)
"""The recipe's fields of version 0.1.0's first database."""

CPU = torch.device("cpu")
_CACHED = ("_network_identity", "_data_identity", "_loader_batch")
_loading = threading.RLock()  # a worker trains in one thread and answers calls in another


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples. The test split is read once, after the last epoch.

    Each is a data set, or a `DataLoader`, whose sampler, batches and `collate_fn` are then used as they are.
    `unaugmented` are the training examples for spectra, if `train` draws random transformations.
    """

    train: Examples
    validation: Examples
    test: Examples
    unaugmented: Examples | None = None

    def __post_init__(self) -> None:
        for name, examples in self.named().items():
            if examples is None:
                hint = "hold out some examples, for instance with torch.utils.data.random_split"
            elif isinstance(examples, tuple | Tensor):
                hint = "wrap tensors in a torch.utils.data.TensorDataset(inputs, targets)"
            elif isinstance(examples, str | bytes) or not (
                isinstance(examples, DataLoader | IterableDataset) or hasattr(examples, "__getitem__")
            ):
                hint = "it needs __getitem__ with numbers of examples, and __len__"
            else:
                continue
            got = "None" if examples is None else f"a {type(examples).__name__}"
            raise TaskError(f"the {name} split must be a data set or a DataLoader, got {got}; {hint}")

    def for_spectrum(self) -> Examples:
        """Return the examples that spectra are taken on; see `aquasurf_ray.tasks.loaders.drawn_batch`."""
        return self.unaugmented if self.unaugmented is not None else self.train

    def named(self) -> dict[str, Examples]:
        """Return the three splits by name; `n_examples` tells how many examples each gives."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class Task:
    """A network, the data that it is trained on, and the recipe.

    Args:
        name: the task's name, for example `digits` or `resnet56/cifar10`.
        network: makes an untrained network from an activation factory, or from one for each of its roles (`roles`); it
            draws its weights from torch's global generator, which the caller seeds.
        data: loads the three splits, in every worker and, for `digest`, where the search is started; the global
            generators of torch, NumPy and Python are seeded for it, so that a random split is the same everywhere.
        recipe: the training settings.
        objective: the loss, the metric, and what the outputs stand for; by default those of classification.
        augment: a random transformation of a training batch: (inputs, a generator on the CPU to draw from) -> inputs,
            on the device where the batch is.
        version: raise it when results change in a way that `spec` does not show: other code in the network's
            `forward`, other initial weights, other pre-processing or augmentation, another batch size of a `DataLoader`
            of your own, or other examples of the same number, form and first labels.
        spectrum_batch_size: training examples that a spectrum is taken on.
        time_limit: seconds after which one training counts as hanging.
        baselines: functions that a search trains first, besides the eight of the paper. They change no result, so the
            identity does not know them.
        reference: the function that gains are relative to, a further baseline: by default the activation that the model
            of `network_from` has itself, or else ReLU. It changes no result either.
        init: "auto" to scale the initial weights so that each layer's output has mean 0 and variance 1, whatever the
            function: see `tasks.fitted_weights`. By default, they are as the network draws them.

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
    objective: Objective = field(default_factory=classification)
    augment: Augmentation | None = None
    version: str = "1"
    spectrum_batch_size: int = 128
    time_limit: float = 24 * 3600.0
    baselines: tuple[str, ...] = ()
    reference: str | None = None
    init: str = "default"

    def __post_init__(self) -> None:
        checked_init(self.init)
        require(bool(self.name.strip()), "name", self.name, "a non-empty string")
        if isinstance(self.network, nn.Module):
            raise TaskError(
                f"network must be a function that takes an activation factory and makes a new network, got a network, "
                f"a {type(self.network).__name__}; for a model with its own activations: network_from(function)"
            )
        require(callable(self.network), "network", self.network, "a callable taking an activation factory")
        require(callable(self.data), "data", self.data, "a callable returning Splits")
        require(isinstance(self.objective, Objective), "objective", self.objective, "an Objective")
        require(self.augment is None or callable(self.augment), "augment", self.augment, "a callable, or None")
        # Raises where labels are to be smoothed and the loss has none.
        self.objective.training_loss(self.recipe.label_smoothing)
        require(
            not self.recipe.mixes or self.objective.likelihood == "categorical",
            "likelihood",
            self.objective.likelihood,
            "categorical for mixup and cutmix, which mix class labels",
        )
        require(self.spectrum_batch_size >= 2, "spectrum_batch_size", self.spectrum_batch_size, "at least 2")
        require(self.time_limit > 0, "time_limit", self.time_limit, "positive")
        are_texts = isinstance(self.baselines, tuple | list) and all(isinstance(text, str) for text in self.baselines)
        require(are_texts, "baselines", self.baselines, "a list of functions as text, such as ['swish(x)']")
        is_text = self.reference is None or isinstance(self.reference, str)
        require(is_text, "reference", self.reference, "a function as text, or None")

    def splits(self) -> Splits:
        """Return the data. Data that are loaded already are returned again, as long as they are referenced somewhere.

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

    def new_network(self, activation: ActivationFactory) -> nn.Module:
        """Return an untrained network with this activation, which may be one for each role.

        The activations that an existing model's own code calls are found by running it on two of the task's examples.

        Raises:
            TaskError: the factory takes other arguments or returns no network, or the network holds the factory of the
                activation instead of what it makes.
        """
        find_calls = getattr(self.network, "find_calls", None)
        if find_calls is not None:
            find_calls(self._two_inputs)
        if not self.roles:
            refuse_arguments(
                self.network,
                (activation,),
                f"network of task '{self.name}' must take the activation factory alone, as in def network(activation), "
                "got {got}; for a model with its own activations: network_from(function)",
            )
        try:
            made = with_roles(self.network, activation)
        except TypeError as error:
            if "is not a Module subclass" not in str(error):
                raise
            raise TaskError(
                f"the network of task '{self.name}' holds something that is no module ({error}); if that is the "
                "activation, which is a factory, call it in each place: activation()"
            ) from error
        return made_network(made, f"network of task '{self.name}'")

    @property
    def roles(self) -> tuple[str, ...]:
        """The places of the network that may each have a function of their own: see `tasks.roles`. Mostly none."""
        return roles_of(self.network)

    @property
    def places(self) -> dict[str, list[str]]:
        """The names of each role's activations in the network. Raises as `spec` does."""
        return dict(self._network_identity.get("roles", {}))

    @property
    def fits_weights(self) -> bool:
        """True if the initial weights are scaled to fit the function, as the task or its network says."""
        return "auto" in (self.init, getattr(self.network, "init", None))

    @property
    def step_examples(self) -> float:
        """The number of examples of a training step: the mean batch of the train split's own loader, or else the
        recipe's batch size. Raises as `spec` does."""
        n_train: int = self._data_identity["train"]
        return min(n_train, self._loader_batch or self.recipe.batch_size)

    def with_recipe(self, recipe: Recipe) -> Task:
        """Return this task with another recipe, and with the data that are loaded."""
        return self if recipe == self.recipe else self._changed(recipe=recipe)

    def with_reference(self, function: str) -> Task:
        """Return this task with a reference, which is one of its baselines, and with the data that are loaded."""
        baselines = self.baselines if function in self.baselines else (*self.baselines, function)
        return self._changed(reference=function, baselines=baselines)

    def _changed(self, **changes: Any) -> Task:
        task = replace(self, **changes)
        task.__dict__.update({key: value for key, value in self.__dict__.items() if key in ("_splits", *_CACHED)})
        return task

    def _two_inputs(self) -> Inputs:
        splits = self.splits()
        with self._refusing("data", "be read"):
            return drawn_batch(splits.for_spectrum(), 2, 0)[0]

    def spec(self) -> dict[str, Any]:
        """Return the task's identity as JSON-ready values. The time limit is left out, because it changes no result.

        The network is built once and the data are loaded for it, unless they are already: `network_identity` and
        `data_identity` say what is looked at.

        Raises:
            TaskError: the network cannot be built, or the data cannot be loaded.
        """
        # Held until both identities are known, since an existing model is run on the data, which are loaded once.
        splits = self.splits() if hasattr(self.network, "find_calls") else None
        network, data = dict(self._network_identity), dict(self._data_identity)
        del splits
        return {
            "name": self.name,
            "version": self.version,
            "recipe": {key: _json_ready(value) for key, value in asdict(self.recipe).items()},
            "objective": self.objective.spec(),
            "augment": name_of(self.augment) if self.augment else None,
            "spectrum_batch_size": self.spectrum_batch_size,
            "network": network,
            "data": data,
            **({"init": "auto"} if self.fits_weights else {}),  # earlier tasks have no such entry
        }

    def stored_spec(self) -> dict[str, Any]:
        """Return what the store has of the task: `spec()`, and the range of its metric, which changes no result.

        Raises as `spec` does.
        """
        spec = self.spec()
        return {**spec, "objective": {**spec["objective"], **self.objective.metric.bounds}}

    @property
    def digest(self) -> str:
        """The task's identity: 32 hexadecimal digits of SHA-256 over `spec()`. Two tasks with one digest share their
        results. Settings that were added later are left out while they have the value that was fixed before, so that
        earlier results stay those of the task. Raises as `spec` does."""
        return _digest(self._identifying())

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each part of the identity, such as `network`, `data` and `recipe`, to tell what has changed.
        Raises as `spec` does."""
        return {part: _digest(content) for part, content in self._identifying().items()}

    def _identifying(self) -> dict[str, Any]:
        spec = self.spec()
        plain = asdict(Recipe())
        spec["recipe"] = {
            key: value
            for key, value in spec["recipe"].items()
            if key in FIRST_SETTINGS or value != _json_ready(plain[key])
        }
        before = {"objective": classification().spec(), "augment": None}
        return {key: value for key, value in spec.items() if key not in before or value != before[key]}

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: another process builds the network and loads the data itself."""
        return {f.name: self.__dict__[f.name] for f in fields(self)}

    @cached_property
    def _network_identity(self) -> dict[str, Any]:
        made = CountedActivations(self.roles)
        with self._refusing("network", "be built"), seeded(0, CPU):
            network = self.new_network(made if self.roles else made.for_role(""))
            identity = network_identity(network)
        made.refuse_none(self.name, network)
        # Which places are of which role decides what a function per role is; plain tasks have no such entry.
        return {**identity, "roles": made.places(network)} if self.roles else identity

    @cached_property
    def _data_identity(self) -> dict[str, Any]:
        splits = self.splits()
        with self._refusing("data", "be read"), seeded(0, CPU):
            _ = self._loader_batch  # asked for later where the data are no longer loaded
            return data_identity(splits.named())

    @cached_property
    def _loader_batch(self) -> float | None:
        train = self.splits().train
        return mean_batch(train) if isinstance(train, DataLoader) else None

    def _load(self) -> Splits:
        with self._refusing("data", "be loaded"), seeded(0, CPU):
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


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _json_ready(value: Any) -> Any:
    """Return a tuple as a list, as JSON does."""
    return list(value) if isinstance(value, tuple) else value
