"""Expressions for people: LaTeX for papers and reports, plain words for tables and messages, and short names for
pictures and headings, where a long expression would lie over its neighbours.

LaTeX and words fill the templates of the operators bottom up. In LaTeX, an argument is in parentheses where it binds
less tightly than its place requires; in plain words, every argument of two or more operands is in parentheses, so that
the text is unambiguous. A short name of the zoo is found by the structure of the expression, not by its values, so it
always reads back to the same expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache

from aquasurf_ray.activations.errors import ActivationError
from aquasurf_ray.activations.expression import Expression, parse
from aquasurf_ray.activations.formulas import matches
from aquasurf_ray.activations.grammar import Learned, spelled
from aquasurf_ray.activations.named_functions import ZOO
from aquasurf_ray.activations.registry import VARIABLE, Level, operator_named
from aquasurf_ray.activations.roles import Function, RoleFunctions, parse_function, parts_of

PLAIN = 20  # characters of a name that a picture shows as it is, without looking it up in the zoo
LONGEST = 28
_END = 9  # last characters of a cut name: the functions of one space often begin alike
_PLACE = re.compile(r"#([1-9*])")


def latex(expression: Function | str) -> str:
    r"""Return the expression in LaTeX, for math mode.

    >>> print(latex("mul(sigmoid(x),elu(negative(x)))"))
    \sigma\left(x\right) \cdot \operatorname{ELU}\left(-x\right)
    >>> print(latex("square(sub(x,add(x,x)))"))
    \left(x - \left(x + x\right)\right)^{2}
    >>> print(latex("mul(learn_channel(0.25),x)"))
    a_{c} \cdot x
    >>> print(latex("early=x;late=exp(x)"))
    \text{early: } x, \quad \text{late: } e^{x}
    """
    expression = parse_function(expression) if isinstance(expression, str) else expression
    if isinstance(expression, RoleFunctions):
        # Text mode takes an underscore for an error.
        names = {role: role.replace("_", r"\_") for role in expression.roles}
        formulas = (rf"\text{{{names[role]}: }} {latex(each)}" for role, each in expression.of_role.items())
        return r", \quad ".join(formulas)
    return _latex(expression.labelled())[0]


def words(expression: Function | str) -> str:
    """Return the expression in plain words.

    >>> words("mul(sigmoid(x),elu(x))")
    'sigmoid of x, times elu of x'
    >>> words("relu(max_n(x,exp(x),one(x)))")
    'relu of (the largest of x, exponential of x and one of x)'
    >>> words("early=relu(x);late=swish(x)")
    'early: relu of x; late: swish of x'
    """
    expression = parse_function(expression) if isinstance(expression, str) else expression
    if isinstance(expression, RoleFunctions):
        return "; ".join(f"{role}: {words(each)}" for role, each in expression.of_role.items())
    return _words(expression.labelled())


@lru_cache(maxsize=10_000)
def readable(function: str) -> str:
    """Return the name that people read a function by, which commands take too: a long expression of the zoo's has its
    name there, in each role if there are roles; any other text is as it is.

    >>> readable("add(relu(x),mul(0.1,min(x,0)))"), readable("mul(hard_sigmoid(x),bessel_i1e(x))")
    ('leaky_relu(x,0.1)', 'mul(hard_sigmoid(x),bessel_i1e(x))')
    >>> readable("early=relu(x);late=add(relu(x),mul(0.1,min(x,0)))")
    'early=relu(x);late=leaky_relu(x,0.1)'
    """
    if len(function) <= PLAIN:
        return function
    if parts := parts_of(function):
        return ";".join(f"{role}={readable(part)}" for role, part in parts.items())
    return _zoo_name(function) or function


@lru_cache(maxsize=10_000)
def short_name(function: str) -> str:
    """Return a function's name in at most `LONGEST` characters, for a picture or a heading.

    It is the one that people read (`readable`), cut if it is too long.

    >>> short_name("mul(sigmoid(x),erf(x))"), short_name("add(relu(x),mul(0.1,min(x,0)))")
    ('mul(sigmoid(x),erf(x))', 'leaky_relu(x,0.1)')
    >>> short_name("mul(hard_sigmoid(x),bessel_i1e(x))")
    'mul(hard_sigmoid(x…l_i1e(x))'
    """
    shown = readable(function)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - _END - 1]}…{shown[-_END:]}"


def _zoo_name(function: str) -> str | None:
    try:
        expression = parse(function)
    except ActivationError:  # a function per role, an operator that this process lacks, or another text
        return None
    published = _published().get(expression)
    if published is not None:
        return f"{published}(x)"
    for known, argument, constants in matches(expression):
        if constants and argument.text == VARIABLE:
            return f"{known.name}({','.join([VARIABLE, *map(spelled, constants)])})"
    return None


@cache
def _published() -> dict[Expression, str]:
    """Return the names of the zoo by their expressions with the published constants."""
    return {parse(known.name): known.name for known in reversed(ZOO)}


def _latex(expression: Expression) -> tuple[str, Level]:
    if expression.value is not None:
        return _latex_number(expression.text)
    if expression.learned is not None:
        return _latex_parameter(expression.learned), Level.ATOM
    if expression.operator is None:
        return VARIABLE, Level.ATOM
    entry = operator_named(expression.operator)
    arguments = []
    for position, argument in enumerate(expression.arguments):
        text, level = _latex(argument)
        # An n-ary operator lists the levels of its first arguments; the last one holds for the rest.
        required = entry.argument_levels[min(position, len(entry.argument_levels) - 1)]
        arguments.append(text if level >= required else rf"\left({text}\right)")
    return _filled(entry.latex, arguments, entry.joiner.join), entry.level


def _latex_number(text: str) -> tuple[str, Level]:
    mantissa, _, exponent = text.partition("e")
    latex = rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa
    # A sign binds like a sum, and a power of ten is a product: both need parentheses in a tighter place.
    return latex, Level.SUM if text.startswith("-") else Level.PRODUCT if exponent else Level.ATOM


def _latex_parameter(learned: Learned) -> str:
    """Return the parameter's name, with c for the channel that its value belongs to."""
    spelled_out = learned.label.replace("_", r"\_")
    name = spelled_out if len(spelled_out) == 1 else rf"\mathit{{{spelled_out}}}"
    return f"{name}_{{c}}" if learned.per_channel else name


def _words(expression: Expression) -> str:
    if expression.learned is not None:
        each = " for each channel" if expression.learned.per_channel else ""
        return f"{expression.learned.label} (learned{each}, from {spelled(expression.learned.initial)})"
    if expression.operator is None:
        return expression.text
    arguments = []
    for argument in expression.arguments:
        text = _words(argument)
        arguments.append(f"({text})" if len(argument.arguments) > 1 else text)
    return _filled(operator_named(expression.operator).words, arguments, _enumerated)


def _enumerated(arguments: list[str]) -> str:
    return f"{', '.join(arguments[:-1])} and {arguments[-1]}"


def _filled(template: str, arguments: list[str], join: Callable[[list[str]], str]) -> str:
    def place(match: re.Match[str]) -> str:
        return join(arguments) if match[1] == "*" else arguments[int(match[1]) - 1]

    return _PLACE.sub(place, template)
