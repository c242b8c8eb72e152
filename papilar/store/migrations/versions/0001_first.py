"""Version 1: subjects, encounters, prints, images, missing fingers, requests."""

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "subject",
        sa.Column("subject_id", sa.String(128), primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "encounter",
        sa.Column("encounter_id", sa.String(36), primary_key=True),
        _reference("subject_id", sa.String(128), "subject", index=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    _make_prints(op)
    op.create_table(
        "missing_finger",
        _reference("encounter_id", sa.String(36), "encounter", primary_key=True),
        sa.Column("finger", sa.SmallInteger, primary_key=True),
        sa.Column("reason", sa.String(32), nullable=False),
    )
    op.create_table(
        "request",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("encounter_id", sa.String(36), index=True),
        sa.Column("digest", sa.LargeBinary),
        sa.Column("response", sa.LargeBinary),
        sa.Column("created", sa.BigInteger, nullable=False),
    )


def _make_prints(op: Operations) -> None:
    op.create_table(
        "print",
        sa.Column("row", _ROW_NUMBER, primary_key=True, autoincrement=True),
        _reference("encounter_id", sa.String(36), "encounter", index=True),
        sa.Column("ordinal", sa.SmallInteger, nullable=False),
        sa.Column("finger", sa.SmallInteger, nullable=False),
        sa.Column("impression", sa.SmallInteger, nullable=False),
        sa.Column("quality", sa.SmallInteger),
        sa.Column("minutiae", sa.Integer, nullable=False),
        sa.Column("source_sha256", sa.LargeBinary(32)),
        sa.Column("crc32", sa.BigInteger, nullable=False),
        sa.Column("template", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "image",
        _reference("row", _ROW_NUMBER, "print", primary_key=True),
        sa.Column("crc32", sa.BigInteger, nullable=False),
        sa.Column("png", sa.LargeBinary, nullable=False),
    )


def _reference(
    name: str,
    kind: sa.types.TypeEngine[Any],
    table: str,
    *,
    primary_key: bool = False,
    index: bool | None = None,
) -> sa.Column[Any]:
    """Return a column that names a row of another table by that table's column of the same name."""
    other = sa.ForeignKey(f"{table}.{name}")
    return sa.Column(name, kind, other, primary_key=primary_key, index=index, nullable=False)
