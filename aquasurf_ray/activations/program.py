"""An expression as a straight list of tensor operations, for evaluation without walking the tree.

Registers are numbered in the order of computation; register 0 is x. A sub-expression that occurs twice is computed
once. Each step names the registers that it reads last, so that their tensors are released as early as a hand-written
function would release them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from aquasurf_ray.activations.registry import Elementwise, operator_named

if TYPE_CHECKING:
    from aquasurf_ray.activations.expression import Expression


class Step(NamedTuple):
    """One operation: the function, the registers it reads, and those of them that nothing reads later."""

    function: Elementwise
    arguments: tuple[int, ...]
    released: tuple[int, ...]


Program = tuple[Step, ...]


def build(expression: Expression) -> Program:
    """The steps that compute an expression; the last one's result is its value."""
    registers: dict[Expression, int] = {}
    steps: list[tuple[Elementwise, tuple[int, ...]]] = []
    _append(expression, registers, steps)
    last_use = {register: step for step, (_, arguments) in enumerate(steps) for register in arguments}
    return tuple(
        Step(function, arguments, tuple(r for r in dict.fromkeys(arguments) if last_use[r] == step))
        for step, (function, arguments) in enumerate(steps)
    )


def run(program: Program, x: Tensor) -> Tensor:
    """The value of a program at `x`, of the same shape."""
    registers = {0: x}
    result = x
    for number, (function, arguments, released) in enumerate(program, start=1):
        result = function(*[registers[argument] for argument in arguments])
        registers[number] = result
        for register in released:
            del registers[register]
    return result


def _append(
    expression: Expression, registers: dict[Expression, int], steps: list[tuple[Elementwise, tuple[int, ...]]]
) -> int:
    if expression.operator is None:
        return 0
    if expression not in registers:
        arguments = tuple(_append(argument, registers, steps) for argument in expression.arguments)
        steps.append((operator_named(expression.operator).function, arguments))
        registers[expression] = len(steps)
    return registers[expression]
