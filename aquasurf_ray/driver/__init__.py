"""The search: plan, dispatch, record. The verbs are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.driver.run.session import RunResult
    from aquasurf_ray.driver.verbs.build import build_benchmark
    from aquasurf_ray.driver.verbs.confirm import confirm
    from aquasurf_ray.driver.verbs.search import evaluate, propose, resume, search
    from aquasurf_ray.driver.verbs.stop import request_stop

_MODULES = {
    "RunResult": "run.session",
    "build_benchmark": "verbs.build",
    "confirm": "verbs.confirm",
    "evaluate": "verbs.search",
    "propose": "verbs.search",
    "request_stop": "verbs.stop",
    "resume": "verbs.search",
    "search": "verbs.search",
}

__all__ = ["RunResult", "build_benchmark", "confirm", "evaluate", "propose", "request_stop", "resume", "search"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
