"""The form of one item or batch: inputs and a target, and how a network is called with the inputs.

    item or batch                           inputs                           the network is called as
    (input, target)                         a tensor                         network(input)
    ((a, b), target)                        a tuple or list of tensors       network(a, b)
    ({"a": a, "b": b}, target)              a dictionary of tensors          network(a=a, b=b)
    {"a": a, "b": b, "labels": target}      the dictionary without target    network(a=a, b=b)

The target of a dictionary is its entry `labels`, `label`, `targets` or `target`, the first that exists. Hugging Face's
collators make such dictionaries. Tuples and dictionaries may be nested. A target is one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from aquasurf_ray.tasks.errors import TaskError

Inputs = Any
"""A tensor, or a tuple, list or dictionary of tensors."""

TARGET_KEYS = ("labels", "label", "targets", "target")
PAIRS = "(input, target) pairs, or dictionaries with the target under 'labels'"


def input_and_target(item: Any) -> tuple[Any, Any]:
    """Split an item, or a batch, into inputs and target, whatever their types.

    Raises:
        TaskError: it is neither a pair nor a dictionary with a target.

    >>> input_and_target({"ids": [1, 2], "labels": 0})
    ({'ids': [1, 2]}, 0)
    """
    if isinstance(item, Mapping):
        key = next((key for key in TARGET_KEYS if key in item), None)
        if key is None:
            raise TaskError(f"items must be {PAIRS}, got a dict with {', '.join(map(repr, item)) or 'no entry'}")
        # Without the target: a model of transformers that is given labels computes its own loss and returns it, too.
        return {k: v for k, v in item.items() if k != key}, item[key]
    # Three parts are refused and not split by a guess: (input, mask, target) and (input, target, weight) look alike.
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, tuple | list):
        types = ", ".join(type(part).__name__ for part in item)
        raise TaskError(
            f"items must be (input, target) pairs, got {len(item)} parts ({types}); "
            "several inputs go into a tuple or a dictionary: ((a, b), target)"
        )
    raise TaskError(f"items must be {PAIRS}, got {type(item).__name__}")


def batch_of(collated: Any) -> tuple[Inputs, Tensor]:
    """Split what a loader gives into inputs made of tensors and a target tensor.

    Raises:
        TaskError: it has another form, or something in it is not a tensor.
    """
    inputs, target = input_and_target(collated)
    refuse_other_layouts(inputs, "inputs")
    refuse_other_layouts(target, "targets")
    for name, leaf in _leaves(inputs):
        if not isinstance(leaf, Tensor):
            place = f" under '{name}'" if name else ""
            raise TaskError(
                f"inputs must be a tensor, or a tuple, list or dictionary of tensors, got {_kind(leaf)}{place}"
            )
    if not isinstance(target, Tensor):
        raise TaskError(f"targets must be one tensor, got {_kind(target)}")
    # Metrics and the shares of several GPUs both cut targets along dimension 0.
    if target.dim() == 0:
        raise TaskError("the targets of a batch must have shape (n, ...), got ()")
    return inputs, target


def refuse_other_layouts(value: Any, name: str) -> None:
    """Refuse packed sequences, and sparse and nested tensors: examples cannot be taken out of them by their number.

    Raises:
        TaskError: there is one.

    >>> refuse_other_layouts({"ids": torch.zeros(2, 2).to_sparse()}, "inputs")
    Traceback (most recent call last):
    aquasurf_ray.tasks.errors.TaskError: inputs must be dense tensors, got a sparse_coo one; make it dense in collate_fn
    """
    if isinstance(value, PackedSequence):
        raise TaskError(
            f"{name} must be dense tensors, got a PackedSequence; pad sequences in collate_fn, with their lengths as a "
            "second input, and pack them in the network's forward"
        )
    if isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            refuse_other_layouts(part, name)
    elif isinstance(value, Tensor) and value.is_nested:
        raise TaskError(f"{name} must be dense tensors, got a nested one; pad it in collate_fn")
    elif isinstance(value, Tensor) and value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        raise TaskError(f"{name} must be dense tensors, got a {layout} one; make it dense in collate_fn")


def call_network(network: nn.Module, inputs: Inputs) -> Any:
    """Call a network with its inputs: a dictionary by name, a tuple or list by position.

    >>> call_network(nn.Bilinear(2, 3, 1), (torch.ones(4, 2), torch.ones(4, 3))).shape
    torch.Size([4, 1])
    """
    if isinstance(inputs, Mapping):
        return network(**inputs)
    if isinstance(inputs, tuple | list):
        return network(*inputs)
    return network(inputs)


def map_tensors(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Return inputs of the same form with every tensor changed.

    >>> map_tensors({"a": torch.ones(2), "b": (torch.ones(1),)}, lambda t: t + 1)
    {'a': tensor([2., 2.]), 'b': (tensor([2.]),)}
    """
    if isinstance(inputs, Mapping):
        return {key: map_tensors(value, change) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(map_tensors(value, change) for value in inputs)
    return change(inputs)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Return the tensors that the inputs are made of, in their order."""
    return [leaf for _, leaf in _leaves(inputs)]


def named_tensors(inputs: Inputs) -> list[tuple[str, Tensor]]:
    """Return the tensors that the inputs are made of, each with its key or position; an only one has the name "".

    >>> [name for name, _ in named_tensors({"ids": torch.ones(2), "pair": (torch.ones(1), torch.ones(1))})]
    ['ids', 'pair.0', 'pair.1']
    """
    return list(_leaves(inputs))


def part_of(inputs: Inputs, part: slice | Tensor, n: int) -> Inputs:
    """Return some of the n examples of a batch.

    Raises:
        TaskError: a tensor does not have the examples in its first dimension.
    """
    for name, leaf in _leaves(inputs):
        # A tensor that all examples share, such as a position grid, looks like one with the batch elsewhere.
        if leaf.dim() == 0 or len(leaf) != n:
            place = f" under '{name}'" if name else ""
            raise TaskError(
                f"inputs must have the {n} examples of a batch in dimension 0, got shape {tuple(leaf.shape)}{place}"
            )
    return map_tensors(inputs, lambda tensor: tensor[part])


def form_of(inputs: Inputs) -> str:
    """Return shapes and types as text, for messages.

    >>> form_of({"ids": torch.zeros(2, 5, dtype=torch.int64)})
    "{'ids': (2, 5) int64}"
    """
    if isinstance(inputs, Mapping):
        return "{" + ", ".join(f"{key!r}: {form_of(value)}" for key, value in inputs.items()) + "}"
    if isinstance(inputs, tuple | list):
        return "(" + ", ".join(map(form_of, inputs)) + ")"
    return f"{tuple(inputs.shape)} {str(inputs.dtype).removeprefix('torch.')}"


def whole_numbers(inputs: Inputs, network: nn.Module) -> str:
    """Return the range of inputs that are whole numbers, such as ids of tokens, and that of what the network embeds,
    for a message that lists the inputs; "" if there are no such inputs.

    >>> whole_numbers(torch.tensor([[3, 20]]), nn.Embedding(20, 4))
    ', values 3 to 20; its smallest embedding has ids 0 to 19'
    """
    ranges = []
    for name, tensor in named_tensors(inputs):
        if tensor.numel() and not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
            of_name = f" of '{name}'" if name else ""
            ranges.append(f"values{of_name} {int(tensor.min())} to {int(tensor.max())}")
    if not ranges:
        return ""
    tables = [each.num_embeddings for each in network.modules() if isinstance(each, nn.Embedding | nn.EmbeddingBag)]
    embedded = f"; its smallest embedding has ids 0 to {min(tables) - 1}" if tables else ""
    return f", {', '.join(ranges)}{embedded}"


def _leaves(inputs: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    parts: Iterator[tuple[Any, Any]]
    if isinstance(inputs, Mapping):
        parts = iter(inputs.items())
    elif isinstance(inputs, tuple | list):
        parts = iter(enumerate(inputs))
    else:
        yield name, inputs
        return
    for key, value in parts:
        yield from _leaves(value, f"{name}.{key}" if name else str(key))


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        inner = ", ".join(sorted({type(part).__name__ for part in value}))
        return f"{type(value).__name__} of {inner}" if inner else f"an empty {type(value).__name__}"
    return type(value).__name__
