"""The leases of trials: any number of processes ask a run for functions, and each tells the results of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLOAT: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "trial_leases",
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("owner", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("seconds", FLOAT, nullable=False),
        sa.Column("heartbeat", ID, nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_trial_leases_attempt_id")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_trial_leases")),
    )
