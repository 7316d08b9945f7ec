"""The parts of the small transformers: attention, and blocks with a layer norm before each half (GPT-2's order)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from aquasurf_ray.tasks.task import ActivationFactory


class Attention(nn.Module):
    """Multi-head attention: each position attends to all, or, if causal, to itself and to earlier ones.
    (n, t, width) -> (n, t, width)."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        # Private, so that they are no part of a task's identity and `characters` keeps its stored results: whoever
        # changes them for a task has to raise its version.
        self._heads, self._causal = heads, causal
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # (n, t, 3 width) -> (3, n, heads, t, width / heads)
        heads = self.query_key_value(x).unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=self._causal)
        result: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    """Attention, then a feed-forward block with the activation, each after a layer norm and parallel to a shortcut.
    (n, t, width) -> (n, t, width)."""

    def __init__(self, activation: ActivationFactory, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), activation(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.feed_forward(self.norm2(x))
        return result
