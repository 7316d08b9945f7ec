"""The configuration of a run: one name for one thing in flag, YAML, Python and store.

A field belongs to the run's identity, and may not change when the run goes on, or to the conditions under which it is
carried out (how many evaluations, workers, where Ray is), which may.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from aquasurf_ray.driver.callbacks.trackers import check_target
from aquasurf_ray.driver.duration import checked_seconds, parse_duration
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.surrogate_names import DEFAULT_SURROGATE, EARLIER_SURROGATE, REGRESSORS, SurrogateName
from aquasurf_ray.driver.until import Until
from aquasurf_ray.plain_yaml import read_yaml

CONDITIONS = frozenset(
    {
        "name",
        "evaluations",
        "confirm",
        "seeds",
        "workers",
        "gpus_per_worker",
        "gpus_per_evaluation",
        "cpus_per_worker",
        "store",
        "storage",
        "address",
        "wait_for_nodes",
        "max_attempts",
        "time_limit",
        "time_budget",
        "until",
        "lease_seconds",
        "log",
        "checkpoint_interval",
        "data",
        "loader_workers",
        "fast_activations",
        "log_to",
    }
)
NO_END = "none"
"""Takes a time budget, or what `until` says, back at a `resume`."""

LATER: Mapping[str, Any] = {
    "early_stop": "off",
    "health_gate": "on",
    "max_cost": None,
    "surrogate": EARLIER_SURROGATE,
}
"""Fields that runs of earlier versions do not have, and what these runs do: at these values, which are not always the
defaults, fields are no part of the identity, so that such a run can still be gone on with under its name. They stay for
the run's life, since they decide what is suggested and learnt: another price is another run, which takes the results of
the first one over without training."""


class SearchConfig(BaseModel):
    """Everything that a search can be told. The field names are the flags, the YAML keys and the Python arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(description="task by name, or package.module:function")
    name: str | None = Field(None, min_length=1, description="name of the run; by default the task's, with a number")
    space: str = Field("three-node", description="search space by name, or a YAML file")
    evaluations: int = Field(40, ge=1, description="functions to train after the 8 baselines")
    confirm: int | None = Field(
        None, ge=1, description="best functions to train anew at the end, with the baselines and further seeds"
    )
    seeds: int = Field(5, ge=1, description="further seeds that the best functions are confirmed with")
    candidates: int = Field(200, ge=1, description="functions of the space that get a spectrum and may be trained")
    first_candidates: int | None = Field(
        None,
        ge=1,
        description="candidates with a spectrum before the first suggestion; default: a quarter, 256 at most",
    )
    workers: int | None = Field(None, ge=1, description="worker processes; by default one a GPU, else one a core")
    gpus_per_worker: float | None = Field(None, ge=0, description="GPUs a worker owns, fractions allowed")
    gpus_per_evaluation: int | None = Field(
        None, ge=1, description="GPUs that train one function together; CPU processes where gpus_per_worker is 0"
    )
    cpus_per_worker: float = Field(1.0, gt=0, description="CPU cores a worker owns")
    store: str | None = Field(None, description="database URL")
    storage: str | None = Field(None, description="folder or URI for epoch checkpoints")
    seed: int = Field(0, ge=0, lt=2**31, description="of the candidates drawn and of the surrogate")
    training_seed: int = Field(0, ge=0, lt=2**31, description="of initial weights, data order, and spectra")
    address: str | None = Field(None, description="Ray cluster to use; by default Ray starts on this machine")
    wait_for_nodes: float = Field(0.0, ge=0, description="seconds to wait for nodes that an autoscaler starts")
    modules: tuple[str, ...] = Field((), description="modules that register operators of your own")
    fisher: Literal["sampled", "empirical"] = Field("sampled", description="which Fisher information")
    features: Literal["both", "spectrum", "outputs"] = Field("both", description="what the surrogate sees")
    layer_weighting: Literal["inverse", "uniform", "size"] = Field("inverse", description="of the spectrum distance")
    surrogate: SurrogateName = Field(
        DEFAULT_SURROGATE,
        description="aquasurf, a regressor on a map of the candidates, or metric, one on the features' own distances",
    )
    regressor: str = Field(
        REGRESSORS[DEFAULT_SURROGATE], description="knr, rfr, svr or gp; by default knr for aquasurf, gp for metric"
    )
    max_cost: float | None = Field(
        None, gt=0, description="suggest only functions whose training step takes at most this many times relu's"
    )
    early_stop: Literal["off", "median"] = Field(
        "off", description="end trainings of suggestions that are below the median of others after as many epochs"
    )
    health_gate: Literal["on", "off"] = Field("on", description="refuse what the first training step shows hopeless")
    fast_activations: Literal["on", "off"] = Field("on", description="train in a form of the function measured faster")
    data: str | None = Field(None, min_length=1, description="folder of data sets; by default AQUASURF_DATA, or ./data")
    loader_workers: int = Field(0, ge=0, description="processes a worker that read examples which are not in memory")
    log_to: tuple[str, ...] = Field((), description="tensorboard:FOLDER or mlflow:URI, where results are shown too")
    max_attempts: int = Field(3, ge=1, description="tries of one evaluation when machines fail")
    time_limit: float | None = Field(None, gt=0, description="seconds a training may take; by default the task's")
    time_budget: float | None = Field(
        None,
        description="seconds that a session may take, or a time such as 2h30m, or none; then the run ends in order",
    )
    until: str | None = Field(
        None, description="end when the best is as good as this, such as val_accuracy>=0.99, or none"
    )
    log: str | None = Field(None, min_length=1, description="file that a line of JSON is appended to for what happens")
    lease_seconds: float = Field(
        30.0, ge=1, le=86_400, description="silence after which another driver may take the run over"
    )
    checkpoint_interval: float = Field(30.0, ge=0, description="seconds between two epoch checkpoints")

    @model_validator(mode="before")
    @classmethod
    def _surrogate(cls, values: Any) -> Any:
        """The default surrogate; which regressor is the default depends on the surrogate."""
        if not isinstance(values, dict):
            return values
        chosen = values.get("surrogate", DEFAULT_SURROGATE)
        regressor = {"regressor": REGRESSORS[chosen]} if chosen in get_args(SurrogateName) else {}
        return {"surrogate": chosen, **regressor, **values}

    @field_validator("early_stop", "health_gate", "fast_activations", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        """YAML reads a bare on or off as a truth value."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("Input should have no line breaks or other control characters")
        return value

    @field_validator("log_to")
    @classmethod
    def _trackers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_target(target) for target in value)

    @field_validator("time_budget", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        """A number, as from Python, YAML or the store, need not be in the form that people write."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return checked_seconds(float(value))
        return None if value in (None, NO_END) else parse_duration(str(value))

    @field_validator("until")
    @classmethod
    def _condition(cls, value: str | None) -> str | None:
        return None if value in (None, NO_END) else str(Until.parse(value))

    @field_validator("max_cost")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("Input should be a finite number")
        return value

    @model_validator(mode="after")
    def _whole_gpus(self) -> SearchConfig:
        if (self.gpus_per_evaluation or 1) > 1 and self.gpus_per_worker not in (None, 0, 1):
            raise ValueError(
                f"gpus-per-evaluation: {self.gpus_per_evaluation} processes have a whole GPU each: "
                f"gpus-per-worker must be 1, or 0 for processes without, got {self.gpus_per_worker:g}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that must stay as they are for the run's whole life."""
        now = self.model_dump(mode="json")
        plain = {key for key, value in LATER.items() if now[key] == value}
        return {key: value for key, value in now.items() if key not in CONDITIONS | plain}

    def stored(self) -> dict[str, Any]:
        """What the store keeps: everything but the URLs of the database and of trackers, which may hold a password."""
        return self.model_dump(mode="json", exclude={"store", "log_to"})


def store_url(given: str | None) -> str:
    """The database to use: the given one, else AQUASURF_STORE's, else a SQLite file in the working folder."""
    return given or os.environ.get("AQUASURF_STORE") or "sqlite:///aquasurf.db"


def data_folder(config: SearchConfig) -> str | None:
    """The folder of data sets, the same for the driver and all workers: the configured one, else AQUASURF_DATA's."""
    given = config.data or os.environ.get("AQUASURF_DATA")
    return str(Path(given).expanduser().absolute()) if given else None


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
        values = read_yaml(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadUse(f"config file '{path}' cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise BadUse(f"config file '{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadUse(f"config file '{path}' must hold 'key: value' lines, got {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    if not problem["loc"] and problem["type"] == "value_error":  # of several fields together: says which
        return problem["msg"].removeprefix("Value error, ")
    key = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(SearchConfig.model_fields))
        return f"unknown key '{key}'; there are: {known}"
    if problem["type"] == "missing":
        return f"'{key}' is missing; give it"
    return f"{key.replace('_', '-')}: {_lowered(problem['msg'])}, got {problem['input']!r}"


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]
