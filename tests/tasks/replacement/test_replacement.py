"""`replace_activations` puts the function everywhere it belongs, and says what it left."""

from __future__ import annotations

import pickle
import re
import warnings
from copy import deepcopy
from importlib import import_module

import pytest
import timm.models.gemma4_vit
import timm.models.mambaout
import timm.models.mobilevit
import timm.models.vitamin
import torch
from timm.layers import GluMlp, SEModule, SwiGLU, get_act_fn
from timm.layers.activations import GELU
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct, LayerNormAct2d
from timm.layers.squeeze_excite import EffectiveSEModule
from timm.models.metaformer import SquaredReLU, StarReLU
from timm.models.nfnet import GammaAct
from torch import nn
from torch.nn import functional
from torchvision.ops import SqueezeExcitation

from aquasurf_ray.activations import Activation
from aquasurf_ray.tasks import TaskError, activation_calls, network_from, replace_activations
from aquasurf_ray.tasks.networks.mobilevitv2 import SearchedSelfAttention
from aquasurf_ray.tasks.replacement import Kept


class Marker(nn.Module):
    """Stands for the searched function."""

    def forward(self, x):
        return x * 3


def perceptron():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def named(model):
    return {name for name, module in model.named_modules() if isinstance(module, Marker)}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: None, "the function of network_from must return an nn.Module, got None; is a `return` missing?"),
        (lambda: "x", "the function of network_from must return an nn.Module, got a str"),
        (lambda: nn.Sequential, "got the class Sequential; call it: Sequential()"),
        (lambda a: perceptron(), "network_from takes a function without arguments, got <lambda>(a); a network that "),
    ],
    ids=["none", "text", "class", "argument"],
)
def test_a_function_that_returns_no_network_is_refused(make, text):
    with pytest.raises(TaskError, match=re.escape(text)):
        network_from(make)(nn.Tanh)


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (torch.zeros(1, 16, dtype=torch.long), "such as (16,), got a tensor of shape (1, 16)"),
        (torch.zeros(16), "without the batch dimension, got a tensor of shape (16,)"),
        (16, "without the batch dimension, got 16"),
        ((16.0,), "without the batch dimension, got (16.0,)"),
    ],
    ids=["batch", "input", "number", "float"],
)
def test_an_example_is_a_shape(example, text):
    with pytest.raises(TaskError, match=f"^example= must be the shape of one input.*{re.escape(text)}$"):
        network_from(perceptron, example=example)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.act = nn.ReLU()

    def forward(self, ids):
        n_examples, n_tokens = ids.shape
        return self.act(self.embedding(ids)).reshape(n_examples, n_tokens, 4)


def test_a_model_of_tokens_that_fails_on_them_says_why_and_not_that_floats_are_no_tokens():
    with pytest.raises(TaskError, match=r"shape \(2, 1, 16\): ValueError.*unpack.*perhaps \(16,\)$"):
        _ = network_from(Tokens, example=(1, 16)).replacement
    assert network_from(Tokens, example=[16]).replacement.replaced == ("act",)


def test_modules_are_replaced_by_new_ones_in_place_and_weights_stay():
    model = perceptron()
    before = deepcopy(model.state_dict())
    report = replace_activations(model, Marker)
    assert report.replaced == ("1", "3")
    assert report.kept == ()
    assert named(model) == {"1", "3"}
    assert model[1] is not model[3]
    assert [type(m) for m in model] == [nn.Linear, Marker, nn.Linear, Marker, nn.Linear]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


ALL_OF_TORCH = [
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.PReLU,
    nn.RReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL_OF_TORCH)
def test_every_activation_of_torch_is_seen_by_type_and_by_its_call(kind):
    model = nn.Sequential(nn.Linear(4, 4), kind(), nn.Linear(4, 2))
    assert {call.module for call in activation_calls(model, torch.randn(3, 4))} == {"1"}
    assert replace_activations(model, Marker).replaced == ("1",)
    assert activation_calls(model, torch.randn(3, 4)) == ()


def test_no_class_of_torchs_activation_module_is_overlooked():
    from torch.nn.modules import activation

    from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATIONS, GATES

    known = {name for module, name in ACTIVATIONS | GATES if module == activation.__name__}
    assert set(activation.__all__) - known == {"MultiheadAttention"}


def test_no_class_of_timms_activation_modules_is_overlooked():
    from timm.layers import activations, activations_me

    from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATIONS, GATES

    for module in (activations, activations_me):
        there = {n for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__}
        classes = {n for n in there if issubclass(getattr(module, n), nn.Module)}
        assert classes == {name for place, name in ACTIVATIONS | GATES if place == module.__name__}


def test_every_known_class_is_still_where_it_was():
    from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATIONS, GATED_BLOCKS, GATES, RECURRENT

    for module, name in ACTIVATIONS | GATES | GATED_BLOCKS | RECURRENT:
        assert getattr(import_module(module), name).__module__ == module


def test_activations_with_parts_of_their_own_are_replaced_whole():
    model = nn.Sequential(nn.Linear(2, 2), StarReLU(), GammaAct("silu", gamma=1.7), SquaredReLU())
    assert replace_activations(model, Marker, inputs=torch.randn(2, 2)).replaced == ("1", "2", "3")
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]


def test_a_refusal_leaves_the_model_as_it_was():
    model = perceptron()
    with pytest.raises(TaskError):
        replace_activations(model, Marker, ("1", "no such name"))
    assert not named(model)


@pytest.mark.parametrize("function", [torch.tanh, functional.leaky_relu, get_act_fn("gelu"), get_act_fn("quick_gelu")])
def test_functions_in_attributes_are_replaced(function):
    model = Functional()
    model.apply_this = function
    assert set(replace_activations(model, Marker).replaced) == {"act", "apply_this"}
    assert isinstance(model.apply_this, Marker)


def test_activations_in_norm_layers_squeeze_excitation_and_gated_blocks_are_replaced_and_gates_stay():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        BatchNormAct2d(8),
        GroupNormAct(8, 2, act_layer=GELU),
        LayerNormAct2d(8, act_layer="silu"),
        BatchNormAct2d(8, apply_act=False),
        SEModule(8),
        EffectiveSEModule(8),
        SqueezeExcitation(8, 4),
        GluMlp(5, 8, use_conv=False),
    )
    report = replace_activations(model, Marker, inputs=torch.randn(2, 3, 7, 7))
    assert report.replaced == ("1.act", "2.act", "3.act", "5.act", "7.activation", "8.act")
    assert report.kept == (
        Kept("5.gate", "gate: Sigmoid"),
        Kept("6.gate", "gate: Hardsigmoid"),
        Kept("7.scale_activation", "gate: Sigmoid"),
    )
    assert named(model) == set(report.replaced)


def test_a_gate_of_another_type_and_the_inside_of_recurrent_layers_stay():
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 3), "act": nn.ReLU(), "glu": GluMlp(4, 8, act_layer=nn.SiLU)})
    model["se"] = SEModule(8, gate_layer=nn.Tanh)
    report = replace_activations(model, Marker)
    assert set(report.replaced) == {"act", "glu.act", "se.act"}
    assert {k.name: k.reason for k in report.kept} == {
        "lstm": "recurrent layer: the functions inside LSTM are part of it",
        "se.gate": "gate: Tanh of a SEModule",
    }


@pytest.mark.parametrize(
    "block",
    [
        GluMlp(4, 8),
        GluMlp(4, 8, act_layer=nn.SiLU, gate_last=False),
        SwiGLU(4, 8),
        timm.models.mambaout.GatedConvBlock(4),
        timm.models.vitamin.GeGluMlp(4, 8),
        timm.models.gemma4_vit.Gemma4GatedMlp(4, 8),
    ],
    ids=lambda block: type(block).__name__,
)
def test_the_function_of_a_gated_block_of_timm_is_replaced_whatever_it_is(block):
    model = nn.Sequential(block)
    report = replace_activations(model, Marker)
    assert report.replaced == ("0.act",)
    assert report.kept == ()
    x = torch.randn(2, 5, 5, 4)
    assert model(x).shape == x.shape


def test_one_module_in_several_places_stays_one():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), shared, nn.Sequential(nn.Linear(2, 2), shared), shared)
    report = replace_activations(model, Marker)
    assert report.replaced == ("1", "2.1", "3")
    assert model[1] is model[2][1] is model[3]


@pytest.mark.parametrize("own", ["relu", nn.ReLU(), functional.gelu])
def test_the_function_of_a_transformer_layer_is_replaced_also_in_its_fused_form(own):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=own, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    report = replace_activations(model, Marker, inputs=torch.randn(2, 3, 8))
    assert report.replaced == ("layers.0.activation", "layers.1.activation")
    x = torch.randn(2, 3, 8)
    slow = model.train()(x)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), slow, atol=1e-5)


def test_a_sigmoid_function_in_an_attribute_is_listed():
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    model[0].squash = torch.sigmoid
    assert replace_activations(model, Marker).kept == (Kept("0.squash", "gate: sigmoid"),)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (nn.ReLU, {"0.1"}),
        ((nn.ReLU, nn.Tanh), {"0.1", "0.3", "1.3"}),
        ("0.*", {"0.1", "0.3"}),
        (["1.*", "0.1"], {"0.1", "1.1", "1.3"}),
        ((nn.Tanh, "1.*"), {"1.3"}),
        (nn.Sigmoid, {"1.4"}),
        ("1.4", {"1.4"}),
        (("1.*", "1.4"), {"1.1", "1.3", "1.4"}),
    ],
)
def test_only_selects_by_type_by_name_or_both(only, expected):
    second = nn.Sequential(nn.Linear(4, 4), GELU(), nn.Linear(4, 2), nn.Tanh(), nn.Sigmoid())
    model = nn.Sequential(nn.Sequential(*perceptron()), second)
    report = replace_activations(model, Marker, only)
    assert named(model) == set(report.replaced) == expected
    assert set(report.replaced) | {k.name for k in report.kept} >= {"0.1", "0.3", "1.1", "1.3", "1.4"}


class Wave(nn.Module):
    def forward(self, x):
        return x * torch.cos(x)


class Threshold(nn.Module):
    """Somebody's own, which works in place."""

    def forward(self, x):
        return x.clamp_(min=-1)


@pytest.mark.parametrize("kind", [Wave, Threshold])
def test_somebodys_own_activation_is_found_without_a_name(kind):
    model = nn.Sequential(nn.Linear(3, 4), kind(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), kind())
    assert replace_activations(model, Marker).replaced == ("1", "3", "5")


class Scaling(nn.Module):
    def forward(self, x):
        return 3 * x + 1


class Normed(nn.Module):
    def forward(self, x):
        return x / x.norm()


class Logarithm(nn.Module):
    """Makes positive inputs smaller, at the entrance of a network for sound."""

    def forward(self, x):
        return torch.log(x)


class Squashed(nn.Module):
    def forward(self, x):
        return torch.exp(-x * x)


@pytest.mark.parametrize("kind", [Scaling, Normed, Logarithm, Squashed, lambda: nn.Dropout(0.5), nn.Flatten])
def test_a_module_that_is_linear_or_no_function_of_each_number_or_a_gate_stays(kind):
    model = nn.Sequential(kind(), nn.Linear(4, 4), nn.ReLU())
    assert replace_activations(model, Marker).replaced == ("2",)


def test_a_layer_is_no_activation_whoever_names_it():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
    for only, text in (("0", "'0', a Linear"), (nn.BatchNorm1d, "'1', a BatchNorm1d")):
        with pytest.raises(TaskError, match=f"only= names {text}, which is a layer and no activation"):
            replace_activations(model, Marker, only)
    with pytest.raises(TaskError, match=r"2 Linear; one that a forward writes out, .* is not found: make it a module"):
        replace_activations(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), Marker)


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.tanh(self.scale * x)


def test_a_module_of_somebodys_own_with_a_parameter_is_hinted_at():
    model = nn.Sequential(nn.Linear(3, 4), Learned(), nn.Linear(4, 4))
    with pytest.raises(TaskError, match=r"1 Learned, 2 Linear; name one in only= .* such as only=Learned; one that a"):
        replace_activations(model, Marker)
    assert replace_activations(model, Marker, Learned).replaced == ("1",)


@pytest.mark.parametrize(
    ("model", "only", "text"),
    [
        (nn.Linear(2, 2), None, "no activation found in Linear"),
        (nn.Sequential(nn.Sigmoid()), None, r"no activation found in Sequential; left alone: '0' \(gate: Sigmoid\)"),
        (perceptron(), nn.GELU, "only= matches nothing with GELU in Sequential; left alone: '1'"),
        (perceptron(), ("1", "features.*"), r"only= matches nothing with features\.\* in Sequential"),
        (perceptron(), (nn.ReLU, "3"), "only= matches nothing with ReLU, 3"),
        (perceptron(), 7, "only= takes module types and name patterns, got 7"),
        (perceptron(), (nn.ReLU, None), "only= takes module types and name patterns, got None"),
        (perceptron(), [], "only= is empty"),
    ],
)
def test_what_matches_nothing_is_an_error_of_one_line(model, only, text):
    with pytest.raises(TaskError, match=text) as raised:
        replace_activations(model, Marker, only)
    assert "\n" not in str(raised.value)


class Functional(nn.Module):
    """Calls activations in its own code."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)

    def forward(self, x):
        return functional.silu(self.second(self.act(self.first(x)))) * torch.sigmoid(x)


def test_an_activation_that_the_code_calls_itself_is_found_by_running_it():
    model = nn.Sequential(Functional(), nn.Linear(4, 2))
    assert replace_activations(model, Marker, inputs=torch.randn(2, 4)).replaced == ("0.act", "0.called_silu")
    assert named(model) == {"0.act", "0.called_silu"}
    model = nn.Sequential(Functional(), nn.Linear(4, 2))
    assert replace_activations(model, Marker, nn.ReLU, inputs=torch.randn(2, 4)).kept == (
        Kept("0", "silu, called by its own code"),
        Kept("0", "gate: sigmoid, called by its own code"),
    )
    with pytest.raises(TaskError, match=r"Sequential fails on inputs of shape \(2, 5\): RuntimeError"):
        replace_activations(nn.Sequential(Functional()), Marker, inputs=torch.randn(2, 5))


def test_a_run_leaves_the_network_and_the_generator_as_they_were():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU()).eval()
    model[2].train()
    before, generator = deepcopy(model.state_dict()), torch.random.get_rng_state()
    assert len(activation_calls(model, torch.randn(3, 4, generator=torch.Generator()))) == 1
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model] == [False, False, True, False]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_scripted_code_and_methods_of_tensors_are_seen():
    def silu(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.silu(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # timm has such code, whatever PyTorch thinks of it
        scripted = torch.jit.script(silu)

    class Hidden(nn.Module):
        def forward(self, x):
            return scripted(x).tanh()

    assert [c.function for c in activation_calls(Hidden(), torch.randn(2, 3))] == ["silu", "tanh"]


def test_an_expression_may_be_given_as_text():
    model = perceptron()
    replace_activations(model, "mul(sigmoid(x),elu(x))", "1")
    assert isinstance(model[1], Activation)
    assert model[1].name == "mul(sigmoid(x),elu(x))"


def test_a_network_factory_makes_new_models_with_the_activation():
    network = network_from(perceptron, "1", example=(4,))
    state = torch.random.get_rng_state()
    assert network.replacement.replaced == ("1",)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(0)
    first = network(Marker)
    torch.manual_seed(0)
    assert torch.equal(perceptron()[0].weight, first[0].weight)
    assert named(first) == {"1"}
    assert network(Marker) is not first
    copy = pickle.loads(pickle.dumps(network))
    assert copy == network
    assert named(copy(Marker)) == {"1"}


def test_a_network_factory_refuses_a_model_that_keeps_an_activation():
    assert named(network_from(Functional, example=(4,))(Marker)) == {"act", "called_silu"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as above
        scripted = torch.jit.script(scripted_silu)

    class Scripted(Functional):
        def forward(self, x):
            return super().forward(scripted(x))

    with pytest.raises(TaskError, match=r"calls activations in its own code that cannot be replaced there: silu \("):
        network_from(Scripted, example=(4,))(Marker)


def scripted_silu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(x)


def attention(dim=6):
    return timm.models.mobilevit.LinearSelfAttention(dim)


def test_the_rewritten_attention_block_is_timms_with_another_function():
    model = nn.Sequential(attention()).eval()
    x = torch.randn(2, 6, 4, 5)
    expected = model(x)
    report = replace_activations(model, nn.ReLU)
    assert report.replaced == ("0.activation",)
    assert not model[0].training
    assert torch.allclose(model(x), expected, atol=1e-6)
    other = deepcopy(model)
    other[0].activation = Marker()
    assert not torch.allclose(other(x), expected, atol=1e-3)
    assert isinstance(pickle.loads(pickle.dumps(model))[0], SearchedSelfAttention)


def test_the_rewritten_block_says_so_where_timms_has_changed(monkeypatch):
    def changed(self, x):
        query, key, value = self.qkv_proj(x).split([1, self.embed_dim, self.embed_dim], dim=1)
        return self.out_proj(functional.gelu(value) * (key * query.softmax(-1)).sum(-1, keepdim=True))

    monkeypatch.setattr(timm.models.mobilevit.LinearSelfAttention, "_forward_self_attn", changed)
    with pytest.raises(TaskError, match="LinearSelfAttention is not the one that mobilevitv2"):
        replace_activations(nn.Sequential(attention()), Marker)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning", "ignore:`torch.jit.script:DeprecationWarning")
def test_a_scripted_model_or_part_is_refused_as_such():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    for model, which in ((scripted, "the model"), (nn.Sequential(nn.ReLU(), scripted), "'1'")):
        with pytest.raises(TaskError, match=f"{which} is scripted by torch.jit, .*; give the eager model"):
            replace_activations(model, Marker)
