"""Answers that are not what they seem: every one is a named gap, and nothing of it is used."""

import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from askers import Region, ScriptedPeer, an_entry, answering, asked, candidate, png, progress, signer, world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trials import DAY, user

from matcher.errors import PapilarError
from papilar import pki
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Outcome
from papilar.audit.heads import kept_heads
from papilar.exchange.answers import check_answer
from papilar.exchange.region import Gap, GapKind, statement
from papilar.exchange.seal import seal, stamp
from papilar.identity import Identity
from papilar.signing import Signer

Responses = Iterator[peer_pb2.SearchResponse]
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def region(folder: Path, tmp_path: Path) -> Iterator[Region]:
    region = Region(folder, tmp_path / "log")
    yield region
    region.close()


def refused(region: Region, peer: ScriptedPeer, code: str) -> None:
    """Check that what the peer answers is a gap, logged as such, and used for nothing."""
    result = region.searcher(peer).collect(asked(seconds=5))
    assert result.gaps == (Gap(peer.country, GapKind.INVALID_ANSWER, code),)
    assert result.candidates == ()
    last = [e for e in region.entries() if e.act is Act.CONSULTATION][-1]
    assert (last.outcome, last.code) == (Outcome.ERROR, code)


FAR = "0" * 43

WRONG: dict[str, Callable[[peer_pb2.Search], dict[str, Any]]] = {
    "names another search": lambda s: {"request_id": "0b9d1f62-6a3f-4f3c-9a40-6a2f0d3c1e55"},
    "answers another search": lambda s: {"search_sha256": bytes(32)},
    "is for another country": lambda s: {"asking_country": "GTM"},
    "is of another country": lambda s: {"asked_country": "GTM"},
    "is from before the search": lambda s: {"create_time": stamp(datetime.now(UTC) - timedelta(minutes=6))},
    "is from the future": lambda s: {"create_time": stamp(datetime.now(UTC) + timedelta(minutes=6))},
    "has no outcome": lambda s: {"outcome": 0},
    "has an unknown outcome": lambda s: {"outcome": 99},
    "is a no-hit with candidates": lambda s: {"outcome": peer_pb2.OUTCOME_NO_HIT},
    "has candidates and none": lambda s: {"candidates": []},
    "refuses without a code": lambda s: {"outcome": peer_pb2.OUTCOME_REFUSED, "candidates": []},
    "has words for a code": lambda s: {"code": "seen in Tegucigalpa"},
    "has too many candidates": lambda s: {"candidates": [candidate(5.0) for _ in range(11)]},
    "has candidates out of order": lambda s: {"candidates": [candidate(5.0), candidate(6.0)]},
    "gives a reference twice": lambda s: {"candidates": [candidate(5.0, reference=FAR)] * 2},
    "has a name for a reference": lambda s: {"candidates": [candidate(5.0, reference="Ana Lopez")]},
    "has a score that is none": lambda s: {"candidates": [candidate(math.nan)]},
    "has an endless score": lambda s: {"candidates": [candidate(math.inf)]},
    "has an unknown band": lambda s: {"candidates": [candidate(5.0, band=9)]},
    "met a print that was not sent": lambda s: {
        "candidates": [candidate(5.0, prints=[peer_pb2.CandidatePrint(probe_index=1)])]
    },
    "has no calibration": lambda s: {"calibration_id": ""},
    "has a threshold that is none": lambda s: {"threshold": math.nan},
    "searched another file": lambda s: {"files": [*s.files, types_pb2.FILE_MINORS]},
    "has padding with content": lambda s: {"padding": b"\0" * 10 + b"Lopez"},
    "assesses other prints": lambda s: {"prints": [peer_pb2.PrintAssessment()] * 3},
    "keeps the prints": lambda s: {"erasure": peer_pb2.Erasure()},
    "erased other prints": lambda s: {"erasure": peer_pb2.Erasure(print_sha256=[bytes(32)])},
    "names a law that is none": lambda s: {"policy_sha256": b"7"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_that_does_not_fit(region: Region, wrong: str) -> None:
    def script(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield peer.sealed(peer.statement(search, 7.0, **WRONG[wrong](search)))

    refused(region, region.peer("HND", script), "ANSWER_INVALID")


def test_a_replayed_answer(region: Region) -> None:
    """The answer to one search, sound in itself, is given again to the next."""
    kept: list[peer_pb2.SearchResponse] = []

    def replays(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        if not kept:
            kept.append(peer.sealed(peer.statement(search, 7.0)))
        yield kept[0]

    peer = region.peer("HND", replays)
    searcher = region.searcher(peer)
    assert len(searcher.collect(asked()).candidates) == 1
    assert searcher.collect(asked()).gaps == (Gap("HND", GapKind.INVALID_ANSWER, "ANSWER_INVALID"),)


def test_answers_swapped_between_two_searches(region: Region) -> None:
    """Two searches of one officer; each gets the other's answer."""
    held: list[tuple[peer_pb2.Search, peer_pb2.SearchResponse]] = []

    def swaps(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        held.append((search, peer.sealed(peer.statement(search, 7.0))))
        while len(held) < 2 and not peer.free.wait(0.01):
            pass
        yield next(answer for other, answer in held if other.request_id != search.request_id)

    searcher = region.searcher(region.peer("HND", swaps))
    first, second = searcher.search(asked()), searcher.search(asked())

    with ThreadPoolExecutor(2) as pool:
        came = list(pool.map(next, (first, second)))
    assert [one.gap for one in came] == [Gap("HND", GapKind.INVALID_ANSWER, "ANSWER_INVALID")] * 2


def test_an_answer_of_another_country(region: Region, folder: Path) -> None:
    """The node of Honduras hands on what Guatemala has sealed."""

    def hands_on(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield peer.sealed(peer.statement(search, 7.0), by=signer(folder, "GTM"))

    refused(region, region.peer("HND", hands_on), "COUNTRY_MISMATCH")


def test_an_answer_sealed_by_a_person(region: Region, folder: Path) -> None:
    if not (folder / "HND/user-e7-sign.pem").exists():
        user(folder / "HND", at=NOW - DAY)

    def by_person(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield peer.sealed(peer.statement(search, 7.0), by=signer(folder, "HND", "user-e7-sign"))

    refused(region, region.peer("HND", by_person), "CERTIFICATE_REFUSED")


def test_another_kind_of_statement(region: Region) -> None:
    def as_receipt(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield peer_pb2.SearchResponse(answer=seal("receipt", peer.statement(search, 7.0), peer.signer))

    refused(region, region.peer("HND", as_receipt), "SIGNATURE_REFUSED")


def test_a_field_that_the_contract_does_not_know(region: Region) -> None:
    def more(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        data = peer.statement(search, 7.0).SerializeToString() + b"\xfa\x3f\x09Ana Lopez"
        signature = peer.signer.sign("answer", data)
        yield peer_pb2.SearchResponse(
            answer=types_pb2.Signed(
                statement=data, certificate=signature.certificate, signature=signature.value
            )
        )

    refused(region, region.peer("HND", more), "IDENTITY_PRESENT")


def test_a_candidates_image_with_a_text(region: Region) -> None:

    text = b"\0\0\0\x0dtEXtName\0AnaLopez\0\0\0\0"
    image = png(1)[:33] + text + png(1)[33:]
    prints = [peer_pb2.CandidatePrint(print=types_pb2.Print(image=image, ppi=500))]
    peer = region.peer("HND", answering(candidates=[candidate(7.0, prints=prints)], outcome=2))
    result = region.searcher(peer).collect(asked())
    assert result.gaps[0].kind is GapKind.INVALID_ANSWER


@pytest.mark.parametrize("why", ["expired", "revoked"])
def test_a_seal_that_is_over(folder: Path, tmp_path: Path, why: str) -> None:
    region = Region(shutil.copytree(folder, tmp_path / "world"), tmp_path / "log")
    home = region.folder / "HND"
    try:
        peer = region.peer("HND", answering(7.0))
        if why == "expired":
            pki.renew(home, home / "seal.pem", at=NOW - 3 * DAY, days=1)
            peer.signer = signer(region.folder, "HND")
        else:
            pki.issue(home, Identity.parse("spiffe://hnd.papilar/seal/old"), at=NOW - DAY)
            peer.signer = Signer.load(home / "seal-old.pem", home / "seal-old.key")
            listed = pki.revoke(home, home / "seal-old.pem", at=NOW)
            shutil.copy(listed, region.folder / "trust/HND/new")
            (region.folder / "trust/HND/new").rename(region.folder / "trust/HND/revoked.pem")
            region.trust = type(region.trust).load(region.folder / "trust")
        refused(region, peer, "CERTIFICATE_REFUSED")
    finally:
        region.close()


# ---- the log of the peer


def test_a_proof_that_does_not_hold(region: Region) -> None:
    def elsewhere(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        proof = peer.proof()
        proof.leaf_hash = bytes(32)
        yield peer.sealed(peer.statement(search, log=proof))

    refused(region, region.peer("HND", elsewhere), "ANSWER_INVALID")


def test_no_proof_at_all(region: Region) -> None:
    peer = region.peer("HND", answering(log=types_pb2.InclusionProof()))
    result = region.searcher(peer).collect(asked())
    assert result.gaps[0].kind is GapKind.INVALID_ANSWER


def test_a_proof_in_the_log_of_another_country(region: Region) -> None:
    other = region.peer("GTM", answering())

    def borrowed(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Responses:
        yield peer.sealed(peer.statement(search, log=other.proof()))

    refused(region, region.peer("HND", borrowed), "ANSWER_INVALID")


def test_two_histories_of_one_size(region: Region) -> None:
    """The second answer stands in another log of as many entries: both heads are kept as evidence."""
    searcher = region.searcher(region.peer("HND", answering(7.0)))
    assert len(searcher.collect(asked()).candidates) == 1
    refused(region, region.peer("HND", answering(7.0)), "LOG_FORKED")
    kept = [head.head for head in kept_heads(region.log.store) if head.head.log_id == "HND"]
    assert len({head.root for head in kept}) == 2
    assert {head.size for head in kept} == {1}


def test_a_history_that_goes_on_is_kept(region: Region) -> None:
    peer = region.peer("HND", answering(7.0))
    searcher = region.searcher(peer)
    for _ in range(3):
        assert len(searcher.collect(asked()).candidates) == 1
    searcher.close()
    sizes = [head.head.size for head in kept_heads(region.log.store) if head.head.log_id == "HND"]
    assert max(sizes) == 3
    assert not [e for e in region.entries() if e.act is Act.NOTICE]


def test_a_longer_history_that_is_another(region: Region) -> None:
    """A fork that no size shows: the peer cannot prove that its log goes on, and that is logged."""
    first = region.searcher(region.peer("HND", answering(7.0)))
    first.collect(asked())
    forked = region.peer("HND", answering(7.0))
    forked.log.append_all([an_entry() for _ in range(5)])
    second = region.searcher(forked)
    second.collect(asked())
    second.close()
    notice = [e for e in region.entries() if e.act is Act.NOTICE]
    assert [(e.asked, e.code) for e in notice] == [("HND", "LOG_FORKED")]


# ---- any byte


class _Once:
    """An answer, made once for many examples."""

    def __init__(self, region: Region) -> None:
        peer = region.peer("HND", lambda peer, search, context: iter((progress(search),)))
        self.trust = region.trust
        self.search = statement(asked(), asking="SLV", country="HND", prints=[types_pb2.Print(image=b"x")])
        self.signed = peer.sealed(peer.statement(self.search, 7.0)).answer


@pytest.fixture(scope="module")
def once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Once]:
    region = Region(folder, tmp_path_factory.mktemp("once"))
    yield _Once(region)
    region.close()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("part", ["statement", "certificate", "signature"])
def test_no_bit_of_an_answer_can_be_changed(once: _Once, part: str) -> None:
    """Every bit of the certificate, part of which is under no signature; one of each byte of the others."""
    at, whole = datetime.now(UTC), bytes(getattr(once.signed, part))
    passed = []
    for place, bit in product(range(len(whole)), range(8)):
        if part != "certificate" and bit != place % 8:
            continue
        changed, data = types_pb2.Signed(), bytearray(whole)
        changed.CopyFrom(once.signed)
        data[place] ^= 1 << bit
        setattr(changed, part, bytes(data))
        with suppress(PapilarError):
            check_answer(changed, once.search, once.trust, first_asked=at, at=at)
            passed.append((place, bit))
    assert passed == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_garbage_is_refused_as_garbage(once: _Once, folder: Path, data: bytes) -> None:
    signature = signer(folder, "HND").sign("answer", data)
    signed = types_pb2.Signed(statement=data, certificate=signature.certificate, signature=signature.value)
    at = datetime.now(UTC)
    with pytest.raises(PapilarError):
        check_answer(signed, once.search, once.trust, first_asked=at, at=at)
