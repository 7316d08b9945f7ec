"""Check whether a search can run here: versions, Ray, GPUs, database, storage, data, clocks and limits.

Each check reports what it found and, if something is wrong, the remedy. Nothing is created or changed, except small
files that are removed again. `node_report` collects the facts about each node of a cluster.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from aquasurf_ray.driver.cluster.connection import AUTHENTICATION, LOOPBACKS, connected, host_of
from aquasurf_ray.driver.errors import DriverError
from aquasurf_ray.driver.examine.machine import SHARED_MEMORY, Gpu, NodeReport, node_report
from aquasurf_ray.driver.examine.sentence import sentence
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.places import data_folder, storage_folder, store_url
from aquasurf_ray.driver.verbs.arguments import loaded_task
from aquasurf_ray.store import StoreHealth, examine
from aquasurf_ray.tasks.loaders import n_examples
from aquasurf_ray.workers.engine.checkpoints import CheckpointError, check_storage, mark_storage

Level = Literal["ok", "warning", "problem"]

OLDEST_PYTHON = (3, 11)
FEW_FILES = 4096  # Ray needs more than this on machines with many cores
SMALL_SHARED_MEMORY = 1 << 30  # containers get 64 MiB by default, too little for Ray's object store
LITTLE_SPACE = 1 << 30
SLOW_COMMIT = 0.1  # seconds; each training needs several commits
SKEW = 5.0  # seconds between two clocks; beyond this, times in reports are misleading
NODE_SECONDS = 60.0
BUSY_GPU = 0.5  # share of a GPU's memory that is in use by other processes


@dataclass(frozen=True)
class Finding:
    """One line of the report: the name of the check, its level, and what was found with its remedy."""

    check: str
    level: Level
    says: str


def examine_all(
    task: str | None,
    config: SearchConfig,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Run all checks in order and return their findings; a check that fails does not prevent the others.

    Args:
        task: a task whose data are checked too; None to skip this check.
        config: store, storage, Ray address and data folder, as for a search.
        on_finding: called after each finding.
    """
    done: list[Finding] = []
    here = node_report()
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": lambda: _versions(here),
        "limits": lambda: _limits(here),
        "gpus": lambda: _gpus(here),
        "store": lambda: _store(examine(store_url(config.store))),
        "storage": lambda: _storage(config),
        "data": lambda: _data(task, config) if task is not None else iter(()),
        "ray": lambda: _ray(config, here),
    }
    for name, check in checks.items():
        for finding in _tried(name, check):
            done.append(finding)
            on_finding(finding)
    return done


def _tried(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except (Exception, SystemExit) as error:  # any error is a finding: this is what the check is for
        yield Finding(name, "problem", sentence(error))


def _versions(here: NodeReport) -> Iterator[Finding]:
    found = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    python = tuple(int(part) for part in here.versions["python"].split(".")[:2])
    if python < OLDEST_PYTHON:
        yield Finding("versions", "problem", f"{found}; Python 3.11 or newer is needed")
    else:
        yield Finding("versions", "ok", found)


def _limits(here: NodeReport) -> Iterator[Finding]:
    if 0 <= here.open_files < FEW_FILES:
        advice = f"{here.open_files} open files a process, Ray needs more on many cores; raise it: ulimit -n 65536"
        yield Finding("open files", "warning", advice)
    else:
        shown = f"{here.open_files:,}" if here.open_files >= 0 else "any number of"
        yield Finding("open files", "ok", f"{shown} open files a process")
    if here.shared_memory is None:
        yield Finding("memory", "warning", f"no {SHARED_MEMORY}; Ray uses slower files instead")
    elif here.shared_memory < SMALL_SHARED_MEMORY:
        advice = "in a container give it more: docker run --shm-size=2g"
        yield Finding("memory", "warning", f"{SHARED_MEMORY} has {_size(here.shared_memory)}; {advice}")
    else:
        yield Finding("memory", "ok", f"{SHARED_MEMORY} has {_size(here.shared_memory)}")


def _gpus(here: NodeReport) -> Iterator[Finding]:
    if here.gpu_problem is not None:
        yield Finding("gpus", "problem", here.gpu_problem)
    elif not here.gpus:
        yield Finding("gpus", "ok", "none here; workers use CPU cores")
    for gpu in here.gpus:
        yield Finding(f"gpu {gpu.index}", *_gpu(gpu))


def _gpu(gpu: Gpu) -> tuple[Level, str]:
    says = f"{gpu.name}, {_size(gpu.free_bytes)} of {_size(gpu.total_bytes)} free"
    others = f"; other processes on it: {', '.join(map(str, gpu.processes))}" if gpu.processes else ""
    if gpu.free_bytes < (1 - BUSY_GPU) * gpu.total_bytes:
        who = others or "; used by something else"
        return "warning", f"{says}{who}; end them, or exclude the GPU with CUDA_VISIBLE_DEVICES"
    return ("warning" if others else "ok"), says + others


def _store(health: StoreHealth) -> Iterator[Finding]:
    if health.problem is not None:
        yield Finding("store", "problem", health.problem)
        return
    descriptions = {
        "new": "does not exist yet; a search creates it",
        "current": f"schema {health.version}, current",
        "older": f"schema {health.version}, older; a search upgrades it, and older versions cannot open it then",
    }
    yield Finding(
        "store", "warning" if health.state == "older" else "ok", f"{health.url}: {descriptions[health.state]}"
    )
    if not health.writable:
        whose = "its rows" if health.kind == "postgresql" else "the file or its folder"
        yield Finding("store", "problem", f"{health.url}: you may not write {whose}; a search needs to")
    if health.free_bytes is not None and health.free_bytes < LITTLE_SPACE:
        text = f"{_size(health.free_bytes)} free on its disk; a search ends when that is full: make room"
        yield Finding("store", "warning", text)
    if health.commit_seconds is not None:
        slow = health.commit_seconds > SLOW_COMMIT
        advice = "; workers will wait for it: a faster disk or a nearer server helps" if slow else ""
        yield Finding("commit", "warning" if slow else "ok", f"{1000 * health.commit_seconds:.1f} ms{advice}")
    if health.network_file_system is not None:
        text = (
            f"the file is on {health.network_file_system}, where SQLite may lose data; use a local disk or PostgreSQL"
        )
        yield Finding("store", "warning", text)
    if health.journal not in (None, "wal"):
        yield Finding(
            "store", "warning", f"journal mode {health.journal}, wal is expected; readers will block the driver"
        )
    if health.superuser:
        text = "the user is a superuser, who may do anything on the server; search as a role: aquasurf roles"
        yield Finding("store", "warning", text)
    if health.clock_ahead is not None:
        yield _clock("the database's clock", health.clock_ahead)


def _clock(whose: str, ahead: float) -> Finding:
    if abs(ahead) < SKEW:
        return Finding("clock", "ok", f"{whose} agrees with this machine's to {abs(ahead):.1f} s")
    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "clock", "warning", f"{whose} is {abs(ahead):.0f} s {way} this machine's; run a time service on both"
    )


def _storage(config: SearchConfig) -> Iterator[Finding]:
    place = storage_folder(config)
    try:
        check_storage(place)
    except CheckpointError as error:
        yield Finding("storage", "problem", f"{error}; give another --storage")
        return
    free = _free_bytes(place)
    if free is not None and free < LITTLE_SPACE:
        yield Finding("storage", "warning", f"{place}: {_size(free)} free; epoch checkpoints may not fit")
    else:
        yield Finding("storage", "ok", f"{place}: writable{'' if free is None else f', {_size(free)} free'}")


def _free_bytes(place: str) -> int | None:
    """Return the free bytes of a storage place; None where they are unknown, as for object storage."""
    if "://" in place:
        return None
    folder = next(path for path in (Path(place), *Path(place).absolute().parents) if path.exists())
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _data(task: str, config: SearchConfig) -> Iterator[Finding]:
    loaded = loaded_task(task, config)  # reads the data, since the digest covers them
    sizes = {name: n_examples(split) for name, split in loaded.splits().named().items()}
    shown = ", ".join(f"{n:,} {name}" for name, n in sizes.items())
    where = data_folder(config)
    yield Finding("data", "ok", f"{loaded.name}: {shown}, digest {loaded.digest}{f', in {where}' if where else ''}")


def _ray(config: SearchConfig, here: NodeReport) -> Iterator[Finding]:
    import ray

    with ExitStack() as stack:
        try:
            stack.enter_context(connected(config.address))
        except DriverError as error:
            yield Finding("ray", "problem", str(error))
            return
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        has = f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
        where = "started privately" if config.address is None else f"cluster at {config.address}"
        yield Finding("ray", "ok", f"{where}: {has}")
        if config.address is not None:
            yield _token(config.address)
        try:
            mark = stack.enter_context(_marked(config))
        except CheckpointError:  # already reported by the storage check
            mark = None
        reports = _ask_nodes(mark)
    yield from _nodes(reports, here, config, mark)


def _token(address: str) -> Finding:
    if os.environ.get(AUTHENTICATION) == "token":
        return Finding("token", "ok", "this driver authenticates with a token")
    text = "the cluster requires no token: anyone who reaches it can run programs; start its nodes and the driver with"
    level: Level = "ok" if host_of(address) in LOOPBACKS else "warning"
    return Finding("token", level, f"{text} {AUTHENTICATION}=token")


@contextmanager
def _marked(config: SearchConfig) -> Iterator[str]:
    """Put a small file into the storage for nodes to look for, and yield its path. No folder is created for it."""
    with mark_storage(storage_folder(config), f"aquasurf-doctor-{uuid.uuid4().hex}") as mark:
        yield mark


def _ask_nodes(mark: str | None) -> list[NodeReport | str]:
    """Return the report of every live node, or the reason why it has none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A node reads its clock at an unknown moment between request and reply: only what lies outside is an offset.
    asked_at = time.time()
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    ask: Any = ray.remote(num_cpus=0, max_retries=0)(node_report)
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    asked = [ask.options(scheduling_strategy=node).remote(mark) for node in strategies]
    answers: list[NodeReport | str] = []
    for node, question in zip(nodes, asked, strict=True):
        try:
            report = ray.get(question, timeout=NODE_SECONDS)
            answers.append(replace(report, time_ahead=_outside(report.time, asked_at, time.time())))
        except Exception as error:  # anything: the node may lack this package, or be gone
            answers.append(f"{node['NodeManagerHostname']}: {sentence(error)[:300]}")
    return answers


def _outside(value: float, first: float, last: float) -> float:
    """Return how far a value lies before (negative) or after an interval; 0 within it.

    >>> _outside(1, 2, 5), _outside(3, 2, 5), _outside(9, 2, 5)
    (-1, 0.0, 4)
    """
    return value - first if value < first else value - last if value > last else 0.0


def _nodes(
    answers: Sequence[NodeReport | str], here: NodeReport, config: SearchConfig, mark: str | None
) -> Iterator[Finding]:
    for answer in answers:
        if isinstance(answer, str):
            yield Finding("node", "problem", f"{answer}; install the same version there")
    reports = [answer for answer in answers if isinstance(answer, NodeReport)]
    for report in reports:
        yield _node(report, here)
        if config.address is not None:
            yield _clock(f"{report.host}'s clock", report.time_ahead)
            yield from (
                Finding(finding.check, finding.level, f"{report.host}: {finding.says}")
                for finding in (*_limits(report), *_gpus(report))
                if finding.level != "ok"
            )
    blind = [report.host for report in reports if not report.sees_mark]
    if blind:
        place = storage_folder(config)
        text = f"{place} is not the same place on {', '.join(blind)}; give a shared folder or a URI: --storage"
        yield Finding("storage", "warning", text)
    elif config.address is not None and mark is not None:
        yield Finding("storage", "ok", f"the same place on all {len(reports)} nodes")


def _node(report: NodeReport, here: NodeReport) -> Finding:
    ours = {name: version for name, version in here.versions.items() if name != "python"}
    differing = [
        f"{name} {report.versions.get(name)}, here {version}"
        for name, version in ours.items()
        if report.versions.get(name) != version
    ]
    if differing:
        return Finding("node", "problem", f"{report.host} has {'; '.join(differing)}; install the same versions")
    return Finding("node", "ok", f"{report.host}: {report.n_cpus} cores, {len(report.gpus)} GPUs, the same versions")


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as a JSON-ready document."""
    return {
        "ok": all(finding.level != "problem" for finding in findings),
        "findings": [{"check": f.check, "level": f.level, "says": f.says} for f in findings],
    }
