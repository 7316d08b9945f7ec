"""The configuration of a run: each setting has one description, type and default, and all else is made from them.

A setting is one line of a model. Its name is the flag (with dashes), the YAML key, the Python argument and the key in
the store and in JSON; commands make their options from the line, help included. The model that a setting belongs to
says what it may do: `RunIdentity` makes a run this run and never changes; `RunConditions` is how the run is carried out
and may change at `resume`. `TrainingConditions` are the conditions that every run that trains has.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from aquasurf_ray.baselines import BaselineSet
from aquasurf_ray.cpu_threads import CPUS_PER_WORKER
from aquasurf_ray.driver.settings.defaults import (
    CONFIRM_SEEDS,
    MODULES_TEXT,
    RATE_SEEDS,
    STORAGE,
    STORE_DEFAULT,
    STORE_TEXT,
    TASK_TEXT,
)
from aquasurf_ray.driver.settings.setting import (
    DURATION,
    EarlyStop,
    Numbers,
    OnOff,
    Panel,
    Seconds,
    parse_numbers,
    setting,
)
from aquasurf_ray.driver.settings.surrogate_names import DEFAULT_SURROGATE, EARLIER_SURROGATE, REGRESSORS, SurrogateName
from aquasurf_ray.driver.settings.tracker_targets import check_target
from aquasurf_ray.driver.settings.until import Until
from aquasurf_ray.recipe_change import LEARNING_RATE
from aquasurf_ray.tasks.data_sets import DATA_FOLDER

OPEN = "open"
"""The space that grows: `activations.spaces.space.OPEN`, which is not imported here because it needs PyTorch."""

NO_LIMIT = "none"
"""Clears a time budget, an `until` condition or a `proposals` command at `resume`."""


SMALLEST_SHARE = 1e-4
"""Of a CPU or GPU: Ray counts resources in units of this size."""


class RunIdentity(BaseModel):
    """The settings that make a run this run, for its whole life. Another value is another run."""

    task: str = setting(..., Panel.RUN, TASK_TEXT, metavar="TASK")
    # Below 2^31, because PostgreSQL's integers have 32 bits, one of them for the sign.
    seed: int = setting(0, Panel.RUN, "Random seed for drawing candidates and for the surrogate.", ge=0, lt=2**31)
    space: str = setting(
        "three-node",
        Panel.CANDIDATES,
        "Search space: three-node, four-node, coatnet, a YAML file, or open, which grows from the best functions.",
        metavar="SPACE",
    )
    candidates: int = setting(200, Panel.CANDIDATES, "Number of candidate functions drawn from the space.", ge=1)
    first_candidates: int | None = setting(
        None,
        Panel.CANDIDATES,
        "Candidates whose features are computed before the first suggestion.",
        otherwise="a quarter, at most 256",
        ge=1,
    )
    baselines: BaselineSet = setting(
        "paper",
        Panel.CANDIDATES,
        "Functions that are trained first, for comparison: the paper's eight, or the whole zoo of published functions.",
        earlier="paper",
    )
    growth: int = setting(
        5,
        Panel.CANDIDATES,
        "New candidates for each suggestion in the open space, and for a network with roles.",
        ge=1,
        le=1000,
        earlier=5,
    )
    max_operators: int = setting(
        10,
        Panel.CANDIDATES,
        "Largest number of operators in a function that the open space makes.",
        ge=1,
        le=50,
        earlier=10,
    )
    learned_parameters: OnOff = setting(
        "on", Panel.CANDIDATES, "Learned parameters in the candidates: on or off.", earlier="on"
    )
    standardize: OnOff = setting(
        "off",
        Panel.CANDIDATES,
        "Bring candidates to mean 0 and deviation 1 on N(0,1), as expressions with constants: on or off. "
        "Baselines stay as they are.",
        earlier="off",
    )
    modules: tuple[str, ...] = setting((), Panel.CANDIDATES, MODULES_TEXT, metavar="MODULE")
    surrogate: SurrogateName = setting(
        DEFAULT_SURROGATE,
        Panel.SURROGATE,
        "Surrogate model: aquasurf is a regressor on a UMAP embedding of the candidates, as in the paper; metric is a "
        "Gaussian process on the distances between features, with the upper confidence bound.",
        earlier=EARLIER_SURROGATE,
    )
    regressor: str = setting(
        REGRESSORS[DEFAULT_SURROGATE],
        Panel.SURROGATE,
        "Regressor of the surrogate.",
        otherwise="knr for aquasurf, gp for metric",
        metavar="knr|rfr|svr|gp",
    )
    features: Literal["both", "spectrum", "outputs"] = setting(
        "both", Panel.SURROGATE, "Features that the surrogate sees: Fisher spectra, function outputs, or both."
    )
    fisher: Literal["sampled", "empirical"] = setting(
        "sampled",
        Panel.SURROGATE,
        "Fisher information with labels sampled from the network's predictions, or with the data's (empirical).",
    )
    layer_weighting: Literal["inverse", "uniform", "size"] = setting(
        "inverse",
        Panel.SURROGATE,
        "Weight of a layer in the distance between spectra: its inverse size, uniform, or its size.",
    )
    max_cost: float | None = setting(
        None,
        Panel.SURROGATE,
        "Suggest only functions whose training step takes at most this many times as long as ReLU's.",
        metavar="RATIO",
        gt=0,
        earlier=None,
    )
    training_seed: int = setting(
        0, Panel.TRAINING, "Random seed for initial weights, data order and spectra.", ge=0, lt=2**31
    )
    leader_seeds: int = setting(
        1,
        Panel.TRAINING,
        "Seeds per leading function. Above 1, the last fifth of the evaluations retrains the best functions with "
        "additional seeds, and functions are ranked by their mean.",
        ge=1,
        le=10,
        earlier=1,
    )
    learning_rates: Numbers = setting(
        (),
        Panel.TRAINING,
        "Factors on the recipe's learning rate, such as 0.5,1,2, or auto for these: a search decides which of them a "
        "function is trained with, and a confirmation compares each function, baselines included, at its best one.",
        metavar="FACTORS",
        earlier=[],
    )
    tune: str | None = setting(
        None,
        Panel.TRAINING,
        "Another number of the recipe in place of the learning rate, with its values: weight_decay=0,1e-4,1e-3.",
        metavar="FIELD=VALUES",
        earlier=None,
    )
    early_stop: EarlyStop = setting(
        "off",
        Panel.TRAINING,
        "Stop suggested trainings that fall below the median score at the same epoch (median), or pause those that "
        "have too small a chance to become the best, until it rises (curves): off, median or curves.",
        earlier="off",
    )
    health_gate: OnOff = setting(
        "on", Panel.TRAINING, "Reject functions whose first training step shows that they cannot train.", earlier="on"
    )

    @model_validator(mode="before")
    @classmethod
    def _regressor(cls, values: Any) -> Any:
        """Fill in the default regressor of a surrogate that is given."""
        if isinstance(values, dict) and values.get("surrogate") in get_args(SurrogateName):
            return {"regressor": REGRESSORS[values["surrogate"]], **values}
        return values

    @field_validator("tune")
    @classmethod
    def _tuned(cls, value: str | None) -> str | None:
        if value is not None:
            tuned_field(value)
        return value

    @model_validator(mode="after")
    def _one_field(self) -> RunIdentity:
        if self.learning_rates and self.tune:
            raise ValueError("tune: a run tunes one field of the recipe; give tune or learning-rates, not both")
        return self

    def tuned(self) -> tuple[str, tuple[float, ...]] | None:
        """Return the field of the recipe that is tuned, and its factors or values; None for none."""
        if self.learning_rates:
            return LEARNING_RATE, self.learning_rates
        return tuned_field(self.tune) if self.tune else None


class RunName(BaseModel):
    """The name of a run; imported runs have no other setting."""

    name: str | None = setting(
        None,
        Panel.RUN,
        "Name of the run.",
        otherwise="digits-1, digits-2, ... for searches of digits; kind and a digest for other runs, such as "
        "evaluate-1f9c04d2",
        metavar="NAME",
        min_length=1,
    )

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("must have no line breaks or other control characters")
        if value is not None and not value.strip():
            raise ValueError("must not be blank; choose a name such as digits-1")
        return value


class TrainingConditions(RunName):
    """The settings of every run that trains, searching or not, which may change at `resume`."""

    time_budget: Seconds | None = setting(
        None,
        Panel.STOP,
        "Stop cleanly after this time, such as 2h30m. The budget restarts at each resume; none clears it.",
        metavar=DURATION,
        gt=0,
    )
    fast_activations: OnOff = setting("on", Panel.TRAINING, "Train each function in the form that measures fastest.")
    time_limit: Seconds | None = setting(
        None,
        Panel.TRAINING,
        "Longest time that one training may take, such as 30m.",
        otherwise="the task's limit",
        metavar=DURATION,
        gt=0,
    )
    max_attempts: int = setting(3, Panel.TRAINING, "Attempts at an evaluation when the infrastructure fails.", ge=1)
    checkpoint_interval: Seconds = setting(
        30.0, Panel.TRAINING, "Shortest time between two epoch checkpoints.", metavar=DURATION, ge=0
    )
    data: str | None = setting(
        None,
        Panel.TRAINING,
        "Folder of the data sets.",
        otherwise=f"{DATA_FOLDER}, or else ./data",
        metavar="FOLDER",
        min_length=1,
    )
    loader_workers: int = setting(
        0, Panel.TRAINING, "Data-loading processes per worker, for data sets that do not fit in memory.", ge=0
    )
    workers: int | None = setting(
        None,
        Panel.WORKERS,
        "Number of workers.",
        otherwise="one per GPU, or one per CPU core without GPUs",
        ge=1,
    )
    gpus_per_worker: float | None = setting(
        None,
        Panel.WORKERS,
        "GPUs per worker; fractions are allowed.",
        otherwise="1 if there are GPUs, else 0",
        ge=0,
    )
    gpus_per_evaluation: int | None = setting(
        None,
        Panel.WORKERS,
        "GPUs that train one function together; CPU processes with --gpus-per-worker 0.",
        otherwise="1",
        ge=1,
    )
    cpus_per_worker: float = setting(CPUS_PER_WORKER, Panel.WORKERS, "CPU cores per worker.", gt=0)
    address: str | None = setting(
        None,
        Panel.WORKERS,
        "Ray cluster to connect to.",
        otherwise="start Ray on this machine",
        metavar="ADDRESS",
    )
    wait_for_nodes: Seconds = setting(
        0.0,
        Panel.WORKERS,
        "Longest time to wait for the nodes that an autoscaler starts.",
        metavar=DURATION,
        ge=0,
    )
    lease_seconds: Seconds = setting(
        30.0,
        Panel.WORKERS,
        "Time without a heartbeat after which another driver may take over the run.",
        metavar=DURATION,
        ge=1,
        le=86_400,
    )
    store: str | None = setting(
        None,
        Panel.STORAGE,
        STORE_TEXT,
        otherwise=STORE_DEFAULT,
        metavar="URL",
    )
    storage: str | None = setting(
        None, Panel.STORAGE, "Folder or URI for epoch checkpoints.", otherwise=STORAGE, metavar="FOLDER"
    )
    log: str | None = setting(
        None, Panel.STORAGE, "File to which each event is appended as a line of JSON.", metavar="FILE", min_length=1
    )
    log_to: tuple[str, ...] = setting(
        (),
        Panel.STORAGE,
        "Also send results to a tracker: tensorboard:FOLDER, mlflow:URI or wandb:PROJECT; may be repeated.",
        metavar="TRACKER",
    )

    @field_validator("log_to")
    @classmethod
    def _trackers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_target(target) for target in value)

    @field_validator("cpus_per_worker", "gpus_per_worker")
    @classmethod
    def _share(cls, value: float | None) -> float | None:
        if value is not None and 0 < value < SMALLEST_SHARE:
            raise ValueError(f"must be at least {SMALLEST_SHARE:g}")
        return value

    @field_validator("time_budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> Any:
        return None if value == NO_LIMIT else value

    @model_validator(mode="after")
    def _whole_gpus(self) -> TrainingConditions:
        # NCCL refuses two processes on one GPU.
        if (self.gpus_per_evaluation or 1) > 1 and self.gpus_per_worker not in (None, 0, 1):
            raise ValueError(
                f"gpus-per-evaluation: {self.gpus_per_evaluation} processes need a whole GPU each: "
                f"gpus-per-worker must be 1, or 0 to train on CPUs, got {self.gpus_per_worker:g}"
            )
        return self


class ConfirmConditions(BaseModel):
    """The settings of a confirmation, besides how many functions and seeds it has and what it tunes."""

    rate_seeds: int = setting(
        RATE_SEEDS, Panel.RUN, "Seeds that choose each function's learning rate; these do not judge.", ge=1
    )
    judged_baselines: int | None = setting(
        None,
        Panel.RUN,
        "Baselines to judge besides the reference and ReLU: the N best of the seeds that choose learning rates.",
        otherwise="all",
        ge=1,
    )
    judge: Literal["test", "validation"] = setting(
        "test",
        Panel.RUN,
        "Split that confirmed functions are compared on: test, which no selection used, or validation.",
    )


def tuned_field(text: str) -> tuple[str, tuple[float, ...]]:
    """Return the field and the values in `weight_decay=0,1e-4`.

    Raises:
        ValueError: the text has another form, or is about the learning rate, which has factors.
    """
    field, sign, values = text.partition("=")
    if not sign:
        raise ValueError("must be FIELD=VALUES, such as weight_decay=0,1e-4,1e-3")
    if field.strip() == LEARNING_RATE:
        raise ValueError("must be another field; learning-rates has factors on the learning rate")
    try:
        return field.strip(), tuple(parse_numbers(values))
    except ValueError:
        raise ValueError("must have numbers after the field, such as weight_decay=0,1e-4,1e-3") from None


class RunConditions(TrainingConditions, ConfirmConditions):
    """The settings that may change at `resume`: those of every run that trains, and those of a search alone."""

    evaluations: int = setting(40, Panel.RUN, "Functions to train after the baselines.", ge=1)
    confirm: int | None = setting(
        None, Panel.RUN, "At the end, retrain the N best functions with additional seeds.", ge=1
    )
    seeds: int = setting(
        CONFIRM_SEEDS, Panel.RUN, "Additional seeds for retraining the best functions and the baselines.", ge=1
    )
    proposals: str | None = setting(
        None,
        Panel.CANDIDATES,
        "Command that proposes functions in the open space: it reads the leaderboard as JSON and prints one function "
        "a line; none ends it.",
        metavar="COMMAND",
        min_length=1,
    )
    until: str | None = setting(
        None,
        Panel.STOP,
        "Stop when the best score is this good, such as val_accuracy>=0.99 or val_rmse<=0.1; none clears it.",
        metavar="CONDITION",
    )

    @field_validator("proposals")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        if value in (None, NO_LIMIT):
            return None
        if not shlex.split(str(value)):  # raises for an unmatched quotation mark
            raise ValueError("must be a command")
        return value

    @field_validator("until")
    @classmethod
    def _condition(cls, value: str | None) -> str | None:
        return None if value in (None, NO_LIMIT) else str(Until.parse(value))


class SearchConfig(RunIdentity, RunConditions):
    """All settings of a search."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _open_space(self) -> SearchConfig:
        if self.space == OPEN and self.surrogate != "metric":
            raise ValueError(f"surrogate: the open space needs metric, got {self.surrogate}: a map cannot grow")
        if self.space != OPEN and self.proposals is not None:
            raise ValueError(f"proposals: a command can only propose functions to space {OPEN}, got space {self.space}")
        return self

    @model_validator(mode="after")
    def _chosen_baselines(self) -> SearchConfig:
        tuned = self.tuned()
        if self.judged_baselines is not None and (tuned is None or len(set(tuned[1])) < 2):
            raise ValueError(
                "judged-baselines: the trainings that choose between learning-rates choose the baselines too; give "
                f"two rates or more, got {len(self.learning_rates)}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that must stay as they are for the run's whole life."""
        fixed = self.model_dump(mode="json", include=set(RunIdentity.model_fields))
        return {key: value for key, value in fixed.items() if key not in LATER or value != LATER[key]}

    def with_default_surrogate(self, surrogate: SurrogateName) -> SearchConfig:
        """Return the configuration as if this were the default surrogate: what was given explicitly stays."""
        if "surrogate" in self.model_fields_set:
            return self
        regressor = self.regressor if "regressor" in self.model_fields_set else REGRESSORS[surrogate]
        return self.model_copy(update={"surrogate": surrogate, "regressor": regressor})

    def stored(self) -> dict[str, Any]:
        """Return what the store keeps: all but the URLs of the database and of trackers, which may hold a password."""
        return self.model_dump(mode="json", exclude={"store", "log_to"})


HELP_ORDER = tuple(
    name
    for model in (RunName, RunIdentity, RunConditions, TrainingConditions, ConfirmConditions)
    for name in vars(model)["__annotations__"]
)
"""The settings in the order in which help lists them within a panel: what most people give comes first."""


def shown(name: str) -> dict[str, Any]:
    """Return what the command line shows of a setting: its panel, and its metavar and default in words, if any."""
    extra = SearchConfig.model_fields[name].json_schema_extra
    return extra if isinstance(extra, dict) else {}


CONDITIONS = frozenset(RunConditions.model_fields)
LATER: Mapping[str, Any] = {
    name: shown(name)["earlier"] for name in RunIdentity.model_fields if "earlier" in shown(name)
}
"""The settings that runs of earlier versions do not have, and the values that these runs count as having."""


def digest(identity: dict[str, Any]) -> str:
    """Return 32 hexadecimal digits that change with any value of `identity`."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
