"""The rows of the journal of archives: what became of each item. For `papilar.archive.journal`.

A row is known by a source and a name within it, both as SHA-256. In a gallery's own data base a row can tell
whether the encounter that it speaks of is still there.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    or_,
    select,
)

from papilar.store import engine as engines
from papilar.store.place import Placed
from papilar.store.schema import encounter, metadata

archive_item = Table(
    "archive_item",
    metadata,
    Column("source", LargeBinary(32), primary_key=True),
    Column("name_key", LargeBinary(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("sha256", LargeBinary(32)),  # null where nothing could be read
    Column("result", String(16), nullable=False),
    Column("encounter_id", String(36), nullable=False, index=True),
    Column("quality", SmallInteger),
    Column("minutiae", Integer),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("warnings", Text, nullable=False),
    Index("ix_archive_item_content", "sha256", "subject_id"),
)

_COLUMNS = [column for column in archive_item.c if column.name not in ("source", "name_key")]
_MOST_KEYS = 500  # of one statement: SQLite takes 32,766 variables, and a plan for 500 is made quickly

_SOME = 8  # rows of one content: an empty image may be there a million times


class JournalRow(NamedTuple):
    """What became of an item; `name` and `subject_id` as they can be printed, `warnings` JSON."""

    name: str
    subject_id: str
    version: str
    options: str
    sha256: bytes | None
    result: str
    encounter_id: str = ""
    quality: int | None = None
    minutiae: int | None = None
    reason: str = ""
    message: str = ""
    warnings: str = "[]"


class Kept(NamedTuple):
    """A row, under which key, and whether its encounter was deleted since, where that can be told."""

    key: bytes
    row: JournalRow
    erased: bool


class JournalStore(Placed):
    """Where a journal lies. All threads may use one; every method is one transaction.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method, which then has changed nothing.
    """

    def known(self, source: bytes, keys: Collection[bytes]) -> list[Kept]:
        """Return the rows of a source that there are under these keys."""
        listed, found = list(keys), []
        for start in range(0, len(listed), _MOST_KEYS):
            some = archive_item.c.name_key.in_(listed[start : start + _MOST_KEYS])
            found += self._kept(and_(archive_item.c.source == source, some))
        return found

    def same_content(self, sha256: bytes, subject_id: str) -> list[Kept]:
        """Return some rows of one subject, of any source, whose items had this content."""
        c = archive_item.c
        return self._kept(and_(c.sha256 == sha256, c.subject_id == subject_id), _SOME)

    def elsewhere(self, sha256: bytes, subject_id: str) -> list[Kept]:
        """Return some rows of other subjects whose items had this content."""
        c = archive_item.c
        other = or_(c.subject_id < subject_id, c.subject_id > subject_id)  # both are ranges of the index
        return self._kept(and_(c.sha256 == sha256, other), _SOME)

    def write(self, source: bytes, rows: Mapping[bytes, JournalRow]) -> None:
        """Write rows of a source in place of what there was under their keys."""
        if not rows:
            return
        listed = list(rows)
        c = archive_item.c
        with engines.transaction(self._engine, writes=True) as connection:
            for start in range(0, len(listed), _MOST_KEYS):
                some = c.name_key.in_(listed[start : start + _MOST_KEYS])
                connection.execute(delete(archive_item).where(c.source == source, some))
            values = [{"source": source, "name_key": key, **row._asdict()} for key, row in rows.items()]
            connection.execute(insert(archive_item), values)

    def _kept(self, wanted: ColumnElement[bool], most: int | None = None) -> list[Kept]:
        c = archive_item.c
        joined = archive_item.outerjoin(encounter, encounter.c.encounter_id == c.encounter_id)
        query = select(c.name_key, encounter.c.encounter_id, *_COLUMNS).select_from(joined).where(wanted)
        with engines.transaction(self._engine, writes=False) as connection:
            return [
                Kept(key, row := JournalRow(*values), bool(row.encounter_id) and alive is None)
                for key, alive, *values in connection.execute(query.limit(most))
            ]
