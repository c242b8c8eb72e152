"""The rows of the tamper-evident log: its tables and all statements on them. For `papilar.audit`.

An entry's bytes and the tree over them are the truth. `log_fact` and `log_subject` repeat what reports look
for, and `papilar.audit.check` holds them against the bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    and_,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    text,
    true,
    update,
)

from papilar.store import engine as engines
from papilar.store.place import Placed
from papilar.store.schema import ROW_NUMBER, metadata

log_entry = Table(  # the bytes are null once they are erased
    "log_entry",
    metadata,
    Column("leaf_index", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary(32), nullable=False),
    Column("bytes", LargeBinary),
)

log_node = Table(  # complete subtrees of two leaves and more
    "log_node",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("node_index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)

log_fact = Table(
    "log_fact",
    metadata,
    Column("leaf_index", ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("time_us", BigInteger, nullable=False, index=True),
    Column("side", String(6), nullable=False),
    Column("act", String(16), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("search_type", String(32), nullable=False),
    Column("asking", String(3), nullable=False),
    Column("asked", String(3), nullable=False),
    Column("officer", String(128), nullable=False),
    Column("ordering_officer", String(128), nullable=False),
    Column("case_reference", String(128), nullable=False, index=True),
    Column("request_id", String(128), nullable=False, index=True),
    Index("ix_log_fact_officer_time_us", "officer", "time_us"),
    Index("ix_log_fact_pair_time_us", "asking", "asked", "time_us"),
)

log_subject = Table(
    "log_subject",
    metadata,
    Column("mark", String(64), primary_key=True),
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False, index=True),
    sqlite_with_rowid=False,
)

log_head = Table(  # `peer` is the country of a log that was signed elsewhere; empty for this log
    "log_head",
    metadata,
    Column("peer", String(3), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
)

_TABLES = (log_entry, log_node, log_fact, log_subject, log_head)

_LAST = select(func.max(log_entry.c.leaf_index))

FACTS = tuple(column.name for column in log_fact.columns if column is not log_fact.c.leaf_index)
"""What of an entry `log_fact` repeats, in the order of its columns."""

Place = tuple[int, int]
"""Level and index of a complete subtree; level 0 is a leaf."""


class NewRow(NamedTuple):
    """An entry to be stored: its facts in the order of `FACTS`."""

    leaf_index: int
    leaf: bytes
    data: bytes
    facts: tuple[Any, ...]
    marks: Sequence[str]


class EntryRow(NamedTuple):
    """A stored entry; `data` is None once it is erased."""

    leaf_index: int
    leaf: bytes
    data: bytes | None


class HeadRow(NamedTuple):
    """A signed head, and the columns that it is found by."""

    peer: str
    size: int
    root: bytes
    time_us: int
    payload: bytes
    signature: bytes
    certificate: bytes


class RowCounts(NamedTuple):
    """How many rows the tables have."""

    entries: int
    nodes: int
    facts: int
    marks: int


class Selection(NamedTuple):
    """Which entries: all conditions hold; None and empty text leave one out. Times are microseconds."""

    since_us: int | None = None
    until_us: int | None = None
    country: str = ""
    officer: str = ""
    case_reference: str = ""
    request_id: str = ""
    mark: str = ""


class LogStore(Placed):
    """Where a log lies. All threads may use one; whoever writes waits for the writer before.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any transaction.
    """

    @contextmanager
    def reading(self) -> Iterator["LogRows"]:
        """Yield the rows as they were when the transaction began."""
        with self._read() as connection:
            yield LogRows(connection)

    @contextmanager
    def writing(self) -> Iterator["LogRows"]:
        """Yield the rows to one writer at a time; all its changes are on the disk at the end, or none."""
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE log_entry IN SHARE ROW EXCLUSIVE MODE"))
            yield LogRows(connection)

    def clear_erased(self) -> bool:
        """Empty SQLite's write-ahead log, where erased bytes stand; False where a reader is in the way."""
        return engines.clear_log(self._engine)


class LogRows:
    """The rows, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ---- the tree

    def size(self) -> int:
        """Return the number of entries: one more than the last one's index."""
        last = self._connection.scalar(_LAST)
        return 0 if last is None else last + 1

    def nodes(self, wanted: Sequence[Place]) -> dict[Place, bytes]:
        """Return the hashes of subtrees; one that is missing is left out."""
        c = log_entry.c
        leaves = select(c.leaf_index, c.leaf).where(c.leaf_index.in_([i for level, i in wanted if not level]))
        inner = [
            and_(log_node.c.level == place[0], log_node.c.node_index == place[1])
            for place in wanted
            if place[0]
        ]
        found: dict[Place, bytes] = {(0, row[0]): row[1] for row in self._connection.execute(leaves)}
        higher = self._connection.execute(select(log_node).where(or_(false(), *inner)))
        return found | {(row[0], row[1]): row[2] for row in higher}

    def completed_nodes(self, first: int, end: int) -> dict[Place, bytes]:
        """Return the subtrees of two leaves and more whose last leaf is in a range."""
        c = log_node.c
        found: dict[Place, bytes] = {}
        for level in range(1, end.bit_length()):
            within = and_(c.level == level, c.node_index >= first >> level, c.node_index < end >> level)
            found.update(
                {(row[0], row[1]): row[2] for row in self._connection.execute(select(log_node).where(within))}
            )
        return found

    def insert(self, new: Sequence[NewRow], nodes: Sequence[tuple[Place, bytes]]) -> None:
        """Store entries, what reports look for, and the subtrees that they complete."""
        self._insert(log_entry, [{"leaf_index": n.leaf_index, "leaf": n.leaf, "bytes": n.data} for n in new])
        self._insert(
            log_node, [{"level": place[0], "node_index": place[1], "hash": hash_} for place, hash_ in nodes]
        )
        self._insert(log_fact, [dict(zip(FACTS, n.facts, strict=True), leaf_index=n.leaf_index) for n in new])
        self._insert(
            log_subject,
            [{"mark": mark, "leaf_index": n.leaf_index} for n in new for mark in sorted(set(n.marks))],
        )

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._connection.execute(insert(table), rows)

    # ---- entries

    def entries(self, first: int, end: int) -> list[EntryRow]:
        """Return the entries of a range of indexes, in their order."""
        within = log_entry.c.leaf_index.between(first, end - 1)
        rows = self._connection.execute(select(log_entry).where(within).order_by(log_entry.c.leaf_index))
        return [EntryRow(*row) for row in rows]

    def facts(self, first: int, end: int) -> dict[int, tuple[Any, ...]]:
        """Return the facts of a range of indexes, in the order of `FACTS`."""
        within = log_fact.c.leaf_index.between(first, end - 1)
        return {row[0]: tuple(row[1:]) for row in self._connection.execute(select(log_fact).where(within))}

    def marks(self, first: int, end: int) -> set[tuple[int, str]]:
        """Return indexes and marks of a range of indexes."""
        c = log_subject.c
        rows = self._connection.execute(
            select(c.leaf_index, c.mark).where(c.leaf_index.between(first, end - 1))
        )
        return {(row[0], row[1]) for row in rows}

    def counts(self) -> RowCounts:
        """Count the rows of the tables."""
        tables = (log_entry, log_node, log_fact, log_subject)
        return RowCounts(*(self._connection.scalar(select(func.count()).select_from(t)) or 0 for t in tables))

    def first_since(self, time_us: int) -> int:
        """Return the index of the first entry, of those not erased, that is not older; else the size."""
        c = log_fact.c
        found = self._connection.scalar(select(func.min(c.leaf_index)).where(c.time_us >= time_us))
        return self.size() if found is None else found

    def erase(self, end: int) -> int:
        """Erase the bytes before an index and what repeats them; return how many entries had some."""
        c = log_entry.c
        had = self._connection.execute(
            update(log_entry).where(c.leaf_index < end, c.bytes.is_not(None)).values(bytes=None)
        )
        self._connection.execute(delete(log_fact).where(log_fact.c.leaf_index < end))
        self._connection.execute(delete(log_subject).where(log_subject.c.leaf_index < end))
        return had.rowcount

    # ---- reports

    def selected(self, selection: Selection, *, after: int = -1, limit: int) -> list[EntryRow]:
        """Return the first entries of a selection after an index, in their order."""
        wanted = select(log_entry).join(log_fact, log_fact.c.leaf_index == log_entry.c.leaf_index)
        wanted = wanted.where(_condition(selection), log_fact.c.leaf_index > after)
        rows = self._connection.execute(wanted.order_by(log_fact.c.leaf_index).limit(limit))
        return [EntryRow(*row) for row in rows]

    def tally(self, selection: Selection, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return, for each combination of facts in a selection, the facts and how many entries have them."""
        columns = [log_fact.c[name] for name in names]
        wanted = select(*columns, func.count()).where(_condition(selection)).group_by(*columns)
        return sorted(tuple(row) for row in self._connection.execute(wanted))

    # ---- heads

    def heads(self, peer: str | None = None) -> list[HeadRow]:
        """Return the heads kept of a log, or of all, the largest first; of one size the earliest first."""
        of = true() if peer is None else log_head.c.peer == peer
        order = (log_head.c.peer, log_head.c.size.desc(), log_head.c.time_us)
        return [
            HeadRow(*row) for row in self._connection.execute(select(log_head).where(of).order_by(*order))
        ]

    def keep_head(self, head: HeadRow) -> None:
        """Keep a signed head; one of that log, size and root stays as it is."""
        same = and_(log_head.c.peer == head.peer, log_head.c.size == head.size, log_head.c.root == head.root)
        if self._connection.scalar(select(func.count()).select_from(log_head).where(same)) == 0:
            self._connection.execute(insert(log_head).values(head._asdict()))


def _condition(selection: Selection) -> ColumnElement[bool]:
    c = log_fact.c
    conditions: list[ColumnElement[bool]] = [true()]
    if selection.since_us is not None:
        conditions.append(c.time_us >= selection.since_us)
    if selection.until_us is not None:
        conditions.append(c.time_us < selection.until_us)
    if selection.country:
        conditions.append(or_(c.asking == selection.country, c.asked == selection.country))
    exact = {name: getattr(selection, name) for name in ("officer", "case_reference", "request_id")}
    conditions += [c[name] == value for name, value in exact.items() if value]
    if selection.mark:
        marked = select(log_subject.c.leaf_index).where(log_subject.c.mark == selection.mark)
        conditions.append(c.leaf_index.in_(marked))
    return and_(*conditions)
