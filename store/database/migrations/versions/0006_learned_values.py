"""Values of learned parameters after a training, layer by layer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLOAT: sa.Double[float] = sa.Double()


def upgrade() -> None:
    op.create_table(
        "learned_values",
        sa.Column("evaluation_id", ID, nullable=False),
        sa.Column("position", ID, nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("parameter", sa.Text(), nullable=False),
        sa.Column("initial", FLOAT, nullable=False),
        sa.Column("n_channels", ID, nullable=True),
        sa.Column("mean", FLOAT, nullable=True),
        sa.Column("spread", FLOAT, nullable=True),
        sa.Column("course", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name=op.f("fk_learned_values_evaluation_id")),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_learned_values")),
    )
