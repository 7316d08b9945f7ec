"""What a machine says of itself: versions, limits, GPUs with what is free on them and who else is there, its clock.

It is asked of this machine, and through Ray of every node, so it needs nothing that is not there anyway.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("aquasurf-ray", "torch", "ray", "numpy")
NVIDIA_SECONDS = 20.0
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - its size is asked for, nothing is written there


@dataclass(frozen=True)
class Gpu:
    """A GPU; `processes` are the ids of those that use it, this one left out."""

    index: int
    name: str
    free_bytes: int
    total_bytes: int
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class NodeReport:
    """One machine. `open_files` is -1 where there is no limit; `shared_memory` is in bytes.

    `gpu_problem` is a sentence where the driver of the GPUs and PyTorch do not agree. `time` is in seconds since 1970
    by the machine's own clock, and `time_ahead` what that is known to be before the clock of who asked, at least.
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
    """Of the machine that this runs on; `mark` is a file that a node of a cluster looks for.

    Ray hides the GPUs of a node from a process that has asked for none, so PyTorch is not asked there.
    """
    gpus, problem = _gpus() if mark is None else (_listed_gpus(), None)
    return NodeReport(
        host=platform.node(),
        versions=_versions(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
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
    """The GPUs of this machine, or what keeps PyTorch from using them."""
    found = _listed_gpus()
    if not found or _usable():
        return found, None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip("-1 "):
        return (), None  # on purpose
    import torch

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    driver = _nvidia("--query-gpu=driver_version")[0][0]
    torchs = f"PyTorch {torch.__version__}, built {build}, can use none"
    return (), f"{len(found)} GPUs with driver {driver}, but {torchs}; install a driver and a PyTorch that fit"


def _listed_gpus() -> tuple[Gpu, ...]:
    listed = _nvidia("--query-gpu=index,name,memory.free,memory.total")
    processes = _processes() if listed else {}
    return tuple(
        Gpu(int(index), name, int(free) << 20, int(total) << 20, processes.get(int(index), ()))
        for index, name, free, total in listed
        if free.isdigit() and total.isdigit()
    )


def _usable() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _processes() -> dict[int, tuple[int, ...]]:
    """Who else computes on which GPU; in a container the driver shows nobody."""
    indices = {uuid: int(index) for index, uuid in _nvidia("--query-gpu=index,uuid")}
    found: dict[int, tuple[int, ...]] = {}
    for uuid, pid in _nvidia("--query-compute-apps=gpu_uuid,pid"):
        if uuid in indices and pid.isdigit() and int(pid) != os.getpid():
            found[indices[uuid]] = (*found.get(indices[uuid], ()), int(pid))
    return found


def _nvidia(query: str) -> list[list[str]]:
    """The rows of NVIDIA's own tool; none where it is not there or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
