"""The compact spectrum of one function on a task's network, as the store keeps it, or the reason why it has none."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch

from aquasurf_ray.activations import activation_of
from aquasurf_ray.surrogate.spectra import compress
from aquasurf_ray.tasks import Splits, Task
from aquasurf_ray.workers.messages import SpectrumReply, Status
from aquasurf_ray.workers.role_layers import role_of_block
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
    role_of: Mapping[str, str] | None = None,
) -> SpectrumReply:
    """Return the compact spectrum of a function, or the reason if the function itself prevents it.

    Args:
        role_of: the roles of the network's weights, from which the reply has those of the layers (`role_layers`).

    Raises:
        SpectrumInputError, NoLayers: the task's network has no Fisher spectrum.
    """
    coverage: str | None = None
    roles: dict[str, str] | None = None

    def work() -> bytes:
        nonlocal coverage, roles
        probe(activation_of(function), device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SkippedLayerWarning)  # the reply's coverage names the skipped layers
                spectrum = task_spectrum(task, splits, function, seed=seed, device=device, fisher=fisher)
        except NonFiniteSpectrum as error:
            raise FunctionFault(str(error)) from error
        coverage = spectrum.coverage.warning() or f"spectra cover {spectrum.coverage}"
        if role_of:
            of_layers = {layer.name: role_of_block(layer.parameters, role_of) for layer in spectrum}
            roles = {name: role for name, role in of_layers.items() if role is not None}
        return compress(spectrum).to_bytes()

    feature, reason, seconds = result_or_reason(work)
    status: Status = "done" if reason is None else "diverged"
    return SpectrumReply(function, status, reason, feature, seconds, device.type, coverage, roles)


def result_or_reason(work: Callable[[], Reply]) -> tuple[Reply | None, str | None, float]:
    """Return the result of the work, or the reason if it fails by the function's own fault, and the seconds it took."""
    started = time.monotonic()
    try:
        return work(), None, time.monotonic() - started
    except Exception as error:  # the function's own faults become the reason; all others are raised again
        if not is_function_fault(error):
            raise
        return None, reason_of(error), time.monotonic() - started
