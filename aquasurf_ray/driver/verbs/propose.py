"""propose(...): put functions into the queue of a run, whether or not a driver is running it."""

from __future__ import annotations

from collections.abc import Sequence

from aquasurf_ray.driver.candidates import unique_rows
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.stored_config import stored_config
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.store import Proposal, Store


def propose(name: str, functions: Sequence[str], *, store: str | None = None) -> list[tuple[str, Proposal]]:
    """Put functions into a run's queue, to be trained next; return each with its status in the run.

    Raises:
        BadUse: a function cannot be parsed, or is for other roles than the task's; nothing is queued then.
        StoreError: there is no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        config = stored_config(run)
        import_modules(config.modules)
        rows = unique_rows(functions, run.config.get("roles") or ())
        gated = config.health_gate == "on"
        ids = opened.add_functions(rows)
        # A training that a median rule stopped does not answer a request: somebody wants to know the score.
        proposals = opened.propose(run.id, ids, config.training_seed, accept_stopped=False, accept_refused=gated)
        return [(row.name, proposal) for row, proposal in zip(rows, proposals, strict=True)]
