"""The rows of duplicates: which subjects seem to be one person, and who was merged into whom.

They lie in the gallery's own store, and go through its writer: a merge is one transaction, or nothing.

A case and a merge keep the names that they were about, and beside them (`..._now`) which subjects have the
prints of these names today. When a subject is erased, whatever is noted of it goes with it: the data base
sees to that by these columns. A merge and what undoes it change them in the same way.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    ForeignKey,
    Index,
    Row,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)

from matcher.template import Finger
from papilar.audit.entry import microseconds
from papilar.duplicates import Case, Decision, Finding, Kind, PrintPair, State
from papilar.errors import CaseDecided, CaseUnknown, RequestInvalid, SubjectUnknown
from papilar.store import rows as sql
from papilar.store.engine import Part
from papilar.store.schema import ROW_NUMBER, encounter, metadata, moment, print_, subject
from papilar.store.store import Store
from papilar.store.values import Request, Written

MOST_OF_FILE = 100
"""Prints of one file that are looked at: a placeholder under thousands of names is one trouble, not more."""

_CURSOR = "duplicates.row"


def _subject(name: str, *, nullable: bool = False) -> Column[str]:
    other = ForeignKey(subject.c.subject_id, ondelete="CASCADE")
    return Column(name, String(128), other, nullable=nullable, index=True)


Index("ix_print_source_sha256", print_.c.source_sha256)

duplicate_case = Table(  # what decides it is null while it is open
    "duplicate_case",
    metadata,
    Column("case_id", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("first", String(128), nullable=False, index=True),
    Column("second", String(128), nullable=False, index=True),
    _subject("first_now"),
    _subject("second_now"),
    Column("kind", String(16), nullable=False),
    Column("score", Double, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("found_us", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("decided_us", BigInteger),
    Column("decided_by", String(128)),
    Column("note", String(32)),
    Column("merge_id", String(36), index=True),
    sqlite_autoincrement=True,
)

subject_merge = Table(  # in force while `released_now` is null; `created` is the absorbed subject's own
    "subject_merge",
    metadata,
    Column("merge_id", String(36), primary_key=True),
    Column("survivor", String(128), nullable=False, index=True),
    Column("absorbed", String(128), nullable=False, index=True),
    _subject("survivor_now"),
    _subject("released_now", nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("merged_us", BigInteger, nullable=False),
    Column("merged_by", String(128), nullable=False),
    Column("note", String(32), nullable=False),
    Column("undone_us", BigInteger),
    Column("undone_by", String(128)),
    Column("undone_note", String(32)),
)

merged_encounter = Table(  # what a merge moved, and still is there
    "merged_encounter",
    metadata,
    Column("merge_id", ForeignKey("subject_merge.merge_id", ondelete="CASCADE"), primary_key=True),
    Column(
        "encounter_id",
        ForeignKey("encounter.encounter_id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)


class Merge(NamedTuple):
    """Who is to be merged into whom, under which new UUID."""

    merge_id: str
    survivor: str
    absorbed: str


class DuplicateStore(Part):
    """Cases and merges in a gallery's store. All threads may use one.

    Parameters
    ----------
    store : Store
        Open as long as this is used.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt, GalleryLocked
        From any method, which then has changed nothing.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store._read, store._write)

    # ---- the run

    def cursor(self) -> int:
        """Return the last row that was searched; 0 at the start."""
        with self._read() as connection:
            return int(sql.read_meta(connection).get(_CURSOR, "0"))

    def move_cursor(self, row: int) -> None:
        """Note the last row that was searched."""
        with self._write() as connection:
            sql.write_meta(connection, {_CURSOR: str(row)})

    def owners_of_file(self, sha256: bytes, *, besides: int) -> set[str]:
        """Return who has a print of one file beside a row; `MOST_OF_FILE` prints are looked at."""
        owners = (
            select(encounter.c.subject_id)
            .join(print_)
            .where(print_.c.source_sha256 == sha256, print_.c.row != besides)
            .limit(MOST_OF_FILE)
        )
        with self._read() as connection:
            return set(connection.scalars(owners))

    def keep(self, finding: Finding, at: int) -> Case | None:
        """Queue a finding of microsecond `at`; None where its pair was before, or one of the two is gone."""
        c, names = duplicate_case.c, (finding.first, finding.second)
        with self._write() as connection:
            alive = set(
                connection.scalars(select(subject.c.subject_id).where(subject.c.subject_id.in_(names)))
            )
            if alive != set(names) or connection.scalar(select(c.case_id).where(_between(*names)).limit(1)):
                return None
            number = connection.scalar(
                insert(duplicate_case).values(_values(finding) | {"found_us": at}).returning(c.case_id)
            )
            return _read_case(connection, number or 0)

    def known(self, first: str, second: str) -> bool:
        """Return whether there is a case of these two, open or decided."""
        with self._read() as connection:
            found = select(duplicate_case.c.case_id).where(_between(first, second)).limit(1)
            return connection.scalar(found) is not None

    # ---- cases

    def cases(self, *, decided: bool = False, after: int = 0, most: int = 1_000) -> list[Case]:
        """Return the first `most` cases after a number: those that are open, or also those decided.

        An open case whose two subjects have become one by another merge is passed over.
        """
        c = duplicate_case.c
        wanted = [c.case_id > after]
        if not decided:
            wanted += [c.state == State.OPEN, or_(c.first_now != c.second_now, c.first == c.second)]
        query = select(duplicate_case).where(*wanted).order_by(c.case_id).limit(most)
        with self._read() as connection:
            return [_case(row) for row in connection.execute(query)]

    def case(self, number: int) -> Case:
        """Return a case; raises `CaseUnknown`."""
        with self._read() as connection:
            return _read_case(connection, number)

    def call_distinct(self, number: int, decision: Decision, *, request: Request | None = None) -> Written:
        """Decide that the two of a case are two persons, or that nothing is to be done.

        Raises
        ------
        CaseUnknown, RequestConflict
        CaseDecided
            They are merged: that is undone first.
        """
        with self._write() as connection:
            earlier = sql.earlier(connection, request)
            if earlier:
                return earlier
            if _read_case(connection, number).state is State.MERGED:
                raise CaseDecided("the two are merged", remedy="undo the merge first: papilar dedup unmerge")
            values = _decided(State.DISTINCT, decision)
            connection.execute(
                update(duplicate_case).where(duplicate_case.c.case_id == number).values(values)
            )
            return sql.answered(connection, Written((), False, None, False), request)

    # ---- merges

    def absorbed(self, subject_id: str) -> bool:
        """Return whether a name was merged into another, and that is in force."""
        with self._read() as connection:
            return _merge_in_force(connection, subject_id) is not None

    def merge(self, new: Merge, decision: Decision, *, request: Request | None = None) -> Written:
        """Give all encounters of a subject to another, and take the subject away; in one transaction.

        Returns
        -------
        Written
            No rows, for none is touched; for a repeat, the first call's response.

        Raises
        ------
        RequestInvalid
            A subject with itself.
        SubjectUnknown, RequestConflict
        """
        if new.survivor == new.absorbed:
            raise RequestInvalid("a subject with itself", remedy="name two subjects")
        with self._write() as connection:
            earlier = sql.earlier(connection, request)
            if earlier:
                return earlier
            _created(connection, new.survivor)
            created = _created(connection, new.absorbed)
            cases = update(duplicate_case).where(_between(new.survivor, new.absorbed))
            connection.execute(cases.values(_decided(State.MERGED, decision) | {"merge_id": new.merge_id}))
            _note_merge(connection, new, decision, created)
            moved = _moved(new.merge_id)
            connection.execute(
                update(encounter).where(encounter.c.encounter_id.in_(moved)).values(subject_id=new.survivor)
            )
            _repoint(connection, new.absorbed, new.survivor)
            connection.execute(delete(subject).where(subject.c.subject_id == new.absorbed))
            return sql.answered(connection, Written((), True, None, False), request)

    def unmerge(self, merge_id: str, decision: Decision, *, request: Request | None = None) -> Written:
        """Give back what a merge moved, as far as it has not been deleted; its cases are open again.

        What was enrolled under the survivor since stays there.

        Raises
        ------
        CaseUnknown, RequestConflict
        CaseDecided
            It was undone before, the survivor itself was merged since, or nothing is left to give back.
        """
        with self._write() as connection:
            earlier = sql.earlier(connection, request)
            if earlier:
                return earlier
            merge = _undoable(connection, merge_id)
            moved = list(connection.scalars(_moved(merge_id)))
            if not moved:
                raise CaseDecided(
                    "all that was merged has been deleted since", remedy="there is nothing to undo"
                )
            connection.execute(insert(subject).values(subject_id=merge.absorbed, created=merge.created))
            _give_back(connection, merge, moved)
            _note_undone(connection, merge, decision)
            _repoint(connection, merge.absorbed, merge.absorbed)
            left = select(encounter.c.encounter_id).where(encounter.c.subject_id == merge.survivor).limit(1)
            gone = connection.scalar(left) is None
            if gone:
                connection.execute(delete(subject).where(subject.c.subject_id == merge.survivor))
            return sql.answered(connection, Written((), gone, None, False), request)


# ---- cases


def _between(first: str, second: str) -> ColumnElement[bool]:
    """Return the condition that a case is of these two, by the names they have now."""
    c = duplicate_case.c
    return or_(
        and_(c.first_now == first, c.second_now == second),
        and_(c.first_now == second, c.second_now == first),
    )


def _values(finding: Finding) -> dict[str, Any]:
    return {
        "first": finding.first,
        "second": finding.second,
        "first_now": finding.first,
        "second_now": finding.second,
        "kind": str(finding.kind),
        "score": finding.score,
        "evidence": json.dumps(finding.pairs),
        "state": str(State.OPEN),
    }


def _decided(state: State, decision: Decision) -> dict[str, Any]:
    return {
        "state": str(state),
        "decided_us": microseconds(decision.at),
        "decided_by": decision.by,
        "note": decision.note,
    }


def _read_case(connection: Connection, number: int) -> Case:
    row = connection.execute(select(duplicate_case).where(duplicate_case.c.case_id == number)).first()
    if row is None:
        raise CaseUnknown(f"there is no case {number}", remedy="papilar dedup list shows them")
    return _case(row)


def _case(row: Row[Any]) -> Case:
    state = State(row.state)
    merged = state is State.MERGED
    names = (row.first, row.second) if merged else (row.first_now, row.second_now)
    finding = Finding(Kind(row.kind), *names, row.score, _pairs(json.loads(row.evidence)))
    decision = Decision(row.decided_by, moment(row.decided_us), row.note) if row.decided_by else None
    return Case(row.case_id, finding, moment(row.found_us), state, decision, row.merge_id or "")


def _pairs(kept: Iterable[Sequence[Any]]) -> tuple[PrintPair, ...]:
    return tuple(
        PrintPair(row, other, Finger(finger), Finger(other_finger), score, same)
        for row, other, finger, other_finger, score, same in kept
    )


# ---- merges


def _merge_in_force(connection: Connection, absorbed: str) -> str | None:
    c = subject_merge.c
    found: str | None = connection.scalar(
        select(c.merge_id).where(c.absorbed == absorbed, c.released_now.is_(None)).limit(1)
    )
    return found


def _created(connection: Connection, subject_id: str) -> int:
    found: int | None = connection.scalar(select(subject.c.created).where(subject.c.subject_id == subject_id))
    if found is None:
        raise SubjectUnknown("there is no such subject", remedy="check the id; it may be deleted or merged")
    return found


def _moved(merge_id: str) -> Any:
    return select(merged_encounter.c.encounter_id).where(merged_encounter.c.merge_id == merge_id)


def _note_merge(connection: Connection, new: Merge, decision: Decision, created: int) -> None:
    connection.execute(
        insert(subject_merge).values(
            merge_id=new.merge_id,
            survivor=new.survivor,
            absorbed=new.absorbed,
            survivor_now=new.survivor,
            created=created,
            merged_us=microseconds(decision.at),
            merged_by=decision.by,
            note=decision.note,
        )
    )
    theirs = select(encounter.c.encounter_id).where(encounter.c.subject_id == new.absorbed)
    values = [{"merge_id": new.merge_id, "encounter_id": one} for one in connection.scalars(theirs)]
    connection.execute(insert(merged_encounter), values)


def _undoable(connection: Connection, merge_id: str) -> Row[Any]:
    merge = connection.execute(select(subject_merge).where(subject_merge.c.merge_id == merge_id)).first()
    if merge is None:
        raise CaseUnknown(f"there is no merge {merge_id}", remedy="papilar dedup list --decided shows them")
    if merge.released_now is not None:
        raise CaseDecided(f"merge {merge_id} was undone before", remedy="there is nothing to undo")
    if merge.survivor_now != merge.survivor:
        raise CaseDecided(
            "the survivor was merged into another subject since", remedy="undo the later merge first"
        )
    return merge


def _give_back(connection: Connection, merge: Row[Any], moved: Sequence[str]) -> None:
    """Move the encounters; what one replaces must be of its own subject, on either side."""
    c = encounter.c
    theirs = c.encounter_id.in_(_moved(merge.merge_id))
    connection.execute(update(encounter).where(theirs).values(subject_id=merge.absorbed))
    own = c.subject_id == merge.survivor
    here = select(c.encounter_id).where(own)
    across = or_(and_(own, c.replaces.in_(_moved(merge.merge_id))), and_(theirs, c.replaces.in_(here)))
    ids = list(connection.scalars(select(c.encounter_id).where(across)))
    if ids:
        connection.execute(update(encounter).where(c.encounter_id.in_(ids)).values(replaces=None))


def _note_undone(connection: Connection, merge: Row[Any], decision: Decision) -> None:
    m, c = subject_merge.c, duplicate_case.c
    undone = {
        "released_now": merge.absorbed,
        "undone_us": microseconds(decision.at),
        "undone_by": decision.by,
        "undone_note": decision.note,
    }
    connection.execute(update(subject_merge).where(m.merge_id == merge.merge_id).values(undone))
    opened = {
        "state": str(State.OPEN),
        "decided_us": None,
        "decided_by": None,
        "note": None,
        "merge_id": None,
    }
    connection.execute(update(duplicate_case).where(c.merge_id == merge.merge_id).values(opened))


def _repoint(connection: Connection, subject_id: str, now: str) -> None:
    """Say which subject has the prints of a name, and of all merged into it, wherever they are noted."""
    names, c, m = _merged_into(connection, subject_id), duplicate_case.c, subject_merge.c
    for name, holder in ((c.first, c.first_now), (c.second, c.second_now)):
        connection.execute(update(duplicate_case).where(name.in_(names)).values({holder: now}))
    connection.execute(update(subject_merge).where(m.survivor.in_(names)).values(survivor_now=now))
    released = and_(m.absorbed.in_(names), m.released_now.is_not(None))
    connection.execute(update(subject_merge).where(released).values(released_now=now))


def _merged_into(connection: Connection, subject_id: str) -> list[str]:
    """Return a name and all that were merged into it, one after the other, and are so still."""
    m, names, last = subject_merge.c, [subject_id], [subject_id]
    while last:
        absorbed = select(m.absorbed).where(m.survivor.in_(last), m.released_now.is_(None))
        last = list(connection.scalars(absorbed))
        names += last
    return names
