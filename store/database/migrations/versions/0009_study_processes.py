"""The processes that have a study open, so that others see whether it runs while none of them trains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLOAT: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "study_processes",
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("owner", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seconds", FLOAT, nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stop_asked_by", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_study_processes_run_id")),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_study_processes")),
    )
    op.create_index(op.f("ix_study_processes_run_id"), "study_processes", ["run_id"])
