"""The kinds of runs and how they differ. All share one loop, one store and the same workers."""

from __future__ import annotations

from dataclasses import dataclass

from aquasurf_ray.store.records.runs import RunKind


@dataclass(frozen=True)
class Kind:
    """The behaviour of one kind of run.

    Args:
        suggests: the run trains the baselines, then what the surrogate suggests, and ends when its candidates are used
            up. Other runs train each candidate with each seed, and fail as long as one of these trainings is missing.
        all_spectra: the run ends only when every candidate has a spectrum, or is known to have none.
        tunes: the run may choose a change of the recipe for each function, before it trains them with it.
        costs: a function's cost is measured before its training, unless the cost is known.
    """

    suggests: bool = False
    all_spectra: bool = False
    costs: bool = False
    tunes: bool = False


KINDS: dict[RunKind, Kind] = {
    "search": Kind(suggests=True, costs=True),
    "evaluate": Kind(costs=True),
    "build": Kind(all_spectra=True),
    "confirm": Kind(tunes=True),
}
