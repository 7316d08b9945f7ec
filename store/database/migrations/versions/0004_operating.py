"""Tables for operating runs: requests to stop a run, and its driver's last report on its workers.

Both belong to one driver's session, identified by the token of its lease. They are separate from the row of the run,
which is locked and written with every result.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "stop_requests",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("lease_token", ID, nullable=False),
        sa.Column("asked_by", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_stop_requests_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_stop_requests")),
    )
    op.create_table(
        "live_runs",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("lease_token", ID, nullable=False),
        sa.Column("reported_at", TIME, nullable=False),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_live_runs_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_live_runs")),
    )
