"""Untrained models of transformers, from their configurations: random weights, so nothing is downloaded.

transformers is imported only when a model is made.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.inputs import Inputs

EXAMPLE_TOKENS = 8


def transformers() -> ModuleType:
    """Return the package transformers.

    Raises:
        TaskError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise TaskError(f"transformers cannot be imported ({error}); pip install transformers") from error
    return transformers


def is_configuration(value: object) -> bool:
    """Return whether a value is a configuration of transformers, without importing transformers."""
    return any(c.__name__ == "PreTrainedConfig" and _is_theirs(c) for c in type(value).__mro__)


def is_pretrained_model(value: object) -> bool:
    """Return whether a value is a model of transformers, without importing transformers."""
    return any(c.__name__ == "PreTrainedModel" and _is_theirs(c) for c in type(value).__mro__)


def _is_theirs(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "transformers"


@dataclass(frozen=True)
class HuggingFaceModel:
    """A factory of an untrained model of transformers, with its own activations.

    Args:
        configuration: such as `GPT2Config(n_layer=2)`. It is copied for each model.
        model_class: the class of the model or one of transformers' `Auto` classes, or the name of either. By default
            the first of the configuration's `architectures`.
    """

    configuration: Any
    model_class: type | str | None = None

    def __call__(self) -> nn.Module:
        """Return a new model in float32 that keeps no cache of keys and values.

        Raises:
            TaskError: transformers cannot make it.
        """
        kind = self._class()
        configuration = deepcopy(self.configuration)
        configuration.use_cache = False
        make = getattr(kind, "from_config", None) or kind._from_config
        try:
            model: nn.Module = make(configuration, dtype=torch.float32)
        except Exception as error:  # whatever transformers raises, it is a reason not to use the configuration
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            name = type(self.configuration).__name__
            raise TaskError(f"transformers cannot make a {kind.__name__} from this {name}: {reason}") from error
        return model

    def _class(self) -> Any:
        kind = self.model_class
        if kind is None:
            architectures = getattr(self.configuration, "architectures", None)
            if not architectures:
                raise TaskError(
                    f"this {type(self.configuration).__name__} names no architecture; "
                    "pass model_class=, such as 'AutoModelForCausalLM' or 'AutoModelForImageClassification'"
                )
            kind = str(architectures[0])
        found = getattr(transformers(), kind, None) if isinstance(kind, str) else kind
        if not hasattr(found, "from_config") and not hasattr(found, "_from_config"):
            raise TaskError(f"model_class must be a class of transformers or its name, got {kind!r}")
        return found


def example_inputs(model: nn.Module) -> Inputs | None:
    """Return two zero examples for a model of transformers, to run it once; None where its input has no known form."""
    config: Any = model.config
    name = str(model.main_input_name)
    if name == "input_ids":
        tokens = torch.zeros(2, EXAMPLE_TOKENS, dtype=torch.int64)
        decoder = {"decoder_input_ids": tokens} if getattr(config, "is_encoder_decoder", False) else {}
        return {name: tokens, **decoder}
    if name == "pixel_values" and hasattr(config, "image_size"):
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {name: torch.zeros(2, config.num_channels, height, width)}
    return None
