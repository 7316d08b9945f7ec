"""propose(...): put functions into the queue of a run, whether or not a driver is running it."""

from __future__ import annotations

from collections.abc import Sequence

from aquasurf_ray.activations.registry import find_operator, is_stand_in
from aquasurf_ray.analysis.studies.reference import OWN_OPERATORS
from aquasurf_ray.driver.candidates import add_functions, unique_rows
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.operator_origin import origins_told
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.stored_config import stored_config
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.driver.verbs.arguments import loaded_task
from aquasurf_ray.store import Proposal, Run, Store


def propose(name: str, functions: Sequence[str], *, store: str | None = None) -> list[tuple[str, Proposal]]:
    """Put functions into a run's queue, to be trained next; return each with its status in the run.

    Raises:
        BadUse: a function cannot be parsed, or is for other roles than the task's, or has an operator of the task's
            own network, which cannot be loaded here; nothing is queued then.
        StoreError: there is no such run.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        config = stored_config(run)
        import_modules(config.modules)
        _register_own_operators(run, config, functions)
        with origins_told(functions, store, "begin a run with --modules {}"):
            rows = unique_rows(functions, run.config.get("roles") or ())
        gated = config.health_gate == "on"
        ids = add_functions(opened, rows)
        # A training that a median rule stopped does not answer a request: somebody wants to know the score.
        proposals = opened.propose(run.id, ids, config.training_seed, accept_stopped=False, accept_refused=gated)
        return [(row.name, proposal) for row, proposal in zip(rows, proposals, strict=True)]


def _register_own_operators(run: Run, config: SearchConfig, functions: Sequence[str]) -> None:
    """Load the run's task if a function has an operator of the task's own network that this process does not know: its
    values, which the run keeps, do not identify a function."""
    own = [name for name in run.config.get(OWN_OPERATORS) or () if any(name in text for text in functions)]
    used = next((name for name in own if find_operator(name) is None or is_stand_in(name)), None)
    if used is None:
        return
    try:
        loaded_task(config.task, config)
    except BadUse as error:
        raise BadUse(
            f"operator '{used}' is of the network of task '{config.task}', which cannot be loaded here: {error}; "
            "enqueue where the task can be imported, or in the process that started the run"
        ) from None
