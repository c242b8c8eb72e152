"""The outbox: kept through crashes, sent in order, one effect, erased when it is over, and logged."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from askers import Region, ScriptedPeer, answering, asked, hanging, open_log, png, world
from hypothesis import given, settings
from hypothesis import strategies as st

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act
from papilar.errors import GalleryUnknown, StorageUnavailable
from papilar.exchange.outbox import Courier, Outbox
from papilar.exchange.region import CountryAnswer, Gap, GapKind, statement
from papilar.store.outbox import OutboxStore
from papilar.store.store import FILE_NAME

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Box:
    """An outbox with a clock, and an asker that notes what it is given and answers what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.log = open_log(folder)
        self.store = OutboxStore.open(folder, create=True)
        self.outbox = Outbox(self.store, self.log, clock=self.clock)
        self.sent: list[tuple[str, str]] = []
        self.gaps: dict[str, GapKind] = {}

    def put(self, country: str = "HND", *, hours: float = 48, **given: Any) -> str:
        search = a_search(country, **given)
        self.outbox.put(search, expires=self.clock() + hours * HOUR, at=self.clock())
        return search.request_id

    def ask(self, search: peer_pb2.Search, seconds: float) -> CountryAnswer:
        country = search.asked_country
        assert search.prints[0].image == png()
        self.sent.append((search.request_id, country))
        if country in self.gaps:
            return CountryAnswer(country, gap=Gap(country, self.gaps[country], "CODE"))
        answer = peer_pb2.Answer(request_id=search.request_id, outcome=peer_pb2.OUTCOME_NO_HIT)
        return CountryAnswer(country, answer, signed=types_pb2.Signed(statement=answer.SerializeToString()))

    def deliver(self, *, after: timedelta = timedelta(minutes=1)) -> None:
        self.clock.now += after
        self.outbox.deliver_due(self.ask)

    def erasures(self) -> list[str]:
        entries = (stored.entry for stored in self.log.entries())
        return [e.code for e in entries if e is not None and e.act is Act.ERASURE]

    def close(self) -> None:
        self.store.close()
        self.log.store.close()


def a_search(country: str, **given: Any) -> peer_pb2.Search:
    prints = [types_pb2.Print(image=png(), ppi=500)]
    return statement(asked(**given), asking="SLV", country=country, prints=prints)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "gallery")
    yield box
    box.close()


def test_an_answer_that_comes_later_is_kept_for_its_officer(box: Box) -> None:
    request = box.put()
    box.gaps["HND"] = GapKind.UNREACHABLE
    box.deliver()
    assert box.outbox.answers(request, officer="e7") == ([], ["HND"])
    del box.gaps["HND"]
    box.deliver()
    assert box.outbox.answers(request, officer="e8") == ([], []), "another officer is told nothing"
    (late,), waits = box.outbox.answers(request, officer="e7")
    assert (late.country, late.code, waits) == ("HND", "", [])
    assert late.answer is not None
    assert late.answer.request_id == request
    box.deliver()
    assert len(box.sent) == 2, "what is settled is not sent again"
    assert box.outbox.answers(request, officer="e7")[0], "a broken connection may fetch again"
    box.deliver(after=timedelta(minutes=11))
    assert box.outbox.answers(request, officer="e7") == ([], [])


def test_prints_are_gone_once_answered_and_the_log_says_so(box: Box) -> None:
    box.put()
    assert holds_prints(box.folder)
    box.deliver()
    assert not holds_prints(box.folder)
    assert box.erasures() == ["SETTLED"]
    box.deliver()
    assert box.erasures() == ["SETTLED"]


def test_prints_are_gone_once_expired(box: Box) -> None:
    request = box.put(hours=2)
    box.gaps["HND"] = GapKind.TIMED_OUT
    box.deliver()
    box.deliver(after=2 * HOUR)
    assert len(box.sent) == 1
    assert not holds_prints(box.folder)
    assert box.erasures() == ["EXPIRED"]
    assert [late.code for late in box.outbox.answers(request, officer="e7")[0]] == ["EXPIRED"]


def test_answers_that_nobody_fetches_are_erased(box: Box) -> None:
    request = box.put()
    box.deliver()
    box.deliver(after=timedelta(days=15))
    assert box.outbox.answers(request, officer="e7") == ([], [])


def test_first_in_first_out_but_expedite_ahead(box: Box) -> None:
    requests = []
    for expedite in (False, False, True):
        requests.append(box.put(expedite=expedite))
        box.clock.now += timedelta(seconds=1)
    box.deliver()
    assert [request for request, _ in box.sent] == [requests[2], requests[0], requests[1]]


def test_who_is_down_is_tried_once_and_keeps_nobody_waiting(box: Box) -> None:
    box.gaps["HND"] = GapKind.UNREACHABLE
    for country in ("HND", "HND", "GTM", "HND"):
        box.put(country)
    box.deliver()
    assert sorted(country for _, country in box.sent) == ["GTM", "HND"]
    box.sent.clear()
    box.outbox.deliver_due(box.ask)
    assert box.sent == [], "it is left alone"
    waits = []
    for _ in range(8):
        started = box.clock()
        while not box.sent:
            box.deliver(after=timedelta(seconds=5))
        waits.append((box.clock() - started).total_seconds())
        box.sent.clear()
    assert waits[4] > 2 * waits[0], "ever less often"
    assert waits[-1] <= 1.5 * 15 * 60 + 5


def test_a_person_who_must_agree_stops_nobody_else(box: Box) -> None:
    box.gaps["HND"] = GapKind.NEEDS_HUMAN
    box.put()
    box.put()
    box.deliver()
    assert len(box.sent) == 2
    del box.gaps["HND"]
    box.deliver(after=timedelta(minutes=16))
    assert len(box.sent) == 4


@pytest.mark.parametrize("kind", [GapKind.REFUSED, GapKind.NOT_PERMITTED_HERE, GapKind.INVALID_ANSWER])
def test_what_will_not_change_is_not_asked_again(box: Box, kind: GapKind) -> None:
    request = box.put()
    box.gaps["HND"] = kind
    box.deliver()
    box.deliver(after=HOUR)
    assert len(box.sent) == 1
    assert [late.code for late in box.outbox.answers(request, officer="e7")[0]] == ["CODE"]
    assert not holds_prints(box.folder)


def test_put_twice_is_put_once(box: Box) -> None:
    search = a_search("HND")
    for _ in range(2):
        box.outbox.put(search, expires=box.clock() + HOUR, at=box.clock())
    box.deliver()
    assert len(box.sent) == 1


def test_there_must_be_a_gallery(tmp_path: Path) -> None:
    with pytest.raises(GalleryUnknown):
        OutboxStore.open(tmp_path)


def holds_prints(folder: Path) -> bool:
    """Return whether a file of the store holds bytes of the print."""
    return any(png()[60:120] in file.read_bytes() for file in folder.glob(f"{FILE_NAME}*"))


# ---- faults


class Killed(BaseException):
    """The process ends here."""


@settings(max_examples=25, deadline=None)
@given(at=st.integers(1, 12), searches=st.integers(1, 3))
def test_killed_at_any_transaction_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, at: int, searches: int
) -> None:
    """Each search is answered, its prints are erased, and that is logged, whenever the process ends."""
    box = Box(tmp_path_factory.mktemp("box") / "gallery")
    requests = [box.put() for _ in range(searches)]
    left = at

    def counting(original: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return original(*given, **named)

        return call

    for name in ("settle", "forget", "delay", "erase_answers"):
        setattr(box.store, name, counting(getattr(box.store, name)))
    box.log.append = counting(box.log.append)  # type: ignore[method-assign]
    try:
        box.deliver()
    except Killed:
        box.close()
        box.clock.now += HOUR
    again = Box(box.folder)
    again.clock.now = box.clock()
    again.deliver()
    for request in requests:
        answers, waits = again.outbox.answers(request, officer="e7")
        assert len(answers) == 1
        assert waits == []
    assert not holds_prints(box.folder)
    assert searches <= len(again.erasures()) <= searches + 1
    again.close()


def test_a_store_that_is_away_loses_nothing(box: Box) -> None:
    request = box.put()
    with closing(sqlite3.connect(box.folder / FILE_NAME)) as other:
        other.execute("ALTER TABLE outbox_answer RENAME TO away")
        other.commit()
        with pytest.raises(StorageUnavailable):
            box.deliver()
        assert holds_prints(box.folder)
        other.execute("ALTER TABLE away RENAME TO outbox_answer")
        other.commit()
    box.deliver()
    assert len(box.outbox.answers(request, officer="e7")[0]) == 1


# ---- with real peers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def region(folder: Path, tmp_path: Path) -> Iterator[Region]:
    region = Region(folder, tmp_path / "gallery")
    yield region
    region.close()


def test_a_peer_that_comes_back(region: Region, tmp_path: Path) -> None:
    store = OutboxStore.open(tmp_path / "gallery", create=True)
    late = timedelta(0)
    outbox = Outbox(store, region.log, clock=lambda: datetime.now(UTC) + late)
    port = region.peer("HND", answering()).port
    region.scripted.pop().close()
    searcher = region.searcher(region.line("HND", f"127.0.0.1:{port}"), outbox=outbox)
    given = asked(seconds=0.6, keep=HOUR)
    assert searcher.collect(given).gaps == (Gap("HND", GapKind.QUEUED, "UNREACHABLE"),)
    peer = region.peer("HND", answering(7.0), port=port)
    time.sleep(0.3)
    late = timedelta(seconds=30)
    outbox.deliver_due(lambda search, seconds: searcher.ask(search, seconds=5))
    (came,), waits = outbox.answers(given.request_id, officer="e7")
    assert waits == []
    assert came.answer is not None
    assert [one.score for one in came.answer.candidates] == [7.0]
    assert peer.asked[0].request_id == given.request_id
    store.close()


def test_the_law_is_asked_again_when_it_is_sent_later(region: Region) -> None:
    peer = region.peer("HND", answering(7.0))
    rules = (
        '@id("no")\n@reads("Nothing leaves now.")\n@code("NO_MORE")\nforbid(principal, action, resource);\n'
    )
    came = region.searcher(peer, rules=rules).ask(a_search("HND"), seconds=2)
    assert came.gap == Gap("HND", GapKind.NOT_PERMITTED_HERE, "NO_MORE")
    assert peer.asked == []


def test_what_is_queued_waits_for_who_hangs_and_for_persons(region: Region, tmp_path: Path) -> None:
    store = OutboxStore.open(tmp_path / "gallery", create=True)
    outbox = Outbox(store, region.log)
    peers = region.peer("HND", hanging), region.peer("GTM", answering(outcome=peer_pb2.OUTCOME_NEEDS_HUMAN))
    given = asked(seconds=0.6, keep=HOUR)
    result = region.searcher(*peers, outbox=outbox).collect(given)
    assert set(result.gaps) == {
        Gap("HND", GapKind.QUEUED, "TIMED_OUT"),
        Gap("GTM", GapKind.QUEUED, "NEEDS_HUMAN"),
    }
    assert outbox.answers(given.request_id, officer="e7") == ([], ["GTM", "HND"])
    store.close()


def test_the_courier_delivers_and_stops(box: Box) -> None:
    request = box.put()
    box.clock.now += HOUR
    courier = Courier(box.outbox, box.ask)
    courier.start()
    ends = time.monotonic() + 5
    while time.monotonic() < ends and not box.sent:
        time.sleep(0.02)
    courier.stop()
    assert len(box.outbox.answers(request, officer="e7")[0]) == 1


CHILD = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
sys.path[:0] = {path!r}
from askers import Region, asked
from papilar.exchange.outbox import Outbox
from papilar.store.outbox import OutboxStore

folder, gallery, address, request = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
region = Region(folder, gallery)
store = OutboxStore.open(gallery, create=True)
outbox = Outbox(store, region.log, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
searcher = region.searcher(region.line("HND", address), outbox=outbox)
search = searcher._plan(asked(request_id=request)).searches["HND"]
outbox.put(search, expires=datetime.now(UTC) + timedelta(hours=1), at=datetime.now(UTC))
print("kept", flush=True)
outbox.deliver_due(lambda search, seconds: searcher.ask(search, seconds=30))
"""


def test_kill_9_while_it_is_sent(region: Region, folder: Path, tmp_path: Path) -> None:
    """Killed with the call under way, the next process sends the same search again: it has one effect."""
    effects: set[str] = set()

    def script(
        peer: ScriptedPeer, search: peer_pb2.Search, context: Any
    ) -> Iterator[peer_pb2.SearchResponse]:
        effects.add(search.request_id)
        if len(peer.asked) == 1:
            peer.hang(context)
        yield from answering(7.0)(peer, search, context)

    peer, gallery, request = region.peer("HND", script), tmp_path / "killed", str(uuid.uuid4())
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[3])]
    given_to_child = [str(folder), str(gallery), peer.address, request]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(path=path), *given_to_child], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "kept\n"
    ends = time.monotonic() + 10
    while not peer.asked and time.monotonic() < ends:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert holds_prints(gallery)

    again = Region(folder, gallery)
    store = OutboxStore.open(gallery, create=True)
    outbox = Outbox(store, again.log, clock=lambda: datetime.now(UTC) + timedelta(minutes=2))
    searcher = again.searcher(again.line("HND", peer.address))
    outbox.deliver_due(lambda search, seconds: searcher.ask(search, seconds=10))
    (came,), waits = outbox.answers(request, officer="e7")
    assert (came.code, waits) == ("", [])
    assert effects == {request}
    assert len(peer.asked) == 2
    assert not holds_prints(gallery)
    assert [e.code for e in again.entries() if e.act is Act.ERASURE] == ["SETTLED"]
    store.close()
    again.close()
