"""A benchmark's file, installed or user-built: Parquet with one row a function, which any Parquet reader opens as a
table.

Installed benchmarks are the Parquet files of packages that an entry point of the group `aquasurf_ray.benchmarks` names,
as the distribution in `benchmark_data/` does.

Columns: function, aliases, `val_score_0`, `val_score_1`, ... and likewise test_score, seconds and the other metrics
(null where there was no training, NaN where it diverged), `val_curve_0`, ... (lists of the validation scores after each
epoch, where these were recorded), outputs and `spectrum_sampled`, `spectrum_empirical`, which
are bytes (see `packing`; null where there is no spectrum). Data of the whole benchmark is JSON in the file's metadata
under "aquasurf_benchmark". The same benchmark gives the same bytes with the same version of pyarrow.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_ray.analysis.benchmarks.benchmark import Benchmark, Scores, Spectra
from aquasurf_ray.analysis.benchmarks.packing import pack_outputs, pack_spectrum, unpack_outputs, unpack_spectrum
from aquasurf_ray.analysis.errors import BenchmarkError

GROUP = "aquasurf_ray.benchmarks"

_KEY = b"aquasurf_benchmark"
_VERSION = 1
_MAGIC = b"PAR1"
_PARQUET = {"compression": "zstd", "compression_level": 19, "write_statistics": False}
_TABLES = ("val_score", "test_score", "seconds")
_CURVE = "val_curve"

Layout = tuple[tuple[str, ...], tuple[int, ...]]


def write_benchmark(benchmark: Benchmark, path: str | Path) -> None:
    """Write the Parquet file that `load_benchmark` reads; the same benchmark gives the same bytes.

    Raises:
        BenchmarkError: the file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    order = _order_of_sample(benchmark.outputs.shape[1])
    layouts = {kind: _layouts(spectra) for kind, spectra in benchmark.spectra.items()}
    metrics = dict(zip(_TABLES, (benchmark.seed_scores, benchmark.test_scores, benchmark.seconds), strict=True))
    columns: dict[str, Any] = {
        "function": pyarrow.array(benchmark.functions, pyarrow.string()),
        "aliases": pyarrow.array([list(names) for names in benchmark.aliases], pyarrow.list_(pyarrow.string())),
        **_number_columns(pyarrow, metrics | dict(sorted(benchmark.other_metrics.items())), benchmark.trained),
        **_curve_columns(pyarrow, benchmark.curves),
        "outputs": pyarrow.array([pack_outputs(row, order) for row in benchmark.outputs], pyarrow.binary()),
    }
    for kind, spectra in sorted(benchmark.spectra.items()):
        columns[f"spectrum_{kind}"] = pyarrow.array(_packed(spectra, layouts[kind]), pyarrow.binary())
    head = {
        "version": _VERSION,
        "name": benchmark.name,
        "task": benchmark.task,
        "metric": benchmark.metric,
        "higher_is_better": benchmark.higher_is_better,
        "figures": sorted(benchmark.other_metrics),
        "seeds": benchmark.n_seeds,
        "order": order.tolist(),
        "layers": layouts,
        "provenance": dict(benchmark.provenance),
    }
    metadata = {_KEY: json.dumps(head, sort_keys=True).encode()}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    # Renamed when it is complete, so that nobody loads half a benchmark.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pyarrow.parquet.write_table(table, unfinished, **_PARQUET)
        unfinished.replace(path)
    except OSError as error:
        raise BenchmarkError(f"'{path}' cannot be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def is_parquet(path: Path) -> bool:
    """Return whether a file begins like Parquet.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def load_benchmark(name_or_path: str | Path) -> Benchmark:
    """Return an installed benchmark, by name, or one from a file: this program's Parquet, or Act-Bench JSON.

    Raises:
        BenchmarkError: there is no such benchmark or file, or the file is damaged or has another format.
    """
    path = benchmark_path(name_or_path)
    if not path.is_file():
        names = ", ".join(installed_benchmarks())
        installed = f"installed are: {names}" if names else "to install some from a clone: pip install ./benchmark_data"
        raise BenchmarkError(f"no benchmark '{name_or_path}': it is neither a file nor an installed one; {installed}")
    try:
        in_parquet = is_parquet(path)
    except OSError as error:
        raise BenchmarkError(f"'{path}' cannot be read: {error.strerror or error}") from None
    if in_parquet:
        return _read_parquet(path)
    from aquasurf_ray.analysis.benchmarks.act_bench import read_act_bench

    return read_act_bench(path)


def benchmark_path(name_or_path: str | Path) -> Path:
    """Return the file of an installed benchmark, by its name; any other text is a path, which need not exist."""
    return installed_benchmarks().get(str(name_or_path), Path(name_or_path))


def installed_benchmarks() -> dict[str, Path]:
    """Return the files of the installed benchmarks by name, in alphabetical order.

    Raises:
        BenchmarkError: a package that an entry point names cannot be imported, or two have a benchmark of one name.
    """
    found: dict[str, Path] = {}
    for entry in entry_points(group=GROUP):
        try:
            folder = Path(str(files(entry.value)))
        except ImportError as error:
            raise BenchmarkError(f"the benchmarks of the package '{entry.value}' cannot be found: {error}") from None
        for file in folder.glob("*.parquet"):
            other = found.setdefault(file.stem, file)
            if other != file:
                raise BenchmarkError(
                    f"two packages have a benchmark '{file.stem}': '{other.parent.name}' and '{entry.value}'; "
                    "uninstall one, or load it by its path"
                )
    return dict(sorted(found.items()))


def _read_parquet(path: Path) -> Benchmark:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise BenchmarkError(f"'{path}' is damaged: {error}") from None
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise BenchmarkError(
            f"'{path}' is Parquet, but not a benchmark: its metadata has no '{_KEY.decode()}'; name a file that "
            "`aquasurf benchmark build` wrote"
        )
    try:
        head = json.loads(metadata[_KEY])
        if head["version"] == _VERSION:
            return _benchmark(table, head)
    # BenchmarkError is a ValueError too: parts of different lengths also mean a damaged file.
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BenchmarkError(f"'{path}' is damaged: {type(error).__name__}: {error}") from None
    raise BenchmarkError(
        f"'{path}' is a benchmark of version {head['version']}; this program reads version {_VERSION}; export it again"
    )


def _benchmark(table: Any, head: dict[str, Any]) -> Benchmark:
    order = np.array(head["order"], dtype=np.int64)
    columns = [_numbers(table, name, head["seeds"]) for name in _TABLES]
    return Benchmark(
        name=head["name"],
        task=head["task"],
        metric=head["metric"],
        functions=tuple(table["function"].to_pylist()),
        seed_scores=columns[0],
        test_scores=columns[1],
        seconds=columns[2],
        outputs=np.stack([unpack_outputs(cell, order) for cell in table["outputs"].to_pylist()]),
        spectra={
            kind: _unpacked(table[f"spectrum_{kind}"].to_pylist(), [(tuple(n), tuple(w)) for n, w in layouts])
            for kind, layouts in head["layers"].items()
        },
        provenance=head["provenance"],
        aliases=tuple(map(tuple, table["aliases"].to_pylist())),
        other_metrics={name: _numbers(table, name, head["seeds"]) for name in head["figures"]},
        higher_is_better=head["higher_is_better"],
        curves=_curves(table, head["seeds"]),
    )


def _order_of_sample(n: int) -> NDArray[np.int64]:
    """Return the order that sorts the sample, int64 [n]; the identity for outputs on another sample."""
    from aquasurf_ray.activations import sample

    return np.argsort(sample(), kind="stable") if len(sample()) == n else np.arange(n)


def _number_columns(pyarrow: Any, metrics: Mapping[str, Scores], trained: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        # Null for a training that was never run, NaN for one that diverged.
        f"{name}_{seed}": pyarrow.array(column, pyarrow.float64(), mask=~trained[:, seed] & np.isnan(column))
        for name, values in metrics.items()
        for seed, column in enumerate(values.T)
    }


def _numbers(table: Any, name: str, seeds: int) -> Scores:
    columns = [table[f"{name}_{seed}"].to_numpy() for seed in range(seeds)]  # nulls become NaN
    return np.stack(columns, axis=1).astype(np.float64)


def _curve_columns(pyarrow: Any, curves: Scores | None) -> dict[str, Any]:
    if curves is None:
        return {}
    lists = pyarrow.list_(pyarrow.float64())
    # Without the end that no training of the seed reached: a list ends with its training.
    return {
        f"{_CURVE}_{seed}": pyarrow.array([row[: _n_reached(row)] for row in rows], lists)
        for seed, rows in enumerate(curves.swapaxes(0, 1))
    }


def _n_reached(curve: NDArray[np.float64]) -> int:
    reached = np.flatnonzero(~np.isnan(curve))
    return int(reached[-1]) + 1 if len(reached) else 0


def _curves(table: Any, seeds: int) -> Scores | None:
    if f"{_CURVE}_0" not in table.column_names:
        return None
    cells = [table[f"{_CURVE}_{seed}"].to_pylist() for seed in range(seeds)]
    n_epochs = max((len(cell) for column in cells for cell in column), default=0)
    found = np.full((table.num_rows, seeds, n_epochs), np.nan)
    for seed, column in enumerate(cells):
        for row, cell in enumerate(column):
            found[row, seed, : len(cell)] = cell
    return found


def _layouts(spectra: Spectra) -> list[Layout]:
    """Return the layouts of layers, most frequent first: a function that cuts the network has fewer layers."""
    counts = Counter((feature.names, feature.n_weights) for feature in spectra if feature is not None)
    return [layout for layout, _ in counts.most_common()]


def _packed(spectra: Spectra, layouts: list[Layout]) -> list[bytes | None]:
    """Return, for each function, the number of its layout in one byte and the packed spectrum."""
    return [None if s is None else bytes([layouts.index((s.names, s.n_weights))]) + pack_spectrum(s) for s in spectra]


def _unpacked(cells: list[bytes | None], layouts: list[Layout]) -> Spectra:
    return tuple(None if cell is None else unpack_spectrum(cell[1:], *layouts[cell[0]]) for cell in cells)
