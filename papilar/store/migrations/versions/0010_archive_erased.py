"""Version 10: NFIQ 2 of an archive's item, and what stays of it when its encounter is deleted."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0010"
down_revision = "0009"

_DELETED = """
DELETE FROM archive_item WHERE encounter_id <> ''
AND NOT EXISTS (SELECT 1 FROM encounter WHERE encounter.encounter_id = archive_item.encounter_id)
AND EXISTS (SELECT 1 FROM meta WHERE meta.key = 'name')
"""  # of a gallery: a journal that lies by itself, for a node elsewhere, has no encounters at all


def upgrade(op: Operations) -> None:
    """Add columns and table. Take away rows of what was deleted, and what rows of one say of another."""
    op.add_column("archive_item", sa.Column("nfiq2", sa.SmallInteger))
    op.add_column("archive_item", sa.Column("nfiq2_version", sa.Text))
    op.add_column("archive_item", sa.Column("erasure_key", sa.LargeBinary(32)))
    op.create_index("ix_archive_item_subject_id", "archive_item", ["subject_id"])
    op.create_table("archive_erased", sa.Column("erasure_key", sa.LargeBinary(32), primary_key=True))
    op.execute(_DELETED)
    op.execute("UPDATE archive_item SET message = '' WHERE result = 'DUPLICATE'")
