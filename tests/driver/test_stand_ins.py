"""An operator that a process knows by its values only is drawn from them, and gives way to the operator itself."""

from __future__ import annotations

import math

import pytest
import torch

from aquasurf_ray.activations import Activation, register_unary, unregister
from aquasurf_ray.activations.registry import is_stand_in
from aquasurf_ray.driver.stand_ins import operator_values, register_stand_ins


def rippled(x):
    return torch.log(x + 3) * torch.cos(2 * x)


@pytest.fixture
def values():
    """The values of an operator that this process has forgotten; it has none below -3."""
    register_unary("rippled", rippled)
    found = operator_values(["early=tanh(x);late=mul(2,rippled(relu(x)))", "swish(x)"])
    unregister("rippled")
    yield found
    unregister("rippled")


def test_functions_are_near_their_values_and_undefined_where_these_are_not_known(values):
    assert list(values) == ["rippled"], "built-in operators are known everywhere"
    register_stand_ins(values)
    x = torch.linspace(-2.5, 5, 777, dtype=torch.float64, requires_grad=True)
    drawn = Activation("mul(2,rippled(x))")(x)
    torch.testing.assert_close(drawn, 2 * rippled(x), rtol=0, atol=2e-3)
    (slope,) = torch.autograd.grad(drawn.sum(), x)
    (true,) = torch.autograd.grad(2 * rippled(x).sum(), x)
    torch.testing.assert_close(slope, true, rtol=0, atol=0.3)
    beyond = torch.tensor([-3.5, 5.1, 1e30, math.nan, math.inf])
    assert Activation("rippled(x)")(beyond).isnan().all()


def test_the_operator_itself_replaces_its_values_and_never_the_other_way_round(values):
    register_stand_ins(values)
    assert is_stand_in("rippled")
    register_unary("rippled", rippled)  # as a module of the user's does, which knows of no values
    register_stand_ins(values)
    assert not is_stand_in("rippled")
    register_stand_ins({"relu": [0.0, 1.0]})
    assert not is_stand_in("relu")
