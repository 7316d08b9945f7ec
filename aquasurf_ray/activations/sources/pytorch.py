"""PyTorch source: a module, and the same one compiled."""

from __future__ import annotations

from dataclasses import replace

from aquasurf_ray.activations.sources.writer import Language, Learning

_HALF = '''def bessel_{order}(x: torch.Tensor) -> torch.Tensor:
    """Call in float32 where the input has half precision, for which some devices have no kernel."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return torch.special.{order}(wide).to(x.dtype)'''

_LEARNING = '''import torch
from torch import nn{{imports}}{{definitions}}


class {{class_name}}(nn.Module):
    r"""{{words}}.

    f(x) = {{latex}}

    As an expression of aquasurf-ray: {{expression}}
    """

    def __init__(self{{channels}}) -> None:
        super().__init__()
{{declarations}}{decorator}
    def forward(self, x: torch.Tensor) -> torch.Tensor:
{{lines}}        return {{result}}
'''
_PARAMETER = "{name} = self.{name}.to(x.dtype)"

PYTORCH = Language(
    title="PyTorch",
    frame='''import torch
from torch import nn{imports}{definitions}


class {class_name}(nn.Module):
    r"""{words}.

    f(x) = {latex}

    As an expression of aquasurf-ray: {expression}
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
{lines}        return {result}
''',
    imports={"F.": "\nfrom torch.nn import functional as F"},
    indent=8,
    operators={
        "zero": "torch.zeros_like({0})",
        "one": "torch.ones_like({0})",
        "identity": "{0}",
        "negative": "(-{0})",
        "abs": "torch.abs({0})",
        "reciprocal": "torch.reciprocal({0})",
        "square": "torch.square({0})",
        "exp": "torch.exp({0})",
        "erf": "torch.erf({0})",
        "erfc": "torch.erfc({0})",
        "sinh": "torch.sinh({0})",
        "cosh": "torch.cosh({0})",
        "tanh": "torch.tanh({0})",
        "expm1": "torch.expm1({0})",
        "sigmoid": "torch.sigmoid({0})",
        "log_sigmoid": "F.logsigmoid({0})",
        "arcsinh": "torch.asinh({0})",
        "arctan": "torch.atan({0})",
        "bessel_i0e": "bessel_i0e({0})",
        "bessel_i1e": "bessel_i1e({0})",
        "relu": "F.relu({0})",
        "elu": "F.elu({0})",
        "selu": "F.selu({0})",
        "swish": "F.silu({0})",
        "softplus": "F.softplus({0}, threshold=40.0)",
        "softsign": "F.softsign({0})",
        "hard_sigmoid": "torch.clamp(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "(F.elu({0}) * torch.sigmoid({0}))",
        "leakyrelu": "F.leaky_relu({0}, 0.01)",
        "mish": "F.mish({0})",
        "gelu": "F.gelu({0})",
        "sin": "torch.sin({0})",
        "cos": "torch.cos({0})",
        "sinc": "torch.sinc({0} / torch.pi)",
        "sqrt": "torch.sqrt({0})",
        "add": "({0} + {1})",
        "sub": "({0} - {1})",
        "mul": "({0} * {1})",
        "div": "({0} / {1})",
        "pow": "torch.pow({0}, {1})",
        "max": "torch.maximum({0}, {1})",
        "min": "torch.minimum({0}, {1})",
    },
    joiners={"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"},
    kernels={
        "leaky_relu": "F.leaky_relu({0}, {1})",
        "relu6": "F.relu6({0})",
        "hardtanh": "F.hardtanh({0}, {1}, {2})",
        "elu": "F.elu({0}, {1})",
        "celu": "F.celu({0}, {1})",
        "hardswish": "F.hardswish({0})",
        "gelu_tanh": 'F.gelu({0}, approximate="tanh")',
        "softshrink": "F.softshrink({0}, {1})",
    },
    # Not torch.clamp, whose gradient at the bound is another one: the function that was trained has half of it there.
    bounds={
        "max": "torch.maximum({0}, x.new_full((), {1}))",
        "min": "torch.minimum({0}, x.new_full((), {1}))",
    },
    definitions={"bessel_i0e": _HALF.format(order="i0e"), "bessel_i1e": _HALF.format(order="i1e")},
    learning=Learning(
        declarations=(
            "self.{name} = nn.Parameter(torch.tensor({initial}))",
            "self.{name} = nn.Parameter(torch.full((channels,), {initial}))",
        ),
        uses=(
            _PARAMETER,
            f"{_PARAMETER}.view([-1 if d == self.channel_dim % x.dim() else 1 for d in range(x.dim())])",
        ),
        channels=", channels: int, channel_dim: int = 1",
        begin_channels="self.channel_dim = channel_dim",
        line_indent=8,
        frame=_LEARNING.format(decorator=""),
    ),
)

COMPILED = replace(
    PYTORCH,
    frame='''import torch
from torch import nn{imports}{definitions}


@torch.compile(dynamic=True)
def function(x: torch.Tensor) -> torch.Tensor:
    """One pass over memory; what the backward pass needs is computed again from x."""
{lines}    return {result}


class {class_name}(nn.Module):
    r"""{words}, compiled.

    f(x) = {latex}

    As an expression of aquasurf-ray: {expression}
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return function(x)
''',
    indent=4,
    learning=replace(PYTORCH.learning, frame=_LEARNING.format(decorator="\n    @torch.compile(dynamic=True)")),
)
