"""A function per role as the factories that a network is made with: one for each role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.module import Activation
from aquasurf_ray.activations.roles import Function, RoleFunctions, function_of, parse_function

Make = Callable[[Expression], nn.Module]


@dataclass(frozen=True)
class RoleActivations:
    """The factories of a function per role; `Task.new_network` gives each role of the network its own.

    Args:
        expression: the functions by role.
        make: makes a module from the function of a role.

    >>> RoleActivations(parse_function("early=relu(x);late=swish(x)")).for_role("late")()
    Activation(swish(x))
    """

    expression: RoleFunctions
    make: Make = Activation

    @property
    def name(self) -> str:
        """The canonical spelling."""
        return self.expression.text

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have a function."""
        return self.expression.roles

    def for_role(self, role: str) -> Callable[[], nn.Module]:
        """Return the factory for a role's activations.

        Raises:
            ExpressionError: there is no such role.
        """
        return partial(self.make, function_of(self.expression, role))

    def __call__(self) -> nn.Module:
        """Refuse to make a module for no role.

        Raises:
            ActivationError: always.
        """
        raise ActivationError(
            f"{self.name} has a function for each role; make the network with task.new_network, which knows its roles"
        )


def activation_of(function: str | Function) -> Activation | RoleActivations:
    """Return a function as it is trained: a module, or the factories of its roles.

    Raises:
        ExpressionError: the text is not a function.

    >>> activation_of("relu"), activation_of("early=relu;late=x").name
    (Activation(relu(x)), 'early=relu(x);late=x')
    """
    function = parse_function(function) if isinstance(function, str) else function
    return RoleActivations(function) if isinstance(function, RoleFunctions) else Activation(function)


def factory_of(function: Function, make: Make = Activation) -> Callable[[], nn.Module]:
    """Return what makes a network's activations of a function: a factory, or those of its roles."""
    return RoleActivations(function, make) if isinstance(function, RoleFunctions) else partial(make, function)
