"""What the watch over users keeps: the calls of its window, and findings until somebody has closed them.

Of a print there is its keyed digest, of an officer the pseudonym. A finding is closed by another than whom it
is about, and comes back where later calls give reason.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    delete,
    insert,
    select,
    true,
    update,
)

from papilar.audit.entry import TEXT_LENGTH, microseconds, moment
from papilar.errors import CallNotPermitted, RequestInvalid
from papilar.store.place import Placed
from papilar.store.schema import ROW_NUMBER, metadata
from papilar.users import is_pseudonym
from papilar.watch import Call, Finding, Kind

review_call = Table(
    "review_call",
    metadata,
    Column("call_id", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("time_us", BigInteger, nullable=False, index=True),
    Column("officer", String(128), nullable=False),
    Column("case_reference", String(128), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("asked", String(3), nullable=False),
    Column("search_type", String(32), nullable=False),
    Column("size", Integer, nullable=False),
    Column("own", SmallInteger, nullable=False),
    Column("refused", SmallInteger, nullable=False),
)

review_print = Table(
    "review_print",
    metadata,
    Column("call_id", ForeignKey("review_call.call_id"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    sqlite_with_rowid=False,
)

review_finding = Table(  # the last three are null while it is open
    "review_finding",
    metadata,
    Column("finding_id", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("officer", String(128), nullable=False),
    Column("why", String(256), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("closed_us", BigInteger),
    Column("closed_by", String(128)),
    Column("note", String(TEXT_LENGTH)),
    Index("ix_review_finding_officer_why", "officer", "why"),
)

_TABLES = (review_call, review_print, review_finding)
_VALUES = ("officer", "case_reference", "purpose", "asked", "search_type", "size")


class Closing(NamedTuple):
    """Who closed a finding, by pseudonym, when, and what was found out."""

    by: str
    at: datetime
    note: str


class Review(NamedTuple):
    """A finding in the queue. It is open while `closed` is None."""

    number: int
    finding: Finding
    closed: Closing | None = None


class ReviewStore(Placed):
    """Where the watch keeps what it needs. All threads may use one.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method, which then has changed nothing.
    """

    # ---- calls

    def record(self, call: Call) -> None:
        """Keep a call."""
        values = {name: getattr(call, name) for name in _VALUES}
        values |= {"time_us": microseconds(call.time), "own": int(call.own), "refused": int(call.refused)}
        with self._write() as connection:
            number = connection.scalar(insert(review_call).values(values).returning(review_call.c.call_id))
            prints = [{"call_id": number, "digest": digest} for digest in sorted(call.prints)]
            if prints:
                connection.execute(insert(review_print), prints)

    def calls(self, since: datetime) -> list[Call]:
        """Return the calls that are not older, in the order of time."""
        wanted = review_call.c.time_us >= microseconds(since)
        ids = select(review_call.c.call_id).where(wanted)
        with self._read() as connection:
            prints: dict[int, set[str]] = {}
            for row in connection.execute(select(review_print).where(review_print.c.call_id.in_(ids))):
                prints.setdefault(row.call_id, set()).add(row.digest)
            rows = connection.execute(select(review_call).where(wanted).order_by(review_call.c.time_us))
            return [_call(row._asdict(), frozenset(prints.get(row.call_id, ()))) for row in rows]

    def forget(self, before: datetime) -> int:
        """Erase older calls; return how many."""
        old = review_call.c.time_us < microseconds(before)
        with self._write() as connection:
            ids = select(review_call.c.call_id).where(old)
            connection.execute(delete(review_print).where(review_print.c.call_id.in_(ids)))
            return connection.execute(delete(review_call).where(old)).rowcount

    # ---- findings

    def keep(self, found: Iterable[Finding]) -> int:
        """Put findings in the queue; return how many were not there.

        One that is open is brought up to date. One that was closed comes back if it has later calls.
        """
        with self._write() as connection:
            return sum(_keep(connection, finding) for finding in found)

    def reviews(self, *, closed: bool = False) -> list[Review]:
        """Return the open findings, or with `closed` all, the first found first."""
        c = review_finding.c
        which = true() if closed else c.closed_us.is_(None)
        with self._read() as connection:
            rows = connection.execute(select(review_finding).where(which).order_by(c.finding_id))
            return [_review(row._asdict()) for row in rows]

    def review(self, number: int) -> Review:
        """Return a finding; raises `RequestInvalid` where there is none of that number."""
        with self._read() as connection:
            return _one(connection, number)

    def close_review(self, number: int, closing: Closing) -> Review:
        """Close a finding, and return it.

        Raises
        ------
        RequestInvalid
            There is none of that number, it is closed, or pseudonym or note is of another form.
        CallNotPermitted
            It is about who would close it.
        """
        _check(closing)
        with self._write() as connection:
            found = _one(connection, number)
            if found.closed is not None:
                raise RequestInvalid(
                    f"finding {number} is closed", remedy="look at it with papilar review show"
                )
            if found.finding.officer == closing.by:
                raise CallNotPermitted(
                    "a finding is closed by whom it is about", remedy="ask another supervisor"
                )
            values = {"closed_us": microseconds(closing.at), "closed_by": closing.by, "note": closing.note}
            this = review_finding.c.finding_id == number
            connection.execute(update(review_finding).where(this).values(values))
            return found._replace(closed=closing)


def _call(row: Mapping[str, Any], prints: frozenset[str]) -> Call:
    values: dict[str, Any] = {name: row[name] for name in _VALUES}
    values |= {name: bool(row[name]) for name in ("own", "refused")}
    return Call(time=moment(row["time_us"]), prints=prints, **values)


def _keep(connection: Connection, finding: Finding) -> bool:
    c, until = review_finding.c, microseconds(finding.until)
    same = (c.kind == str(finding.kind), c.officer == finding.officer, c.why == finding.why)
    last = connection.execute(
        select(review_finding).where(*same).order_by(c.finding_id.desc()).limit(1)
    ).first()
    if last is None or (last.closed_us is not None and last.until_us < until):
        values = {"kind": str(finding.kind), "officer": finding.officer, "why": finding.why}
        times = {"since_us": microseconds(finding.since), "until_us": until, "count": finding.count}
        connection.execute(insert(review_finding).values(values | times))
        return True
    if last.closed_us is None:
        this = c.finding_id == last.finding_id
        connection.execute(update(review_finding).where(this).values(until_us=until, count=finding.count))
    return False


def _one(connection: Connection, number: int) -> Review:
    row = connection.execute(select(review_finding).where(review_finding.c.finding_id == number)).first()
    if row is None:
        raise RequestInvalid(f"there is no finding {number}", remedy="papilar review list shows them")
    return _review(row._asdict())


def _review(row: Mapping[str, Any]) -> Review:
    closed = row["closed_us"] is not None
    return Review(
        row["finding_id"],
        Finding(
            Kind(row["kind"]),
            row["officer"],
            moment(row["since_us"]),
            moment(row["until_us"]),
            row["count"],
            row["why"],
        ),
        Closing(row["closed_by"], moment(row["closed_us"]), row["note"]) if closed else None,
    )


def _check(closing: Closing) -> None:
    if not is_pseudonym(closing.by):
        raise RequestInvalid(
            "who closes a finding is no pseudonym", remedy="give it as certificates do, as s2"
        )
    if not (0 < len(closing.note) <= TEXT_LENGTH and closing.note.isprintable()):
        raise RequestInvalid(
            "a note of another form", remedy=f"write 1 to {TEXT_LENGTH} printable characters"
        )
