"""Statistics between two countries: what one says to the other of a month, and whether both say the same."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Entry, microseconds
from papilar.audit.log import RETENTION, decode_stored
from papilar.errors import CountryMismatch, RequestInvalid
from papilar.exchange.seal import open_sealed, stamp
from papilar.exchange.words import to_number, to_word
from papilar.policy import SearchType
from papilar.statistics import CONCLUSIONS, LEAST, LOOK_BACK, Row, span, suppress
from papilar.store.log import LogStore, Selection
from papilar.trust import Trust

KIND = "statistics"
"""Kind of the sealed statement."""

_BATCH = 4096  # entries read at a time: about four megabytes
_STATED = ("searches", "with_candidates", "refused", "confirmed", "rejected")


def entries_of(store: LogStore, months: Sequence[str], *, peer: str = "") -> Iterator[Entry]:
    """Yield the entries of a log that `papilar.statistics.count` needs for months in their order.

    Parameters
    ----------
    store : LogStore
    months : sequence of str
        At least one.
    peer : str
        Only what concerns this country.

    Raises
    ------
    RequestInvalid
        No month.
    GalleryCorrupt
        An entry cannot be read.
    """
    since, until = span(months[0])[0] - LOOK_BACK, span(months[-1])[1]
    wanted, after = Selection(microseconds(since), microseconds(until), peer), -1
    while True:
        with store.reading() as rows:
            found = rows.selected(wanted, after=after, limit=_BATCH)
        yield from (decode_stored(row.leaf_index, row.data) for row in found if row.data is not None)
        if len(found) < _BATCH:
            return
        after = found[-1].leaf_index


def to_statement(
    rows: Iterable[Row], country: str, peer: str, month: str, *, at: datetime, hides_refusals: bool
) -> peer_pb2.Statistics:
    """Return what we say to a peer of a month, suppressed; it is sealed with the kind `statistics`.

    Parameters
    ----------
    rows : iterable of Row
        Of `count`; those of other pairs and months are left out.
    country, peer : str
        Who says it, and to whom.
    month : str
        One that is over.
    at : datetime
        Now, UTC.
    hides_refusals : bool
        Whether our law makes a refusal look like a no-hit, or did at any time of the month.

    Raises
    ------
    RequestInvalid
        No month, one that is not over, or one so long ago that its entries may have been erased.
    """
    start, end = span(month)
    if end > at:
        raise RequestInvalid("the month is not over", remedy="ask for one that is")
    if start < at - RETENTION:
        raise RequestInvalid(
            "the log may no longer have the month", remedy="ask for one of the last two years"
        )
    pair = [row for row in rows if row.month == month and {row.asking, row.asked} == {country, peer}]
    stated = suppress(pair, hides_refusals={country} if hides_refusals else ())
    said = [row for row in stated if any(getattr(row, name) != 0 for name in _STATED)]
    counters = [_counter(row, asked_by_peer=row.asking == peer) for row in said]
    return peer_pb2.Statistics(
        country=country, peer=peer, month=month, create_time=stamp(at), counters=counters
    )


def read_statement(
    signed: types_pb2.Signed, trust: Trust, *, country: str, peer: str, month: str, at: datetime
) -> tuple[Row, ...]:
    """Open what a peer says of a month.

    Parameters
    ----------
    signed : Signed
    trust : Trust
    country, peer : str
        Who says it, and to whom: the other country, and ours.
    month : str
        Which was asked for.
    at : datetime
        Now, UTC.

    Returns
    -------
    tuple of Row
        What is not in the statement, as `quota`, is None.

    Raises
    ------
    CertificateRefused, SignatureRefused, IdentityPresent, RequestInvalid
    CountryMismatch
        It is of other countries.
    """
    said, _ = open_sealed(KIND, signed, peer_pb2.Statistics(), trust, country=country, at=at)
    if (said.country, said.peer) != (country, peer):
        raise CountryMismatch("the statistics are of other countries", remedy="ask the country itself")
    if said.month != month:
        raise RequestInvalid("the statistics are of another month", remedy="ask again")
    return stated_rows(said)


def stated_rows(said: peer_pb2.Statistics) -> tuple[Row, ...]:
    """Return the rows of a statement; raises `RequestInvalid` where they cannot be."""
    rows = sorted((_stated(said, counter) for counter in said.counters), key=lambda row: row.key)
    if len({row.key for row in rows}) < len(rows):
        raise RequestInvalid("the statistics have one counter twice", remedy="state each type once")
    return tuple(rows)


def _counter(row: Row, *, asked_by_peer: bool) -> peer_pb2.Counter:
    counter = peer_pb2.Counter(asked_by_peer=asked_by_peer)
    if row.search_type is not None:
        counter.search_type = to_number(row.search_type)  # type: ignore[assignment]
    for name in (*_STATED, "median_seconds"):
        if getattr(row, name) is not None:
            setattr(counter, name, getattr(row, name))
    return counter


def _stated(said: peer_pb2.Statistics, counter: peer_pb2.Counter) -> Row:
    known = counter.search_type != types_pb2.SEARCH_TYPE_UNSPECIFIED
    pair = (said.peer, said.country) if counter.asked_by_peer else (said.country, said.peer)
    empty = Row(said.month, *pair, to_word(SearchType, counter.search_type) if known else None)
    if not 0 <= counter.median_seconds < inf:
        raise RequestInvalid("the median is no time", remedy="state seconds, 0 or more")
    names: tuple[Any, ...] = (*_STATED, "median_seconds")
    stated = {name: getattr(counter, name) if counter.HasField(name) else None for name in names}
    unknown: dict[str, Any] = dict.fromkeys(("quota", "inconclusive", "unanswered", "timed"))
    return replace(empty, **unknown | stated)


# ---- two sides of the same searches


class Difference(NamedTuple):
    """A count in which two sides differ; None is one that is withheld."""

    asking: str
    asked: str
    search_type: SearchType | None
    counter: str
    ours: int
    theirs: int | None


def compare(ours: Iterable[Row], theirs: Iterable[Row]) -> tuple[Difference, ...]:
    """Return where two sides do not say the same of the same searches. Each is something to look into.

    A search whose answer was lost counts there and not here: as many as are unanswered here are allowed for.
    One that was answered at the turn of the month may count in another month there.

    Parameters
    ----------
    ours : iterable of Row
        Of `count`, for this pair and month; nothing suppressed.
    theirs : iterable of Row
        Of `read_statement`.
    """
    here, there = {row.key: row for row in ours}, {row.key: row for row in theirs}
    return tuple(
        difference
        for key in sorted(here.keys() | there.keys())
        for difference in _differences(here.get(key) or _none(there[key]), there.get(key) or _none(here[key]))
    )


def _none(row: Row) -> Row:
    return Row(row.month, row.asking, row.asked, row.search_type)


def _differences(ours: Row, theirs: Row) -> list[Difference]:
    found = [(name, getattr(ours, name), getattr(theirs, name)) for name in _STATED]
    pair, lost = (ours.asking, ours.asked, ours.search_type), ours.unanswered or 0
    return [Difference(*pair, *each) for each in found if not _fits(*each, lost)]


def _fits(name: str, ours: int, theirs: int | None, lost: int) -> bool:
    """Return whether two counts can be of the same searches; see `suppress` for what None may stand for."""
    more = 0 if name in CONCLUSIONS else lost
    if theirs is not None:
        return ours <= theirs <= ours + more
    if name in CONCLUSIONS:
        return 0 < ours < LEAST
    return name != "searches" or (ours <= LEAST and ours + more > 0)
