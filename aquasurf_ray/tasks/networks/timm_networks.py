"""Any network of timm as a `Task.network`, and the tasks `timm:NETWORK/DATASET`.

timm builds the network, untrained, for the data's channels, size and classes; then its activations are replaced, and
one pass on zeros checks that none is left, once in each process. All networks have the same recipe: AdamW, learning
rate 1e-3 for batches of 128 with warm-up and cosine, weight decay 0.05, label smoothing 0.1, gradients clipped at norm
1, 30 epochs. It is not published, but a starting point that trains both convolutional networks and transformers.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import timm
from torch import nn

from aquasurf_ray.tasks.data_sets import task_data
from aquasurf_ray.tasks.data_sets.preparation import Preparation
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.replacement import ModelNetwork
from aquasurf_ray.tasks.task import Task

RECIPE = Recipe(
    epochs=30,
    batch_size=128,
    learning_rate=1e-3,
    optimizer="adamw",
    weight_decay=0.05,
    schedule="cosine",
    warmup_fraction=0.1,
    label_smoothing=0.1,
    clip_norm=1.0,
    precision="auto",
    channels_last=True,
)


@dataclass(frozen=True)
class TimmModel:
    """A factory of an untrained network of timm, with timm's own activations.

    Args:
        name: timm's name of the network, with or without a tag.
        n_classes: outputs.
        shape: channels, height and width of an input. Networks of a fixed size are built for it.
        settings: further arguments of `timm.create_model`, as pairs.
    """

    name: str
    n_classes: int
    shape: tuple[int, int, int]
    settings: tuple[tuple[str, Any], ...] = ()

    def __call__(self) -> nn.Module:
        """Return a new network.

        Raises:
            TaskError: timm has no such network, or cannot build it for this shape.
        """
        settings: dict[str, Any] = {"num_classes": self.n_classes, "in_chans": self.shape[0], **dict(self.settings)}
        # The others take inputs of any size, and many of them no argument `img_size`.
        if configuration(self.name).fixed_input_size:
            settings["img_size"] = self.shape[1:]
        try:
            network: nn.Module = timm.create_model(self.name, pretrained=False, **settings)
        except Exception as error:  # whatever a network raises, it is a reason not to use it
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise TaskError(f"timm cannot build '{self.name}' for inputs of {self.shape}: {reason}") from error
        return network


def configuration(name: str) -> Any:
    """Return timm's `PretrainedCfg` of a network: input size, mean, deviation, interpolation.

    Raises:
        TaskError: timm has no such network.
    """
    found = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if found is None:  # unknown, or an old name that timm keeps for another
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise TaskError(f"timm has no network '{name}'{hint}")
    return found


def timm_network(
    name: str, *, n_classes: int, shape: tuple[int, int, int] = (3, 224, 224), **settings: Any
) -> ModelNetwork:
    """Return a network of timm as a `Task.network`.

    Args:
        name: timm's name of the network; `timm.list_models()` lists all.
        n_classes: outputs.
        shape: channels, height and width of an input.
        settings: further arguments of `timm.create_model`, for example `drop_path_rate=0.1`.

    Raises:
        TaskError: timm has no such network. When it is built: it cannot be for this shape, or it calls activations in
            its own code.
    """
    configuration(name)
    return ModelNetwork(TimmModel(name, n_classes, shape, tuple(sorted(settings.items()))), example=shape)


def timm_task(network: str, data_set: str) -> Task:
    """Return the task `timm:NETWORK/DATASET`."""
    name = f"timm:{network}/{data_set}"
    data = task_data(data_set, name, _preparation(configuration(network)))
    return data.task(name, timm_network(network, n_classes=data.n_classes, shape=data.shape), RECIPE)


def _preparation(network: Any) -> Preparation:
    """Return crops of the network's size, with its mean and deviation, RandAugment and a little erasing."""
    size = network.input_size[-1]
    return Preparation(
        size=size,
        # The centre crop is this share of the shorter side.
        resize=round(size / network.crop_pct),
        interpolation="bilinear" if network.interpolation == "bilinear" else "bicubic",
        mean=network.mean,
        std=network.std,
        rand_augment=(2, 9),
    )
