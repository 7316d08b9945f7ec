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

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

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


IsWeight = Callable[[Any], bool]
Reader = Callable[[Mapping[str, Any], IsWeight], Product | None]


def _linear(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    x, weight = a["input"], a["weight"]
    if not is_weight(weight) or weight.dim() != 2:
        return None
    lead = tuple(string.ascii_uppercase[: x.dim() - 1])
    return Product(weight, x, a["bias"], Contraction((*lead, "i"), ("o", "i"), (*lead, "o")))


def _matmul(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    return _of_matrices(a["input"], a["other"], None, is_weight)


def _addmm(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    if a["beta"] != 1 or a["alpha"] != 1:
        return None
    return _of_matrices(a["mat1"], a["mat2"], a["input"], is_weight)


def _of_matrices(left: Tensor, right: Tensor, bias: Tensor | None, is_weight: IsWeight) -> Product | None:
    """Return the product `left @ right`, one of which is the weight and the other is not."""
    if is_weight(left) == is_weight(right):
        return None
    n_batch = max(left.dim(), right.dim(), 2) - 2
    batch = string.ascii_uppercase[:n_batch]
    labels = (
        (*batch[n_batch - max(0, left.dim() - 2) :], *("m", "k")[-left.dim() :]),
        (*batch[n_batch - max(0, right.dim() - 2) :], *("k", "n")[: right.dim()]),
    )
    output = (*batch, *(["m"] if left.dim() > 1 else []), *(["n"] if right.dim() > 1 else []))
    return _of_labels((left, right), labels, output, bias, is_weight)


def _of_labels(
    operands: Sequence[Tensor],
    labels: Sequence[Labels],
    output: Labels,
    bias: Tensor | None,
    is_weight: IsWeight,
) -> Product | None:
    """Return the contraction of two operands, one of which is the weight; None if its labels make no rows."""
    at = [is_weight(t) for t in operands].index(True)
    weight, x = operands[at], operands[1 - at]
    named = [_without_broadcast(t, own, operands, labels) for t, own in zip(operands, labels, strict=True)]
    steps = zip(named[at], weight.stride(), strict=True)
    named[at] = tuple("" if step == 0 else label for label, step in steps)  # an expanded weight
    layout = Contraction(named[1 - at], named[at], output)
    return Product(weight, x, bias, layout) if weight.dim() > 1 and layout.is_valid() else None


def _without_broadcast(tensor: Tensor, own: Labels, operands: Sequence[Tensor], labels: Sequence[Labels]) -> Labels:
    """Return the labels, empty where a dimension has size one and is broadcast to that of the other operand."""
    largest: dict[str, int] = {}
    for operand, names in zip(operands, labels, strict=True):
        for name, size in zip(names, operand.shape, strict=True):
            largest[name] = max(largest.get(name, 0), size)
    return tuple("" if size == 1 and largest[name] > 1 else name for name, size in zip(own, tensor.shape, strict=True))


def _einsum(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    operands = a["operands"]
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = operands[0]
    equation = a["equation"]
    if not isinstance(equation, str) or len(operands) != 2 or is_weight(operands[0]) == is_weight(operands[1]):
        return None
    labels, output = _einsum_labels(equation.replace(" ", ""), [t.dim() for t in operands])
    return _of_labels(operands, labels, output, None, is_weight)


def _einsum_labels(equation: str, dims: Sequence[int]) -> tuple[list[Labels], Labels]:
    """Return one label for each dimension, with dots and an implied output written out.

    >>> _einsum_labels("...i,oi->...o", [3, 2])
    ([('0', '1', 'i'), ('o', 'i')], ('0', '1', 'o'))
    """
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    n_dots = max([d - len(t.replace("...", "")) for t, d in zip(terms, dims, strict=True) if "..." in t], default=0)
    dots = [str(i) for i in range(n_dots)]

    def written_out(term: str, n: int) -> Labels:
        before, _, after = term.partition("...")
        return (*before, *(dots[n_dots - n :] if "..." in term else []), *after)

    labels = [written_out(t, d - len(t.replace("...", ""))) for t, d in zip(terms, dims, strict=True)]
    if not arrow:
        letters = "".join(terms).replace("...", "")
        right = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return labels, written_out(right, n_dots)


def _tensordot(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    left, right, dims = a["a"], a["b"], a["dims"]
    if is_weight(left) == is_weight(right) or isinstance(dims, Tensor):
        return None
    if isinstance(dims, int):
        dims = (range(left.dim() - dims, left.dim()), range(dims))
    pairs = list(zip(*(([d] if isinstance(d, int) else list(d)) for d in dims), strict=True))
    names = [
        [string.ascii_lowercase[d] for d in range(left.dim())],
        [string.ascii_uppercase[d] for d in range(right.dim())],
    ]
    for i, j in pairs:
        names[1][j] = names[0][i]
    summed = {names[0][i] for i, _ in pairs}
    output = tuple(n for n in names[0] + names[1] if n not in summed)
    return _of_labels((left, right), [tuple(n) for n in names], output, None, is_weight)


def _inner(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    left, right = a["input"], a["other"]
    return _tensordot({"a": left, "b": right, "dims": ([left.dim() - 1], [right.dim() - 1])}, is_weight)


def _convolution(n: int, transposed: bool) -> Reader:
    def read(a: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
        if not is_weight(a["weight"]):
            return None
        stride, dilation = _of_each(a["stride"], n), _of_each(a["dilation"], n)
        padding = _ends(a["padding"], a["weight"].shape[2:], dilation)
        extra = _of_each(a["output_padding"], n) if transposed else ()
        layout = Convolution(stride, padding, dilation, a["groups"], transposed, extra)
        return Product(a["weight"], a["input"], a["bias"], layout)

    return read


def _of_each(setting: Any, n: int) -> tuple[int, ...]:
    values = (setting,) if isinstance(setting, int) else tuple(int(v) for v in setting)
    return values * n if len(values) == 1 else values


def _ends(padding: Any, taps: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) of every position dimension."""
    if padding == "valid":
        return ((0, 0),) * len(taps)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in _of_each(padding, len(taps)))


CONVOLUTION = {"input": ..., "weight": ..., "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
TRANSPOSED = {
    "input": ...,
    "weight": ...,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "groups": 1,
    "dilation": 1,
}
MATRICES = {"input": ..., "other": ...}
ADDED = {"input": ..., "mat1": ..., "mat2": ..., "beta": 1, "alpha": 1}

# By the name of the function: the names of its arguments, with defaults (... for none), and what reads them.
READERS: dict[str, tuple[dict[str, Any], Reader]] = {
    "linear": ({"input": ..., "weight": ..., "bias": None}, _linear),
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm", "mv", "linalg_matmul"), (MATRICES, _matmul)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), (ADDED, _addmm)),
    "inner": (MATRICES, _inner),
    "einsum": ({"equation": ..., "operands": ()}, _einsum),
    "tensordot": ({"a": ..., "b": ..., "dims": 2}, _tensordot),
    **{f"conv{n}d": (CONVOLUTION, _convolution(n, False)) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (TRANSPOSED, _convolution(n, True)) for n in (1, 2, 3)},
}
OTHER_NAMES = {"self": "input", "mat2": "other", "vec": "other", "batch1": "mat1", "batch2": "mat2", "vec2": "mat2"}

LAYERS = frozenset(name for name in READERS if name.startswith(("linear", "conv")) and name != "linalg_matmul")
"""Operations that are a layer whatever they are given; a matrix product of weights alone makes another weight."""


def product_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], is_weight: IsWeight) -> Product | None:
    """Return the use of a weight that a call of torch's function is, or None."""
    if name not in READERS:
        return None
    defaults, reader = READERS[name]
    if name == "einsum":
        return reader({"equation": args[0], "operands": args[1:]}, is_weight)
    names = list(defaults)
    given = dict(zip(names, args, strict=False))
    for key, value in kwargs.items():
        own = key if key in defaults else OTHER_NAMES.get(key, key)
        given[own] = value
    arguments = {**defaults, **given}
    return None if ... in arguments.values() else reader(arguments, is_weight)
