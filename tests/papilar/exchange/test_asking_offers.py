"""What a peer says that it offers, over real sockets: asked once a day, and what it rules out is not sent."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from askers import PERMIT, Region, ScriptedPeer, answering, asked, description, signer, world

from enroll.pipeline import EXTRACTOR
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Outcome
from papilar.errors import AnswerInvalid, NodeUnreachable, NotPermitted, RequestInvalid
from papilar.exchange import asking
from papilar.exchange.asking import FederatedSearcher
from papilar.exchange.outbox import Outbox
from papilar.exchange.region import Gap, GapKind
from papilar.exchange.seal import seal, stamp
from papilar.signing import Signer
from papilar.store.outbox import OutboxStore

NOTHING_OF_NODES = PERMIT + (
    '@id("no") @reads("Nothing about nodes.") @code("NOT_OF_NODES")\n'
    'forbid(principal, action in [Action::"describe", Action::"statistics"], resource);\n'
)


class Describing(ScriptedPeer):
    """Says what it offers, with changes, under the seal of a test's choice."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "HND", answering(7.0))
        self.changes: dict[str, Any] = {}
        self.counters: dict[str, Any] = {}
        self.by: Signer = self.signer
        self.described = self.counted = 0

    def DescribeNode(self, request: peer_pb2.DescribeNodeRequest, context: Any) -> Any:  # noqa: N802
        self.described += 1
        said = description("HND", **self.changes)
        return peer_pb2.DescribeNodeResponse(description=seal("description", said, self.by))

    def GetStatistics(self, request: peer_pb2.GetStatisticsRequest, context: Any) -> Any:  # noqa: N802
        self.counted += 1
        values = {"country": "HND", "peer": "SLV", "month": request.month} | self.counters
        said = peer_pb2.Statistics(**values, create_time=stamp(datetime.now(UTC)))
        return peer_pb2.GetStatisticsResponse(statistics=seal("statistics", said, self.by))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def region(folder: Path, tmp_path: Path) -> Iterator[Region]:
    region = Region(folder, tmp_path / "log")
    yield region
    region.close()


@pytest.fixture
def hnd(region: Region) -> Describing:
    region.scripted.append(peer := Describing(region.folder))
    return peer


def look(searcher: FederatedSearcher) -> peer_pb2.NodeDescription | None:
    """Let the peers say what they offer, where that is due."""
    searcher.look_at_offers()
    searcher._beside.submit(lambda: None).result()
    return searcher.offer("HND")


def test_a_type_that_is_not_offered_is_not_sent(region: Region, hnd: Describing) -> None:
    hnd.changes = {"quotas": [peer_pb2.Quota(search_type=types_pb2.SEARCH_TYPE_LT_TP, per_day=10)]}
    searcher = region.searcher(hnd)
    assert look(searcher) is not None
    assert searcher.collect(asked()).gaps == (Gap("HND", GapKind.REFUSED, "NOT_OFFERED"),)
    assert hnd.asked == []
    (entry,) = region.entries()
    assert (entry.act, entry.outcome, entry.code) == (Act.REFUSAL, Outcome.REFUSED, "NOT_OFFERED")


def test_more_than_a_peer_takes_is_not_sent(region: Region, hnd: Describing) -> None:
    hnd.changes = {"max_message_bytes": 10_000}
    searcher = region.searcher(hnd)
    look(searcher)
    assert searcher.collect(asked()).gaps == (Gap("HND", GapKind.REFUSED, "MESSAGE_TOO_LARGE"),)
    assert hnd.asked == []


def test_what_waits_is_not_sent_either(region: Region, hnd: Describing, tmp_path: Path) -> None:
    """It was put there while the peer still took it; it is settled, and its prints are erased."""
    late = timedelta()
    with closing(OutboxStore.open(tmp_path / "log")) as kept:
        outbox = Outbox(kept, region.log, clock=lambda: datetime.now(UTC) + late)
        searcher = region.searcher(hnd, outbox=outbox)
        hnd.script = answering(outcome=peer_pb2.OUTCOME_NEEDS_HUMAN)
        search = asked(keep=timedelta(hours=1))
        assert searcher.collect(search).gaps == (Gap("HND", GapKind.QUEUED, "NEEDS_HUMAN"),)
        hnd.changes, searcher._looked = {"quotas": []}, {}
        assert look(searcher) is not None
        late = timedelta(minutes=1)
        outbox.deliver_due(lambda one, seconds: searcher.ask(one, seconds=seconds))
        ((came,), waits) = outbox.answers(search.request_id, officer="e7")
        assert (came.code, came.answer, waits) == ("NOT_OFFERED", None, [])
    assert len(hnd.asked) == 1
    last = [(e.act, e.code) for e in region.entries()][-2:]
    assert last == [(Act.REFUSAL, "NOT_OFFERED"), (Act.ERASURE, "SETTLED")]


def test_it_is_asked_once_a_day(region: Region, hnd: Describing) -> None:
    ahead = timedelta()
    searcher = region.searcher(hnd, clock=lambda: datetime.now(UTC) + ahead)
    for _ in range(3):
        look(searcher)
        searcher.collect(asked())
    assert hnd.described == 1
    ahead = timedelta(days=1, minutes=1)
    look(searcher)
    assert hnd.described == 2
    assert searcher.offer("HND") is not None, "the last sound one stays"


def test_an_answer_lets_it_be_asked(region: Region, hnd: Describing) -> None:
    searcher = region.searcher(hnd)
    assert len(searcher.collect(asked()).candidates) == 1, "nobody waits for the description"
    searcher._beside.submit(lambda: None).result()
    assert searcher.offer("HND") is not None


def test_a_peer_that_offers_more_than_before(
    region: Region, hnd: Describing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a search from being sent is looked at again sooner, so that no peer is lost for a day."""
    monkeypatch.setattr(asking, "_OFFER_DOUBTED", timedelta())
    hnd.changes = {"quotas": []}
    searcher = region.searcher(hnd)
    look(searcher)
    hnd.changes = {}
    assert searcher.collect(asked()).gaps != ()
    searcher._beside.submit(lambda: None).result()
    assert searcher.collect(asked()).gaps == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"country": "GTM"},
        {"peer": "GTM"},
        {"create_time": stamp(datetime.now(UTC) - timedelta(minutes=6))},
        {"extractor_version": "\x1b[31m"},
        {"calibration_id": "a" * 65},
    ],
)
def test_a_description_that_does_not_fit(region: Region, hnd: Describing, changes: dict[str, Any]) -> None:
    hnd.changes = changes
    assert look(region.searcher(hnd)) is None
    assert hnd.described == 1


def test_a_description_sealed_by_another(region: Region, hnd: Describing, folder: Path) -> None:
    hnd.by = signer(folder, "GTM")
    assert look(region.searcher(hnd)) is None


def test_another_extractor_is_told(region: Region, hnd: Describing, caplog: pytest.LogCaptureFixture) -> None:
    look(region.searcher(hnd))
    assert "another extractor" in caplog.text
    assert "e-1" not in caplog.text, "what a peer writes is not logged"
    caplog.clear()
    hnd.changes = {"extractor_version": EXTRACTOR}
    look(region.searcher(hnd))
    assert "another extractor" not in caplog.text


def test_our_law_keeps_us_from_asking_what_it_offers(region: Region, hnd: Describing) -> None:
    assert look(region.searcher(hnd, rules=NOTHING_OF_NODES)) is None
    assert hnd.described == 0


# ---- counters


def test_counters_of_a_month(region: Region, hnd: Describing) -> None:
    signed = region.searcher(hnd).statistics("HND", "2026-10", seconds=5)
    assert peer_pb2.Statistics.FromString(signed.statement).month == "2026-10"


@pytest.mark.parametrize("counters", [{"month": "2026-09"}, {"peer": "GTM"}, {"country": "GTM"}])
def test_counters_that_do_not_fit(region: Region, hnd: Describing, counters: dict[str, Any]) -> None:
    hnd.counters = counters
    with pytest.raises(AnswerInvalid):
        region.searcher(hnd).statistics("HND", "2026-10", seconds=5)


def test_counters_that_are_not_asked_for(region: Region, hnd: Describing) -> None:
    with pytest.raises(RequestInvalid):
        region.searcher(hnd).statistics("HND", "October", seconds=5)
    with pytest.raises(NodeUnreachable, match="no peer"):
        region.searcher(hnd).statistics("CRI", "2026-10", seconds=5)
    with pytest.raises(NotPermitted, match="NOT_OF_NODES"):
        region.searcher(hnd, rules=NOTHING_OF_NODES).statistics("HND", "2026-10", seconds=5)
    assert hnd.counted == 0
