"""A page about an archive's enrolment: outcomes, quality, pace, and what kept prints out, from receipts.

It is made of counts alone: no line of a receipt, no name of a file or of a person is on it, so it stays as
small for ten million prints as for ten.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from enroll import gate, quality
from matcher.template import Finger
from papilar.archive.item import Line, Result
from papilar.archive.receipt import Mark
from papilar.archive.sources.flaws import REMEDIES
from papilar.picture.page import page, pair, section, table, wide
from papilar.picture.svg import WIDTH, Interval, element, intervals
from papilar.sequence import REASONS
from papilar.store.values import MissingReason

_LEFT, _RIGHT, _LINE, _TOP, _FOOT = 120.0, 24.0, 22.0, 10.0, 26.0
_MARGIN = 56.0  # left of a curve
_MOST_WORDS = 200  # kinds of reasons and categories that are told apart; the rest is one line
_OTHER = "(others)"
_IN = frozenset({Result.ENROLLED, Result.ALREADY, Result.COPY, Result.MISSING})
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_MOST_SPELLS = 240  # of a curve, which is 390 units wide
_MOST_CURVES = 8  # those of the last runs
_HEIGHT = 110.0  # of a curve
_RESULTS: Mapping[Result, str] = {
    Result.ENROLLED: "enrolled by the last run",
    Result.ALREADY: "enrolled before",
    Result.MISSING: "finger missing, as the source says",
    Result.COPY: "same bytes as another print of the person",
    Result.REJECTED: "too poor",
    Result.DUPLICATE: "the person seems to be there under another name",
    Result.FAILED: "cannot be read",
    Result.NOT_TRIED: "not tried: the run was stopped",
}
_ADVICE: Mapping[str, str] = {
    "DUPLICATE": "compare the two persons; the receipt names them",
    "SAME_CONTENT": "see that nobody's print was filed under another name",
    "STOPPED": "run the same command again",
    **REASONS,
    **{str(reason): "nothing: the source says so" for reason in MissingReason},
}
"""What to do about reasons that no other table has."""

_UNSCORED: Mapping[str, str] = {
    "NO_IMAGE": "without an image",
    "NOT_ASKED": "not asked for",
    "IMPRESSION_NOT_JUDGED": "latents or photographs",
    "NFIQ2_UNAVAILABLE": "where it is not installed",
    "NFIQ2_FAILED": "of which it has none",
    "NOT_COMPUTED": "without one, not told why",
}


class Spread(NamedTuple):
    """How values from 0 to 100 lie: how many, the median, and the tenth at either end."""

    prints: int
    low: int
    median: int
    high: int


class Spell(NamedTuple):
    """A part of a run: from when to when, UTC, and the prints newly enrolled a minute meanwhile."""

    begun: datetime
    ended: datetime
    rate: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What a receipt comes to.

    Attributes
    ----------
    source : str
        The last part of what was enrolled.
    begun, ended : datetime
        UTC.
    complete : bool
        Whether the source was gone through.
    results : mapping of Result to int
    by_finger, by_category : mapping to mapping
        Prints of each quality, 0 to 100, by finger and by what they are held for.
    by_nfiq2 : mapping to mapping
        The same of NFIQ 2, by finger.
    nfiq2_notes : mapping of str to int
        Prints by the version that scored them, or by the reason why none did.
    retentions : mapping of str to int
        Prints that are in by the year until which they may be held; empty for those of which none is said.
    reasons : mapping of str to (int, int)
        Prints that a reason was told of, and how many of them are not in.
    remedies : mapping of str to str
        What to do about the reasons of errors, as the errors say it.
    spells : sequence of Spell
        The run from its beginning to its end, one after the other, at most 240.
    """

    source: str
    begun: datetime
    ended: datetime
    complete: bool
    results: Mapping[Result, int]
    by_finger: Mapping[Finger, Mapping[int, int]]
    by_category: Mapping[str, Mapping[int, int]]
    by_nfiq2: Mapping[Finger, Mapping[int, int]]
    nfiq2_notes: Mapping[str, int]
    retentions: Mapping[str, int]
    reasons: Mapping[str, tuple[int, int]]
    remedies: Mapping[str, str]
    spells: Sequence[Spell]

    @property
    def quality(self) -> Mapping[int, int]:
        """Prints of each quality."""
        return sum((Counter(dict(each)) for each in self.by_finger.values()), Counter[int]())

    @property
    def pace(self) -> float:
        """Prints newly enrolled an hour."""
        return self.results.get(Result.ENROLLED, 0) / max((self.ended - self.begun) / _HOUR, 1 / 3600)


def tally(
    head: Mapping[str, Any], end: Mapping[str, Any], lines: Iterable[Line], marks: Sequence[Mark] = ()
) -> Tally:
    """Count a receipt, in one pass.

    Parameters
    ----------
    head, end : mapping
        Its first line and that of its end, as `papilar.archive.receipt.verify_receipt` gives them.
    lines : iterable of Line
        As `papilar.archive.receipt.read_lines` yields them.
    marks : sequence of Mark
        Its marks of time, from the same place as its ends.
    """
    results, told, out = Counter[Result](), Counter[str](), Counter[str]()
    fingers: dict[Finger, Counter[int]] = {}
    categories: dict[str, Counter[int]] = {}
    scores: dict[Finger, Counter[int]] = {}
    notes, years = Counter[str](), Counter[str]()
    remedies: dict[str, str] = {}
    for line in lines:
        results[line.result] += 1
        for reason in line.reason.split():
            known = reason if reason in told or len(told) < _MOST_WORDS else _OTHER
            told[known] += 1
            out[known] += line.result not in _IN
            if line.result is Result.FAILED and known is reason:
                remedies.setdefault(reason, line.message.rpartition("; ")[2])  # of errors, what is said last
        if line.result in _IN:
            years[line.retention[:4]] += 1
        if line.nfiq2 is not None:
            scores.setdefault(Finger(line.finger), Counter())[line.nfiq2] += 1
        if note := line.nfiq2_version or line.nfiq2_reason:
            notes[note if note in notes or len(notes) < _MOST_WORDS else _OTHER] += 1
        if line.quality is not None:
            fingers.setdefault(Finger(line.finger), Counter())[line.quality] += 1
            many = line.category not in categories and len(categories) >= _MOST_WORDS
            categories.setdefault(_OTHER if many else line.category, Counter())[line.quality] += 1
    begun, ended = (datetime.fromisoformat(text) for text in (head["begun"], end["ended"]))
    return Tally(
        PurePosixPath(str(head["source"])).name,
        begun,
        ended,
        bool(end["complete"]),
        results,
        fingers,
        categories,
        scores,
        notes,
        years,
        {reason: (count, out[reason]) for reason, count in told.items()},
        remedies,
        _spells([Mark(begun, {}), *marks, Mark(ended, results)]),
    )


def _spells(marks: Sequence[Mark]) -> list[Spell]:
    """Return the spells between marks, neighbours made one where there are many."""
    step = -(-(len(marks) - 1) // _MOST_SPELLS)
    spells, last = list[Spell](), marks[0]
    for mark in [*marks[step:-1:step], marks[-1]]:
        if mark.at > last.at:  # a clock may have been put back
            new = mark.counts.get(Result.ENROLLED, 0) - last.counts.get(Result.ENROLLED, 0)
            spells.append(Spell(last.at, mark.at, new / ((mark.at - last.at) / _MINUTE)))
            last = mark
    return spells


def spread(counts: Mapping[int, int]) -> Spread:
    """Return how the values lie of which so many are counted."""
    values = sorted(counts)
    sums = list(accumulate(counts[value] for value in values))

    def at(share: float) -> int:
        return next(value for value, upto in zip(values, sums, strict=True) if upto >= share * sums[-1])

    return Spread(sums[-1], at(0.1), at(0.5), at(0.9))


def archive_page(tallies: Sequence[Tally]) -> str:
    """Draw the page.

    Parameters
    ----------
    tallies : sequence of Tally
        Of one run or several, in any order. The state of a source is that of its last run, whose receipt has
        a line for all that the earlier ones did; the pace is told of each.

    Returns
    -------
    str
        HTML.
    """
    runs = sorted(tallies, key=lambda each: each.begun)
    last = list({each.source: each for each in runs}.values())
    title = "Enrolment of " + ", ".join(each.source for each in last[:3]) + (" …" if last[3:] else "")
    return page(
        title,
        _preface(runs),
        _outcomes(last),
        _qualities(last),
        _nfiq2(last),
        _retentions(last),
        _pace(runs),
        _reasons(last),
    )


# ---- sections


def _preface(runs: Sequence[Tally]) -> str:
    what = (
        f"From {len(runs)} {'receipt' if len(runs) == 1 else 'receipts'}, {runs[0].begun:%Y-%m-%d %H:%M} to "
        f"{max(each.ended for each in runs):%Y-%m-%d %H:%M} UTC. Counts alone: which prints they are the "
        "receipts say."
    )
    return element("p", escape(what), class_="soft")


def _outcomes(last: Sequence[Tally]) -> str:
    results = sum((Counter(dict(each.results)) for each in last), Counter[Result]())
    whole = results.total()
    shares = {result: results[result] / whole for result in Result if results[result]}
    plot = intervals(
        [Interval(_word(result), share, 0, share) for result, share in shares.items()],
        title="Share of the prints by outcome",
    )
    lines = [[_word(r), f"{results[r]:,}", _share(share), _RESULTS[r]] for r, share in shares.items()]
    numbers = table(["outcome", "prints", "share", ""], [*lines, ["all", f"{whole:,}", "", ""]], words=(0, 3))
    inside = sum(results[result] for result in _IN)
    words = f"{_share(inside / whole)} of {whole:,} prints are in." if whole else "The sources held nothing."
    stopped = [each.source for each in last if not each.complete]
    words += f" Not gone through yet: {', '.join(stopped)}." if stopped else ""
    return section("What became of the prints", escape(words), pair(plot, numbers))


def _qualities(last: Sequence[Tally]) -> str:
    fingers: dict[Finger, Counter[int]] = {}
    categories: dict[str, Counter[int]] = {}
    for each in last:
        for finger, counts in each.by_finger.items():
            fingers.setdefault(finger, Counter()).update(dict(counts))
        for category, counts in each.by_category.items():
            categories.setdefault(category or "(none)", Counter()).update(dict(counts))
    by_finger = {_word(finger.name): spread(fingers[finger]) for finger in Finger if finger in fingers}
    by_source = {each.source: spread(each.quality) for each in last if each.quality}
    by_category = {category: spread(counts) for category, counts in sorted(categories.items())}
    words = (
        "Quality from 0 to 100 of the prints that were judged, rejected ones included. The mark is the "
        "median; eight of ten prints lie within the bar."
    )
    parts = [_spreads("Quality by finger", by_finger), _spreads("Quality by source", by_source)]
    parts += [_spreads("Quality by category", by_category)] if set(categories) != {"(none)"} else []
    return section("Quality", words, "".join(parts))


def _nfiq2(last: Sequence[Tally]) -> str:
    fingers: dict[Finger, Counter[int]] = {}
    notes = Counter[str]()
    for each in last:
        notes.update(dict(each.nfiq2_notes))
        for finger, counts in each.by_nfiq2.items():
            fingers.setdefault(finger, Counter()).update(dict(counts))
    if not notes:
        return ""
    told = [f"{count:,} {_UNSCORED.get(note, f'by {note}')}" for note, count in notes.most_common()]
    words = f"From 0 to 100, ISO/IEC 29794-4. Prints: {', '.join(told)}."
    spreads = {_word(finger.name): spread(fingers[finger]) for finger in Finger if finger in fingers}
    return section("NFIQ 2", escape(words), _spreads("NFIQ 2 by finger", spreads) if spreads else "")


def _retentions(last: Sequence[Tally]) -> str:
    years = sum((Counter(dict(each.retentions)) for each in last), Counter[str]())
    if not any(years):
        return ""
    whole = years.total()
    told = [(year or "(none)", years[year]) for year in sorted(years, key=lambda year: (not year, year))]
    bars = [Interval(name, count / whole, 0, count / whole) for name, count in told]
    lines = [[name, f"{count:,}", _share(count / whole)] for name, count in told]
    words = "The year in which the time ends that the prints that are in may be held, as the source says."
    plot = intervals(bars, title="Share of the prints by the year until which they may be held")
    return section("Retention", words, pair(plot, table(["year", "prints", "share"], lines)))


def _spreads(title: str, rows: Mapping[str, Spread]) -> str:
    drawn = [(name, each.low, each.median, each.high) for name, each in rows.items()]
    plot = _spans(drawn, [(value, str(value)) for value in (0, 25, 50, 75, 100)], title=title)
    lines = [
        [name, f"{each.prints:,}", str(each.low), str(each.median), str(each.high)]
        for name, each in rows.items()
    ]
    numbers = table(["", "prints", "10 %", "median", "90 %"], lines)
    return pair(element("h3", escape(title)) + plot, numbers)


def _pace(runs: Sequence[Tally]) -> str:
    top = _round_above(each.pace for each in runs)
    names = [f"{each.begun:%m-%d %H:%M}" for each in runs]
    drawn = [(name, 0.0, each.pace, each.pace) for name, each in zip(names, runs, strict=True)]
    ticks = [(top * share, f"{top * share:,g}") for share in (0, 0.5, 1)]
    plot = _spans(drawn, ticks, title="Prints newly enrolled an hour, by run")
    lines = [
        [
            f"{each.begun:%Y-%m-%d %H:%M}",
            each.source,
            _duration(each.ended - each.begun),
            f"{each.results.get(Result.ENROLLED, 0):,}",
            f"{each.pace:,.0f}",
            "whole" if each.complete else "stopped",
        ]
        for each in runs
    ]
    numbers = table(["begun, UTC", "source", "took", "new", "an\xa0hour", ""], lines, words=(1, 5))
    words = "Prints newly enrolled an hour, run by run; what was in before costs next to nothing."
    return section("Pace", words, pair(plot, numbers) + _curves(runs))


def _curves(runs: Sequence[Tally]) -> str:
    """Draw how fast each of the last runs was as it went, on one axis; runs of a minute are left out."""
    shown = [each for each in runs if len(each.spells) > 1][-_MOST_CURVES:]
    top = _round_above(spell.rate for each in shown for spell in each.spells)
    drawn = [
        element("h3", escape(f"{each.source}, {each.begun:%Y-%m-%d %H:%M}")) + _curve(each.spells, top)
        for each in shown
    ]
    words = element("p", "Prints newly enrolled a minute while a run went, all on one axis.", class_="soft")
    pairs = [pair(*(*drawn[i : i + 2], "")[:2]) for i in range(0, len(drawn), 2)]
    return words + "".join(pairs) if drawn else ""


def _curve(spells: Sequence[Spell], top: float) -> str:
    """Draw a rate over time as steps: each spell has one."""
    begun, ended, foot = spells[0].begun, spells[-1].ended, _TOP + _HEIGHT
    long = ended - begun

    def x(at: datetime) -> float:
        return _MARGIN + (at - begun) / long * (WIDTH - _MARGIN - _RIGHT)

    def y(rate: float) -> float:
        return foot - rate / top * _HEIGHT

    steps = [(at, each.rate) for each in spells for at in (each.begun, each.ended)]
    grid = [
        element("line", class_="grid", x1=_MARGIN, x2=WIDTH - _RIGHT, y1=y(rate), y2=y(rate))
        + element("text", f"{rate:,g}", x=_MARGIN - 8, y=y(rate) + 4, text_anchor="end")
        for rate in (0.0, top / 2, top)
    ]
    form = "%H:%M" if long < timedelta(days=1) else "%m-%d %H:%M"
    times = [
        element("text", f"{at:{form}}", x=x(at), y=foot + 16, text_anchor=anchor)
        for at, anchor in ((begun, "start"), (begun + long / 2, "middle"), (ended, "end"))
    ]
    line = element(
        "polyline", class_="line s0", points=" ".join(f"{x(at):.1f},{y(r):.1f}" for at, r in steps)
    )
    box = f"0 0 {WIDTH:g} {foot + _FOOT:g}"
    title = element("title", "Prints newly enrolled a minute, over time")
    return element("svg", title, *grid, *times, line, viewBox=box, role="img", class_="plot")


def _reasons(last: Sequence[Tally]) -> str:
    told, out = Counter[str](), Counter[str]()
    for each in last:
        for reason, (count, left) in each.reasons.items():
            told[reason] += count
            out[reason] += left
    tables: tuple[Mapping[Any, str], ...] = (quality.ADVICE, gate.ADVICE, REMEDIES, _ADVICE)
    known = {str(word): text for table in tables for word, text in table.items()}
    advice = {reason: text for each in last for reason, text in each.remedies.items()} | known
    order = sorted(told, key=lambda reason: (-out[reason], -told[reason], reason))
    lines = [[r, f"{out[r]:,}", f"{told[r]:,}", advice.get(r, "see docs/enrolment.md")] for r in order]
    numbers = table(["reason", "not in", "told of", "what to do"], lines, words=(3,))
    words = "A print may have several reasons. Those of prints that are in are hints."
    return section("Reasons", words, wide(numbers))


# ---- parts


def _round_above(values: Iterable[float]) -> float:
    """Return the least of 1, 2, 5, 10, ... that is above all values."""
    most = max(values, default=0.0)
    return next(step * 10.0**power for power in range(12) for step in (1, 2, 5) if step * 10.0**power >= most)


def _spans(
    rows: Sequence[tuple[str, float, float, float]], ticks: Sequence[tuple[float, str]], *, title: str
) -> str:
    """Draw a bar from low to high with a mark at a value, a line for each name, on an axis from 0."""
    foot = _TOP + _LINE * len(rows)

    def x(value: float) -> float:
        return _LEFT + value / ticks[-1][0] * (WIDTH - _LEFT - _RIGHT)

    drawn = [element("line", class_="grid", x1=x(v), x2=x(v), y1=_TOP, y2=foot) for v, _ in ticks]
    drawn += [element("text", escape(word), x=x(v), y=foot + 16, text_anchor="middle") for v, word in ticks]
    for place, (name, low, value, high) in enumerate(rows):
        y = _TOP + _LINE * (place + 0.5)
        drawn += [
            element("text", escape(_short(name)), x=_LEFT - 12, y=y + 4, text_anchor="end"),
            element("line", class_="bar", x1=x(low), x2=x(high), y1=y, y2=y),
            element("circle", class_="mark s0", cx=x(value), cy=y, r=4.0),
        ]
    box = f"0 0 {WIDTH:g} {foot + _FOOT:g}"
    return element("svg", element("title", escape(title)), *drawn, viewBox=box, role="img", class_="plot")


def _word(name: str) -> str:
    return name.lower().replace("_", " ")


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _share(share: float) -> str:
    return f"{share:.1%}" if 0.001 <= share < 0.999 or share in (0, 1) else f"{share:.3%}"


def _duration(took: timedelta) -> str:
    minutes, seconds = divmod(round(took.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    told = f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
    return told.replace(" ", "\xa0")
