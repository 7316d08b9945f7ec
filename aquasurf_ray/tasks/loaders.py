"""The examples of a split: those of a data set, or those that a user's `DataLoader` makes of one.

A loader's `sampler` or `batch_sampler` says which examples there are and in which batches, its `collate_fn` what a
batch is made of. Training reads the loader itself; this module answers all other questions about it: how many examples
it gives, a batch of them for a spectrum, its first batches for a check.

A loader is *plain* if its sampler gives each example of its data set once. The examples of any other come from one pass
over its sampler, with the global generators and those that the sampler holds set from a seed, and restored afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.held_state import HeldState, generators_in, generators_set
from aquasurf_ray.tasks.inputs import Inputs, batch_of, part_of, refuse_other_layouts
from aquasurf_ray.tasks.seeding import seeded

ExampleSet = Dataset[Any]
Examples = ExampleSet | DataLoader[Any]

CPU = torch.device("cpu")
OF_TORCH = (BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler)


def example_set(examples: Examples) -> ExampleSet:
    """Return the data set itself, or the one behind a `DataLoader`.

    Raises:
        TaskError: its examples cannot be asked for by number, or the loader's sampler leaves some to other processes.
    """
    found = examples.dataset if isinstance(examples, DataLoader) else examples
    if isinstance(found, IterableDataset):
        raise TaskError(f"data sets must be indexable and have a length, got the iterable {type(found).__name__}")
    if isinstance(examples, DataLoader):
        for sampler in _samplers(examples):
            # It would leave each process a part of the examples, and the processes here share each batch once more.
            if isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
                raise TaskError(
                    f"a DistributedSampler must have num_replicas=1, got {sampler.num_replicas}: "
                    "the processes of a training share each batch by themselves"
                )
    return found


def in_memory(examples: Examples) -> tuple[Tensor, ...] | None:
    """Return the tensors of a `TensorDataset`; None of other splits, and where a subclass makes items of its own."""
    if not isinstance(examples, TensorDataset):
        return None
    methods = ("__getitem__", "__getitems__", "__len__")
    # A subclass may transform its items; its tensors are then not what training would get.
    overrides = any(getattr(type(examples), name, None) is not getattr(TensorDataset, name, None) for name in methods)
    return None if overrides else examples.tensors


def is_plain(loader: DataLoader[Any]) -> bool:
    """Return whether the loader's sampler gives each example of its data set once, in batches of one size."""
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler:
        return False
    sampler: Any = batches.sampler
    if type(sampler) not in (RandomSampler, SequentialSampler):
        return False
    n = len(sampler.data_source)
    once = type(sampler) is SequentialSampler or (not sampler.replacement and sampler.num_samples == n)
    return once and n == len(example_set(loader))  # type: ignore[arg-type]


def n_examples(examples: Examples) -> int:
    """Return how many examples a pass gives: those of the data set, or the loader's sampler."""
    whole = example_set(examples)
    if not isinstance(examples, DataLoader) or is_plain(examples):
        return len(whole)  # type: ignore[arg-type]
    return sum(map(len, given_batches(examples)))


def n_batches(loader: DataLoader[Any]) -> int:
    """Return how many batches a pass over a loader gives.

    Raises:
        TaskError: its sampler has no length.
    """
    try:
        return len(loader)
    except TypeError as error:
        raise TaskError(f"a DataLoader must have a length, which schedules need: {error}") from error


def mean_batch(loader: DataLoader[Any]) -> float:
    """Return how many of `n_examples` a batch of the loader has, on average if its sampler makes batches of several
    sizes; 1 without automatic batches, where each item counts as an example."""
    if loader.batch_size is not None:
        return loader.batch_size
    batches = given_batches(loader)
    return sum(map(len, batches)) / max(1, len(batches))


def given_batches(loader: DataLoader[Any], seed: int = 0) -> list[list[Any]]:
    """Return the indices of one pass over the loader, a list a batch. One seed, one pass.

    A loader without automatic batches (`batch_size=None`) has one index a batch.
    """
    with sampler_seeded(loader, seed), seeded(seed, CPU):
        if loader.batch_sampler is None:
            return [[index] for index in loader.sampler]
        return [list(batch) for batch in loader.batch_sampler]


def has_uncollated_batch(loader: DataLoader[Any]) -> bool:
    """Return whether a pass gives an empty batch of which PyTorch's own `collate_fn` can make nothing."""
    if loader.batch_sampler is None or is_plain(loader) or loader.collate_fn is not default_collate:
        return False
    return not all(given_batches(loader))


def drawn_batch(examples: Examples, n: int, seed: int) -> tuple[Inputs, Tensor]:
    """Draw a batch of n examples as training gets them, or of all where there are fewer; put together by the loader's
    `collate_fn`.

    They are drawn without replacement from what one pass gives, so that only a sampler that repeats examples has some
    of them repeated.

    Returns:
        Inputs (n, ...) and targets (n, ...), on the CPU.

    Raises:
        TaskError: items have a form that networks are not called with.
    """
    # A generator of its own: the global one is the user's code's to draw from.
    order = torch.Generator().manual_seed(seed)
    whole = example_set(examples)
    if not isinstance(examples, DataLoader) or is_plain(examples):
        return collated(examples, torch.randperm(len(whole), generator=order)[:n].tolist(), seed)  # type: ignore[arg-type]
    given = [index for batch in given_batches(examples, seed) for index in batch]
    if examples.batch_sampler is not None:
        return collated(examples, [given[i] for i in torch.randperm(len(given), generator=order)[:n]], seed)
    inputs, targets = collated(examples, given[:1], seed)  # the items are batches, which cannot be joined
    return part_of(inputs, slice(0, n), len(targets)), targets[:n]


def collated(examples: Examples, indices: list[Any], seed: int = 0) -> tuple[Inputs, Tensor]:
    """Read examples by number and put them together as the split does; see `made_batch`.

    Raises:
        TaskError: items have a form that networks are not called with.
    """
    return batch_of(made_batch(examples, indices, seed))


def made_batch(examples: Examples, indices: list[Any], seed: int = 0) -> Any:
    """Return what a split makes of examples by number: in any form, what is random in it drawn from `seed`.

    A loader whose processes a `worker_init_fn` prepares has them read in such a process.

    Raises:
        TaskError: tensors in it are not dense.
    """
    made = _made(examples, indices, seed)
    refuse_other_layouts(made, "batches")
    return made


def _made(examples: Examples, indices: list[Any], seed: int) -> Any:
    whole = example_set(examples)
    held = generators_in(whole, examples.collate_fn if isinstance(examples, DataLoader) else None)
    with seeded(seed, CPU), generators_set(held, seed):
        if not isinstance(examples, DataLoader):
            return default_collate(read_items(whole, indices))
        if prepares_processes(examples):
            return next(iter(_reading(examples, [indices], seed)))
        items = read_items(whole, indices) if examples.batch_sampler is not None else whole[indices[0]]
        return examples.collate_fn(items)


def prepares_processes(examples: Examples) -> bool:
    """Return whether examples may be readable in a loader's own processes only."""
    return isinstance(examples, DataLoader) and examples.num_workers > 0 and examples.worker_init_fn is not None


def _reading(loader: DataLoader[Any], batches: list[list[Any]], seed: int) -> DataLoader[Any]:
    """Return a loader that reads the given batches as the user's loader reads its own."""
    prepares = prepares_processes(loader)
    order: dict[str, Any] = {"batch_sampler": batches}
    if loader.batch_sampler is None:
        order = {"batch_size": None, "sampler": [batch[0] for batch in batches]}
    return DataLoader(
        loader.dataset,
        **order,
        collate_fn=loader.collate_fn,
        num_workers=1 if prepares else 0,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if prepares else None,
        generator=torch.Generator().manual_seed(seed),
    )


def read_items(examples: ExampleSet, indices: list[Any]) -> list[Any]:
    """Read examples by number, all at once where the data set can, as a `DataLoader` does."""
    all_at_once = getattr(examples, "__getitems__", None)
    items: list[Any] = all_at_once(indices) if all_at_once else [examples[i] for i in indices]
    return items


def leading_batches(examples: Examples, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
    """Read the split from its start, in batches of at most `batch_size` examples.

    Raises:
        TaskError: items have a form that networks are not called with.
    """
    for chunk in _chunks(examples, batch_size):
        inputs, targets = collated(examples, chunk)
        if len(targets) > batch_size:  # an item that is a batch
            inputs, targets = part_of(inputs, slice(0, batch_size), len(targets)), targets[:batch_size]
        yield inputs, targets


def some_batches(examples: Examples, n_batches: int, batch_size: int, skipped: int = 0) -> Examples:
    """Return a split with some of the `leading_batches` of this one.

    They are in memory, or come through a loader with the `collate_fn`, as this split's do.
    """
    whole = example_set(examples)
    if not isinstance(examples, DataLoader):
        start = skipped * batch_size
        end = min(start + n_batches * batch_size, len(whole))  # type: ignore[arg-type]
        tensors = in_memory(examples)
        if tensors is not None:
            return TensorDataset(*(tensor[start:end] for tensor in tensors))
        return Subset(whole, range(start, end))
    return _reading(examples, _chunks(examples, batch_size)[skipped : skipped + n_batches], seed=0)


def _chunks(examples: Examples, size: int) -> list[list[Any]]:
    """Return the indices of a split, or of one pass of its loader, in batches of at most `size`."""
    if isinstance(examples, DataLoader) and not is_plain(examples):
        batches = given_batches(examples)
    else:
        batches = [list(range(n_examples(examples)))]
    return [batch[start : start + size] for batch in batches for start in range(0, len(batch), size)]


@contextmanager
def sampler_seeded(loader: DataLoader[Any], seed: int, epoch: int = 1) -> Iterator[None]:
    """Set all that one pass over a loader depends on, but for the process's global generators.

    Every generator that the loader, its samplers, its data set or its `collate_fn` hold is set to `seed`; PyTorch's
    samplers that hold none, and would draw from the global one, hold one meanwhile. A sampler with `set_epoch` gets the
    epoch; one that changes with its passes, such as by a counter or a list that it shuffles, has made epoch - 1 of
    them. Processes that outlive a pass, and with it the state of their generators, end before and after. Generators
    and samplers are left as they were found.
    """
    samplers = _samplers(loader)
    state = HeldState(samplers, _is_of_sampler)
    held = [*generators_in(loader.dataset, loader.collate_fn, loader.generator), *state.generators]
    without: list[Any] = [s for s in samplers if isinstance(s, OF_TORCH) and getattr(s, "generator", held) is None]
    _end_processes(loader)
    try:
        # A resumed training begins at a later epoch, where a sampler with a state of its own must be as if it had made
        # them.
        if epoch > 1 and any(hasattr(s, "set_epoch") or type(s) not in OF_TORCH for s in samplers):
            _skip_passes(loader, state, epoch - 1)
        for sampler in without:
            sampler.generator = torch.Generator().manual_seed(seed)
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        with generators_set(held, seed):
            yield
    finally:
        _end_processes(loader)
        state.restore()


def _skip_passes(loader: DataLoader[Any], state: HeldState, n: int) -> None:
    """Make n passes over the sampler, if it changes with them."""
    with seeded(0, CPU):
        for _ in range(n):
            for _ in loader.sampler if loader.batch_sampler is None else loader.batch_sampler:
                pass
            if not state.is_changed():
                return


def _end_processes(loader: DataLoader[Any]) -> None:
    if loader.persistent_workers:
        loader._iterator = None


def _is_of_sampler(held: Any) -> bool:
    """Return whether an object that a sampler holds is part of its state, and no data."""
    return not isinstance(held, Dataset | DataLoader | torch.nn.Module | FunctionType)


def _samplers(loader: DataLoader[Any]) -> list[Any]:
    """Return the loader's sampler and batch sampler, and the samplers inside them."""
    found: list[Any] = []
    waiting = [loader.batch_sampler, loader.sampler]
    while waiting:
        sampler = waiting.pop()
        if hasattr(sampler, "__dict__") and not any(sampler is known for known in found):
            found.append(sampler)
            waiting += [value for value in vars(sampler).values() if isinstance(value, Sampler)]
    return found
