"""Every statement on the tables, as functions of a connection that is in a transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    and_,
    cast,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)

from matcher.errors import GalleryCorrupt
from matcher.template import Finger, Impression
from papilar.errors import (
    EncounterErased,
    EncounterExists,
    EncounterUnknown,
    RequestConflict,
    RequestInvalid,
)
from papilar.store import schema
from papilar.store.archived import forget_encounter
from papilar.store.schema import anew, encounter, erasure, image, meta, missing, print_, subject
from papilar.store.schema import request as request_
from papilar.store.values import (
    Counts,
    MissingFinger,
    MissingReason,
    NewEncounter,
    NewPrint,
    Owner,
    Request,
    StoredEncounter,
    StoredPrint,
    Written,
)

GENERATION = "generation"
"""Under which it is noted how often the prints were extracted anew."""

_CHUNK = 500  # values of one IN list; SQLite's oldest limit is 999 parameters


# ---- the gallery as a whole


def read_meta(connection: Connection) -> dict[str, str]:
    """Return what is noted of the gallery; empty where there is none."""
    if not inspect(connection).has_table(meta.name):
        return {}
    return {found.key: found.value for found in connection.execute(select(meta))}


def write_meta(connection: Connection, facts: Mapping[str, str]) -> None:
    """Note facts, in place of what was noted under their keys."""
    connection.execute(delete(meta).where(meta.c.key.in_(list(facts))))
    if facts:
        connection.execute(insert(meta), [{"key": key, "value": value} for key, value in facts.items()])


def generation(connection: Connection) -> int:
    """Return how often the prints were extracted anew."""
    return int(connection.scalar(select(meta.c.value).where(meta.c.key == GENERATION)) or 0)


def count(connection: Connection) -> Counts:
    """Count subjects, encounters and prints."""
    return Counts(
        *(connection.scalar(select(func.count()).select_from(t)) or 0 for t in (subject, encounter, print_))
    )


# ---- requests


def earlier_response(connection: Connection, request_id: str, digest: bytes) -> bytes | None:
    """Return what was answered to a request; None where it is new."""
    found = connection.execute(
        select(request_.c.digest, request_.c.response).where(request_.c.request_id == request_id)
    ).one_or_none()
    if found is None:
        return None
    if found.digest is None:
        raise EncounterErased(
            f"request {request_id} enrolled an encounter that has been deleted since",
            remedy="send a new request_id to enrol it again",
        )
    if found.digest != digest:
        raise RequestConflict(
            f"request {request_id} was made before with other content",
            remedy="send a new request_id, or exactly what was sent first",
        )
    return bytes(found.response)


def earlier(connection: Connection, request: Request | None) -> Written | None:
    """Return what came of a request before; None where it is new, or nobody repeats it."""
    if request is None:
        return None
    response = earlier_response(connection, request.request_id, request.digest)
    return None if response is None else Written((), False, response, True)


def answered(
    connection: Connection, written: Written, request: Request | None, encounter_id: str | None = None
) -> Written:
    """Keep the answer to a request, and add it; with the encounter it enrolled, whose deletion blanks it."""
    if request is None:
        return written
    response = request.answer(written)
    connection.execute(
        insert(request_).values(
            request_id=request.request_id,
            encounter_id=encounter_id,
            digest=request.digest,
            response=response,
            created=schema.now(),
        )
    )
    return written._replace(response=response)


# ---- writing encounters


def insert_encounter(connection: Connection, new: NewEncounter) -> Written:
    """Insert an encounter with its prints, and its subject where it is new."""
    if connection.scalar(
        select(encounter.c.encounter_id).where(encounter.c.encounter_id == new.encounter_id)
    ):
        raise EncounterExists(
            f"the gallery has an encounter {new.encounter_id}", remedy="send a new encounter_id, or none"
        )
    if new.replaces is not None:
        _check_replaced(connection, new.replaces, new.subject_id)
    created = schema.now()
    fresh = _ensure_subject(connection, new.subject_id, created)
    connection.execute(
        insert(encounter).values(
            encounter_id=new.encounter_id,
            subject_id=new.subject_id,
            created=created,
            replaces=new.replaces,
        )
    )
    rows = tuple(_insert_print(connection, new.encounter_id, *item) for item in enumerate(new.prints))
    if new.missing:
        connection.execute(insert(missing), [_missing_values(new.encounter_id, item) for item in new.missing])
    return Written(rows, fresh, None, False)


def _check_replaced(connection: Connection, encounter_id: str, subject_id: str) -> None:
    if _subject_of(connection, encounter_id) != subject_id:
        raise RequestInvalid(
            "the encounter to be replaced is of another subject", remedy="send its own subject_id"
        )


def _subject_of(connection: Connection, encounter_id: str) -> str:
    found: str | None = connection.scalar(
        select(encounter.c.subject_id).where(encounter.c.encounter_id == encounter_id)
    )
    if found is None:
        raise EncounterUnknown(
            f"there is no encounter {encounter_id}", remedy="check the id; it may be deleted"
        )
    return found


def _ensure_subject(connection: Connection, subject_id: str, created: int) -> bool:
    if connection.scalar(select(subject.c.subject_id).where(subject.c.subject_id == subject_id)):
        return False
    connection.execute(insert(subject).values(subject_id=subject_id, created=created))
    return True


def _insert_print(connection: Connection, encounter_id: str, ordinal: int, new: NewPrint) -> int:
    values = _print_values(encounter_id, ordinal, new)
    row: int = connection.execute(insert(print_).values(values).returning(print_.c.row)).scalar_one()
    if new.image is not None:
        connection.execute(insert(image).values(row=row, crc32=crc32(new.image), png=new.image))
    return row


def _print_values(encounter_id: str, ordinal: int, new: NewPrint) -> dict[str, Any]:
    return {
        "encounter_id": encounter_id,
        "ordinal": ordinal,
        "finger": int(new.finger),
        "impression": int(new.impression),
        "quality": new.quality,
        "minutiae": new.minutiae,
        "source_sha256": new.source_sha256,
        "crc32": crc32(new.template),
        "template": new.template,
        "nfiq2": new.nfiq2,
        "nfiq2_version": new.nfiq2_version,
        "original": new.original,
        "original_ppi": new.original_ppi,
    }


def _missing_values(encounter_id: str, item: MissingFinger) -> dict[str, Any]:
    return {"encounter_id": encounter_id, "finger": int(item.finger), "reason": str(item.reason)}


def delete_encounter(connection: Connection, encounter_id: str) -> Written:
    """Delete an encounter and all that hangs on it; its subject when it was the last one."""
    subject_id = _subject_of(connection, encounter_id)
    rows = _rows_of(connection, encounter_id)
    originals = _originals_of(connection, encounter_id)
    for start in range(0, len(rows), _CHUNK):
        for table in (image, anew):
            connection.execute(delete(table).where(table.c.row.in_(rows[start : start + _CHUNK])))
    for table in (print_, missing):
        connection.execute(delete(table).where(table.c.encounter_id == encounter_id))
    _note_erasures(connection, originals)
    _blank_requests(connection, encounter_id)
    connection.execute(update(encounter).where(encounter.c.replaces == encounter_id).values(replaces=None))
    connection.execute(delete(encounter).where(encounter.c.encounter_id == encounter_id))
    forget_encounter(connection, encounter_id, subject_id)
    return Written(rows, _drop_if_last(connection, subject_id), None, False)


def _rows_of(connection: Connection, encounter_id: str) -> tuple[int, ...]:
    found = select(print_.c.row).where(print_.c.encounter_id == encounter_id).order_by(print_.c.row)
    return tuple(connection.scalars(found))


def _originals_of(connection: Connection, encounter_id: str) -> set[bytes]:
    p = print_.c
    return set(
        connection.scalars(select(p.original).where(p.encounter_id == encounter_id, p.original.is_not(None)))
    )


def _note_erasures(connection: Connection, originals: Iterable[bytes]) -> None:
    """Note the originals that no print refers to any more; the files are erased after the transaction."""
    for name in unused_originals(connection, originals):
        if not connection.scalar(select(erasure.c.name).where(erasure.c.name == name)):
            connection.execute(insert(erasure).values(name=name))


def unused_originals(connection: Connection, names: Iterable[bytes]) -> list[bytes]:
    """Return those of some originals that no print refers to."""
    return [
        name
        for name in names
        if connection.scalar(select(print_.c.row).where(print_.c.original == name).limit(1)) is None
    ]


def _blank_requests(connection: Connection, encounter_id: str) -> None:
    """Keep that the request was made, so that a late repeat does not enrol again, and nothing else of it."""
    connection.execute(
        update(request_)
        .where(request_.c.encounter_id == encounter_id)
        .values(encounter_id=None, digest=None, response=None)
    )


def _drop_if_last(connection: Connection, subject_id: str) -> bool:
    if connection.scalar(
        select(encounter.c.encounter_id).where(encounter.c.subject_id == subject_id).limit(1)
    ):
        return False
    connection.execute(delete(subject).where(subject.c.subject_id == subject_id))
    return True


# ---- reading


class _Blob(NamedTuple):
    what: str
    row: int
    data: bytes
    crc32: int


def _sound(blob: _Blob) -> bytes:
    if crc32(blob.data) != blob.crc32:
        raise GalleryCorrupt(
            f"the {blob.what} of row {blob.row} does not match its checksum",
            remedy="restore the gallery from a backup, or rebuild it from the images",
        )
    return blob.data


def _stored_print(found: Row[Any], images: Mapping[int, bytes]) -> StoredPrint:
    renewed = found.new_template is not None
    template, crc = (found.new_template, found.new_crc32) if renewed else (found.template, found.crc32)
    return StoredPrint(
        row=found.row,
        encounter_id=found.encounter_id,
        ordinal=found.ordinal,
        finger=Finger(found.finger),
        impression=Impression(found.impression),
        template=_sound(_Blob("template", found.row, template, crc)),
        minutiae=found.new_minutiae if renewed else found.minutiae,
        quality=found.new_quality if renewed else found.quality,
        source_sha256=found.source_sha256,
        image=images.get(found.row),
        nfiq2=found.nfiq2,
        nfiq2_version=found.nfiq2_version,
        original=found.original,
        original_ppi=found.original_ppi,
    )


def _prints(generation: int | None = None) -> Select[Any]:
    """Select prints as they are in a generation; by default the one in force, as this reader sees it."""
    force = select(cast(meta.c.value, Integer)).where(meta.c.key == GENERATION).scalar_subquery()
    latest = func.coalesce(force, 0) if generation is None else generation
    a = anew.c
    held = and_(a.row == print_.c.row, a.generation <= latest, a.template.is_not(None))
    new = (a.template, a.crc32, a.minutiae, a.quality)
    labelled = [column.label(f"new_{column.name}") for column in new]
    return select(print_, *labelled).select_from(print_.outerjoin(anew, held))


def read_templates(
    connection: Connection, after_row: int, most: int, generation: int | None = None
) -> list[StoredPrint]:
    """Return the first prints after a row, in the order of rows, without images."""
    found = _prints(generation).where(print_.c.row > after_row).order_by(print_.c.row).limit(most)
    return [_stored_print(item, {}) for item in connection.execute(found)]


def read_prints(
    connection: Connection, rows: Sequence[int], generation: int | None = None
) -> Iterator[StoredPrint]:
    """Yield these prints, without images; one that is gone is left out."""
    for start in range(0, len(rows), _CHUNK):
        wanted = _prints(generation).where(print_.c.row.in_(rows[start : start + _CHUNK]))
        yield from (_stored_print(item, {}) for item in connection.execute(wanted).all())


def read_places(connection: Connection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of all prints, ascending, and of each the first of its encounter."""
    first = func.min(print_.c.row).over(partition_by=print_.c.encounter_id)  # out of an index, as below
    found = np.fromiter(chain.from_iterable(connection.execute(select(print_.c.row, first))), np.int64)
    rows, encounters = found.reshape(-1, 2).T
    order = np.argsort(rows)
    return rows[order], encounters[order]


def read_encounters(
    connection: Connection, which: ColumnElement[bool], *, images: bool
) -> tuple[StoredEncounter, ...]:
    """Return the encounters for which a condition on `encounter` holds, the oldest first."""
    heads = connection.execute(
        select(encounter).where(which).order_by(encounter.c.created, encounter.c.encounter_id)
    ).all()
    prints = _prints_of(connection, which, _images_of(connection, which) if images else {})
    gaps = _missing_of(connection, which)
    return tuple(
        StoredEncounter(
            subject_id=head.subject_id,
            encounter_id=head.encounter_id,
            created=schema.moment(head.created),
            prints=tuple(prints.get(head.encounter_id, ())),
            missing=tuple(gaps.get(head.encounter_id, ())),
            replaces=head.replaces,
        )
        for head in heads
    )


def _prints_of(
    connection: Connection, which: ColumnElement[bool], images: Mapping[int, bytes]
) -> dict[str, list[StoredPrint]]:
    prints: dict[str, list[StoredPrint]] = {}
    query = _prints().join(encounter, encounter.c.encounter_id == print_.c.encounter_id)
    for found in connection.execute(query.where(which).order_by(print_.c.row)):
        prints.setdefault(found.encounter_id, []).append(_stored_print(found, images))
    return prints


def _images_of(connection: Connection, which: ColumnElement[bool]) -> dict[int, bytes]:
    wanted = select(image).select_from(image.join(print_).join(encounter)).where(which)
    return {
        found.row: _sound(_Blob("image", found.row, found.png, found.crc32))
        for found in connection.execute(wanted)
    }


def _missing_of(connection: Connection, which: ColumnElement[bool]) -> dict[str, list[MissingFinger]]:
    gaps: dict[str, list[MissingFinger]] = {}
    for found in connection.execute(select(missing).join(encounter).where(which).order_by(missing.c.finger)):
        item = MissingFinger(Finger(found.finger), MissingReason(found.reason))
        gaps.setdefault(found.encounter_id, []).append(item)
    return gaps


def read_rows(connection: Connection) -> NDArray[np.int64]:
    """Return the numbers of all prints, ascending."""
    # Unordered, the numbers come from an index; ordered, SQLite would turn over every template.
    return np.sort(np.fromiter(connection.scalars(select(print_.c.row)), np.int64))


def read_rows_of(connection: Connection, encounters: Iterable[str]) -> list[int]:
    """Return the numbers of all prints of these encounters."""
    wanted = sorted(set(encounters))
    chunks = (wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK))
    return [
        row
        for chunk in chunks
        for row in connection.scalars(select(print_.c.row).where(print_.c.encounter_id.in_(chunk)))
    ]


def read_owners(connection: Connection, rows: Iterable[int]) -> dict[int, Owner]:
    """Return whose prints the rows are; a row that is gone is left out."""
    wanted = sorted({int(row) for row in rows})
    chunks = (wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK))
    return {row: owner for chunk in chunks for row, owner in _owners(connection, chunk)}


def _owners(connection: Connection, rows: Sequence[int]) -> list[tuple[int, Owner]]:
    p, e = print_.c, encounter.c
    found = connection.execute(
        select(p.row, e.subject_id, e.encounter_id, p.ordinal, p.finger, p.impression)
        .join(encounter)
        .where(p.row.in_(rows))
    )
    return [
        (row, Owner(who, which, place, Finger(finger), Impression(how)))
        for row, who, which, place, finger, how in found
    ]
