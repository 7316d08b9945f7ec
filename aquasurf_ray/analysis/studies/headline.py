"""The best function of a run, and the number that is said of it wherever it is named.

After a confirmation that is its mean over the judging seeds, on the split that judged; the score that it was selected
by is the luckiest of many. Nothing heavy is imported for a run without a confirmation, because `status` asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aquasurf_ray.analysis.studies.run_origin import TRANSFERRED
from aquasurf_ray.counted import counted
from aquasurf_ray.training_metrics import on_split
from aquasurf_ray.value_text import value_text

if TYPE_CHECKING:
    from aquasurf_ray.analysis.studies.confirmed_run import Confirmation
    from aquasurf_ray.store import LeaderboardRow, Run, RunStatus, Store, TaskMetric


@dataclass(frozen=True)
class Headline:
    """A function and its number.

    `score` is higher where better: the mean of a confirmation over `n_seeds` on the split that judged, with the change
    of the recipe that it was judged with; without one, the score of the function's row on the leaderboard. `metric` is
    that of the task which gave it: a study may be confirmed on a task with another one.
    """

    row: LeaderboardRow
    metric: TaskMetric
    score: float
    recipe_change: str
    n_seeds: int = 1
    split: Literal["test", "validation"] = "validation"
    is_confirmed: bool = False

    @property
    def function(self) -> str:
        """The function's name."""
        return self.row.function

    @property
    def noise(self) -> float | None:
        """The standard error of a score that is a mean over several seeds of the search; else None."""
        return None if self.is_confirmed else self.row.noise

    @property
    def averaged(self) -> int | None:
        """How many seeds of the run itself the score is a mean over; None for a single training or a confirmed mean."""
        return None if self.noise is None else len(self.row.seeds)

    @property
    def value(self) -> float:
        """The score as the metric's value, with its own sign."""
        return self.metric.value(self.score)

    @property
    def metric_name(self) -> str:
        """The metric with its split, as in the columns of tables: `val_accuracy`."""
        return on_split(self.metric.name, self.split)

    @property
    def text(self) -> str:
        """The metric and its value, for people: `val_accuracy 0.9000`."""
        return f"{self.metric_name} {value_text(self.value)}"

    @property
    def confirmed(self) -> str | None:
        """What was confirmed: `mean over 5 seeds, test split`; None without a confirmation."""
        return f"mean over {counted(self.n_seeds, 'seed')}, {self.split} split" if self.is_confirmed else None


def headline_of(row: LeaderboardRow, metric: TaskMetric, confirmation: Confirmation | None) -> Headline:
    """Return a row of a run's leaderboard, which is in this metric, with the number that is said of its function."""
    judged = () if confirmation is None else confirmation.functions
    found = next((each for each in judged if each.function == row.function), None)
    mean = None if confirmation is None or found is None else confirmation.judged(found)
    if confirmation is None or found is None or mean is None or mean.mean is None:
        return Headline(row, metric, row.score, row.recipe_change)
    metric, change = confirmation.metric, found.recipe_change
    return Headline(row, metric, mean.mean, change, mean.n, confirmation.judge, is_confirmed=True)


def best_of(board: Sequence[LeaderboardRow], metric: TaskMetric, confirmation: Confirmation | None) -> Headline | None:
    """Return the best function of a leaderboard with a completed training; after a confirmation, by its means."""
    if confirmation is not None:
        from aquasurf_ray.analysis.studies.ranking import ranked

        board = ranked(board, confirmation)
    row = next((row for row in board if row.stopped_early is None), None)
    return None if row is None else headline_of(row, metric, confirmation)


def best_of_run(store: Store, status: RunStatus, runs: Sequence[Run] | None = None) -> Headline | None:
    """Return the best function of a run whose status has been read; `runs` are all of the store, if they have been."""
    if status.best is None:
        return None
    metric = status.task.metric
    confirmation = confirmation_of(store, status.run, own=True, runs=runs)
    if confirmation is None and TRANSFERRED not in status.run.config:
        return headline_of(status.best, metric, None)
    from aquasurf_ray.analysis.studies.ranking import read_board

    return best_of(read_board(store, status.run, confirmation), metric, confirmation)


def confirmation_of(
    store: Store, run: Run, *, own: bool = False, runs: Sequence[Run] | None = None
) -> Confirmation | None:
    """Return the finished confirmation that is said of a run, or None; with `own`, of a run that is a confirmation,
    what it has so far. `runs` are all of the store, if they have been read."""
    is_own = own and run.kind == "confirm"
    name = run.name if is_own else finished_confirmation(store.runs() if runs is None else runs, run)
    if name is None:
        return None  # the next line loads the expression language, which takes a while
    from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation

    return read_confirmation(store, name)


def other_confirmations(store: Store, run: Run) -> tuple[Confirmation, ...]:
    """Return the finished confirmations of a run besides the one that is said of it, the latest first."""
    names = finished_confirmations(store.runs(), run)[1:]
    if not names:
        return ()
    from aquasurf_ray.analysis.studies.confirmed_run import read_confirmation

    return tuple(read_confirmation(store, name) for name in names)


def finished_confirmation(runs: Sequence[Run], run: Run) -> str | None:
    """Return the name of the finished confirmation that is said of a run, or None."""
    names = finished_confirmations(runs, run)
    return names[0] if names else None


def finished_confirmations(runs: Sequence[Run], run: Run) -> tuple[str, ...]:
    """Return the names of a run's finished confirmations, the one that is said of it first.

    That is the last one on the test split, which selected nothing, or else the last one; the others follow, the latest
    first.
    """
    found = [
        each
        for each in reversed(runs)
        if each.kind == "confirm" and each.config.get("confirms") == run.name and each.status == "finished"
    ]
    in_order = sorted(found, key=lambda each: each.config.get("judge", "test") != "test")
    return tuple(each.name for each in in_order)
