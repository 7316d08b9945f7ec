"""Records of what is known of a function without training it: spectra, costs, embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aquasurf_ray.measured_cost import MeasuredCost

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Fisher = Literal["sampled", "empirical"]


@dataclass(frozen=True)
class SpectrumRecord:
    """A compact spectrum, or the reason why the function has none."""

    function_id: int
    fisher: Fisher
    seed: int
    status: Literal["done", "diverged"]
    feature: bytes | None = None
    reason: str | None = None
    seconds: float | None = None
    device: str | None = None
    worker: str | None = None


@dataclass(frozen=True, kw_only=True)
class CostRecord(MeasuredCost):
    """A function's cost in a task's network on one kind of device, and the worker that measured it."""

    function_id: int
    worker: str | None = None


@dataclass(frozen=True, eq=False)
class EmbeddingRecord:
    """Coordinates float32 (n, 2) of the functions int64 (n,); rows are NaN for functions without a place."""

    version: str
    task_id: int
    config: dict[str, Any]
    function_ids: npt.NDArray[np.int64]
    coordinates: npt.NDArray[np.float32]
