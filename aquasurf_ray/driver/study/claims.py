"""The claims of a study's process: each is a trial under a lease of its own, next to those of other processes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from aquasurf_ray.driver.cluster.slot import Slot
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.suggestions.suggester import Suggester
from aquasurf_ray.store import AskedTrial, Claim, EvaluationRequest, this_process
from aquasurf_ray.store.records.evaluations import Origin

ASKER = Slot(0, None, "idle", None, 0.0)
"""The stand-in for the user's loop: claims are made for this one worker."""


class TrialClaims(Claims):
    """The claims of one process of a study. `held` has its trials that were not told yet, by evaluation."""

    def __init__(
        self, context: RunContext, budget: Budget, suggester: Suggester, most: int | None, held: dict[int, AskedTrial]
    ) -> None:
        super().__init__(context, budget, suggester)
        self._shared, self._most = context, most
        self.held = held
        self._owner = this_process()

    def may_stop(self, origin: Origin) -> bool:
        """Return True: whether a training was stopped early is the user's own affair."""
        return True

    def next_trial(self) -> AskedTrial | None:
        """Return the next trial of this process, or None if there is nothing to train now."""
        claim = self.next_for(ASKER)
        return None if claim is None else self.held[claim.evaluation_id]

    def claim_all(self, requests: Sequence[EvaluationRequest], *, retry_failed: bool = False) -> list[Claim]:
        """Ask for evaluations one by one: a process trains one, and must not keep others waiting."""
        claims = []
        for request in requests:
            asked = self._shared.store.ask(
                self._shared.lease,
                request,
                self._owner,
                nonce=uuid.uuid4().hex,
                lease_seconds=self._shared.config.lease_seconds,
                budget=self._most,
                **self.accepted(request.origin),
            )
            if asked is None:
                continue
            if asked.claim.state == "claimed":
                self.held[asked.claim.evaluation_id] = asked
            claims.append(asked.claim)
        return claims
