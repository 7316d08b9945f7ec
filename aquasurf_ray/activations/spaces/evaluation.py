"""The outputs of many expressions at once, with sub-expressions that they share computed once.

`spaces.enumeration` evaluates spaces whose shape is known in advance; this module evaluates any list of expressions.
The nodes of all expressions are sorted by depth and by operator, and an operator is applied to a block of arguments at
a time. Values of sub-expressions are remembered between calls: the children of one parent differ in few nodes.

The arithmetic is exactly that of `identity.fingerprint`: the same operators on the same padded sample, in blocks that
PyTorch does not split among threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.hidden_constants import with_moved_constants
from aquasurf_ray.activations.identity import (
    N_POINTS,
    PADDED_POINTS,
    digest,
    digest_of,
    exact_arithmetic,
    hidden_tail,
    is_constant,
    padded_outputs,
    padded_sample,
    rounded,
)
from aquasurf_ray.activations.registry import operator_named
from aquasurf_ray.activations.spaces.blocks import BLOCK_ROWS, apply_to_block, single_threaded_operations

CHUNK = 256  # expressions whose nodes are evaluated together
MOST_ROWS = 4096  # remembered sub-expressions: 32 MB


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The outputs of n expressions.

    Attributes:
        fingerprints: see `identity.fingerprint`.
        outputs: see `identity.outputs`, float32 [n, 1000].
        finite: whether all values on the sample are finite, before clipping; bool [n].
        constant: whether all outputs are the same number; bool [n].
    """

    fingerprints: list[str]
    outputs: NDArray[np.float32]
    finite: NDArray[np.bool_]
    constant: NDArray[np.bool_]


class Evaluator:
    """Evaluates expressions, and remembers the values of up to `MOST_ROWS` sub-expressions. Row 0 is x.

    >>> Evaluator().evaluate([Expression("relu", (Expression(),))]).outputs.min()
    np.float32(0.0)
    """

    def __init__(self) -> None:
        self._values = torch.empty((MOST_ROWS, PADDED_POINTS), dtype=torch.float64)
        self._undefined = torch.zeros(MOST_ROWS, dtype=torch.bool)
        self._rows: dict[Expression, int] = {}
        self._forget()

    def evaluate(self, expressions: Sequence[Expression], *, identify: bool = True) -> Evaluated:
        """Return the outputs of the expressions, in their order.

        Args:
            identify: False to skip hidden constants and learned parameters, which take longer than the outputs. Then
                fingerprints are those of the outputs on the sample, equal for functions that differ by a hidden
                constant, and empty for functions with learned parameters; `constant` holds at their initial values.
        """
        fingerprints: list[str] = []
        outputs = np.empty((len(expressions), N_POINTS), dtype=np.float32)
        flags = np.empty((2, len(expressions)), dtype=np.bool_)
        with exact_arithmetic(), single_threaded_operations():
            for start in range(0, len(expressions), CHUNK):
                part = slice(start, start + CHUNK)
                values = self._values_of(expressions[part])
                final = rounded(values)
                outputs[part] = final.numpy()
                # Zero times a number is zero unless the number is infinite or NaN; much faster than isfinite.
                flags[0, part] = (values[:, :N_POINTS].mul(0.0).sum(1) == 0.0).numpy()
                flags[1, part] = (final.amin(1) == final.amax(1)).numpy()
                tails = self._hidden_tails(expressions[part], values) if identify else [b""] * len(values)
                fingerprints += [digest(*pair).hex() for pair in zip(outputs[part], tails, strict=True)]
            for i, expression in enumerate(expressions):
                if expression.parameters:  # their identity is more than their outputs
                    fingerprints[i] = digest_of(expression).hex() if identify else ""
                    flags[1, i] = is_constant(expression) if identify else flags[1, i]
        return Evaluated(fingerprints, outputs, flags[0], flags[1])

    def _hidden_tails(self, expressions: Sequence[Expression], values: Tensor) -> list[bytes]:
        """Return the part of the identities that hidden constants add (`identity.hidden_tail`)."""
        moved = [[] if each.parameters else with_moved_constants(each) for each in expressions]
        others = [expression for several in moved for expression in several]
        lines = iter(
            [line for start in range(0, len(others), CHUNK) for line in self._values_of(others[start : start + CHUNK])]
        )
        return [hidden_tail(own, [next(lines) for _ in several]) for own, several in zip(values, moved, strict=True)]

    def _values_of(self, expressions: Sequence[Expression]) -> Tensor:
        """Return the values of at most `CHUNK` expressions, float64 [n, 1024]; NaN where undefined."""
        nodes = self._missing(expressions)
        if len(self._rows) + len(nodes) > MOST_ROWS:
            self._forget()
            nodes = self._missing(expressions)
        if len(self._rows) + len(nodes) > MOST_ROWS:  # expressions of the largest size, such as nobody's
            return torch.stack([padded_outputs(expression) for expression in expressions])
        for group in _by_depth_and_operator(nodes):
            for start in range(0, len(group), BLOCK_ROWS):
                self._compute(group[start : start + BLOCK_ROWS])
        rows = torch.tensor([self._rows[expression] for expression in expressions])
        return self._values.index_select(0, rows)

    def _missing(self, expressions: Sequence[Expression]) -> list[Expression]:
        """Return the nodes whose values are not known, each once."""
        missing: dict[Expression, None] = {}
        pending = list(expressions)
        while pending:
            node = pending.pop()
            if node not in self._rows and node not in missing:
                missing[node] = None
                pending.extend(node.arguments)
        return list(missing)

    def _compute(self, nodes: Sequence[Expression]) -> None:
        """Compute nodes of one operator, whose arguments are known, into new rows."""
        first = len(self._rows)
        target = self._values[first : first + len(nodes)]
        if nodes[0].operator is None:
            for row, node in zip(target, nodes, strict=True):
                row.fill_(node.value or 0.0 if node.learned is None else node.learned.initial)
        else:
            entry = operator_named(nodes[0].operator or "")
            arguments = torch.tensor([[self._rows[argument] for argument in node.arguments] for node in nodes])
            lost = self._undefined[arguments].any(1)
            gathered = [self._values.index_select(0, column) for column in arguments.unbind(1)]
            target.copy_(apply_to_block(entry, gathered, lost))
            self._undefined[first : first + len(nodes)] = lost
        self._rows.update({node: first + i for i, node in enumerate(nodes)})

    def _forget(self) -> None:
        self._rows = {Expression(): 0}
        self._values[0] = padded_sample("float64")
        self._undefined.zero_()


def _by_depth_and_operator(nodes: Iterable[Expression]) -> list[list[Expression]]:
    """Return the nodes in groups of one depth, operator and number of arguments, the shallowest first."""
    groups: dict[tuple[int, str, int], list[Expression]] = {}
    for node in nodes:
        groups.setdefault((node.depth, node.operator or "", len(node.arguments)), []).append(node)
    return [groups[key] for key in sorted(groups)]
