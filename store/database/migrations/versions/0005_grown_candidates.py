"""The origins of candidates that a search made itself (`--space open`): generation, change and parents.

They are a table of their own, because the candidates of all other runs, and the first ones of these, have none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FUNCTIONS = ("function_id", "parent_id", "other_parent_id")


def upgrade() -> None:
    op.create_table(
        "grown_candidates",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("function_id", ID, nullable=False),
        sa.Column("generation", ID, nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("parent_id", ID, nullable=True),
        sa.Column("other_parent_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_grown_candidates_run_id")),
        *(
            sa.ForeignKeyConstraint([column], ["functions.id"], name=op.f(f"fk_grown_candidates_{column}"))
            for column in FUNCTIONS
        ),
        sa.PrimaryKeyConstraint("run_id", "function_id", name=op.f("pk_grown_candidates")),
    )
    for column in FUNCTIONS:
        op.create_index(op.f(f"ix_grown_candidates_{column}"), "grown_candidates", [column])
