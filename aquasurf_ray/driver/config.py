"""The configuration of a run: one name for one thing in flag, YAML, Python and store.

A field belongs to the run's identity, and may not change when the run goes on, or to the conditions under which it is
carried out (how many evaluations, workers, where Ray is), which may.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aquasurf_ray.driver.errors import BadUse

CONDITIONS = frozenset(
    {
        "name",
        "evaluations",
        "workers",
        "gpus_per_worker",
        "cpus_per_worker",
        "store",
        "storage",
        "address",
        "max_attempts",
        "time_limit",
        "lease_seconds",
        "checkpoint_interval",
    }
)


class SearchConfig(BaseModel):
    """Everything that a search can be told. The field names are the flags, the YAML keys and the Python arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(description="task by name, or package.module:function")
    name: str | None = Field(None, min_length=1, description="name of the run; by default the task's, with a number")
    space: str = Field("three-node", description="search space by name, or a YAML file")
    evaluations: int = Field(40, ge=1, description="functions to train after the 8 baselines")
    candidates: int = Field(200, ge=1, description="functions of the space that get a spectrum and may be trained")
    first_candidates: int | None = Field(
        None, ge=1, description="candidates with a spectrum before the first suggestion; by default a quarter of them"
    )
    workers: int | None = Field(None, ge=1, description="worker processes; by default one a GPU, else one a core")
    gpus_per_worker: float | None = Field(None, ge=0, description="GPUs a worker owns, fractions allowed")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPU cores a worker owns")
    store: str | None = Field(None, description="database URL")
    storage: str | None = Field(None, description="folder or URI for epoch checkpoints")
    seed: int = Field(0, ge=0, lt=2**31, description="of the candidates drawn and of the surrogate")
    training_seed: int = Field(0, ge=0, lt=2**31, description="of initial weights, data order, and spectra")
    address: str | None = Field(None, description="Ray cluster to use; by default Ray starts on this machine")
    modules: tuple[str, ...] = Field((), description="modules that register operators of your own")
    fisher: Literal["sampled", "empirical"] = Field("sampled", description="which Fisher information")
    features: Literal["both", "spectrum", "outputs"] = Field("both", description="what the surrogate sees")
    layer_weighting: Literal["inverse", "uniform", "size"] = Field("inverse", description="of the spectrum distance")
    regressor: str = Field("knr", description="knr, rfr or svr")
    max_attempts: int = Field(3, ge=1, description="tries of one evaluation when machines fail")
    time_limit: float | None = Field(None, gt=0, description="seconds a training may take; by default the task's")
    lease_seconds: float = Field(30.0, ge=1, description="silence after which another driver may take the run over")
    checkpoint_interval: float = Field(30.0, ge=0, description="seconds between two epoch checkpoints")

    def identity(self) -> dict[str, Any]:
        """The fields that must stay as they are for the run's whole life."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in CONDITIONS}

    def stored(self) -> dict[str, Any]:
        """What the store keeps: everything but the database URL, which may hold a password."""
        return self.model_dump(mode="json", exclude={"store"})


def store_url(given: str | None) -> str:
    """The database to use: the given one, else AQUASURF_STORE's, else a SQLite file in the working folder."""
    return given or os.environ.get("AQUASURF_STORE") or "sqlite:///aquasurf.db"


def digest(identity: dict[str, Any]) -> str:
    """32 hexadecimal digits that change with any value of `identity`."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def make_config(values: dict[str, Any]) -> SearchConfig:
    """A configuration from flags, YAML or Python arguments.

    Raises:
        BadUse: an unknown key or a wrong value, named.
    """
    try:
        return SearchConfig.model_validate(values)
    except ValidationError as error:
        raise BadUse(_first_problem(error)) from None


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys of a YAML file of flags.

    Raises:
        BadUse: no such file, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadUse(f"config file '{path}' cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise BadUse(f"config file '{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadUse(f"config file '{path}' must hold 'key: value' lines, got {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(SearchConfig.model_fields))
        return f"unknown key '{key}'; there are: {known}"
    if problem["type"] == "missing":
        return f"'{key}' is missing; give it"
    return f"{key.replace('_', '-')}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"
