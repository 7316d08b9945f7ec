"""Functions with learned parameters as source: the same values and gradients, with the parameters in reach."""

from __future__ import annotations

import linecache
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from aquasurf_ray.activations import Activation, parse, register_binary, unregister
from aquasurf_ray.activations.sources import LANGUAGES, class_name, export_onnx, source
from aquasurf_ray.activations.sources.writer import function_name

CHANNELS = 4
FUNCTIONS = (
    "mul(x,sigmoid(mul(learn(1.5),x)))",
    "add(max(x,0),mul(learn_channel(0.25),min(x,0)))",
    "add(x,div(square(sin(mul(learn(0.5,a),x))),learn(0.5,a)))",
    "add(mul(learn(0.8944),square(relu(x))),learn(-0.4472))",
    "max(learn_channel(-0.5,bound),mul(learn(2),tanh(x)))",
    "pow(2,mul(learn(0.5),x))",
    "sum_n(x,learn(1),learn_channel(2))",
    "learn(2)",
    "mul(sigmoid(learn_channel(0)),0.5)",
)
X = np.random.default_rng(0).normal(size=(6, CHANNELS)).astype(np.float32)


def loaded(text: str, name: str) -> Any:
    file = f"<{name} taken home>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    place: dict[str, Any] = {"__name__": name}
    exec(compile(text, file, "exec"), place)
    return place[name]


def made(function: str, language: str = "pytorch") -> torch.nn.Module:
    text = source(function, LANGUAGES[language])
    has_channels = any(parameter.per_channel for parameter in parse(function).parameters)
    return loaded(text, class_name(parse(function)))(*([CHANNELS] if has_channels else []))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_pytorch_module_has_the_parameters_the_values_and_the_gradients(function):
    theirs, ours = made(function), Activation(function, channels=CHANNELS)
    changed = {name: value + 0.1 * torch.rand(value.shape) for name, value in ours.state_dict().items()}
    for module in (theirs, ours):
        module.load_state_dict(changed)  # the trained state of the one fits the other
    for shape in [(6, CHANNELS), (2, CHANNELS, 3, 3)]:
        x = torch.randn(shape)
        torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=0)
        assert theirs(x.to(torch.bfloat16)).dtype == torch.bfloat16
    for module in (theirs, ours):
        module(torch.from_numpy(X)).square().sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_pytorch_module_says_where_its_channels_are():
    module = loaded(source("mul(learn_channel(2),x)", LANGUAGES["pytorch"]), "Mul")(3, channel_dim=-1)
    with torch.no_grad():
        module.learned_a.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert module(torch.ones(2, 5, 3))[0, 0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.slow
def test_a_compiled_module_has_the_same_gradients():
    function = FUNCTIONS[1]
    theirs, ours = made(function, "compiled"), Activation(function, channels=CHANNELS)
    for module in (theirs, ours):
        module(torch.from_numpy(X)).square().sum().backward()
    torch.testing.assert_close(theirs.learned_a.grad, ours.learned_a.grad)


@pytest.mark.parametrize(("language", "framework"), [("jax", "jax"), ("tensorflow", "tensorflow")])
def test_other_frameworks_take_a_dictionary_of_parameters(language, framework, tmp_path):
    if find_spec(framework) is None:
        pytest.skip(f"needs {framework}")
    call = (
        "\n\nimport numpy\n\nP = {{name: value + 0.5 for name, value in initial_parameters({channels}).items()}}\n"
        "Y = numpy.asarray({name}(numpy.load('x.npy'), P))\n"
    )
    for number, function in enumerate(FUNCTIONS):
        has_channels = any(parameter.per_channel for parameter in parse(function).parameters)
        text = source(function, LANGUAGES[language])
        text += call.format(channels=CHANNELS if has_channels else "", name=function_name(parse(function)))
        (tmp_path / f"function_{number}.py").write_text(text)
    np.save(tmp_path / "x.npy", X)
    run = "import importlib, numpy\nfound = [importlib.import_module(f'function_{n}').Y for n in range(%d)]\n"
    (tmp_path / "run.py").write_text(run % len(FUNCTIONS) + "numpy.save('y.npy', numpy.stack(found))\n")
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, check=True, timeout=240)
    for function, values in zip(FUNCTIONS, np.load(tmp_path / "y.npy"), strict=True):
        module = Activation(function, channels=CHANNELS)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.5)
        expected = module(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-6, err_msg=function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_onnx_model_has_them_as_initializers(function, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    export_onnx(function, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    module = Activation(function, channels=CHANNELS)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    assert set(module.state_dict()) <= set(initializers)
    new = {name: value + 0.25 * torch.rand(value.shape) for name, value in module.state_dict().items()}
    for changed in (module.state_dict(), new):
        module.load_state_dict(changed)
        for name, value in changed.items():
            initializers[name].CopyFrom(onnx.numpy_helper.from_array(value.numpy(), name))
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (values,) = session.run(None, {"x": X})
        expected = module(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_an_onnx_model_gives_a_users_operator_arguments_of_one_shape(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    register_binary("added_here", lambda a, b: a + b)
    try:
        export_onnx("added_here(x,sigmoid(learn(0)))", tmp_path / "model.onnx")
        session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": X})[0], X + 0.5, rtol=1e-6)
    finally:
        unregister("added_here")


def test_a_constant_has_the_shape_of_x():
    module = loaded(source("0.5", LANGUAGES["pytorch"]), class_name(parse("0.5")))()
    assert module(torch.zeros(2, 3)).tolist() == [[0.5] * 3] * 2


def test_a_pytorch_module_learns_as_the_trained_one_does_where_its_input_is_zero():
    """PReLU's part below 0 is min(x,0), which has half of its slope at 0."""
    theirs, ours = made(FUNCTIONS[1]), Activation(FUNCTIONS[1], channels=CHANNELS)
    x, same = (torch.zeros(2, CHANNELS, requires_grad=True) for _ in range(2))
    theirs(x).sum().backward()
    ours(same).sum().backward()
    assert x.grad.unique().tolist() == same.grad.unique().tolist() == [0.5 + 0.25 / 2]
