"""Leaderboards in the task's own metric: `val_rmse` is 0.25 where the store has the score -0.25 (more is better).

The names of the columns contain the metric's name, and are the same in tables, CSV and JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format, print_rows

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.analysis.studies.confirmation import SeedMean

_CONFIRMED = ("confirmed", "confirmed_seeds", "confirmed_diverged")
_OF_ROW = (
    *_CONFIRMED,
    *("val_loss", "seconds", "time_ratio", "memory_ratio", "stopped_early", "seed", "baseline", "function"),
)
# Only these may be left out of a table: any other empty column says something about the run.
_OFTEN_UNKNOWN = (*_CONFIRMED, "time_ratio", "memory_ratio", "stopped_early")
_DECIMALS = {"seconds": 1, "time_ratio": 2, "memory_ratio": 2}


def metrics(metric: stored.TaskMetric, row: stored.LeaderboardRow | stored.EvaluationRecord) -> dict[str, Any]:
    """Return the metric on the validation and on the test split, by column."""
    if metric.name == "accuracy":
        return {"val_accuracy": row.val_accuracy, "test_accuracy": row.test_accuracy}
    return {f"val_{metric.name}": metric.value(row.score), f"test_{metric.name}": metric.value(row.test_score)}


def interval(metric: stored.TaskMetric, mean: SeedMean) -> tuple[float | None, float | None]:
    """Return the ends of a mean's interval as values of the metric, the smaller one first; None for no interval."""
    if mean.mean is None or mean.low is None or mean.high is None:
        return None, None
    return metric.interval(mean.mean, mean.low, mean.high)


@dataclass(frozen=True)
class Board:
    """Rows of a leaderboard, with the task's metric and the scores of their functions' complete trainings by seed."""

    metric: stored.TaskMetric
    rows: list[stored.LeaderboardRow]
    seed_scores: dict[int, dict[int, float | None]]

    @classmethod
    def of(cls, store: stored.Store, run: stored.Run, rows: list[stored.LeaderboardRow]) -> Board:
        """Return the board of some rows of a run's leaderboard."""
        scores = store.seed_scores(run.task_id, {row.function_id for row in rows})
        return cls(store.task(run.task_id).metric, rows, scores)

    def documents(self) -> list[dict[str, Any]]:
        """Return the rows by column.

        `confirmed` is the mean over all seeds but the row's own; None without others, or if one of them diverged.
        """
        return [self._document(row) for row in self.rows]

    def _document(self, row: stored.LeaderboardRow) -> dict[str, Any]:
        from aquasurf_ray.analysis.studies.confirmation import other_seeds

        others = other_seeds(self.seed_scores.get(row.function_id, {}), row.seed)
        confirmed = {
            "confirmed": self.metric.value(others.mean),
            "confirmed_seeds": others.n or None,
            "confirmed_diverged": others.n_diverged or None,
        }
        plain = {column: getattr(row, column) for column in _OF_ROW if column not in confirmed}
        return {"rank": row.rank, **metrics(self.metric, row), **confirmed, **plain}


def print_board(board: Board, form: Format) -> None:
    """Print a leaderboard; a table leaves out columns that no row fills, and has words for yes and no."""
    metric, documents = board.metric, board.documents()
    columns = ["rank", f"val_{metric.name}", f"test_{metric.name}"]
    columns += [column for column in _OF_ROW if column not in columns]
    if form is Format.table:
        # People need no column of dashes; programs get the same columns for every run.
        filled = {column for document in documents for column, value in document.items() if value is not None}
        columns = [column for column in columns if column in filled or column not in _OFTEN_UNKNOWN]
        documents = [document | _in_words(document) for document in documents]
    print_rows(columns, [[document[column] for column in columns] for document in documents], form, decimals=_DECIMALS)


def _in_words(document: dict[str, Any]) -> dict[str, str]:
    return {
        "baseline": "baseline" if document["baseline"] else "",
        "stopped_early": "stopped" if document["stopped_early"] else "",
    }


def print_leaderboard(name: str, store: str | None, *, n: int, form: Format) -> None:
    """Print the best functions of a run."""
    with open_store(store) as opened:
        run = opened.run(name)
        board = Board.of(opened, run, best_rows(opened, run, n))
    print_board(board, form)


def best_rows(opened: stored.Store, run: stored.Run, n: int) -> list[stored.LeaderboardRow]:
    """Return the best `n` functions of a run and all its baselines, best first."""
    # The baselines stay in view even if 20 functions beat them: a score means little without ReLU's.
    return [row for row in opened.leaderboard(run_id=run.id) if row.rank <= n or row.baseline]
