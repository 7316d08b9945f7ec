"""The spectrum of one function, summarised for people; computed in this process."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aquasurf_ray.cpu_threads import WORKER_THREADS, torch_threads
from aquasurf_ray.driver.candidates import function_row
from aquasurf_ray.driver.errors import BadUse, RunFailed
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.driver.operator_origin import origins_told
from aquasurf_ray.driver.own_activation import register_own_operators
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.workers.role_layers import role_of_block, role_of_weights
from aquasurf_ray.workers.spectrum import SkippedLayerWarning, SpectrumError, task_spectrum


def spectrum_summary(function: str, task: str, *, seed: int = 0) -> dict[str, Any]:
    """Return the spectrum as JSON-ready values. On a CPU, PyTorch has the threads of a worker meanwhile.

    `layers` has a row per block: name, number of weights, and quantiles of the eigenvalues' natural logarithms; in a
    network with roles also `role`, that of the first activation which the layer reaches (`workers.role_layers`), "" for
    none.
    `coverage` has the numbers of matrices and weights in total and in blocks, the matrices that are left out with the
    reasons, the matrices with uses that their block does not count, and a sentence on all of this as `text`.

    Raises:
        BadUse: there is no such task, or the function is not an expression.
        RunFailed: the network overflows with this function; the message names the layer.
    """
    try:
        loaded = load_task(task, import_from=Path.cwd())
        splits = loaded.splits()
        register_own_operators(loaded)  # the function may be the network's own
        with origins_told([function], None):
            name = function_row(function, loaded.roles).name
    except TaskError as error:
        raise BadUse(str(error)) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with torch_threads(WORKER_THREADS), warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedLayerWarning)  # `coverage` reports the same layers
            spectrum = task_spectrum(loaded, splits, name, seed=seed, device=device)
            role_of = role_of_weights(loaded, splits, device=device)
    except (SpectrumError, TaskError) as error:
        raise RunFailed(str(error)) from error
    except Exception as error:  # the task's network, data and loss are the user's own code
        raise RunFailed(f"the spectrum of task '{loaded.name}' fails: {sentence(error)}") from error
    coverage = spectrum.coverage
    text = coverage.warning() or f"the spectrum covers {coverage}"
    return {
        "layers": [
            {**_summary(layer.name, layer.log_eigenvalues()), **_role(layer.parameters, role_of)} for layer in spectrum
        ],
        "coverage": {**asdict(coverage), "share": coverage.share, "text": text},
    }


def _role(parameters: Sequence[str], role_of: Mapping[str, str]) -> dict[str, str | None]:
    return {"role": role_of_block(parameters, role_of)} if role_of else {}


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
