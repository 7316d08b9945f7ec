"""The evaluator of many expressions agrees bit for bit with the definition of a function's identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aquasurf_ray.activations import fingerprint, outputs, parse, register_unary
from aquasurf_ray.activations.registry import unregister
from aquasurf_ray.activations.spaces import evaluation
from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.growth import children

PARENTS = [
    parse(text) for text in ("mul(sigmoid(x),elu(x))", "pow(x,max(1.5,x))", "sum_n(x,erf(x),div(x,learn(0.3)))", "x")
]


def test_outputs_and_fingerprints_are_those_of_the_definition() -> None:
    expressions = [*PARENTS, *(child.expression for child in children(PARENTS, 800, "evaluation"))]
    found = Evaluator().evaluate(expressions)
    assert found.fingerprints == [fingerprint(expression) for expression in expressions]
    np.testing.assert_array_equal(found.outputs, np.stack([outputs(expression) for expression in expressions]))


def test_hidden_constants_may_be_left_out_of_identities() -> None:
    expressions = [parse("relu(x)"), parse("min(relu(x),8)")]  # alike on the sample, which ends at 5
    exact, quick = (Evaluator().evaluate(expressions, identify=identify) for identify in (True, False))
    assert exact.fingerprints == [fingerprint(expression) for expression in expressions]
    assert quick.fingerprints == [exact.fingerprints[0]] * 2 != exact.fingerprints
    np.testing.assert_array_equal(quick.outputs, exact.outputs)


def test_the_identity_of_learned_functions_may_be_left_out() -> None:
    expressions = [parse(text) for text in ("mul(learn(1),relu(x))", "relu(x)", "mul(learn_channel(0),x)")]
    found = Evaluator().evaluate(expressions, identify=False)
    assert found.fingerprints == ["", fingerprint("relu(x)"), ""]
    assert found.constant.tolist() == [False, False, True]
    np.testing.assert_array_equal(found.outputs[0], found.outputs[1])


@pytest.mark.slow
def test_what_is_remembered_does_not_change_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    expressions = [child.expression for child in children(PARENTS, 600, "remembered")]
    at_once = Evaluator().evaluate(expressions).fingerprints
    evaluator = Evaluator()
    assert [evaluator.evaluate([expression]).fingerprints[0] for expression in expressions] == at_once
    monkeypatch.setattr(evaluation, "MOST_ROWS", 700)  # forgets between chunks
    assert Evaluator().evaluate(expressions).fingerprints == at_once
    monkeypatch.setattr(evaluation, "MOST_ROWS", 5)  # evaluates each alone
    assert Evaluator().evaluate(expressions).fingerprints == at_once


@pytest.mark.parametrize(
    ("text", "finite", "constant"),
    [
        ("relu(x)", True, False),
        ("reciprocal(zero(x))", False, True),
        ("sqrt(x)", False, False),  # NaN below 0
        ("sinh(exp(exp(x)))", False, False),  # infinite at 3
        ("mul(0,x)", True, True),
        ("max(9,x)", True, True),  # clipped to 5
    ],
)
def test_flags(text: str, finite: bool, constant: bool) -> None:
    found = Evaluator().evaluate([parse("tanh(x)"), parse(text)])
    assert (found.finite[1], found.constant[1]) == (finite, constant)
    assert (found.finite[0], found.constant[0]) == (True, False)


def test_an_operator_that_fails_makes_its_functions_undefined(caplog: pytest.LogCaptureFixture) -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no")

    register_unary("fails_in_evaluation", fails)
    register_unary("row_mean_in_evaluation", lambda x: x - x.mean())
    try:
        expressions = [
            parse("mul(0,fails_in_evaluation(x))"),
            parse("row_mean_in_evaluation(swish(x))"),
            parse("row_mean_in_evaluation(tanh(x))"),
        ]
        found = Evaluator().evaluate(expressions)
        assert found.fingerprints == [fingerprint(expression) for expression in expressions]
        assert np.isnan(found.outputs[0]).all()
        assert not found.finite[0]
    finally:
        unregister("fails_in_evaluation")
        unregister("row_mean_in_evaluation")


def test_no_expressions_have_no_outputs() -> None:
    found = Evaluator().evaluate([])
    assert (found.fingerprints, found.outputs.shape) == ([], (0, 1000))


def test_an_operation_has_one_thread() -> None:
    """Threads of all cores would wait for trainings that keep the cores busy, and could round differently."""
    seen, before = [], torch.get_num_threads()

    def noted(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return x.clone()

    register_unary("noted_threads", noted)
    torch.set_num_threads(4)
    try:
        Evaluator().evaluate([parse("noted_threads(x)")])
        assert (set(seen), torch.get_num_threads()) == ({1}, 4)
    finally:
        torch.set_num_threads(before)
        unregister("noted_threads")
