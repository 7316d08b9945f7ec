"""`network_from`: a `Task.network` from a model that has its own activations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.errors import ModelFails, TaskError, require
from aquasurf_ray.tasks.fitted_weights import checked_init
from aquasurf_ray.tasks.inputs import Inputs, tensors_of
from aquasurf_ray.tasks.replacement.activation_kinds import is_gated_feed_forward
from aquasurf_ray.tasks.replacement.called_activations import ActivationCall, activation_calls
from aquasurf_ray.tasks.replacement.comparison import difference_of_own
from aquasurf_ray.tasks.replacement.feed_forward import exchange_feed_forwards
from aquasurf_ray.tasks.replacement.places import Only
from aquasurf_ray.tasks.replacement.replace import (
    Replacement,
    activations_of,
    calls_to_replace,
    few,
    put_back,
    replace_found,
    replace_known,
    without_heads,
    without_kept,
)
from aquasurf_ray.tasks.replacement.transformers_models import (
    HuggingFaceModel,
    example_inputs,
    is_configuration,
    is_pretrained_model,
)
from aquasurf_ray.tasks.roles import made_network, refuse_arguments
from aquasurf_ray.tasks.task import ActivationFactory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelNetwork:
    """A `Task.network` from a function that returns a complete model with its own activations.

    Args:
        make: makes one untrained model at each call.
        only: as in `replace_activations`; or a dictionary of these by role, for a function per role (`tasks.roles`).
        example: the shape of one input, without the batch: the model is run once on zeros, in each process, to find
            activations that its code calls itself. A model that takes whole numbers is run on zeros of these, and a
            model of transformers on tokens or images without it. Else a task runs it on two of its examples.
        gated: make all feed-forward blocks gated (True) or ungated (False), with as many weights as before: see
            `feed_forward.exchange_feed_forwards`. By default, they stay as the model has them.
        init: "auto" to scale the initial weights to fit the function: see `Task`, which does it.

    >>> network = ModelNetwork(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), example=(3,))
    >>> network.replacement.replaced
    ('1',)
    >>> network(nn.Tanh)[1]
    Tanh()
    """

    make: Callable[[], nn.Module]
    only: Only | Mapping[str, Only] = None
    example: tuple[int, ...] | None = None
    gated: bool | None = None
    init: str = "default"

    def __post_init__(self) -> None:
        checked_init(self.init)
        object.__setattr__(self, "example", _checked_example(self.example))
        if isinstance(self.only, Mapping) and len(self.only) < 2:
            raise TaskError(f"only= has {len(self.only)} roles; name two or more, or give the places themselves")
        for role in self.roles:
            require(isinstance(role, str) and role.isidentifier(), "role", role, "a name of letters, digits and _")

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that `only` names."""
        return tuple(self.only) if isinstance(self.only, Mapping) else ()

    def __call__(self, activation: ActivationFactory | None = None, /, **of_role: ActivationFactory) -> nn.Module:
        """Return a new network with this activation, or with one for each role.

        Raises:
            TaskError: as `replace_activations`.
        """
        found = self._found
        network = self._model()
        for role, only in self._only.items():
            factory = of_role.get(role, activation)
            if factory is None:
                raise TaskError(
                    f"network_from made a network of the roles {', '.join(self._only)}, got none for '{role}'"
                )
            replace_known(network, factory, only, found[role])
        return network

    @property
    def _only(self) -> Mapping[str, Only]:
        """The places by role; a network without roles has one, without a name."""
        return self.only if isinstance(self.only, Mapping) else {"": self.only}

    def _model(self) -> nn.Module:
        refuse_arguments(
            self.make,
            (),
            "network_from takes a function without arguments, got {got}; a network that takes an activation factory "
            "needs no network_from",
        )
        model = made_network(self.make(), "the function of network_from")
        self._refuse_same(model)
        if self.gated is not None:
            exchange_feed_forwards(model, self.gated)
        return model

    def _refuse_same(self, model: nn.Module) -> None:
        """Refuse a function that returns the same model each time, before the first one is changed.

        Raises:
            TaskError: a second call returns the same model, or one with blocks of the first.
        """
        if "_shares_weights" in self.__dict__:
            return
        if isinstance(self.make, HuggingFaceModel):
            self.__dict__["_shares_weights"] = False
            return
        with torch.random.fork_rng(devices=[]):
            other = made_network(self.make(), "the function of network_from")
        if _changeable(model) & _changeable(other):
            name, kind = getattr(self.make, "__name__", type(self.make).__name__), type(model).__name__
            what = f"the same {kind}" if other is model else f"a {kind} of the same blocks"
            raise TaskError(
                f"the function of network_from, {name}, returns {what} each time; make a new one in it, since each "
                "training needs a model of its own"
            )
        weights = {id(parameter) for parameter in other.parameters()}
        self.__dict__["_shares_weights"] = any(id(parameter) in weights for parameter in model.parameters())

    def _own_model(self) -> nn.Module:
        """Return a new model whose weights may be changed: others may share them, as those of a frozen part that is
        loaded once."""
        model = self._model()
        return deepcopy(model) if self.__dict__["_shares_weights"] else model

    @property
    def replacement(self) -> Replacement:
        """Return which of the model's activations are replaced. torch's global generator is left as it is."""
        return _together(list(self._found.values()))

    @cached_property
    def _found(self) -> Mapping[str, Replacement]:
        """What is replaced, by role."""
        with torch.random.fork_rng(devices=[]):
            return _without_overlap({role: self._found_in(only) for role, only in self._only.items()})

    def refuse_other_network(self, inputs: Inputs) -> None:
        """Refuse a model that computes something else with its own activations put back where the searched function
        goes: its code does more with them than use their values. torch's global generators are left as they are.

        Args:
            inputs: a batch (n, ...) on any device, n at least 2 where there is batch norm.

        Raises:
            TaskError: it says by how much the outputs differ, and which activations are to blame.
        """
        found = difference_of_own(self._own_model, self._put_back, inputs)
        if found is None:
            return
        named = few([f"'{name}' ({own})" for name, own in found.places.items()])
        raise TaskError(
            f"network_from would make another network of {type(self._model()).__name__}: with its own activations put "
            f"back, its outputs in {found.mode} differ by up to {found.by:.3g} (they are up to {found.largest:.3g})"
            f"{f'; its code does more than use the values of {named}' if named else ''}; call activations there for "
            "their values alone, or name in only= what is to be replaced"
        )

    def _put_back(self, model: nn.Module, names: set[str] | None) -> dict[str, str]:
        found: dict[str, str] = {}
        for role, only in self._only.items():
            found |= put_back(model, only, self._found[role], names)
        return found

    def _found_in(self, only: Only) -> Replacement:
        model = self._model()
        if self.example is not None:
            return self._tried_on_zeros(model, self.example, only)
        if is_pretrained_model(model):
            return replace_found(model, nn.Identity, only, example_inputs(model))
        return replace_known(model, nn.Identity, only)

    def find_calls(self, draw: Callable[[], Inputs]) -> None:
        """Find the activations that the model's own code calls by running it on a task's data, once, if there is no
        example. Those that cannot be replaced stay, and `calls` names them.

        Args:
            draw: returns inputs (n, ...) on the CPU, n at least 2 where there is batch norm. If it, or the model on the
                CPU, fails, no calls are looked for.

        Raises:
            TaskError: as `replace_activations`, with the calls that were found.
        """
        if self.example is not None or "_found" in self.__dict__:
            return
        try:
            inputs = draw()
        except TaskError as error:
            logger.debug("no activations are looked for in the code of %r: %s", self.make, error)
            return
        try:
            with torch.random.fork_rng(devices=[]):
                model = self._model()
                if not is_pretrained_model(model):
                    found: dict[str, Replacement] = {}
                    for role, only in self._only.items():
                        # A model for each role, since what one replaces another would not find.
                        fresh = self._model() if found else model
                        found[role] = replace_found(fresh, nn.Identity, only, inputs, strict=False)
                    self.__dict__["_found"] = _without_overlap(found)
        except ModelFails as error:
            logger.debug("no activations are looked for in the code of %r: %s", self.make, error)
        else:
            self.refuse_other_network(inputs)

    def _tried_on_zeros(self, model: nn.Module, shape: tuple[int, ...], only: Only) -> Replacement:
        """Run the model on zeros: numbers, and if it refuses these, the tokens of number 0."""
        try:
            return replace_found(model, nn.Identity, only, torch.zeros(2, *shape))
        except ModelFails as error:
            try:
                return replace_found(self._model(), nn.Identity, only, torch.zeros(2, *shape, dtype=torch.int64))
            except ModelFails as of_tokens:
                takes_tokens = any(isinstance(module, nn.Embedding) for module in model.modules())
                raise ModelFails(f"{of_tokens if takes_tokens else error}{_batch_dimension(shape)}") from error

    def own_activations(self) -> dict[str, list[Callable[[Tensor], Tensor]]]:
        """Return the activations that the model has in the places of each role, modules or functions; none if they are
        in code that is rewritten as a whole. A network without roles has one, without a name. Call it after
        `find_calls`, which finds those that the model's code calls."""
        with torch.random.fork_rng(devices=[]):
            return {
                role: list(activations_of(self._model(), only, self._found[role].calls))
                for role, only in self._only.items()
            }

    @property
    def is_gated(self) -> bool:
        """True if the model has a gated feed-forward block. The model is made once, without memory for weights."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return any(is_gated_feed_forward(module) for module in self._model().modules())

    def calls(self, inputs: Inputs, *, training: bool = True) -> list[ActivationCall]:
        """Return the activations that the model's own code calls, where no replacement reaches them, and the calls that
        stay, those of modules too, found by running it on a batch, without those of poolers and heads. torch's global
        generator on the CPU is left as it is.

        Args:
            training: whether the model is in training mode.
        """
        new: list[nn.Module] = []

        def make() -> nn.Module:
            new.append(nn.Identity())
            return new[-1]

        with torch.random.fork_rng(devices=[]):
            model = self._model()
            # Not the report of `_found`, in which the calls that cannot be replaced are kept already.
            report = _together(
                [replace_known(model, make, only, self._found[role]) for role, only in self._only.items()]
            )
            model.to(tensors_of(inputs)[0].device)
            called = activation_calls(model, inputs, outside=new, training=training)
            stray = calls_to_replace(model, without_kept(called, report))
            return [call for call in without_heads(model, called) if call.stays or call in stray]


def network_from(
    make: Any,
    only: Only | Mapping[str, Only] = None,
    *,
    example: tuple[int, ...] | None = None,
    model_class: type | str | None = None,
    gated: bool | None = None,
    init: str = "default",
) -> ModelNetwork:
    """Return a `Task.network` whose activations are replaced by the searched function: see `ModelNetwork`.

    Args:
        make: a function without arguments that returns a model; or a configuration of transformers; or a model of
            transformers, whose class and configuration are used, and never its weights.
        only: as in `replace_activations`; or a dictionary of these by role, for a function per role, such as
            `{"early": "layer1.*", "late": "layer2.*"}`.
        example: the shape of one input, without the batch.
        model_class: for a configuration, the class of the model, or its name: see `HuggingFaceModel`.
        gated: whether feed-forward blocks are gated, at equal weights; by default as the model has them.
        init: "auto" to scale the initial weights, so that each layer's output has mean 0 and variance 1 with the
            function at hand: see `aquasurf_ray.tasks.fitted_weights`.

    Raises:
        TaskError: `make` is a model of another kind, whose weights could not be drawn again; `init` is another word.
    """
    if is_pretrained_model(make):
        make = HuggingFaceModel(make.config, type(make))
    elif is_configuration(make):
        make = HuggingFaceModel(make, model_class)
    elif isinstance(make, nn.Module) or not callable(make):
        raise TaskError(
            f"network_from takes a function that makes a model, or a configuration of transformers, got a "
            f"{type(make).__name__}; each training needs a new model"
        )
    elif model_class is not None:
        raise TaskError("model_class is for a configuration of transformers; a function that makes a model needs none")
    return ModelNetwork(make, tuple(only) if isinstance(only, list) else only, example, gated, init)


def _changeable(model: nn.Module) -> set[int]:
    """Return the ids of the model and of its modules that have modules inside, which an exchange of activations
    changes."""
    return {id(model), *(id(module) for module in model.modules() if any(True for _ in module.children()))}


def _checked_example(example: object) -> tuple[int, ...] | None:
    """Return the shape of one input; a list is as good as a tuple.

    Raises:
        TaskError: it is something else, such as an input.
    """
    if example is None:
        return None
    if not isinstance(example, tuple | list) or not all(type(size) is int and size > 0 for size in example):
        got = f"a tensor of shape {tuple(example.shape)}" if isinstance(example, Tensor) else repr(example)
        hint = f", such as {tuple(example.shape[1:])}" if isinstance(example, Tensor) and example.dim() > 1 else ""
        raise TaskError(f"example= must be the shape of one input, without the batch dimension{hint}, got {got}")
    return tuple(example)


def _batch_dimension(shape: tuple[int, ...]) -> str:
    """Return the end of a message where an example may have the batch dimension, which is put before it."""
    return f"; example= has no batch dimension: perhaps {shape[1:]}" if len(shape) > 1 and shape[0] == 1 else ""


def _together(found: Sequence[Replacement]) -> Replacement:
    """Return what is replaced in all roles together, and what is kept in all of them."""
    replaced = tuple(name for each in found for name in each.replaced)
    kept = tuple(each for each in found[-1].kept if each.name not in replaced)
    calls, written = tuple(c for each in found for c in each.calls), tuple(n for each in found for n in each.written)
    return Replacement(replaced, kept, calls, written)


def _without_overlap(found: Mapping[str, Replacement]) -> Mapping[str, Replacement]:
    """Return the replacements by role.

    Raises:
        TaskError: two roles have one place.
    """
    roles: dict[str, str] = {}
    for role, each in found.items():
        for name in each.replaced:
            if name in roles:
                raise TaskError(
                    f"'{name}' is in the roles {roles[name]} and {role}; make the patterns of only= disjoint"
                )
            roles[name] = role
    return found
