"""What the kinds of runs do. All have one loop, one store and the same workers."""

from __future__ import annotations

from dataclasses import dataclass

from aquasurf_ray.store.records.runs import RunKind


@dataclass(frozen=True)
class Kind:
    """What a run of one kind does.

    Args:
        suggests: it trains the baselines, then what the surrogate suggests, and ends where its candidates are used up.
            Others train each of their candidates with each of their seeds, and have failed while one is missing.
        all_spectra: it ends when every candidate has its spectrum, or is known to have none.
        costs: a function's cost is measured before it is trained, if it is not known.
    """

    suggests: bool = False
    all_spectra: bool = False
    costs: bool = False


KINDS: dict[RunKind, Kind] = {
    "search": Kind(suggests=True, costs=True),
    "evaluate": Kind(costs=True),
    "build": Kind(all_spectra=True),
    "confirm": Kind(),
}
