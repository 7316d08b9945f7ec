"""A machine's report on itself: versions, limits, its clock, and its GPUs with their free memory and processes.

`aquasurf doctor` takes a report of this machine and, through Ray, of every node.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pynvml

PACKAGES = ("aquasurf-ray", "torch", "ray", "numpy")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - its size is asked for, nothing is written there


@dataclass(frozen=True)
class Gpu:
    """A GPU; `processes` are the ids of the processes that compute on it, other than this one."""

    index: int
    name: str
    free_bytes: int
    total_bytes: int
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class NodeReport:
    """One machine. `open_files` is -1 where there is no limit; `shared_memory` is in bytes.

    `gpu_problem` is a sentence where the GPUs' driver and PyTorch do not fit each other. `time` is in seconds since
    1970 by the machine's own clock; `time_ahead` is a lower bound of its lead over the clock of the machine that asked.
    """

    host: str
    versions: dict[str, str]
    open_files: int
    shared_memory: int | None
    gpus: tuple[Gpu, ...]
    gpu_problem: str | None
    n_cpus: int
    time: float = field(default_factory=time.time)
    time_ahead: float = 0.0
    sees_mark: bool = True


def node_report(mark: str | None = None) -> NodeReport:
    """Report on the machine that this runs on; `mark` is a file that a node of a cluster looks for.

    Ray hides a node's GPUs from a process that has requested none, so PyTorch is not asked there.
    """
    gpus, problem = _gpus() if mark is None else (_listed_gpus(), None)
    return NodeReport(
        host=platform.node(),
        versions=_versions(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],  # the hard limit, to which Ray raises the soft one
        shared_memory=_shared_memory(),
        gpus=gpus,
        gpu_problem=problem,
        n_cpus=len(os.sched_getaffinity(0)),
        sees_mark=mark is None or _exists(mark),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _shared_memory() -> int | None:
    try:
        return shutil.disk_usage(SHARED_MEMORY).total
    except OSError:
        return None


def _exists(mark: str) -> bool:
    import fsspec

    try:
        file_system, path = fsspec.core.url_to_fs(mark)
        return bool(file_system.exists(path))
    except (OSError, ValueError, ImportError):
        return False


def _gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """Return the GPUs of this machine, and the problem that keeps PyTorch from using them, if there is one."""
    found = _listed_gpus()
    if not found or _usable():
        return found, None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip("-1 "):
        return (), None  # the user has hidden the GPUs on purpose
    import torch

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    torchs = f"PyTorch {torch.__version__}, built {build}, can use none"
    return (
        (),
        f"{len(found)} GPUs with driver {_driver_version()}, but {torchs}; install a driver and a PyTorch that fit",
    )


def _listed_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that NVIDIA's driver lists, whatever CUDA_VISIBLE_DEVICES hides; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        found = [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()
    return tuple(gpu for gpu in found if gpu is not None)


def _gpu(index: int) -> Gpu | None:
    """Return one GPU; None if the driver has lost it, or if it has no memory of its own to report."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(index, pynvml.nvmlDeviceGetName(handle), memory.free, memory.total, _processes(handle))
    except pynvml.NVMLError:
        return None


def _processes(handle: Any) -> tuple[int, ...]:
    """Return the ids of the other processes that compute on a GPU; containers and GPUs in MIG slices show none."""
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        return ()
    return tuple(sorted(process.pid for process in running if process.pid != os.getpid()))


def _driver_version() -> str:
    pynvml.nvmlInit()
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


def _usable() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
