"""The page of an archive: equal to a naive count, small for any number of prints, and nobody on it."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from statistics import quantiles
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papilar.archive.item import Line, Result
from papilar.archive.receipt import Mark
from papilar.picture.archive import Tally, archive_page, spread, tally

BEGUN = datetime(2026, 11, 1, 8, tzinfo=UTC)
NAME, PERSON = "secret/ana_1.png", "PERSON-1"


def lines(count: int, seed: int = 1) -> Iterator[Line]:
    draw = random.Random(seed)  # noqa: S311
    bad = [
        ("IMAGE_TRUNCATED", "the PNG file is damaged; send the whole file"),
        ("FILE_MISSING", f"no {NAME}; bring it"),
    ]
    for i in range(count):
        finger, quality = draw.randrange(11), draw.randrange(20, 100)
        if draw.random() < 0.02:
            reason, message = draw.choice(bad)
            yield Line(f"{NAME}{i}", Result.FAILED, reason=reason, message=message, finger=finger)
        elif draw.random() < 0.03:
            yield Line(
                f"{NAME}{i}", Result.REJECTED, quality=5, reason="BLANK PARTIAL", message="x", finger=finger
            )
        elif draw.random() < 0.01:
            yield Line(NAME, Result.DUPLICATE, reason="DUPLICATE", message=f"like subject {PERSON}")
        else:
            category = draw.choice(["ARREST", "ASYLUM"])
            yield Line(NAME, Result.ENROLLED, PERSON, "E", quality, 40, finger=finger, category=category)


def counted(
    some: Iterator[Line], *, source: str = "/data/office-1.tar", hours: float = 5, **end: Any
) -> Tally:
    given = {"ended": (BEGUN + timedelta(hours=hours)).isoformat(), "complete": True, **end}
    return tally({"source": source, "begun": BEGUN.isoformat()}, given, some)


def test_a_receipt_is_counted_as_one_counts_by_hand() -> None:
    every = list(lines(2000))
    found = counted(iter(every))
    assert found.results == Counter(line.result for line in every)
    words = [(word, line.result) for line in every for word in line.reason.split()]
    assert found.reasons == {
        word: (
            sum(w == word for w, _ in words),
            sum(w == word and r is not Result.ENROLLED for w, r in words),
        )
        for word, _ in words
    }
    assert found.quality == Counter(line.quality for line in every if line.quality is not None)
    assert found.pace == found.results[Result.ENROLLED] / 5
    assert found.source == "office-1.tar"


@given(st.lists(st.integers(0, 100), min_size=20, max_size=60))
def test_the_spread_lies_where_quantiles_do(values: list[int]) -> None:
    low, median, high = spread(Counter(values))[1:]
    tenths = quantiles(values, n=10, method="inclusive")
    order = sorted(values)
    for got, wanted in ((low, tenths[0]), (median, tenths[4]), (high, tenths[8])):
        near = [order.index(got), len(order) - 1 - order[::-1].index(got)]
        assert order[max(0, near[0] - 1)] <= wanted <= order[min(len(order) - 1, near[1] + 1)]


def test_the_page_is_whole_needs_nothing_and_names_nobody() -> None:
    other = counted(lines(300, 2), source="s3://bucket/office-2<&", hours=1, complete=False)
    page = archive_page([counted(lines(3000)), other])
    body = page[page.index("<body>") : page.index("</html>")]
    assert ElementTree.fromstring(body).tag == "body"  # noqa: S314
    assert not re.search(r"<script|https?://|url\(|@import|src=", page.replace("office-2", ""))
    assert not re.search(f"{NAME}|{PERSON}|ana_1", page)
    assert "Not gone through yet: office-2&lt;&amp;." in page
    assert "send the whole file" in page
    assert "bring the file, or take the row out" in page


def test_a_million_prints_make_no_larger_a_page_than_a_thousand() -> None:
    few = archive_page([counted(lines(1000))])
    line = Line(NAME, Result.ENROLLED, PERSON, "E", 60, 40, finger=3, category="ARREST")
    odd = (
        Line(f"{i}", Result.FAILED, reason=f"R{i}", message=f"{i}; do", category=f"C{i}", quality=1)
        for i in range(5000)
    )
    many = archive_page([counted(iter([*[line] * 100_000, *odd]))])
    assert len(few) < 30_000
    assert len(many) < 150_000
    assert "(others)" in many


def test_the_state_of_a_source_is_that_of_its_last_run() -> None:
    first = counted(iter([Line("a", Result.ENROLLED), Line("b", Result.NOT_TRIED)]), complete=False)
    later = (BEGUN + timedelta(days=1)).isoformat()
    end = {"ended": (BEGUN + timedelta(days=1, hours=2)).isoformat(), "complete": True}
    again = [Line("a", Result.ALREADY), Line("b", Result.ENROLLED)]
    second = tally({"source": "/data/office-1.tar", "begun": later}, end, again)
    page = archive_page([second, first])
    assert "100.0% of 2 prints are in." in page
    assert "Not gone through" not in page
    assert page.count("stopped") == 1


def run_of(marks: list[tuple[float, int]], *, minutes: float, enrolled: int) -> Tally:
    """Tally of a run with marks: minutes after its beginning, and prints enrolled until then."""
    told = [Mark(BEGUN + timedelta(minutes=at), {Result.ENROLLED: count}) for at, count in marks]
    end = {"ended": (BEGUN + timedelta(minutes=minutes)).isoformat(), "complete": True}
    some = iter([*[Line("a", Result.ENROLLED)] * enrolled])
    return tally({"source": "a", "begun": BEGUN.isoformat()}, end, some, told)


def test_the_pace_of_a_run_is_told_as_it_went() -> None:
    found = run_of([(1, 100), (2, 100), (4, 700)], minutes=5, enrolled=710)
    assert [spell.rate for spell in found.spells] == [100, 0, 300, 10]
    page = archive_page([found, counted(lines(10))])
    (points,) = re.findall(r'<polyline class="line s0" points="([^"]*)"', page)
    heights = [float(point.split(",")[1]) for point in points.split()]
    foot, top = heights[2], heights[4]
    assert heights == [heights[0]] * 2 + [foot] * 2 + [top] * 2 + [heights[6]] * 2
    assert (foot - heights[0]) / (foot - top) == pytest.approx(1 / 3, abs=0.01)


@given(st.lists(st.tuples(st.floats(0.5, 5), st.integers(0, 50)), max_size=700))
def test_a_long_run_has_as_many_prints_in_a_short_curve(steps: list[tuple[float, int]]) -> None:
    times, counts = accumulate(each[0] for each in steps), accumulate(each[1] for each in steps)
    marks = list(zip(times, counts, strict=True))
    last, enrolled = marks[-1] if marks else (0.0, 0)
    found = run_of(marks, minutes=last + 1, enrolled=enrolled + 5)
    assert len(found.spells) <= 241
    long = [(spell.ended - spell.begun) / timedelta(minutes=1) for spell in found.spells]
    assert sum(long) == pytest.approx(last + 1)
    drawn = sum(spell.rate * minutes for spell, minutes in zip(found.spells, long, strict=True))
    assert drawn == pytest.approx(enrolled + 5)


def test_a_clock_that_was_put_back_spoils_no_curve() -> None:
    found = run_of([(10, 5), (2, 6), (11, 7)], minutes=12, enrolled=8)
    assert [spell.rate for spell in found.spells] == [0.5, 2, 1]


def test_an_empty_receipt_has_a_page() -> None:
    assert "The sources held nothing." in archive_page([counted(iter([]))])
