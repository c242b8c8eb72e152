"""Signed heads between countries: what continues is kept, what forks is evidence."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from entries import START, an_entry, entry_number
from hypothesis import given
from hypothesis import strategies as st
from trials import AT, countries

from papilar.audit.check import Flaw, verify
from papilar.audit.heads import (
    Forked,
    Kept,
    SignedHead,
    TreeHead,
    Unproven,
    keep_head,
    kept_heads,
    latest_head,
    read_payload,
    sign_head,
)
from papilar.audit.log import AuditLog
from papilar.errors import RequestInvalid, SignatureRefused
from papilar.signing import Signature, Signer
from papilar.store.log import LogStore
from papilar.trust import Trust

HEADS = st.builds(
    TreeHead,
    log_id=st.sampled_from(["SLV", "HND"]),
    size=st.integers(0, 2**53),
    root=st.binary(min_size=32, max_size=32),
    time=st.datetimes(timezones=st.just(UTC)),
)


def sign_as(country: str) -> Any:
    """Sign with a hash that only the tests take for a signature."""

    def sign(kind: str, payload: bytes) -> Signature:
        return Signature(country.encode(), sha256(kind.encode() + payload).digest())

    return sign


def check(kind: str, payload: bytes, signature: Signature, at: datetime) -> str:
    if signature.value != sha256(kind.encode() + payload).digest():
        raise SignatureRefused("not on these bytes", remedy="sign again")
    return signature.certificate.decode()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[LogStore]:
    """Where Honduras keeps its own log, and the heads of El Salvador."""
    folder = tmp_path / "peer"
    folder.mkdir()
    (folder / "papilar.sqlite3").touch()
    store = LogStore.open(folder, create=True)
    yield store
    store.close()


def offer(log: AuditLog, peer: LogStore, *, since: int | None = None, country: str = "SLV") -> Any:
    before = latest_head(peer, country)
    old = since if since is not None else before.head.size if before else 0
    signed = sign_head(log, country, sign=sign_as(country), now=START)
    return keep_head(peer, signed, log.consistency_proof(old, signed.head.size), check=check, now=START)


def test_a_log_that_grows_is_kept_step_by_step(log: AuditLog, peer: LogStore) -> None:
    before = None
    for size in (0, 1, 7, 8, 8, 30):
        log.append_all([entry_number(index) for index in range(log.head().size, size)])
        verdict = offer(log, peer)
        assert isinstance(verdict, Kept)
        assert (verdict.before and verdict.before.head.size) == before
        before = size
    assert [each.head.size for each in kept_heads(peer)] == [30, 8, 7, 1, 0]
    assert latest_head(peer, "SLV") == kept_heads(peer)[0]
    assert latest_head(peer, "GTM") is None
    own = [each.head for each in kept_heads(log.store)]
    assert verify(log.store, heads=own).counts == {}


def test_a_head_that_comes_late_is_kept_with_its_proof(full: AuditLog, peer: LogStore) -> None:
    early = replace(TreeHead("SLV", *full.head(9), START))
    late = SignedHead(early, sign_as("SLV")("log_head", early.payload()))
    offer(full, peer)
    verdict = keep_head(peer, late, full.consistency_proof(9, 45), check=check, now=START)
    assert isinstance(verdict, Kept)
    assert [each.head.size for each in kept_heads(peer)] == [45, 9]


def rewritten(tmp_path: Path, size: int) -> AuditLog:
    folder = tmp_path / f"rewritten-{size}"
    folder.mkdir()
    (folder / "papilar.sqlite3").touch()
    log = AuditLog(LogStore.open(folder, create=True))
    log.append_all([entry_number(i) if i != 12 else an_entry(note="other") for i in range(size)])
    return log


def test_two_histories_of_one_size_are_evidence(full: AuditLog, peer: LogStore, tmp_path: Path) -> None:
    first = offer(full, peer)
    verdict = offer(rewritten(tmp_path, 45), peer)
    assert isinstance(verdict, Forked)
    assert verdict.kept == first.head
    assert verdict.offered.head.root != verdict.kept.head.root
    assert len(kept_heads(peer)) == 2
    (finding,) = verify(peer).findings
    assert (finding.flaw, finding.index) == (Flaw.PEER_FORKED, 45)
    assert "SLV" in finding.what
    assert isinstance(offer(full, peer), Kept | Forked)


def test_another_history_that_has_grown_has_no_proof(full: AuditLog, peer: LogStore, tmp_path: Path) -> None:
    first = offer(full, peer)
    verdict = offer(rewritten(tmp_path, 50), peer)
    assert isinstance(verdict, Unproven)
    assert verdict.kept == first.head
    assert kept_heads(peer) == (first.head,)


def test_a_wrong_proof_can_be_sent_again(full: AuditLog, peer: LogStore) -> None:
    offer(full, peer)
    full.append(an_entry())
    assert isinstance(offer(full, peer, since=7), Unproven)
    assert isinstance(offer(full, peer), Kept)


def test_a_country_signs_its_own_log_alone(full: AuditLog, peer: LogStore) -> None:
    head = TreeHead("SLV", *full.head(), START)
    foreign = SignedHead(head, sign_as("GTM")("log_head", head.payload()))
    other = SignedHead(replace(head, size=44), sign_as("SLV")("log_head", head.payload()))
    for wrong in (foreign, other):
        with pytest.raises(SignatureRefused):
            keep_head(peer, wrong, (), check=check, now=START)
    assert kept_heads(peer) == ()


def test_heads_of_several_countries_do_not_meet(full: AuditLog, peer: LogStore, tmp_path: Path) -> None:
    offer(full, peer)
    assert isinstance(offer(rewritten(tmp_path, 45), peer, country="GTM", since=0), Kept)
    assert verify(peer).counts == {}


@given(HEADS)
def test_there_and_back(head: TreeHead) -> None:
    assert read_payload(head.payload()) == head
    signed = SignedHead(head, Signature(b"\0certificate", b"\xffvalue"))
    assert SignedHead.from_json(signed.to_json()) == signed


@given(HEADS, st.data())
def test_other_payloads_are_refused(head: TreeHead, data: st.DataObject) -> None:
    payload = head.payload()
    others = [payload + b" ", payload.replace(b'"size":', b'"size": '), b"{}", b"[]", b"7", b"\xff"]
    others += [payload[:-1] + b',"x":1}', payload[: data.draw(st.integers(0, len(payload) - 1))]]
    for other in others:
        with pytest.raises(RequestInvalid):
            read_payload(other)
    for wrong in ({}, {"payload": 7}, {"payload": "x", "certificate": "!", "signature": ""}, []):
        with pytest.raises(RequestInvalid):
            SignedHead.from_json(wrong)  # type: ignore[arg-type]


def test_what_is_kept_is_what_was_signed(full: AuditLog, file: Path) -> None:
    signed = sign_head(full, "SLV", sign=sign_as("SLV"), now=START + timedelta(microseconds=7))
    with closing(sqlite3.connect(file)) as connection:
        ((payload, certificate, value),) = connection.execute(
            "SELECT payload, certificate, signature FROM log_head"
        ).fetchall()
    assert check("log_head", payload, Signature(certificate, value), START) == "SLV"
    assert payload == signed.head.payload()


def test_the_seals_of_two_countries(full: AuditLog, peer: LogStore, tmp_path: Path) -> None:
    countries(tmp_path, "SLV", "HND")
    trust = Trust.load(tmp_path / "trust")

    def check(kind: str, payload: bytes, signature: Signature, at: datetime) -> str:
        return trust.check(kind, payload, signature, at=at, kinds=["seal"]).country

    seals = {c: Signer.load(tmp_path / c / "seal.pem", tmp_path / c / "seal.key") for c in ("SLV", "HND")}
    own = sign_head(full, "SLV", sign=seals["SLV"].sign, now=AT)
    assert isinstance(keep_head(peer, own, (), check=check, now=AT), Kept)
    foreign = sign_head(full, "SLV", sign=seals["HND"].sign, now=AT)
    other_kind = SignedHead(own.head, seals["SLV"].sign("search", own.head.payload()))
    for wrong in (foreign, other_kind):
        with pytest.raises(SignatureRefused):
            keep_head(peer, wrong, (), check=check, now=AT)
    assert kept_heads(peer) == (own,)
