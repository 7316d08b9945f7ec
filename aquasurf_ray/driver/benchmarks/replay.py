"""Simulated searches in parallel: `analysis.replay.simulation` in Ray tasks, a few runs of one policy in each.

Invariants: run i of every policy has the seed `seed + i`, so that runs are paired across policies, and a trace depends
only on its policy, its seed and the order, not on chunks, processors or the order of the tasks. The benchmark is put
into Ray's object store once and unpacked once per process. The first task of a policy only constructs the policy, which
fills the cache of embeddings on disk. The searches with it start then, while the next policy is constructed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import ray
from ray.exceptions import RayError

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.algorithms import Factory, make_policy
from aquasurf_ray.analysis.replay.simulation import Observe, Trace, draw_candidates, simulate
from aquasurf_ray.driver.cluster.connection import connected
from aquasurf_ray.driver.cluster.ray_errors import cause_of
from aquasurf_ray.driver.errors import BadUse, RunFailed
from aquasurf_ray.driver.run.signals import StopSignal
from aquasurf_ray.surrogate.errors import SurrogateError
from aquasurf_ray.surrogate.policy import Policy

CHUNKS_A_POLICY = 20  # small enough for even progress and load, large enough to hide the cost of a task
MADE_FIRST = 5  # policies that the first task constructs, one per run, since an embedding may depend on the seed
BATCH_POLL_SECONDS = 0.2  # also the longest time until a signal is noticed
CANCEL_SECONDS = 2.0
CANDIDATES_SEED = 2**40  # offset that makes the draw of candidates independent of the policy's random numbers

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReplayOrder:
    """The simulations to run.

    Args:
        policies: the names of search algorithms, see `analysis.replay.algorithms`.
        runs: the number of runs of each policy.
        evaluations: the number of evaluations of each run, after the baselines.
        workers: the number of simultaneous trainings of a simulated search.
        seed: the seed of the first run; each further run adds 1.
        observe: the scores that a search sees, see `analysis.replay.simulation.simulate`.
        candidates: how many functions each run can choose from, drawn by its seed; 0 for all. On all of them a policy
            does nearly the same in every run.
        own: the caller's own search algorithms, by the names that `policies` uses.

    Raises:
        BadUse: a number is below 1, the seed is negative, there is no policy, or one is given twice.
    """

    policies: tuple[str, ...]
    runs: int = 100
    evaluations: int = 100
    workers: int = 1
    seed: int = 0
    observe: Observe = "draw"
    candidates: int = 0
    own: Mapping[str, Factory] | None = None

    def __post_init__(self) -> None:
        for name in ("runs", "evaluations", "workers"):
            if getattr(self, name) < 1:
                raise BadUse(f"{name}: at least one is needed, got {getattr(self, name)}")
        if self.observe not in get_args(Observe):
            raise BadUse(f"observe must be one of {', '.join(get_args(Observe))}, got '{self.observe}'")
        for name in ("seed", "candidates"):
            if getattr(self, name) < 0:
                raise BadUse(f"{name}: it must not be negative, got {getattr(self, name)}")
        if not self.policies:
            raise BadUse("no search algorithm given; name one, such as random or knr/both/umap")
        twice = [name for name in self.policies if self.policies.count(name) > 1]
        if twice:
            raise BadUse(f"search algorithm '{twice[0]}' is given twice; name it once")


@dataclass(frozen=True)
class _Chunk:
    """Runs of one policy, from number `first` on; with `only_made` their policies are only constructed."""

    policy: str
    first: int
    runs: int
    only_made: bool = False


def replay(
    benchmark: Benchmark, order: ReplayOrder, *, address: str | None = None, on_progress: Progress | None = None
) -> dict[str, list[Trace]]:
    """Simulate all runs and return the traces of each policy, run by run.

    Args:
        benchmark: the benchmark that answers instead of trainings.
        order: the simulations to run.
        address: the address of a Ray cluster; by default Ray starts on this machine.
        on_progress: called with the numbers of finished and requested runs, whenever some have finished.

    Raises:
        BadUse: the benchmark has too few functions to train, or a policy cannot be constructed.
        RunFailed: a search algorithm raised an error, or a process was lost.
        KeyboardInterrupt: Ctrl-C or SIGTERM arrived.
    """
    _check_budget(benchmark, order)
    with StopSignal() as stop, connected(address):
        stop.install()  # again: `ray.init` has replaced the handlers
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        slots = max(1, int(total.get("CPU", 1.0)))
        return _Replay(order, ray.put(benchmark), slots, on_progress).traces(stop)


class _Replay:
    """The tasks still to start, the running tasks, and the traces so far."""

    def __init__(self, order: ReplayOrder, benchmark: Any, slots: int, on_progress: Progress | None) -> None:
        self._order, self._benchmark, self._slots = order, benchmark, slots
        self._on_progress = on_progress
        self._to_make = deque(
            _Chunk(policy, 0, min(order.runs, MADE_FIRST), only_made=True) for policy in order.policies
        )
        self._to_run: deque[_Chunk] = deque()
        self._running: dict[Any, _Chunk] = {}
        self._traces: dict[str, dict[int, Trace]] = {policy: {} for policy in order.policies}

    def traces(self, stop: StopSignal) -> dict[str, list[Trace]]:
        """Run all tasks and return the traces."""
        try:
            while self._to_make or self._to_run or self._running:
                self._start()
                done, _ = ray.wait(list(self._running), timeout=BATCH_POLL_SECONDS)
                if stop.received:
                    raise KeyboardInterrupt
                for future in done:
                    self._take(self._running.pop(future), future)
        finally:
            self._abandon()
        return {policy: [runs[i] for i in sorted(runs)] for policy, runs in self._traces.items()}

    def _abandon(self) -> None:
        """Cancel the running tasks after an error or a signal, and read their errors, or Ray would print them."""
        for future in self._running:
            ray.cancel(future)
        for future in self._running:
            with suppress(RayError):
                ray.get(future, timeout=CANCEL_SECONDS)

    def _start(self) -> None:
        """Fill the free slots with tasks; at most half of them construct policies, which often share an embedding."""
        run: Any = _simulated
        while len(self._running) < self._slots and (chunk := self._next()) is not None:
            self._running[run.remote([self._benchmark], self._order, chunk)] = chunk

    def _next(self) -> _Chunk | None:
        making = sum(chunk.only_made for chunk in self._running.values())
        if self._to_make and making < max(1, self._slots // 2):
            return self._to_make.popleft()
        return self._to_run.popleft() if self._to_run else None

    def _take(self, chunk: _Chunk, future: Any) -> None:
        traces = _result(chunk, future)
        if chunk.only_made:
            self._to_run.extend(_chunks(chunk.policy, self._order.runs))
            return
        self._traces[chunk.policy].update(enumerate(traces, chunk.first))
        if self._on_progress is not None:
            done = sum(map(len, self._traces.values()))
            self._on_progress(done, self._order.runs * len(self._order.policies))


@ray.remote(num_cpus=1)
def _simulated(benchmark: Sequence[Any], order: ReplayOrder, chunk: _Chunk) -> list[Trace]:
    """Return the chunk's traces. The benchmark is a reference inside a list, since Ray resolves bare references."""
    world = _unpacked(benchmark[0])
    make = (order.own or {}).get(chunk.policy) or (lambda world, seed: make_policy(chunk.policy, world, seed))
    seeds = range(order.seed + chunk.first, order.seed + chunk.first + chunk.runs)
    if chunk.only_made:
        for seed in seeds:
            make(world, seed)
        return []
    return [_trace(make(world, seed), world, order, seed) for seed in seeds]


def _trace(policy: Policy, world: Benchmark, order: ReplayOrder, seed: int) -> Trace:
    candidates = draw_candidates(world, order.candidates, CANDIDATES_SEED + seed) if order.candidates else None
    return simulate(
        policy,
        world,
        order.evaluations,
        seed=seed,
        workers=order.workers,
        observe=order.observe,
        candidates=candidates,
    )


@lru_cache(maxsize=1)
def _unpacked(reference: Any) -> Benchmark:
    """Return the benchmark: one object for all tasks of this process, so that its cached properties are shared."""
    benchmark: Benchmark = ray.get(reference)
    return benchmark


def _chunks(policy: str, runs: int) -> list[_Chunk]:
    size = math.ceil(runs / CHUNKS_A_POLICY)
    return [_Chunk(policy, first, min(size, runs - first)) for first in range(0, runs, size)]


def _result(chunk: _Chunk, future: Any) -> list[Trace]:
    try:
        traces: list[Trace] = ray.get(future)
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, (AnalysisError, SurrogateError)):
            raise BadUse(f"{chunk.policy}: {cause}") from None
        raise RunFailed(f"{chunk.policy} cannot be simulated: {cause_of(error)}") from None
    return traces


def _check_budget(benchmark: Benchmark, order: ReplayOrder) -> None:
    n_known = len(benchmark.candidates)
    if order.candidates > n_known:
        raise BadUse(f"candidates: benchmark '{benchmark.name}' has {n_known} to train, got {order.candidates}")
    if order.evaluations > (order.candidates or n_known):
        raise BadUse(
            f"evaluations: a search on '{benchmark.name}' can choose from {order.candidates or n_known} functions "
            f"besides the baselines, got {order.evaluations}"
        )
