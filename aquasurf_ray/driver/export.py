"""A stored run written to a file: what only the store knows, joined with what only the surrogate can read."""

from __future__ import annotations

from pathlib import Path

from aquasurf_ray.driver.config import store_url
from store import Store
from surrogate.spectra import SpectrumFeature


def export_run(name: str, form: str, output: Path, store: str | None = None) -> int:
    """Writes the run to `output` as `act-bench`, `csv` or `parquet`; returns how many functions it holds.

    Raises:
        StoreError: no such run, another format, or a file that cannot be written.
    """
    with Store.open(store_url(store), create=False) as opened:
        return opened.export_run(opened.run(name).id, form, output, cdf=_cdf)


def _cdf(feature: bytes) -> list[float]:
    """The cumulative distribution of a stored feature's log eigenvalues, as Act-Bench keeps it."""
    values: list[float] = SpectrumFeature.from_bytes(feature).cdf().tolist()
    return values
