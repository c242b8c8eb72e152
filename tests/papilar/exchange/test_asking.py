"""The side that asks, over real sockets and mutual TLS: who answered, who did not, why, and in what time."""

import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from askers import (
    ASKING,
    CALIBRATION,
    PERMIT,
    Region,
    ScriptedPeer,
    answering,
    asked,
    candidate,
    hanging,
    png,
    progress,
    refusing,
    world,
)

from enroll.image import GrayImage, encode_png
from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Act, Outcome, Side
from papilar.errors import RequestInvalid
from papilar.exchange import calls
from papilar.exchange.region import Gap, GapKind, share_of_rate
from papilar.requests import PrintInput

Responses = Iterator[peer_pb2.SearchResponse]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def region(folder: Path, tmp_path: Path) -> Iterator[Region]:
    region = Region(folder, tmp_path / "log")
    yield region
    region.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries follow each other sooner than in earnest."""
    monkeypatch.setattr(calls, "_BACK_OFF", 0.02)


@cache
def large() -> bytes:
    """Return an image of 250 kilobytes: 40 of them are more than gRPC takes by default."""
    pixels = np.random.default_rng(5).integers(0, 255, (500, 500), np.uint8)
    return encode_png(GrayImage(pixels, 500.0, ""))


def timed(call: Any) -> tuple[Any, float]:
    started = time.monotonic()
    return call(), time.monotonic() - started


# ---- the sum of it


def test_one_hangs_one_refuses_one_answers(region: Region) -> None:
    peers = region.peer("HND", hanging), region.peer("GTM", refusing), region.peer("CRI", answering(9.5, 6.0))
    searcher = region.searcher(*peers)
    result, seconds = timed(lambda: searcher.collect(asked(seconds=1.5)))
    assert seconds < 1.75
    assert [(one.country, one.candidate.score) for one in result.candidates] == [("CRI", 9.5), ("CRI", 6.0)]
    assert set(result.gaps) == {
        Gap("HND", GapKind.TIMED_OUT, "DEADLINE_PASSED"),
        Gap("GTM", GapKind.REFUSED, "PURPOSE_NOT_COVERED"),
    }
    assert not result.complete
    assert result.comparable


def test_answers_come_as_they_come(region: Region) -> None:
    def late(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield progress(search)
        time.sleep(0.6)
        yield from answering(8.0)(peer, search, context)

    searcher = region.searcher(region.peer("HND", late), region.peer("GTM", answering()))
    started = time.monotonic()
    seen = [(came.country, time.monotonic() - started) for came in searcher.search(asked())]
    assert [country for country, _ in seen] == ["GTM", "HND"]
    assert seen[0][1] < 0.5 < seen[1][1]


def test_candidates_of_all_countries_are_one_list(region: Region) -> None:
    peers = region.peer("HND", answering(7.0, 5.0)), region.peer("GTM", answering(6.0))
    other = region.peer("CRI", answering(9.0, calibration_id="another-2"))
    result = region.searcher(*peers, other).collect(asked())
    assert [one.candidate.score for one in result.candidates] == [9.0, 7.0, 6.0, 5.0]
    marked = {one.country: one.comparable for one in result.candidates}
    assert marked == {"CRI": False, "HND": True, "GTM": True}
    assert result.candidates[0].calibration_id == "another-2"
    assert not result.comparable
    assert result.complete


def test_the_rate_is_shared(region: Region) -> None:
    peers = [region.peer(country, answering()) for country in ("HND", "GTM", "CRI")]
    region.searcher(*peers).collect(asked(target_fpir=0.03))
    for peer in peers:
        assert 1 - (1 - peer.asked[0].target_fpir) ** 3 == pytest.approx(0.03, rel=1e-9)
    assert share_of_rate(1e-9, 1) == pytest.approx(1e-9)


def test_what_is_sent_is_each_countrys_own_and_clean(region: Region) -> None:
    peers = region.peer("HND", answering()), region.peer("GTM", answering())
    region.searcher(*peers).collect(asked(ordering_officer="o12"))
    for peer in peers:
        (search,) = peer.asked
        assert (search.asking_country, search.asked_country) == (ASKING, peer.country)
        assert (search.officer, search.ordering_officer, search.reason) == ("e7", "o12", "ARREST")
        assert search.prints[0].ppi == 500
    assert peers[0].asked[0].request_id == peers[1].asked[0].request_id


def test_our_own_gallery_is_searched_along(region: Region) -> None:
    def own(search: peer_pb2.Search, *, deadline: float) -> peer_pb2.Answer:
        assert 1 - (1 - search.target_fpir) ** 2 == pytest.approx(0.01)
        outcome = peer_pb2.OUTCOME_CANDIDATES
        return peer_pb2.Answer(
            outcome=outcome, candidates=[candidate(8.5)], complete=True, calibration_id=CALIBRATION
        )

    searcher = region.searcher(region.peer("HND", answering(7.0)), own=own)
    result = searcher.collect(asked())
    assert [one.country for one in result.candidates] == [ASKING, "HND"]
    assert {e.side for e in region.entries() if e.outcome is Outcome.CANDIDATES} == {Side.ASKING, Side.OWN}


def test_our_own_gallery_does_not_wait_for_who_hangs(region: Region) -> None:
    def own(search: peer_pb2.Search, *, deadline: float) -> peer_pb2.Answer:
        return peer_pb2.Answer(outcome=peer_pb2.OUTCOME_NO_HIT, complete=True)

    searcher = region.searcher(region.peer("HND", hanging), own=own)
    answers = searcher.search(asked(seconds=2))
    first, seconds = timed(lambda: next(answers))
    assert first.country == ASKING
    assert seconds < 1
    answers.close()


# ---- the law, and the log


def test_our_law_comes_first(region: Region) -> None:
    rules = PERMIT + (
        '@id("not-hnd") @reads("We ask Honduras nothing.") @code("NOT_HND")\n'
        'forbid(principal, action, resource) when { context.peer == Country::"HND" };\n'
    )
    silent, heard = region.peer("HND", answering()), region.peer("GTM", answering())
    result = region.searcher(silent, heard, rules=rules).collect(asked(target_fpir=0.01))
    assert result.gaps == (Gap("HND", GapKind.NOT_PERMITTED_HERE, "NOT_HND"),)
    assert silent.asked == []
    assert heard.asked[0].target_fpir == pytest.approx(0.01), "the rate is shared by those that are asked"
    refused = next(e for e in region.entries() if e.act is Act.REFUSAL)
    assert (refused.asked, refused.code, refused.policy_version) == ("HND", "NOT_HND", "3")


def test_both_the_asking_and_the_answer_are_logged(region: Region) -> None:
    peer = region.peer("HND", answering(7.0))
    given = asked(ordering_officer="o12")
    region.searcher(peer).collect(given)
    sent, came = (e for e in region.entries() if e.request_id == given.request_id)
    assert (sent.side, sent.act, sent.outcome) == (Side.ASKING, Act.DISCLOSURE, Outcome.DONE)
    assert (came.act, came.outcome) == (Act.CONSULTATION, Outcome.CANDIDATES)
    for entry in (sent, came):
        assert (entry.asking, entry.asked) == (ASKING, "HND")
        assert (entry.officer, entry.ordering_officer, entry.case_reference) == ("e7", "o12", "2026/SS-114")
        assert (entry.purpose, entry.legal_basis) == ("CRIMINAL_INVESTIGATION", "COURT_ORDER")
        assert (entry.offence_class, entry.search_type, entry.reason) == ("SERIOUS", "TP_TP", "ARREST")
    assert sent.policy_version == "3"
    assert came.policy_version == "5"
    assert sent.sent[1] == came.sent[1], "what was asked and what was answered have one digest"


def test_nothing_leaves_that_the_log_does_not_hold(region: Region) -> None:
    peer = region.peer("HND", answering())
    searcher = region.searcher(peer)
    region.log.append_all = lambda entries: (_ for _ in ()).throw(OSError)  # type: ignore[method-assign]
    with pytest.raises(OSError):
        searcher.collect(asked())
    assert peer.asked == []


@pytest.mark.parametrize(
    "given",
    [
        {"limit": 0},
        {"target_fpir": 0.5},
        {"reason": "no code"},
        {"officer": "Ana Lopez"},
        {"prints": ()},
        {"prints": (PrintInput(),)},
        {"countries": ("honduras",)},
        {"request_id": "1"},
    ],
)
def test_what_cannot_be_asked(region: Region, given: dict[str, Any]) -> None:
    peer = region.peer("HND", answering())
    with pytest.raises(RequestInvalid):
        region.searcher(peer).collect(asked(**given))
    assert peer.asked == []


def test_a_country_that_is_no_peer_is_a_gap(region: Region) -> None:
    result = region.searcher(region.peer("HND", answering())).collect(asked(countries=("HND", "MEX", ASKING)))
    missing = GapKind.UNREACHABLE, "NO_SUCH_PEER"
    assert result.gaps == (Gap("MEX", *missing), Gap(ASKING, *missing))


# ---- peers that are down, late or odd


def test_a_peer_that_is_down(region: Region, quick: None) -> None:
    gone = region.line("HND", "127.0.0.1:1")
    searcher = region.searcher(gone, region.peer("GTM", answering(5.0)))
    result, seconds = timed(lambda: searcher.collect(asked(seconds=10)))
    assert result.gaps == (Gap("HND", GapKind.UNREACHABLE, "NODE_UNREACHABLE"),)
    assert seconds < 4, "it is given up before the deadline"
    assert len(result.candidates) == 1
    for _ in range(2):
        searcher.collect(asked(seconds=3))
    result, seconds = timed(lambda: searcher.collect(asked(seconds=3)))
    assert result.gaps[0].kind is GapKind.UNREACHABLE
    assert seconds < 0.5, "its breaker is open"


def test_a_silent_call_is_tried_beside_on_another_line(region: Region) -> None:
    silent, quick = region.peer("HND", hanging), region.peer("HND", answering(7.0))
    line = region.line("HND", silent.address, quick.address, patience=0.3)
    result, seconds = timed(lambda: region.searcher(line).collect(asked()))
    assert [one.candidate.score for one in result.candidates] == [7.0]
    assert 0.3 <= seconds < 1.5
    assert len(silent.asked) == len(quick.asked) == 1
    first, second = silent.asked[0], quick.asked[0]
    assert first.request_id == second.request_id


def test_a_peer_with_one_address_gets_a_second_connection(region: Region) -> None:
    came = []

    def first_hangs(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        came.append(context.peer())
        yield from (hanging if len(came) == 1 else answering(7.0))(peer, search, context)

    peer = region.peer("HND", first_hangs)
    result = region.searcher(region.line("HND", peer.address, patience=0.3)).collect(asked())
    assert len(result.candidates) == 1
    assert len(set(came)) == 2, "two connections"


def test_progress_keeps_a_slow_search_from_being_asked_twice(region: Region) -> None:
    def slow(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        for _ in range(6):
            yield progress(search)
            time.sleep(0.15)
        yield from answering(7.0)(peer, search, context)

    peer = region.peer("HND", slow)
    result = region.searcher(region.line("HND", peer.address, patience=0.4)).collect(asked())
    assert len(peer.asked) == len(result.candidates) == 1


def test_a_stream_that_ends_early_is_asked_again(region: Region, quick: None) -> None:
    def once_cut(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield progress(search)
        if len(peer.asked) > 1:
            yield from answering(7.0)(peer, search, context)

    peer = region.peer("HND", once_cut)
    result = region.searcher(peer).collect(asked())
    assert len(peer.asked) == 2
    assert [one.country for one in result.candidates] == ["HND"]


def test_a_node_that_stops_in_mid_stream(region: Region, quick: None) -> None:
    def aborting(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield progress(search)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Ana Lopez, born 1990")

    result = region.searcher(region.peer("HND", aborting)).collect(asked())
    assert result.gaps == (Gap("HND", GapKind.UNREACHABLE, "NODE_UNREACHABLE"),)
    assert "Lopez" not in str(region.entries()), "what a peer writes into an error goes nowhere"


def test_details_of_an_error_that_are_garbage(region: Region, quick: None) -> None:
    def garbage(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield progress(search)
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.INTERNAL, "no")

    result = region.searcher(region.peer("HND", garbage)).collect(asked())
    assert result.gaps == (Gap("HND", GapKind.UNREACHABLE, "NODE_FAILED"),)


def test_a_flood_of_progress(region: Region) -> None:
    def flood(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        while context.is_active():
            yield progress(search)

    searcher = region.searcher(region.peer("HND", flood))
    result, seconds = timed(lambda: searcher.collect(asked(seconds=5)))
    assert seconds < 5.25
    assert result.gaps[0].kind in (GapKind.INVALID_ANSWER, GapKind.TIMED_OUT)


def test_a_huge_message_is_not_taken(region: Region) -> None:
    peer = region.peer("HND", answering(padding=bytes(3_000_000)))
    line = region.line("HND", peer.address, max_message_bytes=1_000_000)
    result = region.searcher(line).collect(asked())
    assert result.gaps == (Gap("HND", GapKind.INVALID_ANSWER, "ANSWER_INVALID"),)
    assert len(peer.asked) == 1, "it is not asked for again"


@pytest.mark.parametrize("at", ["ours", "theirs"])
def test_a_search_that_is_too_large_to_send(region: Region, at: str) -> None:
    most = {"ours": 30_000, "theirs": 40_000_000}[at]
    peer = region.peer("HND", answering())
    count = 3 if at == "ours" else 40
    prints = tuple(PrintInput(image=large() if at == "theirs" else png(n)) for n in range(count))
    line = region.line("HND", peer.address, max_message_bytes=most)
    result = region.searcher(line).collect(asked(prints=prints))
    assert result.gaps == (Gap("HND", GapKind.REFUSED, "MESSAGE_TOO_LARGE"),)
    assert peer.asked == []


def test_quota_and_persons_are_told(region: Region) -> None:
    quota = answering(outcome=peer_pb2.OUTCOME_QUOTA, retry_after_seconds=900)
    person = answering(outcome=peer_pb2.OUTCOME_NEEDS_HUMAN)
    result = region.searcher(region.peer("HND", quota), region.peer("GTM", person)).collect(asked())
    assert set(result.gaps) == {
        Gap("HND", GapKind.QUOTA, "QUOTA", 900),
        Gap("GTM", GapKind.NEEDS_HUMAN, "NEEDS_HUMAN"),
    }


# ---- nothing is left behind


def test_nothing_leaks_when_a_peer_hangs(region: Region) -> None:
    def deaf(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        peer.free.wait(30)  # does not even notice that the caller has gone
        yield progress(search)

    searcher = region.searcher(region.line("HND", region.peer("HND", deaf).address, patience=0.1))
    before = threading.active_count()
    for _ in range(6):
        _, seconds = timed(lambda: searcher.collect(asked(seconds=0.4)))
        assert seconds < 0.65
    time.sleep(0.2)
    assert threading.active_count() - before <= calls.CALLS_AT_A_TIME + 4
    assert _free_slots(searcher.peers["HND"]) == calls.CALLS_AT_A_TIME
    _, seconds = timed(searcher.close)
    assert seconds < 1


def test_one_that_hangs_takes_no_place_from_others(region: Region) -> None:
    searcher = region.searcher(region.peer("HND", hanging), region.peer("GTM", answering(5.0)))
    done: list[float] = []

    def one() -> None:
        started = time.monotonic()
        seen = ((came.country, time.monotonic() - started) for came in searcher.search(asked(seconds=1.2)))
        done.extend(seconds for country, seconds in seen if country == "GTM")

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8
    assert max(done) < 1


def test_who_goes_away_ends_the_calls(region: Region) -> None:
    hangs = region.peer("HND", hanging)
    searcher = region.searcher(hangs, region.peer("GTM", answering()))
    given = asked(seconds=20)
    answers = searcher.search(given)
    assert next(answers).country == "GTM"
    answers.close()
    assert hangs.free.wait(20), "the peer saw the call end"
    last = region.entries()[-1]
    assert (last.asked, last.outcome, last.code) == ("HND", Outcome.UNREACHABLE, "CALLER_GONE")


def _free_slots(peer: calls.Peer[Any]) -> int:
    taken = 0
    while peer.slots.acquire(blocking=False):
        taken += 1
    for _ in range(taken):
        peer.slots.release()
    return taken
