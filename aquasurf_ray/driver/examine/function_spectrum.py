"""The spectrum of one function for people to look at, computed in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from aquasurf_ray.driver.candidates import function_row
from aquasurf_ray.driver.errors import BadUse, RunFailed
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.workers.spectrum import SpectrumError, task_spectrum


def layer_summaries(function: str, task: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """A row a layer: name, number of weights, and quantiles of the eigenvalues' natural logarithms.

    Raises:
        BadUse: no such task, or no such function.
        RunFailed: the network overflows with this function; the message names the layer.
    """
    name = function_row(function).name
    try:
        loaded = load_task(task, import_from=Path.cwd())
        splits = loaded.splits()
    except TaskError as error:
        raise BadUse(str(error)) from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        layers = task_spectrum(loaded, splits, name, seed=seed, device=device)
    except SpectrumError as error:
        raise RunFailed(str(error)) from None
    return [_summary(layer.name, layer.log_eigenvalues()) for layer in layers]


def _summary(name: str, logs: np.ndarray) -> dict[str, Any]:
    smallest, q25, median, q75, largest = np.quantile(logs, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {
        "layer": name,
        "weights": len(logs),
        "smallest": smallest,
        "q25": q25,
        "median": median,
        "q75": q75,
        "largest": largest,
    }
