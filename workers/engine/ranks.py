"""Several processes that train one network together, each on its share of every batch.

Gradients are averaged by PyTorch's DistributedDataParallel, and each process weighs its loss by the share of targets
that count in its part of the batch, so that an update is the one that a single process would make, also for a last
batch that is smaller and for examples with different numbers of targets. All processes keep the same
weights, optimiser and averages. Batch norm normalises over all shares (`shared_norm`). What a network draws at random,
such as dropout masks, differs.

Each training has three groups of processes: one for gradients, with the backend of the caller's group, and two on gloo,
for messages and for the weights of batches that no process knows as a whole. All processes exchange a message at the
same points: after each epoch, at the end, or when they fail. A process that fails first breaks up the other two groups,
so that the others, which wait for its gradients, get an error at once and reach the message too (on gloo; on NCCL after
`STEP_TIMEOUT` at the latest). By the message all of them learn the cause and report it: the function's fault becomes
everybody's result, an infrastructure failure becomes everybody's `RankError`. No process waits for ever: at most
`STEP_TIMEOUT` for the others to begin and for a step, at most the task's time limit for a message.

PyTorch 2.6 ends a group while it holds the interpreter's lock, and joins threads that may be about to ask for it, to
free a tensor that Python has seen and dropped. So tensors that go through a group stay referenced here until the group
is gone.
"""

from __future__ import annotations

import gc
import pickle
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.engine.batches import WHOLE, Share
from aquasurf_ray.workers.engine.seeding import seeded
from aquasurf_ray.workers.engine.shared_norm import share_batch_norms
from aquasurf_ray.workers.faults import FunctionFault, is_function_fault, reason_of
from aquasurf_ray.workers.fisher.left_as_found import state_kept

# Far above any step: only a process that hangs, or is gone, takes longer.
STEP_TIMEOUT = timedelta(minutes=10)
BROKEN_CONNECTION = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "process group")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of one training, inside a process group that exists already.

    Args:
        rank: from 0; rank 0 validates, tests, writes checkpoints and reports epochs.
        world_size: how many train together.
        device: this process's own.

    Raises:
        ValueError: the rank is outside of the world.
    """

    rank: int
    world_size: int
    device: torch.device

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in [0, {self.world_size}), got {self.rank}")


class RankError(RuntimeError):
    """Another process of this training failed, or is gone; the message names it and the reason."""


class _Failure(NamedTuple):
    rank: int
    is_functions: bool
    is_consequence: bool
    reason: str


class Alone:
    """One process that trains by itself: the interface of `Together` without other processes."""

    rank = 0
    size = 1
    share = WHOLE

    def parallel(self, network: nn.Module, outputs: Callable[[], Tensor]) -> nn.Module:
        """Return the network as its training steps call it; `outputs` are those of its first step."""
        return network

    def begin_step(self, *, is_shared: bool) -> None:
        """Note whether the processes have different parts of the step's batch; else each has the whole."""

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return value

    def total_weight(self, weight: float) -> float:
        """Return the sum over all processes of what their batches count for, without the GPU."""
        return weight

    def from_first(self, value: Value) -> Value:
        """Return rank 0's value. All processes call this, and learn here that one has failed."""
        return value

    def state_from_first(self, state: Value) -> Value:
        """Return rank 0's state, which may be large."""
        return state

    def cause(self, error: Exception) -> Exception:
        """Return the error that all processes report, after this one met `error`."""
        return error

    def close(self) -> None:
        """End the groups."""


class Together(Alone):
    """This process among those that train one network.

    Raises:
        RuntimeError: there is no process group, or it has another size.
        RankError: the others do not begin a training.
    """

    def __init__(self, ranks: Ranks, longest_wait: timedelta) -> None:
        import torch.distributed as dist

        if not dist.is_initialized() or dist.get_world_size() != ranks.world_size:
            found = f"one of {dist.get_world_size()}" if dist.is_initialized() else "none"
            raise RuntimeError(
                f"ranks need an initialised process group of {ranks.world_size} processes, found {found}"
            )
        self._dist = dist
        self._device = ranks.device
        self.rank, self.size = ranks.rank, ranks.world_size
        self.share = Share(ranks.rank, ranks.world_size)
        self._is_settled = False
        self._is_shared = True
        # These tensors go through groups, and so must outlive them: see the last paragraph above.
        self._total = torch.zeros((), dtype=torch.float64, device=ranks.device)
        self._sent: list[Tensor] = []
        self._statistics: dict[int, Tensor] = {}
        self._weight = torch.zeros((), dtype=torch.float64)
        self._gradients: Any = None
        self._weights: Any = None
        self._messages: Any = None
        try:
            self._gradients = dist.new_group(timeout=STEP_TIMEOUT)
            self._weights = dist.new_group(backend="gloo", timeout=STEP_TIMEOUT)
            self._messages = dist.new_group(backend="gloo", timeout=longest_wait)
        except RuntimeError as error:
            self.close()
            raise RankError(f"rank {self.rank} of {self.size} begins alone: {reason_of(error)}") from error

    def parallel(self, network: nn.Module, outputs: Callable[[], Tensor]) -> nn.Module:
        """See `Alone.parallel`; batch norm layers of the network normalise over all processes from now on.

        Only the output goes into the loss, so only what it depends on waits for a gradient: other heads, layers
        that a step leaves out and layers that nothing calls have none, as in a single process. What a step leaves out
        is found in each step, but where reentrant checkpoints hide it until the backward pass: there, in the first.

        Raises:
            FunctionFault, RankError: a process has failed.
        """
        on_gpu = self._device.type == "cuda"
        with state_kept(network), seeded(0, self._device):
            is_hidden = self.from_first(_has_reentrant_checkpoints(outputs()))
        share_batch_norms(network, self._statistics_total, lambda: self._is_shared)
        return nn.parallel.DistributedDataParallel(
            _OnlyOutput(network, has_unused=not is_hidden),
            device_ids=[self._device] if on_gpu else None,
            process_group=self._gradients,
            # PyTorch's static graph handles reentrant checkpoints, whose parts run again in the backward pass; its
            # search for unused parameters handles graphs that change from step to step. They exclude each other.
            find_unused_parameters=not is_hidden,
            static_graph=is_hidden,
        )

    def begin_step(self, *, is_shared: bool) -> None:
        """See `Alone.begin_step`."""
        self._is_shared = is_shared

    def total(self, value: Tensor) -> Tensor:
        """See `Alone.total`."""
        self._dist.all_reduce(self._total.copy_(value), group=self._gradients)
        return self._total.clone()

    def _statistics_total(self, values: Tensor) -> Tensor:
        """Return the sum of a vector over all processes."""
        buffer = self._statistics.setdefault(len(values), torch.empty_like(values))
        self._dist.all_reduce(buffer.copy_(values), group=self._gradients)
        return buffer.clone()

    def total_weight(self, weight: float) -> float:
        """See `Alone.total_weight`."""
        self._dist.all_reduce(self._weight.fill_(weight), group=self._weights)
        return self._weight.item()

    def from_first(self, value: Value) -> Value:
        """See `Alone.from_first`.

        Raises:
            FunctionFault, RankError: a process has failed.
        """
        messages = self._exchanged(value if self.rank == 0 else None)
        failure = _first_cause(messages)
        if failure is not None:
            raise self._error(failure)
        result: Value = messages[0]
        return result

    def state_from_first(self, state: Value) -> Value:
        """See `Alone.state_from_first`."""
        box = [state if self.rank == 0 else None]
        self._dist.broadcast_object_list(box, src=0, group=self._messages)
        return box[0]  # type: ignore[return-value]

    def cause(self, error: Exception) -> Exception:
        """See `Alone.cause`; informs the others if they do not know yet."""
        if self._is_settled:
            return error
        # A broken connection tells that another process failed first, whose reason is the one to report.
        is_consequence = any(text in str(error) for text in BROKEN_CONNECTION)
        mine = _Failure(self.rank, is_function_fault(error), is_consequence, reason_of(error))
        self._abort_groups(error)
        try:
            failure = _first_cause(self._exchanged(mine)) or mine
        except RankError as lost:
            return lost if is_consequence else error
        return error if failure.rank == self.rank else self._error(failure)

    def close(self) -> None:
        """End the groups, of which some may be gone already."""
        for group in (self._gradients, self._weights, self._messages):
            if group is not None:
                self._dist.destroy_process_group(group)
        self._gradients = self._weights = self._messages = None

    def _exchanged(self, message: Any) -> list[Any]:
        text = bytearray(pickle.dumps(message))
        try:
            lengths = [int(length) for length in self._gathered(torch.tensor([len(text)]))]
            # Gathered tensors have one shape; a pickle ends with a mark of its own, so zeros after it do no harm.
            text.extend(bytes(max(lengths) - len(text)))
            texts = self._gathered(torch.frombuffer(text, dtype=torch.uint8))
        except RuntimeError as error:
            self._is_settled = True
            raise RankError(f"a process that trains with rank {self.rank} is gone: {reason_of(error)}") from error
        messages = [pickle.loads(text.numpy().tobytes()) for text in texts]  # noqa: S301 - from ranks of our own
        self._is_settled = any(isinstance(m, _Failure) for m in messages)
        return messages

    def _gathered(self, mine: Tensor) -> list[Tensor]:
        """Return the tensors of all ranks, which have one shape."""
        found = [torch.empty_like(mine) for _ in range(self.size)]
        self._sent += [mine, *found]
        self._dist.all_gather(found, mine, group=self._messages)
        return found

    def _error(self, failure: _Failure) -> Exception:
        if failure.is_functions:
            return FunctionFault(failure.reason)
        return RankError(f"rank {failure.rank} of {self.size} failed: {failure.reason}")

    def _abort_groups(self, error: Exception) -> None:
        """End the groups that others wait in during a step. Connections close with the last object that has them."""
        if self._gradients is None:
            return
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        for group in (self._gradients, self._weights):
            with suppress(RuntimeError):  # ending a group that is already broken raises this
                self._dist.destroy_process_group(group)
        group = self._gradients = self._weights = None
        gc.collect()  # a cycle may still hold a group, and with it the connection that the others wait on


class _OnlyOutput(nn.Module):
    """A network that returns its output and nothing else."""

    def __init__(self, network: nn.Module, *, has_unused: bool) -> None:
        super().__init__()
        self.network = network
        # Where DDP searches for unused parameters and finds none, it advises users to forbid the search.
        self.unused = nn.Parameter(torch.zeros((), device=next(network.parameters()).device)) if has_unused else None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return output_of(self.network(*args, **kwargs))


def _has_reentrant_checkpoints(outputs: Tensor) -> bool:
    """Return whether parts of a network run again, with their own graph, in the backward pass."""
    seen: set[Any] = set()
    waiting: list[Any] = [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _first_cause(messages: list[Any]) -> _Failure | None:
    """Return the first cause: an infrastructure failure before a function's fault, either before its consequences."""
    failures = [m for m in messages if isinstance(m, _Failure)]
    # Ties go to the lowest rank, so that all processes report the same cause.
    return min(failures, key=lambda f: (f.is_consequence, f.is_functions, f.rank), default=None)
