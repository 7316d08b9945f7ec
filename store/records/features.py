"""Records of what is known of a function without training it: spectra, costs, embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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


@dataclass(frozen=True)
class CostRecord:
    """A function's cost in a task's network on one kind of device, with ReLU's cost measured in turns with it.

    A step is a forward pass, a backward pass and an optimiser step on one training batch; the bytes are what autograd
    saves for the backward pass, without the parameters.

    >>> cost = CostRecord(1, "cpu", 0.03, 0.02, 600, 400)
    >>> round(cost.time_ratio, 6), cost.memory_ratio
    (1.5, 1.5)
    """

    function_id: int
    device: str
    step_seconds: float
    relu_step_seconds: float
    activation_bytes: int
    relu_activation_bytes: int
    worker: str | None = None

    @property
    def time_ratio(self) -> float:
        """The step time relative to ReLU."""
        return self.step_seconds / self.relu_step_seconds

    @property
    def memory_ratio(self) -> float:
        """The activation memory relative to ReLU."""
        return self.activation_bytes / self.relu_activation_bytes


@dataclass(frozen=True, eq=False)
class EmbeddingRecord:
    """Coordinates float32 (n, 2) of the functions int64 (n,); rows are NaN for functions without a place."""

    version: str
    task_id: int
    config: dict[str, Any]
    function_ids: npt.NDArray[np.int64]
    coordinates: npt.NDArray[np.float32]
