"""A page about the exchange of one country: plots, and beside each the numbers that it is drawn from.

It shows the rows that it is given, so what may not leave is suppressed before.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log10, sqrt

from papilar.picture.page import page, pair, section, table, wide
from papilar.picture.svg import Interval, Point, element, intervals, mark_for_key, over_months, strips
from papilar.statistics import LEAST, Bounds, Row, confirmation_rate, reciprocity

_SECONDS = (
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (600.0, "10 min"),
    (3600.0, "1 h"),
    (86400.0, "1 d"),
)
_RATIOS = ((0.001, "1 : 1000"), (0.03, "1 : 30"), (1.0, "1 : 1"), (30.0, "30 : 1"), (1000.0, "1000 : 1"))
_WITHHELD = "—"
_COUNTS: Mapping[str, str] = {
    "searches": "answered",
    "with_candidates": "candidates",
    "refused": "refused",
    "quota": "quota",
    "unanswered": "no answer",
    "confirmed": "confirmed",
    "rejected": "rejected",
    "inconclusive": "inconclusive",
}


def statistics_page(rows: Sequence[Row], country: str, months: Sequence[str], *, suppressed: bool) -> str:
    """Draw the page.

    Parameters
    ----------
    rows : sequence of Row
        Of these months; those of other pairs than the country's are left out.
    country : str
        Whose counters they are.
    months : sequence of str
        In their order; the last one is told in full.
    suppressed : bool
        Whether `papilar.statistics.suppress` was applied; the page says so.

    Returns
    -------
    str
        HTML.
    """
    ours = [row for row in rows if country in (row.asking, row.asked) and row.month in months]
    peers = sorted({row.asking if row.asked == country else row.asked for row in ours})
    title = f"Exchange of {country}, {months[0]} to {months[-1]}"
    return page(
        title,
        _preface(suppressed),
        _searches(ours, country, peers, months),
        _reciprocity(ours, peers),
        _confirmation(ours, country, peers),
        _times(ours, months),
        _last_month([row for row in ours if row.month == months[-1]], months[-1]),
    )


# ---- sections


def _preface(suppressed: bool) -> str:
    rule = (
        f"A count from 1 to {LEAST - 1} is withheld ({_WITHHELD}), and so is what would let it be computed. "
        "Sums are of what is stated."
        if suppressed
        else "Nothing is withheld: this page is for the country itself and does not leave it."
    )
    what = (
        "Counted from the tamper-evident log, by the month of the answer, UTC. A candidate is what a machine "
        "puts forward; whether it is the same person an examiner decides."
    )
    return element("p", escape(what), class_="soft") + element("p", escape(rule), class_="soft")


def _searches(rows: Sequence[Row], country: str, peers: Sequence[str], months: Sequence[str]) -> str:
    chosen = {peer: [_by_month(rows, pair, months) for pair in _pairs(country, peer)] for peer in peers}
    values = [point.value or 0 for both in chosen.values() for each in both for point in each]
    most = 10.0 ** _ceil_log(max(values, default=0))
    words = (
        f"{mark_for_key(0)} asked by {escape(country)} &ensp; "
        f"{mark_for_key(1)} asked of {escape(country)} &ensp; "
        f"{mark_for_key(0, whole=False)} a part is withheld. The axis is logarithmic, the same for all; "
        f"the band is where 1 to {LEAST - 1} would be."
    )
    parts = [_of_peer(country, peer, both, months, most) for peer, both in chosen.items()]
    return section("Searches", words, "".join(parts))


def _of_peer(
    country: str, peer: str, both: Sequence[Sequence[Point]], months: Sequence[str], most: float
) -> str:
    title = f"Searches between {country} and {peer} by month"
    plot = over_months(months, both, most=most, small=LEAST, title=title)
    heads = ["month", *(f"{asking} asked {asked}" for asking, asked in _pairs(country, peer))]
    numbers = table(heads, [[m, *(_sum(p[i]) for p in both)] for i, m in enumerate(months)])
    return pair(element("h3", escape(f"{country} and {peer}")) + plot, numbers)


def _reciprocity(rows: Sequence[Row], peers: Sequence[str]) -> str:
    found = {peer: reciprocity(rows, peer) for peer in peers}
    drawn = {peer: each.ratio for peer, each in found.items() if each.ratio and each.ratio.low}
    values = [[low, high, sqrt(low * high)] for low, high in drawn.values()]
    plot = strips(list(drawn), values, _RATIOS, title="Asked by them to asked by us")
    lines = [[peer, _range(each.by_them), _range(each.by_us), each.meaning] for peer, each in found.items()]
    numbers = table(["peer", "asked us", "asked by us", "in words"], lines, words={3})
    words = (
        "How many searches the peer asked for each one that it was asked, over all the months. The bar "
        "is what it may be where numbers are withheld."
    )
    return section("Reciprocity", words, pair(plot, numbers))


def _confirmation(rows: Sequence[Row], country: str, peers: Sequence[str]) -> str:
    pairs = [pair for peer in peers for pair in _pairs(country, peer)]
    rates = {
        f"{a} asked {b}": confirmation_rate([row for row in rows if (row.asking, row.asked) == (a, b)])
        for a, b in pairs
    }
    known = {name: rate for name, rate in rates.items() if rate}
    bars = [Interval(name, each.share, each.low, each.high) for name, each in known.items()]
    numbers = table(
        ["", "confirmed", "of", "share", "95 % interval"],
        [
            [
                name,
                f"{r.confirmed:,}",
                f"{r.conclusions:,}",
                f"{r.share:.0%}",
                f"{r.low:.0%} to {r.high:.0%}",
            ]
            for name, r in known.items()
        ],
    )
    words = (
        "Share of the candidates that an examiner concluded on, and found to be the same person, of those "
        "confirmed or rejected. The bar is Wilson's 95 % interval. "
        "Months that do not state both are left out."
    )
    plot = intervals(bars, title="Share of candidates that were confirmed")
    return section("Confirmed by an examiner", words, pair(plot, numbers))


def _times(rows: Sequence[Row], months: Sequence[str]) -> str:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.median_seconds is not None:
            found.setdefault(_name(row), {})[row.month] = row.median_seconds
    named = {name: [each[month] for month in months if month in each] for name, each in sorted(found.items())}
    numbers = table(
        ["", "months", "last", "fastest", "slowest"],
        [
            [name, str(len(v)), _duration(v[-1]), _duration(min(v)), _duration(max(v))]
            for name, v in named.items()
        ],
    )
    words = (
        "Median of a month, from sending to the answer, waiting for a person or a broken line included. "
        f"The large mark is the last month that has one; fewer than {LEAST} answers have none."
    )
    plot = strips(list(named), list(named.values()), _SECONDS, title="Median time to the answer, by month")
    return section("Time to the answer", words, pair(plot, numbers))


def _last_month(rows: Sequence[Row], month: str) -> str:
    counts: list[list[str]] = [
        [_name(row), *(_count(getattr(row, name)) for name in _COUNTS), _duration(row.median_seconds)]
        for row in sorted(rows, key=lambda row: row.key)
    ]
    numbers = table(["", *_COUNTS.values(), "median"], counts)
    return section(f"All counters of {month}", "", wide(numbers))


# ---- parts


def _pairs(country: str, peer: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (country, peer), (peer, country)


def _by_month(rows: Iterable[Row], pair: tuple[str, str], months: Sequence[str]) -> list[Point]:
    """Add up the types of each month, as far as they are stated."""
    counts: dict[str, list[int | None]] = {month: [] for month in months}
    for row in rows:
        if (row.asking, row.asked) == pair:
            counts[row.month].append(row.searches)
    return [_added(each) for each in counts.values()]


def _added(counts: Sequence[int | None]) -> Point:
    stated = [number for number in counts if number is not None]
    whole = len(stated) == len(counts)
    return Point(sum(stated) if any(stated) or whole else None, whole)


def _sum(point: Point) -> str:
    if point.value is None:
        return _WITHHELD
    return ("" if point.whole else "≥ ") + f"{point.value:,.0f}"


def _count(number: int | None) -> str:
    return _WITHHELD if number is None else f"{number:,}"


def _range(bounds: Bounds) -> str:
    low, high = bounds
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _name(row: Row) -> str:
    return f"{row.asking} → {row.asked} {(row.search_type or 'unknown').replace('_', '/')}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _WITHHELD
    steps: tuple[tuple[float, float, str], ...] = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"))
    size, word = next(((size, word) for most, size, word in steps if seconds < most), (86_400, "d"))
    return f"{seconds / size:.3g} {word}"


def _ceil_log(value: float) -> float:
    return max(1.0, round(log10(max(value, 1)) + 0.05, 1))
