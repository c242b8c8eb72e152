"""The rows of the outbox: searches that wait for a peer that is down, answers that wait for their officer.

The prints of a search are a column of their own: they are erased at once when it is settled, while the rest
of the row stays until the log says so. For `papilar.exchange.outbox`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from papilar.store import engine as engines
from papilar.store.place import Placed
from papilar.store.schema import metadata

outbox_search = Table(  # prints are null once they are erased
    "outbox_search",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("country", String(3), primary_key=True),
    Column("expedite", SmallInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("why", String(32), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("prints", LargeBinary),
)

outbox_answer = Table(  # answer is null where none will come; code says why
    "outbox_answer",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("country", String(3), primary_key=True),
    Column("officer", String(63), nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("code", String(32), nullable=False),
    Column("answer", LargeBinary),
)

TABLES = (outbox_search, outbox_answer)


class Key(NamedTuple):
    """Which search at which country."""

    request_id: str
    country: str


class SearchRow(NamedTuple):
    """A search that waits. Times are microseconds; `prints` is None once they are erased, `why` says why."""

    request_id: str
    country: str
    expedite: int
    created: int
    expires: int
    due: int
    tries: int
    why: str
    statement: bytes
    prints: bytes | None

    @property
    def key(self) -> Key:
        """Which it is."""
        return Key(self.request_id, self.country)


class AnswerRow(NamedTuple):
    """An answer that waits for the officer who asked."""

    request_id: str
    country: str
    officer: str
    received: int
    expires: int
    code: str
    answer: bytes | None


class OutboxStore(Placed):
    """Where an outbox lies. All threads may use one; every method is one transaction.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method, which then has changed nothing.
    """

    # ---- searches

    def put(self, row: SearchRow) -> bool:
        """Add a search; False, and nothing changed, where it is there."""
        with self._write() as connection:
            if (
                connection.scalar(select(outbox_search.c.tries).where(_is(outbox_search, row.key)))
                is not None
            ):
                return False
            connection.execute(insert(outbox_search).values(row._asdict()))
            return True

    def due(self, now: int) -> list[Key]:
        """Return the searches whose time has come, those with `expedite` first, then the oldest first."""
        c = outbox_search.c
        wanted = select(c.request_id, c.country).where(c.prints.is_not(None), c.due <= now)
        with self._read() as connection:
            found = connection.execute(wanted.order_by(c.expedite.desc(), c.created, c.request_id))
            return [Key(*row) for row in found]

    def expired(self, now: int) -> list[Key]:
        """Return the searches whose time is over and whose prints are still there."""
        c = outbox_search.c
        wanted = select(c.request_id, c.country).where(c.prints.is_not(None), c.expires <= now)
        with self._read() as connection:
            return [Key(*row) for row in connection.execute(wanted)]

    def next_time(self) -> int | None:
        """Return when the next search is due or expires; None where none waits."""
        c = outbox_search.c
        wanted = select(func.min(c.due), func.min(c.expires)).where(c.prints.is_not(None))
        with self._read() as connection:
            times = [time for time in connection.execute(wanted).one() if time is not None]
        return min(times, default=None)

    def load(self, key: Key) -> SearchRow | None:
        """Return a search, with its prints; None where there is none."""
        with self._read() as connection:
            row = connection.execute(select(outbox_search).where(_is(outbox_search, key))).one_or_none()
            return None if row is None else SearchRow(*row)

    def settled(self) -> list[SearchRow]:
        """Return the searches whose prints are erased and of which the log does not say so yet."""
        c = outbox_search.c
        with self._read() as connection:
            return [
                SearchRow(*row) for row in connection.execute(select(outbox_search).where(c.prints.is_(None)))
            ]

    def of_request(self, request_id: str) -> list[SearchRow]:
        """Return the searches of a request that wait, without their prints."""
        c = outbox_search.c
        columns = [column for column in c if column is not c.prints]
        wanted = select(*columns).where(c.request_id == request_id, c.prints.is_not(None))
        with self._read() as connection:
            found = connection.execute(wanted.order_by(c.country))
            return [SearchRow(**row._mapping, prints=None) for row in found]

    def delay(self, key: Key, until: int, *, country: bool) -> None:
        """Count a try that failed, and wait; with `country` all searches of that country wait with it."""
        c = outbox_search.c
        one = update(outbox_search).where(_is(outbox_search, key)).values(tries=c.tries + 1, due=until)
        with self._write() as connection:
            connection.execute(one)
            if country:
                waits = and_(c.country == key.country, c.due < until)
                connection.execute(update(outbox_search).where(waits).values(due=until))

    def settle(self, key: Key, why: str, answer: AnswerRow) -> bool:
        """Erase the prints of a search and keep its answer, together; False where it was settled before."""
        c = outbox_search.c
        with self._write() as connection:
            waits = and_(_is(outbox_search, key), c.prints.is_not(None))
            done = connection.execute(update(outbox_search).where(waits).values(prints=None, why=why))
            if not done.rowcount:
                return False
            _replace(connection, answer)
        engines.clear_log(self._engine)
        return True

    def forget(self, key: Key) -> None:
        """Delete the row of a search that is settled."""
        with self._write() as connection:
            gone = and_(_is(outbox_search, key), outbox_search.c.prints.is_(None))
            connection.execute(delete(outbox_search).where(gone))

    # ---- answers

    def answers(self, request_id: str, officer: str, *, now: int, fetched_until: int) -> list[AnswerRow]:
        """Return the answers to an officer's request; they then stay until `fetched_until` at the longest."""
        c = outbox_answer.c
        wanted = and_(c.request_id == request_id, c.officer == officer, c.expires > now)
        with self._write() as connection:
            found = connection.execute(select(outbox_answer).where(wanted).order_by(c.received, c.country))
            rows = [AnswerRow(*row) for row in found]
            soon = and_(wanted, c.expires > fetched_until)
            connection.execute(update(outbox_answer).where(soon).values(expires=fetched_until))
        return rows

    def erase_answers(self, now: int) -> int:
        """Erase the answers whose time is over; return how many."""
        with self._write() as connection:
            gone = connection.execute(delete(outbox_answer).where(outbox_answer.c.expires <= now))
        if gone.rowcount:
            engines.clear_log(self._engine)
        return gone.rowcount


def _is(table: Table, key: Sequence[str]) -> ColumnElement[bool]:
    return and_(table.c.request_id == key[0], table.c.country == key[1])


def _replace(connection: Connection, row: AnswerRow) -> None:
    connection.execute(delete(outbox_answer).where(_is(outbox_answer, row[:2])))
    connection.execute(insert(outbox_answer).values(row._asdict()))
