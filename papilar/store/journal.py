"""The rows of the journal of archives: what became of each item. For `papilar.archive.journal`.

A row is known by a source and a name within it, both as SHA-256. In a gallery's own data base a row can tell
whether the encounter that it speaks of is still there.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select

from papilar.store.archived import archive_erased, archive_item, is_there, keep_erased
from papilar.store.place import Placed
from papilar.store.schema import encounter, print_

_COLUMNS = [column for column in archive_item.c if column.name not in ("source", "name_key")]
_MOST_KEYS = 500  # of one statement: SQLite takes 32,766 variables, and a plan for 500 is made quickly

_SOME = 8  # rows of one content: an empty image may be there a million times


class JournalRow(NamedTuple):
    """What became of an item; `name` and `subject_id` as they can be printed, `warnings` JSON.

    Without `nfiq2`, `nfiq2_version` is the reason. `erasure_key` is all that is kept of the row when its
    encounter or its person is deleted.
    """

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
    nfiq2: int | None = None
    nfiq2_version: str | None = None
    erasure_key: bytes | None = None


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

    def erased(self, erasure_key: bytes) -> bool:
        """Tell whether what a row with this key spoke of was deleted."""
        c = archive_erased.c
        with self._read() as connection:
            return connection.scalar(select(c.erasure_key).where(c.erasure_key == erasure_key)) is not None

    def enrolled(self, subject_id: str, sha256: bytes) -> JournalRow | None:
        """Return what a row would say of a subject's image with this content, of the gallery's own prints."""
        p, e = print_.c, encounter.c
        query = select(p.encounter_id, p.quality, p.minutiae, p.nfiq2, p.nfiq2_version).join(encounter)
        query = query.where(e.subject_id == subject_id, p.source_sha256 == sha256).limit(1)
        with self._read() as connection:
            found = connection.execute(query).first()
        if found is None:
            return None
        row = JournalRow("", subject_id, "", "", sha256, "ENROLLED", found.encounter_id)
        numbers = ("quality", "minutiae", "nfiq2", "nfiq2_version")
        return row._replace(**{name: getattr(found, name) for name in numbers})

    def is_there(self, subject_id: str) -> bool:
        """Tell whether the gallery has an encounter of whom archives call by this name."""
        with self._read() as connection:
            return is_there(connection, subject_id)

    def write(
        self,
        source: bytes,
        rows: Mapping[bytes, JournalRow],
        erased: Mapping[bytes, bytes | None] | None = None,
    ) -> None:
        """Write rows of a source in place of what there was under their keys.

        Parameters
        ----------
        source : bytes
        rows : mapping of bytes to JournalRow
        erased : mapping, optional
            Keys of rows that are to go, and what is to be kept of each as erased, where anything is.
        """
        erased = erased or {}
        listed = [*rows, *erased]
        if not listed:
            return
        c = archive_item.c
        with self._write() as connection:
            for start in range(0, len(listed), _MOST_KEYS):
                some = c.name_key.in_(listed[start : start + _MOST_KEYS])
                connection.execute(delete(archive_item).where(c.source == source, some))
            values = [{"source": source, "name_key": key, **row._asdict()} for key, row in rows.items()]
            if values:
                connection.execute(insert(archive_item), values)
            for erasure_key in {key for key in erased.values() if key is not None}:
                keep_erased(connection, erasure_key)

    def _kept(self, wanted: ColumnElement[bool], most: int | None = None) -> list[Kept]:
        c = archive_item.c
        joined = archive_item.outerjoin(encounter, encounter.c.encounter_id == c.encounter_id)
        query = select(c.name_key, encounter.c.encounter_id, *_COLUMNS).select_from(joined).where(wanted)
        with self._read() as connection:
            return [
                Kept(key, row := JournalRow(*values), bool(row.encounter_id) and alive is None)
                for key, alive, *values in connection.execute(query.limit(most))
            ]
