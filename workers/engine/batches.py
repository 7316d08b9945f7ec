"""Batches of a split, on the device, in an order that depends on nothing but seed and epoch.

Three kinds of splits, each with a source of batches of its own:

- a `TensorDataset` is indexed as a whole. It is moved to a GPU once if it takes at most a quarter of the memory that
  is free there, and else goes there batch by batch through pinned memory.
- any other data set goes through a `DataLoader` with `loader_workers` processes. Each batch is read with the global
  generators (torch, NumPy, Python) set from the epoch and its first example, so what a transformation draws does not
  depend on the number of processes.
- a `DataLoader` of the user is used as it is, batch size included; only its generators are set at the begin of each
  pass, and left as they were.

Where w processes train together, each gets its share of every batch: the first n mod w processes one example more than
the others. A batch that does not give two examples to each (an epoch's last, often) goes to all of them as a whole,
and counts for one w-th with each. Batch norm takes no batch of one: where an epoch's last batch would have a single
example it is left out, another one each time. A user's own `DataLoader` says itself what it drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.task import Examples, ExampleSet
from aquasurf_ray.workers.engine.seeding import seeded, stream_seed

RESIDENT_SHARE = 0.25
CPU = torch.device("cpu")


class Batch(NamedTuple):
    """Inputs and targets on the device, which count for `n` of the `n_together` examples of one step."""

    inputs: Tensor
    targets: Tensor
    n: float
    n_together: int


@dataclass(frozen=True)
class Share:
    """Which part of each batch is this process's."""

    index: int = 0
    of: int = 1

    def part(self, n: int) -> tuple[slice, float]:
        """Which examples of a batch of n, and for how many they count.

        >>> [Share(i, 3).part(7) for i in range(3)]
        [(slice(0, 3, None), 3.0), (slice(3, 5, None), 2.0), (slice(5, 7, None), 2.0)]
        >>> Share(1, 3).part(4)
        (slice(0, 4, None), 1.3333333333333333)
        """
        if n < 2 * self.of:
            return slice(0, n), n / self.of
        size, larger = divmod(n, self.of)
        begin = self.index * size + min(self.index, larger)
        end = begin + size + (self.index < larger)
        return slice(begin, end), float(end - begin)


WHOLE = Share()


class BatchSource(Protocol):
    """The batches of one split; `n_batches` are those of a training epoch."""

    n_batches: int

    def shuffled(self, order: torch.Generator, seed: int) -> Iterator[Batch]:
        """One training epoch. The order is drawn from `order`; all else that is random, from `seed`."""
        ...

    def in_order(self) -> Iterator[Batch]:
        """One pass in the split's own order."""
        ...

    def first(self, order: torch.Generator, seed: int) -> Batch:
        """The first batch of that training epoch."""
        return next(self.shuffled(order, seed))


def batch_source(
    examples: Examples, batch_size: int, device: torch.device, *, loader_workers: int = 0, share: Share = WHOLE
) -> BatchSource:
    """The source that fits the kind of split.

    Raises:
        TaskError: a `DataLoader` without a length.
    """
    if isinstance(examples, DataLoader):
        return _UsersLoader(examples, device, share)
    if isinstance(examples, TensorDataset):
        return _InMemory(examples.tensors, batch_size, device, share)
    return _Read(examples, batch_size, device, loader_workers, share)


class _InMemory(BatchSource):
    def __init__(self, tensors: Sequence[Tensor], batch_size: int, device: torch.device, share: Share) -> None:
        resident = device.type == "cuda" and _fits(tensors, device)
        self._inputs, self._targets = (t.to(device) if resident else t for t in tensors[:2])
        self._batch_size, self._device, self._share = batch_size, device, share
        self.n_batches = _n_batches(len(self._inputs), batch_size)

    def shuffled(self, order: torch.Generator, seed: int) -> Iterator[Batch]:
        permutation = torch.randperm(len(self._inputs), generator=order).to(self._inputs.device)
        for chosen in torch.split(permutation, self._batch_size)[: self.n_batches]:
            part, n = self._share.part(len(chosen))
            mine = chosen[part]
            yield self._batch(self._inputs[mine], self._targets[mine], n, len(chosen))

    def in_order(self) -> Iterator[Batch]:
        size = self._batch_size
        for inputs, targets in zip(torch.split(self._inputs, size), torch.split(self._targets, size), strict=True):
            yield self._batch(inputs, targets, len(inputs), len(inputs))

    def _batch(self, inputs: Tensor, targets: Tensor, n: float, n_together: int) -> Batch:
        if inputs.device != self._device:
            inputs, targets = _sent(inputs, self._device), _sent(targets, self._device)
        return Batch(inputs, targets, n, n_together)


class _Read(BatchSource):
    def __init__(
        self, examples: ExampleSet, batch_size: int, device: torch.device, loader_workers: int, share: Share
    ) -> None:
        self._examples, self._batch_size, self._device = examples, batch_size, device
        self._loader_workers, self._share = loader_workers, share
        self._size = len(examples)  # type: ignore[arg-type]
        self.n_batches = _n_batches(self._size, batch_size)

    def shuffled(self, order: torch.Generator, seed: int) -> Iterator[Batch]:
        yield from self._batches(self._permuted(order), self._share, seed, self._loader_workers)

    def first(self, order: torch.Generator, seed: int) -> Batch:
        return next(self._batches(self._permuted(order)[:1], self._share, seed, 0))

    def in_order(self) -> Iterator[Batch]:
        whole = torch.arange(self._size)
        yield from self._batches(torch.split(whole, self._batch_size), WHOLE, 0, self._loader_workers)

    def _permuted(self, order: torch.Generator) -> Sequence[Tensor]:
        return torch.split(torch.randperm(self._size, generator=order), self._batch_size)[: self.n_batches]

    def _batches(self, order: Sequence[Tensor], share: Share, seed: int, n_processes: int) -> Iterator[Batch]:
        chunks = [chunk.tolist() for chunk in order]
        parts = [share.part(len(chunk)) for chunk in chunks]
        loader: DataLoader[Any] = DataLoader(
            _SeededExamples(self._examples, seed),
            batch_sampler=[chunk[part] for chunk, (part, _) in zip(chunks, parts, strict=True)],
            num_workers=n_processes,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),
        )
        for (inputs, targets), chunk, (_, n) in zip(loader, chunks, parts, strict=True):
            yield Batch(_sent(inputs, self._device), _sent(targets, self._device), n, len(chunk))


class _SeededExamples(Dataset[tuple[Tensor, ...]]):
    """A data set whose transformations draw what they draw from the epoch and the batch alone."""

    def __init__(self, examples: ExampleSet, seed: int) -> None:
        self._examples, self._seed = examples, seed

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        all_at_once = getattr(self._examples, "__getitems__", None)
        with seeded(stream_seed(self._seed, indices[0]), CPU):
            return all_at_once(indices) if all_at_once else [self._examples[i] for i in indices]


class _UsersLoader(BatchSource):
    def __init__(self, loader: DataLoader[tuple[Tensor, ...]], device: torch.device, share: Share) -> None:
        self._loader, self._device, self._share = loader, device, share
        try:
            self.n_batches = len(loader)
        except TypeError as error:
            raise TaskError(f"a DataLoader must have a length, which schedules need: {error}") from error

    def shuffled(self, order: torch.Generator, seed: int) -> Iterator[Batch]:
        yield from self._batches(self._share, seed)

    def in_order(self) -> Iterator[Batch]:
        yield from self._batches(WHOLE, 0)

    def _batches(self, share: Share, seed: int) -> Iterator[Batch]:
        with _generators_set(self._loader, seed):
            for inputs, targets in self._loader:
                part, n = share.part(len(targets))
                yield Batch(_sent(inputs[part], self._device), _sent(targets[part], self._device), n, len(targets))


@contextmanager
def _generators_set(loader: DataLoader[Any], seed: int) -> Iterator[None]:
    """The loader's own generators set to `seed`. One that has none draws its order from torch's global generator."""
    owners = (loader, loader.sampler, getattr(loader.batch_sampler, "sampler", None))
    found = {id(g): g for g in (getattr(o, "generator", None) for o in owners) if isinstance(g, torch.Generator)}
    without: list[Any] = [o for o in owners[1:] if o is not None and getattr(o, "generator", found) is None]
    for owner in without:  # it would draw from torch's global generator, which differs from rank to rank
        owner.generator = torch.Generator().manual_seed(seed)
    before = [(generator, generator.get_state()) for generator in found.values()]
    for generator in found.values():
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)
        for owner in without:
            owner.generator = None


def _n_batches(n: int, batch_size: int) -> int:
    """Batches of a training epoch over n examples.

    >>> _n_batches(7, 3), _n_batches(8, 3), _n_batches(3, 1), _n_batches(1, 3)
    (2, 3, 3, 1)
    """
    return n // batch_size if n % batch_size == 1 < n else -(-n // batch_size)


def has_batch_of_one(examples: Examples, batch_size: int) -> bool:
    """Whether a training epoch has a batch of one example; False where a `DataLoader` makes batches of another kind."""
    if not isinstance(examples, DataLoader):
        return batch_size == 1 or len(examples) == 1  # type: ignore[arg-type]
    size = examples.batch_size
    if size is None or size == 1:
        return size == 1
    return not examples.drop_last and len(examples.sampler) % size == 1  # type: ignore[arg-type]


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from pinned memory, so that the processor need not wait for the copy."""
    if device.type == "cuda" and not tensor.is_cuda and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _fits(tensors: Sequence[Tensor], device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return sum(t.nbytes for t in tensors[:2]) <= RESIDENT_SHARE * free
