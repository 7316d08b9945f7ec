"""Frequent questions about a store, as SQL that runs on SQLite and PostgreSQL alike.

A parameter is `:name` in the SQL, and reaches the database as a bound value of the type of its default; `run` has no
default and is required. Means over seeds are of trainings with the unchanged recipe: otherwise they would mix
in those that chose a function's learning rate. The queries avoid everything that the engines spell differently
(rounding, splitting of text).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aquasurf_ray.store.errors import QueryError

Value = str | int | float
_NEEDED = {"run": "the name of a run", "other": "the name of another run"}


@dataclass(frozen=True)
class ExampleQuery:
    """A named question. `needs` are the required parameters, `defaults` the others with their values."""

    name: str
    question: str
    sql: str
    needs: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)

    def values(self, given: Mapping[str, str]) -> dict[str, Value]:
        """Return the values of all parameters, from the texts that were given.

        Raises:
            QueryError: a parameter is unknown, missing, or not a number although its default is one.
        """
        for name in given:
            if name not in (*self.needs, *self.defaults):
                known = ", ".join((*self.needs, *self.defaults)) or "none"
                raise QueryError(f"example '{self.name}' has no parameter '{name:.40}'; its parameters are: {known}")
        for name in self.needs:
            if name not in given:
                raise QueryError(f"example '{self.name}' needs {_NEEDED[name]}: --set {name}=NAME")
        needed: dict[str, Value] = {name: given[name] for name in self.needs}
        return needed | {name: _typed(name, default, given) for name, default in self.defaults.items()}


def example_query(name: str) -> ExampleQuery:
    """Return the example with this name.

    Raises:
        QueryError: no example has this name.
    """
    for example in EXAMPLE_QUERIES:
        if example.name == name:
            return example
    raise QueryError(f"no example is named '{name:.40}'; known: {', '.join(e.name for e in EXAMPLE_QUERIES)}")


def _typed(name: str, default: Value, given: Mapping[str, str]) -> Value:
    text = given.get(name)
    # SQLite sorts any text after any number, so a number must be bound as one.
    if text is None or isinstance(default, str):
        return default if text is None else text
    try:
        return type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise QueryError(f"parameter '{name}' must be {kind}, got '{text:.40}'") from None


_TEN = {"n": 10}

EXAMPLE_QUERIES: tuple[ExampleQuery, ...] = (
    ExampleQuery(
        "best",
        "The best evaluations of a run",
        """
        SELECT rank, score, test_score, seconds, seed, function
        FROM leaderboard WHERE run = :run
        ORDER BY rank, function, seed LIMIT :n
        """,
        ("run",),
        _TEN,
    ),
    ExampleQuery(
        "mean-of-seeds",
        "The best functions by their mean over seeds, without functions that diverged with any seed",
        """
        SELECT avg(score) AS mean, min(score) AS worst, max(score) AS best, count(*) AS seeds, function
        FROM leaderboard
        WHERE run = :run AND recipe_change = ''
            AND function NOT IN (SELECT function FROM diverged WHERE run = :run AND recipe_change = '')
        GROUP BY function HAVING count(*) >= :seeds
        ORDER BY mean DESC, function LIMIT :n
        """,
        ("run",),
        {"seeds": 2, "n": 10},
    ),
    ExampleQuery(
        "against",
        "The number of functions that beat a given one, by their mean score",
        """
        WITH means AS (
            SELECT function, avg(score) AS mean FROM leaderboard WHERE run = :run AND recipe_change = ''
            GROUP BY function
        )
        SELECT (SELECT mean FROM means WHERE function = :function) AS its_mean,
            sum(CASE WHEN mean > (SELECT mean FROM means WHERE function = :function) THEN 1 ELSE 0 END) AS better,
            count(*) AS functions
        FROM means
        """,
        ("run",),
        {"function": "relu(x)"},
    ),
    ExampleQuery(
        "operators",
        "Scores by the outermost operator: number of functions, their mean, the best",
        """
        WITH outermost(operator) AS (VALUES ('add'), ('sub'), ('mul'), ('div'), ('max'), ('min'), ('pow'))
        SELECT outermost.operator, count(DISTINCT leaderboard.function) AS functions,
            avg(leaderboard.score) AS mean, max(leaderboard.score) AS best
        FROM outermost JOIN leaderboard ON leaderboard.function LIKE outermost.operator || '(%'
        WHERE leaderboard.run = :run AND leaderboard.recipe_change = ''
        GROUP BY outermost.operator ORDER BY mean DESC
        """,
        ("run",),
    ),
    ExampleQuery(
        "containing",
        "The best functions that contain an operator",
        """
        SELECT max(score) AS best, avg(score) AS mean, count(*) AS seeds, function
        FROM leaderboard
        WHERE run = :run AND recipe_change = ''
            AND (function LIKE :operator || '(%' OR function LIKE '%(' || :operator || '(%'
            OR function LIKE '%,' || :operator || '(%')
        GROUP BY function ORDER BY mean DESC, function LIMIT :n
        """,
        ("run",),
        {"operator": "erf", "n": 10},
    ),
    ExampleQuery(
        "diverged",
        "The reasons why functions diverged, with counts",
        """
        SELECT coalesce(reason, 'unknown') AS reason, count(*) AS evaluations, count(DISTINCT function) AS functions,
            min(function) AS example
        FROM diverged WHERE run = :run
        GROUP BY reason ORDER BY evaluations DESC, reason
        """,
        ("run",),
    ),
    ExampleQuery(
        "fickle",
        "Functions that diverge with some seeds but not with others",
        """
        SELECT count(*) AS scores, max(score) AS best,
            (SELECT count(*) FROM diverged WHERE diverged.run = :run AND diverged.function = leaderboard.function)
                AS diverged, function
        FROM leaderboard
        WHERE run = :run AND function IN (SELECT function FROM diverged WHERE run = :run)
        GROUP BY function ORDER BY best DESC, function LIMIT :n
        """,
        ("run",),
        _TEN,
    ),
    ExampleQuery(
        "noise",
        "The spread between seeds of one function, over functions whose best score reaches a threshold",
        """
        SELECT avg(spread) AS mean_spread, max(spread) AS largest_spread, count(*) AS functions
        FROM (
            SELECT max(score) - min(score) AS spread FROM leaderboard WHERE run = :run AND recipe_change = ''
            GROUP BY function HAVING count(*) >= 2 AND max(score) >= :least
        ) AS spreads
        """,
        ("run",),
        {"least": -math.inf},
    ),
    ExampleQuery(
        "overfitted",
        "The most overfitted trainings: the largest gaps between training and validation score",
        """
        SELECT train_score - score AS gap, train_score, score, seed, function
        FROM leaderboard WHERE run = :run AND score >= :least AND train_score IS NOT NULL
        ORDER BY gap DESC, function LIMIT :n
        """,
        ("run",),
        {"least": -math.inf, "n": 10},
    ),
    ExampleQuery(
        "test",
        "The test scores of the best functions, and their rank on the test split",
        """
        WITH means AS (
            SELECT function, avg(score) AS val_mean, avg(test_score) AS test_mean, count(*) AS seeds
            FROM leaderboard WHERE run = :run AND recipe_change = '' AND test_score IS NOT NULL GROUP BY function
        ), places AS (
            SELECT function, val_mean, test_mean, seeds, rank() OVER (ORDER BY val_mean DESC) AS val_place,
                rank() OVER (ORDER BY test_mean DESC) AS test_place
            FROM means
        )
        SELECT val_place, test_place, val_mean, test_mean, seeds, function
        FROM places ORDER BY val_place, function LIMIT :n
        """,
        ("run",),
        _TEN,
    ),
    ExampleQuery(
        "fast",
        "The best functions among those that train fast, by the mean over their seeds",
        """
        SELECT avg(score) AS mean, avg(seconds) AS mean_seconds, function
        FROM leaderboard WHERE run = :run AND recipe_change = ''
        GROUP BY function HAVING avg(seconds) <= :seconds
        ORDER BY mean DESC, function LIMIT :n
        """,
        ("run",),
        {"seconds": 60.0, "n": 10},
    ),
    ExampleQuery(
        "cheap",
        "The best functions whose training step takes at most a given multiple of ReLU's, if measured",
        """
        SELECT score, time_ratio, memory_ratio, function
        FROM leaderboard WHERE run = :run AND time_ratio <= :cost
        ORDER BY score DESC, function LIMIT :n
        """,
        ("run",),
        {"cost": 1.2, "n": 10},
    ),
    ExampleQuery(
        "progress",
        "Each new best score of a search, in order",
        """
        WITH results AS (
            SELECT run_evaluations.position, leaderboard.score, leaderboard.function, leaderboard.origin,
                max(leaderboard.score) OVER (
                    ORDER BY run_evaluations.position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) AS best_before
            FROM leaderboard
            JOIN runs ON runs.name = leaderboard.run
            JOIN run_evaluations ON run_evaluations.run_id = runs.id
                AND run_evaluations.evaluation_id = leaderboard.evaluation_id
            WHERE leaderboard.run = :run
        )
        SELECT results.position + 1 AS evaluation, score, origin, function
        FROM results WHERE best_before IS NULL OR score > best_before ORDER BY results.position
        """,
        ("run",),
    ),
    ExampleQuery(
        "predictions",
        "The surrogate's predictions compared with the scores",
        """
        SELECT predicted_score, score, score - predicted_score AS error, function
        FROM leaderboard WHERE run = :run AND predicted_score IS NOT NULL
        ORDER BY score DESC, function LIMIT :n
        """,
        ("run",),
        _TEN,
    ),
    ExampleQuery(
        "curve",
        "The learning curve of a run's best evaluation",
        """
        SELECT epoch, train_loss, val_loss, train_score, val_score, learning_rate, function
        FROM learning_curves
        WHERE evaluation_id = (
            SELECT evaluation_id FROM leaderboard WHERE run = :run ORDER BY rank, evaluation_id LIMIT 1
        )
        ORDER BY epoch
        """,
        ("run",),
    ),
    ExampleQuery(
        "in-both",
        "Functions that two runs have both trained, such as on two tasks, with their mean scores in each",
        """
        SELECT first.mean AS mean_in_run, second.mean AS mean_in_other, first.function
        FROM (SELECT function, fingerprint, avg(score) AS mean FROM leaderboard
              WHERE run = :run AND recipe_change = ''
              GROUP BY function, fingerprint) AS first
        JOIN (SELECT fingerprint, avg(score) AS mean FROM leaderboard
              WHERE run = :other AND recipe_change = ''
              GROUP BY fingerprint) AS second ON second.fingerprint = first.fingerprint
        ORDER BY mean_in_run DESC, first.function LIMIT :n
        """,
        ("run", "other"),
        _TEN,
    ),
    ExampleQuery(
        "runs",
        "All runs, with their evaluations by status and their best score",
        """
        SELECT run, kind, task, status, evaluations, done, diverged, failed, best_score, seconds
        FROM runs_overview ORDER BY run
        """,
    ),
    ExampleQuery(
        "spectra",
        "The number of spectra by task and kind, and the time that they took",
        """
        SELECT task, fisher, status, count(*) AS functions, sum(seconds) AS seconds
        FROM spectra_summary GROUP BY task, fisher, status ORDER BY task, fisher, status
        """,
    ),
    ExampleQuery(
        "failures",
        "Trainings that failed on their workers, latest first",
        """
        SELECT functions.name AS function, attempts.number AS attempt, attempts.worker, attempts.error
        FROM attempts
        JOIN runs ON runs.id = attempts.run_id
        JOIN evaluations ON evaluations.id = attempts.evaluation_id
        JOIN functions ON functions.id = evaluations.function_id
        WHERE runs.name = :run AND attempts.outcome = 'failed'
        ORDER BY attempts.started_at DESC, attempts.id DESC LIMIT :n
        """,
        ("run",),
        _TEN,
    ),
    ExampleQuery(
        "log",
        "The last events of a run, latest first",
        """
        SELECT events.seq, events.at, events.kind, functions.name AS function
        FROM events JOIN runs ON runs.id = events.run_id LEFT JOIN functions ON functions.id = events.function_id
        WHERE runs.name = :run ORDER BY events.seq DESC LIMIT :n
        """,
        ("run",),
        {"n": 20},
    ),
)
