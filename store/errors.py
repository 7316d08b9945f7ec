"""The errors of the store, grouped by what the caller can do about them.

StoreError
├── BadUrl                the URL itself is wrong (also a ValueError)
├── StoreUnavailable      no server, no such folder, no permission; correct it and try again
│   ├── StoreBusy         another process kept the database locked for longer than the store's patience
│   └── StoreFull         the disk is full; everything that was committed is intact
├── WrongDatabase         the file or the database belongs to another program; nothing was changed in it
│   ├── StoreTooNew       written by a newer version of the code
│   ├── StoreTooOld       needs a migration that the caller asked not to run
│   └── StoreCorrupt      a value that this code cannot have written
├── RunNotFound           no run of that name (also a LookupError)
├── RecordNotFound        no such task, function or evaluation (also a LookupError)
├── RunExists             the name is taken by a run of another configuration
├── NameTaken             a name of a function stands for another function in the store
├── RunHeld               another driver works on the run
├── LeaseLost             this driver no longer holds the run and may write nothing
├── BadRecord             a value that may not be stored (also a ValueError)
├── QueryError            the database refused a read-only query, in its own words
├── ExportError           the file cannot be written in this format
└── BenchmarkFileError    the file is not a readable benchmark; the text says where (also a ValueError)

No message holds a password: every text that comes from a driver passes `store.database.url.StoreUrl.redact`.
"""

from __future__ import annotations


class StoreError(Exception):
    """The store could not do what was asked."""


class BadUrl(StoreError, ValueError):
    """The URL is not one of a SQLite file or a PostgreSQL database."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, read or written."""


class StoreBusy(StoreUnavailable):
    """Another process kept the database locked."""


class StoreFull(StoreUnavailable):
    """The disk that holds the database is full."""


class WrongDatabase(StoreError):
    """The database was not written by this program."""


class StoreTooNew(WrongDatabase):
    """The schema has a version that this code does not know."""


class StoreTooOld(WrongDatabase):
    """The schema has an earlier version, and the caller does not allow migrating."""


class StoreCorrupt(WrongDatabase):
    """A stored value breaks its format."""


class RunNotFound(StoreError, LookupError):
    """No run has this name or number."""


class RecordNotFound(StoreError, LookupError):
    """No task, function or evaluation has this number or name."""


class RunExists(StoreError):
    """The name belongs to a run with another configuration."""


class NameTaken(StoreError):
    """A function with somebody's own operator has a name that another function has."""


class RunHeld(StoreError):
    """Another driver holds the run's lease."""


class LeaseLost(StoreError):
    """The lease was taken over or released; nothing was written."""


class BadRecord(StoreError, ValueError):
    """A record breaks a rule of the schema."""


class QueryError(StoreError, ValueError):
    """A read-only query was refused or failed."""


class ExportError(StoreError):
    """An export could not be written."""


class BenchmarkFileError(StoreError, ValueError):
    """The file is not a benchmark, or is damaged; the text says where."""
