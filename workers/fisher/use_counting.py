"""Counts the uses of weights into the factors of their blocks.

A use adds its input as it happens, and the gradient of its output when the backward pass of the loss has it. Uses in a
backward pass, those of checkpointed layers that run again, wait with their input for a gradient: some never get one.

If some targets do not count, every input waits, and two further backward passes come first that show which rows count
(`workers.fisher.counted_rows`). All passes meet the same uses; those that run again are matched by their order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from math import prod

import torch
from torch import Tensor

from aquasurf_ray.workers.fisher.blocks import Block
from aquasurf_ray.workers.fisher.counted_rows import Reach, RowCounts
from aquasurf_ray.workers.fisher.errors import SpectrumInputError
from aquasurf_ray.workers.fisher.padding import Padding
from aquasurf_ray.workers.fisher.products import Contraction, Product


class Pass(Enum):
    """The source of gradients."""

    NETWORK = "derivatives that the network takes itself"
    PADDING = "random gradients of targets that do not count"
    COUNTED = "random gradients of targets that count"
    LOSS = "the loss"


class _Waiting:
    """The input of a use that is counted when its gradient arrives."""

    def __init__(self, block: Block, product: Product, constant: Hashable) -> None:
        self.block = block
        self.product = replace(product, input=product.input.detach())
        self.constant = constant
        self._version = product.input._version

    def is_changed(self) -> bool:
        return bool(self.product.input._version != self._version)

    def refuse_change(self) -> None:
        """Refuse an input that was changed meanwhile. Training does too: it keeps the input for the gradient."""
        if self.is_changed():
            name = self.block.factors.name
            raise SpectrumInputError(f"the input of '{name}' was changed in place before its gradient arrived")


class UseCounting:
    """Counts the uses of one run of a network, forward and backward.

    Args:
        padding: the targets, if some do not count.
        on_derivative: is called with a block of which the network takes a derivative itself.

    Attributes:
        uncertain: the names of blocks with rows of which nothing tells whether they count.
    """

    def __init__(self, padding: Padding | None, on_derivative: Callable[[Block], None]) -> None:
        self.uncertain: list[str] = []
        self._padding = padding
        self._on_derivative = on_derivative
        self._pass = Pass.NETWORK
        self._is_paused = False
        self._renamed: dict[Hashable, Hashable] = {}
        # Only if some targets do not count: the inputs of the forward pass that wait, in order, what reaches the uses
        # of the forward pass and those that run again, with their blocks, and which rows of them count.
        self._waiting: dict[_Waiting, Reach] = {}
        self._reaches: list[tuple[Block, Reach]] = []
        self._again: list[tuple[Block, Reach]] = []
        self._n_again = 0
        self._rows: dict[Reach, Tensor] = {}

    def begin(self, next_pass: Pass) -> None:
        """Note whose gradients come next."""
        self._refuse_other_number()
        self._pass = next_pass
        self._n_again = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no gradients meanwhile."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def rename(self, block: Block, constant: Hashable, bias: Hashable) -> None:
        """Note a bias that the network added after the product; `constant` stood for it in the rows."""
        self._renamed[constant] = bias
        block.factors.rename(constant, bias)

    def add(self, block: Block, product: Product, constant: Hashable, output: Tensor) -> None:
        """Count a use."""
        in_backward = is_in_backward()
        shape = product.layout.row_shape(output)
        reach = None if self._padding is None else self._reach(block, shape, in_backward)
        waiting = None
        if in_backward or self._padding is not None:
            waiting = _Waiting(block, product, constant)
            if reach is not None and not in_backward:
                self._waiting[waiting] = reach
        else:
            with torch._C.DisableTorchFunction():
                block.factors.add_inputs(product, prod(shape), constant)
        if not in_backward:
            block.n_uses += 1

        def hook(gradient: Tensor) -> None:
            if self._is_paused:
                return
            if self._pass is Pass.NETWORK or torch.is_grad_enabled():
                self._on_derivative(block)
                return
            with torch._C.DisableTorchFunction():
                if self._pass is not Pass.LOSS:
                    self._note_reach(reach, product, gradient)
                    return
                if waiting is not None:
                    waiting.refuse_change()
                    self._waiting.pop(waiting, None)
                    rows = None if reach is None else self._rows_of(reach)
                    self._add_input(waiting, shape, rows)
                block.factors.add_gradient(product.layout, gradient)

        output.register_hook(hook)  # type: ignore[no-untyped-call]

    def decide(self) -> None:
        """Decide which rows count, after the passes that show it."""
        found = [*self._reaches, *((block, reach) for block, reach in self._again if reach.is_met)]
        if self._padding is not None:
            n_steps = [block.n_uses for block, _ in found]
            counts = RowCounts.of([reach for _, reach in found], self._padding, n_steps)
            self._rows = dict(zip((reach for _, reach in found), counts.masks, strict=True))
            self.uncertain = counts.uncertain

    def count_unreached(self) -> None:
        """Count the uses whose outputs do not reach the loss, after its backward pass: their gradients are zero."""
        self._refuse_other_number()
        for waiting, reach in self._waiting.items():
            if waiting.block.factors.has_gradient and not waiting.is_changed():
                self._add_input(waiting, reach.shape, self._rows_of(reach))
        self._waiting.clear()

    def _reach(self, block: Block, shape: tuple[int, ...], in_backward: bool) -> Reach:
        """Return what is known of a use, which is that of the passes before if it runs again in each of them."""
        if not in_backward or self._pass is Pass.NETWORK:
            reach = Reach(block.factors.name, shape, block.n_uses)
            self._reaches.append((block, reach))
            return reach
        if self._pass is Pass.PADDING:
            self._again.append((block, Reach(block.factors.name, shape, block.n_uses)))
        self._n_again += 1
        if self._n_again > len(self._again) or self._again[self._n_again - 1][0] is not block:
            raise _differs(block.factors.name)
        reach = self._again[self._n_again - 1][1]
        if reach.shape != tuple(shape):
            raise _differs(block.factors.name)
        return reach

    def _refuse_other_number(self) -> None:
        if self._pass is not Pass.NETWORK and self._n_again != len(self._again):
            raise _differs(self._again[self._n_again][1].name)

    def _rows_of(self, reach: Reach) -> Tensor:
        if reach not in self._rows:
            raise _differs(reach.name)
        return self._rows[reach]

    def _note_reach(self, reach: Reach | None, product: Product, gradient: Tensor) -> None:
        if reach is not None:
            reach.is_met = True
            found = reach.by_padding if self._pass is Pass.PADDING else reach.by_counted
            found |= product.layout.has_gradient(gradient).flatten().cpu()

    def _add_input(self, waiting: _Waiting, shape: tuple[int, ...], rows: Tensor | None) -> None:
        if rows is not None:
            is_flat = isinstance(waiting.product.layout, Contraction)
            rows = rows.to(waiting.product.input.device)
            rows = rows if is_flat else rows.reshape(shape[0], -1)
        constant = self._renamed.get(waiting.constant, waiting.constant)
        waiting.block.factors.add_inputs(waiting.product, prod(shape), constant, rows)


def is_in_backward() -> bool:
    """Return whether this thread runs within a backward pass."""
    return torch._C._current_graph_task_id() != -1


def _differs(name: str) -> SpectrumInputError:
    return SpectrumInputError(
        f"checkpointed layers run differently in each backward pass, at '{name}', so the rows of padding in them are "
        "unknown; take out checkpointing, or what differs"
    )
