"""Version 2: the tamper-evident log."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "log_entry",
        sa.Column("leaf_index", _ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("leaf", sa.LargeBinary(32), nullable=False),
        sa.Column("bytes", sa.LargeBinary),
    )
    op.create_table(
        "log_node",
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("node_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sqlite_with_rowid=False,
    )
    _make_facts(op)
    op.create_table(
        "log_subject",
        sa.Column("mark", sa.String(64), primary_key=True),
        sa.Column("leaf_index", sa.BigInteger, primary_key=True, autoincrement=False, index=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_head",
        sa.Column("peer", sa.String(3), primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary(32), primary_key=True),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
    )


def _make_facts(op: Operations) -> None:
    texts = {"side": 6, "act": 16, "outcome": 32, "search_type": 32, "asking": 3, "asked": 3}
    persons = {"officer": 128, "ordering_officer": 128}
    looked_for = {"case_reference": 128, "request_id": 128}
    op.create_table(
        "log_fact",
        sa.Column("leaf_index", _ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("time_us", sa.BigInteger, nullable=False, index=True),
        *(sa.Column(name, sa.String(n), nullable=False) for name, n in (texts | persons).items()),
        *(sa.Column(name, sa.String(n), nullable=False, index=True) for name, n in looked_for.items()),
    )
    op.create_index("ix_log_fact_officer_time_us", "log_fact", ["officer", "time_us"])
    op.create_index("ix_log_fact_pair_time_us", "log_fact", ["asking", "asked", "time_us"])
