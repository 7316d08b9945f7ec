"""The parts of a network that are activation functions, and those that look like one but must stay.

Classes are recognised by the modules in which they and their bases are defined, so that neither timm nor transformers
need be installed. One rule for gates, whoever wrote the block:

- A function with values in [0, 1] weighs features: squeeze-and-excitation, attention, recurrent layers and routers
  multiply or average by it. Another function there would change the network itself, so it is a gate and stays.
- The function f of a gated feed-forward block, f(x W1) * (x W2), is the activation of that block, and is replaced like
  any other, even a sigmoid. These are timm's `GluMlp` and `SwiGLU` and the blocks of Llama, Gemma and T5.

The poolers and heads of transformers' models stay too: they turn features into an answer, once, after the network that
a function is searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

Kind = tuple[str, str]  # module and name of a class


def _kinds(module: str, names: str) -> Iterable[Kind]:
    return ((module, name) for name in names.split())


ACTIVATIONS: frozenset[Kind] = frozenset(
    [
        *_kinds(
            "torch.nn.modules.activation",
            "CELU ELU GELU Hardshrink Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU RReLU ReLU ReLU6 SELU SiLU"
            " Softplus Softshrink Softsign Tanh Tanhshrink Threshold",
        ),
        *_kinds("timm.layers.activations", "GELU GELUTanh HardMish HardSwish Mish PReLU QuickGELU Swish Tanh"),
        *_kinds("timm.layers.activations_me", "HardMishMe HardSwishMe MishMe SwishMe"),
        *_kinds("timm.models.metaformer", "SquaredReLU StarReLU"),
        *_kinds("timm.models.nfnet", "GammaAct"),
        *_kinds(
            "transformers.activations",
            "AccurateGELUActivation ClippedGELUActivation FastGELUActivation GELUActivation GELUTanh MishActivation"
            " NewGELUActivation QuickGELUActivation ReLUSquaredActivation SiLUActivation XIELUActivation",
        ),
        *_kinds("transformers.models.bloom.modeling_bloom", "BloomGelu"),
    ]
)

GATES: frozenset[Kind] = frozenset(
    [
        *_kinds("torch.nn.modules.activation", "GLU Hardsigmoid LogSoftmax Sigmoid Softmax Softmax2d Softmin"),
        *_kinds("timm.layers.activations", "HardSigmoid Sigmoid"),
        *_kinds("timm.layers.activations_me", "HardSigmoidMe"),
        *_kinds("transformers.activations", "LaplaceActivation SqrtSoftplusActivation"),  # attention, routers
    ]
)

# timm's blocks whose activation is a factor of another branch.
GATED_BLOCKS: frozenset[Kind] = frozenset(
    [
        *_kinds("timm.layers.mlp", "GluMlp SwiGLU"),
        *_kinds("timm.models.gemma4_vit", "Gemma4GatedMlp"),
        *_kinds("timm.models.mambaout", "GatedConvBlock"),
        *_kinds("timm.models.vitamin", "GeGluMlp"),
    ]
)
"""Gated feed-forward blocks that no layer in `GATE_LAYERS` tells."""

GATE_LAYERS = frozenset({"gate_proj", "gate_up_proj", "wi_0", "fc1_g"})
"""Names of the layer whose output goes through the function of a gated feed-forward block."""

HEAD = re.compile(r"(Pooler|SequenceSummary|Heads?|HeadTransform)$")

RECURRENT: frozenset[Kind] = frozenset(_kinds("torch.nn.modules.rnn", "RNNBase RNNCellBase"))


def words(names: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(names.split())


ACTIVATION_CALLS = words(
    "celu elu gelu hardshrink hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6 rrelu selu silu softplus"
    " softshrink softsign tanh tanhshrink threshold"
    " gelu_tanh hard_mish hard_swish quick_gelu swish"  # timm's
)
GATE_CALLS = words("glu hard_sigmoid hardsigmoid log_softmax scaled_dot_product_attention sigmoid softmax softmin")


def is_of(module: nn.Module, kinds: frozenset[Kind]) -> bool:
    """Return whether the module's class, or one of its bases, is among the kinds.

    >>> is_of(nn.ReLU6(), ACTIVATIONS), is_of(nn.Sigmoid(), ACTIVATIONS)
    (True, False)
    """
    return any((c.__module__, c.__name__) in kinds for c in type(module).__mro__)


def is_own_activation(module: nn.Module) -> bool:
    """Return whether a module of somebody's own is nothing but an activation function: no weights and no parts, a
    function of each number alone, and neither linear nor a gate with values in [0, 1].

    >>> class Wave(nn.Module):
    ...     def forward(self, x):
    ...         return x * torch.cos(x)
    >>> is_own_activation(Wave()), is_own_activation(nn.Flatten())
    (True, False)
    """
    is_torchs = type(module).__module__.startswith("torch.nn.")
    if is_torchs or any(True for _ in module.children()) or any(True for _ in module.parameters()):
        return False
    x = torch.linspace(-6, 6, 24).reshape(2, 3, 4)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            y, moved = module(x.clone()), module(x.flatten()[order].reshape(x.shape))
    except Exception:  # the user's own code, called with what it may not be made for
        return False
    if not isinstance(y, Tensor) or y.shape != x.shape or not torch.allclose(y.flatten()[order], moved.flatten()):
        return False
    is_gate = bool(y.min() >= 0 and y.max() <= 1)
    steps = y.flatten().diff()
    return not is_gate and not torch.allclose(steps, steps[0].expand_as(steps), atol=1e-5)


def is_torchs_layer(module: nn.Module) -> bool:
    """Return whether the module is a layer of PyTorch's own with weights, which no activation is."""
    is_torchs = type(module).__module__.startswith("torch.nn.modules.")
    return is_torchs and any(True for _ in module.parameters()) and not is_of(module, ACTIVATIONS | GATES | RECURRENT)


def is_gated_feed_forward(module: nn.Module) -> bool:
    """Return whether the module computes f(x W1) * (x W2), so that f is its activation."""
    return is_of(module, GATED_BLOCKS) or not GATE_LAYERS.isdisjoint(module._modules)


def is_head(module: nn.Module) -> bool:
    """Return whether the module is a pooler or a head of a model of transformers, and not a whole model."""
    kind = type(module)
    is_part = kind.__module__.startswith("transformers.models.") and not hasattr(module, "base_model_prefix")
    return is_part and HEAD.search(kind.__name__) is not None


def reason_to_keep(module: nn.Module, attribute: str, parent: nn.Module) -> str | None:
    """Return why a module that looks like an activation stays, or None."""
    if is_of(module, RECURRENT):
        return f"recurrent layer: the functions inside {type(module).__name__} are part of it"
    if is_gated_feed_forward(parent):
        return None
    if is_of(module, GATES):
        return f"gate: {type(module).__name__}"
    if is_of(module, ACTIVATIONS) and attribute in ("gate", "gate_act", "gate_fn"):
        return f"gate: {type(module).__name__} of a {type(parent).__name__}"
    return None


def called_name(function: object) -> str:
    """Return the name of a function or operator as in the sets above: `relu_` and `torch.relu` are `relu`."""
    if isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", "")).strip("_")


def is_function(value: object, names: frozenset[str]) -> bool:
    """Return whether the value is PyTorch's or timm's function of one of these names, also with bound settings.

    >>> is_function(functional.relu, ACTIVATION_CALLS), is_function(len, ACTIVATION_CALLS)
    (True, False)
    >>> is_function(partial(functional.gelu, approximate="tanh"), ACTIVATION_CALLS)
    True
    """
    if isinstance(value, partial):
        value = value.func
    if isinstance(value, nn.Module | type) or not callable(value):
        return False
    if str(getattr(value, "__module__", "")).startswith("timm.layers.activations"):
        return called_name(value).removesuffix("_me") in names
    name = called_name(value)
    return name in names and any(getattr(place, name, None) is value for place in (functional, torch))
