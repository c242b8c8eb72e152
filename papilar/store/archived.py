"""The tables of the journal of archives, and what the deletion of an encounter does to them.

A row of `archive_item` says what became of one file. It names file and person, and so it goes with what it
speaks of. What stays is a key of `archive_erased`, by which a later run over the same archive knows the file
again: a digest of person, encounter and content. Whoever has not the very bytes of the file learns nothing
from it.
"""

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    delete,
    exists,
    insert,
    literal,
    select,
    tuple_,
)

from papilar.store.schema import encounter, metadata

archive_item = Table(
    "archive_item",
    metadata,
    Column("source", LargeBinary(32), primary_key=True),
    Column("name_key", LargeBinary(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("subject_id", Text, nullable=False, index=True),
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
    Column("nfiq2", SmallInteger),
    Column("nfiq2_version", Text),
    Column("erasure_key", LargeBinary(32)),  # what stays of it in `archive_erased`; null as `sha256`
    Index("ix_archive_item_content", "sha256", "subject_id"),
)

archive_erased = Table(
    "archive_erased",
    metadata,
    Column("erasure_key", LargeBinary(32), primary_key=True),
)

_MOST_COPIES = 200  # contents of one statement


def forget_encounter(connection: Connection, encounter_id: str, subject_id: str) -> None:
    """Erase what the journal says of an encounter that was just deleted, and of whom it was of.

    Gone are its rows and those of copies of its files. Of a person of whom nothing is left in the gallery
    all go, with those of files that failed or were rejected.

    Parameters
    ----------
    connection : Connection
        In the transaction that deletes.
    encounter_id, subject_id : str
        The encounter, and whose it was; after a merge archives call the person by another name.
    """
    c = archive_item.c
    its = c.encounter_id == encounter_id
    files = connection.execute(select(c.subject_id, c.sha256).where(its).distinct()).all()
    contents = [(file.sha256, file.subject_id) for file in files if file.sha256 is not None]
    _erase(connection, its)
    for start in range(0, len(contents), _MOST_COPIES):
        alike = tuple_(c.sha256, c.subject_id).in_(contents[start : start + _MOST_COPIES])
        _erase(connection, and_(alike, c.result == "COPY"))
    for person in {subject_id, *(file.subject_id for file in files)}:
        if not is_there(connection, person):
            _erase(connection, c.subject_id == person)


def is_there(connection: Connection, person: str) -> bool:
    """Tell whether the gallery has an encounter of a person, under the name that archives use or another."""
    c = archive_item.c
    named = select(encounter.c.encounter_id).where(encounter.c.subject_id == person).limit(1)
    noted = select(encounter.c.encounter_id).join(archive_item, c.encounter_id == encounter.c.encounter_id)
    noted = noted.where(c.subject_id == person).limit(1)
    return any(connection.scalar(query) is not None for query in (named, noted))


def keep_erased(connection: Connection, key: bytes) -> None:
    """Keep that a file was erased."""
    known = exists().where(archive_erased.c.erasure_key == key)
    once = select(literal(key, LargeBinary)).where(~known)
    connection.execute(insert(archive_erased).from_select(["erasure_key"], once))


def _erase(connection: Connection, which: ColumnElement[bool]) -> None:
    key = archive_item.c.erasure_key
    known = exists().where(archive_erased.c.erasure_key == key)
    keys = select(key).where(which, key.is_not(None), ~known).distinct()
    connection.execute(insert(archive_erased).from_select(["erasure_key"], keys))
    connection.execute(delete(archive_item).where(which))
