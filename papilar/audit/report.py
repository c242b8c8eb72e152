"""Answers out of the log: to a supervising authority, and to a person who asks who asked about them.

Reports look things up in the tables beside the tree, and show the entries themselves. Erased entries are in
none.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from papilar.audit.entry import Act, Entry, Outcome, Side, microseconds
from papilar.audit.log import decode_stored
from papilar.store.log import EntryRow, LogRows, LogStore, Selection

LIMIT = 1000
"""Most entries that a report lists, unless another number is asked for; it counts all."""


@dataclass(frozen=True, slots=True)
class PairCount:
    """How many entries of an act and an outcome there are between two countries, and on which side."""

    asking: str
    asked: str
    side: Side
    act: Act
    outcome: Outcome
    entries: int


@dataclass(frozen=True, slots=True)
class OfficerCount:
    """How many entries of an act an officer has."""

    officer: str
    act: Act
    entries: int


@dataclass(frozen=True, slots=True)
class Line:
    """An entry with its index."""

    index: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class AuthorityReport:
    """What happened in a time.

    Attributes
    ----------
    since, until : datetime
        From, and before; UTC.
    entries : int
        How many there are.
    pairs : tuple of PairCount
    officers : tuple of OfficerCount
    lines : tuple of Line
        The first ones.
    """

    since: datetime
    until: datetime
    entries: int
    pairs: tuple[PairCount, ...]
    officers: tuple[OfficerCount, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class SubjectLine:
    """What a person learns of one entry about them.

    Attributes
    ----------
    index : int
        By which the authority finds the entry.
    time : datetime
    act : Act
    asking, asked : str
        Countries; empty where this one acted by itself.
    purpose, legal_basis : str
    outcome : Outcome
    case_reference : str or None
        None where it is withheld.
    """

    index: int
    time: datetime
    act: Act
    asking: str
    asked: str
    purpose: str
    legal_basis: str
    outcome: Outcome
    case_reference: str | None


@dataclass(frozen=True, slots=True)
class SubjectReport:
    """Who asked about a person: how many entries there are, and the first of them."""

    entries: int
    lines: tuple[SubjectLine, ...]


def report_for_authority(
    store: LogStore,
    since: datetime,
    until: datetime,
    *,
    country: str = "",
    officer: str = "",
    case_reference: str = "",
    request_id: str = "",
    limit: int = LIMIT,
) -> AuthorityReport:
    """Count and list what happened in a time.

    Parameters
    ----------
    store : LogStore
    since, until : datetime
        From, and before; with a zone.
    country, officer, case_reference, request_id : str
        Only entries with these; a country on either side.
    limit : int
        Most entries listed.

    Returns
    -------
    AuthorityReport
    """
    wanted = Selection(microseconds(since), microseconds(until), country, officer, case_reference, request_id)
    with store.reading() as rows:
        pairs = rows.tally(wanted, ("asking", "asked", "side", "act", "outcome"))
        officers = rows.tally(wanted, ("officer", "act"))
        lines = _lines(rows, wanted, limit)
    return AuthorityReport(
        since.astimezone(UTC),
        until.astimezone(UTC),
        sum(row[-1] for row in pairs),
        tuple(PairCount(a, b, Side(s), Act(act), Outcome(out), n) for a, b, s, act, out, n in pairs),
        tuple(OfficerCount(name, Act(act), n) for name, act, n in officers),
        lines,
    )


def report_for_subject(
    store: LogStore, mark: str, *, with_case: bool = False, limit: int = LIMIT
) -> SubjectReport:
    """Return who asked about a person.

    Parameters
    ----------
    store : LogStore
    mark : str
        Of `papilar.audit.entry.subject_mark`.
    with_case : bool
        Tell the case references too: an investigation may be under way.
    limit : int
        Most entries listed.

    Returns
    -------
    SubjectReport
    """
    wanted = Selection(mark=mark)
    with store.reading() as rows:
        entries = sum(row[-1] for row in rows.tally(wanted, ("act",)))
        lines = _lines(rows, wanted, limit)
    return SubjectReport(entries, tuple(_told(line, with_case=with_case) for line in lines))


def _lines(rows: LogRows, wanted: Selection, limit: int) -> tuple[Line, ...]:
    return tuple(_line(row) for row in rows.selected(wanted, limit=limit) if row.data is not None)


def _line(row: EntryRow) -> Line:
    return Line(row.leaf_index, decode_stored(row.leaf_index, row.data or b""))


def _told(line: Line, *, with_case: bool) -> SubjectLine:
    entry = line.entry
    return SubjectLine(
        line.index,
        entry.time,
        entry.act,
        entry.asking,
        entry.asked,
        entry.purpose,
        entry.legal_basis,
        entry.outcome,
        entry.case_reference if with_case else None,
    )


def to_json(value: Any) -> dict[str, Any]:
    """Return a report, or a verification, as JSON has it: times as ISO 8601, hashes as hexadecimal."""
    plain: dict[str, Any] = _plain(asdict(value))
    return plain


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case datetime():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return value
