"""The change of the task's recipe that an evaluation was trained with, as part of its identity; views that show it.

All evaluations until now are of the recipe as it is, which is the empty text. The unique constraint gets the column.
SQLite cannot change a constraint, and recreating the table would drop the one that foreign keys and the user's own
views refer to. So the constraint's text in the schema is changed, as for CHECK constraints in 0003, and its index,
which had entries of three columns, is built again from the rows (lang_reindex.html).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from aquasurf_ray.store.database.sqlite_schema import replace_in_schema

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

OLD_NAME = "uq_evaluations_task_id_function_id_seed"
NEW_NAME = "uq_evaluations_task_id_function_id_seed_recipe_change"
OLD = f"CONSTRAINT {OLD_NAME} UNIQUE (task_id, function_id, seed)"
NEW = f"CONSTRAINT {NEW_NAME} UNIQUE (task_id, function_id, seed, recipe_change)"

# The new column comes last: see 0002.
VIEWS = {
    "leaderboard": """
        SELECT runs.name AS run, tasks.name AS task,
            rank() OVER (PARTITION BY runs.id ORDER BY evaluations.score DESC) AS rank,
            functions.name AS function, run_evaluations.origin, run_evaluations.reused, evaluations.score,
            evaluations.val_accuracy, evaluations.val_loss, evaluations.test_accuracy, evaluations.test_loss,
            evaluations.train_accuracy, evaluations.train_loss, evaluations.epochs, evaluations.seconds,
            evaluations.seed, run_evaluations.predicted_score, evaluations.finished_at,
            evaluations.id AS evaluation_id, functions.fingerprint,
            evaluations.test_score, evaluations.train_score, evaluations.stopped_early,
            costs.step_seconds / costs.relu_step_seconds AS time_ratio,
            CAST(costs.activation_bytes AS DOUBLE PRECISION)
                / CAST(costs.relu_activation_bytes AS DOUBLE PRECISION) AS memory_ratio,
            evaluations.examples_per_second, evaluations.peak_memory_mb, evaluations.precision, evaluations.device,
            evaluations.n_devices, evaluations.recipe_change
        FROM run_evaluations
        JOIN runs ON runs.id = run_evaluations.run_id
        JOIN evaluations ON evaluations.id = run_evaluations.evaluation_id
        JOIN functions ON functions.id = evaluations.function_id
        JOIN tasks ON tasks.id = evaluations.task_id
        LEFT JOIN costs ON costs.task_id = evaluations.task_id AND costs.function_id = evaluations.function_id
            AND costs.device = evaluations.device
        WHERE evaluations.status = 'done'
    """,
    "learning_curves": """
        SELECT tasks.name AS task, functions.name AS function, evaluations.seed, epochs.epoch,
            epochs.train_loss, epochs.train_accuracy, epochs.val_loss, epochs.val_accuracy,
            epochs.learning_rate, epochs.seconds, evaluations.status, evaluations.id AS evaluation_id,
            epochs.train_score, epochs.val_score, evaluations.recipe_change
        FROM epochs
        JOIN evaluations ON evaluations.id = epochs.evaluation_id
        JOIN functions ON functions.id = evaluations.function_id
        JOIN tasks ON tasks.id = evaluations.task_id
    """,
    "diverged": """
        SELECT runs.name AS run, tasks.name AS task, functions.name AS function, evaluations.seed, evaluations.reason,
            run_evaluations.origin, run_evaluations.reused, evaluations.finished_at, evaluations.id AS evaluation_id,
            functions.fingerprint, evaluations.recipe_change
        FROM run_evaluations
        JOIN runs ON runs.id = run_evaluations.run_id
        JOIN evaluations ON evaluations.id = run_evaluations.evaluation_id
        JOIN functions ON functions.id = evaluations.function_id
        JOIN tasks ON tasks.id = evaluations.task_id
        WHERE evaluations.status = 'diverged'
    """,
}


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    op.add_column("evaluations", sa.Column("recipe_change", sa.Text(), nullable=False, server_default=""))
    if on_postgresql:
        op.drop_constraint(op.f(OLD_NAME), "evaluations")
        columns = ["task_id", "function_id", "seed", "recipe_change"]
        op.create_unique_constraint(op.f(NEW_NAME), "evaluations", columns)
    else:
        replace_in_schema(op.get_bind(), "evaluations", OLD, NEW)
        op.execute("REINDEX evaluations")
    for name, query in VIEWS.items():
        if on_postgresql:
            op.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
        else:
            op.execute(f"DROP VIEW IF EXISTS {name}")
            op.execute(f"CREATE VIEW {name} AS {query}")
