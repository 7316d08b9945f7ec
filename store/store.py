"""The Store: every verb that other rooms use to read and write the database.

A driver's writes take the lease that it acquired; reads take none. Every verb is one transaction, so there is nothing
to begin, commit or close around it, and a verb that returned has reached the disk. The verbs are grouped by noun:
`functions`, `growth`, `runs`, `leases`, `trials`, `processes`, `activity`, `requests`, `evaluations`, `spectra`,
`costs`, `imports`, `reading` (`queries`, `leaderboard`, `function_history`, `frames`), `export`, `snapshot`, `merge`,
`roles`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from sqlalchemy.exc import DBAPIError

from aquasurf_ray.store.database.clock import Clock, SystemClock
from aquasurf_ray.store.database.engine import (
    check_sqlite_file,
    is_starting_up,
    is_transient,
    warn_of_network_file_system,
)
from aquasurf_ray.store.database.liveness import is_dead as process_is_dead
from aquasurf_ray.store.database.migrate import current_revision, prepare_schema
from aquasurf_ray.store.database.transactions import Database
from aquasurf_ray.store.database.url import StoreUrl, parse_url
from aquasurf_ray.store.merging.merge import MergeVerbs
from aquasurf_ray.store.records.leases import LeaseOwner
from aquasurf_ray.store.verbs.activity import ActivityVerbs
from aquasurf_ray.store.verbs.claims import ClaimVerbs
from aquasurf_ray.store.verbs.costs import CostVerbs
from aquasurf_ray.store.verbs.evaluations import EvaluationVerbs
from aquasurf_ray.store.verbs.export import ExportVerbs
from aquasurf_ray.store.verbs.functions import FunctionVerbs
from aquasurf_ray.store.verbs.growth import GrowthVerbs
from aquasurf_ray.store.verbs.leases import LeaseVerbs
from aquasurf_ray.store.verbs.processes import ProcessVerbs
from aquasurf_ray.store.verbs.reading.frames import FrameVerbs
from aquasurf_ray.store.verbs.reading.function_history import FunctionHistoryVerbs
from aquasurf_ray.store.verbs.reading.leaderboard import LeaderboardVerbs
from aquasurf_ray.store.verbs.reading.queries import QueryVerbs
from aquasurf_ray.store.verbs.requests import RequestVerbs
from aquasurf_ray.store.verbs.roles import RoleVerbs
from aquasurf_ray.store.verbs.runs import RunVerbs
from aquasurf_ray.store.verbs.snapshot import SnapshotVerbs
from aquasurf_ray.store.verbs.spectra import SpectrumVerbs
from aquasurf_ray.store.verbs.trials import TrialVerbs

PATIENCE = 60.0  # seconds


class Store(
    FunctionVerbs,
    GrowthVerbs,
    RunVerbs,
    TrialVerbs,
    ProcessVerbs,
    LeaseVerbs,
    ActivityVerbs,
    RequestVerbs,
    ClaimVerbs,
    EvaluationVerbs,
    SpectrumVerbs,
    CostVerbs,
    QueryVerbs,
    LeaderboardVerbs,
    FunctionHistoryVerbs,
    FrameVerbs,
    ExportVerbs,
    SnapshotVerbs,
    MergeVerbs,
    RoleVerbs,
):
    """An open store. Threads may share it; another process opens its own.

    Example:
        >>> import tempfile
        >>> from aquasurf_ray.store import FunctionRow, Store
        >>> with tempfile.TemporaryDirectory() as folder, Store.open(f"sqlite:///{folder}/runs.db") as store:
        ...     store.add_functions([FunctionRow("f1", "relu(x)", 1)])
        ...     store.find_function("relu(x)").fingerprint
        [1]
        'f1'
    """

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = True,
        migrate: bool = True,
        patience: float = PATIENCE,
        clock: Clock | None = None,
        is_dead: Callable[[LeaseOwner], bool] = process_is_dead,
    ) -> Store:
        """Open a store, and create or upgrade its schema.

        Args:
            url: `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/DATABASE`.
            create: create the schema if the database is empty.
            migrate: upgrade a database of an earlier version.
            patience: seconds that a verb waits for a locked or restarting database.
            clock: the clock to wait by; this machine's by default.
            is_dead: returns whether the process that holds a lease is known to be gone.

        Raises:
            BadUrl: the URL is not a store's.
            StoreUnavailable: no server, no such folder, no permission, or no store there and `create` is False.
            WrongDatabase: the database is another program's; StoreTooNew, StoreTooOld: the store has another version.
        """
        parsed = parse_url(url)
        database = Database(parsed, clock or SystemClock(), patience)
        try:
            _prepare(database, parsed, create, migrate)
        except BaseException:
            database.close()
            raise
        return cls(database, is_dead)

    @staticmethod
    def exists(url: str) -> bool:
        """Return whether there is a store at a URL. Nothing is created or changed.

        Raises:
            BadUrl, StoreUnavailable, WrongDatabase: no store can be created there either.
        """
        parsed = parse_url(url)
        database = Database(parsed, SystemClock(), PATIENCE)
        try:
            _reach(database, parsed, create=True)
            if parsed.path is not None and not (parsed.path.exists() and parsed.path.stat().st_size):
                return False  # asking SQLite itself would create the file
            return database.read(current_revision) is not None
        finally:
            database.close()

    def close(self) -> None:
        """Close the connections; closing twice does no harm."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.safe_url})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(f"{self!r} cannot be sent to another process; open the URL there")


def _prepare(database: Database, url: StoreUrl, create: bool, migrate: bool) -> None:
    _reach(database, url, create)
    if url.path is not None:
        warn_of_network_file_system(url.path)
    prepare_schema(database, create=create, migrate=migrate)


def _reach(database: Database, url: StoreUrl, create: bool) -> None:
    """Check that the database is there, or can be created."""
    if url.kind == "sqlite":
        database.retrying(lambda: check_sqlite_file(url, create))
    else:
        database.connect(_soon)


def _soon(error: DBAPIError) -> bool:
    """Return whether a first connection is worth retrying, because nobody should wait a minute for a wrong address."""
    return is_starting_up(error) if _is_refusal(error) else is_transient(error)


def _is_refusal(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) is None
