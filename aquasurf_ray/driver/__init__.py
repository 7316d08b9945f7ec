"""The search: plan, dispatch, record. `search`, `resume`, `evaluate` and `propose` are loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.driver.execution import RunResult
    from aquasurf_ray.driver.runs import evaluate, propose, resume, search

__all__ = ["RunResult", "evaluate", "propose", "resume", "search"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from aquasurf_ray.driver import runs

    return getattr(runs, name)
