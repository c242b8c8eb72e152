"""Version 5: what the law was asked when a search of ours found somebody in another country."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0005"
down_revision = "0004"


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "own_search",
        sa.Column("country", sa.String(3), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
    )
