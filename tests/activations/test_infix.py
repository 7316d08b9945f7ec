"""Python's arithmetic is read as Python reads it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aquasurf_ray.activations import parse
from aquasurf_ray.activations.errors import ExpressionError
from aquasurf_ray.activations.infix import prefixed

X = torch.tensor([0.25, 0.5, 1.5, 2.0], dtype=torch.float64)


def of_numbers_too(function):
    return lambda value: function(torch.as_tensor(value, dtype=torch.float64))


FUNCTIONS = {name: of_numbers_too(getattr(torch, name)) for name in ("sigmoid", "tanh", "abs")}
PYTHON = FUNCTIONS | {"torch": SimpleNamespace(**FUNCTIONS)}

leaves = st.sampled_from(["x", "x", "x", "1", "2", "0.5", "3.0", "1e-1"])


def joined(inner):
    binary = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", " + ", " * "]), inner).map("".join)
    called = st.tuples(st.sampled_from(["sigmoid", "tanh", "torch.tanh", "abs"]), inner).map(
        lambda p: f"{p[0]}({p[1]})"
    )
    around = st.tuples(st.sampled_from(["({})", "-{}", "{}**2"]), inner).map(lambda p: p[0].format(p[1]))
    return binary | called | around


@settings(deadline=None, max_examples=60)
@given(st.recursive(leaves, joined, max_leaves=8).map(lambda text: f"x + {text}"))
def test_values_are_those_of_python(text):
    try:
        expected = eval(text, PYTHON, {"x": X})
        found = parse(text).evaluate(X)
    except (ZeroDivisionError, OverflowError, ExpressionError) as error:  # constants such as 1/(1-1)
        assume("finite" not in str(error) and isinstance(error, ExpressionError))
        raise
    assume(bool(torch.isfinite(expected).all()))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x*sigmoid(x)", "mul(x,sigmoid(x))"),
        ("x * torch.sigmoid(x)", "mul(x,sigmoid(x))"),
        ("-x**2", "negative(pow(x,2))"),
        ("x**2**3", "pow(x,pow(2,3))"),
        ("x^2", "pow(x,2)"),
        ("x - 1 - x", "sub(sub(x,1),x)"),
        ("x/2/x", "div(div(x,2),x)"),
        ("2**-x", "pow(2,negative(x))"),
        ("-2*x", "mul(-2,x)"),
        ("max(x, 0.1*x)", "max(x,mul(0.1,x))"),
        ("1/(1+exp(-x))", "div(1,add(1,exp(negative(x))))"),
        ("1e-3*x", "mul(1e-3,x)"),
    ],
)
def test_infix_becomes_nested_calls(text, read):
    assert prefixed(text) == read


@pytest.mark.parametrize(
    "text", ["mul(x,sigmoid(x))", "mul(-2,x)", "add( -0.5 ,x)", "mul(1e-3,x)", "x", "relu", "", "a b"]
)
def test_what_has_no_arithmetic_operator_stays_as_it_is(text):
    assert prefixed(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x*", "an expression ends at 3 where a value is missing"),
        ("x*(x+1", "the bracket at 3 is not closed"),
        ("x*x)", r"unexpected '\)' at 4"),
        ("x*/x", "unexpected '/' at 3, where a value should be"),
        ("x*x x", "unexpected 'x' at 5, where an operator should be"),
        ("x*sigmiod(x)", r"unknown operator 'sigmiod' .*did you mean 'sigmoid'.*read as 'mul\(x,sigmiod\(x\)\)'"),
        ("x*y", r"read as 'mul\(x,y\)'"),
        ("x*$", r"unexpected '\$' at 3"),
    ],
)
def test_what_is_not_understood_is_explained(text, told):
    with pytest.raises(ExpressionError, match=told):
        parse(text)


def test_no_depth_of_brackets_or_signs_exhausts_the_stack():
    with pytest.raises(ExpressionError, match=r"deeper|too large|at most"):
        parse("-" * 5_000 + "x")
    assert str(parse("(" * 2_000 + "x*x" + ")" * 2_000)) == "mul(x,x)"
