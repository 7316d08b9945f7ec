"""What a network is trained on: tasks, their data, their networks, their objectives and their recipes.

Each name is imported when it is first used, so that the names of all tasks can be listed without loading PyTorch, and
tasks of one's own need neither timm nor torchvision.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.tasks.errors import TaskError as TaskError
    from aquasurf_ray.tasks.networks.timm_networks import timm_network as timm_network
    from aquasurf_ray.tasks.objective import Metric as Metric
    from aquasurf_ray.tasks.objective import Objective as Objective
    from aquasurf_ray.tasks.objective import classification as classification
    from aquasurf_ray.tasks.objective import language_modelling as language_modelling
    from aquasurf_ray.tasks.objective import regression as regression
    from aquasurf_ray.tasks.recipe import Recipe as Recipe
    from aquasurf_ray.tasks.registry import data_set_of as data_set_of
    from aquasurf_ray.tasks.registry import load_task as load_task
    from aquasurf_ray.tasks.registry import task_descriptions as task_descriptions
    from aquasurf_ray.tasks.registry import task_names as task_names
    from aquasurf_ray.tasks.replacement import ModelNetwork as ModelNetwork
    from aquasurf_ray.tasks.replacement import Replacement as Replacement
    from aquasurf_ray.tasks.replacement import network_from as network_from
    from aquasurf_ray.tasks.replacement import replace_activations as replace_activations
    from aquasurf_ray.tasks.replacement.called_activations import ActivationCall as ActivationCall
    from aquasurf_ray.tasks.replacement.called_activations import activation_calls as activation_calls
    from aquasurf_ray.tasks.task import ActivationFactory as ActivationFactory
    from aquasurf_ray.tasks.task import Splits as Splits
    from aquasurf_ray.tasks.task import Task as Task

_MODULES = {
    "ActivationCall": "replacement.called_activations",
    "ActivationFactory": "task",
    "Metric": "objective",
    "ModelNetwork": "replacement",
    "Objective": "objective",
    "Recipe": "recipe",
    "Replacement": "replacement",
    "Splits": "task",
    "Task": "task",
    "TaskError": "errors",
    "activation_calls": "replacement.called_activations",
    "classification": "objective",
    "data_set_of": "registry",
    "language_modelling": "objective",
    "load_task": "registry",
    "network_from": "replacement",
    "regression": "objective",
    "replace_activations": "replacement",
    "task_descriptions": "registry",
    "task_names": "registry",
    "timm_network": "networks.timm_networks",
}

__all__ = [
    "ActivationCall",
    "ActivationFactory",
    "Metric",
    "ModelNetwork",
    "Objective",
    "Recipe",
    "Replacement",
    "Splits",
    "Task",
    "TaskError",
    "activation_calls",
    "classification",
    "data_set_of",
    "language_modelling",
    "load_task",
    "network_from",
    "regression",
    "replace_activations",
    "task_descriptions",
    "task_names",
    "timm_network",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
