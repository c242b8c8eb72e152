"""The watch: each rule against an obvious twin, an ordinary day without findings, and the queue."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from papilar.audit.entry import Act, Entry, Outcome, Sent, Side
from papilar.commands.review import app
from papilar.errors import CallNotPermitted, GalleryUnknown, RequestInvalid
from papilar.policy.request import Purpose, SearchType
from papilar.store import Store
from papilar.store.review import Closing, ReviewStore
from papilar.watch import (
    OWN_PRINTS,
    PRINT,
    Call,
    Finding,
    Kind,
    Thresholds,
    call_of,
    findings,
    profile_quota,
)

DAY = datetime(2026, 11, 20, tzinfo=UTC)
T = Thresholds()
SMALL = Thresholds(
    cases_per_print=2,
    purposes_per_print=2,
    probes_per_case=3,
    busy_searches=4,
    busy_factor=2,
    busy_others=2,
    edge_calls=2,
    small_searches=5,
)


def at(minutes: float) -> datetime:
    return DAY + timedelta(minutes=minutes)


def a_call(minutes: float = 0, officer: str = "e7", case: str = "C-1", **more: Any) -> Call:
    prints = frozenset(more.pop("prints", ()))
    values: dict[str, Any] = {"purpose": "CRIMINAL_INVESTIGATION", "size": len(prints)} | more
    return Call(at(minutes), officer, case, prints=prints, **values)


def digest(number: int) -> str:
    return f"{number:016x}" + 48 * "0"  # the rules tell prints apart by the first 16


def why(found: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(str(one.kind), one.why) for one in found]


class TestEachRule:
    def test_nothing(self) -> None:
        assert findings([]) == ()

    def test_ones_own_prints(self) -> None:
        calls = [a_call(1), a_call(2, own=True), a_call(3, "o4")]
        assert findings(calls) == (
            Finding(Kind.SELF_SEARCH, "e7", at(2), at(2), 1, "the officer's own prints"),
        )

    def test_the_same_print_again_under_another_case(self) -> None:
        card = [digest(n) for n in range(1, 11)]
        first = a_call(1, prints=card, case="C-1")
        assert findings([first, a_call(2, prints=card, case="C-1")]) == ()
        assert findings([first, a_call(2, "o4", prints=card, case="C-2")]) == (), "another officer"
        (found,) = findings([first, a_call(2, prints=card, case="C-2")])
        assert (found.kind, found.count, found.since, found.until) == (Kind.SELF_SEARCH, 2, at(1), at(2))
        (found,) = findings([first, a_call(2, prints=[digest(99), digest(3)], case="C-2")])
        assert found.why == f"print {digest(3)[:16]} under several cases", "one of the ten is enough"

    def test_many_prints_under_one_case(self) -> None:
        calls = [a_call(n, prints=[digest(n), digest(n + 500)]) for n in range(T.probes_per_case)]
        again = a_call(999, prints=[digest(1), digest(501)])
        assert findings(calls[1:]) == findings([*calls[1:], again]) == ()
        (found,) = findings(calls)
        assert (found.kind, found.count) == (Kind.FISHING, T.probes_per_case)
        assert found.why == "different probes under case C-1 on 2026-11-20"

    def test_far_above_the_others(self) -> None:
        others = [a_call(n, f"o{n % 3}", f"C-{n}", prints=[digest(n), digest(n + 500)]) for n in range(30)]
        mine = [
            a_call(n, "e7", f"C-{1000 + n}", prints=[digest(1000 + n), digest(3000 + n)]) for n in range(60)
        ]
        (found,) = findings([*others, *mine])
        assert (found.kind, found.officer, found.count) == (Kind.FISHING, "e7", 60)
        assert findings([*others, *mine[1:]]) == ()
        assert findings(mine) == (), "alone there is nobody to compare with"
        assert findings([c for c in others if c.officer != "o0"] + mine) == (), "two are no median"

    def test_one_print_for_many_purposes(self) -> None:
        calls = [a_call(n, prints=[digest(1)], purpose=p.upper()) for n, p in enumerate(Purpose)]
        assert findings(calls[:2]) == ()
        (found,) = findings(calls[:3])
        assert (found.kind, found.count, found.why[:5]) == (Kind.FISHING, 3, "print")

    def test_at_the_quota_and_over_it(self) -> None:
        def asked(number: int, of: int) -> list[Call]:
            return [
                a_call(
                    n,
                    case=f"C-{n}",
                    prints=[digest(2 * n), digest(2 * n + 1)],
                    asked="HND",
                    search_type="LT_UL",
                    refused=n >= of,
                )
                for n in range(number)
            ]

        assert findings(asked(7, 5)) == (), "the last one, a refusal and one more try"
        (found,) = findings(asked(8, 5))
        assert (found.kind, found.count) == (Kind.QUOTA_PROBING, 4)
        assert found.why == "at or over the quota of HND for LT_UL on 2026-11-20"
        days = [c._replace(time=c.time + timedelta(days=n)) for n, c in enumerate(asked(20, 20))]
        assert findings(days) == ()

    def test_what_is_granted_beyond_the_profile_counts_as_the_law_says(self) -> None:
        calls = [
            a_call(n, case=f"C-{n}", prints=[digest(n)], asked="HND", search_type="LT_UL") for n in range(12)
        ]
        assert [one.count for one in findings(calls)] == [8]
        assert findings(calls, quotas=lambda asked, kind: 50) == ()

    def test_many_small_searches(self) -> None:
        calls = [a_call(n, case=f"C-{n}", prints=[digest(n)]) for n in range(T.small_searches)]
        assert findings(calls[1:]) == ()
        (found,) = findings(calls)
        assert (found.kind, found.count) == (Kind.QUOTA_PROBING, 60)

    def test_the_quotas_of_the_profile(self) -> None:
        assert [profile_quota("HND", kind) for kind in SearchType] == [100, 100, 20, 5, 100, 20, 5]
        assert profile_quota("", "") is profile_quota("HND", "NONE") is None


# ---- against an obvious twin, and below the thresholds

CALLS = st.lists(
    st.builds(
        lambda minute, officer, case, prints, purpose, elsewhere, own, refused: a_call(
            minute,
            officer,
            case,
            prints=[digest(n) for n in prints],
            purpose=purpose,
            asked="HND" if elsewhere else "",
            search_type="LT_UL" if elsewhere else "",
            own=own,
            refused=refused and elsewhere,
        ),
        st.integers(0, 3000),
        st.sampled_from(["e1", "e2", "e3", "e4"]),
        st.sampled_from(["C-1", "C-2", "C-3"]),
        st.sets(st.integers(0, 6), max_size=3),
        st.sampled_from(["BORDER", "ASYLUM"]),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
        st.booleans(),
    ),
    max_size=30,
    unique_by=lambda call: call.time,
)


def naive(calls: list[Call], t: Thresholds) -> set[tuple[str, str, int]]:
    """Kind, officer and count of what is to be found, written down once more."""
    found: set[tuple[str, str, int]] = set()

    def note(kind: Kind, officer: str, count: int, least: float) -> None:
        if count >= least:
            found.add((str(kind), officer, count))

    officers = {c.officer for c in calls}
    days = {c.time.date() for c in calls}
    for officer in officers:
        mine = [c for c in calls if c.officer == officer]
        note(Kind.SELF_SEARCH, officer, sum(c.own for c in mine), t.own_prints)
        for one in {p for c in mine for p in c.prints}:
            with_it = [c for c in mine if one in c.prints]
            note(Kind.SELF_SEARCH, officer, len({c.case_reference for c in with_it}), t.cases_per_print)
            note(Kind.FISHING, officer, len({c.purpose for c in with_it}), t.purposes_per_print)
        for day in days:
            today = [c for c in mine if c.time.date() == day]
            for case in {c.case_reference for c in today}:
                probes = {c.prints for c in today if c.case_reference == case and c.prints}
                note(Kind.FISHING, officer, len(probes), t.probes_per_case)
            searches = {
                o: sum(bool(c.prints) for c in calls if c.officer == o and c.time.date() == day)
                for o in officers
            }
            others = [n for o, n in searches.items() if o != officer and n]
            if len(others) >= t.busy_others and searches[officer]:
                least = max(t.busy_searches, t.busy_factor * median(others))
                note(Kind.FISHING, officer, searches[officer], least)
            edge = 0
            for c in today:
                of_day = [d for d in calls if d.asked and d.time.date() == day and d.time <= c.time]
                edge += bool(c.asked) and (c.refused or sum(not d.refused for d in of_day) >= 5)
            note(Kind.QUOTA_PROBING, officer, edge, t.edge_calls)
            note(Kind.QUOTA_PROBING, officer, sum(len(c.prints) == 1 for c in today), t.small_searches)
    return found


@settings(max_examples=150, deadline=None)
@given(CALLS)
def test_as_an_obvious_twin(calls: list[Call]) -> None:
    found = findings(calls, thresholds=SMALL)
    assert {(str(one.kind), one.officer, one.count) for one in found} == naive(calls, SMALL)
    assert found == findings(reversed(calls), thresholds=SMALL)
    for one in found:
        own = [c.time for c in calls if c.officer == one.officer]
        assert one.since in own
        assert one.until in own
        assert one.since <= one.until


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1439), st.integers(1, 10), st.integers(0, 4)), max_size=150))
def test_below_the_thresholds_there_is_nothing(day: list[tuple[int, int, int]]) -> None:
    """Every probe is new and belongs to its case; five officers share the work of one day."""
    per_officer: dict[int, int] = {}
    calls = []
    for number, (minute, size, officer) in enumerate(day):
        done = per_officer[officer] = per_officer.get(officer, 0) + 1
        if done < T.busy_searches:
            prints = [digest(100 * number + n) for n in range(size)]
            calls.append(a_call(minute, f"e{officer}", f"C-{officer}-{done // 30}", prints=prints))
    assert findings(calls) == ()


def ordinary_day(seed: int) -> list[Call]:
    """A laboratory: bookings at two desks, latents of a dozen cases, each searched more than once."""
    dice = random.Random(seed)  # noqa: S311
    fresh = iter(range(seed * 10_000, (seed + 1) * 10_000))
    calls = []
    for desk in ("o1", "o2"):
        for booking in range(dice.randint(15, 45)):
            card = [digest(next(fresh)) for _ in range(10)]
            for again in range(dice.choice([1, 1, 1, 2])):  # the first image was mirrored, say
                minute = 400 + 10 * booking + again
                calls.append(a_call(minute, desk, f"{desk.upper()}-{seed}-{booking}", prints=card))
    for number, examiner in enumerate(["e1", "e2", "e3", "e4"]):
        for case in range(dice.randint(1, 4)):
            latents = [digest(next(fresh)) for _ in range(dice.randint(1, 8))]
            for latent in latents:
                elsewhere = dice.random() < 0.3 and number < 2
                where = {"asked": "HND", "search_type": "LT_TP"} if elsewhere else {}
                name = f"L-{seed}-{number}-{case}"
                calls.append(a_call(dice.randint(400, 900), examiner, name, prints=[latent], **where))
                calls.append(a_call(dice.randint(900, 1000), examiner, name, prints=[latent]))
                calls.append(a_call(1001, examiner, name))  # looks at an encounter
    return [c._replace(time=c.time + timedelta(days=seed)) for c in calls]


def test_no_finding_in_an_ordinary_month_of_a_laboratory() -> None:
    calls = [call for seed in range(28) for call in ordinary_day(seed)]
    assert len(calls) > 3000
    assert findings(calls) == ()


@pytest.mark.parametrize("kind", Kind)
def test_what_is_wrong_is_found_among_an_ordinary_month(kind: Kind) -> None:
    calls = [call for seed in range(28) for call in ordinary_day(seed)]
    wrong = {
        Kind.SELF_SEARCH: [calls[70]._replace(time=at(9000), case_reference="X-1")],
        Kind.FISHING: [a_call(n, "o1", "X-1", prints=[digest(9**9 + n), digest(n)]) for n in range(41)],
        Kind.QUOTA_PROBING: [
            a_call(n, "e3", f"X-{n}", prints=[digest(9**9 + n)], asked="GTM", search_type="LT_UL")
            for n in range(12)
        ],
    }[kind]
    found = findings([*calls, *wrong])
    assert kind in {one.kind for one in found}
    assert {one.officer for one in found} <= {call.officer for call in wrong}


# ---- out of the log


def an_entry(**changed: Any) -> Entry:
    values: dict[str, Any] = {
        "time": DAY,
        "side": Side.OWN,
        "act": Act.CONSULTATION,
        "outcome": Outcome.CANDIDATES,
        "officer": "e7",
        "justification": "ARREST, by court_order",
        "purpose": "BORDER",
        "case_reference": "C-1",
        "sent": (Sent(PRINT, 1, digest(1)), Sent(PRINT, 1, digest(2)), Sent(OWN_PRINTS, 1)),
    }
    return Entry(**values | changed)


class TestCallOfAnEntry:
    def test_a_search(self) -> None:
        expected = a_call(purpose="BORDER", prints=[digest(1), digest(2)], own=True)
        assert call_of(an_entry()) == expected

    def test_a_search_elsewhere_that_was_over_the_quota(self) -> None:
        parties = {"asking": "SLV", "asked": "HND", "request_id": "r", "search_type": "LT_UL"}
        call = call_of(an_entry(side=Side.ASKING, outcome=Outcome.QUOTA, sent=(Sent(PRINT, 1),), **parties))
        assert call is not None
        assert (call.asked, call.search_type, call.refused) == ("HND", "LT_UL", True)
        assert (call.prints, call.size, call.own) == (frozenset(), 1, False)
        assert call_of(an_entry(side=Side.ASKED, **parties)) is None

    @pytest.mark.parametrize("act", [Act.REFUSAL, Act.COLLECTION, Act.ERASURE])
    def test_what_is_not_watched(self, act: Act) -> None:
        assert call_of(an_entry(act=act)) is None
        assert call_of(an_entry(purpose="")) is None


# ---- the queue

FOUND = Finding(Kind.FISHING, "e7", at(1), at(9), 40, "different probes under case C-1 on 2026-11-20")
CLOSING = Closing("s2", at(100), "a fire with 40 dead")


@pytest.fixture
def queue(target: Path | str) -> Iterator[ReviewStore]:
    """The queue of a new gallery, once on each data base."""
    with Store.open(target, create=True, name="hn"):
        found = ReviewStore.open(target, create=True)
        yield found
        found.close()


class TestCalls:
    def test_calls_come_back_as_they_were(self, queue: ReviewStore) -> None:
        calls = [
            a_call(1, prints=[digest(1), digest(2)]),
            a_call(2, "o4", own=True),
            a_call(3, prints=[digest(1)], asked="HND", search_type="LT_UL", refused=True),
        ]
        for call in reversed(calls):
            queue.record(call)
        assert queue.calls(DAY) == calls
        assert queue.calls(at(2)) == calls[1:]

    def test_what_is_over_is_forgotten(self, queue: ReviewStore) -> None:
        for minute in range(5):
            queue.record(a_call(minute, prints=[digest(minute), digest(99)]))
        assert queue.forget(at(3)) == 3
        assert [call.time for call in queue.calls(DAY)] == [at(3), at(4)]
        assert queue.forget(at(3)) == 0

    @settings(max_examples=20, deadline=None)
    @given(CALLS)
    def test_what_is_found_is_the_same_out_of_the_store(
        self, tmp_path_factory: pytest.TempPathFactory, calls: list[Call]
    ) -> None:
        folder = tmp_path_factory.mktemp("queue")
        (folder / "papilar.sqlite3").touch()
        queue = ReviewStore.open(folder, create=True)
        for call in calls:
            queue.record(call)
        assert findings(queue.calls(DAY), thresholds=SMALL) == findings(calls, thresholds=SMALL)
        queue.close()


class TestQueue:
    def test_a_finding_is_there_once_until_it_is_closed(self, queue: ReviewStore) -> None:
        assert queue.keep([FOUND]) == 1
        assert queue.keep([FOUND]) == 0
        assert queue.keep([replace(FOUND, until=at(20), count=51)]) == 0
        (open_one,) = queue.reviews()
        assert (open_one.finding, open_one.closed) == (replace(FOUND, until=at(20), count=51), None)
        done = queue.close_review(open_one.number, CLOSING)
        assert done == queue.review(open_one.number)
        assert done.closed == CLOSING
        assert queue.reviews() == []
        assert queue.reviews(closed=True) == [done]

    def test_what_is_closed_comes_back_with_later_calls_alone(self, queue: ReviewStore) -> None:
        queue.keep([FOUND])
        queue.close_review(1, CLOSING)
        assert queue.keep([FOUND]) == 0
        assert queue.reviews() == []
        assert queue.keep([replace(FOUND, until=at(10))]) == 1
        assert [review.number for review in queue.reviews()] == [2]
        assert queue.keep([replace(FOUND, until=at(11))]) == 0

    def test_others_are_others(self, queue: ReviewStore) -> None:
        others = [
            FOUND,
            replace(FOUND, officer="e8"),
            replace(FOUND, why="another"),
            replace(FOUND, kind=Kind.SELF_SEARCH),
        ]
        assert queue.keep(others) == 4
        assert [review.finding for review in queue.reviews()] == others

    def test_nobody_closes_what_is_about_him(self, queue: ReviewStore) -> None:
        queue.keep([FOUND])
        with pytest.raises(CallNotPermitted):
            queue.close_review(1, CLOSING._replace(by="e7"))
        assert len(queue.reviews()) == 1

    @pytest.mark.parametrize(
        "closing",
        [
            *(CLOSING._replace(by=by) for by in ("", "Eva Luna", "e7 ", "'; --", "E7", "e7\n")),
            *(CLOSING._replace(note=note) for note in ("", "a\nb", "\x1b[2J", "a" * 501)),
        ],
    )
    def test_who_and_why_are_of_their_form(self, queue: ReviewStore, closing: Closing) -> None:
        queue.keep([FOUND])
        with pytest.raises(RequestInvalid):
            queue.close_review(1, closing)
        assert len(queue.reviews()) == 1

    def test_numbers_that_are_not_there(self, queue: ReviewStore) -> None:
        queue.keep([FOUND])
        queue.close_review(1, CLOSING)
        for number in (1, 2):
            with pytest.raises(RequestInvalid):
                queue.close_review(number, CLOSING)
        with pytest.raises(RequestInvalid):
            queue.review(2)
        assert queue.review(1).closed == CLOSING

    def test_hostile_text_is_text(self, queue: ReviewStore) -> None:
        odd = replace(FOUND, why="'; DROP TABLE review_finding; --")
        assert queue.keep([odd]) == 1
        queue.close_review(1, CLOSING._replace(note="'); DELETE FROM review_call; --"))
        assert queue.review(1).finding == odd

    def test_where_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(GalleryUnknown):
            ReviewStore.open(tmp_path / "absent")
        (tmp_path / "papilar.sqlite3").touch()
        with pytest.raises(GalleryUnknown):
            ReviewStore.open(tmp_path)


# ---- the command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    (tmp_path / "papilar.sqlite3").touch()
    queue = ReviewStore.open(tmp_path, create=True)
    now = datetime.now(UTC)
    for days in (0, 1, 27, 29, 60):
        queue.record(a_call(own=True)._replace(time=now - timedelta(days=days)))
    queue.close()
    return tmp_path


class TestCommand:
    def test_from_watching_to_closing(self, gallery: Path) -> None:
        first, again = run("watch", gallery, "--json"), run("watch", gallery, "--json")
        assert (first.exit_code, again.exit_code) == (1, 0)
        assert json.loads(first.stdout) == {"calls": 3, "new findings": 1, "calls forgotten": 2}
        assert json.loads(again.stdout) == {"calls": 3, "new findings": 0, "calls forgotten": 0}
        assert "the officer's own prints" in run("list", gallery).stdout
        shown = json.loads(run("show", gallery, 1, "--json").stdout)
        assert (shown["officer"], shown["count"], shown["state"]) == ("e7", 3, "open")
        done = run("close", gallery, 1, "--by", "s2", "--note", "[red]test print[/]")
        assert done.exit_code == 0
        assert "[red]test print[/]" in done.stdout
        assert json.loads(run("list", gallery, "--json").stdout) == []
        (closed,) = json.loads(run("list", gallery, "--closed", "--json").stdout)
        assert (closed["state"], closed["closed by"]) == ("closed", "s2")
        assert run("watch", gallery).exit_code == 0

    def test_what_cannot_be_closed(self, gallery: Path) -> None:
        run("watch", gallery)
        assert isinstance(run("close", gallery, 1, "--by", "e7", "--note", "x").exception, CallNotPermitted)
        assert isinstance(run("close", gallery, 7, "--by", "s2", "--note", "x").exception, RequestInvalid)
        assert run("close", gallery, 1, "--by", "s2").exit_code == 2
