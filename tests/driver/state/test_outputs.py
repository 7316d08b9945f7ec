"""The outputs of a run's functions: those of the definition, each evaluated once."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.activations import ActivationError, fingerprint, outputs, parse
from aquasurf_ray.activations.identity import outputs_of_roles
from aquasurf_ray.driver.state import outputs as module
from aquasurf_ray.driver.state.outputs import OutputsOfRun
from aquasurf_ray.store import FunctionRecord


def record(number: int, name: str) -> FunctionRecord:
    return FunctionRecord(number, fingerprint(name), name, parse(name).n_operators)


RELU, TANH, POWER, LEARNED = (
    record(i, name) for i, name in enumerate(["relu(x)", "tanh(x)", "pow(x,x)", "mul(learn(1),relu(x))"], 1)
)


def test_outputs_are_those_of_the_definition() -> None:
    relu, power, learned = OutputsOfRun(()).of([RELU, POWER, LEARNED])
    np.testing.assert_array_equal(relu.row, outputs("relu(x)"))
    assert (relu.is_finite, relu.fingerprint) == (True, fingerprint("relu(x)"))
    assert not power.is_finite  # undefined for negative numbers
    np.testing.assert_array_equal(np.isnan(power.row), np.isnan(outputs("pow(x,x)")))
    assert learned.fingerprint == ""
    np.testing.assert_array_equal(learned.row, relu.row)


def test_a_function_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated, of_run = [], OutputsOfRun(())
    original = module.evaluated

    def counted(evaluator, functions, roles, **options):
        evaluated.extend(map(str, functions))
        return original(evaluator, functions, roles, **options)

    monkeypatch.setattr(module, "evaluated", counted)
    first = of_run.of([RELU, TANH])
    again = of_run.of([TANH, POWER, RELU])
    assert evaluated == ["relu(x)", "tanh(x)", "pow(x,x)"]
    assert [again[2], again[0]] == first


def test_outputs_that_are_known_already_are_kept_by_fingerprint() -> None:
    of_run = OutputsOfRun(())
    made = [parse("tanh(x)"), parse("mul(2,x)")]
    found = of_run.evaluate(made, identify=False)
    of_run.keep({fingerprint(made[1]): 1}, found)
    double = FunctionRecord(9, fingerprint(made[1]), "a name that nobody reads", 1)
    (kept,) = of_run.of([double])
    np.testing.assert_array_equal(kept.row, outputs(made[1]))
    assert kept.fingerprint == fingerprint(made[1])
    assert not np.shares_memory(kept.row, found.outputs)


def test_a_network_with_roles_has_outputs_in_each() -> None:
    name = "early=relu(x);late=tanh(x)"
    (found,) = OutputsOfRun(("late", "early")).of([FunctionRecord(1, "f", name, 2)])
    np.testing.assert_array_equal(found.row, outputs_of_roles(name, ("early", "late")))


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ActivationError, match="nobodys"):
        OutputsOfRun(()).of([FunctionRecord(1, "f", "nobodys(x)", 1)])
