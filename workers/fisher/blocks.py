"""The Fisher block of each trained weight: one, in the orientation of the weight's first product.

Parts of a weight that are used by themselves, such as the three projections of attention, have a block each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from aquasurf_ray.activations.learned import learned_parameters
from aquasurf_ray.workers.fisher.factors import BlockFactors
from aquasurf_ray.workers.fisher.kinds import Kinds, Weight
from aquasurf_ray.workers.fisher.products import Product, Split

TABLE_MODULES = (nn.Embedding, nn.EmbeddingBag)


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters, each by one name: that in the first module that is not a table of embeddings, so
    that a tied output layer has its own name, or else in the first module."""
    tables = {name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, TABLE_MODULES)}
    names: dict[int, list[str]] = defaultdict(list)
    learned = {id(parameter.tensor) for parameter in learned_parameters(model)}  # the function's, not the network's
    parameters = [
        (name, p)
        for name, p in model.named_parameters(remove_duplicate=False)
        if p.requires_grad and id(p) not in learned
    ]
    for name, parameter in parameters:
        names[id(parameter)].append(name)
    chosen = {key: next((n for n in own if n.rpartition(".")[0] not in tables), own[0]) for key, own in names.items()}
    return {name: p for name, p in parameters if chosen[id(p)] == name}


@dataclass(eq=False)
class Block:
    """The block of one weight, or of a part of it that is used by itself.

    Attributes:
        names: the parameters that it covers, with the number of elements of each, its biases' included.
        n_uses: its products so far.
    """

    split: Split
    factors: BlockFactors
    names: dict[str, int]
    n_uses: int = 0


class Blocks:
    """The blocks of the weights that were seen in products.

    Args:
        kinds: the kinds of the tensors.
        matrices: the names of the trained parameters of two dimensions or more.

    Attributes:
        found: the uses of weights, in any order.
    """

    def __init__(self, kinds: Kinds, matrices: set[str]) -> None:
        self._kinds = kinds
        self._matrices = matrices
        self._blocks: dict[tuple[Hashable, Split], Block] = {}

    @property
    def found(self) -> list[Block]:
        return list(self._blocks.values())

    def of(self, product: Product) -> Block | None:
        """Return the weight's block, a new one at its first product; None if a weight cannot have one or is used in
        another way than in its first product."""
        weight, offset = self._kinds.place_of(product.weight)
        split = product.layout.split(product.weight, offset)
        if (weight.key, split) in self._blocks:
            return self._blocks[weight.key, split]
        n = prod(product.layout.shape(product.weight))
        if not self._is_free(weight, product.weight, offset):
            return None
        if sum(weight.parts.values()) < n:
            return None
        names = {name: min(n, size) for name, size in weight.parts.items()}
        block = Block(split, BlockFactors(name_of(list(names)), product), names)
        self._blocks[weight.key, split] = block
        return block

    def _is_free(self, weight: Weight, part: Tensor, offset: int) -> bool:
        """Return whether no other block covers any of a weight's elements."""
        matrices = self._matrices.intersection(weight.parts)
        others = [(key, b) for (key, _), b in self._blocks.items() if matrices.intersection(b.names)]
        if not others:
            return True
        if any(key != weight.key for key, _ in others):
            return False
        steps = zip(weight.tensor.shape, weight.tensor.stride(), strict=True)
        taken = torch.zeros(1 + sum((size - 1) * stride for size, stride in steps), dtype=torch.bool)
        for _, block in others:
            _view(taken, block.split).fill_(True)
        return not bool(taken.as_strided(part.shape, part.stride(), offset).any())

    def add_bias(self, block: Block, bias: Tensor) -> Hashable:
        """Add a bias to a block unless it has it, and return what marks its rows."""
        weight, offset = self._kinds.place_of(bias)
        key = (weight.key, offset, bias.numel())
        if key not in block.factors.biases:
            block.factors.add_bias(key)
            for name, size in weight.parts.items():
                block.names[name] = block.names.get(name, 0) + min(size, bias.numel() // len(weight.parts))
        return key


def name_of(names: Sequence[str]) -> str:
    """Return the name of a block: the module that owns its weight, or the weight's own name if it has another.

    >>> name_of(["a.weight"]), name_of(["a.in_proj_weight"])
    ('a', 'a.in_proj_weight')
    >>> name_of(["a.parametrizations.weight.original0", "a.parametrizations.weight.original1"])
    'a'
    """
    *owner, last = names[0].split(".")
    if last.startswith("original") and owner[-2:-1] == ["parametrizations"]:
        *owner, _, last = owner
    is_plain = len(names) == 1 and last not in ("weight", "weight_orig")
    return ".".join([*owner, last] if is_plain else owner)


def _view(elements: Tensor, split: Split) -> Tensor:
    steps = (*split.groups, *split.outputs, *split.inputs)
    return elements.as_strided([size for _, size in steps], [stride for stride, _ in steps], split.offset)
