"""Version 6: what became of each item of an archive."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0006"
down_revision = "0005"


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "archive_item",
        sa.Column("source", sa.LargeBinary(32), primary_key=True),
        sa.Column("name_key", sa.LargeBinary(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("encounter_id", sa.String(36), nullable=False),
        sa.Column("quality", sa.SmallInteger),
        sa.Column("minutiae", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("warnings", sa.Text, nullable=False),
    )
    op.create_index("ix_archive_item_content", "archive_item", ["sha256", "subject_id"])
    op.create_index("ix_archive_item_encounter_id", "archive_item", ["encounter_id"])
