"""The findings of a run, read from the store for its report; the run may still be going while they are read.

A higher score is better; `value` returns the task's metric with its own sign, which is what people see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from aquasurf_ray.activations.rendering import readable
from aquasurf_ray.analysis.studies.confirmed_run import Confirmation
from aquasurf_ray.analysis.studies.headline import Headline, best_of, confirmation_of, headline_of, other_confirmations
from aquasurf_ray.analysis.studies.ranking import one_each, ranked, read_board
from aquasurf_ray.analysis.studies.reference import diverged_reference, reference_of
from aquasurf_ray.analysis.studies.run_origin import TRANSFERRED
from aquasurf_ray.analysis.studies.transferred_run import Transfer, read_transfer
from aquasurf_ray.analysis.studies.verdict import Judged, Verdict, verdict_on
from aquasurf_ray.store import (
    EpochRecord,
    FunctionRecord,
    LeaderboardRow,
    LearnedValues,
    NoteRecord,
    RequestedEvaluation,
    Run,
    RunStatus,
    Store,
    TaskMetric,
    TaskRecord,
)
from aquasurf_ray.store.records.features import EmbeddingRecord
from aquasurf_ray.surrogate.spectra import SpectrumFeature
from aquasurf_ray.training_metrics import on_split

CURVES = 5  # learning curves of so many functions are read and drawn


@dataclass(frozen=True, eq=False)
class Findings:
    """All data of a report.

    Attributes:
        requests: the run's evaluations in the order of the requests.
        board: the run's leaderboard, best first (`ranking.read_board`).
        seed_scores: scores of completed trainings over all runs of the task which selected nothing, by function and
            seed; None for diverged ones.
        curves: the epochs of the best functions and of the baselines, by evaluation.
        learned: the final learned parameters of the same functions, by evaluation.
        spectra: the stored form of spectra, by function; a quick report has only those of the best function and the
            reference.
        embedding: the map that the last suggestion was made on; None if the run has none.
        again: what repeats this run: a command, or a call in Python.
        store_option: the option that makes another command use the same store; empty for the default store.
        versions: the versions of Python and of the packages in the last session, by name; empty if they were not
            recorded.
        coverage: the share of the network's weights that the spectra cover; None if the run's log does not have it.
        layer_roles: the role of each layer in the spectra, "" for none (`workers.role_layers`); empty for a network
            without roles, or if no log has them.
        quick: leave out pictures that take longer than seconds to draw.
        confirmation: the finished confirmation that is said of the run; of a run that is a confirmation, what it has so
            far.
        transfer: of a run that is a transfer, what it has so far; None for other runs.
        confirming: the evaluations of that confirmation, if it is another run.
        other_confirmations: the run's other finished confirmations, the latest first.
        notes: people's notes on the run.
        reference_function: the function that gains are over; None if the store does not have it.
        diverged_reference: its name if it has diverged, and so has no score; else None.
    """

    run: Run
    task: TaskRecord
    status: RunStatus
    candidates: tuple[FunctionRecord, ...]
    requests: tuple[RequestedEvaluation, ...]
    board: tuple[LeaderboardRow, ...]
    seed_scores: dict[int, dict[int, float | None]]
    curves: dict[int, tuple[EpochRecord, ...]]
    learned: dict[int, tuple[LearnedValues, ...]]
    spectra: dict[int, bytes]
    embedding: EmbeddingRecord | None
    read_at: datetime
    again: str
    versions: dict[str, str]
    store_option: str = ""
    coverage: str | None = None
    quick: bool = False
    confirmation: Confirmation | None = None
    transfer: Transfer | None = None
    confirming: tuple[RequestedEvaluation, ...] = ()
    other_confirmations: tuple[Confirmation, ...] = ()
    notes: tuple[NoteRecord, ...] = ()
    layer_roles: dict[str, str] = field(default_factory=dict)
    reference_function: FunctionRecord | None = None
    diverged_reference: str | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the task's network, in its order; mostly none."""
        return tuple(self.run.config.get("roles") or ())

    @property
    def role_of_places(self) -> dict[str, str]:
        """The role of each activation of the network by its name; empty without roles."""
        return {place: role for role, places in self.task.places_of_roles.items() for place in places}

    def spectrum(self, function_id: int) -> SpectrumFeature | None:
        """Return the spectrum of a function, or None."""
        data = self.spectra.get(function_id)
        return None if data is None else SpectrumFeature.from_bytes(data)

    @property
    def metric_name(self) -> str:
        """The name of the metric on the axes."""
        return on_split(self.task.metric.name)

    def value(self, score: float | None) -> float:
        """Return the metric's value for a score; NaN for None."""
        value = self.task.metric.value(score)
        return float("nan") if value is None else value

    @cached_property
    def finished(self) -> tuple[RequestedEvaluation, ...]:
        """The evaluations with a result, in the order of their results; those taken from other runs are at the place
        where this run requested them."""
        done = [request for request in self.requests if request.evaluation.finished]
        return tuple(sorted(done, key=self._moment))

    def _moment(self, request: RequestedEvaluation) -> tuple[datetime, int]:
        ended = request.evaluation.finished_at
        # A reused result ended before this run asked for it; an import has no time at all.
        return max(request.suggested_at, ended) if ended else request.suggested_at, request.position

    @cached_property
    def best(self) -> Headline | None:
        """The best function with a completed training; after a confirmation, the one with the best confirmed mean."""
        return best_of(self.board, self.task.metric, self.confirmation)

    def headline(self, row: LeaderboardRow) -> Headline:
        """Return a function with the number that is said of it: its confirmed mean, or the score of its row."""
        return headline_of(row, self.task.metric, self.confirmation)

    @cached_property
    def reference(self) -> LeaderboardRow | None:
        """The training of the reference in this run: of ReLU, or of the network's own function."""
        return _reference(self.reference_function, self.board)

    def is_reference(self, function: str) -> bool:
        """Return whether gains are over this function, by the name that the store has for it."""
        return self.reference_function is not None and function == self.reference_function.name

    @cached_property
    def winners(self) -> tuple[LeaderboardRow, ...]:
        """The functions with a completed training, one row each, best first: by confirmed means, if there are."""
        return tuple(one_each(ranked(self.board, self.confirmation)))

    @cached_property
    def best_functions(self) -> tuple[LeaderboardRow, ...]:
        """The winners without the baselines and the reference, which a run of given functions has among these."""
        return tuple(row for row in self.winners if not (row.baseline or self.is_reference(row.function)))

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The functions of the confirmation or of the transfer, with their tests; empty for a run that has neither."""
        found = self.confirmation or self.transfer
        return () if found is None else found.functions

    @property
    def judged_metric(self) -> TaskMetric:
        """The metric of the tests, and of confirmed means: a study may be confirmed on a task with another one."""
        return self.task.metric if self.confirmation is None else self.confirmation.metric

    def verdict(self, name: Callable[[str], str] = readable) -> Verdict | None:
        """Return the verdict on the run, which its command prints too; None where nothing was tested."""
        return verdict_on(self.confirmation, self.transfer, name)

    @cached_property
    def leader(self) -> LeaderboardRow | None:
        """The function that the verdict is about: the one that beats the reference, or else the best one."""
        rows, said = self.best_functions, self.verdict()
        named = None if said is None else said.function
        return next((row for row in rows if row.function == named), rows[0] if rows else None)


def read_findings(store: Store, name: str, again: str, store_option: str = "", *, quick: bool = False) -> Findings:
    """Read the findings of a run.

    Args:
        store: an open store.
        name: the name of the run.
        again: what repeats this run, for the report.
        store_option: the option that makes another command use the same store, for the report.
        quick: leave out pictures that take longer than seconds to draw.

    Raises:
        RecordNotFound: there is no such run.
    """
    run = store.run(name)
    fisher, seed = run.config.get("fisher", "sampled"), int(run.config.get("training_seed", 0))
    snapshot, reference = store.snapshot(run.id), reference_of(store, run)
    task, confirmation = store.task(run.task_id), confirmation_of(store, run, own=True)
    board = tuple(read_board(store, run, confirmation))
    best = best_of(board, task.metric, confirmation)
    rows = (None if best is None else best.row, _reference(reference, board))
    functions = {row.function_id for row in rows if row is not None}
    if not quick:
        functions |= {function.id for function in snapshot.candidates}
    spectra = store.spectra(run.task_id, functions, fisher, seed)
    winners = [row for row in one_each(ranked(board, confirmation)) if not row.baseline]
    source = run.config.get(TRANSFERRED)
    shown = [row.evaluation_id for row in (*winners[:CURVES], *(row for row in board if row.baseline))]
    return Findings(
        run=snapshot.run,
        task=task,
        status=store.status(run.id, fisher=fisher, spectrum_seed=seed),
        candidates=snapshot.candidates,
        requests=snapshot.evaluations,
        board=board,
        seed_scores=store.independent_scores(run.task_id, {row.function_id for row in board}),
        curves={number: store.curve(number) for number in shown},
        learned={number: values for number in shown if (values := store.learned(number))},
        spectra={number: record.feature for number, record in spectra.items() if record.feature is not None},
        embedding=_last_map(store, snapshot.evaluations),
        read_at=datetime.now(UTC),
        again=again,
        store_option=store_option,
        versions=store.versions(run.id),
        coverage=store.spectrum_coverage(run.id),
        layer_roles=store.layer_roles(run.task_id) if run.config.get("roles") else {},
        quick=quick,
        confirmation=confirmation,
        transfer=None if source is None else read_transfer(store, source, name),
        confirming=() if confirmation is None or confirmation.name == name else _evaluations(store, confirmation.name),
        other_confirmations=other_confirmations(store, run),
        notes=tuple(store.notes(run.id)),
        reference_function=reference,
        diverged_reference=diverged_reference(store, run, board),
    )


def _evaluations(store: Store, name: str) -> tuple[RequestedEvaluation, ...]:
    return store.snapshot(store.run(name).id).evaluations


def _reference(reference: FunctionRecord | None, board: tuple[LeaderboardRow, ...]) -> LeaderboardRow | None:
    return next((row for row in board if reference is not None and row.function_id == reference.id), None)


def _last_map(store: Store, requests: tuple[RequestedEvaluation, ...]) -> EmbeddingRecord | None:
    """Return the map of the last suggestion. A suggestion of a metric surrogate names the version of its features
    instead, which the store does not have."""
    versions = [request.suggestion.embedding_version for request in requests if request.suggestion]
    known = [version for version in versions if version is not None]
    return store.embedding(known[-1]) if known else None
