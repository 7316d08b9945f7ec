"""A summary of a task for people: network, data, recipe and objective, as far as they exist without the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aquasurf_ray.activations import Activation
from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.driver.own_activation import refuse_named_functions, with_reference
from aquasurf_ray.tasks import Task, TaskError, load_task
from aquasurf_ray.tasks.loaders import n_examples
from aquasurf_ray.tasks.objective import name_of
from aquasurf_ray.workers.network import untrained_network


def task_summary(name: str) -> dict[str, Any]:
    """Return the task as JSON-ready values.

    `network` has the number of parameters, the names of the activations that were replaced, those of each role if
    there are roles, the activations that were
    not replaced with the reasons (None where the network factory does not report them), and the modules with trained
    matrices; `task check` reports which of these have a Fisher block. `reference` is the function that gains are over,
    None where that cannot be told without the data. `data` has the number of examples per split, or
    a problem, in which case there is no digest.

    Raises:
        BadUse: there is no such task, its network cannot be built, or one of its baselines is no function.
    """
    try:
        task = load_task(name, import_from=Path.cwd())
        network = _network(task)
        refuse_named_functions(task)
    except TaskError as error:
        raise BadUse(sentence(error)) from error
    data, digest = _data_and_digest(task)
    # The activations that a network's own code calls are found on the data.
    reference = (with_reference(task).reference or REFERENCE) if digest else task.reference
    recipe = task.recipe
    return {
        "task": task.name,
        "version": task.version,
        "digest": digest,
        "network": network,
        "reference": reference,
        "data": data,
        "recipe": {key: getattr(recipe, key) for key in recipe.__dataclass_fields__},
        "objective": task.objective.spec(),
        "augment": name_of(task.augment) if task.augment else None,
        "spectrum_batch_size": task.spectrum_batch_size,
        "init": "auto" if task.fits_weights else "default",
        "time_limit": task.time_limit,
    }


def _network(task: Task) -> dict[str, Any]:
    try:
        network = untrained_network(task, lambda: Activation(REFERENCE), seed=0, device=torch.device("cpu"))
        replacement = getattr(task.network, "replacement", None)  # `aquasurf_ray.tasks.replacement` reports one
    except TaskError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is a reason to refuse the task
        raise TaskError(f"network of task '{task.name}' cannot be built: {sentence(error)}") from error
    layers = []
    for name, module in network.named_modules():
        trained = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if any(p.dim() > 1 for p in trained):
            n_weights = sum(p.numel() for p in trained)
            layers.append({"layer": name, "kind": type(module).__name__, "weights": n_weights})
    modules = [name for name, module in network.named_modules() if isinstance(module, Activation)]
    kept = None if replacement is None else [{"name": k.name, "reason": k.reason} for k in replacement.kept]
    return {
        "made_by": name_of(task.network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "replaced": modules if replacement is None else list(replacement.replaced),
        "roles": task.places if task.roles else {},
        "kept": kept,
        "layers": layers,
    }


def _data_and_digest(task: Task) -> tuple[dict[str, Any], str | None]:
    try:
        splits = task.splits()
        sizes = {name: n_examples(split) for name, split in splits.named().items()}
        return {**sizes, "problem": None}, task.digest
    except TaskError as error:
        return {"train": None, "validation": None, "test": None, "problem": sentence(error)}, None
