"""The records of an import: benchmarks that were trained elsewhere, entry by entry."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aquasurf_ray.store.records.packed import unpack
from aquasurf_ray.store.records.runs import EvaluationResult, Fisher, FunctionRow, TaskMetric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class BenchmarkEntry:
    """A function in a benchmark file, as the file has it.

    `aliases` are the names that the file holds to be equal, in its order, true or not. `cdf` are the `cdf_length`
    numbers of its spectrum, packed (see `store.records.packed`). `other` is a JSON object of what we have no place for.
    `place` is where it stands in the file, for messages.
    """

    name: str
    result: EvaluationResult
    aliases: tuple[str, ...] = ()
    cdf: bytes = b""
    cdf_length: int = 0
    other: str = "{}"
    place: str = field(default="", compare=False)

    def cdf_values(self) -> npt.NDArray[np.float64]:
        """The numbers: float64 of shape (cdf_length,)."""
        return unpack(self.cdf)

    def unknown_titles(self) -> tuple[str, ...]:
        """The titles in `other`."""
        return tuple(json.loads(self.other)) if self.other != "{}" else ()


@dataclass(frozen=True)
class ImportedEntry:
    """An entry and the function that it is here.

    Entries of one file that are the same function are further seeds of it: 0, 1, ... in the order of the file, which
    may also name the seeds itself.
    """

    fingerprint: str
    seed: int
    entry: BenchmarkEntry


@dataclass(frozen=True)
class ImportedSpectrum:
    """A compact spectrum in a benchmark file of this program's own."""

    fingerprint: str
    fisher: Fisher
    feature: bytes


@dataclass(frozen=True)
class NewImport:
    """A run to make of a benchmark file: entries that were trained elsewhere, on what is called `task` here.

    `functions` are those of the entries. `file` is the file's name without its folder, `file_digest` the SHA-256 of
    its bytes. `report` goes into the run's log. `keeps_entries` is False where the entries say nothing that functions,
    evaluations and spectra do not, so that the file need not be written again as it came.
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
