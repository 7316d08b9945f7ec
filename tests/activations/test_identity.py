"""Identity: equal functions share a fingerprint, near ones do not, and no accident of evaluation matters."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from expression_strategies import EXPRESSIONS
from hypothesis import given, settings
from scipy import special, stats

from aquasurf_ray.activations import (
    Expression,
    SearchSpace,
    fingerprint,
    outputs,
    parse,
    register_unary,
    sample,
    unregister,
)
from aquasurf_ray.activations.spaces.evaluation import Evaluator

TWINS = [
    ("add(x,x)", "sub(x,negative(x))"),
    ("swish(x)", "mul(x,sigmoid(x))"),
    ("mul(sigmoid(x),elu(x))", "mul(elu(x),sigmoid(x))"),
    ("erfc(x)", "sub(one(x),erf(x))"),
    ("sub(x,x)", "zero(x)"),
    ("negative(zero(x))", "zero(x)"),
    ("max_n(x,zero(x),x)", "relu(x)"),
    ("div(x,one(x))", "x"),
    ("sum_n(x,exp(x),tanh(x))", "sum_n(tanh(x),x,exp(x))"),
    ("negative(log_sigmoid(negative(x)))", "softplus(x)"),
    ("div(sinh(x),cosh(x))", "tanh(x)"),
    ("reciprocal(zero(x))", "exp(exp(exp(add(abs(x),exp(one(x))))))"),
    ("log_sigmoid(reciprocal(zero(x)))", "zero(x)"),
]
NEAR = [
    ("swish(x)", "gelu(x)"),
    ("swish(x)", "elish(x)"),
    ("relu(x)", "leakyrelu(x)"),
    ("sigmoid(x)", "hard_sigmoid(x)"),
    ("tanh(x)", "softsign(x)"),
    ("x", "identity(tanh(tanh(x)))"),
    ("div(x,zero(x))", "reciprocal(zero(x))"),
    ("max(x,zero(x))", "min(x,zero(x))"),
    ("add(x,bessel_i0e(x))", "add(x,bessel_i1e(x))"),
]

# On the sample, which ends at 3.6, the first is the second; only the third column says that it is one function.
BEYOND_THE_SAMPLE = [
    ("min(relu(x),6)", "relu(x)", False),
    ("min(relu(x),6)", "min(relu(x),6.2)", False),
    ("min(relu(x),6)", "min(6,max(x,0))", True),
    ("mul(6,min(x,6))", "mul(6,x)", False),  # the two sixes are moved one by one
    ("max(x,-5)", "x", False),
    ("min(x,40)", "x", False),
    ("add(x,sigmoid(mul(10,add(x,-8))))", "x", False),  # smooth, and below float32's rounding on the sample
    ("min(x,learn(6))", "min(x,learn(7))", False),
    ("mul(2,x)", "add(x,x)", True),
    ("mul(1,x)", "x", True),
    ("mul(x,sigmoid(mul(1,x)))", "swish(x)", True),
    ("celu", "elu(x)", True),
]


def test_the_sample_is_fixed_and_normal() -> None:
    x = sample()
    assert (x.shape, x.dtype) == ((1000,), np.float32)
    assert stats.kstest(x, "norm").pvalue > 0.05
    # Made another way: SciPy's inverse normal distribution of NumPy's own uniform draws of the same generator.
    uniform = np.random.Generator(np.random.PCG64(20231210)).random(1000)
    np.testing.assert_allclose(x, special.ndtri(uniform), rtol=2e-7)
    # If this changes, every fingerprint in every store does.
    assert hashlib.sha256(x.astype("<f4").tobytes()).hexdigest()[:16] == "e1712878ffb5af00"
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 0.0


def test_outputs_are_the_clipped_values() -> None:
    x = sample().astype(np.float64)
    np.testing.assert_allclose(outputs("exp(x)"), np.minimum(np.exp(x), 5.0), rtol=1e-7)
    assert outputs("exp(x)").dtype == np.float32
    assert outputs("reciprocal(zero(x))").tolist() == [5.0] * 1000
    assert outputs("negative(reciprocal(zero(x)))").tolist() == [-5.0] * 1000
    assert np.isnan(outputs("div(zero(x),zero(x))")).all()
    halves = outputs("pow(x,hard_sigmoid(zero(x)))")
    assert np.array_equal(np.isnan(halves), x < 0)
    assert not np.signbit(outputs("negative(zero(x))")).any()


@pytest.mark.parametrize(("first", "second"), TWINS)
def test_twins_share_a_fingerprint(first: str, second: str) -> None:
    assert fingerprint(first) == fingerprint(parse(second))


@pytest.mark.parametrize(("first", "second", "is_one"), BEYOND_THE_SAMPLE)
def test_constants_that_act_beyond_the_sample_only_are_part_of_the_identity(first, second, is_one) -> None:
    assert np.array_equal(outputs(first), outputs(second))
    assert (fingerprint(first) == fingerprint(second)) is is_one
    found = Evaluator().evaluate([parse(first), parse(second)])
    assert found.fingerprints == [fingerprint(first), fingerprint(second)]


@pytest.mark.parametrize(("first", "second"), NEAR)
@pytest.mark.parametrize("rule", ["float64", "float32"])
def test_near_functions_do_not(first: str, second: str, rule: str) -> None:
    assert fingerprint(first, rule) != fingerprint(second, rule)  # type: ignore[arg-type]


def test_float32_takes_rounding_twins_for_two() -> None:
    twins = ("add(add(erf(x),tanh(x)),exp(x))", "add(erf(x),add(tanh(x),exp(x)))")
    assert len({fingerprint(name) for name in twins}) == 1
    assert len({fingerprint(name, "float32") for name in twins}) == 2
    with pytest.raises(ValueError, match="rule must be 'float64' or 'float32', got 'float16'"):
        fingerprint("x", "float16")  # type: ignore[arg-type]


@settings(deadline=None)
@given(EXPRESSIONS)
def test_a_fingerprint_is_the_digest_of_the_outputs(expression: Expression) -> None:
    values = outputs(expression)
    digest = hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()
    assert fingerprint(expression) == digest
    with np.errstate(invalid="ignore"):
        assert (np.isnan(values) | (np.abs(values) <= 5.0)).all()


def test_the_surroundings_have_no_say() -> None:
    text = "mul(mish(x),bessel_i1e(elu(x)))"
    before = fingerprint(text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fingerprint(text) == before
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert fingerprint(text) == before
    finally:
        torch.set_default_dtype(default)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert fingerprint(text) == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_another_processor_finds_the_same_fingerprints() -> None:
    """PyTorch's plain scalar code stands in for another machine: its last bits are different."""
    script = (
        "import json; from aquasurf_ray.activations import *\n"
        "print(json.dumps([fingerprint(n) for n in SearchSpace.named('three-node').names()]))"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    here = [fingerprint(name) for name in SearchSpace.named("three-node").names()]
    different = sum(a != b for a, b in zip(json.loads(done.stdout), here, strict=True))
    assert different <= 5  # of 5,103


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: 1 // 0, "it raised ZeroDivisionError"),
        (lambda x: torch.complex(x, x), "it gave a complex128 tensor of shape (1024,)"),
        (lambda x: x.sum(), "it gave a float64 tensor of shape ()"),
        (lambda x: None, "it gave NoneType"),
    ],
    ids=["raises", "complex", "scalar", "none"],
)
def test_a_function_that_fails_is_undefined_and_says_why(
    function: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    register_unary("failing_here", function)  # type: ignore[arg-type]
    try:
        assert np.isnan(outputs("failing_here(x)")).all()
        assert fingerprint("failing_here(x)") == fingerprint("div(zero(x),zero(x))")
    finally:
        unregister("failing_here")
    assert "failing_here(x) is undefined" in caplog.text
    assert reason in caplog.text


def test_whole_numbers_are_numbers() -> None:
    register_unary("sign_here", lambda x: x.sign().long())
    try:
        assert np.array_equal(outputs("sign_here(x)"), np.sign(sample()))
    finally:
        unregister("sign_here")
