"""`Activation` in the places where networks use it."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
import warnings
from functools import partial

import pytest
import torch
from expression_strategies import EXPRESSIONS
from hypothesis import given, settings
from torch import nn

from aquasurf_ray.activations import Activation, Expression, ExpressionError, all_operators, parse

EVERY_UNARY = "sum_n({})".format(",".join(f"{entry.name}(sigmoid(x))" for entry in all_operators("unary")))
EVERY_OTHER = (
    "sum_n(add(x,x),sub(x,exp(x)),mul(x,x),div(x,cosh(x)),pow(exp(x),x),max(x,tanh(x)),min(x,square(x)),"
    "prod_n(x,x,x),max_n(x,zero(x),negative(x)),min_n(x,one(x)))"
)


def test_it_names_itself() -> None:
    activation = Activation(" mul( sigmoid(x), elu(x))")
    assert activation.name == "mul(sigmoid(x),elu(x))"
    assert activation.expression == parse("mul(sigmoid(x),elu(x))")
    assert repr(nn.Sequential(activation)) == "Sequential(\n  (0): Activation(mul(sigmoid(x),elu(x)))\n)"
    assert not list(activation.parameters())
    assert not activation.state_dict()
    with pytest.raises(ExpressionError, match="at 6"):
        Activation("relu(y)")


@settings(deadline=None)
@given(EXPRESSIONS)
def test_module_and_expression_agree(expression: Expression) -> None:
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(Activation(expression)(x), expression.evaluate(x), rtol=0, atol=0, equal_nan=True)


def test_networks_may_ask_for_inplace_and_their_input_stays() -> None:
    x = torch.tensor([-1.0, 2.0])
    make = partial(Activation, "relu(x)")
    assert make(inplace=True)(x).tolist() == [0.0, 2.0]
    assert x.tolist() == [-1.0, 2.0]


def test_copies_pickles_and_saved_files_compute_the_same() -> None:
    network = nn.Sequential(nn.Linear(4, 8), Activation("mul(sigmoid(x),erfc(x))"), nn.Linear(8, 2))
    network[1].register_forward_hook(_doubled)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    x = torch.randn(3, 4)
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(other(x), network(x))
        assert other[1].expression == network[1].expression


def _doubled(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    return 2 * output


def test_a_pickle_holds_no_function() -> None:
    assert b"sigmoid(x)" in pickle.dumps(Activation("sigmoid(x)"))
    assert b"torch._C" not in pickle.dumps(Activation("sigmoid(x)"))


@pytest.mark.parametrize("text", [EVERY_UNARY, EVERY_OTHER], ids=["unary", "others"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.slow
def test_it_compiles_as_one_graph_forward_and_backward(text: str, backend: str) -> None:
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler on this machine")
    activation = Activation(text)
    torch.compiler.reset()
    compiled = torch.compile(activation, fullgraph=True, backend=backend)
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    same = x.detach().clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler warns of is its own
        result = compiled(x)
        result.sum().backward()
    expected = activation(same)
    expected.sum().backward()
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, same.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("text", [EVERY_UNARY, EVERY_OTHER], ids=["unary", "others"])
def test_it_trains_under_autocast(dtype: torch.dtype, text: str) -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), Activation(text), nn.Linear(8, 2))
    with torch.autocast("cpu", dtype=dtype):
        network(torch.randn(4, 8, generator=generator)).float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("text", [EVERY_UNARY, EVERY_OTHER], ids=["unary", "others"])
def test_it_keeps_shape_memory_format_and_type(text: str) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    y = Activation(text)(x)
    assert y.shape == x.shape
    assert y.dtype is x.dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert Activation(text)(torch.empty(0, 7)).shape == (0, 7)
    assert Activation(text)(torch.tensor(0.5)).shape == ()


def test_intermediate_values_are_released_as_soon_as_they_are_used() -> None:
    from weakref import ref

    from aquasurf_ray.activations import register_unary, unregister

    seen: list[ref[torch.Tensor]] = []
    alive: list[int] = []

    def watched(x: torch.Tensor) -> torch.Tensor:
        alive.append(sum(r() is not None for r in seen))
        y = x + 1
        seen.append(ref(y))
        return y

    register_unary("watched_here", watched)
    try:
        Activation("watched_here(watched_here(watched_here(watched_here(watched_here(x)))))")(torch.zeros(3))
    finally:
        unregister("watched_here")
    assert max(alive) <= 1
