"""Functions of the zoo that PyTorch has as one kernel are found by their structure, and computed as its modules are."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from aquasurf_ray.activations import (
    Activation,
    CompiledActivation,
    RecomputedActivation,
    fingerprint,
    lean_factory,
    parse,
)
from aquasurf_ray.activations.expression import Expression, program_of, run_program
from aquasurf_ray.activations.forms.agreement import points
from aquasurf_ray.activations.forms.stopwatch import kept_bytes
from aquasurf_ray.activations.formulas import kernel_match, matches
from aquasurf_ray.activations.recognition import recognised
from aquasurf_ray.activations.zoo import ZOO

CPU = torch.device("cpu")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MODULES = {
    "leaky_relu(x,0.1)": lambda: nn.LeakyReLU(0.1),
    "leaky_relu(x,-0.2)": lambda: nn.LeakyReLU(-0.2),
    "relu6(x)": nn.ReLU6,
    "hardtanh(x,-2,0.5)": lambda: nn.Hardtanh(-2.0, 0.5),
    "elu(x,0.5)": lambda: nn.ELU(0.5),
    "celu(x,0.5)": lambda: nn.CELU(0.5),
    "hardswish(x)": nn.Hardswish,
    "gelu_tanh(x)": lambda: nn.GELU(approximate="tanh"),
    "softshrink(x,0.25)": lambda: nn.Softshrink(0.25),
}
KINKS = {
    "leaky_relu(x,0.1)": {0: 0.1},
    "leaky_relu(x,-0.2)": {0: -0.2},
    "relu6(x)": {0: 0, 6: 0},
    "hardtanh(x,-2,0.5)": {-2: 0, 0.5: 0},
    "elu(x,0.5)": {0: 0.5},
    "celu(x,0.5)": {0: 1},  # one slope, and two second derivatives
    "hardswish(x)": {-3: 0, 3: 1},
    "softshrink(x,0.25)": {-0.25: 0, 0.25: 0},
}
"""PyTorch's slopes where a function has two."""

Function = Callable[[Tensor], Tensor]


class Calls(TorchDispatchMode):
    """The names of PyTorch's operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):  # type: ignore[no-untyped-def]
        self.names.append(function.__name__)
        return function(*arguments, **(settings or {}))


def calls(function: Function) -> list[str]:
    x = torch.randn(4, 4)
    with Calls() as found:
        function(x)
    return found.names


def kept(function: Function) -> int:
    """The bytes that are kept where a layer is before the function and another after it, as in a network."""
    before, after = nn.Linear(8, 64), nn.Linear(64, 64)
    own = function.parameters() if isinstance(function, nn.Module) else ()
    x = torch.zeros(16, 8)
    return kept_bytes(
        lambda: after(function(before(x))), [p for each in (before, after) for p in each.parameters()] + list(own)
    )


def written_out(text: str) -> Function:
    """The function by the operators of its spelling, without a kernel."""
    steps = program_of(parse(text))
    return lambda x: run_program(steps, x)


def value_and_slopes(function: Function, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values, and first and second derivatives."""
    x = x.clone().requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x, allow_unused=True) if slope.requires_grad else (None,)
    return y.detach(), slope.detach(), torch.zeros_like(x) if second is None else second


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(1e9), b.nan_to_num(1e9))


# --- which function an expression is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [each for each in ZOO if "learn" not in each.template], ids=lambda each: each.name)
def test_every_function_is_found_with_its_argument_and_constants(function):
    constants = [2.5 + 1.25 * number for number in range(len(function.constants))]
    text = (
        function.text([repr(value) for value in constants])
        .replace("x", "#")
        .replace("e#p", "exp")
        .replace("ma#", "max")
    )
    expression = parse(text.replace("#", "tanh(x)"))
    found = [match for match in matches(expression) if match.function is function]
    assert found == [(function, parse("tanh(x)"), tuple(constants))]


def test_a_function_of_two_arguments_or_two_constants_is_another_one():
    assert kernel_match(parse("add(relu(x),mul(0.1,min(x,0)))")) is not None
    for text in (
        "add(relu(x),mul(0.1,min(tanh(x),0)))",
        "add(relu(x),mul(0.1,min(x,1)))",
        "add(relu(x),mul(x,min(x,0)))",
    ):
        assert kernel_match(parse(text)) is None
    assert kernel_match(parse("sub(x,min(max(x,-1),0.5))")) is None, "softshrink has one constant in two places"
    assert kernel_match(parse("add(relu(x),mul(learn(0.1),min(x,0)))")) is None, "a learned slope is no number"


# --- one kernel ------------------------------------------------------------------------------------------------------

WITHOUT_KERNEL = {
    "PReLU",  # learned: a parameter may have any shape that broadcasts, and torch.prelu takes one only
    "Hardsigmoid",  # PyTorch has no second derivative of its kernel
}


def elementwise_modules() -> dict[str, nn.Module]:
    found = {}
    for name in nn.modules.activation.__all__:
        kind = getattr(nn, name)
        required = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
        if not required and name not in ("GLU", "Softmin", "Softmax", "Softmax2d", "LogSoftmax"):
            found[name] = kind()
    return found


@pytest.mark.parametrize("name", elementwise_modules())
def test_no_activation_module_of_pytorch_costs_less_than_its_function(name):
    """Also one that a later PyTorch adds."""
    module = elementwise_modules()[name]
    text = recognised(module)
    if text is None:
        assert name in ("RReLU", "Hardshrink"), "no function of the language: docs/zoo.md has the reasons"
        return
    own = Activation(text)
    if name != "PReLU":
        assert kept(own) < kept(module) + 16 * 64 * 4, "not one tensor more"
    if name not in WITHOUT_KERNEL:
        assert len(calls(own)) <= len(calls(module)), f"the zoo lacks the kernel of {text}"


@pytest.mark.parametrize("text", MODULES)
def test_a_module_costs_and_computes_what_its_function_does(text):
    module, own = MODULES[text](), Activation(text)
    assert calls(own) == calls(module)
    assert kept(own) == kept(module)
    for dtype in DTYPES:
        for x in (points(CPU, dtype), torch.tensor([*KINKS.get(text, {}), -0.0], dtype=dtype)):
            found, expected = value_and_slopes(own, x), value_and_slopes(module, x)
            assert all(map(same, found, expected)), dtype


def test_every_kernel_of_the_table_is_tried():
    assert {kernel_match(parse(text)).function.name for text in MODULES} == {each.name for each in ZOO if each.kernel}


@pytest.mark.parametrize("text", MODULES)
def test_it_keeps_no_more_than_the_operators_of_its_spelling(text):
    assert kept(Activation(text)) <= kept(written_out(text))
    assert len(calls(Activation(text))) < len(calls(written_out(text)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("text", MODULES)
def test_values_and_slopes_are_those_of_the_operators_of_its_spelling(text, dtype):
    """Up to rounding: no further from the formula in float64 than these are. Not at a kink, whose slope is PyTorch's;
    at minus infinity, where the kernels of elu and celu have a limit; and above 5e37, which hardswish multiplies by 6.
    """
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    x = points(CPU, dtype).flatten()
    at_kink = torch.zeros_like(x, dtype=torch.bool)
    for kink in KINKS.get(text, {}):
        at_kink |= (x - kink).abs() < tolerance
    x = x[~at_kink & (x != -torch.inf) & ~x.isnan()]
    found, formula = value_and_slopes(Activation(text), x), value_and_slopes(written_out(text), x)
    exact = value_and_slopes(written_out(text), x.double())
    for order, (got, wanted, reference) in enumerate(zip(found, formula, exact, strict=True)):
        scale = reference.abs().clamp(min=1)
        allowed = (wanted.double() - reference).abs().nan_to_num(torch.inf) + 16 * tolerance * scale
        close = (got.double() - reference).abs() <= allowed
        wrong = ~(close | (got == wanted) | (got.isnan() & wanted.isnan()))
        assert not wrong.any(), (order, x[wrong][:5], got[wrong][:5], wanted[wrong][:5])
    assert Activation(text)(torch.tensor([torch.nan], dtype=dtype)).isnan().all()


@pytest.mark.parametrize(("text", "slopes"), KINKS.items())
def test_the_slope_at_a_kink_is_that_of_one_side(text, slopes):
    x = torch.tensor([float(kink) for kink in slopes], requires_grad=True)
    (found,) = torch.autograd.grad(Activation(text)(x).sum(), x)
    assert found.tolist() == pytest.approx(list(slopes.values()))


@pytest.mark.parametrize(
    "text", ["hardtanh(x,2,-2)", "celu(x,-1)", "softshrink(x,-1)", "leaky_relu(x,1e39)", "elu(x,1e5)"]
)
def test_constants_that_the_kernel_refuses_are_computed_as_written(text):
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(Activation(text)(x), written_out(text)(x), rtol=0, atol=0, equal_nan=True)
    assert Activation(text)(x.half()).shape == x.shape


# --- what does not change --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MODULES)
def test_spelling_identity_and_evaluation_are_the_formulas(text):
    expression = parse(text)
    assert str(Activation(text).expression) == str(expression)
    found = value_and_slopes(expression.evaluate, points(CPU, torch.float64))
    assert all(map(same, found, value_and_slopes(written_out(text), points(CPU, torch.float64))))
    twin = Expression("add", (expression, parse("zero(x)")))
    assert fingerprint(twin) == fingerprint(expression)


# --- inside other functions, and in every use ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mul(x,leaky_relu(tanh(x),0.1))", ["tanh.default", "leaky_relu.default", "mul.Tensor"]),
        ("leaky_relu_squared(0.2)", ["leaky_relu.default", "pow.Tensor_Scalar"]),
        ("hardswish(hardtanh(x,-1,2))", ["hardtanh.default", "hardswish.default"]),
        ("mul(relu6(x),relu6(x))", ["hardtanh.default", "mul.Tensor"]),
        ("hardswish(mul(learn(1),x))", ["mul.Tensor", "hardswish.default"]),
    ],
)
def test_a_part_of_a_function_is_computed_by_its_kernel(text, expected):
    assert calls(Activation(text)) == expected


@pytest.mark.parametrize("text", MODULES)
def test_every_form_computes_it(text):
    x = torch.linspace(-4, 4, 256).reshape(4, 64)
    forms = (
        Activation(text),
        RecomputedActivation(text),
        pickle.loads(pickle.dumps(Activation(text))),
        lean_factory(text)(),
    )
    expected = value_and_slopes(forms[0], x)
    for form in (*forms, deepcopy(forms[0])):
        assert all(map(same, value_and_slopes(form, x), expected))
    assert forms[0].is_one_call
    assert type(forms[3]) is Activation, "its kernel keeps its input, as a recomputed form would"


@pytest.mark.parametrize("text", MODULES)
def test_it_works_under_transformations_and_autocast(text):
    own, module, x = Activation(text), MODULES[text](), torch.randn(6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a kernel without a rule for batches would warn
        warnings.filterwarnings("ignore", category=FutureWarning)
        gradients = torch.func.vmap(torch.func.grad(lambda row: own(row).square().sum()))(x)
        curvatures = torch.func.vmap(torch.func.hessian(lambda row: own(row).square().sum()))(x)
        called = torch.func.functional_call(own, {}, (x,))
    assert same(called, own(x))
    y = x.clone().requires_grad_()
    torch.testing.assert_close(gradients, torch.autograd.grad(own(y).square().sum(), y)[0])
    second = value_and_slopes(lambda z: own(z).square(), x)[2]
    torch.testing.assert_close(torch.diagonal(curvatures, dim1=1, dim2=2), second)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = nn.Linear(5, 5)(x)
        assert same(own(hidden), module(hidden))


@pytest.mark.parametrize("text", MODULES)
def test_it_is_traced_as_one_graph(text):
    x, y = (torch.linspace(-4, 4, 64, requires_grad=True) for _ in range(2))
    torch.compiler.reset()  # it refuses the ninth function of one `forward`
    compiled = torch.compile(Activation(text), fullgraph=True, backend="aot_eager")
    compiled(x).sum().backward()
    Activation(text)(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("text", ["leaky_relu(x,0.1)", "gelu_tanh(x)"])
@pytest.mark.slow
def test_the_compiled_form_computes_it(text):
    x = torch.linspace(-4, 4, 256).reshape(4, 64)
    values, slopes = value_and_slopes(Activation(text), x)[:2]
    form = CompiledActivation(text)
    if form.kernels_for(x) is None:
        pytest.skip("needs a compiler")
    y = x.clone().requires_grad_()
    torch.testing.assert_close(form(y).detach(), values)
    torch.testing.assert_close(torch.autograd.grad(form(y).sum(), y)[0], slopes)


@pytest.mark.parametrize("text", MODULES)
def test_layouts_stay_and_nothing_is_changed_in_place(text):
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    assert Activation(text, inplace=True)(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)
