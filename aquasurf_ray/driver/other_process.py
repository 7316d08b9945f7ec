"""The same task in another process: whether its network, data and settings are the same there.

Every worker makes the task again, and so does `resume`, another day. Data that are drawn from a generator without a
seed, or whose classes are numbered in the order of a set, are others each time, and a run on them mixes tasks. The
other process has another hash seed, which orders sets. It compares the task's digest, part by part, and the values of a
batch of the training and validation examples, which the digest leaves out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from aquasurf_ray.driver.user_modules import own_import_path
from aquasurf_ray.tasks import Splits, Task, TaskError, load_task
from aquasurf_ray.tasks.errors import differing_parts, other_parts
from aquasurf_ray.tasks.inputs import named_tensors
from aquasurf_ray.tasks.loaders import leading_batches
from aquasurf_ray.tasks.registry import TIMM
from aquasurf_ray.tasks.seeding import seeded

LONGEST = 60.0
"""Seconds that the other process may take: a check should not wait for long data twice."""
N_EXAMPLES = 8
SPLITS = ("train", "validation")
TOLERANCE = 1e-3
"""Of means and deviations, which threads and processors may compute with other last bits."""


@dataclass(frozen=True)
class Description:
    """A task in one process: the digests of its parts, and mean and deviation of tensors, by split and name."""

    digests: Mapping[str, str]
    values: Mapping[str, list[float]]


def refuse_other_in_another_process(name: str, task: Task, splits: Splits) -> str | None:
    """Refuse a task that is another one in a second process.

    Args:
        name: loads the task there. A built-in task, which has no colon in its name, is the same everywhere.
        splits: the task's data, loaded.

    Returns:
        Why the two could not be compared, if so.

    Raises:
        TaskError: names the part that differs, and what to do.
    """
    if ":" not in name or name.startswith(TIMM):
        return None
    mine = _description(task, splits)
    try:
        other = _described_elsewhere(name)
    except TaskError as error:
        return str(error)
    if differing := _differing(mine, other):
        raise TaskError(f"{other_parts(task.name, differing)} in each process")
    return None


def _described_elsewhere(name: str) -> Description:
    """Return the description of a task by a process of its own.

    Raises:
        TaskError: the process has failed, or takes too long.
    """
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(_import_path())}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "description.json"
        command = [sys.executable, "-m", __name__, name, str(path)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise TaskError(f"not compared with a second process, where it takes longer than {LONGEST:g} s") from None
        if done.returncode or not path.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise TaskError(f"not compared with a second process, where it fails: {last}")
        return Description(**json.loads(path.read_text()))


def _import_path() -> list[str]:
    return [*own_import_path(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _description(task: Task, splits: Splits) -> Description:
    values = {f"{name} {key}": moments for name in SPLITS for key, moments in _values(name, splits).items()}
    return Description(task.digests, values)


def _values(split: str, splits: Splits) -> dict[str, list[float]]:
    """Return mean and deviation of the tensors of a split's first batch; those that are drawn at each reading, as by an
    augmentation, have none."""
    first, second = (_first_batch(split, splits, seed) for seed in (0, 1))
    return {name: _moments(first[name]) for name in first if torch.equal(first[name], second[name])}


def _first_batch(split: str, splits: Splits, seed: int) -> dict[str, Tensor]:
    with seeded(seed, torch.device("cpu")):
        inputs, targets = next(leading_batches(splits.named()[split], N_EXAMPLES))
    return {**dict(named_tensors(inputs)), "target of the item": targets}


def _moments(tensor: Tensor) -> list[float]:
    values = tensor.double().flatten()
    return [float(values.mean()), float(values.std(correction=0))]


def _differing(mine: Description, other: Description) -> list[str]:
    """Return the parts of the task that differ."""
    found = set(differing_parts(mine.digests, other.digests))
    for name in mine.values.keys() & other.values.keys():
        if not np.allclose(mine.values[name], other.values[name], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            found.add("data")
    return sorted(found)


def _main(name: str, path: str) -> None:
    task = load_task(name, import_from=Path.cwd())
    splits = task.splits()
    Path(path).write_text(json.dumps(asdict(_description(task, splits))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
