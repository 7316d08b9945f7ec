"""An expression as source text of a framework: nested calls, with a separate line for each repeated sub-expression.

A `Language` is a table from operators to templates, in which `{0}`, `{1}` stand for arguments, with the definitions
that some operators need above the function. An argument is always a name, a call, or an expression in parentheses.
Learned parameters are local names, `learned_a` for a, which a language's `learning` brings from where it keeps them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from aquasurf_ray.activations.errors import OperatorError
from aquasurf_ray.activations.expression import Expression, parse, reads_x
from aquasurf_ray.activations.formulas import Match, kernel_match
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.registry import LEARNED, VARIABLE
from aquasurf_ray.activations.rendering import latex, words

_LITERAL = re.compile(r"\(?-?[0-9.]+(?:e[+-]?[0-9]+)?\)?")


@dataclass(frozen=True)
class Language:
    """The spelling of the built-in operators in a framework.

    Attributes:
        title: its name for display.
        frame: the file, with the places `{imports}`, `{definitions}`, `{class_name}`, `{name}`, `{latex}`, `{words}`,
            `{expression}`, `{lines}` and `{result}`.
        imports: import lines by key: a line is written if the function's text contains its key.
        indent: the indentation of the function's lines in the frame.
        operators: a template for each operator of one or two arguments.
        joiners: for each operator of many arguments, the two-argument operator that folds them from left to right.
        definitions: the definitions that operators need above the function, by operator.
        kernels: a template for each function of the zoo that the framework computes by one call, with `{1}`, `{2}` for
            its constants.
        bounds: a template for `max` and `min` of an argument and a number, where that differs from `operators`.
        learning: how it keeps learned parameters.
    """

    title: str
    frame: str
    imports: Mapping[str, str]
    indent: int
    operators: Mapping[str, str]
    joiners: Mapping[str, str]
    definitions: Mapping[str, str] = field(default_factory=dict)
    kernels: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, str] = field(default_factory=dict)
    learning: Learning = field(default_factory=lambda: Learning())


@dataclass(frozen=True)
class Learning:
    """The form of learned parameters in a language. Templates have the places `{name}` and `{initial}`; those of
    parameters of channels come second. Everything is left out of functions without learned parameters.

    Attributes:
        declarations: a line for each parameter where they are created.
        uses: a line at the start of the function for each parameter.
        frame: replaces the language's frame; it has the place `{declarations}`, and `{channels}` where the number of
            channels is an argument.
        indent, line_indent: the indentation of the declarations, and of the function's lines.
        channels: the text for the place `{channels}`.
        begin_channels: a line before the declarations, for functions with parameters of channels.
    """

    declarations: tuple[str, str] = ("", "")
    uses: tuple[str, str] = ("", "")
    frame: str = ""
    indent: int = 8
    line_indent: int = 4
    channels: str = ""
    begin_channels: str = ""


def source(expression: Expression | str, language: Language) -> str:
    """Return the function's file in a language, ready for use without any package but the framework.

    Raises:
        ExpressionError: the text is not an expression.
        OperatorError: an operator is not built in.
    """
    expression = parse(expression) if isinstance(expression, str) else expression
    body = _Body(language)
    labelled = _with_shape_of_x(expression.labelled())
    parameters, learning = labelled.parameters, language.learning
    body.lines += [learning.uses[each.per_channel].format(name=_learned_name(each)) for each in parameters]
    body.count(labelled)
    result = _bare(body.text(labelled))
    used = [text for name, text in language.definitions.items() if name in body.used]
    has_channels = any(each.per_channel for each in parameters)
    declarations = [learning.begin_channels] if has_channels and learning.begin_channels else []
    declarations += [
        learning.declarations[each.per_channel].format(name=_learned_name(each), initial=each.initial)
        for each in parameters
    ]
    text = "".join((*used, *body.lines, result, *declarations))
    frame, indent = (learning.frame, learning.line_indent) if parameters else (language.frame, language.indent)
    return frame.format(
        declarations="".join(f"{' ' * learning.indent}{line}\n" for line in declarations),
        channels=learning.channels if has_channels else "",
        imports="".join(line for key, line in language.imports.items() if key in text),
        definitions="".join(f"\n\n\n{text}" for text in used),
        class_name=class_name(expression),
        name=function_name(expression),
        latex=latex(expression),
        words=words(expression),
        expression=expression,
        lines="".join(f"{' ' * indent}{line}\n" for line in body.lines),
        result=result,
    )


def _with_shape_of_x(expression: Expression) -> Expression:
    """Return the expression plus zero times x where it does not read x, so that its value has x's shape."""
    if reads_x(expression):
        return expression
    return Expression("add", (Expression("zero", (Expression(),)), expression))


def _learned_name(learned: Learned) -> str:
    return f"learned_{learned.label}"


def class_name(expression: Expression) -> str:
    """Return a class name in Python's style, from the operators from left to right.

    >>> class_name(parse("mul(sigmoid(x),elu(x))"))
    'MulSigmoidElu'
    """
    operators = _operators(expression)
    return "".join(part.capitalize() for name in operators for part in name.split("_")) or "Identity"


def function_name(expression: Expression) -> str:
    """Return a function name in Python's style.

    >>> function_name(parse("mul(sigmoid(x),elu(x))"))
    'mul_sigmoid_elu'
    """
    return "_".join(_operators(expression)) or "identity"


def _operators(expression: Expression) -> list[str]:
    return [name for name in re.findall(r"[a-z_0-9]+(?=\()", str(expression)) if name not in LEARNED]


class _Body:
    """The function's lines, and the operators used so far."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._counts: Counter[Expression] = Counter()
        self._names: dict[Expression, str] = {}
        self.lines: list[str] = []
        self.used: set[str] = set()

    def count(self, expression: Expression) -> None:
        """Count the occurrences of each sub-expression."""
        self._counts[expression] += 1
        if self._counts[expression] == 1:
            kernel = self._kernel(expression)
            for argument in (kernel.argument,) if kernel else expression.arguments:
                self.count(argument)

    def text(self, expression: Expression) -> str:
        """Return the expression as an argument; repeated sub-expressions are computed above and named."""
        if expression.learned is not None:
            return _learned_name(expression.learned)
        if expression.operator is None:
            return VARIABLE if expression.value is None else _literal(expression.value)
        if expression in self._names:
            return self._names[expression]
        text = self._called(expression, expression.operator)
        if self._counts[expression] == 1:
            return text
        name = f"part_{len(self._names) + 1}"
        self.lines.append(f"{name} = {_bare(text)}")
        self._names[expression] = name
        return name

    def _kernel(self, expression: Expression) -> Match | None:
        return kernel_match(expression) if self._language.kernels else None

    def _called(self, expression: Expression, operator: str) -> str:
        kernel = self._kernel(expression)
        if kernel is not None:
            template = self._language.kernels[kernel.function.name]
            return template.format(self.text(kernel.argument), *kernel.constants)
        return self._filled(operator, [self.text(argument) for argument in expression.arguments])

    def _filled(self, operator: str, arguments: list[str]) -> str:
        self.used.add(operator)
        if operator in self._language.joiners:
            joiner, result = self._language.joiners[operator], arguments[0]
            for argument in arguments[1:]:
                result = self._applied(joiner, [result, argument])
            return result
        return self._applied(operator, arguments)

    def _applied(self, operator: str, arguments: list[str]) -> str:
        bound = self._language.bounds.get(operator)
        numbers = [argument for argument in arguments if _LITERAL.fullmatch(argument)]
        if bound and len(numbers) == 2:
            chosen = {"max": max, "min": min}[operator](float(number.strip("()")) for number in numbers)
            return _literal(chosen)
        if bound and numbers:
            return bound.format(*(argument for argument in arguments if argument not in numbers), *numbers)
        template = self._language.operators.get(operator, "")
        if not template:
            raise OperatorError(
                f"operator '{operator}' has no {self._language.title} source: it is not built in; take its code "
                "from the module that registers it"
            )
        return template.format(*arguments)


def _literal(value: float) -> str:
    """Return a number in the languages' spelling, in parentheses if it has a sign.

    >>> _literal(2.0), _literal(-0.5)
    ('2.0', '(-0.5)')
    """
    return f"({value!r})" if value < 0 else repr(value)


def _bare(text: str) -> str:
    """Return the text without parentheses around the whole.

    >>> _bare("(a + b)"), _bare("(a) + (b)")
    ('a + b', '(a) + (b)')
    """
    if not text.startswith("("):
        return text
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[1:-1] if position == len(text) - 1 else text
    return text
