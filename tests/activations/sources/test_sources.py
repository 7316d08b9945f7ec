"""What is taken home computes the same, in each framework that is installed, for every operator."""

from __future__ import annotations

import linecache
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from aquasurf_ray.activations import Activation, parse
from aquasurf_ray.activations.errors import OperatorError
from aquasurf_ray.activations.operators import BINARY, EVERY_UNARY, NARY
from aquasurf_ray.activations.sources import LANGUAGES, class_name, source
from aquasurf_ray.activations.sources.writer import function_name
from aquasurf_ray.activations.zoo import ZOO

X = np.concatenate([np.linspace(-6.0, 6.0, 97), [-50.0, 50.0]]).astype(np.float32)
FUNCTIONS = (
    "x",
    *(f"{name}(x)" for name in EVERY_UNARY),
    *(f"{name}(sigmoid(x),tanh(x))" for name in BINARY),
    *(f"{name}(x,exp(x),arctan(x))" for name in NARY),
    "mul(erfc(x),tanh(x))",
    "sub(x,mul(sub(x,tanh(x)),exp(negative(square(x)))))",
    "pow(div(relu(x),add(one(x),abs(x))),square(tanh(x)))",
    "mul(x,sigmoid(mul(1.702,x)))",
    "min(max(x,-1),1)",
    "max_n(0.5,-2,x)",
    "sub(pow(2,x),mul(x,-1e-3))",
)
RUN = """
import importlib, sys
import numpy
found = [importlib.import_module(f"function_{number}").Y for number in range(int(sys.argv[1]))]
numpy.save("y.npy", numpy.stack(found))
"""


def ours(function: str, x: np.ndarray = X) -> np.ndarray:
    return Activation(function)(torch.from_numpy(x)).numpy()


def loaded(text: str, name: str) -> Any:
    """What the text defines under a name; the lines can be looked up as those of a file, which compilers do."""
    file = f"<{name} taken home>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    place: dict[str, Any] = {"__name__": name}
    exec(compile(text, file, "exec"), place)
    return place[name]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_pytorch_source_has_the_same_bits(function):
    module = loaded(source(function, LANGUAGES["pytorch"]), class_name(parse(function)))()
    np.testing.assert_array_equal(module(torch.from_numpy(X)).numpy(), ours(function))


def test_every_pytorch_source_is_clean_python_that_imports_torch_alone():
    for function in FUNCTIONS:
        text = source(function, LANGUAGES["pytorch"])
        compile(text, "taken_home.py", "exec")
        imports = [line.split()[1] for line in text.splitlines() if line.startswith(("import", "from"))]
        assert {name.split(".")[0] for name in imports} == {"torch"}
        assert ("functional as F" in text) == ("F." in text)


def test_half_precision_of_the_bessel_functions_is_that_of_the_package():
    module = loaded(source("bessel_i0e(x)", LANGUAGES["pytorch"]), "BesselI0e")()
    x = torch.linspace(-3, 3, 31, dtype=torch.bfloat16)
    torch.testing.assert_close(module(x), Activation("bessel_i0e(x)")(x), rtol=0, atol=0)


def test_the_compiled_source_has_the_same_values_and_slopes():
    function = "mul(erfc(x),tanh(x))"
    module = loaded(source(function, LANGUAGES["compiled"]), "MulErfcTanh")()
    x, same = (torch.linspace(-3, 3, 64, requires_grad=True) for _ in range(2))
    values, expected = module(x), Activation(function)(same)
    torch.testing.assert_close(values, expected)
    values.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, same.grad)


@pytest.mark.parametrize(("language", "framework"), [("jax", "jax"), ("tensorflow", "tensorflow")])
@pytest.mark.slow
def test_the_sources_of_other_frameworks_have_the_same_values(language, framework, tmp_path):
    """In a process of its own: neither is fond of others' forks."""
    if find_spec(framework) is None:
        pytest.skip(f"needs {framework}")
    for number, function in enumerate(FUNCTIONS):
        text = source(function, LANGUAGES[language])
        called = f"\n\nimport numpy\n\nY = numpy.asarray({function_name(parse(function))}(numpy.load('x.npy')))\n"
        (tmp_path / f"function_{number}.py").write_text(text + called)
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "run.py").write_text(RUN)
    subprocess.run([sys.executable, "run.py", str(len(FUNCTIONS))], cwd=tmp_path, check=True, timeout=240)
    found = np.load(tmp_path / "y.npy")
    for function, values in zip(FUNCTIONS, found, strict=True):
        expected = Activation(function)(torch.from_numpy(X).double())  # JAX's gelu keeps digits that PyTorch's loses
        absolute = 1e-37 if function.count("(") == 1 else 2e-6  # JAX rounds to zero below; a difference loses digits
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=absolute, err_msg=function)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_spells_every_operator_and_no_other(language):
    table = LANGUAGES[language]
    assert set(table.operators) == {*EVERY_UNARY, *BINARY}
    assert set(table.joiners) == set(NARY)


KERNELS = {
    "leaky_relu(x,-0.2)": "F.leaky_relu(x, -0.2)",
    "relu6(x)": "F.relu6(x)",
    "hardtanh(x,-2,0.5)": "F.hardtanh(x, -2.0, 0.5)",
    "elu(x,0.5)": "F.elu(x, 0.5)",
    "celu(x,0.5)": "F.celu(x, 0.5)",
    "hardswish(x)": "F.hardswish(x)",
    "gelu_tanh(x)": 'F.gelu(x, approximate="tanh")',
    "softshrink(x,0.25)": "F.softshrink(x, 0.25)",
}


@pytest.mark.parametrize("function", KERNELS)
def test_the_pytorch_source_calls_the_kernel_that_was_trained_with(function):
    text = source(function, LANGUAGES["pytorch"])
    assert f"return {KERNELS[function]}\n" in text
    assert KERNELS[function] in source(function, LANGUAGES["compiled"])
    module = loaded(text, class_name(parse(function)))()
    np.testing.assert_array_equal(module(torch.from_numpy(X)).numpy(), ours(function))
    inside = source(f"mul(exp(tanh(x)),{function.replace('(x', '(tanh(x)')})", LANGUAGES["pytorch"])
    assert "part_1 = torch.tanh(x)" in inside
    assert "torch.exp(part_1) * F." in inside


def test_every_kernel_of_the_zoo_has_a_call_in_pytorch_source_and_in_no_other():
    assert set(LANGUAGES["pytorch"].kernels) == {function.name for function in ZOO if function.kernel}
    assert not LANGUAGES["jax"].kernels
    assert "relu6" not in source("relu6(x)", LANGUAGES["jax"]).partition("@jax.jit")[2].partition("return")[2]


def test_what_occurs_twice_is_computed_once():
    text = source("mul(exp(tanh(x)),add(exp(tanh(x)),x))", LANGUAGES["pytorch"])
    assert text.count("torch.tanh") == 1
    assert "part_1 = torch.exp(torch.tanh(x))" in text


def test_a_custom_operator_has_no_source_here():
    from aquasurf_ray.activations import register_unary, unregister

    register_unary("mine", torch.sin)
    try:
        with pytest.raises(OperatorError, match="'mine' has no PyTorch source"):
            source("mine(x)", LANGUAGES["pytorch"])
    finally:
        unregister("mine")


@pytest.mark.parametrize(
    "function",
    [
        "min(relu(x),6)",
        "min(max(x,-1),1)",
        "mul(x,div(min(relu(add(x,3)),6),6))",
        "max_n(0.5,-2,x)",
        "max(min(x,0.5),-1)",
    ],
)
@pytest.mark.parametrize("language", ["pytorch", pytest.param("compiled", marks=pytest.mark.slow)])
def test_the_pytorch_source_has_the_same_slopes_at_kinks(language, function):
    """There a slope is a convention, which torch.clamp and torch.maximum do not share."""
    module = loaded(source(function, LANGUAGES[language]), class_name(parse(function)))()
    x, same = (torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 3.0, 6.0, 2.0], requires_grad=True) for _ in range(2))
    module(x).sum().backward()
    Activation(function)(same).sum().backward()
    torch.testing.assert_close(x.grad, same.grad, rtol=0, atol=0)
    if function == "min(relu(x),6)":
        assert x.grad.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
