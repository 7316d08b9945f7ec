"""Learned parameters in the language: their spelling, their identity, and the module that has them."""

from __future__ import annotations

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from aquasurf_ray.activations import (
    Activation,
    ActivationError,
    Expression,
    ExpressionError,
    OperatorError,
    SearchSpace,
    SpaceError,
    fingerprint,
    latex,
    outputs,
    parse,
    register_binary,
    register_unary,
    sample,
    unique_functions,
    unregister,
    words,
)
from aquasurf_ray.activations.grammar import Learned
from aquasurf_ray.activations.identity import responses
from aquasurf_ray.activations.spaces.evaluation import Evaluator
from aquasurf_ray.activations.spaces.schema import parse_schema

PRELU = "add(max(x,0),mul(learn_channel(0.25),min(x,0)))"
SNAKE = "add(x,div(square(sin(mul(learn(1,a),x))),learn(1,a)))"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" learn ( 1.0 ) ", "learn(1)"),
        ("mul(learn_channel(.250),x)", "mul(learn_channel(0.25),x)"),
        ("learn(-1e-7, slope_2)", "learn(-1e-07,slope_2)"),
        ("pow(learn(2,a),learn_channel(-0))", "pow(learn(2,a),learn_channel(0))"),
    ],
)
def test_the_spelling_is_canonical_and_reads_back(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)
    assert parse(canonical).parameters == parse(text).parameters
    assert pickle.loads(pickle.dumps(parse(text))).parameters == parse(text).parameters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learn(x)", "learn at 1 takes its initial value, a number, got 'x'"),
        ("mul(x,learn(add(1,2)))", "learn at 7 takes its initial value, a number, got 'add'"),
        ("learn()", "learn at 1 takes its initial value, a number, got '\\)'"),
        ("learn", "learn at 1 lacks its initial value; write learn\\(1\\)"),
        ("learn(1,x)", "label 'x' at 9 must be a name of at most 20 small letters"),
        ("learn(1,2)", "label '2' at 9 must be"),
        ("learn(1,a,b)", "expected '\\)' at 10, got ','"),
        ("learn(1e999)", "number '1e999' at 7 is too large"),
        ("add(learn(1,a),learn(2,a))", "label 'a' is learn\\(1,a\\) and learn\\(2,a\\)"),
        ("add(learn(1,a),learn_channel(1,a))", "uses of one parameter must be spelled alike"),
        ("lern(1)", "unknown operator 'lern' at 1; did you mean 'learn'"),
    ],
)
def test_a_wrong_text_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        parse(text)


def test_nobody_registers_an_operator_of_that_name() -> None:
    with pytest.raises(OperatorError, match="'learn' is a word of the language"):
        register_unary("learn", torch.sin)
    with pytest.raises(ExpressionError, match="constants must be finite, got nan"):
        Expression(learned=Learned(math.nan))


def test_the_same_text_twice_is_two_parameters_and_a_label_makes_them_one() -> None:
    two, one = (
        parse("add(mul(learn(1),x),mul(learn(1),square(x)))"),
        parse("add(mul(learn(1,b),x),mul(learn(1,b),square(x)))"),
    )
    assert (two.parameter_names, one.parameter_names) == (("a", "b"), ("b",))
    assert str(two.labelled()) == "add(mul(learn(1,a),x),mul(learn(1,b),square(x)))"
    twice = Activation("mul(mul(learn(1),x),mul(learn(1),x))")
    with torch.no_grad():
        twice.learned_a.fill_(3.0)
        twice.learned_b.fill_(5.0)
    assert twice(torch.tensor([2.0])).tolist() == [60.0], "equal texts are not computed once"
    leaf = Expression(learned=Learned(1.0, label="a"))
    assert Expression("add", (leaf, leaf)).parameters == (Learned(1.0, label="a"),)


def test_a_parameter_is_never_folded_and_is_no_operator() -> None:
    expression = parse("mul(add(1,2),exp(learn(0)))")
    assert str(expression) == "mul(3,exp(learn(0)))"
    assert (expression.n_operators, expression.depth) == (2, 2)


def test_it_is_rendered_by_name() -> None:
    assert latex("mul(learn(1),sub(x,learn_channel(0)))") == r"a \cdot \left(x - b_{c}\right)"
    assert latex("mul(learn(1,in_slope),x)") == r"\mathit{in\_slope} \cdot x"
    assert words("mul(learn_channel(0.25),x)") == "a (learned for each channel, from 0.25), times x"


# --- identity -------------------------------------------------------------------------------------------------------


def test_outputs_are_those_at_the_initial_values() -> None:
    np.testing.assert_array_equal(outputs("mul(learn(2),tanh(x))"), outputs("mul(2,tanh(x))"))


def test_responses_are_the_derivatives_and_the_moved_values() -> None:
    x = sample().astype(np.float64)
    (swish_beta,) = responses(parse("mul(x,sigmoid(mul(learn(1.5),x)))"))
    s = 1 / (1 + np.exp(-1.5 * x))
    np.testing.assert_allclose(swish_beta[0], np.clip(x * x * s * (1 - s), -5, 5), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(swish_beta[1], np.clip(x / (1 + np.exp(-2 * x)), -5, 5), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mul(learn(1),x)", "mul(x,learn(1))"),
        ("add(mul(learn(2),x),learn(1))", "add(learn(1),mul(x,learn(2)))"),
        ("mul(learn(1,a),x)", "mul(learn(1,slope),x)"),
        (PRELU, "sub(relu(x),mul(learn_channel(0.25),relu(negative(x))))"),
    ],
)
def test_equal_functions_of_equal_parameters_share_a_fingerprint(first: str, second: str) -> None:
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mul(learn(1),x)", "x"),
        ("mul(learn(1),x)", "mul(learn_channel(1),x)"),
        ("mul(learn(1),x)", "mul(square(learn(1)),x)"),
        ("mul(learn(1),x)", "mul(exp(learn(0)),x)"),
        ("add(x,add(learn(0),learn(0)))", "add(x,learn(0))"),
        ("add(x,add(learn(0),learn(0)))", "add(x,add(learn(0,a),learn(0,a)))"),
        ("add(learn(0),mul(learn(1),x))", "add(mul(learn(1),x),mul(learn(0),x))"),
        (SNAKE, "add(x,div(square(sin(mul(learn(1),x))),learn(1)))"),
    ],
)
def test_others_do_not(first: str, second: str) -> None:
    assert fingerprint(first) != fingerprint(second)
    assert len({fingerprint(text) for text in (first, second, "x", "zero(x)")}) >= 3


def test_a_space_may_have_them(tmp_path) -> None:
    space = SearchSpace.define(
        "learned",
        ["binary(unary(x),learn(1))", "mul(learn_channel(2),unary(x))"],
        unary=["relu", "tanh"],
        binary=["mul"],
        names=["mul(relu(x),1)", "mul(learn(1),relu(x))", "mul(learn(0),x)", "mul(zero(x),learn(1))"],
    )
    table = unique_functions(space, cache_dir=tmp_path)
    assert list(table.fingerprints) == [fingerprint(name) for name in table.names]
    assert set(table.names) == {
        "mul(learn(1),relu(x))",
        "mul(tanh(x),learn(1))",
        "mul(learn_channel(2),relu(x))",
        "mul(learn_channel(2),tanh(x))",
        "mul(relu(x),1)",
        "mul(learn(0),x)",
        "mul(zero(x),learn(1))",
    }
    found = table.find(fingerprint("mul(relu(x),learn(1))"))
    assert table.aliases(found) == ["mul(learn(1),relu(x))", "mul(relu(x),learn(1))"]
    found = Evaluator().evaluate([parse(name) for name in table.names])
    constant = {name for name, is_constant in zip(table.names, found.constant, strict=True) if is_constant}
    assert constant == {"mul(zero(x),learn(1))"}, "mul(learn(0),x) is 0 only until it is trained"
    assert found.finite.all()
    assert found.fingerprints == list(table.fingerprints)
    assert parse("mul(relu(x),learn(1))") in space
    assert parse("mul(relu(x),learn(2))") not in space


def test_spaces_of_other_numbers_are_other_spaces() -> None:
    schemas = ["mul(2,unary(x))", "mul(3,unary(x))", "mul(learn(2),unary(x))", "mul(learn_channel(2),unary(x))"]
    assert len({SearchSpace.define("s", [schema]).digest for schema in schemas}) == 4
    assert SearchSpace.named("three-node").digest == "b503e189a6d01160fce991a787891959"
    with pytest.raises(SpaceError, match="learn at 5 takes its initial value"):
        SearchSpace.define("s", ["mul(learn(x),unary(x))"])
    lists = {"unary": ("relu",), "binary": (), "nary": ()}
    assert list(parse_schema("mul(learn(1,a),unary(x))", lists).names()) == ["mul(learn(1,a),relu(x))"]


# --- the module -----------------------------------------------------------------------------------------------------


def test_it_is_prelu() -> None:
    ours, theirs = Activation(PRELU), nn.PReLU(5, 0.25)
    x = torch.randn(2, 5, 4, 3)
    for module in (ours, theirs):
        module(x).square().sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.learned_a.grad, theirs.weight.grad)


def test_snake_has_one_parameter() -> None:
    snake = Activation(SNAKE)
    assert [name for name, _ in snake.named_parameters()] == ["learned_a"]
    with torch.no_grad():
        snake.learned_a.fill_(3.0)
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(snake(x), x + torch.sin(3 * x) ** 2 / 3)


@pytest.mark.parametrize(
    ("shape", "dim", "place"),
    [
        ((3,), None, 0),
        ((4, 3), None, 1),
        ((2, 7, 3), None, 2),
        ((2, 3, 7), 1, 1),
        ((2, 3, 4, 5), None, 1),
        ((2, 4, 5, 3), -1, 3),
        ((2, 3, 4, 5, 6), None, 1),
    ],
)
def test_channels_are_found_by_the_rule_or_said(shape: tuple[int, ...], dim: int | None, place: int) -> None:
    module = Activation("mul(learn_channel(1),x)", channel_dim=dim)
    x = torch.ones(shape)
    assert module(x).shape == shape
    assert module.learned_a.shape == (3,)
    with torch.no_grad():
        module.learned_a.copy_(torch.arange(3) + 1.0)
    assert module(x).movedim(place, 0).reshape(3, -1).mean(1).tolist() == [1.0, 2.0, 3.0]


def test_a_module_of_several_channel_counts_is_refused() -> None:
    module = Activation("mul(learn_channel(1),x)")
    module(torch.zeros(2, 16, 4, 4))
    with pytest.raises(
        ActivationError, match=r"has learned 16 channels, got 32 in dimension 1 of \(2, 32, 4, 4\); give"
    ):
        module(torch.zeros(2, 32, 4, 4))
    with pytest.raises(ActivationError, match=r"learns for each channel, and \(\) has no dimension 1"):
        Activation("mul(learn_channel(1),x)")(torch.tensor(1.0))


def test_a_tied_module_is_one_set_of_parameters() -> None:
    act = Activation("mul(learn(1),tanh(x))")
    network = nn.Sequential(nn.Linear(3, 3), act, nn.Linear(3, 3), act)
    assert [name for name, _ in network.named_parameters() if "learned" in name] == ["1.learned_a"]


def test_copies_pickles_and_states_keep_what_is_learned() -> None:
    module = Activation("add(mul(learn_channel(0.25),x),learn(3))")
    unsized = io.BytesIO()
    torch.save(module.state_dict(), unsized)
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    x = torch.randn(4, 3)
    module(x)
    assert list(dict(module.named_parameters())) == ["learned_a", "learned_b"]
    with torch.no_grad():
        module.learned_a.copy_(torch.tensor([1.0, 2.0, 3.0]))
        module.learned_b.fill_(-1.0)
    for other in (*copies, Activation(module.name)):
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(x), x * torch.tensor([1.0, 2.0, 3.0]) - 1)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), module(x))
        assert other.learned_a is not module.learned_a
    with pytest.raises(RuntimeError, match="size mismatch for learned_a"):
        module.load_state_dict(Activation(module.name, channels=4).state_dict())


def test_a_parameter_that_was_sized_without_gradients_is_trained() -> None:
    module = Activation("mul(learn_channel(1),x)")
    with torch.inference_mode():
        module(torch.ones(2, 3))
    module(torch.ones(2, 3)).sum().backward()
    assert module.learned_a.grad.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("text", [PRELU, SNAKE, "learn(2)", "mul(sigmoid(learn_channel(0)),x)"])
def test_it_keeps_type_shape_and_memory_format(dtype: torch.dtype, text: str) -> None:
    x = torch.randn(2, 3, 4, 4).to(dtype, memory_format=torch.channels_last)
    y = Activation(text)(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert Activation(text).to(dtype)(x).dtype == dtype


def test_it_trains_under_autocast() -> None:
    network = nn.Sequential(nn.Linear(8, 8), Activation(PRELU), nn.Linear(8, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.randn(4, 8)).float().sum().backward()
    assert network[1].learned_a.dtype == torch.float32
    assert network[1].learned_a.grad.isfinite().all()


@pytest.mark.parametrize("text", [PRELU, SNAKE])
def test_it_compiles_as_one_graph_once_it_has_its_size(text: str) -> None:
    torch.compiler.reset()
    network = nn.Sequential(nn.Linear(4, 6), Activation(text, channels=6))
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 4)
    torch.testing.assert_close(compiled(x), network(x))
    compiled(x).square().sum().backward()
    found = network[1].learned_a.grad.clone()
    network.zero_grad()
    network(x).square().sum().backward()
    torch.testing.assert_close(found, network[1].learned_a.grad)


def test_a_users_operator_gets_tensors_of_one_shape() -> None:
    shapes = set()

    def first(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        shapes.update((tuple(a.shape), tuple(b.shape)))
        return a + functional.softplus(b)

    register_binary("shaped_here", first)
    try:
        module = Activation("shaped_here(sigmoid(learn(0)),shaped_here(x,learn_channel(1)))")
        module(torch.zeros(2, 3, 4, 4)).sum().backward()
        assert shapes == {(2, 3, 4, 4)}
        assert module.learned_a.grad.item() == pytest.approx(96 * 0.25)
        assert str(parse("shaped_here(learn(1),1)")) == "shaped_here(learn(1),1)"
    finally:
        unregister("shaped_here")
