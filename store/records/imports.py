"""The records of an import: benchmarks that were trained elsewhere, entry by entry."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aquasurf_ray.store.records.evaluations import EvaluationResult
from aquasurf_ray.store.records.features import Fisher
from aquasurf_ray.store.records.packed import unpack
from aquasurf_ray.store.records.tasks import FunctionRow, TaskMetric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class BenchmarkEntry:
    """An entry of a benchmark file: a function with its results, unchanged.

    `aliases` are the names that the file declares to be equal, in its order, true or not. `cdf` holds the `cdf_length`
    numbers of its spectrum, packed (see `store.records.packed`). `other` is a JSON object of fields that this program
    does not know. `place` is the entry's position in the file, for messages.
    """

    name: str
    result: EvaluationResult
    aliases: tuple[str, ...] = ()
    cdf: bytes = b""
    cdf_length: int = 0
    other: str = "{}"
    place: str = field(default="", compare=False)

    def cdf_values(self) -> npt.NDArray[np.float64]:
        """Return the numbers of the CDF: float64 of shape (cdf_length,)."""
        return unpack(self.cdf)

    def unknown_titles(self) -> tuple[str, ...]:
        """Return the titles in `other`."""
        return tuple(json.loads(self.other)) if self.other != "{}" else ()


@dataclass(frozen=True)
class ImportedEntry:
    """An entry and its function in this store.

    Entries of one file that are the same function become its seeds 0, 1, ... in the order of the file, which may also
    give the seeds itself.
    """

    fingerprint: str
    seed: int
    entry: BenchmarkEntry


@dataclass(frozen=True)
class ImportedSpectrum:
    """A compact spectrum from a benchmark file in this program's own format."""

    fingerprint: str
    fisher: Fisher
    feature: bytes


@dataclass(frozen=True)
class NewImport:
    """A run to create from a benchmark file: entries that were trained elsewhere, on a task that is named `task` here.

    `functions` are the functions of the entries. `file` is the file's name without its folder, `file_digest` the
    SHA-256 of its bytes. `report` goes into the run's log. `keeps_entries` is False if functions, evaluations and
    spectra contain everything in the entries, so that an export needs no copy of these.
    """

    name: str
    task: str
    metric: TaskMetric
    file: str
    file_digest: str
    modules: tuple[str, ...]
    code_version: str
    functions: tuple[FunctionRow, ...]
    entries: tuple[ImportedEntry, ...]
    report: dict[str, Any]
    spectra: tuple[ImportedSpectrum, ...] = ()
    keeps_entries: bool = True
