"""Version 3: the calls that are watched, and what was found in them."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0003"
down_revision = "0002"

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade(op: Operations) -> None:
    """Make the tables."""
    texts = {"officer": 128, "case_reference": 128, "purpose": 32, "asked": 3, "search_type": 32}
    op.create_table(
        "review_call",
        sa.Column("call_id", _ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("time_us", sa.BigInteger, nullable=False, index=True),
        *(sa.Column(name, sa.String(n), nullable=False) for name, n in texts.items()),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("own", sa.SmallInteger, nullable=False),
        sa.Column("refused", sa.SmallInteger, nullable=False),
    )
    op.create_table(
        "review_print",
        sa.Column("call_id", _ROW_NUMBER, sa.ForeignKey("review_call.call_id"), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "review_finding",
        sa.Column("finding_id", _ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("officer", sa.String(128), nullable=False),
        sa.Column("why", sa.String(256), nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("closed_us", sa.BigInteger),
        sa.Column("closed_by", sa.String(128)),
        sa.Column("note", sa.String(500)),
    )
    op.create_index("ix_review_finding_officer_why", "review_finding", ["officer", "why"])
