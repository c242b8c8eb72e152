"""What a node keeps of searches between countries: its tables and all statements on them.

`own_search` is of those that we ask for, all else of those that we are asked for. `peer_request` makes a
repeat safe: it is written before the work, in one transaction with the quota's counter, and keeps the answer
for as long as one of its references lives. `peer_reference` has the hash of a reference, never itself. Erased
content is overwritten, as everywhere in the store.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from threading import Lock
from typing import NamedTuple, Self

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
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
    select,
    update,
)

from papilar.store import engine as engines
from papilar.store.place import Placed
from papilar.store.schema import metadata

peer_request = Table(  # the answer is null until there is one, and again once it is erased
    "peer_request",
    metadata,
    Column("peer", String(3), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("content", LargeBinary(32), nullable=False),
    Column("begun_us", BigInteger, nullable=False),
    Column("answered", SmallInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False, index=True),
    Column("answer", LargeBinary),
)

peer_quota = Table(
    "peer_quota",
    metadata,
    Column("peer", String(3), primary_key=True),
    Column("search_type", String(16), primary_key=True),
    Column("day", String(10), primary_key=True),  # UTC, 2026-11-22
    Column("used", Integer, nullable=False),
)

peer_reference = Table(
    "peer_reference",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("peer", String(3), nullable=False),
    Column("request_id", String(36), nullable=False, index=True),
    Column("file", String(32), nullable=False),
    Column("subject_id", String(128), nullable=False),
    Column("encounter_id", String(36), nullable=False),
    Column("facts", Text, nullable=False),  # what the law was asked when the candidate was found
    Column("expires_us", BigInteger, nullable=False, index=True),
    Column("used_us", BigInteger),
)

peer_approval = Table(  # `agreed` is null while nobody has decided
    "peer_approval",
    metadata,
    Column("peer", String(3), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("content", LargeBinary(32), nullable=False),
    Column("asked_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("facts", Text, nullable=False),
    Column("agreed", SmallInteger),
    Column("person", String(63)),
    Column("why", String(500)),
    Column("decided_us", BigInteger),
)

peer_confirmation = Table(  # the receipt is null until the log has the conclusion
    "peer_confirmation",
    metadata,
    Column("peer", String(3), primary_key=True),
    Column("confirmation_id", String(36), primary_key=True),
    Column("content", LargeBinary(32), nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("statement", LargeBinary, nullable=False),  # as it was signed, with certificate and signature
    Column("taken_us", BigInteger, nullable=False),
    Column("receipt", LargeBinary),
)

own_search = Table(  # ours that found somebody; no print, no person
    "own_search",
    metadata,
    Column("country", String(3), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("facts", Text, nullable=False),  # what our law was asked when it was sent
    Column("expires_us", BigInteger, nullable=False, index=True),
)


class Name(NamedTuple):
    """What a statement is known by: the country that sent it, its UUID, the hash of its content."""

    peer: str
    id: str
    content: bytes


class Known(NamedTuple):
    """What is kept of a statement that came before.

    Attributes
    ----------
    same : bool
        Whether its content is the same.
    answer : bytes or None
        None before it is answered, and once the answer is erased.
    answered : bool
    """

    same: bool
    answer: bytes | None
    answered: bool


class NewReference(NamedTuple):
    """A reference as it is kept: the SHA-256 of its text, whom it means, and what the law was asked, JSON."""

    digest: bytes
    file: str
    subject_id: str
    encounter_id: str
    expires: datetime
    facts: str = "{}"


class ReferenceState(StrEnum):
    """What became of a reference; the words are codes of the log, and no answer."""

    TAKEN = "REFERENCE_TAKEN"
    UNKNOWN = "REFERENCE_UNKNOWN"
    USED = "REFERENCE_USED"
    EXPIRED = "REFERENCE_EXPIRED"
    OF_ANOTHER = "REFERENCE_OF_ANOTHER"


class Taken(NamedTuple):
    """What came of an attempt to use a reference; the subject where it was taken."""

    state: ReferenceState
    subject_id: str = ""


class Approval(NamedTuple):
    """A search that waits, or has waited, for a person; `agreed` is None while nobody has decided."""

    peer: str
    request_id: str
    content: bytes
    asked_us: int
    expires_us: int
    facts: str
    agreed: bool | None
    person: str
    why: str


class OwnSearches(Placed):
    """What our law was asked about the searches of ours that found somebody. All threads may use one.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method, which then has changed nothing.
    """

    @classmethod
    def beside(cls, other: Placed) -> Self:
        """Return those in the data base of another, whose files they use and who closes them."""
        return cls(other._engine)

    def keep(self, country: str, request_id: str, facts: str, *, expires: datetime) -> None:
        """Keep what the law was asked, JSON, until `expires`."""
        values = {"country": country, "request_id": request_id, "facts": facts, "expires_us": _us(expires)}
        with self._write() as connection:
            connection.execute(delete(own_search).where(_is_own(country, request_id)))
            connection.execute(insert(own_search).values(values))

    def facts(self, country: str, request_id: str, *, now: datetime) -> str | None:
        """Return what the law was asked; None where nobody was found, or where that has expired."""
        c = own_search.c
        wanted = select(c.facts).where(_is_own(country, request_id), c.expires_us > _us(now))
        with self._read() as connection:
            return connection.scalar(wanted)

    def erase(self, now: datetime) -> None:
        """Erase what has expired."""
        with self._write() as connection:
            _erase_own(connection, _us(now))


class ExchangeStore(Placed):
    """Where it lies; `ExchangeStore.open` makes it. All threads may use one, writers wait for each other.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method, which then has changed nothing.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._writing = Lock()
        # Counters only grow: what is full stays so.
        self._used_up: dict[tuple[str, str], tuple[str, int]] = {}

    # ---- searches

    def known(self, name: Name) -> Known | None:
        """Return what is kept of a search that came before; None where it is new."""
        c = peer_request.c
        with self._read() as connection:
            row = connection.execute(
                select(c.content, c.answer, c.answered).where(_is(peer_request, name))
            ).first()
        if row is None:
            return None
        return Known(row[0] == name.content, row[1] and zlib.decompress(row[1]), bool(row[2]))

    def used(self, peer: str, search_type: str, day: str) -> int:
        """Return how many searches of a type a country has asked for on a UTC day."""
        with self._read() as connection:
            found = connection.scalar(select(peer_quota.c.used).where(_counter(peer, search_type, day)))
        return found or 0

    def admit(
        self,
        name: Name,
        search_type: str,
        *,
        noted: bool,
        per_day: int,
        now: datetime,
        expires: datetime,
    ) -> bool:
        """Count a search and note its name, both or none; False where the day's quota is used up.

        A search whose name is `noted` was counted, and is not counted again.
        """
        if noted:
            return True
        day, counter = f"{now:%Y-%m-%d}", (name.peer, search_type)
        if self._used_up.get(counter) == (day, per_day):
            return False  # no data base is asked: a country that goes on asking stops nobody
        with self._write() as connection:
            if not _count(connection, name.peer, search_type, day, per_day):
                self._used_up[counter] = day, per_day
                return False
            values = {"begun_us": _us(now), "expires_us": _us(expires), "answered": 0}
            connection.execute(
                insert(peer_request).values(
                    peer=name.peer, request_id=name.id, content=name.content, **values
                )
            )
            return True

    def forget(self, name: Name) -> None:
        """Let a search that could not be done be asked for again. It stays counted."""
        with self._write() as connection:
            connection.execute(
                delete(peer_request).where(_is(peer_request, name), peer_request.c.answered == 0)
            )

    def keep(self, name: Name, answer: bytes, references: Sequence[NewReference] = ()) -> None:
        """Keep the answer to a search, packed since it is padded, and the references in it."""
        packed = zlib.compress(answer, 1)
        with self._write() as connection:
            connection.execute(
                update(peer_request).where(_is(peer_request, name)).values(answer=packed, answered=1)
            )
            connection.execute(delete(peer_approval).where(_is(peer_approval, name)))
            for one in references:
                values = one._asdict() | {"expires_us": _us(one.expires)}
                del values["expires"]
                connection.execute(
                    insert(peer_reference).values(peer=name.peer, request_id=name.id, **values)
                )

    # ---- persons who must agree

    def ask_person(self, name: Name, facts: str, *, now: datetime, expires: datetime) -> Approval:
        """Note that a search waits for a person, once; return it with what was decided."""
        with self._write() as connection:
            if not connection.scalar(select(exists().where(_is(peer_approval, name)))):
                connection.execute(
                    insert(peer_approval).values(
                        peer=name.peer,
                        request_id=name.id,
                        content=name.content,
                        asked_us=_us(now),
                        expires_us=_us(expires),
                        facts=facts,
                    )
                )
            return _approvals(connection, _is(peer_approval, name))[0]

    def approvals(self, request_id: str = "") -> list[Approval]:
        """Return the searches that wait for a person, the oldest first; with an id, also those decided."""
        c = peer_approval.c
        with self._read() as connection:
            return _approvals(connection, c.request_id == request_id if request_id else c.agreed.is_(None))

    def decide(self, waiting: Approval, *, agreed: bool, person: str, why: str, now: datetime) -> bool:
        """Note what a person decided; False where somebody was faster."""
        c = peer_approval.c
        name = Name(waiting.peer, waiting.request_id, waiting.content)
        given = {"agreed": int(agreed), "person": person, "why": why, "decided_us": _us(now)}
        with self._write() as connection:
            open_still = and_(_is(peer_approval, name), c.agreed.is_(None), c.content == waiting.content)
            return connection.execute(update(peer_approval).where(open_still).values(given)).rowcount == 1

    # ---- confirmations

    def confirmation(self, name: Name) -> Known | None:
        """Return what is kept of a confirmation that came before; None where it is new."""
        c = peer_confirmation.c
        same_id = and_(c.peer == name.peer, c.confirmation_id == name.id)
        with self._read() as connection:
            row = connection.execute(select(c.content, c.receipt).where(same_id)).first()
        return None if row is None else Known(row[0] == name.content, row[1], row[1] is not None)

    def facts_of(self, digest: bytes, peer: str) -> str | None:
        """Return what the law was asked about a reference of a country, JSON; None where it has none."""
        c = peer_reference.c
        with self._read() as connection:
            return connection.scalar(select(c.facts).where(c.digest == digest, c.peer == peer))

    def take(self, digest: bytes, name: Name, *, request_id: str, statement: bytes, now: datetime) -> Taken:
        """Use a reference up and keep the confirmation that does it, both or none.

        The one statement that takes it names all that must hold: of two calls, one finds it used.
        """
        c, now_us = peer_reference.c, _us(now)
        of_peer = and_(c.digest == digest, c.peer == name.peer, c.request_id == request_id)
        with self._write() as connection:
            free = and_(of_peer, c.used_us.is_(None), c.expires_us > now_us)
            if connection.execute(update(peer_reference).where(free).values(used_us=now_us)).rowcount != 1:
                return Taken(_why_not(connection, digest, name.peer, request_id))
            connection.execute(
                insert(peer_confirmation).values(
                    peer=name.peer,
                    confirmation_id=name.id,
                    content=name.content,
                    request_id=request_id,
                    digest=digest,
                    statement=statement,
                    taken_us=now_us,
                )
            )
            _erase_answers(connection, now_us)
            subject = connection.scalar(select(c.subject_id).where(of_peer)) or ""
        engines.clear_log(self._engine)
        return Taken(ReferenceState.TAKEN, subject)

    def taken(self, name: Name) -> str:
        """Return the subject that a confirmation, whose receipt was not kept, is about."""
        c = peer_confirmation.c
        of_it = and_(c.peer == name.peer, c.confirmation_id == name.id)
        wanted = select(peer_reference.c.subject_id).join(c.digest.table, c.digest == peer_reference.c.digest)
        with self._read() as connection:
            return connection.scalar(wanted.where(of_it)) or ""

    def keep_receipt(self, name: Name, receipt: bytes) -> None:
        """Keep the receipt of a confirmation."""
        c = peer_confirmation.c
        of_it = and_(c.peer == name.peer, c.confirmation_id == name.id)
        with self._write() as connection:
            connection.execute(update(peer_confirmation).where(of_it).values(receipt=receipt))

    # ---- erasure

    def sweep(self, now: datetime) -> int:
        """Erase what has expired: references, answers, counters of other days, searches that wait in vain.

        With them go the searches of ours whose candidates have expired.

        Returns
        -------
        int
            How many references and answers were erased.
        """
        now_us = _us(now)
        reference, approval = peer_reference.c, peer_approval.c
        with self._write() as connection:
            gone = connection.execute(
                delete(peer_reference).where(reference.used_us.is_(None), reference.expires_us <= now_us)
            ).rowcount
            gone += _erase_answers(connection, now_us)
            connection.execute(delete(peer_approval).where(approval.expires_us <= now_us))
            _erase_own(connection, now_us)
            connection.execute(delete(peer_quota).where(peer_quota.c.day < f"{now:%Y-%m-%d}"))
        if gone:
            engines.clear_log(self._engine)
        return gone

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._writing, super()._write() as connection:
            yield connection


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _is(table: Table, name: Name) -> ColumnElement[bool]:
    return and_(table.c.peer == name.peer, table.c.request_id == name.id)


def _is_own(country: str, request_id: str) -> ColumnElement[bool]:
    return and_(own_search.c.country == country, own_search.c.request_id == request_id)


def _erase_own(connection: Connection, now_us: int) -> None:
    connection.execute(delete(own_search).where(own_search.c.expires_us <= now_us))


def _counter(peer: str, search_type: str, day: str) -> ColumnElement[bool]:
    c = peer_quota.c
    return and_(c.peer == peer, c.search_type == search_type, c.day == day)


def _count(connection: Connection, peer: str, search_type: str, day: str, per_day: int) -> bool:
    """Add one to a counter, where that fits; one statement, so that no two calls get the last place."""
    here = _counter(peer, search_type, day)
    if not connection.scalar(select(exists().where(here))):
        connection.execute(insert(peer_quota).values(peer=peer, search_type=search_type, day=day, used=0))
    more = update(peer_quota).where(here, peer_quota.c.used < per_day)
    return connection.execute(more.values(used=peer_quota.c.used + 1)).rowcount == 1


def _approvals(connection: Connection, condition: ColumnElement[bool]) -> list[Approval]:
    c = peer_approval.c
    columns = (c.peer, c.request_id, c.content, c.asked_us, c.expires_us, c.facts, c.agreed, c.person, c.why)
    rows = connection.execute(select(*columns).where(condition).order_by(c.asked_us))
    return [
        Approval(*row[:6], None if row[6] is None else bool(row[6]), row[7] or "", row[8] or "")
        for row in rows
    ]


def _why_not(connection: Connection, digest: bytes, peer: str, request_id: str) -> ReferenceState:
    row = connection.execute(select(peer_reference).where(peer_reference.c.digest == digest)).first()
    if row is None:
        return ReferenceState.UNKNOWN
    if (row.peer, row.request_id) != (peer, request_id):
        return ReferenceState.OF_ANOTHER
    return ReferenceState.EXPIRED if row.used_us is None else ReferenceState.USED


def _erase_answers(connection: Connection, now_us: int) -> int:
    """Erase the answers that have had their time, and those with candidates none of which is open still."""
    r, q = peer_reference.c, peer_request.c
    of_it = and_(r.peer == q.peer, r.request_id == q.request_id)
    open_still = exists().where(of_it, r.used_us.is_(None), r.expires_us > now_us)
    ended = and_(exists().where(of_it), ~open_still)
    old = update(peer_request).where(q.answer.is_not(None), (q.expires_us <= now_us) | ended)
    return connection.execute(old.values(answer=None)).rowcount
