"""The expression language: an immutable tree, its spelling, and its evaluation.

    expression = "x" | number | learned | operator "(" expression { "," expression } ")"

A number is a decimal constant such as `0.5`, `-2` or `1e-3`. It is spelled with the fewest digits that read back to
the same float64. An operator whose arguments are all numbers is computed at once (`add(1,0.5)` is `1.5`), so a
constant is always a leaf. `learn(1)` and `learn_channel(0.25)` are learned parameters with their initial values: one
for each layer that uses the function, and one for each of its channels. Written twice they are two parameters, unless
both have the same label: `learn(1,a)`. The names of the zoo (`named_functions.py`) are read like operators and replaced
by their expressions; a name that is the whole text, such as `relu` or `hardswish`, is applied to x. Python's arithmetic
is read too (`infix.py`). White space may stand between tokens. `str` prints the one canonical spelling, without spaces,
and `parse(str(e)) == e` holds for every expression.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.grammar import MAX_DEPTH, MAX_LENGTH, Learned, checked_label, parse_tree, spelled
from aquasurf_ray.activations.infix import prefixed
from aquasurf_ray.activations.named_functions import NamedFunction, all_names, free_labels, named_function
from aquasurf_ray.activations.registry import (
    LEARNED,
    VARIABLE,
    Elementwise,
    Operator,
    find_operator,
    operator_named,
    shortened,
    suggestion,
)

if TYPE_CHECKING:
    from torch import Tensor, dtype

_OF_ROLES = re.compile(r"\s*[A-Za-z_]\w*\s*=(?!=)")  # what `roles.parse_function` reads
_LABEL = re.compile(rf"\b(?:{'|'.join(LEARNED)})\s*\([^(),]*,\s*(\w+)")  # of a learned parameter in a text
_VARIABLE = re.compile(rf"\b{VARIABLE}\b")
_NO_OPERATOR = re.compile(rf"\b({'|'.join(LEARNED)})\(")


@dataclass(frozen=True, slots=True, repr=False)
class Expression:
    """A function of x as a tree: the variable, a number (`value` is set), a learned parameter (`learned` is set), or an
    operator applied to arguments.

    Equality, hash and pickle depend on the canonical spelling alone, so expressions are equal if they are spelled
    alike. Whether two expressions compute the same function is decided by `fingerprint`.

    Raises:
        OperatorError: if the operator is unknown.
        ExpressionError: if it does not take this number of arguments, the tree exceeds the bounds, a number is not
            finite, or one label stands for two different learned parameters.

    >>> Expression("negative", (Expression(),))
    parse('negative(x)')
    >>> Expression("mul", (Expression(value=0.50), Expression()))
    parse('mul(0.5,x)')
    >>> Expression("exp", (Expression(value=1.0),)).value
    2.718281828459045
    >>> Expression("mul", (Expression(learned=Learned(1.0)), Expression()))
    parse('mul(learn(1),x)')
    """

    operator: str | None = field(default=None, compare=False)
    arguments: tuple[Expression, ...] = field(default=(), compare=False)
    value: float | None = field(default=None, compare=False)
    learned: Learned | None = field(default=None, compare=False)
    text: str = field(init=False)
    n_operators: int = field(init=False, compare=False)
    depth: int = field(init=False, compare=False)
    parameters: tuple[Learned, ...] = field(init=False, compare=False)
    """The learned parameters in the order in which they are written, each of those with a label once."""
    has_numbers: bool = field(init=False, compare=False)
    """Whether there are constants or learned parameters in it."""

    def __post_init__(self) -> None:
        text, n_operators, depth = VARIABLE, 0, 0
        parameters: tuple[Learned, ...] = ()
        if self.operator is not None or self.arguments:
            entry = operator_named(self.operator or "")
            _check_arguments(entry, self.arguments)
            self._fold(entry)
        if self.value is not None:
            text = spelled(self.value)
            # As it is spelled: -0.0 would compute something else than the same text read back.
            object.__setattr__(self, "value", self.value + 0.0)
        elif self.learned is not None:
            _ = self.learned.label and checked_label(self.learned.label)
            object.__setattr__(self, "learned", self.learned._replace(initial=self.learned.initial + 0.0))
            text, parameters = self.learned.text, (self.learned,)
        elif self.operator is not None:
            text = f"{self.operator}({','.join(argument.text for argument in self.arguments)})"
            n_operators = 1 + sum(argument.n_operators for argument in self.arguments)
            depth = 1 + max(argument.depth for argument in self.arguments)
            parameters = _joined([argument.parameters for argument in self.arguments])
        if len(text) > MAX_LENGTH or depth > MAX_DEPTH:
            raise ExpressionError(
                f"expression of {len(text)} letters and depth {depth} is too large; write a smaller one", 1
            )
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "n_operators", n_operators)
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "parameters", parameters)
        has_number = self.value is not None or self.learned is not None
        object.__setattr__(self, "has_numbers", has_number or any(each.has_numbers for each in self.arguments))

    def _fold(self, entry: Operator) -> None:
        """Become a number where a built-in operator is applied to numbers only."""
        numbers = [argument.value for argument in self.arguments]
        if entry.built_in and None not in numbers:
            result = _folded(entry, [number for number in numbers if number is not None])
            if not math.isfinite(result):
                called = f"{entry.name}({','.join(argument.text for argument in self.arguments)})"
                raise ExpressionError(f"{called} is {result}; constants must be finite", 1)
            for name, content in (("operator", None), ("arguments", ()), ("value", result)):
                object.__setattr__(self, name, content)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the learned parameters: their labels, and the free letters of a, b, c ... for those without.

        >>> parse("add(mul(learn(1),x),mul(learn(0.5,a),square(x)))").parameter_names
        ('b', 'a')
        """
        return tuple(parameter.label for parameter in self.labelled().parameters)

    def labelled(self) -> Expression:
        """Return the expression with the name of every learned parameter as its label, so that equal parts of it are
        the same function of the same parameters.

        >>> parse("add(mul(learn(1),x),learn(1))").labelled()
        parse('add(mul(learn(1,a),x),learn(1,b))')
        """
        return _labelled(self, free_labels({parameter.label for parameter in self.parameters}))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"parse({self.text!r})"

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        """Pickle the text alone, so that only the language crosses processes."""
        return parse, (self.text,)

    def evaluate(self, x: Tensor) -> Tensor:
        """Return the function's values at `x`, with learned parameters at their initial values: a tensor of the same
        shape.

        >>> import torch
        >>> parse("mul(x, add(x, x))").evaluate(torch.tensor([1.0, 3.0]))
        tensor([ 2., 18.])
        """
        return run_program(program_of(self), x, [x.new_tensor(parameter.initial) for parameter in self.parameters])


def _folded(entry: Operator, numbers: list[float]) -> float:
    if entry.name == "mul":  # the only one in the zoo's formulas, which tables look names up in without PyTorch
        return math.prod(numbers)
    import torch

    return float(entry.function(*(torch.tensor(number, dtype=torch.float64) for number in numbers)).item())


def parse(text: str) -> Expression:
    """Return the expression that a text spells.

    Raises:
        ExpressionError: if the text is not in the language; `position` is the 1-based column.

    >>> str(parse(" mul( sigmoid(x), elu(x) ) "))
    'mul(sigmoid(x),elu(x))'
    >>> str(parse("relu")), str(parse("relu6(tanh(x))"))
    ('relu(x)', 'min(relu(tanh(x)),6)')
    >>> str(parse("x*sigmoid(x)"))
    'mul(x,sigmoid(x))'
    >>> parse("mul(sigmiod(x),elu(x))")
    Traceback (most recent call last):
        ...
    aquasurf_ray.activations.errors.ExpressionError: unknown operator 'sigmiod' at 5; did you mean 'sigmoid'?
    """
    is_long = isinstance(text, str) and len(text) > MAX_LENGTH  # refused below, before anything searches it
    nested = text if is_long else prefixed(text)
    try:
        return parse_tree(_applied(nested), _Builder(nested).node, Expression(), _number_leaf, _learned_leaf)
    except ExpressionError as error:
        if isinstance(text, str) and not is_long and _OF_ROLES.match(text):
            each = f"{shortened(text)} has a function for each role; one function is needed here"
            raise ExpressionError(each, 1) from None
        if nested is text:
            raise
        position = min(error.position, len(text) + 1)  # that of the nested calls, which may be longer
        raise ExpressionError(f"{error}; it is read as {shortened(nested)}", position) from error


def _applied(text: str) -> str:
    """Return the text, and a name alone applied to x."""
    name = text.strip() if isinstance(text, str) else ""
    entry = find_operator(name)
    alone = entry.kind == "unary" if entry is not None else named_function(name) is not None
    return f"{text}({VARIABLE})" if alone else text


def count_operators(name: str) -> int:
    """Return the number of operators in a canonical spelling, without parsing it.

    >>> count_operators("mul(learn(1),relu(x))")
    2
    """
    return name.count("(") - len(_NO_OPERATOR.findall(name))


def _number_leaf(value: float) -> Expression:
    return Expression(value=value)


def _learned_leaf(learned: Learned) -> Expression:
    return Expression(learned=learned)


class _Builder:
    """Makes the nodes of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._taken: set[str] = set()

    def node(self, name: str, arguments: Sequence[Expression], position: int) -> Expression:
        """Return the expression of a call."""
        if name == VARIABLE:
            raise ExpressionError(f"the variable x at {position} takes no arguments; write x alone", position)
        entry, named = find_operator(name), named_function(name)
        if entry is not None and entry.accepts(len(arguments)):
            return Expression(name, tuple(arguments))
        if named is not None and (entry is None or (entry.built_in and named.constants)):
            return self._named(named, arguments, position)
        if entry is None:
            hint = suggestion(name, *LEARNED, *all_names())
            raise ExpressionError(f"unknown operator {shortened(name)} at {position}{hint}", position)
        raise ExpressionError(f"operator {name!r} at {position} takes {entry.takes}, got {len(arguments)}", position)

    def _named(self, named: NamedFunction, arguments: Sequence[Expression], position: int) -> Expression:
        """Return the expression of a function of the zoo: its argument comes first, or is x if left out, then
        constants. Each use of a function has learned parameters of its own."""
        argument, *constants = (Expression(), *arguments) if _is_constant(arguments[0]) else arguments
        if not all(map(_is_constant, constants)):
            raise ExpressionError(
                f"function {named.name!r} at {position} takes one argument and then numbers", position
            )
        if not constants and find_operator(named.name) is not None:
            return Expression(named.name, (argument,))
        self._taken.update(_LABEL.findall(self._text))
        function = parse(named.text([constant.text for constant in constants], position, self._taken))
        self._taken.update(parameter.label for parameter in function.parameters)
        if argument.parameters and len(_VARIABLE.findall(function.text)) > 1:
            # The formula has its argument in several places: what is written once there stays one parameter.
            argument = _labelled(argument, free_labels(self._taken))
            self._taken.update(parameter.label for parameter in argument.parameters)
        return _with_argument(function, argument)


def _is_constant(expression: Expression) -> bool:
    return expression.value is not None or expression.learned is not None


def _with_argument(expression: Expression, argument: Expression) -> Expression:
    """Return the expression with `argument` in the place of x."""
    if expression.operator is None:
        return argument if expression == Expression() else expression
    arguments = tuple(_with_argument(each, argument) for each in expression.arguments)
    return Expression(expression.operator, arguments)


def _check_arguments(entry: Operator, arguments: tuple[Expression, ...]) -> None:
    if not entry.accepts(len(arguments)):
        raise ExpressionError(f"operator {entry.name!r} takes {entry.takes}, got {len(arguments)}", 1)


def _joined(parts: Sequence[tuple[Learned, ...]]) -> tuple[Learned, ...]:
    """Return the parameters of all arguments, each label once."""
    found: list[Learned] = []
    labelled: dict[str, Learned] = {}
    for parameter in (parameter for part in parts for parameter in part):
        known = labelled.get(parameter.label)
        if known is None:
            found.append(parameter)
        elif known != parameter:
            raise ExpressionError(
                f"label {parameter.label!r} is {known.text} and {parameter.text}; uses of one parameter must be spelled"
                " alike",
                1,
            )
        if parameter.label:
            labelled[parameter.label] = parameter
    return tuple(found)


def _labelled(expression: Expression, names: Iterator[str]) -> Expression:
    if expression.learned is not None:
        return Expression(learned=expression.learned._replace(label=expression.learned.label or next(names)))
    if all(parameter.label for parameter in expression.parameters):
        return expression
    return Expression(expression.operator, tuple(_labelled(argument, names) for argument in expression.arguments))


# --- evaluation -----------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One operation: the function, the registers that it reads, and those of them that no later step reads."""

    function: Elementwise
    arguments: tuple[int, ...]
    released: tuple[int, ...]


Program = tuple[Step, ...]
"""An expression as a straight list of tensor operations, which is evaluated without walking the tree.

Registers are numbered in the order of computation; register 0 is x, and -1, -2, ... are the learned parameters. A
sub-expression that occurs twice is computed once. Tensors are released as early as a hand-written function would
release them.
"""


@dataclass(frozen=True)
class Number:
    """A constant as a function of x: a tensor of x's type and device, and of its shape if `full`, else without one."""

    value: float
    full: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_full(x.shape if self.full else (), number_in(x.dtype, self.value))


def number_in(type_: dtype, value: float) -> float:
    """Return a number as a float type has it: infinite where it is too large for the type, because filling a tensor
    with it is an error then, for float32 alone.

    >>> import torch
    >>> number_in(torch.float32, -1e39), number_in(torch.float64, -1e39)
    (-inf, -1e+39)
    """
    import torch

    is_too_large = type_ is torch.float32 and abs(value) > torch.finfo(type_).max
    return math.copysign(math.inf, value) if is_too_large else value


Kernel = tuple["Elementwise", Expression]
"""A function of one tensor that computes an expression at once, and the part of the expression that is its argument."""


def _no_kernel(_: Expression) -> Kernel | None:
    return None


def program_of(expression: Expression, kernel_of: Callable[[Expression], Kernel | None] = _no_kernel) -> Program:
    """Return the steps that compute an expression; the result of the last step is its value.

    Every operator is a step, as in the spelling, and so is every kernel that `kernel_of` has for a part of the
    expression, the largest part first. The identity of a function never depends on kernels, so it does without.

    A function without x is computed as `add(zero(x),c)`, so that it has x's shape and a gradient, which is 0.
    """
    expression = expression.labelled()
    writer = _Writer(expression.parameters, kernel_of)
    value = writer.register(expression)
    if not reads_x(expression):
        import torch

        value = writer.step(torch.add, writer.step(operator_named("zero").function, 0), value)
    last_use = {register: step for step, (_, arguments) in enumerate(writer.steps) for register in arguments}
    return tuple(
        Step(function, arguments, tuple(r for r in dict.fromkeys(arguments) if last_use[r] == step))
        for step, (function, arguments) in enumerate(writer.steps)
    )


def run_program(program: Program, x: Tensor, parameters: Sequence[Tensor] = ()) -> Tensor:
    """Return the value of a program at `x`, of the same shape.

    Args:
        parameters: the values of the expression's `parameters`, in their order: tensors that broadcast with x.
    """
    registers = {0: x}
    for number, value in enumerate(parameters, start=1):
        registers[-number] = value
    result = x
    for number, (function, arguments, released) in enumerate(program, start=1):
        result = function(*[registers[argument] for argument in arguments])
        registers[number] = result
        for register in released:
            del registers[register]
    return result


class _Writer:
    """The steps of a program while it is written, and the registers of what has been computed."""

    def __init__(self, parameters: Sequence[Learned], kernel_of: Callable[[Expression], Kernel | None]) -> None:
        self.steps: list[tuple[Elementwise, tuple[int, ...]]] = []
        self._kernel_of = kernel_of
        self._registers: dict[Expression, int] = {}
        self._parameters = {parameter: -number for number, parameter in enumerate(parameters, start=1)}

    def step(self, function: Elementwise, *arguments: int) -> int:
        """Append a step, and return the register of its result."""
        self.steps.append((function, arguments))
        return len(self.steps)

    def register(self, expression: Expression, *, full: bool = False) -> int:
        """Return the register with an expression's value, after appending the steps that it lacks.

        `full` asks for a value of x's shape, also where the expression does not read x: a user's own operator is
        promised arguments of one shape.
        """
        if expression.operator is None:
            return self._leaf(expression, full)
        register = self._registers.get(expression)
        if register is None:
            register = self._registers[expression] = self._computed(expression, operator_named(expression.operator))
        return self._expanded(register) if full and not reads_x(expression) else register

    def _computed(self, expression: Expression, entry: Operator) -> int:
        kernel = self._kernel_of(expression)
        if kernel is not None:
            function, argument = kernel
            return self.step(function, self.register(argument))
        arguments = [self.register(argument, full=not entry.built_in) for argument in expression.arguments]
        return self.step(entry.function, *arguments)

    def _leaf(self, leaf: Expression, full: bool) -> int:
        if leaf.value is not None:
            return self.step(Number(leaf.value, full), 0)
        if leaf.learned is None:
            return 0
        register = self._parameters[leaf.learned]
        return self._expanded(register) if full else register

    def _expanded(self, register: int) -> int:
        import torch

        return self.step(torch.Tensor.expand_as, register, 0)


def reads_x(expression: Expression) -> bool:
    """Return whether the variable occurs in an expression."""
    if expression.operator is None:
        return expression.value is None and expression.learned is None
    return any(map(reads_x, expression.arguments))
