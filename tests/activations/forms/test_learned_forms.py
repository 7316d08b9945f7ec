"""Learned parameters in every form: the gradients of inputs and of parameters, in every layout."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from aquasurf_ray.activations import Activation, CompiledActivation, RecomputedActivation, fast_factory
from aquasurf_ray.activations.forms import choice
from aquasurf_ray.activations.forms.agreement import disagreement
from aquasurf_ray.activations.forms.recomputed import PIECE

FORMS = [Activation, RecomputedActivation, CompiledActivation]
FUNCTIONS = [
    "mul(x,sigmoid(mul(learn(1.5),x)))",
    "add(max(x,0),mul(learn_channel(0.25),min(x,0)))",
    "add(x,div(square(sin(mul(learn(1,a),x))),learn(1,a)))",
    "mul(learn(2),tanh(mul(learn_channel(1),x)))",
    "learn_channel(2)",
    "add(mul(learn(0.3),zero(x)),learn(1))",
]


def compiles() -> bool:
    form = CompiledActivation("mul(x,tanh(x))")
    return form.kernels_for(torch.zeros(4, 64)) is not None


@pytest.fixture(scope="module")
def compiler() -> None:
    if not compiles():
        pytest.skip("no compiler on this machine")


def with_parameters(module):
    """The module as a function of its input and its parameters."""
    names = list(module.learned)

    def function(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    return function, [getattr(module, name) for name in names]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", FUNCTIONS)
@pytest.mark.slow
def test_gradients_of_inputs_and_parameters_are_the_functions(form, text):
    module = form(text, channels=3).double()
    x = torch.randn(2, 3, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    function, parameters = with_parameters(module)
    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


LAYOUTS = {
    "images": (torch.randn(4, 3, 16, 16), 1),
    "channels last": (torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last), 1),
    "features": (torch.randn(64, 3), 1),
    "tokens": (torch.randn(8, 24, 3), -1),
    "sequences": (torch.randn(7, 3, 64), 1),
    "one example": (torch.randn(1, 3, 16, 16), 1),
    "one channel": (torch.randn(4, 1, 16, 16), 1),
    "volumes": (torch.randn(2, 3, 4, 8, 8), 1),
    "transposed": (torch.randn(3, 4, 32).transpose(0, 1), 1),
}


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("text", [FUNCTIONS[1], FUNCTIONS[3]])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.slow
def test_every_layout_has_the_eager_forms_values_and_gradients(form, text, layout):
    x, dim = LAYOUTS[layout]
    eager = Activation(text, channels=x.shape[dim], channel_dim=dim)
    module = form(text, channels=x.shape[dim], channel_dim=dim)
    start = {name: value + torch.rand(value.shape) for name, value in eager.state_dict().items()}
    found = []
    for each in (module, eager):
        each.load_state_dict(start)
        own = x.detach().requires_grad_()
        y = each(own)
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        found.append([y, *torch.autograd.grad(y, [own, *each.parameters()], weights)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert found[0][0].stride() == found[1][0].stride()


def test_large_tensors_are_cut_and_have_the_eager_forms_bits():
    text = FUNCTIONS[0]
    x = torch.randn(4 * PIECE * torch.get_num_threads())
    found = []
    for form in (RecomputedActivation, Activation):
        module, own = form(text), x.clone().requires_grad_()
        y = module(own)
        y.square().sum().backward()
        found.append((y, own.grad, module.learned_a.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-4, atol=1e-2)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("text", FUNCTIONS)
@pytest.mark.slow
def test_functions_that_learn_have_kernels(text):
    module = CompiledActivation(text)
    for x in (torch.randn(4, 3, 16, 16), torch.randn(8, 24, 3)):
        assert module.kernels_for(x) is not None
        module = copy.deepcopy(module)
        assert pickle.loads(pickle.dumps(module)).kernels_for(x) is not None


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("text", FUNCTIONS[:4])
@pytest.mark.slow
def test_forms_agree_on_values_and_gradients(text, dtype):
    for form in (RecomputedActivation(text), CompiledActivation(text)):
        assert disagreement(form, Activation(text), device=torch.device("cpu"), dtype=dtype) is None


def test_a_form_with_another_gradient_by_a_parameter_is_found():
    class Wrong(RecomputedActivation):
        def parameters_at(self, x):
            return tuple(2 * p - p.detach() for p in super().parameters_at(x))

    found = disagreement(Wrong(FUNCTIONS[0]), Activation(FUNCTIONS[0]), device=torch.device("cpu"), dtype=torch.float32)
    assert found is not None
    assert found.startswith("gradients by a differ")


def test_a_form_is_chosen_by_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "WORTH_MEASURING", 0.0)
    monkeypatch.setattr(choice, "MEASURED_ELEMENTS", 64 * 64)
    for text in FUNCTIONS[:2]:
        chosen = fast_factory(text, device="cpu", n_elements=64 * 64, expected_calls=10, folder=tmp_path)
        assert chosen.name in choice.FORMS
        assert "refused" not in chosen.note
        assert chosen.factory()(torch.randn(4, 8)).shape == (4, 8)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_under_autocast_gives_gradients_in_float32(form):
    module = form(FUNCTIONS[1], channels=8)
    layer = torch.nn.Linear(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(layer(torch.randn(64, 8)))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert module.learned_a.grad.dtype == torch.float32
