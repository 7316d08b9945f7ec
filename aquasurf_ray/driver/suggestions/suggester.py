"""Joins a run's history with its surrogate: which candidates to choose from, what came out so far, the next suggestion.

What takes seconds is done by the surrogate once for each prefix of the candidates. Suggestions are then a matter of
milliseconds in the driver.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.state.evaluations import FINAL
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.prefixes import prefix_length
from aquasurf_ray.driver.suggestions.surrogates import Surrogate
from aquasurf_ray.surrogate.policy import Mask, PredictorPolicy, Suggestion


class Suggester:
    """Asked for a suggestion, it answers or says that it is not ready."""

    def __init__(self, config: SearchConfig, history: History, surrogate: Surrogate) -> None:
        self._config = config
        self._history = history
        self._surrogate = surrogate
        self._policy: PredictorPolicy | None = None
        self._policy_n = 0
        self._n_observed = 0

    @property
    def needs_spectra(self) -> bool:
        """Whether spectra are among the features."""
        return self._config.features != "outputs"

    def prefix(self) -> int:
        """How many candidates the next suggestion chooses from: what the plan says, or more where those are used up."""
        return self._prefix_of(self._history.evaluations.n_of("suggestion"))

    def _prefix_of(self, suggestion: int) -> int:
        candidates, taken = self._history.candidates, self._not_to_be_had()
        n = prefix_length(suggestion, len(candidates), self._config.first_candidates)
        while n < len(candidates) and all(function.id in taken for function in candidates[:n]):
            n = min(2 * n, len(candidates))
        return n

    def prepare(self) -> None:
        """Has the surrogate begin what the next suggestion needs, if it can."""
        self._surrogate.prepare(self.prefix())

    def suggest(self) -> Suggestion | None:
        """The next suggestion, or None while the surrogate is not ready or when all candidates are used up.

        In a run that minds the price it waits for the costs of all candidates that it chooses from: none is trained
        unseen, and what is suggested does not depend on which costs happen to be known.
        """
        n = self.prefix()
        if self._config.max_cost is not None and self._history.without_cost(n):
            return None
        policy = self._policy_for(n)
        if policy is None:
            return None
        for position, score in self._new_results(n):
            policy.observe(position, score)
        return policy.suggest(pending=self._pending(n), allowed=self._allowed(n))

    def suggest_some(self, most: int) -> list[Suggestion]:
        """What can be suggested now, at most so many: one where each takes the results of those before it into account
        as they come."""
        suggestion = self.suggest() if most > 0 else None
        return [] if suggestion is None else [suggestion]

    def left_idle(self, n: int) -> None:
        """So many workers have nothing to do at all; what is suggested does not depend on it."""

    @property
    def makes_some(self) -> bool:
        """Whether suggestions are being made elsewhere."""
        return False

    def close(self) -> None:
        """Ends what the surrogate has started."""
        self._surrogate.close()

    def _not_to_be_had(self) -> Set[int]:
        """Functions that were asked for, and those that cost too much."""
        if self._config.max_cost is None:
            return self._history.evaluations.asked_for
        return self._history.evaluations.asked_for | self._history.ruled_out(self._config.max_cost)

    def _policy_for(self, n: int) -> PredictorPolicy | None:
        if self._policy is None or self._policy_n != n:
            makings = self._surrogate.makings(n)
            self._policy = None if makings is None else makings.policy()
            self._policy_n, self._n_observed = n, 0
        return self._policy

    def _new_results(self, n: int) -> list[tuple[int, float | None]]:
        """Positions and scores of what has come out, among the first `n`, since this was asked last; of several seeds,
        the best score."""
        new = self._history.evaluations.ended(after=self._n_observed)
        self._n_observed += len(new)
        positions = ((self._history.position.get(e.function_id), e) for e in new)
        return [
            (position, self._history.evaluations.score_of(evaluation.function_id))
            for position, evaluation in positions
            if position is not None and position < n and evaluation.status in FINAL  # not what is trained anew
        ]

    def _allowed(self, n: int) -> Mask:
        taken = self._not_to_be_had()
        return np.array([function.id not in taken for function in self._history.candidates[:n]], dtype=bool)

    def _pending(self, n: int) -> frozenset[int]:
        positions = (self._history.position.get(e.function_id) for e in self._history.evaluations.open)
        return frozenset(p for p in positions if p is not None and p < n)
