"""The link between a run's history and its surrogate: candidates to choose from, results, the next suggestion.

Work that takes seconds is done once per prefix of the candidates. A suggestion then takes milliseconds. The choice
itself is the policy's (`surrogate/policy.py`); `run/claims.py` claims the evaluation of a suggestion.
"""

from __future__ import annotations

from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import FINAL
from aquasurf_ray.driver.suggestions.growth import Growth
from aquasurf_ray.driver.suggestions.pairs import Pairs
from aquasurf_ray.driver.suggestions.prefixes import prefix_length
from aquasurf_ray.driver.suggestions.surrogates import Surrogate
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.surrogate.policy import PredictorPolicy, Suggestion


class Suggester:
    """The source of a run's suggestions, which returns none while the surrogate is not ready.

    The candidates of its policy, and so of its suggestions, are the run's `pairs`.

    Args:
        growth: adds candidates, in a run of an open space.
        changes: the changes of the recipe that functions are trained with, the first of which is none.
    """

    def __init__(
        self,
        context: RunContext,
        surrogate: Surrogate,
        growth: Growth | None = None,
        changes: tuple[str, ...] = (UNCHANGED,),
    ) -> None:
        self._config, self._history = context.config, context.history
        self.pairs = Pairs(context.history, changes, context.config.max_cost)
        self._surrogate, self._growth = surrogate, growth
        self._policy: PredictorPolicy | None = None
        self._policy_n = 0
        self._n_observed = 0

    @property
    def needs_spectra(self) -> bool:
        """True if spectra are among the features."""
        return self._config.features != "outputs"

    @property
    def can_grow(self) -> bool:
        """True if more candidates can be found when these are used up."""
        return self._growth is not None and self._growth.can_grow

    def prefix(self) -> int:
        """Return how many candidates the next suggestion chooses from: the planned prefix, or more if it is used up."""
        return self._prefix_of(self._history.evaluations.n_of("suggestion"))

    def last_prefix(self, n: int) -> int:
        """Return how many candidates the last of `n` further suggestions chooses from; 0 if there are none."""
        return self._prefix_of(self._history.evaluations.n_of("suggestion") + n - 1) if n > 0 else 0

    def _prefix_of(self, suggestion: int) -> int:
        candidates, taken = self._history.candidates, self.pairs.unavailable()
        if self._growth is not None and self._growth.generation:
            return len(candidates)  # the last ones are the most promising
        n = prefix_length(suggestion, len(candidates), self._config.first_candidates)
        while n < len(candidates) and all(function.id in taken for function in candidates[:n]):
            n = min(2 * n, len(candidates))
        return n

    def used_up(self) -> bool:
        """Return whether nothing is left to train, now or later: no function, and none of the best with more seeds."""
        return self.has_nothing_new() and self._history.evaluations.best_lacking_seeds() is None

    def has_nothing_new(self) -> bool:
        """Return whether nothing is left to suggest, now or later."""
        if self.can_grow:
            return False
        now, later = self.pairs.open_(len(self._history.candidates))
        return not (now.any() or later.any())

    def prepare(self) -> None:
        """Let the surrogate begin the work that the next suggestion needs, if its inputs are there."""
        if self._growth is not None:
            self._growth.prepare()
        self._surrogate.prepare(self.prefix())

    def suggest(self) -> Suggestion | None:
        """Return the next suggestion, or None while the surrogate is not ready or when all candidates are used up.

        With a limit on the cost, a suggestion waits for the costs of all candidates that it chooses from: no function
        is trained unmeasured, and the suggestion does not depend on which costs happen to be known.
        """
        if self._growth is not None and self._growth.is_due:
            return None
        n = self.prefix()
        if self._config.max_cost is not None and self._history.without_cost(n):
            return None
        policy = self._policy_for(n)
        if policy is None:
            return None
        for pair, score, n_seeds in self._new_results(n):
            policy.observe(pair, score, n_seeds)
        ((_, allowed),) = self.pairs.turns(n, self._history.evaluations.n_of("suggestion"))
        return policy.suggest(pending=self._pending(n), allowed=allowed)

    def suggest_batch(self, most: int) -> list[Suggestion]:
        """Return at most `most` suggestions: here one, so that the next one can use more results."""
        suggestion = self.suggest() if most > 0 else None
        return [] if suggestion is None else [suggestion]

    def record_idle(self, n: int) -> None:
        """Do nothing with the number of idle workers: suggestions here do not depend on it."""

    @property
    def is_computing(self) -> bool:
        """True while another process computes suggestions."""
        return False

    def close(self) -> None:
        """End the processes of the surrogate, and the user's command."""
        self._surrogate.close()
        if self._growth is not None:
            self._growth.close()

    def _policy_for(self, n: int) -> PredictorPolicy | None:
        if self._policy is None or self._policy_n != n:
            policy_source = self._surrogate.policy_source(n)
            self._policy = None if policy_source is None else policy_source.policy()
            self._policy_n, self._n_observed = n, 0
        return self._policy

    def _new_results(self, n: int) -> list[tuple[int, float | None, int]]:
        """Return pairs and scores of the results among the first `n` candidates since the last call, each with the
        number of seeds that the score is the mean of."""
        evaluations = self._history.evaluations
        new = evaluations.ended(after=self._n_observed)
        self._n_observed += len(new)
        results = []
        for evaluation in new:
            number, change = evaluation.function_id, evaluation.recipe_change
            pair = self.pairs.index(evaluation)
            # Not while it is being retrained.
            if evaluation.status in FINAL and pair is not None and self._history.position[number] < n:
                results.append((pair, evaluations.score_of(number, change), evaluations.n_seeds_of(number, change)))
        return results

    def _pending(self, n: int) -> frozenset[int]:
        open_ = self._history.evaluations.open
        return frozenset(
            pair
            for evaluation in open_
            if (pair := self.pairs.index(evaluation)) is not None and self._history.position[evaluation.function_id] < n
        )
