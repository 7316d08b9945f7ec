"""The tree-structured Parzen estimator (Bergstra et al. 2011) through Optuna, a competitor of the surrogate search.

The search space is the benchmark's schemas: the schema, where there are several, and the operator at each node, all
categorical. Through Optuna's ask-and-tell interface, a name of a function that has a result is answered with that
result at no cost; a name that the benchmark lacks is a failed trial. All settings are Optuna's defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.spaces.schema import Schema
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.spellings import Spellings
from aquasurf_ray.surrogate.policy import NOTHING, Policy, Suggestion, open_mask

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

MAX_TRIES = 200  # trials for one suggestion, after which a random candidate is taken
DIVERGED = float("-inf")  # Optuna accepts infinite values, but not NaN
SCHEMA = "schema"


class TpePolicy(Policy):
    """Suggest the candidate of the next trial of Optuna's TPE.

    Results that were not suggested (the baselines) become trials under one of their names.

    Args:
        spellings: the names of the candidates.
        seed: the random seed.

    Raises:
        AnalysisError: Optuna is not installed.
    """

    def __init__(self, spellings: Spellings, seed: int = 0) -> None:
        self._spellings, self.study = spellings, _study(seed)
        self._rng = np.random.default_rng(seed)
        self._scores: dict[int, float] = {}
        self._asked: dict[int, list[Trial]] = {}  # trials that wait for the result of a candidate

    def observe(self, candidate: int, score: float | None) -> None:
        """Report a result to Optuna; None for a diverged training, which is worse than any score."""
        value = DIVERGED if score is None else float(score)
        self._scores[candidate] = value
        for trial in self._asked.pop(candidate, None) or [self._tried(candidate)]:
            self.study.tell(trial, value)

    def suggest(self, pending: Iterable[int] = NOTHING, allowed: NDArray[np.bool_] | None = None) -> Suggestion | None:
        """Return the candidate of Optuna's next trial; None when none is open.

        A candidate that was suggested before, and is still open but not pending, is suggested again.
        """
        running = set(pending)
        open_ = open_mask(len(self._spellings), [*self._scores, *running], allowed)
        if not open_.any():
            return None
        waiting = next((candidate for candidate in self._asked if open_[candidate]), None)
        candidate = self._ask(open_) if waiting is None else waiting
        return Suggestion(candidate, None, 1, (), "")

    def _ask(self, open_: NDArray[np.bool_]) -> int:
        for _ in range(MAX_TRIES):
            trial = self.study.ask()
            candidate = self._spellings.find(_chosen_name(trial, self._spellings.schemas))
            if candidate is not None and open_[candidate]:
                self._asked.setdefault(candidate, []).append(trial)
                return candidate
            self._answer(trial, candidate)
        candidate = int(self._rng.choice(np.flatnonzero(open_)))
        self._asked[candidate] = [self._tried(candidate)]
        return candidate

    def _answer(self, trial: Trial, candidate: int | None) -> None:
        """Answer a trial whose candidate cannot be suggested."""
        from optuna.trial import TrialState

        if candidate in self._scores:
            self.study.tell(trial, self._scores[candidate])
        elif candidate in self._asked:
            self._asked[candidate].append(trial)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _tried(self, candidate: int) -> Trial:
        """Return a trial of a candidate that Optuna did not choose, under one of its names."""
        genomes = self._spellings.genomes[candidate]
        genome = genomes[self._rng.integers(len(genomes))]
        # An enqueued trial is the next one that `ask` returns, and has a value only for parameters that were asked for.
        self.study.enqueue_trial(_choices(genome, self._spellings.schemas))
        trial = self.study.ask()
        _chosen_name(trial, self._spellings.schemas)
        return trial


def _study(seed: int) -> Study:
    try:
        import optuna
    except ImportError:
        raise AnalysisError("TPE needs Optuna: pip install optuna") from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs each new study to standard error
    try:
        return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    finally:
        optuna.logging.set_verbosity(before)


def _chosen_name(trial: Trial, schemas: tuple[Schema, ...]) -> str:
    """Return the name that a trial's choices spell; schemas are chosen by number, operators by name."""
    number = trial.suggest_categorical(SCHEMA, range(len(schemas))) if len(schemas) > 1 else 0
    return _spelled(trial, schemas[number], str(number))


def _spelled(trial: Trial, schema: Schema, place: str) -> str:
    """Return a node's part of the name. A node's place is its schema's number and the path to it, such as "0.1"."""
    if not schema.choices:
        return schema.leaf.text
    operator = trial.suggest_categorical(place, schema.choices)
    arguments = (_spelled(trial, argument, f"{place}.{i}") for i, argument in enumerate(schema.arguments))
    return f"{operator}({','.join(arguments)})"


def _choices(genome: Expression, schemas: tuple[Schema, ...]) -> dict[str, str | int]:
    """Return the choices of a trial that spell this genome."""
    number = next(i for i, schema in enumerate(schemas) if schema.generates(genome))
    return {SCHEMA: number, **dict(_operators(genome, str(number)))}


def _operators(genome: Expression, place: str) -> Iterator[tuple[str, str]]:
    if genome.operator is not None:
        yield place, genome.operator
        for i, argument in enumerate(genome.arguments):
            yield from _operators(argument, f"{place}.{i}")
