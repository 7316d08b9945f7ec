"""Reads settings: a configuration from flags, YAML or Python arguments, with errors that name the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import RunName, SearchConfig
from aquasurf_ray.driver.settings.setting_problems import problem_text
from aquasurf_ray.plain_yaml import read_yaml

M = TypeVar("M", bound=BaseModel)


def make_config(values: dict[str, Any]) -> SearchConfig:
    """Return the configuration that flags, YAML or Python arguments describe.

    Raises:
        BadUse: an unknown key or a wrong value; the message names it.
    """
    return _validated(SearchConfig, values)


def check_run_name(name: str | None) -> None:
    """Raise BadUse unless a run can have this name. None is for a run that is still to be named."""
    _validated(RunName, {"name": name})


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file, which may spell them with dashes, as flags are.

    Raises:
        BadUse: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        raise BadUse(f"config file '{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadUse(f"config file '{path}' cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise BadUse(f"config file '{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadUse(f"config file '{path}' must contain 'key: value' lines, got {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _validated(model: type[M], values: dict[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise BadUse(problem_text(error.errors(), sorted(SearchConfig.model_fields))) from None
