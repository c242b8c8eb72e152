"""Version 4: what other countries ask for, and what waits for them."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0004"
down_revision = "0003"


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _make_requests(op)
    _make_conclusions(op)
    _make_outbox(op)


def _make_requests(op: Operations) -> None:
    op.create_table(
        "peer_request",
        *_named("peer", "request_id"),
        sa.Column("content", sa.LargeBinary(32), nullable=False),
        sa.Column("begun_us", sa.BigInteger, nullable=False),
        sa.Column("answered", sa.SmallInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("answer", sa.LargeBinary),
    )
    op.create_table(
        "peer_quota",
        sa.Column("peer", sa.String(3), primary_key=True),
        sa.Column("search_type", sa.String(16), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("used", sa.Integer, nullable=False),
    )
    op.create_table(
        "peer_approval",
        *_named("peer", "request_id"),
        sa.Column("content", sa.LargeBinary(32), nullable=False),
        sa.Column("asked_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("agreed", sa.SmallInteger),
        sa.Column("person", sa.String(63)),
        sa.Column("why", sa.String(500)),
        sa.Column("decided_us", sa.BigInteger),
    )


def _make_conclusions(op: Operations) -> None:
    op.create_table(
        "peer_reference",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("peer", sa.String(3), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False, index=True),
        sa.Column("file", sa.String(32), nullable=False),
        sa.Column("subject_id", sa.String(128), nullable=False),
        sa.Column("encounter_id", sa.String(36), nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("used_us", sa.BigInteger),
    )
    op.create_table(
        "peer_confirmation",
        *_named("peer", "confirmation_id"),
        sa.Column("content", sa.LargeBinary(32), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("statement", sa.LargeBinary, nullable=False),
        sa.Column("taken_us", sa.BigInteger, nullable=False),
        sa.Column("receipt", sa.LargeBinary),
    )


def _make_outbox(op: Operations) -> None:
    op.create_table(
        "outbox_search",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("country", sa.String(3), primary_key=True),
        sa.Column("expedite", sa.SmallInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False, index=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("why", sa.String(32), nullable=False),
        sa.Column("statement", sa.LargeBinary, nullable=False),
        sa.Column("prints", sa.LargeBinary),
    )
    op.create_table(
        "outbox_answer",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("country", sa.String(3), primary_key=True),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False, index=True),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("answer", sa.LargeBinary),
    )


def _named(peer: str, name: str) -> tuple[sa.Column[str], sa.Column[str]]:
    """Return the columns by which a statement is known."""
    return sa.Column(peer, sa.String(3), primary_key=True), sa.Column(name, sa.String(36), primary_key=True)
