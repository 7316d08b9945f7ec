"""The costs of the forms of a function on this machine, measured once and stored on disk.

Each measurement is one JSON file, named by everything that decides it: function, device, versions, type, autocast,
threads, and the number of elements up to the next power of two. Files are written to a temporary name and moved into
place, so that readers see a whole file or none; of several processes that measure the same, the last one's result
stays.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from aquasurf_ray.activations.expression import Expression
from aquasurf_ray.activations.forms.recomputed import AutocastState
from aquasurf_ray.activations.identity import operator_digest
from aquasurf_ray.activations.operators import VALUES_VERSION
from aquasurf_ray.activations.registry import operator_named
from aquasurf_ray.cached_files import default_folder, key_of, whole_file

_FORMAT = 2  # 2: functions of the zoo are computed by PyTorch's kernels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FormCosts:
    """The seconds of one forward and backward pass over `n_elements` elements, and the elements kept in between.

    `swish` is PyTorch's own operator, which no form of a function of more than one operator can beat by much. A form
    that disagrees with eager has no time but a reason in `refused`; `compiled` has neither until it is tried.
    """

    n_elements: int
    eager: float
    swish: float
    recomputed: float | None
    compiled: float | None
    refused: dict[str, str]
    eager_keeps: float
    """The number of elements that the eager form keeps for the backward pass, for each element of its input."""

    def __post_init__(self) -> None:
        times = [self.eager, self.swish, self.eager_keeps, self.recomputed, self.compiled]
        if not all(t is None or (isinstance(t, float) and math.isfinite(t) and t >= 0) for t in times):
            raise ValueError(f"times are {times}")
        if not isinstance(self.n_elements, int) or self.n_elements < 1 or not isinstance(self.refused, dict):
            raise ValueError(f"{self.n_elements} elements, refused: {self.refused}")


def path_for(
    expression: Expression, *, device: torch.device, dtype: torch.dtype, n_elements: int, folder: Path | None
) -> Path:
    """Return the file of one measurement, under the current autocast."""
    is_gpu = device.type == "cuda"
    machine = torch.cuda.get_device_name(device) if is_gpu else torch.backends.cpu.get_cpu_capability()
    # A GPU's time does not depend on the CPU's threads, so one measurement serves all.
    n_threads = 0 if is_gpu else torch.get_num_threads()
    autocast = AutocastState.of(device.type)
    key = (
        *(_FORMAT, VALUES_VERSION, str(expression), _user_defined(expression)),
        *(machine, torch.__version__, n_threads, str(dtype), str(autocast.dtype) if autocast.enabled else None),
        # The next power of two: layers of like size share a measurement, and the faster form rarely differs between
        # them.
        n_elements.bit_length(),
    )
    return (default_folder() if folder is None else Path(folder)) / "forms" / f"{key_of(key)}.json"


def read(path: Path) -> FormCosts | None:
    """Return a measurement from its file; None if there is no file, or, with a warning, if it is damaged."""
    try:
        stored = json.loads(path.read_text())
        return FormCosts(**{f.name: stored[f.name] for f in fields(FormCosts)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("measurement %s is damaged (%s) and is repeated", path, error)
        return None


def write(path: Path, costs: FormCosts) -> None:
    """Store a measurement; a folder that cannot be written is a warning, because the measurement can be repeated."""
    try:
        with whole_file(path) as file:
            file.write(json.dumps(asdict(costs)).encode())
    except OSError as error:
        logger.warning("measurement cannot be kept in %s: %s", path.parent, error.strerror or error)


def _user_defined(expression: Expression) -> tuple[tuple[str, str], ...]:
    """Return name and behaviour of the user-defined operators, which may mean something else in another process."""
    if expression.operator is None:
        return ()
    entry = operator_named(expression.operator)
    found = set() if entry.built_in else {(entry.name, operator_digest(entry))}
    return tuple(sorted(found.union(*(_user_defined(argument) for argument in expression.arguments))))
