"""The store: the only room that speaks SQL. Tasks, functions, runs, evaluations, spectra, costs and events, on SQLite
or PostgreSQL.

`Store.open(url)` is the door; what goes through it are the frozen dataclasses of `store.records`, and what can go wrong
is the family of `store.errors`. Names that start with an underscore, and the other modules, are private.
"""

from __future__ import annotations

from store.answer_records import (
    FunctionHistory,
    LeaderboardRow,
    QueryResult,
    RunStatus,
    SpectrumSummary,
    TaskCost,
    WantedEvaluation,
)
from store.benchmark_file import file_digest, read_benchmark
from store.clock import Clock, SystemClock
from store.errors import (
    BadRecord,
    BadUrl,
    BenchmarkFileError,
    ExportError,
    LeaseLost,
    QueryError,
    RecordNotFound,
    RunExists,
    RunHeld,
    RunNotFound,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreTooOld,
    StoreUnavailable,
    WrongDatabase,
)
from store.health import StoreHealth, examine
from store.import_records import BenchmarkEntry, ImportedEntry, ImportedSpectrum, NewImport
from store.live_records import FailureCause, LiveRun, LiveWorker, RunActivity, StopRequest
from store.liveness import is_dead, this_process
from store.merge import MergeReport
from store.merge_runs import MergedRun
from store.merge_source import check_mergeable
from store.read_only import read_only_query
from store.records import (
    AttemptRecord,
    Claim,
    CostRecord,
    EmbeddingRecord,
    EpochRecord,
    EvaluationRecord,
    EvaluationResult,
    EventRecord,
    FunctionRecord,
    FunctionRow,
    Lease,
    LeaseOwner,
    Neighbor,
    NewRun,
    Proposal,
    Run,
    RunEvaluation,
    Snapshot,
    SpectrumRecord,
    StartRecord,
    SuggestionRecord,
    TaskMetric,
    TaskRecord,
    Wish,
)
from store.roles import Roles
from store.store import Store

__all__ = [
    "AttemptRecord",
    "BadRecord",
    "BadUrl",
    "BenchmarkEntry",
    "BenchmarkFileError",
    "Claim",
    "Clock",
    "CostRecord",
    "EmbeddingRecord",
    "EpochRecord",
    "EvaluationRecord",
    "EvaluationResult",
    "EventRecord",
    "ExportError",
    "FailureCause",
    "FunctionHistory",
    "FunctionRecord",
    "FunctionRow",
    "ImportedEntry",
    "ImportedSpectrum",
    "LeaderboardRow",
    "Lease",
    "LeaseLost",
    "LeaseOwner",
    "LiveRun",
    "LiveWorker",
    "MergeReport",
    "MergedRun",
    "Neighbor",
    "NewImport",
    "NewRun",
    "Proposal",
    "QueryError",
    "QueryResult",
    "RecordNotFound",
    "Roles",
    "Run",
    "RunActivity",
    "RunEvaluation",
    "RunExists",
    "RunHeld",
    "RunNotFound",
    "RunStatus",
    "Snapshot",
    "SpectrumRecord",
    "SpectrumSummary",
    "StartRecord",
    "StopRequest",
    "Store",
    "StoreBusy",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreHealth",
    "StoreTooNew",
    "StoreTooOld",
    "StoreUnavailable",
    "SuggestionRecord",
    "SystemClock",
    "TaskCost",
    "TaskMetric",
    "TaskRecord",
    "WantedEvaluation",
    "Wish",
    "WrongDatabase",
    "check_mergeable",
    "examine",
    "file_digest",
    "is_dead",
    "read_benchmark",
    "read_only_query",
    "this_process",
]
