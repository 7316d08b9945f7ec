"""The language: what it accepts, how it prints, and what it says about everything else."""

from __future__ import annotations

import copy
import pickle
import time

import numpy as np
import pytest
import torch
from expression_strategies import EXPRESSIONS
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.activations import ActivationError, Expression, ExpressionError, OperatorError, parse
from aquasurf_ray.activations.expression import MAX_DEPTH, MAX_LENGTH

X = Expression()


SPACES = st.text(alphabet=" \t\n\r", max_size=3)


@given(EXPRESSIONS)
def test_printing_and_parsing_are_inverse(expression: Expression) -> None:
    again = parse(str(expression))
    assert again == expression
    assert hash(again) == hash(expression)
    assert (again.n_operators, again.depth) == (expression.n_operators, expression.depth)
    assert again.n_operators == str(expression).count("(")
    assert eval(repr(expression), {"parse": parse}) == expression


@given(EXPRESSIONS, st.data())
def test_white_space_between_tokens_means_nothing(expression: Expression, data: st.DataObject) -> None:
    spaced = "".join(data.draw(SPACES) + c + data.draw(SPACES) if c in "()," else c for c in str(expression))
    assert parse(spaced) == expression


@given(st.text(max_size=200) | st.text(alphabet="x(),sum_nreluadd \x00", max_size=60))
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    outcome = parsed_or_refused(text)
    if isinstance(outcome, ExpressionError):
        assert 1 <= outcome.position <= len(text) + 1
        assert str(outcome).isprintable()
        assert len(str(outcome)) < 200
    else:
        # a number has one spelling of many, and the name of a function alone is applied to x
        assert parse(str(outcome)) == outcome


def parsed_or_refused(text: str) -> Expression | ExpressionError:
    try:
        return parse(text)
    except ExpressionError as error:
        return error


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("mul(sigmiod(x),elu(x))", 5, "unknown operator 'sigmiod' at 5; did you mean 'sigmoid'?"),
        ("ReLU(x)", 1, "unknown operator 'ReLU' at 1; did you mean 'relu'?"),
        (
            "qqq(x)",
            1,
            "unknown operator 'qqq' at 1; for all operators: aquasurf zoo --operators; for your own: --modules MODULE, "
            "or register_unary in Python",
        ),
        ("", 1, "expected an operator, a number or x at 1, got the end; write a value there, such as x"),
        ("relu(", 6, "expected an operator, a number or x at 6, got the end; write a value there, such as x"),
        ("relu()", 6, "expected an operator, a number or x at 6, got ')'; write a value there, such as x"),
        ("relu(x", 7, "expected ',' or ')' at 7, got the end; close the bracket with ')'"),
        ("relu(x))", 8, "expected the end at 8, got ')'; remove it"),
        ("relu(x)x", 8, "expected the end at 8, got 'x'; remove the rest, or join both, as in mul(a,b)"),
        ("add(x,,x)", 7, "expected an operator, a number or x at 7, got ','; write a value there, such as x"),
        ("add(x x)", 7, "expected ',' or ')' at 7, got 'x'; separate arguments with commas"),
        ("mul(x)", 1, "operator 'mul' at 1 takes 2 arguments, got 1"),
        (" relu(x, x)", 2, "operator 'relu' at 2 takes 1 argument, got 2"),
        ("sum_n(x)", 1, "operator 'sum_n' at 1 takes 2 or more arguments, got 1"),
        ("mul(relu,x)", 5, "operator 'relu' at 5 lacks arguments; write relu(x)"),
        ("add", 1, "operator 'add' at 1 lacks arguments; write add(x,x)"),
        ("add(x,y)", 7, "unknown name 'y' at 7; the variable is x"),
        ("x(x)", 1, "the variable x at 1 takes no arguments; write x alone"),
        ("relu(2)x", 8, "expected the end at 8, got 'x'; remove the rest, or join both, as in mul(a,b)"),
        ("re\x00lu(x)", 3, "unexpected character '\\x00' at 3; write names, numbers, commas and brackets"),
        ("relu\u200b(x)", 5, "unexpected character '\\u200b' at 5; write names, numbers, commas and brackets"),
        ("relu(x)\x1b[31m", 8, "unexpected character '\\x1b' at 8; write names, numbers, commas and brackets"),
        (
            "__import__('os').system('true')",
            12,
            'unexpected character "\'" at 12; write names, numbers, commas and brackets',
        ),
        ("().__class__", 1, "expected an operator, a number or x at 1, got '('; write a value there, such as x"),
    ],
)
@pytest.mark.reliability("hostile-text")
def test_errors_name_the_fault_and_its_column(text: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert caught.value.position == position
    assert pickle.loads(pickle.dumps(caught.value)).position == position


@pytest.mark.parametrize(
    "text",
    [
        "relu(" * 100_000 + "x" + ")" * 100_000,
        "(" * 10_000_000,
        "x" * 10_000_000,
        " " * 10_000_000,
        "relu(" * 1_900 + "x",
        "\x00" * 5_000,
        "a" * 9_999,
        "add(x," * (MAX_LENGTH // 6),
    ],
    ids=["deep", "parens", "long-name", "spaces", "open", "control", "name", "commas"],
)
@pytest.mark.reliability("hostile-text")
def test_hostile_texts_are_refused_at_once(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert time.perf_counter() - start < 0.5
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("thing", [None, 3, b"relu(x)", ["relu(x)"]])
def test_what_is_no_text_is_refused(thing: object) -> None:
    with pytest.raises(ExpressionError, match="expected an expression as text"):
        parse(thing)  # type: ignore[arg-type]


def test_bounds_hold_for_built_trees_too() -> None:
    expression = X
    for _ in range(MAX_DEPTH):
        expression = Expression("relu", (expression,))
    assert parse(str(expression)) == expression
    with pytest.raises(ExpressionError, match="too large"):
        Expression("relu", (expression,))
    with pytest.raises(ExpressionError, match="too large"):
        doubled(60)


def doubled(times: int) -> Expression:
    """An expression of 2**times leaves, if nothing stops it."""
    expression = X
    for _ in range(times):
        expression = Expression("add", (expression, expression))
    return expression


def test_trees_of_unknown_operators_or_wrong_arity_cannot_be_built() -> None:
    with pytest.raises(OperatorError, match="unknown operator 'rleu'; did you mean 'relu'"):
        Expression("rleu", (X,))
    with pytest.raises(OperatorError):
        Expression(None, (X,))
    with pytest.raises(ExpressionError, match="takes 1 argument, got 0"):
        Expression("relu")
    assert issubclass(OperatorError, ActivationError)


def test_an_expression_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse("relu(x)").text = "elu(x)"  # type: ignore[misc]


def test_a_pickle_holds_the_text_alone() -> None:
    expression = parse("mul(sigmoid(x),elu(x))")
    data = pickle.dumps(expression)
    assert b"torch" not in data
    assert pickle.loads(data) == copy.deepcopy(expression) == expression


def test_evaluation_composes_the_operators() -> None:
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)
    expression = parse("div(sum_n(exp(x),negative(x),x),max(square(x),one(x)))")
    numbers = x.numpy()
    expected = np.exp(numbers) / np.maximum(numbers**2, 1.0)
    np.testing.assert_allclose(expression.evaluate(x).numpy(), expected, rtol=1e-13)
    assert parse("x").evaluate(x) is x


def test_a_sub_expression_that_occurs_twice_is_computed_once() -> None:
    from aquasurf_ray.activations import register_unary, unregister

    calls = []
    register_unary("counted_here", lambda x: (calls.append(1), x + 1)[1])
    try:
        result = parse("mul(counted_here(x),add(counted_here(x),counted_here(counted_here(x))))").evaluate(
            torch.ones(1)
        )
    finally:
        unregister("counted_here")
    assert result.tolist() == [10.0]
    assert len(calls) == 2
