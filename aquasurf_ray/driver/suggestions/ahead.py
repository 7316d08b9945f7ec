"""Suggestions for many workers, made ahead of time in a process of their own.

With few workers a suggestion is made when it is asked for, from all results, and one worker and one seed give one
sequence. Many workers ask for suggestions faster than a surrogate can make them one by one, and what is suggested
depends on who is first anyway. Here suggestions are made in batches, each as if those before it were running already,
by a process that is told the results as they come, and are kept ready: twice as many as were taken while the last batch
was made. So a decision takes one from a queue, and a suggestion knows all results but those of the last seconds.

As long as the candidates that the plan asks for are not ready (their spectra are being computed, their map is being
drawn), and there are workers with nothing else to do, suggestions come from the candidates that were ready before.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.config import SearchConfig
from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.driver.state.history import History
from aquasurf_ray.driver.suggestions.prefixes import SUGGESTIONS_A_STAGE
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.driver.suggestions.surrogates import Makings, Surrogate
from aquasurf_ray.surrogate.policy import Mask, PredictorPolicy, Suggestion

MANY_WORKERS = 16
LARGEST_BATCH = 64
ATTEMPTS = 3


@ray.remote(num_cpus=0)
class SuggestionProcess:
    """Holds a policy for the driver."""

    def __init__(self) -> None:
        self._policy: PredictorPolicy | None = None

    def suggest(
        self,
        makings: Makings | None,
        results: list[tuple[int, float | None]],
        n: int,
        pending: frozenset[int],
        allowed: Mask,
    ) -> list[Suggestion]:
        """Observes what is new, and makes `n` suggestions; with a policy that has observed nothing, if one is to be
        made."""
        if makings is not None:
            self._policy = makings.policy()
        assert self._policy is not None  # noqa: S101 - the first call has makings
        for candidate, score in results:
            self._policy.observe(candidate, score)
        return self._policy.suggest_batch(n, pending, allowed)


class AheadSuggester(Suggester):
    """A `Suggester` that keeps suggestions ready.

    Args:
        budget: suggestions that the run can take in all.
    """

    def __init__(self, config: SearchConfig, history: History, surrogate: Surrogate, budget: int) -> None:
        super().__init__(config, history, surrogate)
        self._budget = budget
        self._ready: deque[Suggestion] = deque()
        self._process: Any = None
        self._future: Any = None
        self._used = 0  # candidates that the process's policy chooses from
        self._taken = 0  # suggestions, since the last batch was begun
        self._idle = 0
        self._attempts = 0

    @property
    def makes_some(self) -> bool:
        """See `Suggester`."""
        return self._future is not None

    def prefix(self) -> int:
        """See `Suggester.prefix`; what is ready counts as suggested."""
        return self._prefix_of(self._history.evaluations.n_of("suggestion") + len(self._ready))

    def prepare(self) -> None:
        """Takes up a batch that is finished, and begins the next one if it is wanted."""
        n = self.prefix()
        self._surrogate.prepare(n)
        if self._future is not None:
            self._take_up()
        if self._future is None and self._n_wanted() > 0:
            self._begin(n)

    def suggest(self) -> Suggestion | None:
        """The next one that is ready, or None."""
        taken = self._not_to_be_had()
        while self._ready:
            suggestion = self._ready.popleft()
            if self._history.candidates[suggestion.candidate].id not in taken:
                self._taken += 1
                return suggestion
        return None

    def suggest_some(self, most: int) -> list[Suggestion]:
        """As many of those that are ready."""
        some: list[Suggestion] = []
        while len(some) < most and (suggestion := self.suggest()) is not None:
            some.append(suggestion)
        return some

    def left_idle(self, n: int) -> None:
        """So many workers wait for a suggestion."""
        self._idle = n

    def close(self) -> None:
        """Ends the process and what the surrogate has started."""
        if self._process is not None:
            ray.kill(self._process)
        super().close()

    def _n_wanted(self) -> int:
        """How many more suggestions are to be made; none while enough are ready."""
        enough = self._idle + max(1, 2 * self._taken)
        left = self._budget - self._history.counted() - len(self._ready)
        return min(enough - len(self._ready), LARGEST_BATCH, left) if len(self._ready) <= enough / 2 else 0

    def _begin(self, n: int) -> None:
        makings = None if self._used == n else self._makings(n)
        if makings is not None:
            self._used, self._n_observed = n, 0
        elif self._used != n and not (self._used and self._idle):
            return
        size, used = self._n_wanted(), self._used
        if used == n < len(self._history.candidates):
            made = self._history.evaluations.n_of("suggestion") + len(self._ready)
            size = min(size, SUGGESTIONS_A_STAGE - made % SUGGESTIONS_A_STAGE)
        if self._process is None:
            self._process = SuggestionProcess.remote()  # type: ignore[attr-defined]
        pending = self._pending(used) | {suggestion.candidate for suggestion in self._ready}
        told = self._new_results(used), size, pending, self._allowed(used)
        self._future = self._process.suggest.remote(makings, *told)
        self._taken = 0

    def _makings(self, n: int) -> Makings | None:
        unpriced = self._config.max_cost is not None and self._history.without_cost(n)
        return None if unpriced else self._surrogate.makings(n)

    def _take_up(self) -> None:
        """Puts what was made into the queue.

        Raises:
            RunFailed: it could not be made, or the process died in every attempt.
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
            self._process, self._used = None, 0
            return
        self._attempts = 0
