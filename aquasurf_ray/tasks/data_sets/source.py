"""What a data set supplies to a task, and what is asked of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import Augmentation, NetworkFactory, Splits, Task

if TYPE_CHECKING:
    from aquasurf_ray.tasks.data_sets.preparation import Preparation

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Source:
    """The data's part of a task.

    Args:
        n_classes: labels are 0 to n_classes - 1.
        shape: channels, height and width of an input.
        splits: loads the data.
        augment: of training batches, for data in memory.
        version: what decides results and shows neither in the recipe nor in the examples' form and labels.
        time_limit: seconds after which a training on these data counts as hanging.
    """

    n_classes: int
    shape: tuple[int, int, int]
    splits: Callable[[], Splits]
    augment: Augmentation | None = None
    version: str = "1"
    time_limit: float = DAY

    def task(self, name: str, network: NetworkFactory, recipe: Recipe) -> Task:
        """The task with these data."""
        return Task(
            name=name,
            network=network,
            data=self.splits,
            recipe=recipe,
            augment=self.augment,
            version=self.version,
            time_limit=self.time_limit,
        )


class DataSet(Protocol):
    """One data set of the registry."""

    def source(self, task: str, preparation: Preparation | None) -> Source:
        """What it supplies to the task of that name."""
        ...

    def download(self, folder: Path) -> None:
        """Fetches it into a folder that exists. Raises OSError or RuntimeError where it cannot."""
        ...
