"""Export stored runs and benchmarks to files. The spectra come from the store; the surrogate's code decodes them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aquasurf_ray.analysis.benchmarks.from_store import benchmark_from_run, refuse_roles
from aquasurf_ray.analysis.benchmarks.parquet import write_benchmark
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.output_file import check_place
from aquasurf_ray.driver.candidates import load_space
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.store import Run, Store
from aquasurf_ray.surrogate.spectra import SpectrumFeature

ACT_BENCH = "act-bench"
BENCHMARK_FORMATS = (".parquet", ".json")


def export_run(name: str, form: str, output: Path, store: str | None = None) -> int:
    """Write a run to `output` as `act-bench`, `csv` or `parquet`, and return its number of functions.

    Raises:
        StoreError: there is no such run or format, or the file cannot be written.
        BenchmarkError: Act-Bench has no place for a function per role.
    """
    with Store.open(store_url(store), create=False) as opened:
        run = opened.run(name)
        if form == ACT_BENCH:
            refuse_roles(request.function for request in opened.snapshot(run.id).evaluations)
        return opened.export_run(run.id, form, output, cdf=_cdf)


def check_benchmark_file(output: Path) -> None:
    """Raise BadUse if no benchmark can be written there: a build would find out only after days of training."""
    if output.suffix not in BENCHMARK_FORMATS:
        raise BadUse(f"output: a benchmark is written to a file named {' or '.join(BENCHMARK_FORMATS)}, got '{output}'")
    try:
        check_place(output)
    except AnalysisError as error:
        raise BadUse(f"output: {error}") from None


def export_benchmark(store: Store, name: str, output: Path) -> int:
    """Write a build to a file, in the format of its suffix, and return its number of functions."""
    if output.suffix == ".json":
        return store.export_run(store.run(name).id, ACT_BENCH, output, cdf=_cdf)
    run = store.run(name)
    benchmark = benchmark_from_run(store, name, space=load_space(run.config["space"]), provenance=_provenance(run))
    write_benchmark(benchmark, output)
    return len(benchmark)


def _provenance(run: Run) -> dict[str, Any]:
    """Return the command that builds the benchmark, and the installed versions of the packages that it depends on."""
    config = run.config
    command = f"aquasurf benchmark build {config['task']} --space {config['space']} --seeds {config['seeds']}"
    command += f" --fisher {','.join(config['fishers'])} --fast-activations {config['fast_activations']}"
    versions = {package: version(package) for package in ("aquasurf-ray", "torch", "numpy", "scipy", "scikit-learn")}
    return {"command": command, "versions": {"python": platform.python_version(), **versions}}


def _cdf(feature: bytes) -> list[float]:
    """Return the cumulative distribution of a stored feature's log eigenvalues, in the form that Act-Bench has."""
    values: list[float] = SpectrumFeature.from_bytes(feature).cdf().tolist()
    return values
