"""The choice of the output among a model's return values: `logits` if there is such an entry, else the first tensor.

A model may return a tensor, a tuple or list, a dictionary, or a dataclass such as Hugging Face's `ModelOutput`, also
nested: the output of `((logits, aux), features)` is `logits`. Loss, metric and spectrum use that one tensor; the
others, such as hidden states or an auxiliary head's logits, are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from aquasurf_ray.tasks.errors import TaskError


def output_of(returned: Any) -> Tensor:
    """Return the output among what a model returned.

    Raises:
        TaskError: the model returned no tensor.

    >>> import torch
    >>> output_of({"hidden": torch.zeros(2), "logits": torch.ones(1)})
    tensor([1.])
    >>> output_of((torch.zeros(2), None))
    tensor([0., 0.])
    """
    found = _found(returned)
    if found is None:
        raise TaskError(
            "the network must return a tensor, or a tuple, dictionary or dataclass with one, "
            f"got {type(returned).__name__}"
        )
    return found


def _found(returned: Any) -> Tensor | None:
    if isinstance(returned, Tensor):
        return returned
    # By name first: transformers' outputs begin with the loss if there is one.
    logits = returned.get("logits") if isinstance(returned, Mapping) else getattr(returned, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    inner = (_found(value) for value in _values(returned))
    return next((tensor for tensor in inner if tensor is not None), None)


def _values(returned: Any) -> Iterable[Any]:
    if isinstance(returned, Mapping):
        return list(returned.values())
    if isinstance(returned, tuple | list):
        return returned
    if is_dataclass(returned):
        return [getattr(returned, field.name) for field in fields(returned)]
    return ()
