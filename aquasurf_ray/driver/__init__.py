"""The search: plan, dispatch, record. The verbs are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aquasurf_ray.driver.benchmark_build import build_benchmark
    from aquasurf_ray.driver.confirmations import confirm
    from aquasurf_ray.driver.execution import RunResult
    from aquasurf_ray.driver.runs import evaluate, propose, resume, search
    from aquasurf_ray.driver.stop_requests import request_stop

_MODULES = {
    "RunResult": "execution",
    "build_benchmark": "benchmark_build",
    "confirm": "confirmations",
    "evaluate": "runs",
    "propose": "runs",
    "request_stop": "stop_requests",
    "resume": "runs",
    "search": "runs",
}

__all__ = ["RunResult", "build_benchmark", "confirm", "evaluate", "propose", "request_stop", "resume", "search"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
