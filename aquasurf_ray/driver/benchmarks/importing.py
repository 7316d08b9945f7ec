"""Import a benchmark file into the store, with its functions identified by their fingerprints.

The whole file is read and checked before the store is written to, so a bad file leaves the store as it was. Entries
with one fingerprint become further seeds of one function. Names that the file lists as equal although their
fingerprints differ are stored with their entry and reported, but do not become names of its function.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aquasurf_ray.activations import ActivationError, Expression, fingerprint, parse
from aquasurf_ray.analysis.benchmarks.parquet import benchmark_path, is_parquet
from aquasurf_ray.driver.benchmarks.from_parquet import entries, read_own, spectra
from aquasurf_ray.driver.candidates import refuse_other_meaning
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.settings.reading import check_run_name
from aquasurf_ray.driver.user_modules import import_modules
from aquasurf_ray.store import (
    ACCURACY,
    BenchmarkEntry,
    BenchmarkFileError,
    FunctionRow,
    ImportedEntry,
    ImportedSpectrum,
    NewImport,
    Run,
    RunExists,
    Store,
    TaskMetric,
    file_digest,
    read_benchmark,
)
from aquasurf_ray.store.records.features import Fisher
from aquasurf_ray.tasks import TaskError, load_task
from aquasurf_ray.tasks.registry import BUILT_IN

EXAMPLES = 20  # names of each kind in a report, which would otherwise list thousands
_METRICS = ("train_accuracy", "val_accuracy", "train_loss", "val_loss", "test_accuracy", "test_loss", "seconds")


@dataclass(frozen=True)
class ImportReport:
    """The contents of an imported file. If it was imported before, `created` is False and the counts are 0.

    Attributes:
        entries: the number of imported entries; `left_out` more have no metric at all.
        functions: the number of different functions, by fingerprint.
        repeated: the number of entries with the function of an earlier entry, with examples (name, earlier name).
        unequal: the number of names that the file lists as equal although they are not, with examples (name, entry).
        missing: how many entries lack a metric, by column.
        unknown: how many entries have a field that this package does not know, by its title.
        cdf_lengths: how many entries have a CDF of each length.
        spectra: how many functions have a spectrum, by kind of Fisher information; only for this package's format.
    """

    run: str
    task: str
    file: str
    file_digest: str
    created: bool
    entries: int = 0
    functions: int = 0
    diverged: int = 0
    left_out: int = 0
    repeated: int = 0
    repeated_examples: tuple[tuple[str, str], ...] = ()
    unequal: int = 0
    unequal_examples: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, int], ...] = ()
    unknown: tuple[tuple[str, int], ...] = ()
    cdf_lengths: tuple[tuple[int, int], ...] = ()
    spectra: tuple[tuple[str, int], ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON-ready document."""
        return asdict(self) | {
            key: dict(getattr(self, key)) for key in ("missing", "unknown", "cdf_lengths", "spectra")
        }


def import_benchmark(
    file: str | Path,
    task: str,
    *,
    name: str | None = None,
    store: str | None = None,
    modules: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import a benchmark as a finished run of kind `import`.

    Args:
        file: an Act-Bench file (JSON), a benchmark in Parquet, or the name of an installed benchmark.
        task: the known task that the functions were trained on; only its name and metric are used.
        name: the name of the run; by default it is made from the file's name.
        modules: modules to import first, which register the user's own operators.
        progress: called with the bytes read so far and the bytes in total.

    Raises:
        BadUse: there is no such task or module, or a function with an own operator is another one in the store.
        BenchmarkFileError: the file is damaged; the text says where.
        StoreError: the name is taken, or the database cannot be used.
    """
    check_run_name(name)
    path, modules = benchmark_path(file), tuple(modules)
    import_modules(modules)
    task_name, metric = _known_task(task)
    digest = file_digest(path)
    url = store_url(store)
    known = _known_run(url, task_name, digest, name)
    if known is not None:
        return ImportReport(known.name, task_name, path.name, digest, created=False)
    in_parquet = is_parquet(path)
    found = _found_in_parquet(path, metric) if in_parquet else _found(path, metric, progress)
    if not found.entries:
        raise BenchmarkFileError(f"'{path.name}' has no entry with any metric; nothing is imported")
    if file_digest(path) != digest:  # the digest must be that of the content which was read
        raise BenchmarkFileError(f"'{path}' was changed while it was read; import it again")
    report = found.report(ImportReport("", task_name, path.name, digest, created=True))
    with Store.open(url) as opened:
        functions = found.functions()
        refuse_other_meaning(opened, functions)
        chosen = name or _free_name(opened, path)
        run = opened.import_benchmark(
            NewImport(
                name=chosen,
                task=task_name,
                metric=metric,
                file=path.name,
                file_digest=digest,
                modules=modules,
                code_version=version("aquasurf-ray"),
                functions=functions,
                entries=tuple(found.entries),
                report=replace(report, run=chosen).document(),
                spectra=found.spectra(),
                keeps_entries=not in_parquet,
            )
        )
    return replace(report, run=run.name, created=run.created)


class _Found:
    """The entries read so far, and their counts for the report."""

    def __init__(self) -> None:
        self.entries: list[ImportedEntry] = []
        self._spellings: dict[str, set[tuple[int, str]]] = defaultdict(set)  # of each function: (operators, name)
        self._of_function: dict[str, list[str]] = defaultdict(list)  # the names of its entries
        self._seeds: dict[str, set[int]] = defaultdict(set)
        self._spectra: dict[tuple[str, str], ImportedSpectrum] = {}
        self._unequal: list[tuple[str, str]] = []
        self._missing: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._left_out = 0
        self._expressions: dict[str, tuple[Expression, str]] = {}

    def add(self, entry: BenchmarkEntry, seed: int | None = None) -> None:
        """Add an entry.

        Args:
            seed: the training seed, known only in this package's format; a missing metric is not reported there.

        Raises:
            BenchmarkFileError: a name is not an expression.
        """
        expression, digest = self._read(entry.name, entry.place)
        aliases = [(name, *self._read(name, f"{entry.place}, equal name {name!a:.60}")) for name in entry.aliases]
        lacking = [column for column in _METRICS if getattr(entry.result, column) is None]
        if len(lacking) == len(_METRICS):
            self._left_out += 1
            return
        self._missing.update(lacking if seed is None else ())
        self._unknown.update(entry.unknown_titles())
        self._spellings[digest].add((expression.n_operators, str(expression)))
        for name, alias, its_digest in aliases:
            if its_digest == digest:
                self._spellings[digest].add((alias.n_operators, str(alias)))
            else:
                self._unequal.append((name, entry.name))
        # Act-Bench files know no seeds: entries that are one function count as its seeds, in the order of the file.
        taken = self._seeds[digest]
        if seed is None or seed in taken:
            seed = next(free for free in itertools.count() if free not in taken)
        taken.add(seed)
        self.entries.append(ImportedEntry(digest, seed, entry))
        if entry.name not in self._of_function[digest]:
            self._of_function[digest].append(entry.name)

    def add_spectrum(self, function: str, fisher: Fisher, feature: bytes) -> None:
        """Add the spectrum of a function that has an entry."""
        digest = self._expressions[function][1]
        self._spectra.setdefault((digest, fisher), ImportedSpectrum(digest, fisher, feature))

    def spectra(self) -> tuple[ImportedSpectrum, ...]:
        """Return the spectra, one per function and kind of Fisher information."""
        return tuple(self._spectra.values())

    def functions(self) -> tuple[FunctionRow, ...]:
        """Return every function under its shortest spelling, with the others as aliases."""
        rows = []
        for digest, spellings in self._spellings.items():
            (n_operators, name), *others = sorted(spellings)
            rows.append(FunctionRow(digest, name, n_operators, tuple(other for _, other in others)))
        return tuple(rows)

    def report(self, begun: ImportReport) -> ImportReport:
        """Return the report, completed with the counts."""
        repeated = [(name, names[0]) for names in self._of_function.values() for name in names[1:]]
        lengths = Counter(item.entry.cdf_length for item in self.entries)
        return replace(
            begun,
            entries=len(self.entries),
            functions=len(self._of_function),
            diverged=sum(item.entry.result.status == "diverged" for item in self.entries),
            left_out=self._left_out,
            repeated=len(repeated),
            repeated_examples=tuple(repeated[:EXAMPLES]),
            unequal=len(self._unequal),
            unequal_examples=tuple(self._unequal[:EXAMPLES]),
            missing=tuple(sorted(self._missing.items())),
            unknown=tuple(self._unknown.most_common(EXAMPLES)),
            cdf_lengths=() if self._spectra else tuple(lengths.most_common()),
            spectra=tuple(sorted(Counter(fisher for _, fisher in self._spectra).items())),
        )

    def _read(self, text: str, place: str) -> tuple[Expression, str]:
        """Return the expression and its fingerprint; cached, since names recur among the aliases of other entries."""
        if text not in self._expressions:
            try:
                expression = parse(text)
            except ActivationError as error:
                raise BenchmarkFileError(f"{place}: {error}") from None
            self._expressions[text] = expression, fingerprint(expression)
        return self._expressions[text]


def _found(path: Path, metric: TaskMetric, progress: Callable[[int, int], None] | None) -> _Found:
    """Return the contents of an Act-Bench file."""
    found = _Found()
    for entry in read_benchmark(path, metric, progress):
        found.add(entry)
    return found


def _found_in_parquet(path: Path, metric: TaskMetric) -> _Found:
    """Return the contents of a benchmark in this package's format."""
    benchmark, found = read_own(path, metric), _Found()
    for seed, entry in entries(benchmark):
        found.add(entry, seed)
    for function, fisher, feature in spectra(benchmark):
        found.add_spectrum(function, fisher, feature)
    return found


def _known_task(task: str) -> tuple[str, TaskMetric]:
    """Return a task's name and metric. Built-in classification tasks are not constructed: torchvision takes 160 MB."""
    if task in BUILT_IN and BUILT_IN[task].classifies:
        return task, ACCURACY
    try:
        loaded = load_task(task, import_from=Path.cwd())
    except TaskError as error:
        raise BadUse(str(error)) from error
    metric = loaded.objective.metric
    return loaded.name, TaskMetric(metric.name, metric.higher_is_better, metric.low, metric.high)


def _known_run(url: str, task: str, digest: str, name: str | None) -> Run | None:
    """Return the run of an earlier import of the file. A store that does not exist yet is not created for this."""
    if not Store.exists(url):
        return None
    with Store.open(url, create=False) as opened:
        known = opened.find_import(task, digest)
        if known is None and name is not None and any(run.name == name for run in opened.runs()):
            raise RunExists(f"a run named '{name}' already exists; choose another --name")
    return known


def _free_name(store: Store, path: Path) -> str:
    """Return the first free name among `act-bench-cnn`, `act-bench-cnn-2`, ..."""
    base = re.sub(r"[^\w.+-]+", "-", path.stem).strip("-.") or "import"
    taken = {run.name for run in store.runs()}
    numbered = (f"{base}-{n}" for n in range(2, len(taken) + 3))  # one more than there are names: one is free
    return next(name for name in (base, *numbered) if name not in taken)
