"""Runs of further kinds (imports, builds of benchmarks, confirmations), entries of benchmark files, and a view of
diverged evaluations.

SQLite cannot change a CHECK constraint. Recreating a table would drop the one that foreign keys and the user's own
views refer to, so its text in the schema is changed instead, as SQLite documents for changes that do not affect the
rows (lang_altertable.html, section 7); like everything here, in one transaction.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from aquasurf_ray.store.database.sqlite_schema import replace_in_schema

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

DIVERGED = """
    SELECT runs.name AS run, tasks.name AS task, functions.name AS function, evaluations.seed, evaluations.reason,
        run_evaluations.origin, run_evaluations.reused, evaluations.finished_at, evaluations.id AS evaluation_id,
        functions.fingerprint
    FROM run_evaluations
    JOIN runs ON runs.id = run_evaluations.run_id
    JOIN evaluations ON evaluations.id = run_evaluations.evaluation_id
    JOIN functions ON functions.id = evaluations.function_id
    JOIN tasks ON tasks.id = evaluations.task_id
    WHERE evaluations.status = 'diverged'
"""


def upgrade() -> None:
    _allow("runs", "kind", ("search", "evaluate"), ("import", "build", "confirm"))
    _allow("run_evaluations", "origin", ("baseline", "proposal", "suggestion"), ("import",))
    op.create_table(
        "imported_entries",
        sa.Column("evaluation_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("aliases", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.Column("cdf_length", ID, nullable=False),
        sa.Column("cdf", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name=op.f("fk_imported_entries_evaluation_id")),
        sa.PrimaryKeyConstraint("evaluation_id", name=op.f("pk_imported_entries")),
    )
    op.execute(f"CREATE VIEW diverged AS {DIVERGED}")


def _allow(table: str, column: str, before: tuple[str, ...], further: tuple[str, ...]) -> None:
    name, old, new = op.f(f"ck_{table}_{column}"), _condition(column, before), _condition(column, before + further)
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(name, table)
        op.create_check_constraint(name, table, new)
    else:
        replace_in_schema(op.get_bind(), table, old, new)


def _condition(column: str, words: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(word) for word in words)})"
