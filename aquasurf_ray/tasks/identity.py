"""The identity of a network and its data, as small JSON-ready dictionaries: the body of `Task.spec()`.

Two descriptions are equal on every machine and in every process where the task is the same: they hold names, shapes,
settings, sizes and labels, and no weights, pixels or targets that are real numbers, whose last bits follow the
processor and the decoder, and which augmentation draws again at each reading. `Task.version` covers the rest.

A user's `DataLoader` is described by its data set, and, unless it is plain (see `aquasurf_ray.tasks.loaders`), by the
indices that its sampler gives; a `collate_fn` by the batch that it makes, where `default_collate` would make another.
So plain loaders, and data sets, keep the digest that they had in version 0.1.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.inputs import input_and_target
from aquasurf_ray.tasks.loaders import (
    Examples,
    example_set,
    given_batches,
    is_plain,
    made_batch,
    n_examples,
    prepares_processes,
)
from aquasurf_ray.tasks.objective import name_of

N_EXAMPLES = 8


def network_identity(network: nn.Module) -> dict[str, Any]:
    """Return the number of weights, and a digest: the name, class and plain settings of modules, the shapes of tensors.

    Settings are public attributes that are numbers, text or tuples of these: strides, dropout probabilities, and the
    attributes of user-defined modules.

    >>> network_identity(nn.Linear(3, 2))["n_weights"]
    8
    >>> network_identity(nn.Dropout(0.1)) == network_identity(nn.Dropout(0.2))
    False
    """
    modules = [(name, type(module).__name__, _settings(module)) for name, module in network.named_modules()]
    weights = [(name, *_form(tensor), tensor.requires_grad) for name, tensor in network.named_parameters()]
    buffers = [(name, *_form(tensor)) for name, tensor in network.named_buffers()]
    return {"n_weights": sum(p.numel() for p in network.parameters()), "digest": _digest([modules, weights, buffers])}


def data_identity(splits: Mapping[str, Examples]) -> dict[str, Any]:
    """Return the size of each split, and a digest of the order, the form and the labels of the first examples.

    Of the last split, the test split, no example is read: that happens once, after a training.

    Raises:
        ValueError: a split is empty.
        TaskError: a split cannot be indexed.
    """
    sizes = {name: n_examples(split) for name, split in splits.items()}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"split '{name}' has no examples")
    train, *_ = splits
    orders = {name: _order(split, name == train) for name, split in splits.items()}
    read = [(splits[name], orders[name]) for name in list(splits)[:-1]]
    first = [_items(split, _first_indices(split, order)) for split, order in read]
    batches = [_collated_differently(split, order) for split, order in read]
    if not any(batches) and not any(orders.values()):
        return {**sizes, "digest": _digest(first)}  # as in version 0.1, whose results are still those of the task
    return {**sizes, "digest": _digest([first, orders, batches])}


def _order(split: Examples, is_train: bool) -> dict[str, Any] | None:
    """Return the indices that a loader's sampler gives; None for data sets and plain loaders.

    A sampler whose indices differ each time, whatever is seeded, is identified by its settings only. In validation and
    test the order makes no difference.
    """
    if not isinstance(split, DataLoader) or is_plain(split):
        return None
    # Two passes with one seed: they differ only if the sampler draws from a source that is not seeded.
    batches, again = ([list(map(_index, batch)) for batch in given_batches(split)] for _ in range(2))
    if batches != again:
        samplers = [split.batch_sampler, split.sampler]
        return {"sampler": [[type(s).__name__, _settings(s)] for s in samplers if hasattr(s, "__dict__")]}
    if is_train:
        return {"batches": batches}
    indices = [index for batch in batches for index in batch]
    return {"indices": sorted(indices) if all(isinstance(i, int) for i in indices) else indices}


def _first_indices(split: Examples, order: dict[str, Any] | None) -> list[Any]:
    if order is None or "sampler" in order:
        return list(range(min(N_EXAMPLES, len(example_set(split)))))  # type: ignore[arg-type]
    indices = order.get("indices") or list(dict.fromkeys(i for batch in order["batches"] for i in batch))
    return indices[:N_EXAMPLES]


def _items(split: Examples, indices: list[Any]) -> list[Any]:
    whole = example_set(split)
    try:
        return [_item(whole[i]) for i in indices]
    except Exception:  # the user's own code, which may need the loader's processes
        if not prepares_processes(split):
            raise
        return [_item(made_batch(split, indices))]


def _collated_differently(split: Examples, order: dict[str, Any] | None) -> list[Any] | None:
    """Return the name of a loader's `collate_fn` and its batch of the first examples; None if that is the batch of
    `default_collate`."""
    if not isinstance(split, DataLoader) or split.collate_fn is default_collate or split.batch_sampler is None:
        return None
    indices = _first_indices(split, order)
    batch = made_batch(split, indices)
    try:
        plain = made_batch(example_set(split), indices)
    except Exception:  # default_collate refuses None, custom types and tensors of different shapes
        plain = None
    return None if _equal(batch, plain) else [name_of(split.collate_fn), _item(batch)]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _index(index: Any) -> Any:
    try:
        return operator.index(index)
    except TypeError:  # a data set may have other keys than numbers
        return str(index)


def _settings(module: object) -> dict[str, Any]:
    # `training` is the module's mode, which `train()` and `eval()` change.
    public = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return {key: value for key, value in public.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _form(tensor: torch.Tensor) -> tuple[list[int], str]:
    return list(tensor.shape), str(tensor.dtype)


def _item(item: Any) -> list[Any]:
    """Return the form of an item's inputs, and its target."""
    if isinstance(item, tuple | list) and len(item) >= 2:
        return [_described(item[0], values=False), _described(item[1], values=True)]
    try:
        inputs, target = input_and_target(item)
    except TaskError:  # the item is not a pair, so the loader's collate_fn must make one of it
        return [_described(item, values=False)]
    return [_described(inputs, values=False), _described(target, values=True)]


def _described(value: Any, values: bool) -> Any:
    """Return shape and type of a value that can be a tensor, or its values if they are labels; else the type's name."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        if isinstance(value, Mapping):
            return {str(key): _described(part, values) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [_described(part, values) for part in value]
        return value if values and isinstance(value, str) else type(value).__name__
    return tensor.tolist() if values and not tensor.is_floating_point() else _form(tensor)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
