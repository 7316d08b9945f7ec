"""Children of functions per role: what changes, what they are made from, and their outputs."""

from __future__ import annotations

import numpy as np
import pytest

from aquasurf_ray.activations import Expression, RoleFunctions, fingerprint, function_of, parse, parse_function
from aquasurf_ray.activations.identity import outputs_of_roles
from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.role_growth import CHANGED, JOINED, evaluated, role_children

ROLES = ("early", "late", "middle")
PARENTS = [parse_function(text) for text in ("early=relu;late=sin;middle=elu", "swish", "early=x;late=tanh;middle=x")]
POOL = [parse(text) for text in ("cos(x)", "exp(x)", "erf(x)")]


def test_a_child_differs_from_its_parent_in_one_role_or_joins_two() -> None:
    made = role_children(PARENTS, POOL, ROLES, 60, "a")
    assert {child.change for child in made} == {CHANGED, JOINED}
    for child in made:
        assert isinstance(child.function, RoleFunctions)
        assert child.function.roles == ROLES
        of_parents = [[function_of(PARENTS[i], role) for i in child.parents] for role in ROLES]
        functions = [function_of(child.function, role) for role in ROLES]
        if child.change == JOINED:
            assert all(function in choice for function, choice in zip(functions, of_parents, strict=True))
        else:
            changed = [f for f, choice in zip(functions, of_parents, strict=True) if f != choice[0]]
            known = [function_of(PARENTS[i], role) for i in child.parents for role in ROLES]
            assert len(changed) == 1
            assert changed[0] in POOL + known
    texts = [str(child.function) for child in made]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & set(map(str, PARENTS))
    assert any(any(function_of(child.function, role) in POOL for role in ROLES) for child in made)


def test_children_depend_on_the_seed_alone() -> None:
    first, again, other = (role_children(PARENTS, POOL, ROLES, 20, seed) for seed in ("1", "1", "2"))
    assert first == again != other


def test_there_are_no_more_children_than_functions() -> None:
    # Of relu and sin in two roles, all four functions but the two that are alike in both.
    made = role_children([parse("relu"), parse("sin")], [], ("early", "late"), 50, "0")
    assert {str(child.function) for child in made} == {"early=relu(x);late=sin(x)", "early=sin(x);late=relu(x)"}
    assert role_children([], POOL, ROLES, 5, "0") == []


def test_outputs_and_identities_are_those_of_each_function_alone() -> None:
    texts = ["relu(x)", "early=relu;late=sin;middle=relu", "early=exp;late=mul(learn(1),x);middle=x"]
    functions = [parse_function(text) for text in texts]
    found = evaluated(Evaluator(), functions, ROLES)
    for number, text in enumerate(texts):
        np.testing.assert_array_equal(found.outputs[number], outputs_of_roles(text, ROLES))
    assert found.fingerprints == [fingerprint(text) for text in texts]
    quick = evaluated(Evaluator(), functions, ROLES, identify=False)
    assert quick.fingerprints == [fingerprint(texts[0]), fingerprint(texts[1]), ""]
    np.testing.assert_array_equal(quick.outputs, found.outputs)
    bad = [parse_function(f"early=x;late={function};middle=x") for function in ("reciprocal(relu(x))", "one(x)")]
    flags = evaluated(Evaluator(), bad, ROLES)
    assert flags.finite.tolist() == [False, True]
    assert flags.constant.tolist() == [False, True]


@pytest.mark.parametrize("identify", [False, True])
def test_without_roles_functions_are_evaluated_as_ever(identify: bool) -> None:
    functions: list[Expression] = [parse("relu"), parse("one"), parse("mul(learn(1),x)"), parse("relu")]
    found = evaluated(Evaluator(), functions, (), identify=identify)
    expected = Evaluator().evaluate(functions, identify=identify)
    assert found.fingerprints == expected.fingerprints
    for name in ("outputs", "finite", "constant"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
