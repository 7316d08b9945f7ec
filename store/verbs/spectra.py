"""Spectra and embeddings, the surrogate's view of functions, stored as bytes that this room does not interpret.

A spectrum belongs to a task, a function, a kind of Fisher information and a seed, and is shared by all runs. An
embedding is found by the digest of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from aquasurf_ray.store.database.engine import insert_new, insert_or_skip
from aquasurf_ray.store.database.schema import Embedding, Event, Run, Spectrum
from aquasurf_ray.store.errors import BadRecord, StoreCorrupt
from aquasurf_ray.store.records.features import EmbeddingRecord, Fisher, SpectrumRecord
from aquasurf_ray.store.records.leases import Lease
from aquasurf_ray.store.verbs.store_core import FencedRun, StoreCore, chunks, log

SPECTRUM_COLUMNS = tuple(getattr(Spectrum, field.name) for field in fields(SpectrumRecord))


class SpectrumVerbs(StoreCore):
    """Recording and reading spectra and embeddings."""

    def record_spectra(
        self,
        lease: Lease,
        spectra: Sequence[SpectrumRecord],
        coverage: str | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> int:
        """Write spectra in one transaction, and return how many were new; existing ones of the task stay.

        Args:
            coverage: the share of the network's weights that they cover, for the run's log; see `spectrum_coverage`.
            roles: the role of each layer, for the run's log; see `layer_roles`.

        Raises:
            BadRecord: a `done` spectrum has no feature.
            LeaseLost: another driver took the run over.
        """
        for spectrum in spectra:
            if (spectrum.status == "done") != (spectrum.feature is not None):
                raise BadRecord(f"a spectrum that is {spectrum.status} must {_expected_feature(spectrum)}")

        def body(connection: sa.Connection, run: FencedRun) -> int:
            new = _insert_spectra(connection, run, spectra)
            if new:
                of_network = {"coverage": coverage, "roles": None if roles is None else dict(roles)}
                known = {key: value for key, value in of_network.items() if value is not None}
                log(connection, run.id, "spectra", data={"function_ids": new, **known})
            return len(new)

        return self._fenced(lease, body)

    def spectra(
        self, task_id: int, function_ids: Iterable[int], fisher: Fisher = "sampled", seed: int = 0
    ) -> dict[int, SpectrumRecord]:
        """Return the stored spectra, by function."""
        return self._read(
            lambda connection: {
                row.function_id: SpectrumRecord(*row)
                for row in _select(connection, SPECTRUM_COLUMNS, task_id, function_ids, fisher, seed)
            }
        )

    def spectrum_coverage(self, run_id: int) -> str | None:
        """Return the share of the network's weights that the spectra of a run cover, from its log; None if the run
        computed none, or is of a version that did not log it."""
        query = sa.select(Event.data).where(Event.run_id == run_id, Event.kind == "spectra").order_by(Event.seq)
        rows = self._read(lambda connection: connection.execute(query).scalars().all())
        return next((data["coverage"] for data in rows if data and "coverage" in data), None)

    def layer_roles(self, task_id: int) -> dict[str, str]:
        """Return the role of each layer in the spectra of a task, "" for none, from the logs of its runs; empty if its
        network has no roles, or they are of a version that did not log them."""
        query = (
            sa.select(Event.data)
            .join(Run, Run.id == Event.run_id)
            .where(Run.task_id == task_id, Event.kind == "spectra")
            .order_by(Event.run_id, Event.seq)
        )
        rows = self._read(lambda connection: connection.execute(query).scalars().all())
        return next((dict(data["roles"]) for data in rows if data and "roles" in data), {})

    def save_embedding(self, lease: Lease, embedding: EmbeddingRecord) -> bool:
        """Store an embedding; return False if its version exists already.

        Raises:
            BadRecord: the lengths of the arrays do not match.
        """
        import numpy as np

        # Little-endian whatever this machine is: another one may read the store.
        ids = np.ascontiguousarray(embedding.function_ids, dtype="<i8")
        coordinates = np.ascontiguousarray(embedding.coordinates, dtype="<f4")
        if coordinates.shape != (len(ids), 2):
            raise BadRecord(f"{len(ids)} functions need coordinates ({len(ids)}, 2), got {coordinates.shape}")
        values = {"version": embedding.version, "task_id": embedding.task_id, "config": embedding.config}
        values |= {"function_ids": ids.tobytes(), "coordinates": coordinates.tobytes()}

        def body(connection: sa.Connection, run: FencedRun) -> bool:
            added = connection.execute(insert_or_skip(connection, Embedding), values).rowcount == 1
            # Logged also if the embedding existed: the run's log says which one its suggestions used.
            log(connection, run.id, "embedding", data={"version": embedding.version, "functions": len(ids)})
            return added

        return self._fenced(lease, body)

    def embedding(self, version: str) -> EmbeddingRecord | None:
        """Return the embedding of this version.

        Raises:
            StoreCorrupt: its arrays are cut short.
        """
        query = sa.select(
            Embedding.version, Embedding.task_id, Embedding.config, Embedding.function_ids, Embedding.coordinates
        ).where(Embedding.version == version)
        row = self._read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _to_embedding(row)


def _expected_feature(spectrum: SpectrumRecord) -> str:
    return "have a feature" if spectrum.status == "done" else "have none"


def _insert_spectra(connection: sa.Connection, run: FencedRun, spectra: Sequence[SpectrumRecord]) -> list[int]:
    by = {"task_id": run.task_id, "run_id": run.id}
    # In the order of functions, so that two runs that write the same spectra lock rows in one order.
    rows = [asdict(spectrum) | by for spectrum in sorted(spectra, key=lambda item: item.function_id)]
    return insert_new(connection, Spectrum, rows, "function_id")


def _select(
    connection: sa.Connection,
    columns: Sequence[Any],
    task_id: int,
    function_ids: Iterable[int],
    fisher: str,
    seed: int,
) -> Iterable[Any]:
    for part in chunks(sorted(set(function_ids))):
        query = sa.select(*columns).where(
            Spectrum.task_id == task_id,
            Spectrum.function_id.in_(part),
            Spectrum.fisher == fisher,
            Spectrum.seed == seed,
        )
        yield from connection.execute(query)


def _to_embedding(row: Any) -> EmbeddingRecord:
    import numpy as np

    n = len(row.function_ids) // 8  # 8 bytes for an int64, and 8 for two coordinates in float32
    if len(row.function_ids) != 8 * n or len(row.coordinates) != 8 * n:
        sizes = f"{len(row.function_ids)} and {len(row.coordinates)} bytes"
        raise StoreCorrupt(f"embedding '{row.version}' has arrays of {sizes}; compute it again")
    ids = np.frombuffer(row.function_ids, dtype="<i8").astype(np.int64)
    coordinates = np.frombuffer(row.coordinates, dtype="<f4").astype(np.float32).reshape(n, 2)
    return EmbeddingRecord(row.version, row.task_id, row.config, ids, coordinates)
