"""What a network and its data look like from outside, as small JSON-ready dictionaries: the body of `Task.spec()`.

Two descriptions are equal on every machine and in every process where the task is the same: they hold names, shapes,
settings, sizes and labels, and no weights, pixels or targets that are real numbers, whose last bits follow the
processor and the decoder, and which augmentation draws anew at each reading. What that leaves unseen is said under
`Task.version`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

N_EXAMPLES = 8


def network_identity(network: nn.Module) -> dict[str, Any]:
    """The number of weights, and a digest of every module's name, class and plain settings and every tensor's shape.

    Settings are public attributes made of numbers, text and tuples of these: strides, dropout probabilities, and
    whatever a module of one's own keeps.

    >>> network_identity(nn.Linear(3, 2))["n_weights"]
    8
    >>> network_identity(nn.Dropout(0.1)) == network_identity(nn.Dropout(0.2))
    False
    """
    modules = [(name, type(module).__name__, _settings(module)) for name, module in network.named_modules()]
    weights = [(name, *_form(tensor), tensor.requires_grad) for name, tensor in network.named_parameters()]
    buffers = [(name, *_form(tensor)) for name, tensor in network.named_buffers()]
    return {"n_weights": sum(p.numel() for p in network.parameters()), "digest": _digest([modules, weights, buffers])}


def data_identity(splits: Mapping[str, Dataset[tuple[torch.Tensor, ...]]]) -> dict[str, Any]:
    """The size of each split, and a digest of the form and labels of the first examples of all splits but the last.

    The last one is the test split, which is read once, after a training.

    Raises:
        ValueError: a split is empty.
    """
    sizes = {name: len(split) for name, split in splits.items()}  # type: ignore[arg-type]
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"split '{name}' has no examples")
    first = [[_example(splits[name], i) for i in range(min(N_EXAMPLES, sizes[name]))] for name in list(sizes)[:-1]]
    return {**sizes, "digest": _digest(first)}


def _settings(module: nn.Module) -> dict[str, Any]:
    public = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    return {key: value for key, value in public.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _form(tensor: torch.Tensor) -> tuple[list[int], str]:
    return list(tensor.shape), str(tensor.dtype)


def _example(split: Dataset[tuple[torch.Tensor, ...]], index: int) -> list[Any]:
    inputs, target = map(torch.as_tensor, split[index][:2])
    return [_form(inputs), _form(target) if target.is_floating_point() else target.tolist()]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
