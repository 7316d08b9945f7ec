"""Suggestions for many workers, made ahead of time in another process.

With few workers a suggestion is made when it is asked for, from all results, and one worker and one seed give one
sequence. Many workers ask for suggestions faster than a surrogate can make them one by one, and the order then depends
on which worker is first anyway. So suggestions are made in batches, each as if those before it were running already, by
a process that gets the results as they come. Twice as many are kept ready as were taken while the last batch was made.
A decision takes one from a queue, and a suggestion knows all results except those of the last seconds.

As long as the planned candidates are not ready (their spectra or their map are being computed) and workers have nothing
else to do, suggestions come from the candidates that were ready before.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.errors import RunFailed
from aquasurf_ray.driver.state.context import RunContext
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
        """Observe new results and make `n` suggestions, with a new policy if there are `makings` for one."""
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

    def __init__(self, context: RunContext, surrogate: Surrogate, budget: int) -> None:
        super().__init__(context, surrogate)
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
        """Take over a batch that is finished, and begin the next one if more suggestions are needed."""
        n = self.prefix()
        self._surrogate.prepare(n)
        if self._future is not None:
            self._take_up()
        if self._future is None and self._n_wanted() > 0:
            self._begin(n)

    def suggest(self) -> Suggestion | None:
        """Return the next suggestion that is ready, or None."""
        taken = self._unavailable()
        while self._ready:
            suggestion = self._ready.popleft()
            if self._history.candidates[suggestion.candidate].id not in taken:
                self._taken += 1
                return suggestion
        return None

    def suggest_some(self, most: int) -> list[Suggestion]:
        """Return at most `most` of the suggestions that are ready."""
        some: list[Suggestion] = []
        while len(some) < most and (suggestion := self.suggest()) is not None:
            some.append(suggestion)
        return some

    def left_idle(self, n: int) -> None:
        """Take note that `n` workers wait for a suggestion."""
        self._idle = n

    def close(self) -> None:
        """End the process, and those of the surrogate."""
        if self._process is not None:
            ray.kill(self._process)
        super().close()

    def _n_wanted(self) -> int:
        """Return how many more suggestions are needed; none while enough are ready."""
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
        arguments = self._new_results(used), size, pending, self._allowed(used)
        self._future = self._process.suggest.remote(makings, *arguments)
        self._taken = 0

    def _makings(self, n: int) -> Makings | None:
        unmeasured = self._config.max_cost is not None and self._history.without_cost(n)
        return None if unmeasured else self._surrogate.makings(n)

    def _take_up(self) -> None:
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
            self._process, self._used = None, 0
            return
        self._attempts = 0
