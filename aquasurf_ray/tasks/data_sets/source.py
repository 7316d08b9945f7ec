"""The contribution of a data set to a task, and the protocol of data sets."""

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
    """The part of a task that comes from its data set.

    Args:
        n_classes: labels are 0 to n_classes - 1.
        shape: channels, height and width of an input.
        splits: loads the data.
        augment: the augmentation of training batches, for data in memory.
        version: settings that change results but show neither in the recipe nor in the examples' form and labels.
        time_limit: seconds after which a training on these data counts as hanging.
    """

    n_classes: int
    shape: tuple[int, int, int]
    splits: Callable[[], Splits]
    augment: Augmentation | None = None
    version: str = "1"
    time_limit: float = DAY

    def task(self, name: str, network: NetworkFactory, recipe: Recipe) -> Task:
        """Return the task with these data."""
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
        """Return the source for the task of that name."""
        ...

    def download(self, folder: Path) -> None:
        """Download the data set into an existing folder. Raises OSError or RuntimeError if that fails."""
        ...
