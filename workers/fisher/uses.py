"""Finds every use of a trained weight while a network runs, whatever modules or functions hold it.

`WeightUses` sees each call of a torch function, so a use is the operation that takes the weight and not the module that
owns it: two modules with one weight, one module that is called twice, a subclass with a `forward` of its own and bare
parameters are all the same. It tells three kinds of tensors apart:

    weights      trained parameters, and tensors made of them and of constants alone: views, masked, normalised or
                 otherwise reparametrised weights. The block is that of the tensor that the product takes.
    constants    frozen parameters, buffers, and what is made of them or of no tensor
    data         all else: the inputs, and whatever depends on them

A product of data with a weight (`workers.fisher.products`) adds to the weight's block: its input as it happens, the
gradient of its output when the backward pass has it. All other operations on data and a weight (a table that is
read, a position that is added, a recurrent layer) have no block and are listed in `other_uses`. A weight has one block,
in the way round of its first product; other ways round, such as the transpose in a tied autoencoder, are other uses.

Parameters are frozen while a network runs, so no gradient of theirs is computed. To give outputs a gradient all the
same, a zero that requires one is added to the output of the first operations that use a weight.
"""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from aquasurf_ray.workers.fisher.errors import SpectrumInputError
from aquasurf_ray.workers.fisher.factors import BlockFactors
from aquasurf_ray.workers.fisher.products import LAYERS, READERS, Layout, Product, Split, product_of

# Read a tensor's type, shape or device, and not its values.
NO_OPERANDS = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as", "is_same_size", "result_type"})
DETACHING = frozenset({"detach", "detach_"})
ADDING = frozenset({"add", "__add__", "__radd__", "add_", "__iadd__"})
DIFFERENTIATING = frozenset({"backward", "grad"})  # may run checkpointed operations again
TABLES = frozenset({"embedding", "embedding_bag"})
TABLE_MODULES = (nn.Embedding, nn.EmbeddingBag)
COPYING = frozenset({"to", "clone", "contiguous", "float", "double", "half", "bfloat16", "type", "type_as"})
GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters, each by one name: that in the first module that is no table of embeddings, so that
    a tied output layer has its own name, or else in the first module."""
    tables = {name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, TABLE_MODULES)}
    names: dict[int, list[str]] = defaultdict(list)
    parameters = [(name, p) for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    for name, parameter in parameters:
        names[id(parameter)].append(name)
    chosen = {key: next((n for n in own if n.rpartition(".")[0] not in tables), own[0]) for key, own in names.items()}
    return {name: p for name, p in parameters if chosen[id(p)] == name}


@dataclass(frozen=True)
class Weight:
    """A trained parameter, or a tensor made of parameters.

    Attributes:
        key: equal for the same parameter, and for tensors that were made the same way.
        names: of the parameters that it is made of.
        tensor: whose memory its views share.
    """

    key: Hashable
    names: tuple[str, ...]
    tensor: Tensor

    def is_parameter(self) -> bool:
        return isinstance(self.key, str)


@dataclass(eq=False)
class Block:
    """The block of one weight, or of a part of it that is used by itself.

    Attributes:
        names: the parameters that it covers, with the number of elements of each, its biases' included.
        is_differentiated: a derivative that the forward pass took went through its product.
    """

    split: Split
    factors: BlockFactors
    names: dict[str, int]
    is_differentiated: bool = False


class _Late:
    """The input of a use that is counted when its gradient arrives."""

    def __init__(self, product: Product, n_rows: int, constant: Hashable) -> None:
        self.product = replace(product, input=product.input.detach())
        self.n_rows = n_rows
        self.constant = constant
        self._version = product.input._version

    def refuse_change(self, name: str) -> None:
        """Refuse an input that was changed meanwhile. Training does too: it keeps the input for the gradient."""
        if self.product.input._version != self._version:
            raise SpectrumInputError(f"the input of '{name}' was changed in place before its gradient arrived")


class WeightUses(TorchFunctionMode):
    """Finds the uses of weights while it is entered: as a network runs, forward and backward.

    Args:
        model: its trained parameters are the weights.
        at_gradient: count an input only when its gradient arrives, and only rows whose gradient is not zero.

    Attributes:
        blocks: of all weights that have products, in no particular order.
        other_uses: by parameter, the names of operations that no block counts.
        is_backward: to be set when the backward pass of the loss begins; gradients before are the network's own.
    """

    def __init__(self, model: nn.Module, *, at_gradient: bool = False) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.other_uses: dict[str, set[str]] = defaultdict(set)
        self.is_backward = False
        self._at_gradient = at_gradient
        weights = trained_weights(model)
        self._sizes = {name: p.numel() for name, p in weights.items()}
        self._matrices = {name for name, p in weights.items() if p.dim() > 1}
        # A `Weight`, or None for a constant; a tensor that is not in here is data.
        self._kinds: MutableMapping[Tensor, Any] = WeakTensorKeyDictionary()
        for tensor in (*model.parameters(), *model.buffers()):
            self._kinds[tensor] = None
        for name, parameter in weights.items():
            self._kinds[parameter] = Weight(name, (name,), parameter)
        self._blocks: dict[tuple[Hashable, Split], Block] = {}
        self._made: dict[Hashable, int] = {}
        # By output of a product without a bias: what marks its rows until a bias is added to it.
        self._without_bias: MutableMapping[Tensor, tuple[Block, Layout, Hashable]] = WeakTensorKeyDictionary()
        self._renamed: dict[Hashable, Hashable] = {}
        self._open: list[Callable[..., Any]] = []
        self._n_uses = 0

    def __torch_function__(
        self, func: Callable[..., Any], kinds: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        tensors = list(_tensors((args, kwargs)))
        found = [self._kinds.get(t, t) for t in tensors]  # data stand for themselves
        weights = [kind for kind in found if isinstance(kind, Weight)]
        is_data = any(isinstance(kind, Tensor) for kind in found)
        if name in DIFFERENTIATING and isinstance(func, types.FunctionType):
            return self._from_within(func, args, kwargs)
        if not weights:
            if name == "__setitem__" and is_data:
                self._kinds.pop(args[0], None)
            return self._marked(func(*args, **kwargs), None, is_data)
        if isinstance(func, types.FunctionType) and name not in READERS and func not in self._open:
            return self._from_within(func, args, kwargs)
        if not torch.is_grad_enabled() or _is_detaching(func, name):
            return self._marked(func(*args, **kwargs), None, is_data)
        product = product_of(name, args, kwargs, self._is_weight)
        if product is not None and (name in LAYERS or self._is_data(product.input)):
            return self._used(name, product, func(*args, **kwargs))
        if (is_data and name not in NO_OPERANDS) or name in TABLES:
            name = f"{name} with alpha" if "alpha" in kwargs else name
            return self._otherwise_used(name, tensors, func(*args, **kwargs))
        if is_data:
            return self._marked(func(*args, **kwargs), None, is_data)
        return self._made_of(name, weights, (args, kwargs), func(*args, **kwargs))

    def _from_within(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a function of torch that is written in Python such that the operations inside are seen."""
        self._open.append(func)
        try:
            with self:
                return _unguarded(func)(*args, **kwargs)
        finally:
            self._open.pop()

    def _is_weight(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor) and isinstance(self._kinds.get(tensor), Weight)

    def _is_data(self, tensor: Tensor) -> bool:
        return tensor not in self._kinds

    def _marked(self, result: Any, kind: Weight | None, is_data: bool) -> Any:
        """Note the result of an operation as data, a constant or a weight, and return it."""
        for tensor in _tensors(result):
            if is_data:
                self._kinds.pop(tensor, None)
            elif tensor not in self._kinds:
                self._kinds[tensor] = kind
        return result

    # Weights made of weights

    def _made_of(self, name: str, weights: Sequence[Weight], arguments: Any, result: Any) -> Any:
        """Note the result of an operation on weights and constants as a weight, and return it."""
        key = (name, self._described(arguments))
        for i, tensor in enumerate(_tensors(result)):
            if tensor in self._kinds or not tensor.is_floating_point():
                continue
            of_view = next((w for w in weights if _shares_memory(w.tensor, tensor)), None)
            self._kinds[tensor] = of_view or self._new(key, i, weights, tensor)
        return result

    def _new(self, key: Hashable, i: int, weights: Sequence[Weight], tensor: Tensor) -> Weight:
        """Return a weight of its own, or the parameter that the tensor is in another type or memory."""
        whole = weights[0]
        copied = len(weights) == 1 and key[0] in COPYING and whole.tensor.shape == tensor.shape  # type: ignore[index]
        if copied and whole.tensor.stride() == tensor.stride():
            return Weight(whole.key, whole.names, tensor)
        number = self._made.setdefault((key, i), len(self._made))
        names = tuple(dict.fromkeys(name for w in weights for name in w.names))
        return Weight(number, names, tensor)

    def _described(self, value: Any) -> Hashable:
        """Return arguments as something that is equal for weights that were made the same way."""
        if isinstance(value, Tensor):
            kind = self._kinds.get(value)
            if not isinstance(kind, Weight):
                return "constant"
            return kind.key, self._place_of(value)[1], value.shape, value.stride()
        if isinstance(value, Mapping):
            return tuple((key, self._described(v)) for key, v in value.items())
        if isinstance(value, list | tuple):
            return tuple(self._described(v) for v in value)
        return repr(value)

    # Uses

    def _used(self, name: str, product: Product, output: Tensor) -> Tensor:
        """Add a product of data with a weight to the block of the weight, and return its output."""
        self._kinds.pop(output, None)
        operands = [product.weight] + ([] if product.bias is None else [product.bias])
        if self._is_weight(product.input):
            self._note("input of " + name, product.input)
        if not output.is_floating_point():
            return output
        wrapped = _is_wrapped(product.input) or _is_wrapped(product.weight)
        block = None if wrapped else self._block_of(product)
        if block is None:
            for operand in operands:
                self._note(f"{name} inside torch.func" if wrapped else f"another {name}", operand)
            return self._with_gradient(output)
        constant = self._constant_of(name, product, output, block)
        output = self._with_gradient(output)
        self._count(block, product, constant, output)
        if product.bias is None and constant is not None:
            self._without_bias[output] = (block, product.layout, constant)
        return output

    def _block_of(self, product: Product) -> Block | None:
        """Return the weight's block, a new one at its first product; None if a weight cannot have one or is used in
        another way than in its first product."""
        weight, offset = self._place_of(product.weight)
        split = product.layout.split(product.weight, offset)
        if (weight.key, split) in self._blocks:
            return self._blocks[weight.key, split]
        n = prod(product.layout.shape(product.weight))
        if not self._is_free(weight, product.weight, offset):
            return None
        names = {weight.names[0]: n} if weight.is_parameter() else {name: self._sizes[name] for name in weight.names}
        if sum(names.values()) < n:
            return None
        block = Block(split, BlockFactors(self.name_of(weight.names), product), names)
        self._blocks[weight.key, split] = block
        self.blocks.append(block)
        return block

    def _is_free(self, weight: Weight, part: Tensor, offset: int) -> bool:
        """Return whether no other block covers any of a weight's elements."""
        matrices = self._matrices.intersection(weight.names)
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

    @staticmethod
    def name_of(names: Sequence[str]) -> str:
        """Return the name of a block: the module that owns its weight, or the weight's own name if it has another.

        >>> WeightUses.name_of(["a.weight"]), WeightUses.name_of(["a.in_proj_weight"])
        ('a', 'a.in_proj_weight')
        >>> WeightUses.name_of(["a.parametrizations.weight.original0", "a.parametrizations.weight.original1"])
        'a'
        """
        *owner, last = names[0].split(".")
        if last.startswith("original") and owner[-2:-1] == ["parametrizations"]:
            *owner, _, last = owner
        is_plain = len(names) == 1 and last not in ("weight", "weight_orig")
        return ".".join([*owner, last] if is_plain else owner)

    def _constant_of(self, name: str, product: Product, output: Tensor, block: Block) -> Hashable:
        """Return what marks the rows of this use: their bias, a number until one is added, or None."""
        bias = product.bias
        if bias is None:
            self._n_uses += 1
            return None if name.startswith("conv") else self._n_uses
        if not self._is_weight(bias):
            return None
        if not product.layout.takes_bias(bias, output):
            self._note(name, bias)
            return None
        return self._bias_in(block, bias)

    def _place_of(self, tensor: Tensor) -> tuple[Weight, int]:
        """Return the weight whose memory a tensor is or views, and the number of its first element in there."""
        weight: Weight = self._kinds[tensor]
        return weight, int(tensor.storage_offset() - weight.tensor.storage_offset())

    def _bias_in(self, block: Block, bias: Tensor) -> Hashable:
        """Add a bias to a block unless it has it, and return what marks its rows."""
        weight, offset = self._place_of(bias)
        key = (weight.key, offset, bias.numel())
        if key not in block.factors.biases:
            block.factors.add_bias(key)
            for name in weight.names:
                block.names[name] = block.names.get(name, 0) + bias.numel() // len(weight.names)
        return key

    def _count(self, block: Block, product: Product, constant: Hashable, output: Tensor) -> None:
        """Add a use to its block: the input at once, unless the use may be a recomputation that gets no gradient."""
        factors, layout = block.factors, product.layout
        n_rows = layout.n_rows(output)
        in_backward = torch._C._current_graph_task_id() != -1
        late = _Late(product, n_rows, constant) if in_backward or self._at_gradient else None
        if late is None:
            with torch._C.DisableTorchFunction():
                factors.add_inputs(product, n_rows, constant)

        def hook(gradient: Tensor) -> None:
            if not self.is_backward or torch.is_grad_enabled():  # a derivative that the forward pass takes
                block.is_differentiated = True
                return
            with torch._C.DisableTorchFunction():
                if late is not None:
                    own = late.constant
                    late.refuse_change(factors.name)
                    only = gradient if self._at_gradient else None
                    factors.add_inputs(late.product, late.n_rows, self._renamed.get(own, own), only)
                factors.add_gradient(layout, gradient)

        output.register_hook(hook)  # type: ignore[no-untyped-call]

    def _otherwise_used(self, name: str, tensors: Sequence[Tensor], result: Any) -> Any:
        """Note an operation on data and weights that has no block, unless it adds a bias to a product."""
        if not (name in ADDING and len(tensors) == 2 and self._adds_bias(tensors)):
            for tensor in tensors:
                self._note(name, tensor)
        for tensor in _tensors(result):
            self._kinds.pop(tensor, None)
        return _with_tensors(result, self._with_gradient)

    def _adds_bias(self, tensors: Sequence[Tensor]) -> bool:
        for product_output, bias in (tensors[:2], tensors[1::-1]):
            known = self._without_bias.get(product_output)
            if known is None or not self._is_weight(bias):
                continue
            block, layout, constant = known
            if layout.takes_bias(bias, product_output):
                self._renamed[constant] = self._bias_in(block, bias)
                block.factors.rename(constant, self._renamed[constant])
                del self._without_bias[product_output]
                return True
        return False

    def _note(self, name: str, tensor: Tensor) -> None:
        kind = self._kinds.get(tensor)
        if isinstance(kind, Weight):
            for parameter in kind.names:
                self.other_uses[parameter].add(name.strip("_"))

    def _with_gradient(self, output: Tensor) -> Tensor:
        if output.requires_grad or not output.is_floating_point() or _is_wrapped(output):
            return output
        return output + torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True)


def _view(elements: Tensor, split: Split) -> Tensor:
    steps = (*split.groups, *split.outputs, *split.inputs)
    return elements.as_strided([size for _, size in steps], [stride for stride, _ in steps], split.offset)


def _unguarded(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of torch without the check by which it hands itself over to a mode as a whole."""
    own: Any = func
    never = dict.fromkeys((g for g in GUARDS if g in own.__globals__), lambda *_: False)
    copy = types.FunctionType(
        own.__code__, {**own.__globals__, **never}, own.__name__, own.__defaults__, own.__closure__
    )
    copy.__kwdefaults__ = own.__kwdefaults__
    return copy


def _is_detaching(func: Callable[..., Any], name: str) -> bool:
    return name in DETACHING or getattr(func, "__self__", None) is torch.Tensor.data


def _is_wrapped(tensor: Tensor) -> bool:
    """Return whether a transformation of `torch.func` holds the tensor, whose batch dimensions are then hidden."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _shares_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the same value with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_with_tensors(part, change) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(part, change) for part in value)
    return value
