"""Check a task within a minute: its network, its data, one batch, one spectrum, two training steps, in this order, and
a forecast of a search.

Each step does what a search would do, with the same code, on less of the data. The first step that fails ends the
check, with a sentence that says what is wrong.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from aquasurf_ray.cpu_threads import WORKER_THREADS, torch_threads
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.examine.check_steps import CheckSteps
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.tasks.errors import UnknownTask
from aquasurf_ray.tasks.seeding import seeded


@dataclass(frozen=True)
class CheckStep:
    """The outcome of one step: its name, whether it succeeded, and a sentence on what was found or is wrong.

    `traceback` is that of the error, down to the user's code, where the step has failed.
    """

    name: str
    ok: bool
    says: str
    seconds: float
    traceback: str | None = None


def check_task(
    name: str,
    *,
    download: bool = False,
    device: str | None = None,
    candidates: int = 200,
    evaluations: int = 40,
    workers: int | None = None,
    on_step: Callable[[CheckStep], None] = lambda step: None,
) -> list[CheckStep]:
    """Run the steps until one fails, and return them; all are `ok` if the task can be searched.

    On a CPU, PyTorch has the threads of a worker meanwhile, so the times of the steps are those of a worker.

    Args:
        name: the name of a task, or `package.module:function`.
        download: download the task's data set first, unless it is there already.
        device: the device to use, as PyTorch names it; by default a GPU if there is one.
        candidates, evaluations, workers: the search to forecast; by default a worker per GPU, or per CPU core.
        on_step: called after each step.

    Raises:
        BadUse: there is no such task or device, or its module or function raises, which the error has as its cause, or
            `download` is requested for a task that brings its own data.
    """
    try:
        task = load_task(name, import_from=Path.cwd())
    except UnknownTask as error:
        raise BadUse(sentence(error)) from None
    except TaskError as error:  # from the user's own module or function, which the cause shows
        raise BadUse(sentence(error)) from error
    check = CheckSteps(task, _device(device), name)
    steps = {
        "network": check.network,
        "data": check.data,
        "batch": check.batch,
        "spectrum": check.spectrum,
        "training": check.training,
        "forecast": lambda: check.forecast(candidates, evaluations, workers),
    }
    if download:
        steps = {"download": _downloading(name)} | steps
    done: list[CheckStep] = []
    for step, work in steps.items():
        # The network may draw random numbers; the process's generators and threads stay as found.
        with seeded(0, check.device), torch_threads(WORKER_THREADS):
            done.append(_tried(step, work))
        on_step(done[-1])
        if not done[-1].ok:
            break
    return done


def _tried(name: str, work: Callable[[], str]) -> CheckStep:
    started = time.monotonic()
    try:
        says = work()
    except (Exception, SystemExit) as error:  # the user's code: whatever it raises is what is wrong with the task
        trace = "".join(traceback.format_exception(error))
        return CheckStep(name, False, sentence(error), time.monotonic() - started, trace)
    return CheckStep(name, True, says, time.monotonic() - started)


def _device(asked: str | None) -> torch.device:
    n_gpus = torch.cuda.device_count()
    known = {"cpu", *(["cuda"] if n_gpus else []), *(f"cuda:{i}" for i in range(n_gpus))}
    if asked is not None and asked not in known:
        raise BadUse(f"device must be one of {', '.join(sorted(known))}, got '{asked}'")
    return torch.device(asked or ("cuda" if n_gpus else "cpu"))


def _downloading(task: str) -> Callable[[], str]:
    from aquasurf_ray.tasks import data_sets
    from aquasurf_ray.tasks.registry import data_set_of

    name = data_set_of(task)
    if name is None:
        raise BadUse(f"task '{task}' brings its own data; --download is for the data sets of built-in tasks")

    def download() -> str:
        data_sets.download(name, data_sets.data_folder())
        return f"data set '{name}' is in {data_sets.data_folder()}"

    return download
