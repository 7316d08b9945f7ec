"""Growth: every child is a function of the language within the limits, and one seed makes the same children."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquasurf_ray.activations import Expression, fingerprint, parse, register_unary
from aquasurf_ray.activations.registry import all_operators, unregister
from aquasurf_ray.activations.spaces.growth import CHANGES, POINTLESS, children

PARENTS = [
    parse(text)
    for text in (
        "mul(sigmoid(x),elu(x))",
        "swish(mul(1.5,x))",
        "max(mul(learn(0.1),x),x)",
        "sum_n(x,erf(x),tanh(x))",
        "x",
    )
]


def expressions() -> st.SearchStrategy[Expression]:
    """Return small functions of x with constants, as candidates are."""
    unary = st.sampled_from(["relu", "swish", "tanh", "negative", "erf", "sin"])
    binary = st.sampled_from(["add", "sub", "mul", "max"])
    leaves = st.sampled_from(["x", "x", "x", "0.5", "-2", "learn(1)", "learn_channel(0.25,a)"])
    texts = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds("{}({})".format, unary, inner), st.builds("{}({},{})".format, binary, inner, inner)
        ),
        max_leaves=5,
    )
    return texts.map(parse).filter(lambda made: "x" in str(made).replace("max", ""))


@settings(max_examples=60, deadline=None)
@given(st.lists(expressions(), min_size=1, max_size=4), st.integers(0, 10**6), st.integers(2, 12))
def test_every_child_is_an_expression_within_the_limit(parents: list[Expression], seed: int, limit: int) -> None:
    found = children(parents, 30, str(seed), max_operators=limit)
    assert found
    for child in found:
        text = str(child.expression)
        assert str(parse(text)) == text
        assert parse(text) == child.expression
        assert text.count("(") - text.count("learn") <= limit
        assert text.count("learn") <= 8
        assert "x" in text.replace("max", "").replace("exp", "")
        assert len(child.parents) == {"random": 0, "crossover": 2}.get(child.change, 1)
        assert all(0 <= parent < len(parents) for parent in child.parents)
    texts = [str(child.expression) for child in found]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & set(map(str, parents))


@pytest.mark.slow
def test_one_seed_makes_the_same_children_in_another_process() -> None:
    here = [str(child.expression) for child in children(PARENTS, 50, "7 3")]
    code = (
        "from aquasurf_ray.activations import parse\n"
        "from aquasurf_ray.activations.spaces.growth import children\n"
        f"parents = [parse(text) for text in {[str(parent) for parent in PARENTS]!r}]\n"
        "print(*(child.expression for child in children(parents, 50, '7 3')))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert here == there
    assert here != [str(child.expression) for child in children(PARENTS, 50, "7 4")]


def test_the_global_random_state_has_no_part() -> None:
    random.seed(1)
    first = children(PARENTS, 20, "seed")
    random.seed(2)
    state = random.getstate()
    assert children(PARENTS, 20, "seed") == first
    assert random.getstate() == state


def test_every_change_and_every_operator_is_reached() -> None:
    found = [child for seed in range(4) for child in children(PARENTS, 2500, f"all {seed}")]
    assert set(Counter(child.change for child in found)) == set(CHANGES)
    used: set[str] = set()
    pending = [child.expression for child in found]
    while pending:
        node = pending.pop()
        used |= {node.operator} if node.operator else set()
        pending.extend(node.arguments)
    assert used == {entry.name for entry in all_operators()} - POINTLESS


@pytest.mark.parametrize(
    ("change", "parent", "children_of_it"),
    [
        ("remove", "relu(mul(x,sin(x)))", {"mul(x,sin(x))", "relu(x)", "relu(sin(x))", "relu(mul(x,x))"}),
        ("hoist", "relu(mul(x,sin(x)))", {"mul(x,sin(x))", "sin(x)"}),
        ("swap", "sub(sin(x),mul(2,x))", {"sub(mul(2,x),sin(x))", "sub(sin(x),mul(x,2))", "sub(sin(2),mul(x,x))"}),
    ],
)
def test_a_change_makes_what_can_be_counted_by_hand(change: str, parent: str, children_of_it: set[str]) -> None:
    found = {
        str(child.expression)
        for seed in range(40)
        for child in children([parse(parent)], 300, f"by hand {seed}", max_operators=20)
        if child.change == change
    }
    by_hand = {str(parse(text)) for text in children_of_it}
    assert by_hand <= found
    assert change == "swap" or found == by_hand


def test_constants_change_by_at_most_a_factor_of_two_or_in_sign() -> None:
    found = [c for c in children([parse("mul(0.7,relu(x))")], 1000, "constants") if c.change == "constant"]
    values = [child.expression.arguments[0].value or 0.0 for child in found]
    assert len(values) > 50
    assert all(0.35 <= abs(value) <= 1.4 for value in values)
    assert any(value < 0 for value in values)
    assert all(len(str(value).replace("-", "").replace(".", "").lstrip("0")) <= 3 for value in values)


def test_a_learned_parameter_is_put_on_without_changing_the_function() -> None:
    parent = parse("max(mul(0.25,x),sin(x))")
    found = [c.expression for c in children([parent], 2000, "learned") if c.change == "put parameter"]
    assert all(len(expression.parameters) == 1 for expression in found)
    assert {"max(mul(learn(0.25),x),sin(x))", "mul(learn_channel(1),max(mul(0.25,x),sin(x)))"} <= set(map(str, found))
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    for expression in found:
        assert torch.equal(expression.evaluate(x), parent.evaluate(x))


def test_without_learned_parameters_no_child_gets_one() -> None:
    plain = [parent for parent in PARENTS if not parent.parameters]
    assert not any(child.expression.parameters for child in children(plain, 2000, "plain", learned=False))
    assert any(child.expression.parameters for child in children(plain, 2000, "plain"))


def test_no_child_has_more_than_four_parameters() -> None:
    parent = parse("add(mul(learn(1),x),mul(learn(2),sin(mul(learn(3),x))))")
    found = [child.expression for child in children([parent, parent], 1500, "many")]
    assert max(len(expression.parameters) for expression in found) == 4


def test_constants_that_fold_to_infinity_make_no_child() -> None:
    found = children([parse("add(x,900)")], 2000, "large")  # exp(900) is infinite
    assert all(torch.isfinite(torch.tensor(v)) for child in found for v in _constants(child.expression))


def test_operators_of_the_user_take_part() -> None:
    register_unary("cubed_for_growth", lambda x: x**3)
    try:
        assert any("cubed_for_growth" in str(child.expression) for child in children(PARENTS, 1000, "own"))
    finally:
        unregister("cubed_for_growth")


def test_better_parents_have_more_children() -> None:
    parents = [parse(f"mul({i},relu(x))") for i in range(2, 42)]
    counts = Counter(child.parents[0] for child in children(parents, 2000, "better") if child.parents)
    best, worst = sum(counts[i] for i in range(10)), sum(counts[i] for i in range(30, 40))
    assert best > 2.5 * worst > 0


def test_without_parents_children_are_random_functions_of_three_nodes() -> None:
    found = children([], 40, "nothing")
    assert {(child.change, child.parents) for child in found} == {("random", ())}
    assert len({fingerprint(child.expression) for child in found}) > 30


def _constants(expression: Expression) -> list[float]:
    own = [] if expression.value is None else [expression.value]
    return own + [value for argument in expression.arguments for value in _constants(argument)]
