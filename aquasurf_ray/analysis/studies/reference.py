"""The reference of a run: the baseline that its gains are relative to, and how tables mark baselines.

It is the activation of the task's own network, or ReLU (`driver.own_activation`). A store may know it by another name
than the run's configuration has, and may have another function under that name, so tables find it among the run's own
candidates first, and then by its id, or by the name in the store.
"""

from __future__ import annotations

from collections.abc import Sequence

from aquasurf_ray.baselines import REFERENCE
from aquasurf_ray.store import FunctionRecord, LeaderboardRow, Run, Store

OWN_OPERATORS = "own_operators"
"""The entry of a run's configuration with the values of its baselines' operators that are not built in, by name: what
draws the reference may not have the user's code."""


def reference_name(run: Run) -> str:
    """Return the name of the function that the gains of a run are over, as its configuration has it."""
    return str(run.config.get("reference") or REFERENCE)


def reference_of(store: Store, run: Run) -> FunctionRecord | None:
    """Return the function that the gains of a run are over; None if the store does not have it."""
    return store.find_function(reference_name(run), run.id)


def diverged_reference(store: Store, run: Run, board: Sequence[LeaderboardRow]) -> str | None:
    """Return the reference of a run if it has diverged, and so has no row on the run's leaderboard; else None: it has a
    row, or is not trained yet."""
    reference = reference_of(store, run)
    if reference is None or any(row.function_id == reference.id for row in board):
        return None
    diverged = {each.evaluation.function_id for each in store.status(run.id).divergences}
    return reference.name if reference.id in diverged else None


def standing(*, baseline: bool, reference: bool) -> str:
    """Return the word for a function that others are compared with; empty for those others.

    >>> standing(baseline=True, reference=True), standing(baseline=True, reference=False)
    ('reference', 'baseline')
    """
    return "reference" if reference else "baseline" if baseline else ""


def marked(function: str, *, baseline: bool, reference: bool, note: str = "") -> str:
    """Return a function with its mark, as the texts of tables and pictures have it.

    >>> marked("relu(x)", baseline=True, reference=True), marked("erf(x)", baseline=False, reference=False)
    ('relu(x) (reference)', 'erf(x)')
    >>> marked("elu(x)", baseline=True, reference=False, note="not judged")
    'elu(x) (baseline, not judged)'
    """
    words = [each for each in (standing(baseline=baseline, reference=reference), note) if each]
    return f"{function} ({', '.join(words)})" if words else function
