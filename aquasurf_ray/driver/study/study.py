"""`Study`: ask for functions and tell their values, from any loop, in any number of processes on one store."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from aquasurf_ray.driver.callbacks.given import checked_callbacks
from aquasurf_ray.driver.callbacks.notes_to_log import NotesToLog
from aquasurf_ray.driver.errors import BadUse, TrialEnded, TrialTaken
from aquasurf_ray.driver.events import Callback, Events
from aquasurf_ray.driver.run.lease_keeper import Heartbeat
from aquasurf_ray.driver.run.training_events import training_ended, training_failed, training_started
from aquasurf_ray.driver.settings.places import store_url
from aquasurf_ray.driver.state.evaluations import EvaluationState
from aquasurf_ray.driver.study.identity import Direction, StudyPlan, network_task, plan_of
from aquasurf_ray.driver.study.presence import Presence
from aquasurf_ray.driver.study.session import BudgetChanged, StudySession, open_run
from aquasurf_ray.driver.study.trial import BestTrial, State, Trial, number
from aquasurf_ray.store import AskedTrial, LeaseLost, Store, StoreError, TellAnswer, this_process
from aquasurf_ray.tasks import NetworkFactory, Task
from aquasurf_ray.tasks.loaders import Examples
from aquasurf_ray.tasks.objective import Objective

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_WAIT, LONGEST_WAIT = 0.05, 1.0  # seconds between looks at the trials of other processes


class Study:
    """A search whose trainings are your own loop: ask for a function, train it, tell the value that it reached.

    Any number of processes may open the study of one name in one store. Each trial is leased to the process that asked
    for it; if that process dies, another one is asked to train the function, up to `max_attempts` times. Opening a
    study again continues it. The first trials are the baselines. In the store, a study is a run like any other:
    `aquasurf top NAME`.

    Args:
        name: the study's name in the store.
        direction: "maximize" or "minimize", what is to be done with the values.
        features: what the surrogate sees of functions: "outputs", their values, which cost nothing; or the task, the
            name of a task, or the network factory whose Fisher spectra it sees besides. A spectrum takes seconds, and
            `ask` computes those that are missing.
        examples: with a network factory, the data set or `DataLoader` that spectra are taken on.
        objective: with a network factory, its objective; by default `classification()`.
        task: says that the values are the score of this task, as this package would measure it: the study shares
            results with all runs of the task, and `aquasurf resume` can train what is left.
        metric: the name of the values in tables.
        reference: the function that gains are over, such as the one that your network has now; the study tries it among
            the first. By default that of the task or network in `features` or `task`, else ReLU.
        evaluations: the number of trials of all processes together, besides the baselines; by default no limit, or that
            of the study that exists. With `leader_seeds` above 1 it must be given.
        callbacks: objects with a method `on_event(event)`, for what this process does (`driver.events`). They are
            called in the thread that calls `ask`, `tell` and so on, one call after the other.
        **options: `store`, `space`, `candidates`, `seed`, `training_seed`, `baselines`, `lease_seconds`,
            `max_attempts`, ... with the meaning of `SearchConfig`.

    Raises:
        BadUse: an argument is wrong, the study has another reference, or it has finished more evaluations.
        RunExists: the study of this name has other arguments.
        RunHeld: a driver works on the run of this name.
        StoreError: the store cannot be used.

    Example:
        >>> import tempfile
        >>> store = f"sqlite:///{tempfile.mkdtemp()}/runs.db"
        >>> study = Study("doctest", direction="maximize", store=store, evaluations=1, candidates=20)
        >>> for trial in study:
        ...     study.tell(trial, 0.5 if trial.function == "tanh(x)" else 0.1)
        >>> study.best_trial.function, len(study.dataframe())
        ('tanh(x)', 9)
    """

    def __init__(
        self,
        name: str,
        *,
        direction: Direction | None = None,
        features: str | Task | NetworkFactory | None = None,
        examples: Examples | None = None,
        objective: Objective | None = None,
        task: str | Task | None = None,
        metric: str | None = None,
        reference: str | None = None,
        evaluations: int | None = None,
        callbacks: Iterable[Callback] = (),
        **options: Any,
    ) -> None:
        # Everything that emits holds the lock below.
        self._events = Events((NotesToLog(logger), *checked_callbacks(callbacks)), any_thread=True)
        if (examples is None) != (features is None or isinstance(features, str | Task)):
            raise BadUse("features and examples go together: a network factory, and the data for its spectra")
        if examples is None and objective is not None:
            raise BadUse(
                "objective goes with a network factory in features=, and with its examples; got it without examples"
            )
        if examples is not None:
            features = network_task(name, features, examples, objective)  # type: ignore[arg-type]  # as checked above
        given = {**options, "evaluations": evaluations}
        plan = plan_of(name, features, task, (metric, direction), reference, given)
        self._plan = replace(plan, of_network=examples is not None)
        # As the configuration has it, which reads "5" as a number too.
        self.name, self._budget = name, None if evaluations is None else self._plan.config.evaluations
        self._lock = threading.RLock()
        self._held: dict[int, AskedTrial] = {}
        self._trials: dict[int, Trial] = {}
        self._worker = _worker_name()
        self._pid = os.getpid()
        self._store = Store.open(store_url(self._plan.config.store))
        self._presence = Presence(self._store, self._held, self._plan.config.lease_seconds)
        self._heartbeat = Heartbeat(self._presence.renew, self._plan.config.lease_seconds, "leases of trials")
        self._heartbeat.start()
        self._session: StudySession | None = None
        self._stop_noted = False
        mine = (self._store, self._presence, self._heartbeat, self._held, self._plan, self._pid)
        self._close = weakref.finalize(self, _close, *mine)
        try:
            self._opened()
        except BaseException:
            self._close()
            raise

    @property
    def direction(self) -> Direction:
        """Whether higher values are better: "maximize" or "minimize"."""
        return self._plan.direction

    @property
    def best_trial(self) -> BestTrial | None:
        """The best trial of all processes; None before the first has a value."""
        with self._lock:
            self._attempt(lambda session: session.sync())
            best = self._opened().history.evaluations.best
            if best is None or best.score is None:
                return None
            (request,) = self._store.requests(self._opened().run_id, [best.evaluation_id])
            return BestTrial(request.position, best.function, self._plan.sign * best.score)

    def ask(self, timeout: float | None = None) -> Trial | None:
        """Return the next function to train, or None when there is none, or `aquasurf stop NAME` asked for an end.

        While the last trials are with other processes, `ask` waits, because one of these processes may die. If this
        process has trials itself that it has not told, it does not wait.

        Args:
            timeout: the longest time to wait, in seconds; by default until the study is finished.

        Raises:
            BadUse: the timeout is not a number.
            RunHeld: a driver has taken the run over.
            StoreError: the store cannot be used.
        """
        timeout = None if timeout is None else number(timeout, "timeout")
        began, wait = time.monotonic(), FIRST_WAIT
        while True:
            with self._lock:
                if self._stops():
                    return None
                asked = self._attempt(lambda session: session.next_trial())
                if asked is not None:
                    return self._new_trial(asked)
                if self._compute_missing():
                    continue
                if self._finished() or self._held:
                    return None
            left = None if timeout is None else timeout - (time.monotonic() - began)
            if left is not None and left <= 0:
                return None
            time.sleep(wait if left is None else min(wait, left))
            wait = min(2 * wait, LONGEST_WAIT)

    def __iter__(self) -> Iterator[Trial]:
        """Yield trials until `ask` returns None."""
        while (trial := self.ask()) is not None:
            yield trial

    def tell(self, trial: Trial | int, value: float) -> None:
        """Record the value that a trial reached. NaN and infinities mean that the function diverged.

        Args:
            trial: a trial of this process, or its number.

        Raises:
            BadUse: the value is not a number, the metric of `task=` cannot have it, or this process was not asked for
                the trial.
            TrialEnded: the trial was told before, or it failed.
            TrialTaken: the trial's lease had expired, and another process was asked to train the function. Nothing is
                lost: the run's log has the value, and this process can ask on.
        """
        with self._lock:
            known, value = self._known(trial), number(value)
            self._plan.refuse_out_of_range(value)
            result = known.result(value, self._plan.sign, self._worker)
            told = self._attempt(lambda session: session.store.tell(session.lease, known.asked, result))
            self._end(known, "lost" if told.state == "taken" else "told")
            _refuse(told, self.name, known)
            self._events.emit(training_ended(self._opened().history, self._state(known), result, recorded=True))
            self._finished()

    def fail(self, trial: Trial, reason: str = "") -> None:
        """Do `trial.failed(reason)`."""
        if not isinstance(reason, str):
            raise BadUse(f"reason must be text, got {reason!r:.60}")
        with self._lock:
            known, most = self._known(trial), self._plan.config.max_attempts
            error = reason or "failed, according to its loop"
            self._attempt(
                lambda session: session.store.fail_trial(session.lease, known.asked, error, most_attempts=most)
            )
            self._end(known, "failed")
            self._events.emit(training_failed(self._state(known), error, self._worker))

    def refuse_ended(self, trial: Trial) -> None:
        """Raise TrialEnded if a trial was told, failed or was lost, and BadUse if this Study is closed."""
        if trial.state != "open":
            how = "failed" if trial.state == "failed" else f"was {trial.state}"
            raise TrialEnded(
                f"trial {trial.number} of study '{self.name}' has ended already: it {how}; ask for another"
            )
        self._refuse_closed()

    def compute_spectra(self, most: int | None = None) -> int:
        """Compute missing spectra of the candidates, at most `most`, and return how many were computed here.

        A process that only calls this is a worker for those that ask. Without spectra among the features, it does
        nothing.

        Raises:
            BadUse: `most` is not a whole number.
        """
        if most is not None and (isinstance(most, bool) or not isinstance(most, int)):
            raise BadUse(f"most must be a whole number of spectra, got {most!r:.60}")
        n = 0
        while most is None or n < most:
            with self._lock:
                left = None if most is None else most - n
                now = self._attempt(lambda s: s.spectra.compute(len(s.history.candidates), left))  # noqa: B023
            if not now:
                break
            n += now
        return n

    def dataframe(self) -> pd.DataFrame:
        """Return all trials of all processes, in the order of their numbers, with their values as `value`.

        The other columns are those of `Store.evaluations`.
        """
        frame = self._store.evaluations(run=self.name)
        frame.insert(0, "number", frame["position"])
        frame.insert(1, "value", self._plan.sign * frame["score"])
        return frame

    def close(self) -> None:
        """Give back the trials that were not told, for other processes, and close the store.

        This also happens at the end of a `with` block, and when the process ends.
        """
        self._close()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study('{self.name}', {self._store.safe_url})"

    def _new_trial(self, asked: AskedTrial) -> Trial:
        trial = Trial(self, asked, self._opened().function(asked).name)
        self._trials[trial.number] = trial
        claim = asked.claim
        self._events.emit(training_started(trial.function, claim.record, claim.origin, self._worker))
        return trial

    def _known(self, trial: Trial | int) -> Trial:
        """Return an open trial of this process.

        Raises:
            BadUse, TrialEnded: see `tell`.
        """
        is_number = isinstance(trial, int) and not isinstance(trial, bool)
        if not is_number and not isinstance(trial, Trial):
            raise BadUse(f"a trial must be what ask() returned, or its number, got {trial!r:.60}")
        known = trial if isinstance(trial, Trial) else self._trials.get(trial)
        if known is None or not known.is_of(self):
            what = f"trial {trial}" if is_number else str(trial)
            raise BadUse(f"{what} was not asked for by this Study; tell it where it was asked")
        self.refuse_ended(known)
        return known

    def _end(self, trial: Trial, state: State) -> None:
        trial.state = state
        self._attempt(lambda session: session.end(trial.asked))

    def _state(self, trial: Trial) -> EvaluationState:
        return self._opened().history.evaluations[trial.asked.claim.evaluation_id]

    def _compute_missing(self) -> bool:
        """Compute spectra if the next suggestion lacks some, and return whether it did."""
        n = self._opened().spectra_wanted()
        return bool(n and self._attempt(lambda session: session.spectra.compute(n)))

    def _finished(self) -> bool:
        """Return whether the study is finished, and mark it as that in the store."""
        session = self._opened()
        if not session.finished():
            return False
        self._attempt(lambda session: session.store.end_sharing(session.lease, "finished"))
        return True

    def _stops(self) -> bool:
        """Return whether somebody has asked this process to stop, and say so the first time."""
        self._opened()
        asked_by = self._presence.stop_asked_by()
        if asked_by is not None and not self._stop_noted:
            self._stop_noted = True
            self._events.note(f"study '{self.name}' was asked to stop from {asked_by.host}: this process asks no more")
        return asked_by is not None

    def _attempt(self, work: Callable[[StudySession], T]) -> T:
        """Return what `work` returns; a run that a driver has had and released meanwhile, or whose budget another
        process has changed, is opened again first.

        Raises:
            RunHeld: a driver has it now.
        """
        try:
            return work(self._opened())
        except (LeaseLost, BudgetChanged):
            self._session = None
            return work(self._opened())

    def _refuse_closed(self) -> None:
        if not self._close.alive:
            raise BadUse(f"study '{self.name}' is closed; open it again with Study('{self.name}', ...)")

    def _opened(self) -> StudySession:
        if os.getpid() != self._pid:
            raise BadUse(f"study '{self.name}' was opened by process {self._pid}; open it in this process too")
        self._refuse_closed()
        self._heartbeat.check()
        if self._session is None:
            run, lease = open_run(self._store, self._plan, self._budget, self._events)
            self._budget = None  # when this process opens it again, another one may have changed the budget
            self._presence.enter(run.id)
            self._session = StudySession(self._store, run, lease, self._plan, self._held, self._events)
        return self._session


def _close(
    store: Store,
    presence: Presence,
    heartbeat: Heartbeat,
    held: dict[int, AskedTrial],
    plan: StudyPlan,
    pid: int,
) -> None:
    """Give back the trials of a study's process; a forked process has none of its own and leaves everything alone."""
    if os.getpid() != pid:
        return
    heartbeat.close()
    try:
        presence.leave()
        _release_trials(store, held, plan)
    except StoreError:  # the leases expire instead: at the end of a process nobody could catch an error
        pass
    finally:
        store.close()


def _release_trials(store: Store, held: dict[int, AskedTrial], plan: StudyPlan) -> None:
    run = next((run for run in store.runs() if run.name == plan.config.name), None)
    if run is None or run.lease_owner is not None:
        return
    lease = store.share_run(run.id, this_process(), code_version=run.code_version)
    mine = {trial.attempt_id for trial in held.values()}
    open_here = [trial for trial in store.open_trials(run.id) if trial.attempt_id in mine]
    if open_here:
        store.give_back(lease, open_here)
    held.clear()
    if run.status == "running":
        store.end_sharing(lease, "interrupted")


def _refuse(told: TellAnswer, name: str, trial: Trial) -> None:
    if told.state == "taken":
        raise TrialTaken(
            f"trial {trial.number} of study '{name}' was given to {told.by} after its lease had expired, and that "
            "result counts; the value is in the run's log"
        )
    if told.state == "ended":
        raise TrialEnded(f"trial {trial.number} of study '{name}' has ended already; ask for another")


def _worker_name() -> str:
    me = this_process()
    return f"{me.host} pid {me.pid}"
