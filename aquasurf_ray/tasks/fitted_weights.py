"""Initial weights that fit the activation function: `init="auto"`.

The network runs once on a batch of the task's data. Each layer, when it is first called, is given weights W / s and
biases (b - m) / s, where m and s are the mean and the standard deviation of its output over all examples, positions and
units; without biases, m is 0 and s the root mean square. The layers after it see the scaled output. So the output
of each scaled layer has mean 0 and variance 1, whatever the function makes of it before the next layer.

The idea, to scale weights by the mean and the variance of the signal, is that of AutoInit (Bingham and Miikkulainen
2021, arXiv 2109.08958). There the moments are derived layer by layer from a table of layer types and a quadrature of
the function, for data of mean 0 and variance 1; here they are measured, so that dropout, pooling, norms, sums,
concatenations and a user's own code need no rule of their own. The network's own draw of the weights keeps its
distribution: only two numbers a layer change.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter, is_lazy

from aquasurf_ray.counted import counted
from aquasurf_ray.network_state import modes_and_buffers_kept
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.inputs import Inputs, call_network, tensors_of
from aquasurf_ray.tasks.seeding import seeded

INITS = ("default", "auto")
"""The network's own initial weights, or these scaled to fit the function."""

_SMALLEST_SPREAD = 1e-30  # of an output; below it, such as after weights that begin at zero, nothing can be scaled


def checked_init(init: str) -> str:
    """Return the kind of initial weights, or raise TaskError."""
    if init not in INITS:
        raise TaskError(f"init must be {' or '.join(map(repr, INITS))}, got {init!r}")
    return init


@dataclass
class FittedWeights:
    """The result of `fit_weights`: the factor on each scaled layer's weights, and why other matrices stay as drawn."""

    factors: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.factors:
            text = "no layer is scaled"
        else:
            low, high = min(self.factors.values()), max(self.factors.values())
            text = f"{counted(len(self.factors), 'layer')} scaled, weights times {low:.3g} to {high:.3g}"
        left = ", ".join(f"{name} ({reason})" for name, reason in self.left.items())
        return f"{text}; left as drawn: {left}" if left else text


def fit_weights(network: nn.Module, inputs: Inputs, *, seed: int = 0) -> FittedWeights:
    """Scale the weights of each layer so that its output on `inputs` has mean 0 and variance 1.

    A layer is any module with a floating-point parameter `weight` of two dimensions or more and an output that is
    linear in it: linear layers, convolutions of every kind, transformers' Conv1D, a user's own. `nn.MultiheadAttention`
    counts as four: queries, keys, values and the projection of the output. After each change the layer runs again, and
    whatever does not follow its weights is put back. Left as drawn: embeddings, whose output is their weights; weights
    that several modules share, such as an output layer tied to an embedding; frozen ones; all zeros; recurrent layers,
    weights behind a parametrization, and parameters that are not the `weight` of a module.

    Args:
        network: in the mode and on the device that it is to be trained on. Mode, buffers and generators are left as
            they were found; only weights and biases change.
        inputs: a batch, as the network takes it; a hundred examples are enough.
        seed: the random seed for dropout masks and whatever else the network draws.

    >>> network = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))
    >>> inputs = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    >>> print(sorted(fit_weights(network, inputs).factors))
    ['0', '2']
    >>> round(network(inputs).std().item(), 3)
    1.0
    """
    fit = _Fit(network)
    device = tensors_of(inputs)[0].device
    with modes_and_buffers_kept(network), seeded(seed, device), torch.no_grad(), fit:
        call_network(network, inputs)
    return fit.result()


class _Fit:
    """The hooks that scale each layer when it is called, in the order of the calls."""

    def __init__(self, network: nn.Module) -> None:
        self._names = {module: name or "the network" for name, module in network.named_modules()}
        uses = Counter(id(p) for module in self._names for p in module.parameters(recurse=False))
        self._shared = {number for number, n in uses.items() if n > 1}
        self._found = FittedWeights()
        self._hooks = ExitStack()

    def __enter__(self) -> None:
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if _is_attention(module):
                self._hooks.enter_context(module.register_forward_pre_hook(self._before, with_kwargs=True))
                self._hooks.enter_context(module.register_forward_hook(self._after))
            elif _is_layer(module):
                self._hooks.enter_context(module.register_forward_hook(self._fit, with_kwargs=True))

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def result(self) -> FittedWeights:
        """Return what was scaled; every other matrix of the network is named with a reason."""
        for module, name in self._names.items():
            for own, parameter in module.named_parameters(recurse=False):
                place = name if own == "weight" else f"{name}.{own}"
                known = any(map(self._is_known, (place, name, name.removesuffix(".out_proj"))))
                if not known and not isinstance(parameter, UninitializedParameter) and parameter.dim() > 1:
                    self._found.left[place] = self._reason(module, own, parameter)
        return self._found

    def _reason(self, module: nn.Module, own: str, parameter: Tensor) -> str:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return "an embedding"
        if not parameter.requires_grad:
            return "frozen"
        if id(parameter) in self._shared:
            return "shared by several modules"
        is_uncalled = _is_layer(module) and own == "weight"
        return "not called" if is_uncalled else f"no layer's weight, but one of {type(module).__name__}"

    def _fit(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
        name, own = self._names[module], module._parameters
        weight, bias = cast(Tensor, own["weight"]), own.get("bias")
        if self._is_known(name) or not self._may_change(name, module, weight, bias):
            return None
        moments = self._moments(name, output, bias is not None)
        if moments is None:
            return None
        mean, deviation = moments
        before = [(each, each.clone()) for each in (weight, bias) if each is not None]
        _scale(weight, bias, mean, deviation)
        again = module.forward(*args, **kwargs)
        if not _agrees(again, (output.double() - mean) / deviation, abs(mean) / deviation):
            for parameter, values in before:
                parameter.copy_(values)
            self._found.left[name] = "its output does not follow its weights"
            return None
        self._found.factors[name] = 1 / deviation
        return again

    def _is_known(self, name: str) -> bool:
        return name in self._found.factors or name in self._found.left

    def _may_change(self, name: str, module: nn.Module, *parameters: Tensor | None) -> bool:
        for parameter in parameters:
            if parameter is not None and (not parameter.requires_grad or id(parameter) in self._shared):
                self._found.left[name] = self._reason(module, "weight", parameter)
                return False
        return True

    def _moments(self, name: str, output: Any, has_bias: bool) -> tuple[float, float] | None:
        """Return mean and deviation of a layer's output, or note why they cannot be used."""
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.numel() == 0:
            self._found.left[name] = "its output is not a tensor of floating-point numbers"
            return None
        values = output.double()
        mean = values.mean().item() if has_bias else 0.0
        deviation = (values - mean).square().mean().sqrt().item()
        if not math.isfinite(deviation):
            self._found.left[name] = "its output is not finite"
        elif deviation <= max(_SMALLEST_SPREAD, torch.finfo(output.dtype).eps * abs(mean)):
            self._found.left[name] = "its output does not vary"
        else:
            return mean, deviation
        return None

    # -- nn.MultiheadAttention, which multiplies by its weights without calling a layer

    def _before(self, module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        biases = [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
        packed = module.in_proj_weight
        weights = packed.chunk(3) if packed is not None else [getattr(module, f"{k}_proj_weight") for k in "qkv"]
        owners = [packed] * 3 if packed is not None else weights
        for part, owner, weight, bias in zip(("query", "key", "value"), owners, weights, biases, strict=True):
            name = f"{self._names[module]}.{part}"
            if self._is_known(name) or not self._may_change(name, module, owner, module.in_proj_bias):
                continue
            moments = self._moments(name, functional.linear(given[part], weight, bias), bias is not None)
            if moments is not None:
                _scale(weight, bias, *moments)
                self._found.factors[name] = 1 / moments[1]

    def _after(self, module: nn.MultiheadAttention, args: tuple[Any, ...], output: tuple[Any, ...]) -> Any:
        name, layer = self._names[module], module.out_proj
        if self._is_known(name) or not self._may_change(name, layer, layer.weight, layer.bias):
            return None
        moments = self._moments(name, output[0], layer.bias is not None)
        if moments is None:
            return None
        mean, deviation = moments
        _scale(layer.weight, layer.bias, mean, deviation)
        self._found.factors[name] = 1 / deviation
        return ((output[0] - mean) / deviation, *output[1:])


def _is_layer(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    if weight is None or is_lazy(weight):
        return False
    is_matrix = weight.dim() > 1 and weight.is_floating_point()
    return is_matrix and not isinstance(module, nn.Embedding | nn.EmbeddingBag)


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward


def _scale(weight: Tensor, bias: Tensor | None, mean: float, deviation: float) -> None:
    weight.div_(deviation)
    if bias is not None:
        bias.sub_(mean).div_(deviation)


def _agrees(output: Any, expected: Tensor, cancelled: float) -> bool:
    """Return whether a layer's output is what its new weights should give, up to rounding: `cancelled` is the size of
    what the bias takes away."""
    tolerance = torch.finfo(output.dtype).eps ** 0.5 * (1 + cancelled)
    return bool((output.double() - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1))
