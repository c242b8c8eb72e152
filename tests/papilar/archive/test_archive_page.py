"""What the page of an enrolment says of NFIQ 2 and of retention, and what the receipt says of each print."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from archives import Archive, Gallery, item, record, results

from enroll.nfiq import FAILED as NFIQ2_FAILED
from matcher.template import Finger
from papilar.archive.item import Item, Line, Result
from papilar.archive.receipt import ReceiptWriter, read_lines
from papilar.errors import RequestInvalid
from papilar.picture.archive import archive_page, tally
from papilar.requests import Assessment, Enrolled, Enrollment, Outcome, Rejected

AT = "2026-05-04T12:00:00+00:00"
SCORED = Line(
    "a", Result.ENROLLED, quality=60, finger=2, retention="2031-12-31", nfiq2=41, nfiq2_version="2.3"
)


def page_of(*lines: Line) -> str:
    head, end = {"source": "a", "begun": AT}, {"ended": AT, "complete": True}
    return archive_page([tally(head, end, lines)])


def test_scores_are_counted_by_finger_and_what_has_none_by_its_reason() -> None:
    lines = [
        *[replace(SCORED, nfiq2=score) for score in (10, 41, 41, 90)],
        replace(SCORED, finger=3, nfiq2=7),
        replace(SCORED, nfiq2=None, nfiq2_version="", nfiq2_reason="NO_IMAGE"),
        Line("b", Result.FAILED),
    ]
    found = tally({"source": "a", "begun": AT}, {"ended": AT, "complete": True}, lines)
    assert found.by_nfiq2 == {Finger.RIGHT_INDEX: Counter({41: 2, 10: 1, 90: 1}), Finger(3): Counter({7: 1})}
    assert found.nfiq2_notes == {"2.3": 5, "NO_IMAGE": 1}
    page = page_of(*lines)
    assert "Prints: 5 by 2.3, 1 without an image." in page
    assert re.search(r"<td>right index</td><td>4</td><td>10</td><td>41</td><td>90</td>", page)


def test_of_a_receipt_without_scores_or_dates_there_is_no_such_section() -> None:
    page = page_of(Line("a", Result.ENROLLED, quality=60))
    assert "NFIQ 2" not in page
    assert "Retention" not in page


def test_retention_is_told_by_year_of_what_is_in() -> None:
    lines = [SCORED, SCORED, replace(SCORED, retention="2027-01-01"), replace(SCORED, retention="")]
    page = page_of(*lines, replace(SCORED, result=Result.REJECTED, retention="2040-01-01"))
    rows = re.findall(r"<tr><td>(2\d{3}|\(none\))</td><td>(\d)</td><td>([\d.]+%)</td>", page)
    assert rows == [("2027", "1", "25.0%"), ("2031", "2", "50.0%"), ("(none)", "1", "25.0%")]
    assert "2040" not in page


# ---- what a run says of each print


class Scoring(Gallery):
    """Stands for a node that scores by the finger; of the thumb NFIQ 2 has no score, nor of a template."""

    def __call__(self, new: Enrollment, request_id: str) -> Outcome:
        done = super().__call__(new, request_id)
        assert isinstance(done, Enrolled | Rejected)
        images = [one.image is not None for one in new.prints]
        return replace(done, prints=tuple(map(self._scored, done.prints, images)))

    def _scored(self, one: Assessment, image: bool) -> Assessment:
        if not image or one.finger is Finger.RIGHT_THUMB:
            return one._replace(nfiq2_reason=NFIQ2_FAILED if image else "")
        if one.finger is Finger.RIGHT_RING:
            return one  # as of a node, which does not tell why
        return one._replace(nfiq2=10 * one.finger, nfiq2_version="2.3")


def given() -> list[Item]:
    told = {"category": "ARREST", "retention": date(2031, 12, 31)}
    some = [item(f"{n}", "ana", finger=Finger(n), **told) for n in (1, 2, 3, 4)]
    return [
        *some,
        item("r", "eva", read=lambda: record(1), record=True),
        item("unread", fault=RequestInvalid("gone", remedy="x")),
    ]


def test_each_line_has_its_score_or_why_there_is_none(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "j")

    def prepare(one: object) -> tuple[object, tuple[str, ...]]:
        return one, ()

    first = archive.lines(given(), Scoring(poor=frozenset({2})), prepare=prepare)
    assert {name: (line.nfiq2, line.nfiq2_version, line.nfiq2_reason) for name, line in first.items()} == {
        "1": (None, "", "NFIQ2_FAILED"),
        "2": (20, "2.3", ""),
        "3": (30, "2.3", ""),
        "4": (None, "", "NOT_COMPUTED"),
        "r": (None, "", "NO_IMAGE"),
        "unread": (None, "", ""),
    }
    assert results(first)["3"] == "REJECTED BLANK"
    assert {(line.category, line.retention) for line in first.values()} == {
        ("ARREST", "2031-12-31"),
        ("", ""),
    }
    again = archive.lines(given(), Scoring(), prepare=prepare)
    for name, line in first.items():
        result = Result.ALREADY if line.result is Result.ENROLLED else line.result
        assert again[name] == replace(line, result=result), "the journal has forgotten something"


def test_the_receipt_gives_it_back(tmp_path: Path) -> None:
    at = datetime.fromisoformat(AT).astimezone(UTC)
    with ReceiptWriter(tmp_path / "r", source="a", target="g", begun=at) as made:
        made.add(SCORED)
        made.end(at)
    assert list(read_lines(tmp_path / "r")) == [SCORED]
