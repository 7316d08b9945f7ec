"""The standard form of a function: moments against SciPy and mathematics, and one form for functions that differ in
scale only."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from aquasurf_ray.activations import SearchSpace, fingerprint, parse, unique_functions
from aquasurf_ray.activations.standardization import core, moments, scale_free_digest, standardized

ROOT_TWO_PI = math.sqrt(2 * math.pi)

EXACT = {  # mean and second moment under N(0, 1), in closed form
    "relu(x)": (1 / ROOT_TWO_PI, 1 / 2),
    "exp(x)": (math.exp(1 / 2), math.exp(2)),
    "square(x)": (1, 3),
    "sin(x)": (0, (1 - math.exp(-2)) / 2),
    "abs(x)": (math.sqrt(2 / math.pi), 1),
    "mul(x,square(x))": (0, 15),
    "add(1000000,mul(0.001,x))": (1e6, 1e12 + 1e-6),
}


@pytest.mark.parametrize("name", EXACT)
def test_moments_are_those_of_mathematics(name):
    mean, second = EXACT[name]
    found = moments(parse(name))
    assert found.mean == pytest.approx(mean, rel=1e-12, abs=1e-13)
    if name.startswith("add"):
        assert found.deviation == pytest.approx(1e-3, rel=1e-6)
    else:
        assert found.deviation == pytest.approx(math.sqrt(second - mean**2), rel=1e-11)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("swish(x)", lambda x: x * special.expit(x)),
        ("tanh(x)", np.tanh),
        ("elu(add(x,0.3))", lambda x: np.where(x + 0.3 > 0, x + 0.3, np.expm1(np.minimum(x + 0.3, 0)))),
        ("max(negative(x),min(x,0.77))", lambda x: np.maximum(-x, np.minimum(x, 0.77))),
        ("sin(exp(x))", lambda x: np.sin(np.exp(x))),
    ],
)
def test_moments_are_those_of_scipy(name, function):
    def moment(power):
        limits = {"limit": 2000, "epsabs": 1e-13, "epsrel": 1e-12, "points": (-0.3, 0, 0.77)}
        return integrate.quad(lambda x: function(x) ** power * math.exp(-x * x / 2) / ROOT_TWO_PI, -9, 9, **limits)[0]

    found = moments(parse(name))
    assert found.mean == pytest.approx(moment(1), abs=1e-10)
    assert found.deviation == pytest.approx(math.sqrt(moment(2) - moment(1) ** 2), rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "reciprocal(x)",  # neither moment exists
        "reciprocal(add(x,0.3))",  # the pole is at no edge of a panel
        "exp(square(x))",  # grows faster than the density falls
        "mul(exp(mul(0.3,square(x))),x)",  # the mean exists, and the deviation does not
        "exp(exp(x))",
        "one(x)",
        "sub(x,x)",
        "add(square(sin(x)),square(cos(x)))",  # constant but for rounding
    ],
)
def test_functions_without_finite_moments_or_of_one_value_have_no_standard_form(name):
    assert standardized(parse(name)) is None


def test_an_infinite_slope_and_a_jump_are_no_infinite_moments():
    assert moments(parse("exp(mul(0.2,square(x)))")).mean == pytest.approx(1 / math.sqrt(1 - 0.4), rel=1e-10)
    ratio = moments(parse("div(abs(add(x,0.3)),add(x,0.3))"))  # the sign of x + 0.3
    share = special.ndtr(0.3)
    assert ratio.mean == pytest.approx(2 * share - 1, abs=1e-10)
    assert ratio.deviation == pytest.approx(2 * math.sqrt(share * (1 - share)), rel=1e-9)


def test_the_standard_form_of_the_space_has_mean_0_and_deviation_1_and_reads_back_to_itself():
    table = unique_functions(SearchSpace.named("three-node"))
    forms = [standardized(parse(table.names[i])) for i in table.sample(60, 3)]
    kept = [form for form in forms if form is not None]
    assert 40 < len(kept) < 60
    for form in kept:
        assert abs(moments(form).mean) < 1.1e-5
        assert moments(form).deviation == pytest.approx(1, abs=1.1e-5)
        assert parse(str(form)) == form
        assert standardized(form) == form
        x = torch.linspace(-3, 3, 7)
        assert torch.equal(parse(str(form)).evaluate(x).nan_to_num(), form.evaluate(x).nan_to_num())


def test_a_function_that_is_standard_already_stays_as_it_is():
    assert str(standardized(parse("x"))) == "x"
    assert str(standardized(parse("mul(3,add(1,x))"))) == "x"


def test_positive_factors_and_summands_are_no_part_of_the_core():
    for name in ("add(1,mul(3,relu(x)))", "sub(mul(relu(x),0.5),2)", "mul(7,add(-1,mul(2,add(relu(x),1))))"):
        assert core(parse(name)) == parse("relu(x)")
        assert standardized(parse(name)) == standardized(parse("relu(x)"))
    for name in ("sub(1,relu(x))", "mul(-2,relu(x))", "mul(learn(2),relu(x))", "add(x,relu(x))"):
        assert core(parse(name)) == parse(name)


def test_functions_that_differ_in_scale_are_recognised_though_their_constants_differ():
    twins = ["relu(x)", "add(relu(x),relu(x))", "sub(relu(x),one(x))", "add(x,abs(x))"]
    forms = [standardized(parse(name)) for name in twins]
    assert len({fingerprint(form) for form in forms}) > 1, "rounded constants differ in their last digits"
    assert len({scale_free_digest(form) for form in forms}) == 1
    others = ["swish(x)", "negative(relu(x))", "relu(negative(x))", "min(relu(x),6)", "min(relu(x),7)"]
    assert len({scale_free_digest(standardized(parse(name))) for name in ("relu(x)", *others)}) == 6


def test_learned_parameters_count_with_their_initial_values():
    form = standardized(parse("mul(learn(2),relu(x))"))
    assert form.parameters == parse("learn(2)").parameters
    assert moments(form).deviation == pytest.approx(1, abs=1e-5)
    assert scale_free_digest(form) != scale_free_digest(parse("relu(x)"))
