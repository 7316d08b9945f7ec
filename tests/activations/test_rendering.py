"""LaTeX that typesets, and words that can be read in one way only."""

from __future__ import annotations

import pytest
from expression_strategies import EXPRESSIONS
from hypothesis import given, settings
from matplotlib.mathtext import MathTextParser

from aquasurf_ray.activations import Expression, all_operators, latex, parse, words
from aquasurf_ray.activations.rendering import readable


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_latex_typesets(expression: Expression) -> None:
    MathTextParser("agg").parse(f"${latex(expression)}$")


@pytest.mark.parametrize("operator", [entry.name for entry in all_operators()])
def test_every_operator_typesets_and_differs_from_its_argument(operator: str) -> None:
    kind = next(entry.kind for entry in all_operators() if entry.name == operator)
    text = f"{operator}({','.join(['x'] * {'unary': 1, 'binary': 2, 'nary': 4}[kind])})"
    MathTextParser("agg").parse(f"${latex(text)}$")
    assert latex(text) != "x"
    assert words(text).count("x") >= text.count("x") - operator.count("x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "x"),
        ("sub(x,sub(x,x))", r"x - \left(x - x\right)"),
        ("sub(sub(x,x),x)", "x - x - x"),
        ("add(x,negative(x))", r"x + \left(-x\right)"),
        ("negative(add(x,x))", r"-\left(x + x\right)"),
        ("negative(mul(x,x))", r"-x \cdot x"),
        ("mul(negative(x),x)", r"\left(-x\right) \cdot x"),
        ("mul(add(x,x),div(x,x))", r"\left(x + x\right) \cdot \frac{x}{x}"),
        ("square(square(x))", r"\left(x^{2}\right)^{2}"),
        ("square(exp(x))", r"\left(e^{x}\right)^{2}"),
        ("pow(tanh(x),add(x,x))", r"\tanh\left(x\right)^{x + x}"),
        ("sum_n(x,mul(x,x),sum_n(x,x))", r"x + x \cdot x + \left(x + x\right)"),
        ("prod_n(sub(x,x),x,abs(x))", r"\left(x - x\right) \cdot x \cdot \left|x\right|"),
        ("max_n(x,exp(x),x)", r"\max\left(x, e^{x}, x\right)"),
    ],
)
def test_latex_has_the_parentheses_that_it_needs(text: str, expected: str) -> None:
    assert latex(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mul(sigmoid(x),elu(x))", "sigmoid of x, times elu of x"),
        ("selu(sinh(expm1(arctan(x))))", "selu of hyperbolic sine of exponential minus one of arc tangent of x"),
        ("sub(x,sub(x,x))", "x, minus (x, minus x)"),
        ("sub(sub(x,x),x)", "(x, minus x), minus x"),
        ("prod_n(sigmoid(x),negative(x),x)", "the product of sigmoid of x, negative of x and x"),
        ("max(x,sum_n(x,x))", "the larger of x and (the sum of x and x)"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("softshrink(x,0.3)", "softshrink(x,0.3)"),
        ("softshrink(x)", "softshrink(x)"),
        ("hardtanh(x,-2.25,0.75)", "hardtanh(x,-2.25,0.75)"),
        ("leaky_relu(tanh(x),0.1)", str(parse("leaky_relu(tanh(x),0.1)"))),
    ],
)
def test_a_function_of_the_zoo_has_its_name_and_constants(written: str, name: str) -> None:
    assert readable(str(parse(written))) == name
    assert parse(name) == parse(written)


@settings(max_examples=300)
@given(EXPRESSIONS, EXPRESSIONS)
def test_different_expressions_read_differently(first: Expression, second: Expression) -> None:
    assert (words(first) == words(second)) == (first == second)
