"""Leaderboards in the task's own metric: `val_rmse` is 0.25 where the store has the score -0.25 (more is better).

The names of the columns contain the metric's name, and are the same in tables, CSV and JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from aquasurf_ray.analysis.studies.headline import confirmation_of, other_confirmations
from aquasurf_ray.cli.terminal.open_store import open_store
from aquasurf_ray.cli.terminal.output import Format, print_rows
from aquasurf_ray.training_metrics import on_split

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.analysis.studies.confirmation import SeedMean
    from aquasurf_ray.analysis.studies.confirmed_run import Confirmation

_OF_SEEDS = ("seeds", "noise")
_CONFIRMED = ("confirmed", "confirmed_metric", "confirmed_seeds", "confirmed_diverged", "confirmed_recipe_change")
_OF_ROW = (
    *_OF_SEEDS,
    *_CONFIRMED,
    *("val_loss", "seconds", "time_ratio", "memory_ratio", "stopped_early", "seed", "recipe_change"),
    *("baseline", "function"),
)
# Only these may be left out of a table: any other empty column says something about the run.
_OFTEN_UNKNOWN = (*_OF_SEEDS, *_CONFIRMED, "time_ratio", "memory_ratio", "stopped_early", "recipe_change")
_DECIMALS = {"seconds": 1, "time_ratio": 2, "memory_ratio": 2}


def metrics(metric: stored.TaskMetric, row: stored.LeaderboardRow | stored.EvaluationRecord) -> dict[str, Any]:
    """Return the metric on the validation and on the test split, by column."""
    names = on_split(metric.name), on_split(metric.name, "test")
    return dict(zip(names, (metric.value(row.score), metric.value(row.test_score)), strict=True))


def interval(metric: stored.TaskMetric, mean: SeedMean) -> tuple[float | None, float | None]:
    """Return the ends of a mean's interval as values of the metric, the smaller one first; None for no interval."""
    if mean.mean is None or mean.low is None or mean.high is None:
        return None, None
    return metric.interval(mean.mean, mean.low, mean.high)


@dataclass(frozen=True)
class Board:
    """Rows of a leaderboard, with the task's metric; the scores of their functions' trainings that selected nothing, by
    seed; the run's confirmation; the id of the function that its gains are over, and its name if it has diverged and so
    has no row; and the run's other confirmations."""

    metric: stored.TaskMetric
    rows: list[stored.LeaderboardRow]
    seed_scores: dict[int, dict[int, float | None]]
    confirmation: Confirmation | None = None
    reference_id: int | None = None
    others: tuple[Confirmation, ...] = ()
    diverged_reference: str | None = None

    @classmethod
    def of(
        cls,
        store: stored.Store,
        run: stored.Run,
        rows: list[stored.LeaderboardRow],
        confirmation: Confirmation | None = None,
    ) -> Board:
        """Return the board of some rows of a run's leaderboard."""
        from aquasurf_ray.analysis.studies.reference import reference_of

        scores = store.independent_scores(run.task_id, {row.function_id for row in rows})
        reference, metric = reference_of(store, run), store.task(run.task_id).metric
        number = None if reference is None else reference.id
        return cls(metric, rows, scores, confirmation, number, other_confirmations(store, run))

    def documents(self) -> list[dict[str, Any]]:
        """Return the rows by column.

        `confirmed` is the mean of the run's confirmation, on the split that judges; without a confirmation, that over
        all seeds but those that selected the row. It is None without other seeds, or if one of them diverged. `seeds`
        is how many seeds the metrics are means over, and `noise` the standard error of the score; both are None in a
        run that has trained no function with several. `confirmed_metric` and `confirmed_recipe_change` are what the
        confirmation judged by and with, of which a row of the search may have another.
        """
        return [self._document(row) for row in self.rows]

    def _document(self, row: stored.LeaderboardRow) -> dict[str, Any]:
        from aquasurf_ray.analysis.studies.ranking import confirmed_mean

        others, found = confirmed_mean(row, self.confirmation, self.seed_scores), self.confirmation
        metric = self.metric if found is None else found.metric
        judged = () if found is None else found.functions
        changes = {each.function: each.recipe_change for each in judged if each.is_judged}
        confirmed = {
            "confirmed": metric.value(others.mean),
            "confirmed_metric": metric.name if others.n else None,
            "confirmed_seeds": others.n or None,
            "confirmed_diverged": others.n_diverged or None,
            "confirmed_recipe_change": changes.get(row.function) or None,
        }
        plain = {column: getattr(row, column) for column in _OF_ROW if column not in confirmed}
        plain["seeds"] = None if row.noise is None else len(row.seeds)
        plain["recipe_change"] = row.recipe_change or None
        # A study's metric may have the name of another column, such as val_loss.
        return {"rank": row.rank, **confirmed, **plain, **metrics(self.metric, row)}


def print_board(board: Board, form: Format) -> None:
    """Print a leaderboard; a table leaves out columns that no row fills, has words for yes and no, marks the reference,
    and says after a confirmation what ranks."""
    metric, documents = board.metric, board.documents()
    columns = ["rank", on_split(metric.name), on_split(metric.name, "test")]
    columns += [column for column in _OF_ROW if column not in columns]
    if form is Format.table:
        # People need no column of dashes; programs get the same columns for every run.
        filled = {column for document in documents for column, value in document.items() if value is not None}
        columns = [column for column in columns if column in filled or column not in _OFTEN_UNKNOWN]
        columns = [column for column in columns if column not in _said_elsewhere(documents)]
        documents = [
            document | _in_words(board, row, document) for row, document in zip(board.rows, documents, strict=True)
        ]
    print_rows(columns, [[document[column] for column in columns] for document in documents], form, decimals=_DECIMALS)
    if form is Format.table:
        _print_notes(board, documents)


def _print_notes(board: Board, documents: list[dict[str, Any]]) -> None:
    """Print what ranks after a confirmation, and that the reference has no row."""
    from aquasurf_ray.activations.rendering import readable

    notes = []
    if board.diverged_reference is not None:
        notes.append(f"{readable(board.diverged_reference)}, the reference, diverged")
    if board.confirmation is not None:
        from aquasurf_ray.analysis.studies.verdict import other_verdict

        notes += [what_ranks(board.confirmation, documents), *map(other_verdict, board.others)]
    if notes:
        print("\n" + "\n".join(notes))


def _said_elsewhere(documents: list[dict[str, Any]]) -> set[str]:
    """Return the columns about confirmed means that people need not read: the last line names the metric, and the rate
    is mostly that of the row."""
    confirmed = [document for document in documents if document["confirmed"] is not None]
    same = all(document["confirmed_recipe_change"] == document["recipe_change"] for document in confirmed)
    return {"confirmed_metric", *(["confirmed_recipe_change"] if same else [])}


def _in_words(board: Board, row: stored.LeaderboardRow, document: dict[str, Any]) -> dict[str, str]:
    from aquasurf_ray.activations.rendering import readable
    from aquasurf_ray.analysis.studies.reference import standing

    return {
        "function": readable(row.function),
        "baseline": standing(baseline=row.baseline, reference=row.function_id == board.reference_id),
        "stopped_early": "stopped" if document["stopped_early"] else "",
    }


def what_ranks(confirmation: Confirmation, documents: list[dict[str, Any]]) -> str:
    """Return what `confirmed` is after a confirmation, and where the functions that have none stand."""
    mean, judge = f"mean{confirmation.of_other_metric}", confirmation.judge
    means = f"confirmed: {mean} on the {judge} split (run '{confirmation.name}'), which ranks"
    if all(document["confirmed"] is not None for document in documents):
        return means
    return f"{means}; functions without one follow, by their validation score"


def print_leaderboard(name: str, store: str | None, *, n: int, form: Format) -> None:
    """Print the best functions of a run."""
    with open_store(store) as opened:
        board = best_board(opened, opened.run(name), n)
    print_board(board, form)


def best_board(opened: stored.Store, run: stored.Run, n: int) -> Board:
    """Return the best `n` functions of a run and all its baselines, by their confirmed means if there are any."""
    from aquasurf_ray.analysis.studies.ranking import ranked, read_board
    from aquasurf_ray.analysis.studies.reference import diverged_reference

    confirmation = confirmation_of(opened, run, own=True)
    rows = ranked(read_board(opened, run, confirmation), confirmation)
    # The baselines stay in view even if 20 functions beat them: a score means little without the reference's.
    shown = [row for row in rows if row.rank <= n or row.baseline]
    lost = diverged_reference(opened, run, rows)
    return replace(Board.of(opened, run, shown, confirmation), diverged_reference=lost)
