"""What a network is trained on: tasks, their data, their networks and their recipes."""

from aquasurf_ray.tasks.registry import load_task, task_names
from aquasurf_ray.tasks.task import ActivationFactory, Recipe, Splits, Task, TaskError

__all__ = ["ActivationFactory", "Recipe", "Splits", "Task", "TaskError", "load_task", "task_names"]
