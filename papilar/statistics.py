"""Statistics of the exchange: what the log says of a month, by pair of countries and type of search.

Counters are a function of log entries and of nothing else, so a supervising authority can compute them again.
A search is one `request_id`; it counts with the last answer that it got in the month. What the asked country
has answered counts on both sides; what got no answer is known to the asking side only.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import sqrt
from statistics import median
from typing import Any, NamedTuple

from papilar.audit.entry import Act, Entry, Outcome, Side
from papilar.errors import RequestInvalid
from papilar.policy import SearchType

LEAST = 5
"""Smallest count, but for none, that leaves a country."""

LOOK_BACK = timedelta(days=92)
"""How far before a month its searches may have begun: a reference lives 90 days at most."""

_Z = 1.959963984540054  # 97.5 % of the normal distribution
_BEGINS = {Side.ASKING: Act.DISCLOSURE, Side.ASKED: Act.COLLECTION}
_ANSWERS = {Side.ASKING: {Act.CONSULTATION}, Side.ASKED: {Act.CONSULTATION, Act.REFUSAL}}
_FINAL = frozenset({Outcome.NO_HIT, Outcome.CANDIDATES, Outcome.REFUSED, Outcome.ERROR})
_CONCLUDED = (Outcome.CONFIRMED, Outcome.REJECTED, Outcome.INCONCLUSIVE)
_TYPES = frozenset(map(str, SearchType))
_RECEIPT = "a receipt came"  # how `papilar.exchange.diary` marks a conclusion that the peer has taken
_PARTS = ("with_candidates", "refused", "quota")
CONCLUSIONS = ("confirmed", "rejected", "inconclusive")


@dataclass(frozen=True, slots=True)
class Row:
    """The counters of one type of search in one direction. None is a count that is not stated.

    Attributes
    ----------
    month : str
        `2026-11`, UTC.
    asking, asked : str
        ISO 3166-1 alpha-3.
    search_type : SearchType or None
        None for conclusions on searches of which the log no longer has an entry.
    searches : int
        That were answered, whatever the answer.
    with_candidates, refused, quota : int
        Of these: answered with candidates, refused under the law, put off because the quota was used up.
    confirmed, rejected, inconclusive : int
        Conclusions of examiners in this month, on searches of whatever month. One search may have several.
    unanswered : int
        Searches that were sent and got no answer; the asking side alone knows.
    timed : int
        Searches that got a final answer and whose beginning was logged.
    median_seconds : float
        Of these, to the answer; waiting for a person or for a peer that is down included.
    """

    month: str
    asking: str
    asked: str
    search_type: SearchType | None
    searches: int | None = 0
    with_candidates: int | None = 0
    refused: int | None = 0
    quota: int | None = 0
    confirmed: int | None = 0
    rejected: int | None = 0
    inconclusive: int | None = 0
    unanswered: int | None = 0
    timed: int | None = 0
    median_seconds: float | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the row is of; rows are in this order."""
        return self.month, self.asking, self.asked, self.search_type or ""


# ---- months


def month_of(time: datetime) -> str:
    """Return the month of a time, in UTC: `2026-11`."""
    return f"{time.astimezone(UTC):%Y-%m}"


def span(month: str) -> tuple[datetime, datetime]:
    """Return when a month begins and ends, UTC.

    Raises
    ------
    RequestInvalid
        No month.
    """
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        end = (start + timedelta(days=31)).replace(day=1)
    except (ValueError, OverflowError):
        raise RequestInvalid("no month", remedy="write it as 2026-11") from None
    if month_of(start) != month:
        raise RequestInvalid("no month", remedy="write it as 2026-11")
    return start, end


def months_to(month: str, number: int) -> tuple[str, ...]:
    """Return so many months, the last of which is `month`; raises as `span`."""
    found = [month]
    while len(found) < number:
        found.append(month_of(span(found[-1])[0] - timedelta(days=1)))
    return tuple(reversed(found))


# ---- counting


class _Case(NamedTuple):
    """What came of one search in a month."""

    outcome: Outcome | None
    seconds: float | None
    unanswered: bool
    conclusions: Counter[Outcome]


def count(entries: Iterable[Entry], country: str, month: str) -> tuple[Row, ...]:
    """Count a month.

    Parameters
    ----------
    entries : iterable of Entry
        Those of the month and of `LOOK_BACK` before it, in any order; others are left out. The earlier ones
        say when a search began, and of which type one is that was concluded on.
    country : str
        Whose log it is.
    month : str

    Returns
    -------
    tuple of Row
        One for each pair, direction and type that there was any of, in the order of their keys.

    Raises
    ------
    RequestInvalid
        No month.
    """
    start, end = span(month)
    searches: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        own = {Side.ASKING: entry.asking, Side.ASKED: entry.asked}.get(entry.side)
        if own == country and start - LOOK_BACK <= entry.time < end:
            searches[entry.asking, entry.asked, entry.request_id].append(entry)
    cases: dict[tuple[str, str, SearchType | None], list[_Case]] = defaultdict(list)
    for (asking, asked, _), found in searches.items():
        case = _case(found, start)
        if case.outcome or case.unanswered or case.conclusions:
            cases[asking, asked, _type(found)].append(case)
    rows = (_row(Row(month, *key), each) for key, each in cases.items())
    return tuple(sorted(rows, key=lambda row: row.key))


def own_countries(entries: Iterable[Entry]) -> frozenset[str]:
    """Return whose log entries are of, by what they say of their side; more than one is a mixture."""
    sides = {Side.ASKING: "asking", Side.ASKED: "asked"}
    return frozenset(getattr(entry, sides[entry.side]) for entry in entries if entry.side in sides)


def _case(entries: Sequence[Entry], start: datetime) -> _Case:
    answers = [entry for entry in entries if _is_answer(entry)]
    last = max(answers, key=lambda entry: (entry.time, entry.outcome), default=None)
    if last is not None and last.time < start:
        last = None
    begun = [entry.time for entry in entries if entry.act is _BEGINS[entry.side]]
    timed = last is not None and last.outcome in _FINAL and begun
    seconds = max(0.0, (last.time - min(begun)).total_seconds()) if last and timed else None
    sent = any(entry.side is Side.ASKING and entry.act is Act.DISCLOSURE for entry in entries)
    unanswered = sent and max(begun) >= start and not answers
    conclusions = Counter(e.outcome for e in entries if e.time >= start and _is_conclusion(e))
    return _Case(last.outcome if last else None, seconds, unanswered, conclusions)


def _is_answer(entry: Entry) -> bool:
    """Return whether an entry is of an answer: one under a law. What was no request has none."""
    return entry.act in _ANSWERS[entry.side] and bool(entry.policy_hash and entry.search_type)


def _is_conclusion(entry: Entry) -> bool:
    taken = entry.side is Side.ASKED or entry.note == _RECEIPT
    return entry.act is Act.CONFIRMATION and entry.outcome in _CONCLUDED and taken


def _type(entries: Iterable[Entry]) -> SearchType | None:
    found = [entry.search_type for entry in entries if entry.search_type in _TYPES]
    return SearchType(min(found)) if found else None


def _row(empty: Row, cases: Sequence[_Case]) -> Row:
    outcomes = Counter(case.outcome for case in cases if case.outcome)
    concluded: Counter[Outcome] = sum((case.conclusions for case in cases), Counter())
    seconds = [case.seconds for case in cases if case.seconds is not None]
    conclusions: Any = {
        name: concluded[outcome] for name, outcome in zip(CONCLUSIONS, _CONCLUDED, strict=True)
    }
    return replace(
        empty,
        searches=outcomes.total(),
        with_candidates=outcomes[Outcome.CANDIDATES],
        refused=outcomes[Outcome.REFUSED],
        quota=outcomes[Outcome.QUOTA],
        unanswered=sum(case.unanswered for case in cases),
        timed=len(seconds),
        median_seconds=median(seconds) if seconds else None,
        **conclusions,
    )


# ---- what may leave the country


def suppress(rows: Iterable[Row], *, hides_refusals: Collection[str]) -> tuple[Row, ...]:
    """Return rows as they may leave the country.

    A count from 1 to 4 is not stated. Where the number of searches and the parts that are stated would leave
    less than this range for one that is not, the other parts are not stated either; where that is not enough,
    nothing of the row's searches is. So each count that is withheld can be any number from 1 to 4 as far as
    the other counts tell, even to one who knows this rule; a number of searches can then be 5 as well. Rows
    have no total, and none may be stated beside them but of counts that are stated. This is no protection
    from one who knows most of the searches.

    Parameters
    ----------
    rows : iterable of Row
    hides_refusals : collection of str
        Countries whose law makes a refusal look like a no-hit: how many they refused is never stated.
    """
    return tuple(_suppressed(row, hidden=row.asked in hides_refusals) for row in rows)


def _suppressed(row: Row, *, hidden: bool) -> Row:
    parts = {name: getattr(row, name) or 0 for name in _PARTS if not (hidden and name == "refused")}
    withheld = _withheld(row.searches or 0, parts) | ({"refused"} if hidden else set())
    single = {name for name in (*CONCLUSIONS, "unanswered") if 0 < (getattr(row, name) or 0) < LEAST}
    # That a median is there says that 5 were answered: it must not say how many of the others had no quota.
    told = "quota" in withheld and (row.searches or 0) < 2 * LEAST - 1
    few = (row.timed or 0) < LEAST or "searches" in withheld or told
    more: dict[str, Any] = dict.fromkeys(withheld | single) | {"timed": None}
    return replace(row, **more | ({"median_seconds": None} if few else {}))


def _withheld(searches: int, parts: Mapping[str, int]) -> set[str]:
    """Return which of a number of searches and its parts are not stated."""
    there = {name for name, number in parts.items() if number}
    small = {name for name in there if parts[name] < LEAST}
    if 0 < searches < LEAST:
        return {"searches", *parts}
    if not small or _free(searches, parts, small):
        return small
    return there if _free(searches, parts, there) else {"searches", *parts}


def _free(searches: int, parts: Mapping[str, int], withheld: set[str]) -> bool:
    """Return whether one part withheld could be 4 while each of the others is 1."""
    left = searches - sum(number for name, number in parts.items() if name not in withheld)
    return left >= (LEAST - 1) + (len(withheld) - 1)


# ---- what counters say


class Bounds(NamedTuple):
    """At least and at most."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3g}" if self.low == self.high else f"{self.low:.3g} to {self.high:.3g}"


class Reciprocity(NamedTuple):
    """How many searches two countries asked of each other. Bounds differ where counts are withheld.

    Attributes
    ----------
    by_them, by_us : Bounds
    ratio : Bounds or None
        `by_them` / `by_us`; None where nothing was asked by us.
    meaning : str
        In words.
    """

    by_them: Bounds
    by_us: Bounds
    ratio: Bounds | None
    meaning: str


def reciprocity(rows: Iterable[Row], peer: str) -> Reciprocity:
    """Return how many searches a peer asked of us for each that we asked of it."""
    pair = [row for row in rows if peer in (row.asking, row.asked)]
    them = _bounds([row.searches for row in pair if row.asking == peer])
    us = _bounds([row.searches for row in pair if row.asked == peer])
    ratio = Bounds(them.low / us.high, them.high / us.low) if us.low else None
    return Reciprocity(them, us, ratio, _meaning(peer, them, us))


def _bounds(counts: Sequence[int | None]) -> Bounds:
    """Add up; a number of searches that is withheld is 1 to 5 (see `suppress`)."""
    stated, withheld = sum(number or 0 for number in counts), counts.count(None)
    return Bounds(stated + withheld, stated + LEAST * withheld)


def _meaning(peer: str, them: Bounds, us: Bounds) -> str:
    if not them.high or not us.high:
        one = f"only {peer} asked" if them.high else f"only we asked {peer}"
        return "neither asked" if them == us else one
    if them == us and us.low == us.high:
        return f"{peer} asked us as often as we asked {peer}"
    if us.low >= them.high:
        turned = Bounds(us.low / them.high, us.high / them.low)
        return f"we asked {peer} {turned} times for each time that {peer} asked us"
    ratio = Bounds(them.low / us.high, them.high / us.low)
    return f"{peer} asked us {ratio} times for each time that we asked {peer}"


class Rate(NamedTuple):
    """How many of the conclusions were that it is the same person: a share, and its 95 % interval."""

    confirmed: int
    conclusions: int
    share: float
    low: float
    high: float


def confirmation_rate(rows: Iterable[Row]) -> Rate | None:
    """Return the share of candidates that examiners confirmed, of those confirmed or rejected.

    Rows that do not state both are left out: the share would tell the one from the other. None where no
    conclusion is stated. What was inconclusive does not count.

    References
    ----------
    Wilson, J. Am. Stat. Assoc. 22 (1927) 209, doi:10.1080/01621459.1927.10502953.
    """
    both = [(row.confirmed, row.rejected) for row in rows]
    stated = [(yes, no) for yes, no in both if yes is not None and no is not None]
    yes, n = sum(pair[0] for pair in stated), sum(map(sum, stated))
    if not n:
        return None
    share, square = yes / n, _Z * _Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Rate(yes, n, share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))
