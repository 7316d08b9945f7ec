"""Scores of any metric, early stops, throughput and precision of trainings; costs of functions; views that show them.

Existing rows are completed: until now the only metric was accuracy, so the scores of an epoch and of the other splits
are its accuracies, and every training was in float32 on one device.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLOAT: sa.Double[float] = sa.Double()
TEXT = sa.Text()
TIME = sa.DateTime(timezone=True)

# New columns come last, so that PostgreSQL can replace a view without dropping it, which would drop grants on it and
# the user's own views over it.
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
            evaluations.n_devices
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
            epochs.train_score, epochs.val_score
        FROM epochs
        JOIN evaluations ON evaluations.id = epochs.evaluation_id
        JOIN functions ON functions.id = evaluations.function_id
        JOIN tasks ON tasks.id = evaluations.task_id
    """,
    "costs_summary": """
        SELECT tasks.name AS task, functions.name AS function, costs.device,
            costs.step_seconds / costs.relu_step_seconds AS time_ratio,
            CAST(costs.activation_bytes AS DOUBLE PRECISION)
                / CAST(costs.relu_activation_bytes AS DOUBLE PRECISION) AS memory_ratio,
            costs.step_seconds, costs.relu_step_seconds, costs.activation_bytes, costs.relu_activation_bytes,
            costs.worker, costs.created_at, functions.fingerprint
        FROM costs
        JOIN functions ON functions.id = costs.function_id
        JOIN tasks ON tasks.id = costs.task_id
    """,
}


def upgrade() -> None:
    _add_columns()
    _fill_existing_rows()
    _create_costs()
    for name, query in VIEWS.items():
        _replace_view(name, query)


def _add_columns() -> None:
    op.add_column("evaluations", sa.Column("train_score", FLOAT, nullable=True))
    op.add_column("evaluations", sa.Column("test_score", FLOAT, nullable=True))
    op.add_column("evaluations", sa.Column("stopped_early", TEXT, nullable=True))
    op.add_column("evaluations", sa.Column("examples_per_second", FLOAT, nullable=True))
    op.add_column("evaluations", sa.Column("n_devices", ID, nullable=True))
    op.add_column("evaluations", sa.Column("precision", TEXT, nullable=True))
    op.add_column("epochs", sa.Column("train_score", FLOAT, nullable=True))
    op.add_column("epochs", sa.Column("val_score", FLOAT, nullable=True))


def _fill_existing_rows() -> None:
    op.execute("UPDATE epochs SET train_score = train_accuracy, val_score = val_accuracy")
    op.execute(
        "UPDATE evaluations SET train_score = train_accuracy, test_score = test_accuracy,"
        " n_devices = 1, precision = 'float32' WHERE status IN ('done', 'diverged')"
    )


def _create_costs() -> None:
    op.create_table(
        "costs",
        sa.Column("task_id", ID, nullable=False),
        sa.Column("function_id", ID, nullable=False),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("step_seconds", FLOAT, nullable=False),
        sa.Column("relu_step_seconds", FLOAT, nullable=False),
        sa.Column("activation_bytes", ID, nullable=False),
        sa.Column("relu_activation_bytes", ID, nullable=False),
        sa.Column("worker", TEXT, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("step_seconds > 0 AND relu_step_seconds > 0", name=op.f("ck_costs_seconds")),
        sa.CheckConstraint("activation_bytes >= 0 AND relu_activation_bytes > 0", name=op.f("ck_costs_bytes")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_costs_task_id")),
        sa.ForeignKeyConstraint(["function_id"], ["functions.id"], name=op.f("fk_costs_function_id")),
        sa.PrimaryKeyConstraint("task_id", "function_id", "device", name=op.f("pk_costs")),
    )
    op.create_index(op.f("ix_costs_function_id"), "costs", ["function_id"])


def _replace_view(name: str, query: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    else:
        op.execute(f"DROP VIEW IF EXISTS {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")
