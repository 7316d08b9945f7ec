"""Examples that are in two splits: a score of those that a network was trained on says nothing about new ones."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from torch.utils.data import DataLoader

from aquasurf_ray.driver.examine.split_sample import SplitSample
from aquasurf_ray.tasks import Splits
from aquasurf_ray.tasks.loaders import Examples, example_set, is_plain

HANDFUL = 5
"""So many equal examples may be chance, or slips of whoever collected them."""
LEAST_SHARE = 0.01
BEYOND = 2.0
"""Data of few different examples have equal ones in all splits. The share of a split's examples that are in another one
has to be so many times that of the other's examples which occur in it more than once."""


def shared_examples(splits: Splits, samples: list[SplitSample]) -> list[str]:
    """Return a warning if splits are one data set, or have equal inputs in what was read of them."""
    named = splits.named()
    for group in (list(named), *map(list, combinations(named, 2))):
        if _are_one([named[name] for name in group]):
            return [
                f"warning: one data set serves as the {', '.join(group[:-1])} and {group[-1]} split, so scores say "
                "nothing about new examples; hold some out, for instance with torch.utils.data.random_split"
            ]
    found = [_shared(other, sample) for sample, other in combinations(samples, 2)]
    listed = " and ".join(text for text in found if text is not None)
    return [f"warning: {listed}, so scores say little about new examples; split the data again"] if listed else []


def _are_one(splits: Iterable[Examples]) -> bool:
    """Return whether these are one data set, all of it: loaders may take different parts of one."""
    first, *others = [
        None if isinstance(examples, DataLoader) and not is_plain(examples) else example_set(examples)
        for examples in splits
    ]
    return first is not None and all(other is first for other in others)


def _shared(sample: SplitSample, other: SplitSample) -> str | None:
    """Return a phrase on the examples of a split that are in another one, if they are more than chance explains."""
    count = sum(n for content, n in sample.contents.items() if content in other.contents)
    share = count / max(1, sample.contents.total())
    repeated = 1 - len(other.contents) / max(1, other.contents.total())
    if count <= HANDFUL or share <= max(LEAST_SHARE, BEYOND * repeated):
        return None
    return f"{count:,} of {sample.n_read:,} sampled {sample.name} examples are {other.name} examples too"
