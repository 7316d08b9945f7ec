"""A function for each role: its text, its identity, its printing and its factories."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from aquasurf_ray.activations import (
    Activation,
    ActivationError,
    ExpressionError,
    RoleFunctions,
    activation_of,
    fingerprint,
    form_factory,
    latex,
    lean_factory,
    outputs,
    parse,
    parse_function,
    words,
)
from aquasurf_ray.activations.identity import outputs_of_roles
from aquasurf_ray.activations.shape import shape_of

BOTH = "early=relu(x);late=swish(x)"


@pytest.mark.parametrize(
    "text", [BOTH, " late = swish(x) ; early= relu ", "late=x*sigmoid(x);early=relu", "early=relu;late=silu"]
)
def test_roles_are_read_in_any_order(text: str) -> None:
    function = parse_function(text)
    assert isinstance(function, RoleFunctions)
    assert list(function.of_role) == ["early", "late"]
    assert function.of_role["early"] == parse("relu(x)")
    assert parse_function(str(function)) == function
    assert fingerprint(text) == fingerprint(BOTH)


def test_one_spelling_in_all_roles_is_the_plain_function() -> None:
    assert parse_function("early=relu;late=relu(x)") == parse("relu(x)")


def test_the_identity_is_that_of_the_roles_functions() -> None:
    parts = f"early={fingerprint('relu(x)')};late={fingerprint('swish(x)')}"
    assert fingerprint(BOTH) == hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
    assert fingerprint("early=swish(x);late=relu(x)") != fingerprint(BOTH)
    # Two spellings of one function are the plain one.
    assert fingerprint("early=add(x,x);late=mul(2,x)") == fingerprint("add(x,x)")


def test_outputs_are_those_of_the_roles_one_after_another() -> None:
    relu, swish = outputs("relu(x)"), outputs("swish(x)")
    np.testing.assert_array_equal(outputs(BOTH), np.concatenate([relu, swish]))
    np.testing.assert_array_equal(outputs_of_roles("relu(x)", ("late", "early")), np.concatenate([relu, relu]))
    np.testing.assert_array_equal(outputs_of_roles(BOTH, ("late", "early")), np.concatenate([relu, swish]))


def test_rendering_names_each_role() -> None:
    assert words(BOTH) == "early: relu of x; late: swish of x"
    assert latex("first_half=x;rest=exp(x)") == r"\text{first\_half: } x, \quad \text{rest: } e^{x}"


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("early=relu(x);late=swis(x)", "role 'late': unknown operator 'swis'", 20),
        ("early=relu(x);early=swish(x)", "role 'early' at 15 has a function already", 15),
        ("early=relu(x);swish(x)", "no role at 15", 15),
        ("early layer=relu(x);late=x", "role 'early layer' at 1 must be a name", 1),
        ("=relu(x);late=x", "role '' at 1 must be a name", 1),
        ("early=;late=x", "role 'early': ", 7),
        ("early=relu(x);", "no role at 15", 15),
    ],
)
def test_errors_name_the_role_and_the_column(text: str, message: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_function(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize("read", [parse, Activation])
def test_one_function_is_asked_for_where_roles_make_no_sense(read: Callable[[str], object]) -> None:
    with pytest.raises(ExpressionError, match="has a function for each role; one function is needed here"):
        read(BOTH)


def test_a_shape_is_what_all_roles_have() -> None:
    shape = shape_of("early=relu(x);late=tanh(x)")
    assert (shape.monotone, shape.bounded_below, shape.bounded_above, shape.odd) == (True, True, False, False)


def test_a_single_role_is_refused() -> None:
    with pytest.raises(ExpressionError, match="needs two roles or more, got early"):
        RoleFunctions({"early": parse("relu(x)")})


def test_operators_and_parameters_are_counted_over_the_roles() -> None:
    function = parse_function("early=mul(learn(1),relu(x));late=sin(cos(x))")
    assert function.n_operators == 4
    assert len(function.parameters) == 1


def test_factories_give_each_role_its_function_also_pickled() -> None:
    x = torch.tensor([-1.0, 2.0])
    for factories in (activation_of(BOTH), form_factory(BOTH, "recomputed"), lean_factory(BOTH)):
        again = pickle.loads(pickle.dumps(factories))
        assert torch.equal(again.for_role("early")()(x), torch.relu(x))
        assert torch.equal(again.for_role("late")()(x), x * torch.sigmoid(x))
    with pytest.raises(ActivationError, match="has a function for each role"):
        activation_of(BOTH)()  # type: ignore[operator]
    assert isinstance(activation_of("early=relu;late=relu"), Activation)


def test_a_form_may_be_named_for_each_role() -> None:
    factories = form_factory(BOTH, "early=eager;late=recomputed")
    assert [type(factories.for_role(role)()).__name__ for role in ("early", "late")] == [  # type: ignore[attr-defined]
        "Activation",
        "RecomputedActivation",
    ]
    with pytest.raises(ValueError, match="must have the roles of"):
        form_factory(BOTH, "early=eager;middle=eager")


@pytest.mark.parametrize(
    "text",
    ["x" * 5_000_000 + "=x;late=x", "early=x;" * 1_000_000, "=" * 5_000_000, "a=;" * 3_000],
    ids=["name", "roles", "marks", "empty"],
)
def test_hostile_texts_are_refused_with_a_short_message(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_function(text)
    assert len(str(caught.value)) < 300
