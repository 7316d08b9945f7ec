"""The roles of a network: places that may each have a function of their own, such as early and late layers.

A network factory has them as keyword-only parameters without a default, to which its first parameter, if it has one,
is a further role: `network(activation, *, late)` has the roles activation and late. A factory that knows its roles
otherwise, as that of `network_from` does, has them as its attribute `roles`. A network without either has none, and
is called with one factory.

This is the one place where a function is spread over a network's roles. A function per role comes as an object with
`roles` and `for_role(role)` (`aquasurf_ray.activations.RoleActivations`); any other factory serves all roles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from aquasurf_ray.tasks.errors import TaskError


def roles_of(network: Callable[..., nn.Module]) -> tuple[str, ...]:
    """Return the roles of a network factory, in its order; none if it takes one activation.

    >>> def layers(activation, *, late, width=64): ...
    >>> roles_of(layers), roles_of(lambda activation: ...)
    (('activation', 'late'), ())
    """
    own = getattr(network, "roles", None)
    if own is not None:
        return tuple(own)
    try:
        parameters = inspect.signature(network).parameters.values()
    except (TypeError, ValueError):  # some callables of C code have no signature
        return ()
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    first = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:1]
    return (*first, *named) if named and len(first + named) > 1 else ()


def with_roles(network: Callable[..., nn.Module], activation: Callable[[], nn.Module]) -> nn.Module:
    """Return a new network with an activation, or with that of each of its roles.

    Raises:
        TaskError: the activation is for other roles than the network's.
    """
    roles = roles_of(network)
    refuse_other_roles(roles, getattr(activation, "roles", None), getattr(activation, "name", "the function"))
    if not roles:
        return network(activation)
    return network(**{role: factory_for(activation, role) for role in roles})


def made_network(made: object, maker: str) -> nn.Module:
    """Return what a function made, if it is a network.

    Args:
        maker: names the function in the message.

    Raises:
        TaskError: it is something else, such as None or a class.
    """
    if isinstance(made, nn.Module):
        return made
    if made is None:
        got = "None; is a `return` missing?"
    elif isinstance(made, type):
        got = f"the class {made.__name__}; call it: {made.__name__}()"
    else:
        got = f"a {type(made).__name__}"
    raise TaskError(f"{maker} must return an nn.Module, got {got}")


def refuse_arguments(function: Callable[..., Any], given: tuple[object, ...], rule: str) -> None:
    """Refuse a function that cannot be called with the arguments that it will be given.

    Args:
        rule: how it must be, and what to do; its signature comes between the two, where `{got}` is.

    Raises:
        TaskError: it takes more or fewer.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables of C code have no signature
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise TaskError(rule.format(got=f"{name}{signature}")) from error


def factory_for(activation: Any, role: str) -> Callable[[], nn.Module]:
    """Return the factory of one role's activations; a plain factory serves every role."""
    for_role = getattr(activation, "for_role", None)
    factory: Callable[[], nn.Module] = activation if for_role is None else for_role(role)
    return factory


def refuse_other_roles(roles: tuple[str, ...], given: tuple[str, ...] | None, function: str) -> None:
    """Refuse a function for other roles than a network's.

    Args:
        roles: the network's.
        given: the function's; None for a function that is for all roles.

    Raises:
        TaskError: they differ.
    """
    if given is None or set(given) == set(roles):
        return
    unknown, missing = [r for r in given if r not in roles], [r for r in roles if r not in given]
    if not roles:
        problem = "the network has no roles; give one function"
    elif unknown:
        problem = f"unknown role '{unknown[0]}'; the network has the roles {', '.join(roles)}"
    else:
        problem = f"no function for role '{missing[0]}'; the network has the roles {', '.join(roles)}"
    raise TaskError(f"{function}: {problem}")


class CountedActivations:
    """A factory of modules that stand for activations, which knows those of each role; without roles, those of "".

    Args:
        roles: the network's; none for a network that is called with one factory, `for_role("")`.
    """

    def __init__(self, roles: tuple[str, ...]) -> None:
        self.roles = roles
        self.made: dict[str, list[nn.Module]] = {role: [] for role in roles or ("",)}
        self._factories = {role: partial(self.new, role) for role in self.made}

    def new(self, role: str) -> nn.Module:
        """Return a new module for a role."""
        self.made[role].append(nn.Identity())
        return self.made[role][-1]

    def for_role(self, role: str) -> Callable[[], nn.Module]:
        """Return the factory for a role."""
        return self._factories[role]

    def __call__(self) -> nn.Module:
        """Refuse to make a module for no role.

        Raises:
            TaskError: always.
        """
        raise TaskError(f"the network has the roles {', '.join(self.roles)}; call the factory of one of them")

    def places(self, network: nn.Module) -> dict[str, list[str]]:
        """Return the names of each role's modules in the network."""
        names = {id(module): name for name, module in network.named_modules()}
        return {role: [names[id(m)] for m in made if id(m) in names] for role, made in self.made.items()}

    def refuse_none(self, task: str, network: nn.Module) -> None:
        """Refuse a network that has not called the factory, or one of its roles'.

        Raises:
            TaskError: it names the role, and the attribute that holds the factory in the place of what it makes.
        """
        for role, made in self.made.items():
            if not made:
                of_role = f" of role '{role}'" if role else ""
                held = [
                    f"; {type(module).__name__} holds the factory itself: self.{name} = {role or 'activation'}()"
                    for module in network.modules()
                    for name, value in vars(module).items()
                    if value is self._factories[role]
                ]
                how = held[0] if held else "; call the factory that it is given"
                raise TaskError(f"network of task '{task}' makes no activation{of_role}{how}")
