"""The products by which a network uses its weights, and how each becomes rows.

One format for all of them: the input of a product is [groups, rows, in] and the gradient at its output
[groups, rows, out], with one row for every sample and position (pixel, token). The weight is [groups, out, in]. A
`Contraction` states this as labels of dimensions, like `einsum`; a `Convolution` takes its input as patches.

    operation                               input              weight                 output
    linear(x, W)                            ...i               oi                     ...o
    x @ W, mm, bmm, addmm, baddbmm, mv      ...ri              ...io                  ...ro
    W @ x                                   ...ir              ...oi                  ...or
    einsum, tensordot, inner                any two operands, no label twice in one
    conv1d, conv2d, conv3d                  [n, c, y, x]       [o, c / groups, u, v]  [n, o, y, x]
    conv_transpose1d, 2d, 3d                the same convolution, of the input with zeros between its pixels

A dimension of all three tensors is a group (the heads or experts of a batched weight), one of input and weight alone is
`in`, of weight and output alone `out`, of input and output alone a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from aquasurf_ray.workers.fisher.patches import Axis, Geometry, positions_first, samples_at_once

Labels = tuple[str, ...]
"""One label a dimension; the empty label is a dimension of size one that is broadcast."""


@dataclass(frozen=True)
class Split:
    """The elements of a weight as its product sees them, whatever views lie between: (stride, size) of the dimensions
    that are groups, outputs and inputs, and the offset. One weight and one split are one block."""

    offset: int
    groups: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    inputs: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls, weight: Tensor, offset: int, groups: Sequence[int], outputs: Sequence[int], inputs: Sequence[int]
    ) -> Split:
        """Return the split of a weight by the numbers of its dimensions."""
        return cls(offset, *(_merged(weight, dimensions) for dimensions in (groups, outputs, inputs)))


def _merged(weight: Tensor, dimensions: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return dimensions in the order of memory, with those that continue each other as one."""
    merged: list[tuple[int, int]] = []
    steps = sorted(((weight.stride(d), weight.shape[d]) for d in dimensions if weight.shape[d] > 1), reverse=True)
    for stride, size in steps:
        if merged and merged[-1][0] == stride * size:
            size *= merged.pop()[1]
        merged.append((stride, size))
    return tuple(merged)


@dataclass(frozen=True)
class Contraction:
    """A sum of products over dimensions that input and weight share."""

    input: Labels
    weight: Labels
    output: Labels

    @property
    def groups(self) -> Labels:
        return tuple(d for d in self.weight if d and d in self.input and d in self.output)

    @property
    def outputs(self) -> Labels:
        return tuple(d for d in self.weight if d and d not in self.input)

    @property
    def inputs(self) -> Labels:
        return tuple(d for d in self.weight if d and d not in self.output)

    @property
    def rows(self) -> Labels:
        return tuple(d for d in self.output if d and d not in self.weight)

    def is_valid(self) -> bool:
        """Return whether every label is in two of the three tensors, and in none of them twice."""
        for labels in (self.input, self.weight, self.output):
            named = [d for d in labels if d]
            if len(named) != len(set(named)):
                return False
        places = [d for labels in (self.input, self.weight, self.output) for d in labels if d]
        return all(places.count(d) > 1 for d in places)

    def split(self, weight: Tensor, offset: int) -> Split:
        """Return how this product reads the weight's elements."""
        groups, outputs, inputs = (
            [self.weight.index(d) for d in labels] for labels in (self.groups, self.outputs, self.inputs)
        )
        return Split.of(weight, offset, groups, outputs, inputs)

    def shape(self, weight: Tensor) -> tuple[int, int, int]:
        """Return the numbers of groups, outputs and inputs of the weight."""
        sizes = dict(zip(self.weight, weight.shape, strict=True))
        n_groups, n_outputs, n_inputs = (
            prod(sizes[d] for d in labels) for labels in (self.groups, self.outputs, self.inputs)
        )
        return n_groups, n_outputs, n_inputs

    def row_shape(self, output: Tensor) -> tuple[int, ...]:
        """Return the sizes of the dimensions that are rows of the product."""
        return tuple(n for d, n in zip(self.output, output.shape, strict=True) if d and d in self.rows)

    def input_rows(self, x: Tensor) -> Tensor:
        """Return the input as [groups, rows, in]."""
        return _arranged(x, self.input, (self.groups, self.rows, self.inputs))

    def gradient_rows(self, gradient: Tensor, n_groups: int) -> Iterator[Tensor]:
        """Yield a tensor of the output's shape as [groups, rows, out]."""
        yield _arranged(gradient, self.output, (self.groups, self.rows, self.outputs))

    def has_gradient(self, gradient: Tensor) -> Tensor:
        """Return which rows have a gradient that is not zero, as booleans [rows] in the order of `input_rows`."""
        rows = _arranged(gradient, self.output, (self.rows, self.groups, self.outputs))
        return (rows != 0).flatten(1).any(1)

    def takes_bias(self, bias: Tensor, output: Tensor) -> bool:
        """Return whether a bias, broadcast to the output, adds one trained value to each output of the weight."""
        n = len(self.outputs)
        lead, sizes = bias.shape[: max(0, bias.dim() - n)], bias.shape[-n:]
        trailing = set(self.output[-n:]) == set(self.outputs) and output.shape[-n:] == sizes
        return n > 0 and trailing and not self.groups and all(size == 1 for size in lead)


def _arranged(tensor: Tensor, labels: Labels, order: Sequence[Labels]) -> Tensor:
    """Return the tensor with its dimensions in the order of the labels, one dimension for each group of them."""
    for d in reversed([d for d, label in enumerate(labels) if not label]):
        tensor = tensor.select(d, 0)
    named = [label for label in labels if label]
    wanted = [label for group in order for label in group]
    sizes = dict(zip(named, tensor.shape, strict=True))
    tensor = tensor.permute([named.index(label) for label in wanted])
    return tensor.reshape([prod(sizes[label] for label in group) for group in order])


@dataclass(frozen=True)
class Convolution:
    """A convolution of one, two or three dimensions: settings as those of `torch.nn.functional`, one a dimension."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    n_groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    def _unfolded(self, weight: Tensor) -> Tensor:
        """Return the weight as [groups, out, in, taps...], a view."""
        weight = weight.reshape(self.n_groups, weight.shape[0] // self.n_groups, *weight.shape[1:])
        return weight.transpose(1, 2) if self.transposed else weight

    def split(self, weight: Tensor, offset: int) -> Split:
        """Return how this convolution reads the weight's elements."""
        return Split.of(self._unfolded(weight), offset, [0], [1], range(2, weight.dim() + 1))

    def shape(self, weight: Tensor) -> tuple[int, int, int]:
        """Return the numbers of groups, outputs of a group, and inputs of a group times taps."""
        groups, outputs = self._unfolded(weight).shape[:2]
        return groups, outputs, weight.numel() // (groups * outputs)

    def is_depthwise(self, weight: Tensor) -> bool:
        """Return whether every input channel has its own filters and sees no other channel."""
        return self.n_groups > 1 and self._unfolded(weight).shape[2] == 1

    def images(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Geometry]:
        """Return the input as [n, c, (depth,) height, width], and how the kernel's taps read it."""
        taps = weight.shape[2:]
        if x.dim() == len(taps) + 1:
            x = x.unsqueeze(0)
        padding, stride = self.padding, self.stride
        if self.transposed:
            x, padding = self._stuffed(x, taps)
            stride = (1,) * len(taps)
        axes = [
            Axis(size, k, s, d, before, after)
            for size, k, s, d, (before, after) in zip(x.shape[2:], taps, stride, self.dilation, padding, strict=True)
        ]
        if len(axes) == 1:
            return x.unsqueeze(2), Geometry((Axis(size=1, taps=1), *axes))
        return x, Geometry(tuple(axes))

    def _stuffed(self, x: Tensor, taps: Sequence[int]) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
        """Return the input of a transposed convolution with zeros between its pixels, and the padding by which a plain
        convolution by the flipped kernel gives the same output. Flipping the taps changes no eigenvalue."""
        sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], self.stride, strict=True)]
        stuffed = x.new_zeros(*x.shape[:2], *sizes)
        stuffed[(slice(None), slice(None), *(slice(None, None, s) for s in self.stride))] = x
        padding = []
        for d, k, (p, _), extra in zip(self.dilation, taps, self.padding, self.output_padding, strict=True):
            padding.append((d * (k - 1) - p, d * (k - 1) - p + extra))
        crop = [min(0, end) for both in reversed(padding) for end in both]
        return functional.pad(stuffed, crop), tuple((max(0, a), max(0, b)) for a, b in padding)

    def row_shape(self, output: Tensor) -> tuple[int, ...]:
        """Return the number of samples and the sizes of the output's positions."""
        n = 1 if output.dim() == len(self.stride) + 1 else len(output)
        return n, *output.shape[-len(self.stride) :]

    def _channels(self, output: Tensor) -> int:
        return output.shape[-len(self.stride) - 1]

    def _output_images(self, output: Tensor) -> Tensor:
        """Return a tensor of the output's shape as [n, c, height, width], or [n, c, depth * height, width]."""
        if output.dim() == len(self.stride) + 1:
            output = output.unsqueeze(0)
        if len(self.stride) == 1:
            return output.unsqueeze(2)
        return output if len(self.stride) == 2 else output.flatten(2, -2)

    def gradient_rows(self, gradient: Tensor, n_groups: int) -> Iterator[Tensor]:
        """Yield a tensor of the output's shape as [groups, rows, out], some samples at a time, in any order."""
        images = self._output_images(gradient)
        for chunk in torch.split(images, samples_at_once(images)):
            yield positions_first(chunk).flatten(0, 2).unflatten(1, (n_groups, -1)).movedim(1, 0)  # type: ignore[no-untyped-call]

    def has_gradient(self, gradient: Tensor) -> Tensor:
        """Return which output positions have a gradient that is not zero, as booleans [n, positions]."""
        return (self._output_images(gradient) != 0).any(1).flatten(1)

    def takes_bias(self, bias: Tensor, output: Tensor) -> bool:
        """Return whether this is a bias of the convolution itself: one value for each output channel."""
        return bias.dim() == 1 and len(bias) == self._channels(output)


Layout = Contraction | Convolution


@dataclass(frozen=True)
class Product:
    """One use of a weight: the tensors, and how they become rows."""

    weight: Tensor
    input: Tensor
    bias: Tensor | None
    layout: Layout
