"""Version 7: NFIQ 2 of a print, and which encounter one was taken in place of."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0007"
down_revision = "0006"


def upgrade(op: Operations) -> None:
    """Add the columns; what was enrolled before has none of them."""
    op.add_column("print", sa.Column("nfiq2", sa.SmallInteger))
    op.add_column("print", sa.Column("nfiq2_version", sa.String(64)))
    op.add_column("encounter", sa.Column("replaces", sa.String(36)))
    op.create_index("ix_encounter_replaces", "encounter", ["replaces"])
