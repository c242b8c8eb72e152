"""Cases of the log: that everything stands in it, that it only grows, and that heads are exchanged."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit import merkle
from papilar.audit.heads import TreeHead, read_payload
from papilar.conformance.bench import Bench, read, signed_bytes
from papilar.conformance.cases.seal import sealed_by_the_node
from papilar.conformance.verdict import Case, Check, Unmet, equal, refused
from papilar.errors import RequestInvalid

_LOGS = "types.proto: Logs"
_FORGED = "PERMISSION_DENIED SIGNATURE_REFUSED"

Run = Callable[[Bench], Iterator[Check]]


def _head(signed: types_pb2.Signed) -> TreeHead:
    try:
        return read_payload(signed.statement)
    except RequestInvalid:
        raise Unmet("a head of the form that the contract states") from None


def _exchanged(bench: Bench) -> peer_pb2.ExchangeHeadsResponse:
    reply = bench.exchanged
    if not reply.messages:
        raise Unmet(f"an answer to ExchangeHeads; what came was {reply}")
    response: peer_pb2.ExchangeHeadsResponse = reply.messages[0]
    return response


def _form(bench: Bench) -> Iterator[Check]:
    data = bench.nobody.answer.log.head.statement
    wanted = f"sorted JSON of log {bench.country}, root, size, time_us, version 1"
    try:
        said = json.loads(data)
        head = read_payload(data)
        came = wanted if head.log_id == bench.country and said["version"] == 1 else f"a head of {head.log_id}"
    except (ValueError, RequestInvalid):
        came = "something else"
    yield Check(came == wanted, "a search", wanted, came)


def _included(what: str, proof_of: Callable[[Bench], types_pb2.InclusionProof]) -> Run:
    def run(bench: Bench) -> Iterator[Check]:
        proof = proof_of(bench)
        head = _head(proof.head)
        sizes = all(len(one) == merkle.HASH_BYTES for one in (proof.leaf_hash, *proof.path))
        holds = sizes and merkle.holds_inclusion(
            proof.leaf_hash, proof.index, head.size, tuple(proof.path), head.root
        )
        came = f"entry {proof.index} of {head.size}: the path leads elsewhere"
        yield Check(holds, what, "a path from the entry to the head", came)

    return run


def _own_entry(bench: Bench) -> Iterator[Check]:
    first = bench.nobody.answer.log
    second = bench.ask(bench.statement()).answer.log
    came = f"entries {first.index} and {second.index}"
    other = first.index != second.index and first.leaf_hash != second.leaf_hash
    yield Check(other, "two searches", "an entry of its own for each", came)


def _grows(bench: Bench) -> Iterator[Check]:
    early = _head(bench.nobody.answer.log.head)
    now = _head(_exchanged(bench).head)
    came = f"{early.size} entries, later {now.size}"
    yield Check(now.size >= early.size, "ExchangeHeads after a search", "a log that only grows", came)


def _consistent(bench: Bench) -> Iterator[Check]:
    early = _head(bench.nobody.answer.log.head)
    bench.ask(bench.statement())
    reply = bench.exchange(bench.head().payload(), early.size)
    if not reply.messages:
        raise Unmet(f"an answer to ExchangeHeads; what came was {reply}")
    now, proof = _head(reply.messages[0].head), tuple(reply.messages[0].consistency)
    if now.size < early.size:
        raise Unmet("a log that only grows")
    holds = merkle.holds_consistency(early.size, now.size, early.root, now.root, proof)
    came = f"a proof of {len(proof)} hashes that does not hold"
    sent = f"ExchangeHeads, known_size {early.size}, head of {now.size}"
    yield Check(holds, sent, "a proof that the one begins the other", came)


def _kept(bench: Bench) -> Iterator[Check]:
    _ = _exchanged(bench)
    reply = bench.exchange(bench.head().payload())
    came = reply.messages[0].known_size if reply.messages else str(reply)
    yield equal("ExchangeHeads with the head of one entry, twice", "known_size", 1, came)


def _exchange_works(bench: Bench) -> Iterator[Check]:
    reply = bench.exchanged
    came = str(reply)
    yield Check(bool(reply.messages), "ExchangeHeads", "OK, 1 messages", came)
    yield equal("ExchangeHeads", "a head of the log of", bench.country, _head(reply.messages[0].head).log_id)


def _offered(what: str, payload: Callable[[Bench], bytes], *wanted: str) -> Run:
    def run(bench: Bench) -> Iterator[Check]:
        yield refused(f"ExchangeHeads with {what}", bench.exchange(payload(bench)), *wanted)

    return run


def _anothers_log(bench: Bench) -> bytes:
    own = bench.head()
    return TreeHead(bench.abroad.country, own.size, own.root, own.time).payload()


def _with_spaces(bench: Bench) -> bytes:
    return json.dumps(json.loads(bench.head().payload())).encode()


def _tampered(bench: Bench) -> Iterator[Check]:
    signed = signed_bytes("log_head", bench.head().payload(), bench.home.signer())
    signed.signature = bytes([signed.signature[0] ^ 1]) + signed.signature[1:]
    reply = bench.call("ExchangeHeads", peer_pb2.ExchangeHeadsRequest(head=signed))
    yield refused("ExchangeHeads, one bit of the signature changed", reply, _FORGED)


def _receipts_proof(bench: Bench) -> types_pb2.InclusionProof:
    return read(bench.concluded.sealed, peer_pb2.Receipt()).log


def _case(name: str, clause: str, run: Run, **more: Any) -> Case:
    return Case(f"log.{name}", clause, run, **more)


CASES = (
    _case("head_form", _LOGS, _form),
    _case(
        "head_sealed",
        _LOGS,
        sealed_by_the_node("log_head", "a search", lambda bench: bench.nobody.answer.log.head),
    ),
    _case("inclusion", "Answer.log", _included("a search", lambda bench: bench.nobody.answer.log)),
    _case("inclusion_of_conclusion", "Receipt.log", _included("a conclusion", _receipts_proof)),
    _case("entry_of_each_search", _LOGS, _own_entry, searches=1),
    _case("exchange", "PeerService.ExchangeHeads", _exchange_works),
    _case("grows", "ExchangeHeadsResponse.head", _grows),
    _case("consistency", "ExchangeHeadsResponse.consistency", _consistent, searches=1),
    _case("keeps_ours", "ExchangeHeadsResponse.known_size", _kept),
    _case(
        "head_of_another_country",
        "COUNTRY_MISMATCH",
        _offered(
            "the head of another country's log",
            _anothers_log,
            "PERMISSION_DENIED COUNTRY_MISMATCH",
            _FORGED,
        ),
    ),
    _case(
        "head_with_spaces",
        _LOGS,
        _offered("a head in JSON with white space", _with_spaces, "INVALID_ARGUMENT REQUEST_INVALID"),
    ),
    _case("head_tampered", "ExchangeHeadsRequest.head", _tampered),
)
"""Log and heads."""
