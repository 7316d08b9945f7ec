"""Shapes of functions that are known from analysis."""

from __future__ import annotations

import pytest

from aquasurf_ray.activations.shape import Shape, shape_of

KNOWN = {
    #                            defined below  above  monot. odd    even   zero   smooth constant
    "relu(x)": Shape(True, True, False, True, False, False, True, False, False),
    "tanh(x)": Shape(True, True, True, True, True, False, True, True, False),
    "sigmoid(x)": Shape(True, True, True, True, False, False, False, True, False),
    "swish(x)": Shape(True, True, False, False, False, False, True, True, False),
    "elu(x)": Shape(True, True, False, True, False, False, True, True, False),
    "selu(x)": Shape(True, True, False, True, False, False, True, False, False),
    "square(x)": Shape(True, True, False, False, False, True, True, True, False),
    "abs(x)": Shape(True, True, False, False, False, True, True, False, False),
    "negative(square(x))": Shape(True, False, True, False, False, True, True, True, False),
    "x": Shape(True, False, False, True, True, False, True, True, False),
    "arcsinh(x)": Shape(True, False, False, True, True, False, True, True, False),
    "arctan(x)": Shape(True, True, True, True, True, False, True, True, False),
    "softsign(x)": Shape(True, True, True, True, True, False, True, True, False),
    "log_sigmoid(x)": Shape(True, False, True, True, False, False, False, True, False),
    "one(x)": Shape(True, True, True, True, False, True, False, True, True),
    "bessel_i0e(x)": Shape(True, True, True, False, False, True, False, False, False),
    "mul(erf(x),erfc(x))": Shape(True, True, True, False, False, False, True, True, False),
}


@pytest.mark.parametrize("function", KNOWN)
def test_the_shape_is_the_one_of_the_textbook(function):
    assert shape_of(function) == KNOWN[function]


def test_a_pole_has_no_bounds_and_no_value_at_zero():
    found = shape_of("reciprocal(x)")
    assert found == Shape(*[False] * 9)
    above = shape_of("abs(reciprocal(x))")
    assert (above.bounded_below, above.bounded_above) == (True, False)


def test_a_function_that_is_nowhere_defined_has_no_shape():
    assert shape_of("div(zero(x),zero(x))") == Shape(*[False] * 9)


def test_a_function_that_is_infinite_everywhere_is_measured_in_silence():
    assert not shape_of("negative(reciprocal(zero(x)))").bounded_below


def test_exp_grows_beyond_every_bound_above_and_keeps_one_below():
    found = shape_of("exp(x)")
    assert (found.bounded_below, found.bounded_above, found.monotone) == (True, False, True)
