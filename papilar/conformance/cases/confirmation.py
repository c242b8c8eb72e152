"""Cases of references and conclusions: who may conclude, once, and what the receipt says."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

from papilar.api.peer.v1 import peer_pb2
from papilar.conformance.bench import Bench, Concluded, read, sealed
from papilar.conformance.cases.seal import sealed_by_the_node
from papilar.conformance.verdict import Case, Check, equal, refused
from papilar.exchange.seal import stamp

_INVALID = "INVALID_ARGUMENT REQUEST_INVALID"
_UNKNOWN = "NOT_FOUND REFERENCE_UNKNOWN"
_CONFLICT = "ALREADY_EXISTS REQUEST_CONFLICT"
_NOT_HERS = ("PERMISSION_DENIED SIGNATURE_REFUSED", "UNAUTHENTICATED CERTIFICATE_REFUSED")

Run = Callable[[Bench], Iterator[Check]]


def _random_reference() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def _made_up(bench: Bench, **fields: Any) -> peer_pb2.Confirmation:
    """Return a conclusion on a reference that was never given."""
    return bench.confirmation(**{"request_id": str(uuid4()), "reference": _random_reference()} | fields)


def _unknown(bench: Bench) -> Iterator[Check]:
    reply = bench.conclude(_made_up(bench)).reply
    yield refused("a conclusion on a reference that was never given", reply, _UNKNOWN)


def _outside(field: str, *values: Any) -> Case:
    def run(bench: Bench) -> Iterator[Check]:
        for value in values:
            reply = bench.conclude(_made_up(bench, **{field: value})).reply
            yield refused(f"a conclusion whose {field} is {value!r}", reply, _INVALID)

    return Case(f"confirmation.{field}", f"Confirmation.{field}", run)


def _signed_by(stem: str, what: str) -> Run:
    def run(bench: Bench) -> Iterator[Check]:
        reply = bench.conclude(_made_up(bench), stem).reply
        yield refused(f"a conclusion that {what} signed", reply, *_NOT_HERS)

    return run


def _clock(bench: Bench) -> Iterator[Check]:
    said = _made_up(bench, create_time=stamp(bench.clock() - timedelta(minutes=6)))
    wanted = "FAILED_PRECONDITION CLOCK_SKEW"
    yield refused("a conclusion signed 6 minutes ago", bench.conclude(said).reply, wanted)


def _country(bench: Bench) -> Iterator[Check]:
    said = _made_up(bench, asking_country=bench.abroad.country)
    wanted = "PERMISSION_DENIED COUNTRY_MISMATCH"
    yield refused("a conclusion in another country's name", bench.conclude(said).reply, wanted)


# ---- with a reference


def _of_another(bench: Bench) -> Iterator[Check]:
    reference, request_id = bench.found.candidates[0].reference, bench.somebody.search.request_id
    abroad = bench.abroad
    signer = abroad.signer("user-examiner-sign")
    replies = [
        bench.confirm(
            sealed(
                "confirmation",
                bench.confirmation(request_id, each, asking_country=abroad.country),
                signer,
            ),
            abroad,
        )
        for each in (reference, _random_reference())
    ]
    yield refused("another country's conclusion on the reference", replies[0], _UNKNOWN)
    texts = [reply.text for reply in replies]
    yield equal("a given reference, and one never given", "the same text:", texts[1], texts[0])


def _taken(bench: Bench) -> Iterator[Check]:
    done = bench.concluded
    reply = done.reply
    yield Check(reply.code == "OK" and len(reply.messages) == 1, "a conclusion", "a receipt", str(reply))


def _receipt(bench: Bench) -> Iterator[Check]:
    done = bench.concluded
    receipt = read(done.sealed, peer_pb2.Receipt())
    yield equal("a conclusion", "confirmation_id", done.said.confirmation_id, receipt.confirmation_id)
    wanted = sha256(done.signed.statement).digest()
    yield equal("a conclusion", "confirmation_sha256", wanted, receipt.confirmation_sha256)


def _repeated(bench: Bench) -> Iterator[Check]:
    done = bench.concluded
    first = done.sealed
    again = peer_pb2.Confirmation()
    again.CopyFrom(done.said)
    again.create_time.CopyFrom(stamp(bench.clock()))
    signed_anew = bench.conclude(again)
    repeats = [("the same bytes once more", Concluded(done.said, done.signed, bench.confirm(done.signed)))]
    repeats.append(("the same conclusion, signed anew", signed_anew))
    for what, one in repeats:
        came = str(one.reply)
        if one.reply.messages:
            came = "the first receipt" if one.sealed.statement == first.statement else "another receipt"
        yield Check(came == "the first receipt", what, "the first receipt", came)


def _other_content(bench: Bench) -> Iterator[Check]:
    done = bench.concluded
    _ = done.sealed
    other = peer_pb2.Confirmation()
    other.CopyFrom(done.said)
    other.conclusion = peer_pb2.CONCLUSION_EXCLUSION
    yield refused("the confirmation_id for another conclusion", bench.conclude(other).reply, _CONFLICT)


def _used(bench: Bench) -> Iterator[Check]:
    done = bench.concluded
    _ = done.sealed
    reply = bench.conclude(bench.confirmation(done.said.request_id, done.said.reference)).reply
    yield refused("a second conclusion on the reference", reply, _UNKNOWN)


CASES = (
    _outside("confirmation_id", "1", "0B9D1F62-6A3F-4F3C-9A40-6A2F0D3C1E55"),
    _outside("reference", "a" * 42, "a" * 42 + "="),
    _outside("conclusion", 0, 99),
    _outside("correspondences_sha256", b"", bytes(31)),
    Case(
        "confirmation.officer",
        "ConfirmRequest.confirmation",
        _signed_by("user-officer-sign", "a person who is no examiner"),
    ),
    Case(
        "confirmation.sealed_by_the_node",
        "ConfirmRequest.confirmation",
        _signed_by("seal", "the node's seal"),
    ),
    Case("confirmation.clock", "types.proto: Time", _clock),
    Case("confirmation.another_country", "Confirmation.asking_country", _country),
    Case("confirmation.unknown_reference", "REFERENCE_UNKNOWN", _unknown),
    Case("confirmation.of_another_country", "REFERENCE_UNKNOWN", _of_another),
    Case("confirmation.taken", "PeerService.Confirm", _taken),
    Case(
        "confirmation.receipt_sealed",
        "ConfirmResponse.receipt",
        sealed_by_the_node("receipt", "a conclusion", lambda bench: bench.concluded.sealed),
    ),
    Case("confirmation.receipt", "Receipt.confirmation_id, confirmation_sha256", _receipt),
    Case("confirmation.repeated", "types.proto: Repeats", _repeated),
    Case("confirmation.other_content", "REQUEST_CONFLICT", _other_content),
    Case("confirmation.used", "Candidate.reference", _used),
)
"""References and conclusions."""
