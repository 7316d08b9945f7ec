"""The compact spectrum of one function on a task's network, as the store keeps it, or the reason why it has none."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Literal, TypeVar

import torch

from aquasurf_ray.activations import activation_of
from aquasurf_ray.surrogate.spectra import compress
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.workers.messages import SpectrumReply, Status
from aquasurf_ray.workers.spectrum import NonFiniteSpectrum, SkippedLayerWarning, task_spectrum
from aquasurf_ray.workers.training import FunctionFault, is_function_fault, probe, reason_of

Reply = TypeVar("Reply")


def compact_spectrum(
    task: Task,
    splits: Splits,
    function: str,
    *,
    seed: int,
    device: torch.device,
    fisher: Literal["sampled", "empirical"] = "sampled",
) -> SpectrumReply:
    """Return the compact spectrum of a function, or the reason if the function itself prevents it.

    Raises:
        SpectrumInputError, NoLayers: the task's network has no Fisher spectrum.
    """
    coverage: str | None = None

    def work() -> bytes:
        nonlocal coverage
        probe(activation_of(function), device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SkippedLayerWarning)  # the reply's coverage names the skipped layers
                spectrum = task_spectrum(task, splits, function, seed=seed, device=device, fisher=fisher)
        except NonFiniteSpectrum as error:
            raise FunctionFault(str(error)) from error
        coverage = spectrum.coverage.warning() or f"spectra cover {spectrum.coverage}"
        return compress(spectrum).to_bytes()

    feature, reason, seconds = result_or_reason(work)
    status: Status = "done" if reason is None else "diverged"
    return SpectrumReply(function, status, reason, feature, seconds, device.type, coverage)


def result_or_reason(work: Callable[[], Reply]) -> tuple[Reply | None, str | None, float]:
    """Return the result of the work, or the reason if it fails by the function's own fault, and the seconds it took."""
    started = time.monotonic()
    try:
        return work(), None, time.monotonic() - started
    except Exception as error:  # the function's own faults become the reason; all others are raised again
        if not is_function_fault(error):
            raise
        return None, reason_of(error), time.monotonic() - started
