"""What in the calls of a while looks like misuse. Rules on plain values; what they find, a person reviews.

A finding accuses nobody: it says what was counted. Days are UTC, as those of the quotas are.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from papilar.audit.entry import Act, Entry, Outcome, Side
from papilar.policy.quota import DEFAULT_QUOTAS

PRINT = "PRINT"
"""Kind of what an entry names: one print that was searched with, by its keyed digest."""

OWN_PRINTS = "OWN_PRINTS"
"""Kind of what an entry names where a call was about the caller's own prints."""


class Kind(StrEnum):
    """What a finding is about."""

    SELF_SEARCH = "SELF_SEARCH"
    FISHING = "FISHING"
    QUOTA_PROBING = "QUOTA_PROBING"


class Call(NamedTuple):
    """A call that was let in and was about persons, as the rules see it.

    Attributes
    ----------
    time : datetime
    officer : str
        Pseudonym.
    case_reference, purpose : str
    asked, search_type : str
        Country and type of a search elsewhere; empty for one at the own node.
    prints : frozenset of str
        Keyed digests of the prints searched with.
    size : int
        How many those are; 0 where nothing was searched.
    own : bool
        It was about the officer's own prints.
    refused : bool
        It was over the quota.
    """

    time: datetime
    officer: str
    case_reference: str
    purpose: str
    asked: str = ""
    search_type: str = ""
    prints: frozenset[str] = frozenset()
    size: int = 0
    own: bool = False
    refused: bool = False


def call_of(entry: Entry) -> Call | None:
    """Return the call that an entry of the log is about; None for what is not watched."""
    if entry.side is Side.ASKED or entry.act is not Act.CONSULTATION or not entry.purpose:
        return None
    prints = [item for item in entry.sent if item.kind == PRINT]
    return Call(
        entry.time,
        entry.officer,
        entry.case_reference,
        entry.purpose,
        entry.asked,
        entry.search_type,
        frozenset(item.digest for item in prints if item.digest),
        sum(item.number for item in prints),
        any(item.kind == OWN_PRINTS for item in entry.sent),
        entry.outcome is Outcome.QUOTA,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Calls of one officer that somebody should look at.

    Attributes
    ----------
    kind : Kind
    officer : str
        Pseudonym.
    since, until : datetime
        Of the first and the last of the calls.
    count : int
        What was counted, as `why` says.
    why : str
        The rule, and what it was about: the same text whenever the same thing is found again.
    """

    kind: Kind
    officer: str
    since: datetime
    until: datetime
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From what number on there is a finding.

    They are reasoned, and none is measured: set them anew from a laboratory's own months.

    Attributes
    ----------
    window : timedelta
        How far back calls are looked at: twice the 14 days after which the exchange forgets a reference, so
        that a print which comes back then is still known.
    own_prints : int
        1: no work calls for a search for oneself; to be ruled out as a contributor is another's task.
    cases_per_print : int
        2: a print belongs to the case that it was taken in.
    purposes_per_print : int
        3: that a missing person turns out to be dead makes two.
    probes_per_case : int
        40 a day: twice the latent searches that the exchange allows a whole country in a day.
    busy_searches, busy_factor : int
        60 a day and 4 times the median of the others: 60 are one every 8 minutes of a working day, and who
        does four days' work in one should be able to say why.
    busy_others : int
        3: of fewer, the median is a single officer's habit.
    edge_calls : int
        4 a day, peer and type: the last search that the quota allows, the first refusal and one more try
        are what an honest day can bring.
    small_searches : int
        60 searches of one print a day, as `busy_searches`: no list of candidates is read faster.
    """

    window: timedelta = timedelta(days=28)
    own_prints: int = 1
    cases_per_print: int = 2
    purposes_per_print: int = 3
    probes_per_case: int = 40
    busy_searches: int = 60
    busy_factor: int = 4
    busy_others: int = 3
    edge_calls: int = 4
    small_searches: int = 60


Quotas = Callable[[str, str], int | None]
"""Searches a day that a peer allows of a type; None where that is not known."""


def profile_quota(asked: str, search_type: str) -> int | None:
    """Return the quota of the exchange profile, which holds where a country's law says nothing."""
    found = {str(kind): quota.per_day for kind, quota in DEFAULT_QUOTAS.items()}
    return found.get(search_type) if asked else None


def findings(
    calls: Iterable[Call], *, thresholds: Thresholds | None = None, quotas: Quotas = profile_quota
) -> tuple[Finding, ...]:
    """Return what should be looked at among the calls of a window, in the order of officer and time.

    Parameters
    ----------
    calls : iterable of Call
        Of one window, in any order.
    thresholds : Thresholds, optional
    quotas : callable
    """
    t, ordered = thresholds or Thresholds(), sorted(calls, key=lambda call: call.time)
    found = (*_self_search(ordered, t), *_fishing(ordered, t), *_quota_probing(ordered, t, quotas))
    return tuple(sorted(found, key=lambda one: (one.officer, one.since, one.kind, one.why)))


# ---- the rules


def _self_search(calls: Sequence[Call], t: Thresholds) -> Iterator[Finding]:
    own = _grouped((call, "the officer's own prints") for call in calls if call.own)
    yield from _found(Kind.SELF_SEARCH, own, len, t.own_prints)
    again = _by_print(calls, "under several cases")
    yield from _found(Kind.SELF_SEARCH, again, _distinct("case_reference"), t.cases_per_print)


def _fishing(calls: Sequence[Call], t: Thresholds) -> Iterator[Finding]:
    searches = [call for call in calls if call.size]
    cases = _grouped((c, f"different probes under case {c.case_reference} on {_day(c)}") for c in searches)
    yield from _found(Kind.FISHING, cases, _distinct("prints"), t.probes_per_case)
    reused = _by_print(calls, "for several purposes")
    yield from _found(Kind.FISHING, reused, _distinct("purpose"), t.purposes_per_print)
    yield from _busy(searches, t)


def _busy(searches: Sequence[Call], t: Thresholds) -> Iterator[Finding]:
    """Find who searched, on a day, far more than the others did."""
    counts = Counter((_day(call), call.officer) for call in searches)
    for key, group in _grouped((c, f"searches far above the others' on {_day(c)}") for c in searches).items():
        day, officer = _day(group[0]), key[0]
        others = [n for (on, who), n in counts.items() if on == day and who != officer]
        if len(others) >= t.busy_others:
            least = max(t.busy_searches, t.busy_factor * median(others))
            yield from _found(Kind.FISHING, {key: group}, len, least)


def _quota_probing(calls: Sequence[Call], t: Thresholds, quotas: Quotas) -> Iterator[Finding]:
    edge = _grouped(
        (c, f"at or over the quota of {c.asked} for {c.search_type} on {_day(c)}")
        for c in _at_the_edge(calls, quotas)
    )
    yield from _found(Kind.QUOTA_PROBING, edge, len, t.edge_calls)
    small = _grouped((call, f"searches of one print on {_day(call)}") for call in calls if call.size == 1)
    yield from _found(Kind.QUOTA_PROBING, small, len, t.small_searches)


def _at_the_edge(calls: Sequence[Call], quotas: Quotas) -> Iterator[Call]:
    """Yield the calls that used up a quota, and those that were refused for it."""
    used: Counter[tuple[str, str, str]] = Counter()
    for call in calls:
        key = (_day(call), call.asked, call.search_type)
        used[key] += not call.refused
        quota = quotas(call.asked, call.search_type)
        if call.refused or (quota is not None and used[key] >= quota):
            yield call


# ---- what they share

_Groups = Mapping[tuple[str, str], Sequence[Call]]


def _grouped(told: Iterable[tuple[Call, str]]) -> _Groups:
    """Return the calls by officer and by what they are about, each in the order of time."""
    groups: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call, why in told:
        groups[call.officer, why].append(call)
    return groups


def _by_print(calls: Sequence[Call], what: str) -> _Groups:
    """Return the calls with the same print. The ten prints of one finger card are one group, not ten."""
    told = ((call, f"print {digest[:16]} {what}") for call in calls for digest in sorted(call.prints))
    groups = _grouped(told)
    unique: dict[tuple[object, ...], tuple[str, str]] = {}
    for key, group in groups.items():
        unique.setdefault((key[0], *map(id, group)), key)
    return {key: groups[key] for key in unique.values()}


def _found(
    kind: Kind, groups: _Groups, count: Callable[[Sequence[Call]], int], least: float
) -> Iterator[Finding]:
    for (officer, why), group in groups.items():
        if (number := count(group)) >= least:
            yield Finding(kind, officer, group[0].time, group[-1].time, number, why)


def _distinct(field: str) -> Callable[[Sequence[Call]], int]:
    return lambda group: len({getattr(call, field) for call in group})


def _day(call: Call) -> str:
    return f"{call.time.astimezone(UTC):%Y-%m-%d}"
