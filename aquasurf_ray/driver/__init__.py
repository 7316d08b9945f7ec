"""The search: plan, dispatch, record. The verbs are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.driver.run.spec import RunResult
    from aquasurf_ray.driver.verbs.build import build_benchmark
    from aquasurf_ray.driver.verbs.confirm import confirm
    from aquasurf_ray.driver.verbs.evaluate import evaluate
    from aquasurf_ray.driver.verbs.propose import propose
    from aquasurf_ray.driver.verbs.resume import resume
    from aquasurf_ray.driver.verbs.search import search
    from aquasurf_ray.driver.verbs.stop import request_stop

_MODULES = {
    "RunResult": "run.spec",
    "build_benchmark": "verbs.build",
    "confirm": "verbs.confirm",
    "evaluate": "verbs.evaluate",
    "propose": "verbs.propose",
    "request_stop": "verbs.stop",
    "resume": "verbs.resume",
    "search": "verbs.search",
}

__all__ = ["RunResult", "build_benchmark", "confirm", "evaluate", "propose", "request_stop", "resume", "search"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
