"""What a network is trained on: tasks, their data, their networks, their objectives and their recipes."""

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.objective import Metric, Objective, classification, language_modelling, regression
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.registry import load_task, task_names
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

__all__ = [
    "ActivationFactory",
    "Metric",
    "Objective",
    "Recipe",
    "Splits",
    "Task",
    "TaskError",
    "classification",
    "language_modelling",
    "load_task",
    "regression",
    "task_names",
]
