"""The registry of tasks, which finds a task by name.

A built-in task has a short name. Installed packages add theirs as entry points of the group `aquasurf_ray.tasks`. Any
network of timm is a task on any of the data sets: `timm:NETWORK/DATASET`. A user-defined task is
`package.module:function`. The function takes no arguments and returns a `Task`. A new built-in task is one file and one
line in `BUILT_IN`. Listing the names imports neither PyTorch nor any other package.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from aquasurf_ray.tasks.data_sets import BUNDLED, DATA_SETS
from aquasurf_ray.tasks.errors import TaskError, UnknownTask

if TYPE_CHECKING:
    from aquasurf_ray.tasks.task import Task

GROUP = "aquasurf_ray.tasks"
TIMM = "timm:"


@dataclass(frozen=True)
class BuiltIn:
    """The import path of a built-in task, its data set, a description in one line, and whether its metric is accuracy,
    which can thus be known without making the task."""

    path: str
    data_set: str
    description: str
    classifies: bool = True


BUILT_IN = {
    "digits": BuiltIn(
        "aquasurf_ray.tasks.networks.digits:digits",
        "digits",
        "small convolutional network, 8x8 handwritten digits, no download",
    ),
    "digits-mlp": BuiltIn(
        "aquasurf_ray.tasks.networks.digits_mlp:digits_mlp",
        "digits",
        "deep perceptron, digits as a table of 64 columns, no download",
    ),
    "digits-vit": BuiltIn(
        "aquasurf_ray.tasks.networks.digits_vit:digits_vit",
        "digits",
        "vision transformer of one block, 8x8 handwritten digits, no download",
    ),
    "mnist1d": BuiltIn(
        "aquasurf_ray.tasks.networks.mnist1d:mnist1d",
        "mnist1d",
        "convolutions with batch norm, 40-sample signals of ten classes, no download",
    ),
    "fashion-small": BuiltIn(
        "aquasurf_ray.tasks.networks.fashion_small:fashion_small",
        "fashion-mnist",
        "residual network with batch norm, 10,000 images of clothes at 14x14",
    ),
    "characters": BuiltIn(
        "aquasurf_ray.tasks.networks.characters:characters",
        "characters",
        "transformer of two blocks, next character of Python's reference, no download",
        classifies=False,
    ),
    "friedman": BuiltIn(
        "aquasurf_ray.tasks.networks.friedman:friedman",
        "friedman",
        "perceptron with layer norm, regression on a table of ten columns, no download",
        classifies=False,
    ),
    "all-cnn-c/cifar10": BuiltIn(
        "aquasurf_ray.tasks.networks.all_cnn_c:on_cifar10",
        "cifar10",
        "All-CNN-C, no normalisation layers; 50 epochs, one cycle",
    ),
    "all-cnn-c/cifar100": BuiltIn(
        "aquasurf_ray.tasks.networks.all_cnn_c:on_cifar100",
        "cifar100",
        "All-CNN-C at 100 classes; 50 epochs, one cycle",
    ),
    "resnet56/cifar10": BuiltIn(
        "aquasurf_ray.tasks.networks.resnet56:on_cifar10", "cifar10", "ResNet-56 with batch norm; 64,000 steps"
    ),
    "resnet56/cifar100": BuiltIn(
        "aquasurf_ray.tasks.networks.resnet56:on_cifar100", "cifar100", "ResNet-56 at 100 classes; 64,000 steps"
    ),
    "all-cnn-c/fashion-mnist": BuiltIn(
        "aquasurf_ray.tasks.networks.all_cnn_c:on_fashion_mnist", "fashion-mnist", "All-CNN-C on images of clothes"
    ),
    "resnet56/fashion-mnist": BuiltIn(
        "aquasurf_ray.tasks.networks.resnet56:on_fashion_mnist", "fashion-mnist", "ResNet-56 on images of clothes"
    ),
    "mobilevitv2-050/imagenette": BuiltIn(
        "aquasurf_ray.tasks.networks.mobilevitv2:on_imagenette",
        "imagenette",
        "MobileViTv2-0.5, ten classes; 100 epochs",
    ),
    "mobilevitv2-050/imagenet": BuiltIn(
        "aquasurf_ray.tasks.networks.mobilevitv2:on_imagenet",
        "imagenet",
        "MobileViTv2-0.5; 300 epochs of batches of 1,024",
    ),
    "coatnet/imagenette": BuiltIn(
        "aquasurf_ray.tasks.networks.coatnet:on_imagenette", "imagenette", "CoAtNet-0, ten classes; 100 epochs"
    ),
    "coatnet-nano/imagenette": BuiltIn(
        "aquasurf_ray.tasks.networks.coatnet:nano_on_imagenette",
        "imagenette",
        "a smaller CoAtNet for short runs; 100 epochs",
    ),
    "resnet50/imagenet": BuiltIn(
        "aquasurf_ray.tasks.networks.resnet50:on_imagenet",
        "imagenet",
        "ResNet-50; 90 epochs, for transfer of functions found",
    ),
}


def task_names() -> list[str]:
    """Return the short names that `load_task` knows: the built-in ones and those of installed packages."""
    # Built-in names win over those of packages, or installing a package could change what `digits` means in a store.
    return sorted({*BUILT_IN, *_plug_ins()})


def task_descriptions() -> dict[str, str]:
    """Return a description of each of `task_names()` in one line, without running the code of any package."""
    plug_ins = {name: f"from the installed package {_origin(entry)}" for name, entry in _plug_ins().items()}
    return dict(sorted((plug_ins | {name: task.description for name, task in BUILT_IN.items()}).items()))


def data_set_of(name: str) -> str | None:
    """Return the data set that `data_sets.download` can fetch for a task, or None if there is nothing to fetch: digits
    are part of scikit-learn, and a user-defined task has its own data.

    >>> data_set_of("resnet56/cifar10"), data_set_of("timm:resnet18/cifar100"), data_set_of("my.tasks:mine")
    ('cifar10', 'cifar100', None)
    """
    if name.startswith(TIMM):
        data_set = _timm_parts(name)[1]
    elif name in BUILT_IN:
        data_set = BUILT_IN[name].data_set
    else:
        return None
    # Bundled data come with an installed package, so there is nothing to fetch.
    return data_set if data_set in DATA_SETS and data_set not in BUNDLED else None


def check_name(name: str) -> None:
    """Check a task's name alone, without importing anything.

    Raises:
        UnknownTask: no task has this name, and it is not an import path.
    """
    if name.startswith(TIMM):
        _timm_parts(name)
    elif ":" not in name and name not in task_names():
        raise UnknownTask(
            f"unknown task '{name}'; {_hint(name)} A task of your own is given as package.module:function"
        )


def load_task(name: str, *, import_from: Path | None = None) -> Task:
    """Return the task with a short name, `timm:NETWORK/DATASET`, or the one that `package.module:function` returns.

    Args:
        name: a short name or an import path with one colon.
        import_from: a folder in which the module is looked up first, normally the working folder.

    Raises:
        UnknownTask: nothing has that name.
        TaskError: the module or the function raises, or it does not return a `Task`.
    """
    check_name(name)
    from aquasurf_ray.tasks.task import Task

    maker = _maker(name, import_from)
    try:
        task = maker()
    except TaskError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is a reason to refuse the task
        # The type's name too: the text of a KeyError is the key alone.
        raise TaskError(f"task '{name}' could not be created: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise TaskError(f"task '{name}' must return a Task, got {type(task).__name__}")
    return task


def _maker(name: str, import_from: Path | None) -> Callable[[], object]:
    if name in BUILT_IN:
        return _import(BUILT_IN[name].path, None)
    if name.startswith(TIMM):
        return partial(_import("aquasurf_ray.tasks.networks.timm_networks:timm_task", None), *_timm_parts(name))
    plug_ins = _plug_ins()
    if name in plug_ins:
        return _plugged_in(plug_ins[name])
    return _import(name, import_from)


def _timm_parts(name: str) -> tuple[str, str]:
    network, _, data_set = name.removeprefix(TIMM).rpartition("/")
    if not network or data_set not in DATA_SETS:
        raise UnknownTask(
            f"'{name}' must be timm:NETWORK/DATASET, with one of the data sets {', '.join(sorted(DATA_SETS))}"
        )
    return network, data_set


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, task_names(), n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(task_names())}."


def _plug_ins() -> dict[str, EntryPoint]:
    """Return the entry points by name, without those that have the name of a built-in task."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _plugged_in(entry: EntryPoint) -> Callable[[], object]:
    try:
        return _callable(entry.load(), entry.value)
    except TaskError:
        raise
    except (Exception, SystemExit) as error:  # importing somebody's package runs its code
        raise TaskError(
            f"task '{entry.name}' of the installed package {_origin(entry)} cannot be imported from {entry.value}:"
            f" {type(error).__name__}: {error}"
        ) from error


def _import(path: str, import_from: Path | None) -> Callable[..., object]:
    module_name, _, attribute = path.partition(":")
    if not attribute or not all(module_name.split(".")):
        raise UnknownTask(f"task '{path}' must be a name, or package.module:function for your own")
    # First in the path, so that a user's own module wins over an installed one of its name.
    if import_from is not None and str(import_from) not in sys.path:
        sys.path.insert(0, str(import_from))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # importing the user's module runs the user's code
        raise TaskError(f"module '{module_name}' cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise UnknownTask(f"module '{module_name}' has no '{attribute}'")
    return _callable(getattr(module, attribute), path)


def _callable(maker: object, path: str) -> Callable[..., object]:
    if not callable(maker):
        raise TaskError(f"'{path}' must be a function that returns a Task, got {type(maker).__name__}")
    return maker
