"""Suggestions for many workers, computed ahead of time in another process.

With few workers, a suggestion is computed on demand from all results, and one worker and one seed give one sequence.
Many workers need suggestions faster than a surrogate can compute them one by one, and the order then depends on which
worker is first anyway. So a separate process, which gets the results as they arrive, computes suggestions in batches,
each suggestion as if the earlier ones were running already. The queue holds twice as many suggestions as were taken
while the last batch was computed. A decision takes one from the queue, and a suggestion accounts for all results except
those of the last seconds.

While the planned candidates are not ready (their spectra or their map are being computed) and workers would be idle,
suggestions come from the candidates that were ready before.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.suggestions.growth import Growth
from aquasurf_ray.driver.suggestions.prefixes import SUGGESTIONS_A_STAGE
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.driver.suggestions.surrogates import PolicySource, Surrogate
from aquasurf_ray.recipe_change import UNCHANGED
from aquasurf_ray.surrogate.policy import Mask, PredictorPolicy, Suggestion

MANY_WORKERS = 16  # below this, suggestions on demand are fast enough, and their sequence is reproducible
LARGEST_BATCH = 256  # half a second's; a larger one would make its last suggestions without results of meanwhile
ATTEMPTS = 3


@ray.remote(num_cpus=0)
class SuggestionProcess:
    """The process that owns the policy and computes batches of suggestions with it."""

    def __init__(self) -> None:
        self._policy: PredictorPolicy | None = None

    def suggest(
        self,
        policy_source: PolicySource | None,
        results: list[tuple[int, float | None, int]],
        turns: list[tuple[int, Mask]],
        pending: frozenset[int],
    ) -> list[Suggestion]:
        """Observe new results and return suggestions, from a new policy if there is a source for one.

        `turns` says how many are chosen from which candidates.
        """
        if policy_source is not None:
            self._policy = policy_source.policy()
        assert self._policy is not None  # noqa: S101 - the first call comes with a source
        for candidate, score, n_seeds in results:
            self._policy.observe(candidate, score, n_seeds)
        batch: list[Suggestion] = []
        for n, allowed in turns:
            batch += self._policy.suggest_batch(n, pending | {each.candidate for each in batch}, allowed)
        return batch


class AheadSuggester(Suggester):
    """A `Suggester` with a queue of suggestions that are ready.

    Args:
        budget: the number of suggestions that the run can take in total.
    """

    def __init__(
        self,
        context: RunContext,
        surrogate: Surrogate,
        budget: int,
        growth: Growth | None = None,
        changes: tuple[str, ...] = (UNCHANGED,),
    ) -> None:
        super().__init__(context, surrogate, growth, changes)
        self._budget = budget
        self._ready: deque[Suggestion] = deque()
        self._process: Any = None
        self._future: Any = None
        self._used = 0  # number of candidates that the policy of the process chooses from
        self._taken = 0  # suggestions taken since the last batch was begun
        self._idle = 0
        self._attempts = 0

    @property
    def is_computing(self) -> bool:
        """See `Suggester`."""
        return self._future is not None

    def prefix(self) -> int:
        """Return the prefix as `Suggester.prefix` does; suggestions in the queue count as made."""
        return self._prefix_of(self._history.evaluations.n_of("suggestion") + len(self._ready))

    def prepare(self) -> None:
        """Take over a batch that is finished, and begin the next one if more suggestions are needed."""
        super().prepare()
        n = self.prefix()
        if self._future is not None:
            self._take_batch()
        if self._future is None and self._n_wanted() > 0:
            self._begin(n)

    def suggest(self) -> Suggestion | None:
        """Return the next suggestion that is ready, or None."""
        while self._ready:
            suggestion = self._ready.popleft()
            if self.pairs.is_open(suggestion.candidate):
                self._taken += 1
                return suggestion
        return None

    def suggest_batch(self, most: int) -> list[Suggestion]:
        """Return at most `most` of the suggestions that are ready."""
        suggestions: list[Suggestion] = []
        while len(suggestions) < most and (suggestion := self.suggest()) is not None:
            suggestions.append(suggestion)
        return suggestions

    def record_idle(self, n: int) -> None:
        """Record that `n` workers wait for a suggestion."""
        self._idle = n

    def close(self) -> None:
        """End the process of this object and the processes of the surrogate."""
        if self._process is not None:
            ray.kill(self._process)
        super().close()

    def _n_wanted(self) -> int:
        """Return how many more suggestions are needed; none while the queue is more than half full."""
        enough = self._idle + max(1, 2 * self._taken)
        left = self._budget - self._history.counted() - len(self._ready)
        return min(enough - len(self._ready), LARGEST_BATCH, left) if len(self._ready) <= enough / 2 else 0

    def _begin(self, n: int) -> None:
        policy_source = None if self._used == n else self._policy_source(n)
        if policy_source is not None:
            self._used, self._n_observed = n, 0
        # The planned candidates are not ready. Those of before are used only so that no worker is idle.
        elif self._used != n and not (self._used and self._idle):
            return
        size, used = self._n_wanted(), self._used
        made = self._history.evaluations.n_of("suggestion") + len(self._ready)
        if used == n < len(self._history.candidates):
            # A batch ends where the prefix grows: later suggestions are to choose from more candidates.
            size = min(size, SUGGESTIONS_A_STAGE - made % SUGGESTIONS_A_STAGE)
        if self._process is None:
            self._process = SuggestionProcess.remote()  # type: ignore[attr-defined]
        pending = self._pending(used) | {suggestion.candidate for suggestion in self._ready}
        arguments = self._new_results(used), self.pairs.turns(used, made, size), pending
        self._future = self._process.suggest.remote(policy_source, *arguments)
        self._taken = 0

    def _policy_source(self, n: int) -> PolicySource | None:
        # With a limit on the cost, no function may be suggested before its cost is known.
        unmeasured = self._config.max_cost is not None and self._history.without_cost(n)
        return None if unmeasured else self._surrogate.policy_source(n)

    def _take_batch(self) -> None:
        """Put the suggestions of the finished batch into the queue.

        Raises:
            RunFailed: the batch failed, or the process died in every attempt.
        """
        ready, _ = ray.wait([self._future], timeout=0)
        if not ready:
            return
        future, self._future = self._future, None
        try:
            self._ready.extend(ray.get(future))
        except RayError as error:
            self._attempts += 1
            if isinstance(error, RayTaskError) or self._attempts >= ATTEMPTS:
                raise RunFailed(f"suggestions cannot be made: {cause_of(error)}") from None
            self._process, self._used = None, 0  # a new process has no policy, so the next batch sends a source
            return
        self._attempts = 0
