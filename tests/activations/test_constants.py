"""Numbers in expressions: spelled so that they read back to the same bits, folded, and exact in every form."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.activations import (
    Activation,
    CompiledActivation,
    Expression,
    ExpressionError,
    RecomputedActivation,
    SearchSpace,
    SpaceError,
    fingerprint,
    latex,
    parse,
    register_binary,
    unique_functions,
    unregister,
    words,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
X = torch.linspace(-4, 4, 129, dtype=torch.float64)


@given(FINITE)
def test_a_number_reads_back_to_the_same_bits(value):
    text = str(Expression("mul", (Expression(value=value), Expression())))
    read = parse(text).arguments[0].value
    assert np.float64(read).tobytes() == np.float64(value + 0.0).tobytes(), "but that zero has no sign"
    assert str(parse(text)) == text
    assert pickle.loads(pickle.dumps(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("mul(0.50,x)", "mul(0.5,x)"),
        ("mul(.5,x)", "mul(0.5,x)"),
        ("min(x,6.0)", "min(x,6)"),
        ("add(x,-0)", "add(x,0)"),
        ("add(x,1E-3)", "add(x,0.001)"),
        ("mul(1e-7,x)", "mul(1e-07,x)"),
        ("add(1,0.5)", "1.5"),
        ("mul(x,exp(1))", f"mul(x,{math.e!r})"),
        ("max_n(1,2,3)", "3"),
        ("mul(relu(-3),x)", "mul(0,x)"),
    ],
)
def test_a_text_has_one_canonical_spelling(written, canonical):
    assert str(parse(written)) == canonical


def test_the_order_and_the_digits_of_a_number_are_no_other_function():
    assert fingerprint("mul(0.50,x)") == fingerprint("mul(x,0.5)") == fingerprint("div(x,2)")
    assert fingerprint("mul(0.5,x)") != fingerprint("mul(0.5001,x)")
    assert fingerprint("add(zero(x),0)") == fingerprint("zero(x)") == fingerprint("0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mul(1e999,x)", "number '1e999' at 5 is too large; write one that float64 can hold"),
        ("reciprocal(0)", "reciprocal(0) is inf; constants must be finite"),
        ("add(x,sqrt(-1))", "sqrt(-1) is nan; constants must be finite"),
        ("2x", "expected the end at 2, got 'x'; remove the rest, or join both, as in mul(a,b)"),
        ("mul(2,x", "expected ',' or ')' at 8, got the end; close the bracket with ')'"),
        ("2(x)", "expected the end at 2, got '('; remove the rest, or join both, as in mul(a,b)"),
        ("1.2.3", "expected the end at 4, got '.3'; remove the rest, or join both, as in mul(a,b)"),
        ("mul(nan,x)", "unknown name 'nan' at 5; the variable is x"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(text, says):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value) == says


def test_numbers_that_are_not_finite_cannot_be_built():
    for value in (math.inf, math.nan):
        with pytest.raises(ExpressionError, match="constants must be finite"):
            Expression(value=value)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("mul(x,sigmoid(mul(1.702,x)))", lambda x: x / (1 + np.exp(-1.702 * x))),
        ("min(max(x,0),6)", lambda x: np.clip(x, 0, 6)),
        ("square(add(max(x,0),mul(0.5,min(x,0))))", lambda x: np.where(x > 0, x, x / 2) ** 2),
        ("mul(0.5,add(x,sqrt(add(square(x),4))))", lambda x: (x + np.sqrt(x * x + 4)) / 2),
        ("exp(mul(-0.5,square(x)))", lambda x: np.exp(-x * x / 2)),
        ("add(x,square(sin(x)))", lambda x: x + np.sin(x) ** 2),
        ("sub(2,x)", lambda x: 2 - x),
        ("pow(2,x)", np.exp2),
        ("div(1,add(1,square(x)))", lambda x: 1 / (1 + x * x)),
        ("sum_n(1,x,2)", lambda x: x + 3),
        ("0.25", lambda x: np.full_like(x, 0.25)),
    ],
)
def test_a_function_with_numbers_has_its_formulas_values(text, formula):
    np.testing.assert_allclose(Activation(text)(X).numpy(), formula(X.numpy()), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("form", [Activation, RecomputedActivation, CompiledActivation])
@pytest.mark.parametrize("text", ["mul(x,sigmoid(mul(1.702,x)))", "max(mul(0.1,x),min(x,6))", "0.5"])
@pytest.mark.slow
def test_gradients_are_the_functions_in_every_form(form, text):
    x = torch.randn(8, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(form(text), (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_number_changes_neither_type_nor_memory_format(dtype):
    x = torch.randn(2, 3, 4, 4).to(dtype, memory_format=torch.channels_last)
    for text in ("mul(0.1,x)", "max(-0.5,x)", "sub(1,x)", "0.5"):
        y = Activation(text)(x)
        assert (y.dtype, y.shape) == (dtype, x.shape)
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_a_users_operator_gets_tensors_of_one_shape():
    shapes = []

    def first(a, b):
        shapes.append((a.shape, b.shape))
        return a + b

    register_binary("shaped_sum", first)
    try:
        x = torch.zeros(3, 2)
        assert Activation("shaped_sum(x,0.5)")(x).unique().tolist() == [0.5]
        assert shapes[-1] == (x.shape, x.shape)
        assert str(parse("shaped_sum(1,2)")) == "shaped_sum(1,2)", "only built-in operators are computed at once"
    finally:
        unregister("shaped_sum")


def test_a_space_may_have_numbers(tmp_path):
    space = SearchSpace.define(
        "numbers",
        ["binary(unary(x),0.5)", "mul(2,unary(x))"],
        unary=["relu", "tanh"],
        binary=["add", "mul"],
        names=["min(x,6)", "0.5", "add(relu(x),relu(x))"],
    )
    table = unique_functions(space, cache_dir=tmp_path)
    assert set(table.names) == {
        "add(relu(x),0.5)",
        "add(tanh(x),0.5)",
        "mul(relu(x),0.5)",
        "mul(tanh(x),0.5)",
        "mul(2,relu(x))",
        "mul(2,tanh(x))",
        "min(x,6)",
        "0.5",
    }
    assert list(table.fingerprints) == [fingerprint(name) for name in table.names]
    assert parse("mul(tanh(x),0.5)") in space
    assert parse("mul(tanh(x),0.25)") not in space


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (
            "binary(unary(x),unary(-1))",
            "'unary' at 17 has only numbers as arguments, which is a number; write the number",
        ),
        ("mul(x,add(1,2))", "'add' at 7 has only numbers as arguments, which is a number; write the number"),
        (
            "mul(learn(1,a),unary(learn(2,a)))",
            "label 'a' is learn(1,a) and learn(2,a); uses of one parameter must be spelled",
        ),
    ],
)
def test_a_schema_whose_names_are_no_functions_is_refused_where_it_is_defined(schema, says):
    with pytest.raises(SpaceError) as caught:
        SearchSpace.define("numbers", [schema], unary=["tanh", "sqrt"], binary=["add", "mul"])
    assert str(caught.value).startswith(f"schema {schema!r}: {says}")


def test_every_name_of_a_space_with_numbers_is_canonical():
    schemas = ["binary(unary(x),0.5)", "mul(learn(1),unary(x))", "unary(learn_channel(2))"]
    space = SearchSpace.define("numbers", schemas, unary=["tanh", "sqrt"], binary=["add", "mul"])
    assert [str(parse(name)) for name in space.names()] == list(space.names())
    assert all(parse(name) in space for name in space.names())


def test_numbers_are_rendered_for_people():
    assert latex("mul(x,sub(x,-0.5))") == r"x \cdot \left(x - \left(-0.5\right)\right)"
    assert latex("mul(1e-07,x)") == r"1 \cdot 10^{-7} \cdot x"
    assert words("min(max(x,0),6)") == "the smaller of (the larger of x and 0) and 6"


@pytest.mark.parametrize("text", ["div(x,-0.0)", "mul(-0.0,x)", "max(negative(0),x)", "div(x,learn(-0.0))"])
def test_a_zero_has_no_sign_as_it_has_none_in_the_name(text):
    """1 / -0 is minus infinity, and the name says 1 / 0."""
    x = torch.tensor([[2.0, -2.0]])
    given, read_back = Activation(text)(x), Activation(str(parse(text)))(x)
    assert torch.equal(given, read_back)
    assert torch.equal(given.signbit(), read_back.signbit())
    assert not parse("-0.0").text.startswith("-")


@pytest.mark.parametrize("form", [Activation, RecomputedActivation])
@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("min(x,1e39)", lambda x: x),
        ("mul(1e39,x)", lambda x: np.sign(x) * np.inf),
        ("mul(-1e39,x)", lambda x: -np.sign(x) * np.inf),
        ("div(x,1e300)", lambda x: 0 * x),
        ("mul(learn(1e39),x)", lambda x: np.sign(x) * np.inf),
        ("mul(learn_channel(-1e39),x)", lambda x: -np.sign(x) * np.inf),
    ],
)
def test_a_number_beyond_float32_is_infinite_there(form, text, formula):
    """As IEEE 754 has it; PyTorch refuses to fill a tensor of float32 with it, and casts it in every other type."""
    points = np.array([[-2.0, -0.5, 0.5, 3.0]], dtype=np.float32)
    module = form(text)
    np.testing.assert_array_equal(module(torch.from_numpy(points)).detach().numpy(), formula(points))
    module = form(text, channels=4)
    np.testing.assert_array_equal(module(torch.from_numpy(points)).detach().numpy(), formula(points))
    assert len(fingerprint(text)) == len(fingerprint(text, "float32")) == 32
