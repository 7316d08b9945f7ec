"""Batches of a split, on the device, in an order that depends on nothing but seed and epoch.

Three kinds of splits, each with a source of batches of its own:

- a `TensorDataset` is indexed as a whole. It is moved to a GPU once if it takes at most a quarter of the memory that
  is free there, and else goes there batch by batch through pinned memory.
- any other data set goes through a `DataLoader` with `loader_workers` processes. Each batch is read with the global
  generators (torch, NumPy, Python) set from the epoch and its first example, so the random draws of a transformation
  do not depend on the number of processes.
- a `DataLoader` of the user is used as it is, batch size included; only its generators, and those of its samplers, are
  set at the start of each pass, and restored afterwards, as are those of its data set and `collate_fn`.

The weight of a batch is the sum of its examples' weights (`Objective.weights`), the number of its targets that count.
It is computed on the CPU, so that no step waits for the GPU to learn whether the batch has any.

Where w processes train together, each gets its share of every batch: the first n mod w processes get one example more
than the others. A batch that is too small to give each two examples (often the last of an epoch) goes to all of them
as a whole, and has weight 1/w on each. Batch norm does not accept a batch of one, so an epoch's last batch is left
out if it would have a single example, a different one in each epoch. A user's own `DataLoader` decides itself what it
drops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.held_state import generators_in, generators_set
from aquasurf_ray.tasks.inputs import Inputs, batch_of, map_tensors, part_of
from aquasurf_ray.tasks.loaders import (
    Examples,
    ExampleSet,
    example_set,
    given_batches,
    in_memory,
    is_plain,
    n_batches,
    read_items,
    sampler_seeded,
)
from aquasurf_ray.tasks.targets import example_weights
from aquasurf_ray.workers.engine.seeding import seeded, stream_seed

# The rest is for the network, its gradients, the optimiser's moments and other workers of the GPU.
RESIDENT_SHARE = 0.25
CPU = torch.device("cpu")

Weigh = Callable[[Tensor], Tensor]
"""Targets (n, ...) -> the weight of each example in the loss, float64 (n,) on the CPU."""
Total = Callable[[float], float]
"""A number of this process -> its sum over all processes, each of which must call it."""


class Batch(NamedTuple):
    """Inputs and targets on the device, with weight `n` of the `n_together` of one step.

    `share` is the weight of this batch's loss in a sum over all processes; `examples` is the step's number of examples.
    """

    inputs: Inputs
    targets: Tensor
    n: float
    n_together: float
    share: float
    examples: int


@dataclass(frozen=True)
class Share:
    """This process's part of each batch."""

    index: int = 0
    of: int = 1

    def part(self, n: int) -> tuple[slice, float]:
        """Return the slice of a batch of n that this process gets, and the share with which its examples count here.

        >>> [Share(i, 3).part(7) for i in range(3)]
        [(slice(0, 3, None), 1.0), (slice(3, 5, None), 1.0), (slice(5, 7, None), 1.0)]
        >>> Share(1, 3).part(4)
        (slice(0, 4, None), 0.3333333333333333)
        """
        # Networks that squeeze a batch, or compare its examples, fail on a share of one.
        if n < 2 * self.of:
            return slice(0, n), 1 / self.of
        size, larger = divmod(n, self.of)
        begin = self.index * size + min(self.index, larger)
        end = begin + size + (self.index < larger)
        return slice(begin, end), 1.0


WHOLE = Share()


class BatchSource(Protocol):
    """The batches of one split; `n_batches` is their number in a training epoch."""

    n_batches: int

    def shuffled(self, order: torch.Generator, seed: int, epoch: int = 1, global_seed: int = 0) -> Iterator[Batch]:
        """Yield one training epoch. The order is drawn from `order`; everything else that is random, from `seed`.

        `epoch` is for samplers that count epochs; `global_seed` seeds the global generators of the first process.
        """
        ...

    def in_order(self) -> Iterator[Batch]:
        """Yield one pass in the split's own order."""
        ...

    def first(self, order: torch.Generator, seed: int, global_seed: int = 0) -> Batch:
        """Return the first batch of a first epoch in which a target of this process counts, without asking the others.

        Raises:
            TaskError: there is none.
        """
        ...


def batch_source(
    examples: Examples,
    batch_size: int,
    device: torch.device,
    *,
    weigh: Weigh = example_weights,
    loader_workers: int = 0,
    share: Share = WHOLE,
    total: Total | None = None,
) -> BatchSource:
    """Return the source that fits the kind of split.

    Without `total`, a process that reads only its share of a batch gives every example of the batch weight 1.

    Raises:
        TaskError: a `DataLoader` without a length, or one that cannot be indexed.
    """
    if isinstance(examples, DataLoader):
        return _UsersLoader(examples, device, weigh, share)
    tensors = in_memory(examples)
    if tensors is not None:
        return _InMemory(tensors, batch_size, device, weigh, share)
    return _Read(example_set(examples), batch_size, device, weigh, loader_workers, share, total)


class _InMemory(BatchSource):
    def __init__(
        self, tensors: Sequence[Tensor], batch_size: int, device: torch.device, weigh: Weigh, share: Share
    ) -> None:
        inputs, targets = batch_of(tuple(tensors))
        resident = device.type == "cuda" and _fits(tensors, device)
        self._weights = weigh(targets)
        self._inputs, self._targets = (t.to(device) if resident else t for t in (inputs, targets))
        self._batch_size, self._device, self._share = batch_size, device, share
        self.n_batches = _n_batches(len(targets), batch_size)

    def shuffled(self, order: torch.Generator, seed: int, epoch: int = 1, global_seed: int = 0) -> Iterator[Batch]:
        permutation = torch.randperm(len(self._targets), generator=order)
        weights = torch.split(self._weights[permutation], self._batch_size)
        places = torch.split(permutation.to(self._inputs.device), self._batch_size)  # once: a copy waits for the GPU
        for chosen, weighs in list(zip(places, weights, strict=True))[: self.n_batches]:
            part, share = self._share.part(len(chosen))
            mine = chosen[part]
            inputs, targets = _sent(self._inputs[mine], self._device), _sent(self._targets[mine], self._device)
            n = float(weighs[part].sum()) * share
            yield Batch(inputs, targets, n, float(weighs.sum()), share, len(chosen))

    def in_order(self) -> Iterator[Batch]:
        for start in range(0, len(self._targets), self._batch_size):
            part = slice(start, start + self._batch_size)
            # A copy, since a network may write into its inputs, which are read again in each epoch.
            inputs, targets = self._inputs[part].clone(), self._targets[part]
            n = float(self._weights[part].sum())
            yield Batch(_sent(inputs, self._device), _sent(targets, self._device), n, n, 1.0, len(targets))

    def first(self, order: torch.Generator, seed: int, global_seed: int = 0) -> Batch:
        return _first_that_counts(self.shuffled(order, seed))


class _Read(BatchSource):
    def __init__(
        self,
        examples: ExampleSet,
        batch_size: int,
        device: torch.device,
        weigh: Weigh,
        loader_workers: int,
        share: Share,
        total: Total | None,
    ) -> None:
        self._examples, self._batch_size, self._device = examples, batch_size, device
        self._weigh, self._loader_workers, self._share, self._total = weigh, loader_workers, share, total
        self._size = len(examples)  # type: ignore[arg-type]
        self.n_batches = _n_batches(self._size, batch_size)

    def shuffled(self, order: torch.Generator, seed: int, epoch: int = 1, global_seed: int = 0) -> Iterator[Batch]:
        for batch in self._batches(self._permuted(order), self._share, seed, self._loader_workers):
            yield batch._replace(n_together=self._total(batch.n)) if self._total else batch

    def first(self, order: torch.Generator, seed: int, global_seed: int = 0) -> Batch:
        chunks = self._permuted(order)
        return _first_that_counts(
            batch for chunk in chunks for batch in self._batches([chunk], self._share, seed, n_processes=0)
        )

    def in_order(self) -> Iterator[Batch]:
        # Validation is not shared out (WHOLE): rank 0 alone evaluates.
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
            # Otherwise the loader would draw the base seed of its processes from torch's global generator.
            generator=torch.Generator().manual_seed(seed),
        )
        for batch, chunk, (_, counted) in zip(loader, chunks, parts, strict=True):
            inputs, targets = batch_of(batch)
            n = float(self._weigh(targets).sum()) * counted
            # Other processes read the rest, so its weight is unknown here; `total` replaces this number where it
            # matters.
            n_together = n if share.of == 1 else len(chunk)
            yield Batch(_sent(inputs, self._device), _sent(targets, self._device), n, n_together, counted, len(chunk))


class _SeededExamples(Dataset[Any]):
    """A data set whose transformations draw from the epoch and the batch alone, also from generators that it holds."""

    def __init__(self, examples: ExampleSet, seed: int) -> None:
        self._examples, self._seed = examples, seed
        self._generators = generators_in(examples)

    # PyTorch's loaders prefer this to an item at a time, so one seed serves a whole batch.
    def __getitems__(self, indices: list[int]) -> list[Any]:
        seed = stream_seed(self._seed, indices[0])
        with seeded(seed, CPU), generators_set(self._generators, seed):
            return read_items(self._examples, indices)


class _UsersLoader(BatchSource):
    def __init__(self, loader: DataLoader[Any], device: torch.device, weigh: Weigh, share: Share) -> None:
        self._loader, self._device, self._weigh, self._share = loader, device, weigh, share
        self.n_batches = n_batches(loader)
        example_set(loader)

    def shuffled(self, order: torch.Generator, seed: int, epoch: int = 1, global_seed: int = 0) -> Iterator[Batch]:
        with sampler_seeded(self._loader, seed, epoch):
            loaded = self._loader if self._share.of == 1 else self._seeded_batches(seed, global_seed)
            for count, batch in enumerate(loaded, start=1):
                # The learning-rate schedule was planned for this number of steps.
                if count > self.n_batches:
                    raise TaskError(f"a DataLoader gives more batches than its length, which is {self.n_batches}")
                yield self._batch(batch, self._share)

    def in_order(self) -> Iterator[Batch]:
        with sampler_seeded(self._loader, 0):
            for batch in self._loader:
                yield self._batch(batch, WHOLE)

    def first(self, order: torch.Generator, seed: int, global_seed: int = 0) -> Batch:
        return _first_that_counts(self.shuffled(order, seed, 1, global_seed))

    def _seeded_batches(self, seed: int, global_seed: int) -> Iterator[Any]:
        """Yield the loader's batches with equal global generators on all processes: samplers may draw from them."""
        with seeded(global_seed, CPU):
            batches = iter(self._loader)
            batch = next(batches, None)
        count = 0
        while batch is not None:
            yield batch
            count += 1
            with seeded(stream_seed(seed, count, "loader"), CPU):
                batch = next(batches, None)

    def _batch(self, batch: Any, share: Share) -> Batch:
        inputs, targets = batch_of(batch)
        weights, size = self._weigh(targets), len(targets)
        part, counted = share.part(size)
        if part != slice(0, size):
            inputs, targets = part_of(inputs, part, size), targets[part]
        n = float(weights[part].sum()) * counted
        return Batch(_sent(inputs, self._device), _sent(targets, self._device), n, float(weights.sum()), counted, size)


def _first_that_counts(batches: Iterator[Batch]) -> Batch:
    batch = next((batch for batch in batches if batch.n > 0), None)
    if batch is None:
        raise TaskError("no target of the training split counts")
    return batch


def _n_batches(n: int, batch_size: int) -> int:
    """Return the number of batches in a training epoch over n examples.

    >>> _n_batches(7, 3), _n_batches(8, 3), _n_batches(3, 1), _n_batches(1, 3)
    (2, 3, 3, 1)
    """
    return n // batch_size if n % batch_size == 1 < n else -(-n // batch_size)


def has_batch_of_one(examples: Examples, batch_size: int) -> bool:
    """Return whether a training epoch has a batch of one example; False of loaders whose items are batches."""
    if not isinstance(examples, DataLoader):
        return batch_size == 1 or len(examples) == 1  # type: ignore[arg-type]
    size = examples.batch_size
    if not is_plain(examples) or size is None:
        return examples.batch_sampler is not None and any(len(batch) == 1 for batch in given_batches(examples))
    return size == 1 or (not examples.drop_last and len(examples.sampler) % size == 1)  # type: ignore[arg-type]


def _sent(inputs: Inputs, device: torch.device) -> Inputs:
    """Return the tensors on the device, copied from pinned memory so that the CPU does not wait."""
    if device.type != "cuda":
        return map_tensors(inputs, lambda tensor: tensor.to(device))
    return map_tensors(
        inputs,
        lambda t: (t if t.is_cuda or t.is_pinned() else t.pin_memory()).to(device, non_blocking=True),
    )


def _fits(tensors: Sequence[Tensor], device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    # What PyTorch's allocator holds without using it is free for these tensors too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return sum(t.nbytes for t in tensors[:2]) <= RESIDENT_SHARE * free
