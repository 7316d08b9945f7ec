"""The calls of torch's functions that are products of data with a weight, and their operands as rows.

`workers.fisher.products` has the format, and a table of the operations.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from aquasurf_ray.workers.fisher.products import Contraction, Convolution, Labels, Product

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
