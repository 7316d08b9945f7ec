"""Finds every use of a trained weight while a network runs, whatever modules or functions hold it.

`WeightUses` sees each call of a torch function, so a use is the operation that takes the weight and not the module that
owns it: two modules with one weight, one module that is called twice, a subclass with a `forward` of its own and bare
parameters are all the same. `workers.fisher.kinds` tells weights from constants and from data. The block of a weight
that is made of others, such as a normalised one, is that of the tensor that the product takes.

A product of data with a weight (`workers.fisher.products`) counts in the weight's block, as
`workers.fisher.use_counting` says. All other operations on data and a weight (a table that is read, a position that is
added, a recurrent layer, an autograd function) have no block and are listed in `other_uses`. A weight has one block, in
the way round of its first product; other ways round, such as the transpose in a tied autoencoder, are other uses.

Parameters are frozen while a network runs, so no gradient of theirs is computed. To give outputs a gradient all the
same, a zero that requires one is added to the output of the first operations that use a weight. The network reads the
`requires_grad` that a weight has in a training, and a weight is a constant while the network has turned it off.
"""

from __future__ import annotations

import inspect
import threading
import types
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function, forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from aquasurf_ray.workers.fisher.blocks import Block, Blocks, trained_weights
from aquasurf_ray.workers.fisher.kinds import Kinds, tensors_in
from aquasurf_ray.workers.fisher.padding import Padding
from aquasurf_ray.workers.fisher.product_readers import LAYERS, READERS, product_of
from aquasurf_ray.workers.fisher.products import Layout, Product
from aquasurf_ray.workers.fisher.use_counting import UseCounting, is_in_backward

# Read a tensor's type, shape or device, and not its values.
NO_OPERANDS = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as", "is_same_size", "result_type"})
DETACHING = frozenset({"detach", "detach_"})
ADDING = frozenset({"add", "__add__", "__radd__", "add_", "__iadd__"})
DIFFERENTIATING = frozenset({"backward", "grad"})  # may run checkpointed operations again
TABLES = frozenset({"embedding", "embedding_bag"})
UPDATING = frozenset({"batch_norm", "instance_norm"})  # write running statistics, which they do not read
GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class WeightUses(TorchFunctionMode):
    """Finds the uses of weights while it is entered: as a network runs, forward and backward.

    Args:
        model: its trained parameters are the weights.
        padding: the targets, if some do not count.

    Attributes:
        blocks: the blocks of all weights that have products.
        other_uses: by parameter, the names of operations that no block counts.
        in_products: the parameters that weights of products without a block are made of.
        counting: the counting of the uses that were found.
    """

    def __init__(self, model: nn.Module, padding: Padding | None = None) -> None:
        super().__init__()
        self.other_uses: dict[str, set[str]] = defaultdict(set)
        self.in_products: set[str] = set()
        self._function_uses: dict[str, set[str]] = defaultdict(set)
        self.counting = UseCounting(padding, self._derived)
        weights = trained_weights(model)
        self._kinds = Kinds(model, weights)
        self.blocks = Blocks(self._kinds, {name for name, p in weights.items() if p.dim() > 1})
        # By output of a product without a bias: what marks its rows until a bias is added to it.
        self._without_bias: MutableMapping[Tensor, tuple[Block, Layout, Hashable]] = WeakTensorKeyDictionary()
        self._open: list[Callable[..., Any]] = []
        self._n_uses = 0

    def __torch_function__(
        self, func: Callable[..., Any], kinds: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "requires_grad_" or getattr(func, "__self__", None) is torch.Tensor.requires_grad:
            return self._about_gradient(func, args, kwargs)
        tensors = list(tensors_in((args, kwargs)))
        has_weights = any(self._kinds.is_weight(t) for t in tensors)
        if func is torch.autograd.grad and is_in_backward():
            return self._differentiated_in_backward(args, kwargs)
        if isinstance(func, types.FunctionType) and (
            name in DIFFERENTIATING or (has_weights and name not in READERS and func not in self._open)
        ):
            return self._from_within(func, args, kwargs)
        is_seen = has_weights and torch.is_grad_enabled() and not _is_detaching(func, name)
        product = product_of(name, args, kwargs, self._kinds.is_weight) if is_seen else None
        versions = self._kinds.versions(tensors)
        result = func(*args, **kwargs)
        if product is not None and (name in LAYERS or self._kinds.is_data(product.input)):
            return self._used(name, product, result)
        is_data = any(self._kinds.is_data(t) for t in tensors)
        if is_seen and ((is_data and name not in NO_OPERANDS) or name in TABLES):
            result = self._otherwise_used(f"{name} with alpha" if "alpha" in kwargs else name, tensors, result)
        elif is_data:
            self._kinds.set_data(result)
        elif is_seen:
            self._kinds.set_made(name, (args, kwargs), result)
        else:
            self._kinds.set_constant(result)
        if name not in UPDATING and (is_data or is_seen):
            self._kinds.set_written(versions, name, (args, kwargs), is_data=is_data)
        return result

    def _about_gradient(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Read or set `requires_grad` as if the weights were not frozen."""
        tensor, *given = args
        if not self._kinds.is_trained_parameter(tensor):
            return func(*args, **kwargs)
        if func.__name__ == "__get__":
            return self._kinds.is_weight(tensor)
        self._kinds.set_kind(tensor, is_weight=kwargs.get("requires_grad", [*given, True][0]))
        return tensor

    def _from_within(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a function of torch that is written in Python such that the operations inside are seen."""
        self._open.append(func)
        try:
            with self:
                return _unguarded(func)(*args, **kwargs)
        finally:
            self._open.pop()

    def _differentiated_in_backward(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Differentiate within a backward pass, as hooks and autograd functions of the network's own do.

        The gradients of the products inside are those of a training if it takes the weights' own from here, such as a
        checkpoint of the network's own does; but not where a hook solves for an equilibrium. Weights are frozen, and
        have no gradient.
        """
        grad = torch.autograd.grad
        call = inspect.signature(grad).bind(*args, **kwargs)
        inputs = call.arguments["inputs"]
        inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        are_frozen = [self._kinds.is_weight(t) and not t.requires_grad for t in inputs]
        if not any(are_frozen):
            with self.counting.paused():
                return self._from_within(grad, args, kwargs)
        call.arguments |= {"inputs": [t for t, is_frozen in zip(inputs, are_frozen, strict=True) if not is_frozen]}
        if not call.arguments["inputs"]:
            torch.autograd.backward(call.arguments["outputs"], call.arguments.get("grad_outputs"))
            return (None,) * len(inputs)
        found = iter(self._from_within(grad, call.args, call.kwargs))
        return tuple(None if is_frozen else next(found) for is_frozen in are_frozen)

    @contextmanager
    def autograd_functions_seen(self) -> Iterator[None]:
        """See the calls of autograd functions in this thread too, which PyTorch hides from modes."""
        own, thread = Function.__dict__["apply"], threading.get_ident()

        def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
            result = own.__get__(None, cls)(*args, **kwargs)
            if threading.get_ident() != thread or not torch.is_grad_enabled():
                return result
            return self._applied(cls.__name__, args, kwargs, result)

        Function.apply = classmethod(apply)
        try:
            yield
        finally:
            Function.apply = own

    def _applied(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
        """Note the result of an autograd function, whose operations ran without gradients."""
        tensors = list(tensors_in((args, kwargs)))
        if any(self._kinds.is_data(t) for t in tensors):
            for weight in filter(None, map(self._kinds.weight_of, tensors)):
                for parameter in weight.parts:
                    self._function_uses[parameter].add(name)
            return self._otherwise_used(name, [], result)
        if any(self._kinds.is_weight(t) for t in tensors):
            self._kinds.set_data([t for t in tensors_in(result) if not self._kinds.is_weight(t)])
            self._kinds.set_made(name, (args, kwargs), result)
        return result

    def note_functions(self) -> None:
        """Note the uses of weights in autograd functions, after the backward pass. A function that runs its operations
        again there, as a checkpoint of the network's own does, has its uses in the weights' blocks."""
        run_again = {name for b in self.blocks.found if b.factors.has_gradient and not b.n_uses for name in b.names}
        for parameter, names in self._function_uses.items():
            if parameter not in run_again:
                self.other_uses[parameter] |= names

    # Uses

    def _used(self, name: str, product: Product, output: Tensor) -> Tensor:
        """Add a product of data with a weight to the block of the weight, and return its output."""
        self._kinds.set_data(output)
        operands = [product.weight] + ([] if product.bias is None else [product.bias])
        if self._kinds.is_weight(product.input):
            self._note("input of " + name, product.input)
        if not output.is_floating_point() and not output.is_complex():
            return output
        for operand in operands if forward_ad._current_level >= 0 else []:
            self._note("forward-mode derivative", operand)
        is_wrapped = _is_wrapped(product.input) or _is_wrapped(product.weight)
        block = None if is_wrapped or output.is_complex() else self.blocks.of(product)
        if block is None:
            weight: Any = self._kinds.weight_of(product.weight)
            self.in_products.update(weight.parts)
            if is_wrapped or output.is_complex():
                note = f"{name} {'inside torch.func' if is_wrapped else 'of complex numbers'}"
            elif sum(weight.parts.values()) < product.weight.numel():
                note = f"{name} by a matrix of fewer weights"
            else:
                note = f"another {name}"
            for operand in operands:
                self._note(note, operand)
            return self._with_gradient(output)
        constant = self._constant_of(name, product, output, block)
        output = self._with_gradient(output)
        self.counting.add(block, product, constant, output)
        if product.bias is None and constant is not None:
            self._without_bias[output] = (block, product.layout, constant)
        return output

    def _constant_of(self, name: str, product: Product, output: Tensor, block: Block) -> Hashable:
        """Return what marks the rows of this use: their bias, a number until one is added, or None."""
        bias = product.bias
        if bias is None:
            self._n_uses += 1
            return None if name.startswith("conv") else self._n_uses
        if not self._kinds.is_weight(bias):
            return None
        if not product.layout.takes_bias(bias, output):
            self._note(name, bias)
            return None
        return self.blocks.add_bias(block, bias)

    def _derived(self, block: Block) -> None:
        self.other_uses[next(iter(block.names))].add("derivative in forward")

    def _otherwise_used(self, name: str, tensors: Sequence[Tensor], result: Any) -> Any:
        """Note an operation on data and weights that has no block, unless it adds a bias to a product."""
        if not (name in ADDING and len(tensors) == 2 and self._adds_bias(tensors)):
            for tensor in tensors:
                self._note(name, tensor)
        self._kinds.set_data(result)
        return _with_tensors(result, self._with_gradient)

    def _adds_bias(self, tensors: Sequence[Tensor]) -> bool:
        for product_output, bias in (tensors[:2], tensors[1::-1]):
            known = self._without_bias.get(product_output)
            if known is None or not self._kinds.is_weight(bias):
                continue
            block, layout, constant = known
            if layout.takes_bias(bias, product_output):
                self.counting.rename(block, constant, self.blocks.add_bias(block, bias))
                del self._without_bias[product_output]
                return True
        return False

    def _note(self, name: str, tensor: Tensor) -> None:
        weight = self._kinds.weight_of(tensor)
        if weight is not None:
            for parameter in weight.parts:
                self.other_uses[parameter].add(name.strip("_"))

    def _with_gradient(self, output: Tensor) -> Tensor:
        if output.requires_grad or not output.is_floating_point() or _is_wrapped(output):
            return output
        return output + torch.zeros((), dtype=output.dtype, device=output.device, requires_grad=True)


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


def _with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the same value with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_with_tensors(part, change) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(part, change) for part in value)
    return value
