"""`ActivationSearch`: the search as a Ray Tune `Searcher`.

All results are in the store. The searcher's own state, which Tune saves with the experiment and `Tuner.restore` reads,
is a small JSON document: the function and seed of each trial, the learning curves of trials under way, the name of the
run. The arguments of the searcher (task, settings, their domains) are pickled with the Tuner.
"""

from __future__ import annotations

import json
import logging
import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from aquasurf_ray.as_float import as_float
from aquasurf_ray.driver.callbacks.given import checked_callbacks
from aquasurf_ray.driver.candidates import function_row, refuse_roles
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import Callback
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import data_folder
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.user_modules import import_modules, own_import_path
from aquasurf_ray.driver.verbs.arguments import check_regressor, loaded_task, name_of
from aquasurf_ray.store import EpochRecord
from aquasurf_ray.store.records.runs import RunStatusName
from aquasurf_ray.tasks import Task
from aquasurf_ray.tune.results import evaluation_result
from aquasurf_ray.tune.session import Plan, Session, open_session
from aquasurf_ray.tune.study import MAX, RECIPE_FIELDS, SCORE, Study, study_of_task, study_of_trainable

VERSION = 1
ACTIVATION = "activation"
REPEAT_UNKNOWN = (
    "the mean over the repeats of trial %s is stored as the result of %s with seed %d, which other runs of the task "
    "reuse; give ActivationSearch the same `repeat` as the Repeater, and means are stored as a separate task"
)

logger = logging.getLogger(__name__)


@dataclass
class Trial:
    """The function and the seed of a Tune trial, and its reports; `epochs` is emptied when the trial has ended."""

    function: str
    seed: int
    epochs: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: bool = False


class ActivationSearch(Searcher):
    """A Tune searcher that chooses the trials' activation functions with this package's surrogate.

    A trial's configuration has `activation` (an expression), `seed`, and the settings of `config`; with a `task` also
    `task` and the other keys of `train_activation`. The run is in the store like one of `aquasurf search`, under a
    lease, and shares its results: known results of the task are not trained again, and use up no trial.

    Args:
        task: for `train_activation`: a task, its name, or `package.module:function`.
        config: other settings of each trial, values or Tune domains. With a task they are fields of its recipe. Fixed
            values belong to the task; domains are drawn at random, by the seed, and a function's score is its best.
        trainable: instead of a task, the name of your own trainable in the store. Everything that changes its results
            must be in `config` then, or results of different settings are confused.
        draws: trials of each function, with different draws of the domains.
        repeat: the `repeat` of the Tune `Repeater` around this search, if there is one. Means over repeats are kept
            apart in the store, as the results of a separate task.
        trials: the total number of trials, for a Tuner whose `num_samples` is -1; by default Tune's `num_samples`,
            which Tune passes on only if it has a `param_space`. With a `Repeater`, the number of its groups.
        metric, mode: the metric that trials report, and "max" or "min"; with a task `score` and "max" by default. The
            surrogate learns from a trial's last report.
        points_to_evaluate: the first configurations, `{"activation": ..., ...}`, instead of the eight baselines.
        max_concurrent: the largest number of simultaneous trials; with a `Repeater`, of groups.
        spectrum_workers: the number of Ray actors that compute spectra, unless the features are "outputs".
        callbacks: objects with a method `on_event(event)` (`driver.events`), which Tune pickles with the search.
        **options: fields of `SearchConfig`: `name` and `store` of the run, `space`, `candidates`, `seed`,
            `training_seed`, `surrogate`, `regressor`, `features` (by default "outputs", which needs no spectra), ...

    Raises:
        BadUse: an option is wrong.

    Example:
        >>> search = ActivationSearch("digits", {"epochs": 5}, store="sqlite://", points_to_evaluate=[])
        >>> search.metric, search.mode
        ('score', 'max')
    """

    def __init__(
        self,
        task: str | Task | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        trainable: str | None = None,
        draws: int = 1,
        repeat: int = 1,
        trials: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        max_concurrent: int | None = None,
        spectrum_workers: int = 1,
        callbacks: Iterable[Callback] = (),
        **options: Any,
    ) -> None:
        self._callbacks = checked_callbacks(callbacks)
        self._config = _search_config(task, trainable, options)
        self._task, self._trainable, self._settings = task, trainable, dict(config or {})
        numbers = {"draws": draws, "repeat": repeat, "trials": trials, "max_concurrent": max_concurrent}
        for name, n in (numbers | {"spectrum_workers": spectrum_workers}).items():
            if n is not None and n < 1:
                raise BadUse(f"{name} must be at least 1, got {n}")
        if mode not in (None, "min", MAX) or not (metric is None or isinstance(metric, str)):
            raise BadUse(f"one metric and the mode 'max' or 'min' are expected, got {metric!r} and {mode!r}")
        self._draws, self._repeat, self._spectrum_workers = draws, repeat, spectrum_workers
        self._points = None if points_to_evaluate is None else [_point(point) for point in points_to_evaluate]
        self._max_concurrent = max_concurrent
        self._name = self._config.name
        self._n_trials = trials
        self._trials: dict[str, Trial] = {}
        self._given: list[tuple[dict[str, Any], float, bool]] = []
        self._study_made: Study | None = None
        self._session: Session | None = None
        by_default = (SCORE, MAX) if task is not None else (None, None)
        super().__init__(metric or by_default[0], mode or by_default[1])

    # -- calls from Tune

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Use Tune's metric and mode, unless the searcher was constructed with its own. Its settings never change.

        Raises:
            BadUse: the `param_space` of the Tuner has settings of the search, which `Tuner.restore` would forget.
        """
        reserved = {ACTIVATION, "seed", "task", *self._settings, *(RECIPE_FIELDS if self._task is not None else ())}
        both = [key for key in config if key in reserved]
        if both:
            raise BadUse(f"param_space has '{both[0]}': give it to ActivationSearch, in its `config`")
        if self._metric is None:
            self._metric = metric
        if self._mode is None:
            self._mode = mode
        n = spec.get("num_samples", -1)
        if self._n_trials is None and n > 0:
            self._n_trials = math.ceil(n / self._repeat)  # Tune counts each repeat
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Suggest nothing while `max_concurrent` trials are open."""
        self._max_concurrent = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of a new trial; None if there is none now, FINISHED if none is left.

        Raises:
            BadUse, StoreError: the run cannot be created, or another process has it.
        """
        if self._max_concurrent is not None and self._n_open() >= self._max_concurrent:
            return None
        if self._n_trials is not None and len(self._trials) >= self._n_trials:
            return self.FINISHED  # type: ignore[return-value]  # Tune's own constant, a string
        session = self._opened()
        claim = session.next()
        if claim is None:
            finished = not self._n_open() and session.exhausted()
            if finished:
                session.close("finished")
            return self.FINISHED if finished else None  # type: ignore[return-value]
        function = session.function(claim.function_id)
        settings = self._settings_of(function.fingerprint, claim.record.seed)
        session.begin(claim, trial_id, settings)
        self._trials[trial_id] = Trial(function.name, claim.record.seed)
        return {**self._conditions(), **settings, ACTIVATION: function.name, "seed": claim.record.seed}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Record a point of the trial's learning curve."""
        trial = self._trials.get(trial_id)
        if trial is not None and not trial.ended:
            self._note_epoch(trial, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Record the end of a trial: its last report, or its failure; a `Repeater` gives the mean over its repeats."""
        trial = self._trials.get(trial_id) or _trial_of_report(result)
        if trial is None:
            logger.warning("trial %s ended, which this search has not suggested", trial_id)
            return
        self._trials[trial_id] = trial
        session, metric = self._opened(), str(self._metric)
        if result and result.keys() == {metric}:  # Tune's own results have more: this one is from a Repeater
            self._record_mean(session, trial, trial_id, as_float(result[metric]))
        elif error:
            session.fail(trial.function, trial.seed, f"trial {trial_id} ended with an error", final=True)
        elif not result or metric not in result:
            session.fail(trial.function, trial.seed, f"trial {trial_id} ended without a report", final=False)
        elif (last := _float_of(result[metric])) is None:
            reported = f"{result[metric]!r} as '{metric}', which is not a number"
            session.fail(trial.function, trial.seed, f"trial {trial_id} reported {reported}", final=True)
        else:
            self._note_epoch(trial, result)
            curve = tuple(EpochRecord(**row) for _, row in sorted(trial.epochs.items(), key=lambda item: int(item[0])))
            score = self._study().score(last)
            session.record(trial.function, trial.seed, evaluation_result(result, score, curve, f"trial {trial_id}"))
        trial.ended, trial.epochs = True, {}
        if self._n_trials is not None and len(self._trials) >= self._n_trials and not self._n_open():
            self.close("finished")

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Add an external result for a function; it is stored when the search begins."""
        # Raises now if the text is not a function, and not when the search has begun.
        _function(parameters[ACTIVATION])
        if not error:
            self._given.append((dict(parameters), as_float(value), pruned))

    # -- state that Tune saves

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON-ready values."""
        return {
            "version": VERSION,
            "name": self._name,
            "metric": self._metric,
            "mode": self._mode,
            "n_trials": self._n_trials,
            "max_concurrent": self._max_concurrent,
            "trials": {trial_id: asdict(trial) for trial_id, trial in self._trials.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            BadUse: the state has another version.
        """
        if state.get("version") != VERSION:
            raise BadUse(f"state of ActivationSearch: version {state.get('version')}, expected {VERSION}")
        self._name, self._metric, self._mode = state["name"], state["metric"], state["mode"]
        self._n_trials, self._max_concurrent = state["n_trials"], state["max_concurrent"]
        self._trials = {trial_id: Trial(**trial) for trial_id, trial in state["trials"].items()}
        self._study_made = None  # it was made with the earlier metric
        self.close()

    def save(self, checkpoint_path: str) -> None:
        """Write the state as a JSON file."""
        Path(checkpoint_path).write_text(json.dumps(self.get_state(), indent=1))

    def restore(self, checkpoint_path: str) -> None:
        """Read the state from a file that `save` wrote.

        Raises:
            BadUse: the file has no state; without this error, a search would start over unnoticed.
        """
        try:
            state = json.loads(Path(checkpoint_path).read_text())
        except (OSError, ValueError) as error:
            raise BadUse(f"state of ActivationSearch cannot be read from '{checkpoint_path}': {error}") from None
        self.set_state(state)

    def __getstate__(self) -> dict[str, Any]:
        # A session has a lease, threads and connections, none of which can be pickled.
        return {**self.__dict__, "_session": None, "_study_made": None}

    # -- for users

    @property
    def run_name(self) -> str | None:
        """The name of the run in the store, once it is known."""
        return self._name

    def close(self, status: RunStatusName = "interrupted") -> None:
        """Release the run, so that another process can resume it. Tune does not tell a searcher that the experiment has
        ended, so this happens after the last of `trials`, or else when the process ends."""
        if self._session is not None:
            self._session.close(status)
            self._session = None

    # -- the parts

    def _study(self) -> Study:
        if self._study_made is None:
            if self._metric is None or self._mode not in ("min", MAX):
                raise BadUse("no metric: give ActivationSearch(metric=..., mode=...) what your trainable reports")
            trial_settings = (self._settings, self._metric, self._mode, self._config.seed, self._repeat)
            if self._task is not None:
                self._study_made = study_of_task(loaded_task(self._task, self._config), *trial_settings)
            else:
                self._study_made = study_of_trainable(str(self._trainable), *trial_settings)
        return self._study_made

    def _opened(self) -> Session:
        """Return the session; after an interruption, with the trials that Tune continues claimed again."""
        if self._session is not None and not self._session.closed:
            return self._session
        import_modules(self._config.modules)
        points = None if self._points is None else tuple(point[ACTIVATION] for point in self._points)
        plan = Plan(self._config, self._study(), self._draws, points, self._spectrum_workers, self._callbacks)
        session = open_session(plan, self._name)
        weakref.finalize(self, session.close, "interrupted")  # also at the end of the process; see `close`
        self._session, self._name = session, session.name
        for trial in self._trials.values():
            if not trial.ended:
                session.reclaim(trial.function, trial.seed)
        while self._given:
            self._record_given(session, *self._given.pop())
        return session

    def _record_mean(self, session: Session, trial: Trial, trial_id: str, mean: float) -> None:
        """Record the mean over a group of repeats; it leaves out repeats without a value, and is NaN if all are."""
        if self._repeat == 1:
            logger.warning(REPEAT_UNKNOWN, trial_id, trial.function, trial.seed)
        if math.isnan(mean):
            error = f"no repeat of trial {trial_id} reported a value of '{self._metric}': see Tune's errors"
            session.fail(trial.function, trial.seed, error, final=True)
            return
        report = {"reason": f"at least one repeat diverged: the mean of '{self._metric}' is infinite"}
        worker = f"trial {trial_id} and its repeats"
        session.record(trial.function, trial.seed, evaluation_result(report, self._study().score(mean), (), worker))

    def _record_given(self, session: Session, parameters: Mapping[str, Any], value: float, pruned: bool) -> None:
        stopped_early = "pruned, according to its source" if pruned else None
        seed = int(parameters.get("seed", self._config.training_seed))
        row = function_row(parameters[ACTIVATION])
        result = evaluation_result(
            {}, self._study().score(value), (), "given to the search", stopped_early=stopped_early
        )
        session.record(row.name, seed, result)

    def _settings_of(self, fingerprint: str, seed: int) -> dict[str, Any]:
        settings = self._study().settings(fingerprint, seed)
        if self._points and seed == self._config.training_seed:
            same = (point for point in self._points if function_row(point[ACTIVATION]).fingerprint == fingerprint)
            settings |= {key: value for key, value in next(same, {}).items() if key != ACTIVATION}
        return settings

    def _conditions(self) -> dict[str, Any]:
        """Return what `train_activation` needs in addition to the function and the recipe."""
        if self._task is None:
            return {}
        config = self._config
        wanted: dict[str, Any] = {"task": self._task, "fast_activations": config.fast_activations == "on"}
        if config.modules:
            wanted["modules"] = list(config.modules)
        if data_folder(config) is not None:
            wanted["data"] = data_folder(config)
        if isinstance(self._task, str) and ":" in self._task:
            wanted["import_from"] = own_import_path()
        return wanted

    def _n_open(self) -> int:
        return sum(not trial.ended for trial in self._trials.values())

    def _note_epoch(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Record a point of the curve under the trainable's own epoch number, or else Tune's count of reports.

        Raises:
            BadUse: the report is that of a single trial, in a search for a `Repeater`, which passes on means only.
        """
        if self._repeat > 1:
            n = self._repeat
            raise BadUse(f"repeat={n} is for a search inside Tune's Repeater; use Repeater(search, repeat={n})")
        number = int(result.get("epoch", result.get("training_iteration", 0)))
        if number < 1:
            return
        value = _float_of(result.get(str(self._metric)))
        score = self._study().score(value) if value is not None and math.isfinite(value) else None
        names = {field.name for field in fields(EpochRecord)} - {"epoch"}
        known = {name: float(result[name]) for name in names if _is_number(result.get(name))}
        # Keys are texts, as they are after a round trip through JSON.
        trial.epochs[str(number)] = {"epoch": number, "val_score": score, **known}


def _search_config(task: str | Task | None, trainable: str | None, options: Mapping[str, Any]) -> SearchConfig:
    if (task is None) == (trainable is None):
        raise BadUse("give either `task`, for train_activation, or `trainable`, the name of your own trainable")
    config = make_config({"features": "outputs", **options, "task": name_of(task) if task is not None else trainable})
    if task is None and config.features != "outputs":
        raise BadUse(f"features: '{config.features}' need spectra, and so a task; give features='outputs'")
    check_regressor(config)
    if config.tuned() is not None:
        raise BadUse("learning_rates and tune are for `search`; Tune draws fields of the recipe from its param_space")
    if config.leader_seeds > 1:
        raise BadUse(f"leader_seeds: {config.leader_seeds} is for `search` and Study; with Tune, repeat trials instead")
    return config


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    if ACTIVATION not in point:
        raise BadUse(f"points_to_evaluate: each needs an 'activation', got {sorted(point)}")
    return {**point, ACTIVATION: _function(point[ACTIVATION])}


def _function(text: str) -> str:
    """Return a function's name, refusing a function for each role."""
    name = function_row(text).name
    refuse_roles([name], "a Tune trial")
    return name


def _trial_of_report(result: Mapping[str, Any] | None) -> Trial | None:
    """Return the trial of a report with an unknown id, from the configuration that the report repeats."""
    known = result or {}
    function = known.get(f"config/{ACTIVATION}")
    return None if function is None else Trial(function_row(function).name, int(known.get("config/seed", 0)))


def _float_of(value: Any) -> float | None:
    """Return a reported value as a float, NaN and infinity included; None if it is not a number."""
    try:
        return as_float(value)
    except (TypeError, ValueError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
