"""The errors of the store, grouped by what the caller can do about them.

StoreError
├── BadUrl                the URL itself is wrong (also a ValueError)
├── StoreUnavailable      no server, no such folder, no permission; mend it and try again
│   ├── StoreBusy         another process held the database locked for longer than our patience
│   └── StoreFull         the disk is full; what was committed is intact
├── WrongDatabase         the file or the database is not one of ours; nothing was changed in it
│   ├── StoreTooNew       written by a newer version of the code
│   ├── StoreTooOld       needs a migration that the caller asked not to run
│   └── StoreCorrupt      a value that this code cannot have written
├── RunNotFound           no run of that name (also a LookupError)
├── RecordNotFound        no such task, function or evaluation (also a LookupError)
├── RunExists             the name is taken by a run of another configuration
├── RunHeld               another driver works on the run
├── LeaseLost             this driver no longer holds the run and may write nothing
├── BadRecord             a value that may not be stored (also a ValueError)
├── QueryError            the database refused a read-only query, in its own words
├── ExportError           the file cannot be written in this format
└── BenchmarkFileError    the file is no benchmark that can be read; says where (also a ValueError)

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
    """A database, but not one that this program wrote."""


class StoreTooNew(WrongDatabase):
    """The schema is of a version that this code does not know."""


class StoreTooOld(WrongDatabase):
    """The schema is of an earlier version, and migrating was ruled out."""


class StoreCorrupt(WrongDatabase):
    """A stored value breaks its format."""


class RunNotFound(StoreError, LookupError):
    """No run has this name or number."""


class RecordNotFound(StoreError, LookupError):
    """No task, function or evaluation has this number or name."""


class RunExists(StoreError):
    """The name belongs to a run with another configuration."""


class RunHeld(StoreError):
    """Another driver holds the run's lease."""


class LeaseLost(StoreError):
    """The lease was taken over or given back; the write was not made."""


class BadRecord(StoreError, ValueError):
    """A record breaks a rule of the schema."""


class QueryError(StoreError, ValueError):
    """A read-only query was refused or failed."""


class ExportError(StoreError):
    """An export could not be written."""


class BenchmarkFileError(StoreError, ValueError):
    """A file that is no benchmark, or a broken one; the text says where."""
