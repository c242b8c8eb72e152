"""Version 9: the image file that a print came from, and prints extracted anew."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0009"
down_revision = "0008"

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade(op: Operations) -> None:
    """Add the columns, which prints of before have empty, and make the tables."""
    op.add_column("print", sa.Column("original", sa.LargeBinary(32)))
    op.add_column("print", sa.Column("original_ppi", sa.Float))
    op.create_index("ix_print_original", "print", ["original"])
    op.create_table("original_erasure", sa.Column("name", sa.LargeBinary(32), primary_key=True))
    op.create_table(
        "print_anew",
        sa.Column("row", _ROW_NUMBER, sa.ForeignKey("print.row"), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("extractor", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("quality", sa.SmallInteger),
        sa.Column("minutiae", sa.Integer),
        sa.Column("crc32", sa.BigInteger),
        sa.Column("template", sa.LargeBinary),
    )
