"""The records of a study in the store: its task, its identity, and the network whose spectra are its features.

The values that a loop reports are its own, so a study is a task of its own in the store, whatever its features are
taken from: results of two loops never mix. Only `task=` says that the values are that task's own score; such a study is
the run that `aquasurf search` makes under the same name, and shares results with all runs of the task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from aquasurf_ray.analysis.studies.run_origin import NETWORK, STUDY
from aquasurf_ray.driver.candidates import load_space, one_function_baselines, one_function_reference, refuse_roles
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.own_activation import canonical_name
from aquasurf_ray.driver.settings.models import SearchConfig, digest
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.arguments import check_regressor, loaded_task, name_of
from aquasurf_ray.driver.verbs.create_run import task_facts
from aquasurf_ray.store import TaskMetric
from aquasurf_ray.tasks import NetworkFactory, Splits, Task, TaskError
from aquasurf_ray.tasks.loaders import Examples
from aquasurf_ray.tasks.objective import Objective, classification

Direction = Literal["maximize", "minimize"]
OUTPUTS = "outputs"
MODES = (OUTPUTS, "spectrum", "both")
OPTIONS = (
    *("space", "candidates", "first_candidates", "baselines", "learned_parameters", "modules", "seed", "training_seed"),
    "leader_seeds",
    *("surrogate", "regressor", "fisher", "layer_weighting", "lease_seconds", "max_attempts", "data"),
)
"""The fields of `SearchConfig` that a study has; the others are about trainings, which are the user's."""


@dataclass(frozen=True)
class StudyPlan:
    """A study before it is opened.

    Attributes:
        name, version, digest, spec: the task in the store.
        metric, direction: the name of the values, and whether higher ones are better.
        source: the task that spectra are taken from, if there are any.
        given_reference: the function that the user wants gains to be over, if any was named.
        own_task: True if the source was given as a task or a network, and not by its name.
        of_network: True if it was given as a network, which no task trains.
        identity: the settings that stay the same for the study's life.
    """

    config: SearchConfig
    name: str
    version: str
    digest: str
    spec: dict[str, Any]
    metric: str
    direction: Direction
    source: Task | None
    identity: dict[str, Any]
    given_reference: str | None = None
    own_task: bool = False
    of_network: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what the run's row keeps besides its settings and identity."""
        network = {NETWORK: True} if self.of_network else {}
        return task_facts(self.reference, self.baselines, own=self.own_task) | network

    @property
    def reference(self) -> str | None:
        """The function that gains are over, if that is not ReLU."""
        of_source = None if self.source is None else one_function_reference(self.source)
        return self.given_reference or of_source

    @property
    def baselines(self) -> tuple[str, ...]:
        """The functions that are tried first, besides those of the paper or the zoo."""
        of_source = () if self.source is None else one_function_baselines(self.source, "a Study")
        given = () if self.given_reference is None else (self.given_reference,)
        return tuple(dict.fromkeys((*of_source, *given)))

    @property
    def sign(self) -> float:
        """The factor that turns a value into a score, which a search maximises."""
        return 1.0 if self.direction == "maximize" else -1.0

    def refuse_out_of_range(self, value: float) -> None:
        """Raise BadUse for a value that the metric of the study's task cannot have, such as an accuracy in percent."""
        low, high = TaskMetric.of_spec(self.spec).range
        # A mean in float32 of values at a bound may end a little beyond it.
        slack = 1e-6 * max(1.0, abs(value))
        if math.isfinite(value) and not low - slack <= value <= high + slack:
            raise BadUse(
                f"the metric {self.metric} of task '{self.name}' is declared to lie in [{low:g}, {high:g}], got "
                f"{value:g}; tell it in that unit, or correct the metric's low and high"
            )


def plan_of(
    name: str,
    features: str | Task | NetworkFactory | None,
    task: str | Task | None,
    told: tuple[str | None, Direction | None],
    reference: str | None,
    options: Mapping[str, Any],
) -> StudyPlan:
    """Return the plan of a study.

    Args:
        told: the name and the direction of the values.
        reference: the function that gains are over, if the user names it.

    Raises:
        BadUse: an argument is wrong, or two contradict each other.
    """
    unknown = [key for key in options if key not in (*OPTIONS, "store", "evaluations")]
    if unknown:
        raise BadUse(f"a Study has no option '{unknown[0]}'; the options are {', '.join(OPTIONS)}")
    if told[1] not in (None, *get_args(Direction)):
        raise BadUse(f"direction must be 'maximize' or 'minimize', got {told[1]!r}")
    metric = told[0]
    if metric is not None and not (isinstance(metric, str) and metric.strip() and metric.isprintable()):
        raise BadUse(f"metric must be a name on one line, got {metric!r:.60}")
    if not isinstance(task, str | Task | None):
        raise BadUse(f"task must be a Task or the name of one, got {task!r:.60}")
    if task is not None and reference is not None:
        raise BadUse(f"reference: with task=, the task names it: Task(reference=...); got {reference!r:.60}")
    mode, source = _mode_and_source(features, task)
    if mode != OUTPUTS and source is None:
        raise BadUse(f"features '{mode}' need spectra: give features= a task or a network, or task=")
    own = source if source is not None else name
    config = make_config({**_given(options), "name": name, "task": name_of(own), "features": mode})
    if config.surrogate != "metric":
        raise BadUse(f"surrogate: a Study needs metric, got '{config.surrogate}', whose map is computed with Ray")
    check_regressor(config)
    import_modules(config.modules)
    space = load_space(config.space)
    if space.grows:
        raise BadUse(f"space: '{space.name}' grows in a single driver; a Study needs three-node, four-node or a file")
    config = config.model_copy(update={"modules": tuple(dict.fromkeys((*config.modules, *space.modules)))})
    loaded = None if source is None else loaded_task(source, config)
    identity = {**config.identity(), "space_digest": space.digest}
    if task is not None:
        assert loaded is not None  # noqa: S101 - `_mode_and_source` takes the spectra of a task that is given
        plan = _plan_of_task(loaded, config, told, identity)
    else:
        plan = _plan_of_own_values(loaded, config, told, identity)
    named = None if reference is None else _checked_reference(reference)
    return replace(plan, given_reference=named, own_task=isinstance(source, Task))


def network_task(name: str, network: NetworkFactory, examples: Examples, objective: Objective | None) -> Task:
    """Return a task for the spectra of a network on some examples.

    Raises:
        BadUse: the network or the examples are none.
    """
    try:
        splits = Splits(train=examples, validation=examples, test=examples)
        return Task(name, network, lambda: splits, objective=objective or classification())
    except TaskError as error:
        raise BadUse(f"features: {error}") from None


def _checked_reference(reference: str) -> str:
    if not isinstance(reference, str):
        raise BadUse(f"reference must be a function as text, such as 'gelu(x)', got {reference!r:.60}")
    try:
        refuse_roles([reference], "a Study")
        return canonical_name(reference)
    except BadUse as error:
        raise BadUse(f"reference: '{reference}': {error}") from None


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "evaluations" or value is not None}


def _mode_and_source(
    features: str | Task | NetworkFactory | None, task: str | Task | None
) -> tuple[str, str | Task | None]:
    """Return which features the surrogate sees, and the task whose spectra are among them."""
    if features is None:
        return ("both", task) if task is not None else (OUTPUTS, None)
    if isinstance(features, str) and features in MODES:
        return features, task
    if task is not None:
        raise BadUse(f"features: with task=, the spectra are of that task: give one of {', '.join(MODES)}")
    if isinstance(features, str | Task):
        return "both", features
    raise BadUse(f"features must be {', '.join(MODES)}, a task or a network factory, got {type(features).__name__}")


def _plan_of_task(
    task: Task, config: SearchConfig, told: tuple[str | None, Direction | None], identity: dict[str, Any]
) -> StudyPlan:
    metric = task.objective.metric
    own: Direction = "maximize" if metric.higher_is_better else "minimize"
    if told[0] not in (None, metric.name) or told[1] not in (None, own):
        raise BadUse(f"task '{task.name}' has the metric {metric.name}, to {own}; got {told[0]!r} and {told[1]!r}")
    identity = {**identity, "task_digest": task.digest}
    return StudyPlan(config, task.name, task.version, task.digest, task.stored_spec(), metric.name, own, task, identity)


def _plan_of_own_values(
    source: Task | None, config: SearchConfig, told: tuple[str | None, Direction | None], identity: dict[str, Any]
) -> StudyPlan:
    metric, direction, name = told[0] or "value", told[1], str(config.name)
    if direction is None:
        raise BadUse("direction: say whether the values that you tell are to 'maximize' or to 'minimize'")
    objective = {"metric": metric, "higher_is_better": direction == "maximize"}
    of_source = {} if source is None else {"features": source.digest}
    spec = {"name": name, STUDY: name, "objective": objective, **of_source}
    identity |= {STUDY: {"metric": metric, "direction": direction}}
    identity |= {} if source is None else {"task_digest": source.digest}
    return StudyPlan(config, name, "1", digest(spec), spec, metric, direction, source, identity)
