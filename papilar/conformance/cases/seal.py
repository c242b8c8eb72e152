"""Cases of signatures, countries and clocks: what a statement must be before it is read."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from matcher.errors import PapilarError
from papilar.api.peer.v1 import types_pb2
from papilar.conformance.bench import Bench, sealed
from papilar.conformance.verdict import Case, Check, refused
from papilar.exchange.seal import SEALS, stamp
from papilar.signing import Signature

_SIGNATURES, _TIME = "types.proto: Signatures", "types.proto: Time"
_FORGED = "PERMISSION_DENIED SIGNATURE_REFUSED"
_NOT_HIS = "UNAUTHENTICATED CERTIFICATE_REFUSED"
_ELSEWHERE = "PERMISSION_DENIED COUNTRY_MISMATCH"
_LATE = "FAILED_PRECONDITION CLOCK_SKEW"

Run = Callable[[Bench], Iterator[Check]]


def sealed_by_the_node(
    kind: str, what: str, signed: Callable[[Bench], types_pb2.Signed]
) -> Callable[[Bench], Iterator[Check]]:
    """Return a run that checks a signature of the node under test."""

    def run(bench: Bench) -> Iterator[Check]:
        one = signed(bench)
        signature = Signature(one.certificate, one.signature)
        try:
            who = bench.trust.check(kind, one.statement, signature, at=bench.clock(), kinds=SEALS)
            came = f"a seal of {who.country}"
        except PapilarError as error:
            came = str(error)
        wanted = f"a seal of {bench.country}"
        yield Check(came == wanted, what, f"{wanted}, on kind '{kind}'", came)

    return run


def _tampered(bench: Bench) -> Iterator[Check]:
    signed = sealed("search", bench.statement(), bench.home.signer())
    signed.signature = bytes([signed.signature[0] ^ 1]) + signed.signature[1:]
    yield refused("a search, one bit of its signature changed", bench.send(signed), _FORGED)


def _changed(bench: Bench) -> Iterator[Check]:
    statement = bench.statement()
    signed = sealed("search", statement, bench.home.signer())
    statement.limit += 1
    signed.statement = statement.SerializeToString(deterministic=True)
    yield refused("a search, changed after it was signed", bench.send(signed), _FORGED)


def _other_kind(bench: Bench) -> Iterator[Check]:
    signed = sealed("confirmation", bench.statement(), bench.home.signer())
    yield refused("a search, signed as kind 'confirmation'", bench.send(signed), _FORGED)


def _signer(stem: str, what: str, *wanted: str) -> Run:
    def run(bench: Bench) -> Iterator[Check]:
        signed = sealed("search", bench.statement(), bench.home.signer(stem))
        yield refused(f"a search, signed by {what}", bench.send(signed), *wanted)

    return run


def _unknown_authority(bench: Bench) -> Iterator[Check]:
    signed = sealed("search", bench.statement(), bench.unknown.signer())
    yield refused("a search, sealed under an unknown authority", bench.send(signed), _NOT_HIS)


def _anothers_seal(bench: Bench) -> Iterator[Check]:
    signed = sealed("search", bench.statement(party=bench.abroad), bench.abroad.signer())
    yield refused("a search that another country sealed", bench.send(signed), _ELSEWHERE)


def _names(field: str) -> Run:
    def run(bench: Bench) -> Iterator[Check]:
        other: dict[str, Any] = {field: bench.abroad.country}
        reply = bench.ask(bench.statement(**other)).reply
        yield refused(f"a search whose {field} is {other[field]}", reply, _ELSEWHERE)

    return run


def _clock(minutes: int) -> Run:
    def run(bench: Bench) -> Iterator[Check]:
        search = bench.statement(create_time=stamp(bench.clock() + timedelta(minutes=minutes)))
        yield refused(f"a search signed {minutes:+d} minutes from now", bench.ask(search).reply, _LATE)

    return run


def _clock_within(bench: Bench) -> Iterator[Check]:
    asked = bench.ask(bench.statement(create_time=stamp(bench.clock() - timedelta(minutes=4))))
    came = str(asked.reply)
    yield Check(asked.reply.answer is not None, "a search signed 4 minutes ago", "an answer", came)


def _description(bench: Bench) -> types_pb2.Signed:
    _ = bench.description
    signed: types_pb2.Signed = bench.described.messages[0].description
    return signed


CASES = (
    Case(
        "seal.description",
        "DescribeNodeResponse.description",
        sealed_by_the_node("description", "DescribeNode", _description),
    ),
    Case(
        "seal.answer",
        "SearchResponse.answer",
        sealed_by_the_node("answer", "a search", lambda bench: bench.nobody.sealed),
    ),
    Case("seal.tampered_signature", _SIGNATURES, _tampered, searches=1),
    Case("seal.changed_statement", _SIGNATURES, _changed, searches=1),
    Case("seal.other_kind", _SIGNATURES, _other_kind, searches=1),
    Case("seal.expired", _SIGNATURES, _signer("seal-expired", "an expired seal", _NOT_HIS), searches=1),
    Case("seal.revoked", _SIGNATURES, _signer("seal-revoked", "a revoked seal", _NOT_HIS), searches=1),
    Case("seal.unknown_authority", _SIGNATURES, _unknown_authority, searches=1),
    Case(
        "seal.person",
        _SIGNATURES,
        _signer("user-examiner-sign", "a person, not a seal", _NOT_HIS, _FORGED),
        searches=1,
    ),
    Case("seal.another_country", "COUNTRY_MISMATCH", _anothers_seal, searches=1),
    Case("seal.asking_country", "Search.asking_country", _names("asking_country"), searches=1),
    Case("seal.asked_country", "Search.asked_country", _names("asked_country"), searches=1),
    Case("seal.clock_behind", _TIME, _clock(-6), searches=1),
    Case("seal.clock_ahead", _TIME, _clock(+6), searches=1),
    Case("seal.clock_within", _TIME, _clock_within, searches=1),
)
"""Seal."""
