"""Follows the values of functions through one pass, to tell an activation that the code writes out from a gate.

Two things are known of each tensor: its *root*, the tensor that it is computed from number by number (x for `beta * x`
and `x + x**3`), and the calls whose values it *carries*. In a product, a call's value is a gate if the other factor has
another root, as in `a * sigmoid(b)`; if both have the same root, as in `x * sigmoid(beta * x)`, the code writes out an
activation. A value that goes on into a layer with weights is that of an activation too, also in a sum or beside others:
a residual connection, a concatenation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from aquasurf_ray.tasks.replacement.activation_kinds import ACTIVATION_CALLS, GATE_CALLS, called_name, words

BOUNDED = frozenset({"hardtanh", "relu6", "softsign", "tanh"})
"""Functions that are gates where another tensor is multiplied by them: cells of recurrent networks, a GELU or a
hard swish that is written out."""
COMPARISONS = words("ge gt le lt")
NONLINEAR = words("arctan arcsinh asinh atan cos cosh erf exp expm1 log1p sin sinh")
CLAMP, MAXIMUM = "clamp(min=0)", "maximum(x,0)"
RECTIFIERS = {"clamp": CLAMP, "clamp_min": CLAMP, "clip": CLAMP, "max": MAXIMUM, "maximum": MAXIMUM}
PARTS = NONLINEAR | {CLAMP, MAXIMUM, "comparison"}
"""Operations that are activations, or parts of such, only where the flow of values shows it: a clamp may guard a root
or a logarithm."""
PRODUCTS = frozenset({"imul", "mul", "multiply", "rmul", "where"})
OF_SEVERAL = words("glu log_softmax scaled_dot_product_attention softmax softmin")
ELEMENTWISE = (
    words(
        "abs add clamp clamp_min clip clone contiguous cube detach div double float half iadd isub itruediv log max"
        " maximum min minimum neg negative pow radd rdiv reciprocal rpow rsqrt rsub sqrt square sub subtract to truediv"
        " type_as"
    )
    | ACTIVATION_CALLS
    | (GATE_CALLS - OF_SEVERAL)
    | NONLINEAR
    | COMPARISONS
    | PRODUCTS
)
PASSED_ON = words(
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d"
    " adaptive_max_pool3d alpha_dropout amax avg_pool1d avg_pool2d avg_pool3d chunk dropout dropout1d dropout2d"
    " dropout3d expand feature_dropout flatten flip gather getitem index_select interpolate max_pool1d max_pool2d"
    " max_pool3d mean movedim narrow pad permute pixel_shuffle pixel_unshuffle repeat reshape roll select split squeeze"
    " sum swapaxes transpose unbind unflatten unsqueeze upsample view"
)
"""Operations that change the form of an activation's values before the next layer gets them."""
SUMS = words("add iadd isub radd rsub sub subtract")
JOINS = words("cat concat concatenate dstack hstack stack vstack")
"""Operations that put values of several roots beside each other."""
MATRIX_PRODUCTS = words("baddbmm bmm einsum matmul mm rmatmul tensordot")
LAYERS = MATRIX_PRODUCTS | words(
    "addmm batch_norm bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d group_norm"
    " instance_norm layer_norm linear multi_head_attention_forward rms_norm"
)
NO_CALLS: frozenset[Any] = frozenset()
WEIGHT = object()
"""The root of parameters and buffers, and of what is computed from these alone: a learned scale is not a gate."""


def rectifier(function: object, args: Sequence[Any], named: Mapping[str, Any]) -> str | None:
    """Return which ReLU written in other words a call is, such as `x.clamp(min=0)`, or None."""
    name = RECTIFIERS.get(called_name(function))
    tensors = [each for each in (*args, *named.values()) if isinstance(each, Tensor)]
    if name is None or not tensors:
        return None
    if name == MAXIMUM:
        return name if len(tensors) == 2 and any(map(_is_zero, tensors)) else None
    bounds = dict(zip(("min", "max"), args[1:], strict=False)) | dict(named)
    return name if _is_zero(bounds.get("min")) and bounds.get("max") is None else None


def _is_zero(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.count_nonzero())
    return isinstance(value, int | float) and value == 0


class ValueFlow:
    """The roots of tensors, and the calls whose values they carry.

    Attributes:
        factors: calls by whose values a tensor of another root is multiplied.
        written: calls of an activation that is written out.
        hidden: those, and the calls whose values go into a layer.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.factors: set[Any] = set()
        self.written: set[Any] = set()
        self.hidden: set[Any] = set()
        # Without hold of the tensors, which would need the memory of a training.
        self._roots = WeakTensorKeyDictionary()
        self._carried = WeakTensorKeyDictionary()
        for weight in weights:
            self._roots[weight] = WEIGHT

    def follow(self, function: object, args: Sequence[Any], named: Mapping[str, Any], result: Any, call: Any) -> None:
        """Note what an operation does with the values that it gets.

        Args:
            call: the call of an activation that the operation is, or None.
        """
        name, given = called_name(function), _tensors((*args, *named.values()))
        if name in LAYERS and (name not in MATRIX_PRODUCTS or any(self._root(each) is WEIGHT for each in given)):
            self.hidden |= self._calls_of_signal(given)
        if name in PRODUCTS and self._multiplied(given):
            self._set(result, self._common_root(given), self._whole_calls(given))
            return
        carried = NO_CALLS
        if name in (ELEMENTWISE | PASSED_ON) and self._is_of_one_root(given):
            carried = self._calls_of_signal(given)
        elif name in SUMS | JOINS | PRODUCTS:
            carried = self._whole_calls(given)
        if call is not None and name not in OF_SEVERAL:
            carried |= {call}
        keeps_root = name in ELEMENTWISE or all(self._root(each) is WEIGHT for each in given)
        self._set(result, self._common_root(given) if keeps_root and given else object(), carried)

    def _whole_calls(self, given: Sequence[Tensor]) -> frozenset[Any]:
        """Return the calls whose values are an activation's also together with values of another root: rectifiers, and
        functions into [0, 1] that are no factors; not sines, which encode positions."""
        calls = self._calls_of_signal(given)
        return frozenset(c for c in calls if c.rectifies or (c.weighs and c not in self.factors))

    def _calls_of_signal(self, given: Sequence[Tensor]) -> frozenset[Any]:
        """Return the calls without those on weights alone, such as one that keeps weights positive."""
        return NO_CALLS.union(*(self._calls(each) for each in given if self._root(each) is not WEIGHT))

    def _multiplied(self, given: Sequence[Tensor]) -> bool:
        """Note whether a product's factors are gates or parts of an activation; False if neither is."""
        found = False
        for mine in given:
            for other in given:
                calls = self._calls(mine) - self._calls(other)
                if other is mine or not calls or self._is_constant(other):
                    continue
                if self._root(mine) is not self._root(other):
                    self.factors |= calls
                    found = True
                elif any(call.gates for call in calls):
                    self.written |= calls
                    self.hidden |= calls
                    found = True
        return found

    def _is_constant(self, tensor: Tensor) -> bool:
        return tensor.numel() <= 1 or self._root(tensor) is WEIGHT

    def _is_of_one_root(self, given: Sequence[Tensor]) -> bool:
        return len({id(self._root(each)) for each in given if not self._is_constant(each)}) == 1

    def _common_root(self, given: Sequence[Tensor]) -> object:
        roots = {id(root): root for each in given if (root := self._root(each)) is not WEIGHT and each.numel() > 1}
        if not roots:
            return self._root(given[0])
        return next(iter(roots.values())) if len(roots) == 1 else object()

    def _root(self, tensor: Tensor) -> object:
        if tensor not in self._roots:
            self._roots[tensor] = object()
        return self._roots[tensor]

    def _calls(self, tensor: Tensor) -> frozenset[Any]:
        found: frozenset[Any] = self._carried.get(tensor, NO_CALLS)  # type: ignore[no-untyped-call]
        return found

    def _set(self, result: Any, root: object, carried: frozenset[Any]) -> None:
        parts = _tensors([result])
        for each in parts:
            # Parts of one tensor, such as the two of a gated unit, are not computed from each other.
            self._roots[each] = root if len(parts) == 1 or root is WEIGHT else object()
            self._carried[each] = carried


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among values, and in lists and tuples of these: what is concatenated, the parts of a split."""
    found: list[Tensor] = []
    for each in values:
        found += [each] if isinstance(each, Tensor) else _tensors(each) if isinstance(each, list | tuple) else []
    return found
