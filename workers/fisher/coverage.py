"""The share of a network's trained weights that a spectrum covers, and the names of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import prod

from aquasurf_ray.workers.fisher.blocks import Block

SMALL_SHARE = 0.5


@dataclass(frozen=True)
class Coverage:
    """The share of the trained weights that a spectrum covers. Frozen weights count nowhere.

    Attributes:
        n_matrices: trained parameters of two dimensions or more, and vectors that a matrix without a block is made of.
        n_covered_matrices: those with a block.
        n_weights: elements of all trained parameters.
        n_covered_weights: those in a block.
        left_out: matrices without a block, with the reason.
        also_used: matrices with a block, with uses that the block does not count.

    Example:
        >>> str(Coverage(9, 9, 124_439_808, 122_822_090, {}, {}))
        '9 of 9 matrices, 98.7% of 124,439,808 weights'
    """

    n_matrices: int
    n_covered_matrices: int
    n_weights: int
    n_covered_weights: int
    left_out: dict[str, str]
    also_used: dict[str, str]

    @classmethod
    def of(
        cls,
        shapes: Mapping[str, Sequence[int]],
        blocks: Sequence[Block],
        other_uses: Mapping[str, set[str]],
        in_products: Set[str],
    ) -> Coverage:
        """Count from the shapes of the trained parameters, the blocks, the other uses of parameters, and the names of
        those that are in products without a block. A matrix without any use that was seen is left out for no gradient.
        """
        covered: dict[str, int] = {}
        for block in blocks:
            for name, n in block.names.items():
                covered[name] = covered.get(name, 0) + n
        matrices = [name for name, s in shapes.items() if len(s) > 1 or (name in in_products and name not in covered)]
        sizes = {name: prod(shape) for name, shape in shapes.items()}
        uses = {name: ", ".join(sorted(found)) for name, found in other_uses.items() if found}
        return cls(
            n_matrices=len(matrices),
            n_covered_matrices=sum(name in covered for name in matrices),
            n_weights=sum(sizes.values()),
            n_covered_weights=sum(min(n, sizes[name]) for name, n in covered.items()),
            left_out={name: uses.get(name, "no gradient") for name in matrices if name not in covered},
            also_used={name: uses[name] for name in matrices if name in covered and name in uses},
        )

    @property
    def share(self) -> float:
        """Covered weights as a share of all trained weights."""
        return self.n_covered_weights / max(1, self.n_weights)

    @property
    def is_small(self) -> bool:
        """True if less than half of the weights are covered, which is worth a warning."""
        return self.share < SMALL_SHARE

    def __str__(self) -> str:
        percent = 100 if self.share == 1 else min(99.9, round(100 * self.share, 1))
        return f"{self.n_covered_matrices} of {self.n_matrices} matrices, {percent:g}% of {self.n_weights:,} weights"

    def left_out_text(self) -> str:
        """Return the names of the matrices without a block, and the reasons."""
        return _named(self.left_out)

    def warning(self) -> str | None:
        """Return the warning about a spectrum that is not whole; None if every matrix has a block with all its uses."""
        says = []
        if self.left_out:
            says.append(f"left out of the spectrum: {self.left_out_text()}")
        if self.also_used:
            says.append(f"uses that no block counts: {_named(self.also_used)}")
        if not says and not self.is_small:
            return None
        small = "less than half of the weights: " if self.is_small else ""
        return "; ".join([f"the spectrum covers {small}{self}", *says])


def _named(reasons: Mapping[str, str]) -> str:
    return ", ".join(f"{_short(name)} ({reason})" for name, reason in reasons.items())


def _short(name: str) -> str:
    """Return a layer's name for its weight."""
    return name.removesuffix(".weight")
