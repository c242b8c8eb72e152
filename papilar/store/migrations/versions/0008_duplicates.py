"""Version 8: subjects that seem to be one person, and who was merged into whom."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0008"
down_revision = "0007"

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade(op: Operations) -> None:
    """Make the tables, and what finds prints by their file."""
    op.create_index("ix_print_source_sha256", "print", ["source_sha256"])
    op.create_table(
        "duplicate_case",
        sa.Column("case_id", _ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("first", sa.String(128), nullable=False, index=True),
        sa.Column("second", sa.String(128), nullable=False, index=True),
        _subject("first_now"),
        _subject("second_now"),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("found_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_us", sa.BigInteger),
        sa.Column("decided_by", sa.String(128)),
        sa.Column("note", sa.String(32)),
        sa.Column("merge_id", sa.String(36), index=True),
        sqlite_autoincrement=True,
    )
    _make_merges(op)


def _make_merges(op: Operations) -> None:
    op.create_table(
        "subject_merge",
        sa.Column("merge_id", sa.String(36), primary_key=True),
        sa.Column("survivor", sa.String(128), nullable=False, index=True),
        sa.Column("absorbed", sa.String(128), nullable=False, index=True),
        _subject("survivor_now"),
        _subject("released_now", nullable=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("merged_us", sa.BigInteger, nullable=False),
        sa.Column("merged_by", sa.String(128), nullable=False),
        sa.Column("note", sa.String(32), nullable=False),
        sa.Column("undone_us", sa.BigInteger),
        sa.Column("undone_by", sa.String(128)),
        sa.Column("undone_note", sa.String(32)),
    )
    op.create_table(
        "merged_encounter",
        _reference("merge_id", "subject_merge.merge_id", primary_key=True),
        _reference("encounter_id", "encounter.encounter_id", primary_key=True, index=True),
    )


def _subject(name: str, *, nullable: bool = False) -> sa.Column[str]:
    other = sa.ForeignKey("subject.subject_id", ondelete="CASCADE")
    return sa.Column(name, sa.String(128), other, nullable=nullable, index=True)


def _reference(name: str, place: str, *, primary_key: bool, index: bool | None = None) -> sa.Column[str]:
    other = sa.ForeignKey(place, ondelete="CASCADE")
    return sa.Column(name, sa.String(36), other, primary_key=primary_key, index=index, nullable=False)
