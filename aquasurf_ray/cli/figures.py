"""A task's figures as people know them: `val_rmse` 0.25, where the store has the score -0.25, of which more is better.

The names of the columns hold the metric's name, so they are the same in a table, in CSV and in JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquasurf_ray.cli.output import Format, print_rows

if TYPE_CHECKING:
    import store as stored

_OF_ROW = ("val_loss", "seconds", "time_ratio", "memory_ratio", "stopped_early", "seed", "baseline", "function")
_OFTEN_UNKNOWN = ("time_ratio", "memory_ratio", "stopped_early")
_DECIMALS = {"seconds": 1, "time_ratio": 2, "memory_ratio": 2}


def figures(metric: stored.TaskMetric, row: stored.LeaderboardRow | stored.EvaluationRecord) -> dict[str, Any]:
    """The metric on the validation and on the test split, by column."""
    if metric.name == "accuracy":
        return {"val_accuracy": row.val_accuracy, "test_accuracy": row.test_accuracy}
    return {f"val_{metric.name}": metric.value(row.score), f"test_{metric.name}": metric.value(row.test_score)}


def board_document(metric: stored.TaskMetric, row: stored.LeaderboardRow) -> dict[str, Any]:
    """A row of the leaderboard, by column."""
    return {"rank": row.rank, **figures(metric, row), **{column: getattr(row, column) for column in _OF_ROW}}


def print_board(metric: stored.TaskMetric, rows: list[stored.LeaderboardRow], form: Format) -> None:
    """Rows of the leaderboard; in a table without the columns that no row fills, and with words for yes and no."""
    documents = [board_document(metric, row) for row in rows]
    columns = ["rank", f"val_{metric.name}", f"test_{metric.name}"]
    columns += [column for column in _OF_ROW if column not in columns]
    if form is Format.table:
        filled = {column for document in documents for column, value in document.items() if value is not None}
        columns = [column for column in columns if column in filled or column not in _OFTEN_UNKNOWN]
        documents = [document | _in_words(document) for document in documents]
    print_rows(columns, [[document[column] for column in columns] for document in documents], form, decimals=_DECIMALS)


def _in_words(document: dict[str, Any]) -> dict[str, str]:
    return {
        "baseline": "baseline" if document["baseline"] else "",
        "stopped_early": "stopped" if document["stopped_early"] else "",
    }
