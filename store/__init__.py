"""The store: the only room that speaks SQL. Tasks, functions, runs, evaluations, spectra, costs and events, on SQLite
or PostgreSQL.

`Store.open(url)` is the door; what goes through it are the frozen dataclasses of `store.records.runs`, and what can go
wrong is the family of `store.errors`. Names that start with an underscore, and the other modules, are private.
"""

from __future__ import annotations

from aquasurf_ray.store.benchmark_files.reading import file_digest, read_benchmark
from aquasurf_ray.store.database.clock import Clock, SystemClock
from aquasurf_ray.store.database.health import StoreHealth, examine
from aquasurf_ray.store.database.liveness import is_dead, this_process
from aquasurf_ray.store.errors import (
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
from aquasurf_ray.store.merging.merge import MergeReport
from aquasurf_ray.store.merging.runs import MergedRun
from aquasurf_ray.store.merging.source import check_mergeable
from aquasurf_ray.store.records.answers import (
    FunctionHistory,
    HistoryEntry,
    LeaderboardRow,
    QueryResult,
    RunStatus,
    SpectrumSummary,
    TaskCost,
)
from aquasurf_ray.store.records.growth import Family, GrowthState, NewCandidate, Relative
from aquasurf_ray.store.records.imports import BenchmarkEntry, ImportedEntry, ImportedSpectrum, NewImport
from aquasurf_ray.store.records.live import FailureCause, LiveRun, LiveWorker, RunActivity, StopRequest
from aquasurf_ray.store.records.runs import (
    Claim,
    CostRecord,
    EmbeddingRecord,
    EpochRecord,
    EvaluationRecord,
    EvaluationRequest,
    EvaluationResult,
    EventRecord,
    FunctionRecord,
    FunctionRow,
    Lease,
    LeaseOwner,
    Neighbor,
    NewRun,
    Proposal,
    RequestedEvaluation,
    Run,
    Snapshot,
    SpectrumRecord,
    StartRecord,
    SuggestionRecord,
    TaskMetric,
    TaskRecord,
)
from aquasurf_ray.store.records.trials import AskedTrial, OpenTrial, Told
from aquasurf_ray.store.sql.read_only import read_only_query
from aquasurf_ray.store.store import Store
from aquasurf_ray.store.verbs.roles import Roles
from aquasurf_ray.training_metrics import LearnedValues

__all__ = [
    "AskedTrial",
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
    "EvaluationRequest",
    "EvaluationResult",
    "EventRecord",
    "ExportError",
    "FailureCause",
    "Family",
    "FunctionHistory",
    "FunctionRecord",
    "FunctionRow",
    "GrowthState",
    "HistoryEntry",
    "ImportedEntry",
    "ImportedSpectrum",
    "LeaderboardRow",
    "LearnedValues",
    "Lease",
    "LeaseLost",
    "LeaseOwner",
    "LiveRun",
    "LiveWorker",
    "MergeReport",
    "MergedRun",
    "Neighbor",
    "NewCandidate",
    "NewImport",
    "NewRun",
    "OpenTrial",
    "Proposal",
    "QueryError",
    "QueryResult",
    "RecordNotFound",
    "Relative",
    "RequestedEvaluation",
    "Roles",
    "Run",
    "RunActivity",
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
    "Told",
    "WrongDatabase",
    "check_mergeable",
    "examine",
    "file_digest",
    "is_dead",
    "read_benchmark",
    "read_only_query",
    "this_process",
]
