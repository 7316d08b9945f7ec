"""Feed-forward blocks, gated and not, and the exchange of one kind for the other in an existing network.

    MLP        (n, ..., width) -> act(x W1) W2                 2 width hidden weights
    GatedMLP   (n, ..., width) -> (act(x W1) * (x W2)) W3      3 width hidden weights

Shazeer (2020, arXiv 2002.05202) compares them at equal numbers of weights: a gated block is 2/3 as wide.
`gated_width` and `ungated_width` round to the nearest multiple of `MULTIPLE`, so the numbers differ by a few percent at
most in blocks of 128 and wider. With act as the sigmoid, ReLU, GELU, SiLU, the identity `x` or the sine, a gated block
is GLU, ReGLU, GEGLU, SwiGLU, bilinear or SinGLU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATIONS, GATES, is_gated_feed_forward, is_of

MULTIPLE = 8
"""Hidden widths are multiples of it, because matrix products on GPUs are fastest then."""

GATED_BASELINES = ("gelu(x)", "x", "sin(x)")
"""The activations of GEGLU, bilinear and SinGLU; those of GLU, ReGLU and SwiGLU are baselines of the paper already."""


def gated_width(hidden: int) -> int:
    """Return the hidden width of a gated block with as many weights as an ungated block of this hidden width.

    >>> gated_width(192), gated_width(256), gated_width(2)
    (128, 168, 8)
    """
    return max(MULTIPLE, round(hidden * 2 / 3 / MULTIPLE) * MULTIPLE)


def ungated_width(hidden: int) -> int:
    """Return the hidden width of an ungated block with as many weights as a gated block of this hidden width.

    >>> ungated_width(128)
    192
    """
    return max(MULTIPLE, round(hidden * 3 / 2 / MULTIPLE) * MULTIPLE)


class MLP(nn.Module):
    """Two dense layers with the activation between them: (n, ..., width) -> (n, ..., width)."""

    def __init__(
        self, width: int, hidden: int, activation: Callable[[], nn.Module], *, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, hidden, bias)
        self.act = activation()
        self.down_proj = nn.Linear(hidden, width, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout(self.down_proj(self.act(self.up_proj(x))))
        return result


class GatedMLP(nn.Module):
    """A gated feed-forward block, whose activation is that of the gate: (n, ..., width) -> (n, ..., width).

    >>> import torch
    >>> block = GatedMLP(64, gated_width(256), nn.SiLU)
    >>> block(torch.zeros(2, 5, 64)).shape, sum(p.numel() for p in block.parameters())
    (torch.Size([2, 5, 64]), 32656)
    """

    def __init__(
        self, width: int, hidden: int, activation: Callable[[], nn.Module], *, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias)
        self.up_proj = nn.Linear(width, hidden, bias)
        self.act = activation()
        self.down_proj = nn.Linear(hidden, width, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout(self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x)))
        return result


@dataclass(frozen=True)
class _Block:
    """A feed-forward block of some network: what a new block in its place must know."""

    width: int
    hidden: int
    is_gated: bool
    up: Any
    down: Any
    dropout: float

    def exchanged(self, gated: bool) -> nn.Module:
        """Return a block of the other kind, with as many weights, drawn with the deviations of those before.

        Biases are zero, and so are all the weights of a matrix that is zero.
        """
        bias = getattr(self.up, "bias", None) is not None
        kind = GatedMLP if gated else MLP
        hidden = gated_width(self.hidden) if gated else ungated_width(self.hidden)
        new = kind(self.width, hidden, nn.SiLU, bias=bias, dropout=self.dropout)
        for layer in (m for m in new.modules() if isinstance(m, nn.Linear)):
            # The deviations carry the model's own initialisation over, such as GPT-2's smaller one of residual
            # projections.
            before = self.down if layer is new.down_proj else self.up
            # A model without memory (device meta) has no numbers; it is only built to be looked at.
            deviation = 0.0 if before.weight.is_meta else float(before.weight.detach().std())
            nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        return new.to(self.up.weight).train(self.up.training)


def exchange_feed_forwards(model: nn.Module, gated: bool) -> list[str]:
    """Make all feed-forward blocks of a model gated, or ungated, in place, and return their names.

    A block is recognised by its parts: an activation between a dense layer to the hidden width, or two of them whose
    outputs are multiplied, and a dense layer back to the first width, with dropout but nothing else that has weights.
    The dropout of a new block is at its output. Blocks that are of the wanted kind already stay.

    Raises:
        TaskError: the model has no such block.
    """
    found = [(name, block) for name, module in model.named_modules() if (block := _block(module)) is not None]
    if not found:
        raise TaskError(
            f"gated={gated} found no feed-forward block in {type(model).__name__}: a module with an activation "
            "between dense layers to a hidden width and back, such as MLP"
        )
    for name, block in found:
        if block.is_gated != gated:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, block.exchanged(gated))
    return [name for name, _ in found]


def _block(module: nn.Module) -> _Block | None:
    children = [child for child in module.children() if not isinstance(child, nn.Dropout | nn.Identity)]
    functions = [child for child in children if is_of(child, ACTIVATIONS | GATES)]
    layers = [child for child in children if child not in functions]
    sizes = [_sizes(layer) for layer in layers]
    # Anything else with weights, such as a norm inside, would be lost in the exchange.
    if len(functions) != 1 or None in sizes or len(layers) not in (2, 3):
        return None
    *ups, (hidden, width) = [size for size in sizes if size is not None]
    # Some models keep both halves of a gate in one matrix, twice as wide as the hidden layer.
    is_gated = is_gated_feed_forward(module) and (len(ups) == 2 or ups[0][1] == 2 * hidden)
    wanted = [(width, 2 * hidden)] if is_gated and len(ups) == 1 else [(width, hidden)] * (2 if is_gated else 1)
    if ups != wanted:
        return None
    dropout = max((m.p for m in module.children() if isinstance(m, nn.Dropout)), default=0.0)
    return _Block(width, hidden, is_gated, layers[0], layers[-1], dropout)


def _sizes(layer: Any) -> tuple[int, int] | None:
    """Return the widths (in, out) of a dense layer of PyTorch or transformers; None for any other module."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if is_of(layer, frozenset({("transformers.pytorch_utils", "Conv1D")})):
        n_in, n_out = layer.weight.shape
        return int(n_in), int(n_out)
    return None
