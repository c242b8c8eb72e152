"""The log itself: appends, proofs, and erasure after the legal time.

An append is durable when it returns. Threads that append at the same time share one transaction: whoever gets
the lock writes for all who wait. What a transaction writes is there as a whole or not at all, so an append
that was killed half way leaves nothing behind.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, NamedTuple

from matcher.errors import GalleryCorrupt
from papilar.audit import merkle
from papilar.audit.entry import Act, Entry, Sent, Side, decode, encode, microseconds
from papilar.audit.merkle import Frontier, Node
from papilar.errors import ConfigInvalid, RequestInvalid, RetentionNotOver
from papilar.store.log import FACTS, LogRows, LogStore, NewRow

RETENTION = timedelta(days=731)
"""Shortest time that an entry is kept: two years, one of them a leap year (the profile of the exchange)."""

ERASED = "LOG_ENTRY"
"""Kind of what an erasure of the log's own entries names: how many from the first on, and their root."""

_BATCH = 512  # entries read at a time: about half a megabyte


class Head(NamedTuple):
    """The state of the tree: number of entries, and root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an entry stands, and the tree that it completed.

    Attributes
    ----------
    index : int
    leaf_hash : bytes
    size : int
        Of the tree: `index` + 1.
    root : bytes
        Of that tree. An inclusion proof for it shows that the entry was written.
    """

    index: int
    leaf_hash: bytes
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry of the log; `entry` is None once it is erased, and its hash stays."""

    index: int
    leaf_hash: bytes
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased: so many entries, which makes `end` from the first on; and the entry that says so."""

    erased: int
    end: int
    receipt: Receipt | None


class _Ticket(NamedTuple):
    data: Sequence[bytes]
    receipts: "Future[tuple[Receipt, ...]]"


class AuditLog:
    """The log of a node. All threads may use one.

    Parameters
    ----------
    store : LogStore
    retention : timedelta
        How long entries are kept at least, by the country's law; never less than `RETENTION`.

    Raises
    ------
    ConfigInvalid
        The retention is too short.
    StorageFull, StorageUnavailable
        From any method, which then has changed nothing.
    GalleryCorrupt
        From any method, when the tree lacks what it needs.
    """

    def __init__(self, store: LogStore, *, retention: timedelta = RETENTION) -> None:
        if retention < RETENTION:
            raise ConfigInvalid(
                "the log's retention is too short", remedy=f"keep entries at least {RETENTION.days} days"
            )
        self.store = store
        self._retention = retention
        self._writing = Lock()
        self._waiting: deque[_Ticket] = deque()
        self._frontier = Frontier()  # of the last commit; read again where the store has another size

    # ---- changes

    def append(self, entry: Entry) -> Receipt:
        """Append an entry; it is on the disk when this returns."""
        return self.append_all((entry,))[0]

    def append_all(self, entries: Sequence[Entry]) -> tuple[Receipt, ...]:
        """Append entries side by side, all or none.

        Raises
        ------
        RequestInvalid
            One claims to erase entries of the log, which `erase_before` alone may write.
        """
        if any(item.kind == ERASED for entry in entries for item in entry.sent):
            raise RequestInvalid(
                f"an entry names {ERASED}, which stands for erased entries", remedy="use another kind"
            )
        ticket = _Ticket([encode(entry) for entry in entries], Future())
        self._waiting.append(ticket)
        with self._writing:
            if not ticket.receipts.done():
                self._write_waiting()
        return ticket.receipts.result()

    def _write_waiting(self) -> None:
        """Write all that wait, in the order in which they came, in one transaction."""
        tickets = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            with self.store.writing() as rows:
                data = [each for ticket in tickets for each in ticket.data]
                frontier, made = _append(rows, self._frontier, data)
        except BaseException as error:  # whatever it is: none of them was written
            for ticket in tickets:
                ticket.receipts.set_exception(error)
            return
        self._frontier, receipts = frontier, iter(made)
        for ticket in tickets:
            ticket.receipts.set_result(tuple(next(receipts) for _ in ticket.data))

    def erase_before(self, moment: datetime, *, record: Entry) -> Erasure:
        """Erase the oldest entries, up to the first that is not older, and keep their hashes.

        Parameters
        ----------
        moment : datetime
            With a zone.
        record : Entry
            An own erasure, with the time and the person: it is appended, and names what was erased.

        Raises
        ------
        RequestInvalid
            The record is of another act.
        RetentionNotOver
            The moment is later than the record's time less the retention.
        """
        if record.act is not Act.ERASURE or record.side is not Side.OWN:
            raise RequestInvalid("the record of an erasure is another act", remedy="give an own ERASURE")
        if moment > record.time - self._retention:
            raise RetentionNotOver(
                "entries were to be erased before their legal time",
                remedy=f"erase what is older than {self._retention.days} days",
            )
        with self._writing, self.store.writing() as rows:
            done = _erase(rows, rows.first_since(microseconds(moment)), record)
        self.store.clear_erased()
        return done

    # ---- questions

    def head(self, size: int | None = None) -> Head:
        """Return the head of the tree, or the one that it had at a size.

        Raises
        ------
        RequestInvalid
            The tree is smaller.
        """
        with self.store.reading() as rows:
            wanted = _size(rows, size)
            return Head(wanted, merkle.root(wanted, _reader(rows)))

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that an entry is in the tree of a size, by default the present one.

        Raises
        ------
        RequestInvalid
            The tree is smaller, or has no such entry.
        """
        return self.inclusion_proofs([index], size)[0]

    def inclusion_proofs(
        self, indexes: Sequence[int], size: int | None = None
    ) -> tuple[tuple[bytes, ...], ...]:
        """Return the proofs of several entries in one tree, out of one reading; see `inclusion_proof`."""
        with self.store.reading() as rows:
            wanted, read = _size(rows, size), _reader(rows)
            for index in indexes:
                if not 0 <= index < wanted:
                    raise RequestInvalid(
                        f"there is no entry {index} among {wanted}", remedy="count from 0, and below the size"
                    )
            return tuple(merkle.inclusion_proof(index, wanted, read) for index in indexes)

    def consistency_proof(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the tree of one size begins that of another, by default the present one.

        Raises
        ------
        RequestInvalid
            The sizes do not follow each other, or the tree is smaller.
        """
        with self.store.reading() as rows:
            wanted = _size(rows, new)
            if not 0 <= old <= wanted:
                raise RequestInvalid(
                    f"a tree of {old} begins none of {wanted}", remedy="give the older first"
                )
            return merkle.consistency_proof(old, wanted, _reader(rows))

    def entries(self, first: int = 0, end: int | None = None) -> Iterator[Stored]:
        """Yield the entries of a range of indexes, read in batches; those appended meanwhile are left out.

        Raises
        ------
        GalleryCorrupt
            An entry cannot be read.
        """
        with self.store.reading() as rows:
            last = rows.size() if end is None else min(end, rows.size())
        for at in range(first, last, _BATCH):
            with self.store.reading() as rows:
                found = rows.entries(at, min(at + _BATCH, last))
            for index, leaf, data in found:
                yield Stored(index, leaf, None if data is None else decode_stored(index, data))


def decode_stored(index: int, data: bytes) -> Entry:
    """Return the entry of stored bytes; raises `GalleryCorrupt` where they are none."""
    try:
        return decode(data)
    except RequestInvalid:
        raise GalleryCorrupt(f"entry {index} of the log cannot be read", remedy=_REMEDY) from None


def facts_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the store repeats of an entry's values, as decoded from JSON."""
    return tuple(values[name] for name in FACTS)


_REMEDY = "papilar audit verify says what was changed; keep a copy as evidence, then restore a backup"


def _append(rows: LogRows, frontier: Frontier, data: Sequence[bytes]) -> tuple[Frontier, list[Receipt]]:
    size = rows.size()
    if frontier.size != size:
        tops = merkle.peaks(size)
        stored = _reader(rows)(tops)
        frontier = Frontier(size, tuple(stored[top] for top in tops))
    new, nodes, receipts = [], [], []
    for each in data:
        values, leaf, index = json.loads(each), merkle.leaf_hash(each), frontier.size
        frontier, made = frontier.grown(leaf)
        nodes += made
        new.append(NewRow(index, leaf, each, facts_of(values), values["subjects"]))
        receipts.append(Receipt(index, leaf, frontier.size, frontier.root))
    rows.insert(new, nodes)
    return frontier, receipts


def _erase(rows: LogRows, end: int, record: Entry) -> Erasure:
    erased = rows.erase(end)
    if not erased:
        return Erasure(0, end, None)
    named = Sent(ERASED, end, merkle.root(end, _reader(rows)).hex())
    _, (receipt,) = _append(rows, Frontier(), [encode(replace(record, sent=(*record.sent, named)))])
    return Erasure(erased, end, receipt)


def _size(rows: LogRows, wanted: int | None) -> int:
    size = rows.size()
    if wanted is not None and not 0 <= wanted <= size:
        raise RequestInvalid(f"the log has {size} entries, not {wanted}", remedy="ask for a size it has had")
    return size if wanted is None else wanted


def _reader(rows: LogRows) -> merkle.Read:
    def read(wanted: Sequence[Node]) -> Mapping[Node, bytes]:
        stored = rows.nodes(wanted)
        if missing := [node for node in wanted if node not in stored]:
            raise GalleryCorrupt(f"the log's tree lacks its node {tuple(missing[0])}", remedy=_REMEDY)
        return {node: stored[node] for node in wanted}

    return read
