"""The parts of a network that are activation functions, and those that look like one but must stay.

Classes are recognised by the modules in which they and their bases are defined, so that timm need not be installed. A
function with values in [0, 1] is considered a gate: squeeze-and-excitation, attention and gated linear units multiply
by it, and another function there would change the network itself instead of its activation.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
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
    ]
)

GATES: frozenset[Kind] = frozenset(
    [
        *_kinds("torch.nn.modules.activation", "GLU Hardsigmoid LogSoftmax Sigmoid Softmax Softmax2d Softmin"),
        *_kinds("timm.layers.activations", "HardSigmoid Sigmoid"),
        *_kinds("timm.layers.activations_me", "HardSigmoidMe"),
    ]
)

GATED_BLOCKS: frozenset[Kind] = frozenset(
    [
        *_kinds("timm.layers.mlp", "GluMlp SwiGLU"),
        *_kinds("timm.models.gemma4_vit", "Gemma4GatedMlp"),
        *_kinds("timm.models.mambaout", "GatedConvBlock"),
        *_kinds("timm.models.vitamin", "GeGluMlp"),
    ]
)

RECURRENT: frozenset[Kind] = frozenset(_kinds("torch.nn.modules.rnn", "RNNBase RNNCellBase"))


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


ACTIVATION_CALLS = _names(
    "celu elu gelu hardshrink hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6 rrelu selu silu softplus"
    " softshrink softsign tanh tanhshrink threshold"
    " gelu_tanh hard_mish hard_swish quick_gelu swish"  # timm's
)
GATE_CALLS = _names("glu hard_sigmoid hardsigmoid log_softmax scaled_dot_product_attention sigmoid softmax softmin")


def is_of(module: nn.Module, kinds: frozenset[Kind]) -> bool:
    """Return whether the module's class, or one of its bases, is among the kinds.

    >>> is_of(nn.ReLU6(), ACTIVATIONS), is_of(nn.Sigmoid(), ACTIVATIONS)
    (True, False)
    """
    return any((c.__module__, c.__name__) in kinds for c in type(module).__mro__)


def reason_to_keep(module: nn.Module, attribute: str, parent: nn.Module) -> str | None:
    """Return why a module that looks like an activation stays, or None."""
    if is_of(module, GATES):
        return f"gate: {type(module).__name__}"
    if is_of(module, RECURRENT):
        return f"recurrent layer: the functions inside {type(module).__name__} are part of it"
    if is_of(module, ACTIVATIONS) and (attribute in ("gate", "gate_act", "gate_fn") or is_of(parent, GATED_BLOCKS)):
        return f"gate: {type(module).__name__} of a {type(parent).__name__}"
    return None


def called_name(function: object) -> str:
    """Return the name of a function or operator as in the sets above: `relu_` and `torch.relu` are `relu`."""
    return str(getattr(function, "__name__", "")).strip("_")


def is_function(value: object, names: frozenset[str]) -> bool:
    """Return whether the value is PyTorch's or timm's function of one of these names.

    >>> is_function(functional.relu, ACTIVATION_CALLS), is_function(len, ACTIVATION_CALLS)
    (True, False)
    """
    if isinstance(value, nn.Module | type) or not callable(value):
        return False
    if str(getattr(value, "__module__", "")).startswith("timm.layers.activations"):
        return called_name(value).removesuffix("_me") in names
    name = called_name(value)
    return name in names and any(getattr(place, name, None) is value for place in (functional, torch))
