"""Statistics: equal to a naive count, in any order; suppressed so that nothing can be computed back."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import pytest
from exchanges import START, Case, year
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import AT, countries
from typer.testing import CliRunner

from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Entry, Outcome, Side
from papilar.audit.log import AuditLog
from papilar.commands.stats import app
from papilar.errors import CountryMismatch, RequestInvalid, SignatureRefused
from papilar.exchange.seal import seal
from papilar.exchange.statistics import KIND, Difference, compare, entries_of, read_statement, to_statement
from papilar.picture.statistics import statistics_page
from papilar.policy import SearchType
from papilar.signing import Signer
from papilar.statistics import (
    LEAST,
    LOOK_BACK,
    Row,
    confirmation_rate,
    count,
    month_of,
    months_to,
    own_countries,
    reciprocity,
    span,
    suppress,
)
from papilar.store.log import LogStore
from papilar.store.store import FILE_NAME
from papilar.trust import Trust

MONTH = "2026-10"
OPENING, ENDING = span(MONTH)
DAY = timedelta(days=1)
COUNTS = (
    "searches",
    "with_candidates",
    "refused",
    "quota",
    "confirmed",
    "rejected",
    "inconclusive",
    "unanswered",
)
ANSWERS = (
    Outcome.NO_HIT,
    Outcome.CANDIDATES,
    Outcome.REFUSED,
    Outcome.QUOTA,
    Outcome.NEEDS_HUMAN,
    Outcome.ERROR,
    Outcome.UNREACHABLE,
)
CONCLUSIONS = (Outcome.CONFIRMED, Outcome.REJECTED, Outcome.INCONCLUSIVE)


def a_case(number: int = 1, *, asking: str = "SLV", asked: str = "HND", at: datetime = OPENING) -> Case:
    return Case(number, asking, asked, SearchType.TP_TP, at)


def a_row(**counts: Any) -> Row:
    return replace(Row(MONTH, "SLV", "HND", SearchType.TP_TP), **counts)


# ---- months


def test_a_month_is_of_the_time_in_utc() -> None:
    assert month_of(datetime.fromisoformat("2026-12-01T00:30+01:00")) == "2026-11"
    assert span("2026-12") == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert months_to("2026-02", 4) == ("2025-11", "2025-12", "2026-01", "2026-02")


@pytest.mark.parametrize(
    "month", ["", "2026", "2026-13", "2026-1", "2026-011", "26-11", "9999-12", "2026-11-01"]
)
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(RequestInvalid, match="no month"):
        span(month)


# ---- counting: against a naive count of what was played


class Played:
    """Searches of SLV and HND as hypothesis draws them, counted plainly while they are played."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Entry]] = {"SLV": [], "HND": []}
        self.naive: dict[str, dict[Any, dict[str, int]]] = {
            name: defaultdict(lambda: dict.fromkeys(COUNTS, 0)) for name in self.logs
        }
        self.seconds: dict[Any, list[float]] = defaultdict(list)

    def play(self, case: Case, tries: Sequence[tuple[Outcome, float]], concluded: Sequence[Any]) -> None:
        """Ask, as often as there are tries; then conclude."""
        key = case.asking, case.asked, case.kind
        ours, theirs = self.logs[case.asking], self.logs[case.asked]
        for outcome, seconds in tries:
            ours += [case.sent(), case.came(outcome, seconds)]
            if outcome is not Outcome.UNREACHABLE:
                theirs += case.answered(outcome, seconds)
        self._count(key, case, tries)
        reached = any(outcome is not Outcome.UNREACHABLE for outcome, _ in tries)
        for outcome, days in concluded if reached else ():
            at = case.time + days * DAY
            entries, entry = case.concluded(outcome, at)
            ours += entries
            theirs.append(entry)
            if OPENING <= at < ENDING:
                self.naive[case.asking][key][str(outcome).lower()] += 1
                self.naive[case.asked][key][str(outcome).lower()] += 1

    def _count(self, key: Any, case: Case, tries: Sequence[tuple[Outcome, float]]) -> None:
        got = [(s, o) for o, s in tries if o is not Outcome.UNREACHABLE]
        known = [s for s, _ in got if case.time + timedelta(seconds=s) < ENDING]
        if not known and OPENING <= case.time < ENDING:
            self.naive[case.asking][key]["unanswered"] += 1
        within = [(s, o) for s, o in got if OPENING <= case.time + timedelta(seconds=s) < ENDING]
        if not within:
            return
        seconds, outcome = max(within)
        named = {
            Outcome.CANDIDATES: "with_candidates",
            Outcome.REFUSED: "refused",
            Outcome.QUOTA: "quota",
        }
        for country in self.logs:
            self.naive[country][key]["searches"] += 1
            if outcome in named:
                self.naive[country][key][named[outcome]] += 1
        if outcome not in (Outcome.QUOTA, Outcome.NEEDS_HUMAN):
            self.seconds[key].append(seconds)


ONE = st.tuples(
    st.booleans(),
    st.sampled_from([SearchType.TP_TP, SearchType.LT_UL]),
    st.integers(-20, 40),
    st.lists(
        st.tuples(st.sampled_from(ANSWERS), st.integers(0, 3 * 86_400)),
        min_size=1,
        max_size=3,
        unique_by=lambda each: each[1],
    ),
    st.lists(st.tuples(st.sampled_from(CONCLUSIONS), st.integers(4, 30)), max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ONE, max_size=12), st.randoms(use_true_random=False))
def test_counters_are_those_of_a_naive_count_in_any_order(drawn: list[Any], dice: random.Random) -> None:
    played = Played()
    for number, (outward, kind, day, tries, concluded) in enumerate(drawn):
        pair = ("SLV", "HND") if outward else ("HND", "SLV")
        played.play(Case(number, *pair, kind, OPENING + day * DAY), tries, concluded)
    for country, log in played.logs.items():
        rows = count(log, country, MONTH)
        counted = {
            (r.asking, r.asked, r.search_type): {name: getattr(r, name) for name in COUNTS} for r in rows
        }
        assert counted == played.naive[country]
        for row in rows:
            seconds = played.seconds[row.asking, row.asked, row.search_type] if row.asking == country else []
            assert (row.timed, row.median_seconds) == (len(seconds), median(seconds) if seconds else None)
        shuffled = log[:]
        dice.shuffle(shuffled)
        assert count(shuffled, country, MONTH) == rows
        needed = [entry for entry in log if OPENING - LOOK_BACK <= entry.time < ENDING]
        assert count(needed, country, MONTH) == rows


@settings(max_examples=30, deadline=None)
@given(st.lists(ONE, max_size=8))
def test_both_sides_say_the_same_of_the_same_searches(drawn: list[Any]) -> None:
    played = Played()
    for number, (outward, kind, day, tries, concluded) in enumerate(drawn):
        pair = ("SLV", "HND") if outward else ("HND", "SLV")
        played.play(Case(number, *pair, kind, OPENING + day * DAY), tries, concluded)
    ours, theirs = (count(log, country, MONTH) for country, log in played.logs.items())
    assert compare(ours, theirs) == ()
    assert compare(ours, suppress(theirs, hides_refusals={"HND"})) == ()


def test_what_was_no_search_between_countries_is_not_counted() -> None:
    case = a_case()
    own = replace(case.came(Outcome.NO_HIT, 1), side=Side.OWN)
    malformed = replace(case.came(Outcome.REFUSED, 1), policy_hash="")
    assert count([case.refused_here(), own], "SLV", MONTH) == ()
    (row,) = count([case.sent(), malformed], "SLV", MONTH)
    assert (row.searches, row.refused, row.unanswered) == (0, 0, 1)
    assert count([case.sent(), case.came(Outcome.NO_HIT, 1)], "HND", MONTH) == ()


def test_the_asked_side_has_times_where_it_logs_when_it_took_the_prints_in() -> None:
    entries = [
        entry
        for number in range(5)
        for entry in a_case(number).answered(Outcome.NO_HIT, 10 + number, begun=True)
    ]
    (row,) = count(entries, "HND", MONTH)
    assert (row.timed, row.median_seconds) == (5, 12.0)


def test_a_conclusion_on_a_search_that_the_log_has_forgotten_has_no_type() -> None:
    _, entry = a_case().concluded(Outcome.CONFIRMED, OPENING + DAY)
    (row,) = count([entry], "HND", MONTH)
    assert (row.search_type, row.confirmed, row.searches) == (None, 1, 0)


def test_a_conclusion_counts_once_the_peer_has_taken_it() -> None:
    case = a_case()
    (sent, taken), _ = case.concluded(Outcome.REJECTED, OPENING + DAY)
    asked = [case.sent(), case.came(Outcome.CANDIDATES, 1)]
    assert [count([*asked, *more], "SLV", MONTH)[0].rejected for more in ([], [sent], [sent, taken])] == [
        0,
        0,
        1,
    ]


def test_a_log_says_whose_it_is() -> None:
    case = a_case()
    assert own_countries([case.sent()]) == {"SLV"}
    assert own_countries([case.sent(), *case.answered(Outcome.NO_HIT, 1)]) == {"SLV", "HND"}


# ---- suppression


@pytest.mark.parametrize("hides", [(), ("HND",)])
def test_who_knows_the_rule_still_cannot_tell_one_withheld_count_from_another(hides: tuple[str, ...]) -> None:
    """Every row there can be up to 12 searches: of all that look alike, a withheld count takes 1 to 4."""
    alike: dict[Any, list[tuple[int, ...]]] = defaultdict(list)
    names = ("searches", "with_candidates", "refused", "quota")
    for n in range(1, 13):
        for parts in product(range(n + 1), repeat=3):
            if sum(parts) <= n:
                values = n, *parts
                (shown,) = suppress([a_row(**dict(zip(names, values, strict=True)))], hides_refusals=hides)
                alike[tuple(getattr(shown, name) for name in names)].append(values)
    for shown, rows in alike.items():
        for place, number in enumerate(shown):
            assert number is None or not 0 < number < LEAST
            if number is None and not (hides and names[place] == "refused"):
                assert {1, 2, 3, 4} <= {row[place] for row in rows}
    assert len(alike) > 100


@given(st.lists(st.integers(0, 9), min_size=4, max_size=4), st.integers(0, 9), st.floats(0, 1e6))
def test_nothing_from_1_to_4_leaves(counts: list[int], timed: int, seconds: float) -> None:
    names = ("confirmed", "rejected", "inconclusive", "unanswered")
    given_: dict[str, Any] = dict(zip(names, counts, strict=True))
    row = a_row(searches=20, **given_, timed=timed, median_seconds=seconds if timed else None)
    (shown,) = suppress([row], hides_refusals=())
    assert [getattr(shown, name) for name in names] == [None if 0 < n < LEAST else n for n in counts]
    assert (shown.median_seconds is None) == (timed < LEAST)
    assert shown.timed is None


def test_a_median_does_not_tell_how_many_had_no_answer_for_their_quota() -> None:
    row = a_row(searches=8, quota=2, timed=6, median_seconds=3.0)
    assert suppress([row], hides_refusals=())[0].median_seconds is None
    assert suppress([replace(row, quota=0)], hides_refusals=())[0].median_seconds == 3.0
    assert suppress([replace(row, searches=9)], hides_refusals=())[0].median_seconds == 3.0


def test_refusals_that_a_law_hides_are_never_stated() -> None:
    for refused in range(0, 300, 50):
        row = a_row(searches=300, refused=refused)
        assert suppress([row], hides_refusals={"HND"}) == (replace(row, refused=None, timed=None),)
        assert suppress([row], hides_refusals={"SLV"})[0].refused == refused


# ---- what counters say


@pytest.mark.parametrize(
    ("them", "us", "ratio", "meaning"),
    [
        ([6973], [57], (6973 / 57,) * 2, "HND asked us 122 times for each time that we asked HND"),
        ([57], [6973], (57 / 6973,) * 2, "we asked HND 122 times for each time that HND asked us"),
        (
            [90],
            [6, None],
            (90 / 11, 90 / 7),
            "HND asked us 8.18 to 12.9 times for each time that we asked HND",
        ),
        ([None], [None], (0.2, 5.0), "HND asked us 0.2 to 5 times for each time that we asked HND"),
        ([4, 5], [9], (1.0, 1.0), "HND asked us as often as we asked HND"),
        ([7], [], None, "only HND asked"),
        ([], [None], (0.0, 0.0), "only we asked HND"),
        ([], [0], None, "neither asked"),
    ],
)
def test_reciprocity_is_said_in_words(
    them: list[int | None], us: list[int | None], ratio: tuple[float, float] | None, meaning: str
) -> None:
    rows = [a_row(searches=n) for n in us] + [a_row(asking="HND", asked="SLV", searches=n) for n in them]
    told = reciprocity([*rows, a_row(asked="GTM", searches=9)], "HND")
    assert (told.ratio, told.meaning) == (ratio, meaning)


@pytest.mark.parametrize(
    ("confirmed", "rejected", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.2993, 0.7007), (81, 182, 0.2553, 0.3662), (263, 0, 0.9856, 1.0)],
)
def test_the_interval_is_wilsons(confirmed: int, rejected: int, low: float, high: float) -> None:
    """The third row is a worked case of Newcombe, Statist. Med. 17 (1998) 857: 0.2553 to 0.3662."""
    rate = confirmation_rate([a_row(confirmed=confirmed, rejected=rejected)])
    assert rate is not None
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=6e-5)


def test_a_rate_leaves_out_rows_that_withhold_one_of_the_two() -> None:
    assert confirmation_rate([a_row(confirmed=None, rejected=9)]) is None
    rate = confirmation_rate([a_row(confirmed=None, rejected=9), a_row(confirmed=6, rejected=6)])
    assert rate is not None
    assert rate.conclusions == 12


# ---- statements


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("statistics")
    countries(folder, "SLV", "HND")
    return folder


@pytest.fixture(scope="module")
def trust(folder: Path) -> Trust:
    return Trust.load(folder / "trust")


@pytest.fixture(scope="module")
def sealed(folder: Path) -> Signer:
    return Signer.load(folder / "HND/seal.pem", folder / "HND/seal.key")


def some_rows() -> tuple[Row, ...]:
    return (
        a_row(searches=20, with_candidates=6, refused=2, quota=1, confirmed=3, rejected=7),
        a_row(asking="HND", asked="SLV", search_type=None, confirmed=5),
        a_row(asking="HND", asked="SLV", searches=800, timed=790, median_seconds=4.5, unanswered=2),
    )


def test_a_statement_is_read_as_it_was_meant(trust: Trust, sealed: Signer) -> None:
    said = to_statement(some_rows(), "HND", "SLV", MONTH, at=AT, hides_refusals=False)
    assert "quota" not in str(said)
    read = read_statement(seal(KIND, said, sealed), trust, country="HND", peer="SLV", month=MONTH, at=AT)
    unknown: dict[str, Any] = dict.fromkeys(("quota", "inconclusive", "unanswered", "timed"))
    stated = suppress(some_rows(), hides_refusals=())
    assert read == tuple(sorted((replace(r, **unknown) for r in stated), key=lambda row: row.key))
    hidden = to_statement(some_rows(), "HND", "SLV", MONTH, at=AT, hides_refusals=True)
    assert [c.HasField("refused") for c in hidden.counters] == [False, True, True]


def test_a_statement_is_of_one_pair_and_of_a_month_that_is_over() -> None:
    rows = [*some_rows(), a_row(asked="GTM", searches=9), replace(some_rows()[0], month="2026-09")]
    assert len(to_statement(rows, "HND", "SLV", MONTH, at=AT, hides_refusals=False).counters) == 3
    with pytest.raises(RequestInvalid, match="not over"):
        to_statement(rows, "HND", "SLV", month_of(AT), at=AT, hides_refusals=False)
    with pytest.raises(RequestInvalid, match="no longer"):
        to_statement(rows, "HND", "SLV", "2024-11", at=AT, hides_refusals=False)
    assert to_statement((), "HND", "SLV", "2024-12", at=AT, hides_refusals=False).month == "2024-12"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"country": "SLV"}, CountryMismatch),
        ({"peer": "GTM"}, CountryMismatch),
        ({"month": "2026-09"}, RequestInvalid),
        ({"counters": [peer_pb2.Counter(asked_by_peer=True)] * 2}, RequestInvalid),
        ({"counters": [peer_pb2.Counter(median_seconds=float("nan"))]}, RequestInvalid),
        ({"counters": [peer_pb2.Counter(median_seconds=-1)]}, RequestInvalid),
        ({"counters": [peer_pb2.Counter(search_type=99)]}, RequestInvalid),  # type: ignore[arg-type]
    ],
)
def test_statistics_that_cannot_be_are_refused(
    trust: Trust, sealed: Signer, change: dict[str, Any], error: type[Exception]
) -> None:
    said = {"country": "HND", "peer": "SLV", "month": MONTH} | change
    signed = seal(KIND, peer_pb2.Statistics(**said), sealed)
    with pytest.raises(error):
        read_statement(signed, trust, country="HND", peer="SLV", month=MONTH, at=AT)


def test_statistics_under_another_seal_are_refused(trust: Trust, sealed: Signer) -> None:
    signed = seal("answer", peer_pb2.Statistics(country="HND", peer="SLV", month=MONTH), sealed)
    with pytest.raises(SignatureRefused):
        read_statement(signed, trust, country="HND", peer="SLV", month=MONTH, at=AT)
    right = seal(KIND, peer_pb2.Statistics(), sealed)
    with pytest.raises(CountryMismatch):
        read_statement(right, trust, country="SLV", peer="HND", month=MONTH, at=AT)


# ---- two sides


@pytest.mark.parametrize(
    ("ours", "theirs", "differ"),
    [
        ({"searches": 40}, {"searches": 40}, []),
        ({"searches": 40}, {"searches": 41}, ["searches"]),
        ({"searches": 40}, {"searches": 39}, ["searches"]),
        ({"searches": 40, "unanswered": 1}, {"searches": 41}, []),
        ({"searches": 40, "unanswered": 1}, {"searches": 42}, ["searches"]),
        ({"searches": 40}, {"searches": None}, ["searches"]),
        ({"searches": 3}, {"searches": None}, []),
        ({"searches": 40, "refused": 9}, {"searches": 40, "refused": None}, []),
        ({"confirmed": 9}, {"confirmed": None}, ["confirmed"]),
        ({"confirmed": 0}, {"confirmed": None}, ["confirmed"]),
        ({"confirmed": 2}, {"confirmed": None}, []),
        ({"searches": 40, "rejected": 6}, None, ["searches", "rejected"]),
        (None, {"searches": 6, "confirmed": 6}, ["searches", "confirmed"]),
        (None, {"searches": 0}, []),
    ],
)
def test_a_difference_is_a_finding(
    ours: dict[str, Any] | None, theirs: dict[str, Any] | None, differ: list[str]
) -> None:
    here, there = ([] if counts is None else [a_row(**counts)] for counts in (ours, theirs))
    found = compare(here, there)
    assert [each.counter for each in found] == differ
    for each in found:
        mine, yours = ((counts or {each.counter: 0}).get(each.counter, 0) for counts in (ours, theirs))
        assert each == Difference("SLV", "HND", SearchType.TP_TP, each.counter, mine, yours)


def test_a_search_that_one_side_leaves_out_of_its_log_is_found() -> None:
    logs = year(7, share=0.05)
    for country in ("SLV", "USA"):
        rows = count(logs[country], country, "2026-05")
        other = "USA" if country == "SLV" else "SLV"
        pair = [row for row in rows if other in (row.asking, row.asked)]
        left_out = {e.request_id for e in logs[other] if month_of(e.time) == "2026-05" and e.asking == "USA"}
        lost = max(left_out & {e.request_id for e in logs[country] if e.policy_hash and e.search_type})
        theirs = [e for e in logs[other] if e.request_id != lost]
        said = [r for r in count(theirs, other, "2026-05") if country in (r.asking, r.asked)]
        assert (
            compare(pair, [r for r in count(logs[other], other, "2026-05") if r.key in {p.key for p in pair}])
            == ()
        )
        if country == "SLV":
            assert "searches" in {each.counter for each in compare(pair, said)}


def test_a_year_of_the_generator_is_one() -> None:
    logs = year(1, share=0.02)
    assert set(logs) == {"SLV", "HND", "GTM", "USA"}
    assert all(START <= entry.time < START + 380 * DAY for log in logs.values() for entry in log)


# ---- the page and the command


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    (folder / FILE_NAME).touch()
    store = LogStore.open(folder, create=True)
    AuditLog(store).append_all(sorted(year(11, share=0.2)["SLV"], key=lambda entry: entry.time))
    store.close()
    return folder


def test_the_command_counts_what_the_log_says(gallery: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    asked = [str(gallery), "--month", MONTH, "--json"]
    shown, whole = (
        CliRunner().invoke(app, [*asked, *more])
        for more in (["--page", str(page)], ["--whole", "--states-refusals"])
    )
    entries = year(11, share=0.2)["SLV"]
    rows = count(entries, "SLV", MONTH)
    assert json.loads(whole.stdout)["counters"] == [asdict(row) for row in rows]
    hidden = suppress(rows, hides_refusals={"SLV"})
    assert json.loads(shown.stdout)["counters"] == [asdict(row) for row in hidden]
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_what_a_peer_is_told_needs_the_entries_with_it_alone(gallery: Path) -> None:
    entries = year(11, share=0.2)["SLV"]
    with closing(LogStore.open(gallery)) as store:
        assert len(list(entries_of(store, months_to("2026-12", 13)))) == len(entries) > 4096
        found = count(entries_of(store, (MONTH,), peer="USA"), "SLV", MONTH)
    assert found == tuple(row for row in count(entries, "SLV", MONTH) if "USA" in (row.asking, row.asked))


def test_the_page_is_sound_and_asks_for_nothing(gallery: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, [str(gallery), "--month", MONTH, "--page", str(page)]).exit_code == 0
    text = page.read_text("utf-8")
    ElementTree.fromstring(re.sub(r"<meta[^>]*>|&ensp;|<!doctype html>", "", text))  # noqa: S314
    assert not re.search(r"(?i)<script|<link|<img|\bon\w+=|src=|href=|url\(|@import|https?:", text)
    assert "nan" not in re.findall(r'(?:cx|cy|x1|y1|points)="([^"]*)"', text)


def test_the_page_shows_the_numbers_that_it_is_given_and_no_other() -> None:
    rows = [a_row(searches=4711, refused=None, confirmed=31, rejected=17), a_row(asked="GTM", searches=None)]
    page = statistics_page(rows, "SLV", months_to(MONTH, 3), suppressed=True)
    assert "4,711" in page
    assert "GTM asked us" not in page
    assert ">—<" in page
    assert statistics_page([], "SLV", (MONTH,), suppressed=False).count("<svg") == 6


def test_a_log_of_several_countries_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    store = LogStore.open(tmp_path, create=True)
    AuditLog(store).append_all([a_case().sent(), *a_case().answered(Outcome.NO_HIT, 1)])
    store.close()
    done = CliRunner().invoke(app, [str(tmp_path), "--month", MONTH])
    assert isinstance(done.exception, RequestInvalid)
    assert "several countries" in str(done.exception)
