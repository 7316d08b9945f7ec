"""The kind of each tensor while a network runs: a weight, a constant or data.

    weights      trained parameters, and tensors made of them and of constants alone: views, masked, normalised or
                 otherwise reparametrised weights, and constants that weights are written into
    constants    frozen parameters, buffers, and what is made of them or of no tensor
    data         all else: the inputs, and whatever depends on them

A write into a tensor changes what it is, and what all tensors in its memory are: a constant that data are copied into,
through whichever view, is data.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

COPYING = frozenset({"to", "clone", "contiguous", "float", "double", "half", "bfloat16", "type", "type_as"})


@dataclass(frozen=True)
class Weight:
    """A trained parameter, or a tensor made of parameters.

    Attributes:
        key: equal for the same parameter, and for tensors that were made the same way.
        parts: the parameters that it is made of, with the number of elements of each that it can be made of.
        tensor: whose memory its views share.
    """

    key: Hashable
    parts: Mapping[str, int]
    tensor: Tensor

    def is_parameter(self) -> bool:
        return isinstance(self.key, str)


class Kinds:
    """The kinds of all tensors that were seen; one that was not is data.

    Args:
        model: its other parameters and its buffers are constants.
        weights: its trained parameters by name.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
        self._sizes = {name: p.numel() for name, p in weights.items()}
        # A `Weight`, or None for a constant.
        self._kinds: MutableMapping[Tensor, Weight | None] = WeakTensorKeyDictionary()
        for tensor in (*model.parameters(), *model.buffers()):
            self._kinds[tensor] = None
        self._names = {id(parameter): name for name, parameter in weights.items()}
        for parameter in weights.values():
            self.set_kind(parameter, is_weight=True)
        self._made: dict[Hashable, int] = {}

    def is_trained_parameter(self, tensor: Tensor) -> bool:
        """Return whether this is one of the trained parameters, whatever kind it is at the moment."""
        return id(tensor) in self._names

    def set_kind(self, parameter: Tensor, *, is_weight: bool) -> None:
        """Note a trained parameter as a weight, or as a constant while the network has turned its gradient off."""
        name = self._names[id(parameter)]
        self._kinds[parameter] = Weight(name, {name: parameter.numel()}, parameter) if is_weight else None

    def weight_of(self, tensor: Any) -> Weight | None:
        """Return the weight that a tensor is, or whose memory it views; None if it is none."""
        return self._kinds.get(tensor) if isinstance(tensor, Tensor) else None

    def is_weight(self, tensor: Any) -> bool:
        """Return whether this is a tensor, and a weight."""
        return self.weight_of(tensor) is not None

    def is_data(self, tensor: Tensor) -> bool:
        """Return whether a tensor is data."""
        return tensor not in self._kinds

    def set_data(self, result: Any) -> None:
        """Note the result of an operation on data as data."""
        for tensor in tensors_in(result):
            self._kinds.pop(tensor, None)

    def set_constant(self, result: Any) -> None:
        """Note the result of an operation without data as a constant, unless it is known already."""
        for tensor in tensors_in(result):
            if tensor not in self._kinds:
                self._kinds[tensor] = None

    def place_of(self, tensor: Tensor) -> tuple[Weight, int]:
        """Return the weight whose memory a tensor is or views, and the number of its first element in there."""
        weight: Any = self._kinds[tensor]
        return weight, int(tensor.storage_offset() - weight.tensor.storage_offset())

    # Weights made of weights

    def set_made(self, name: str, arguments: Any, result: Any) -> None:
        """Note the result of an operation on weights and constants as a weight."""
        key = (name, self._described(arguments))
        operands = [tensor for tensor in tensors_in(arguments) if self.is_weight(tensor)]
        for i, tensor in enumerate(tensors_in(result)):
            if tensor in self._kinds:
                continue
            if not tensor.is_floating_point() and not tensor.is_complex():
                self._kinds[tensor] = None  # such as a mask by magnitude, which has no gradient
                continue
            weights = (self.weight_of(operand) for operand in operands)
            of_view = next((w for w in weights if w is not None and _share_memory(w.tensor, tensor)), None)
            self._kinds[tensor] = of_view or self._new(key, i, operands, tensor)

    def _new(self, key: tuple[str, Hashable], i: int, operands: Sequence[Tensor], tensor: Tensor) -> Weight:
        """Return a weight of its own, or the parameter that the tensor is in another type or memory."""
        first = self.weight_of(operands[0])
        copied = len(operands) == 1 and key[0] in COPYING and first is not None and first.tensor.shape == tensor.shape
        if copied and first is not None and first.tensor.stride() == tensor.stride():
            return Weight(first.key, first.parts, tensor)
        return Weight(self._made.setdefault((key, i), len(self._made)), self._parts_of(operands), tensor)

    def _parts_of(self, operands: Iterable[Tensor]) -> dict[str, int]:
        parts: dict[str, int] = {}
        for operand in operands:
            weight = self.weight_of(operand)
            for name, n in (weight.parts if weight is not None else {}).items():
                parts[name] = min(parts.get(name, 0) + min(n, operand.numel()), self._sizes[name])
        return parts

    def _described(self, value: Any) -> Hashable:
        """Return arguments as something that is equal for weights that were made the same way."""
        if isinstance(value, Tensor):
            if not self.is_weight(value):
                return "constant"
            weight, offset = self.place_of(value)
            return weight.key, offset, value.shape, value.stride()
        if isinstance(value, Mapping):
            return tuple((key, self._described(v)) for key, v in value.items())
        if isinstance(value, list | tuple):
            return tuple(self._described(v) for v in value)
        return repr(value)

    # Writes

    def versions(self, tensors: Iterable[Tensor]) -> list[tuple[Tensor, int]]:
        """Return the weights and constants among an operation's operands, with numbers that change if it writes."""
        return [(t, t._version) for t in tensors if t in self._kinds and not t.is_inference()]

    def set_written(self, versions: Sequence[tuple[Tensor, int]], name: str, arguments: Any, *, is_data: bool) -> None:
        """Note what an operation has written into, and all that shares its memory, as data or as made of weights."""
        for tensor, version in versions:
            if tensor._version == version:
                continue
            whole = tensor if tensor._base is None else tensor._base
            key = self._made.setdefault((name, self._described(arguments)), len(self._made))
            operands = [t for t in tensors_in(arguments) if self.is_weight(t)]
            made = None if is_data else Weight(key, self._parts_of(operands), whole)
            for other, kind in [(t, self._kinds[t]) for t in list(self._kinds) if _share_memory(t, tensor)]:
                if kind is not None and kind.tensor is other and kind.is_parameter():
                    continue  # the parameter itself
                if made is None:
                    self._kinds.pop(other, None)
                else:
                    self._kinds[other] = made


def _share_memory(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided or b.layout != torch.strided:
        return False  # a sparse constant has no one memory
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != 0


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in an operation's arguments or result."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
