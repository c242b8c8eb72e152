"""What a peer answers, judged before anything of it is used: whose it is, what it answers, what it proves.

An answer is bound to its search by `search_sha256`, and a `request_id` is random and used for one search
only. So an answer that is replayed, swapped between two searches or meant for another country does not fit.
"""

import json
import math
import re
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit import merkle
from papilar.audit.heads import KIND, Check, Forked, SignedHead, Unproven, keep_head, read_payload
from papilar.errors import AnswerInvalid, LogForked
from papilar.exchange.prints import check_print
from papilar.exchange.seal import SEALS, SKEW, content_hash, open_sealed
from papilar.exchange.words import policy_request
from papilar.policy import Direction
from papilar.signing import Signature
from papilar.store.exchange import OwnSearches
from papilar.store.log import LogStore
from papilar.trust import Trust

_CODE = re.compile("[A-Z][A-Z0-9_]{0,31}")
_REFERENCE = re.compile("[A-Za-z0-9_-]{43}")
_CALIBRATION = re.compile("[A-Za-z0-9._-]{0,64}")
_LONGEST = timedelta(days=90)  # that a reference lives under any law; a peer may state what it likes
_MOST_PATH = 64  # a log of 2**64 entries
_REMEDY = "tell the operator of that node; nothing of the answer was used"

_ERASING = (peer_pb2.OUTCOME_NO_HIT, peer_pb2.OUTCOME_CANDIDATES, peer_pb2.OUTCOME_POOR_PRINTS)
"""Outcomes after which the prints are of no more use to the peer."""


class Proven(NamedTuple):
    """An answer that fits its search, and the head of the log that it stands in."""

    answer: peer_pb2.Answer
    head: SignedHead


def check_answer(
    signed: types_pb2.Signed, search: peer_pb2.Search, trust: Trust, *, first_asked: datetime, at: datetime
) -> Proven:
    """Return an answer once all that can be checked of it holds.

    Parameters
    ----------
    signed : Signed
    search : Search
        What was asked.
    trust : Trust
    first_asked : datetime
        When it was asked for the first time; a repeat gets the first answer again.
    at : datetime
        Now, UTC.

    Raises
    ------
    CertificateRefused, SignatureRefused, CountryMismatch, IdentityPresent, RequestInvalid
        As `open_sealed`.
    AnswerInvalid
        It answers something else, contradicts itself, or does not prove that it stands in the peer's log.
    """
    country = search.asked_country
    answer, _ = open_sealed("answer", signed, peer_pb2.Answer(), trust, country=country, at=at)
    _require(answer.request_id == search.request_id, "it names another search")
    _require(answer.search_sha256 == content_hash(search), "it answers another search")
    _require(answer.asking_country == search.asking_country, "it is for another country")
    _require(answer.asked_country == country, "it is of another country")
    _check_time(answer, first_asked, at)
    _check_outcome(answer)
    _check_candidates(answer, search)
    _check_rest(answer, search)
    return Proven(answer, check_proof(answer.log, country, trust, at=at))


def check_proof(proof: types_pb2.InclusionProof, country: str, trust: Trust, *, at: datetime) -> SignedHead:
    """Return the signed head that a proof of inclusion leads to.

    Raises
    ------
    CertificateRefused, SignatureRefused, RequestInvalid
        The head is not signed, or is none.
    AnswerInvalid
        It is of another country's log, or the proof does not hold.
    """
    signed = to_head(proof.head)
    signer = checker(trust)(KIND, signed.head.payload(), signed.signature, at)
    _require(signer == country == signed.head.log_id, "its log is another country's")
    hashes = [proof.leaf_hash, *proof.path]
    _require(len(hashes) <= _MOST_PATH and all(len(h) == merkle.HASH_BYTES for h in hashes), "no proof")
    _require(
        merkle.holds_inclusion(
            proof.leaf_hash, proof.index, signed.head.size, tuple(proof.path), signed.head.root
        ),
        "it does not prove that it stands in the log",
    )
    return signed


def keep_peers_head(store: LogStore, head: SignedHead, trust: Trust, *, at: datetime) -> bool:
    """Keep the head that an answer came with; return False where a proof has to be fetched first.

    Raises
    ------
    LogForked
        It contradicts one that was kept. Both are on file now.
    """
    verdict = keep_head(store, head, (), check=checker(trust), now=at)
    if isinstance(verdict, Forked):
        raise LogForked(
            f"{head.head.log_id} has signed two histories of its log",
            remedy="tell the supervising authorities of both countries; papilar audit heads shows the two",
        )
    return not isinstance(verdict, Unproven)


def keep_facts(
    searches: OwnSearches, search: peer_pb2.Search, answer: peer_pb2.Answer, *, at: datetime
) -> None:
    """Keep what our law was asked about a search that found somebody, as long as its references live.

    It is asked again when an examiner's conclusion is handed on; see `papilar.exchange.conclusions`.
    """
    if answer.candidates:
        ends = max(one.expire_time.seconds for one in answer.candidates) - at.timestamp()
        left = timedelta(seconds=min(max(0.0, ends), _LONGEST.total_seconds()))
        facts = json.dumps(policy_request(search, direction=Direction.OUTBOUND).table())
        searches.keep(search.asked_country, search.request_id, facts, expires=at + left)


def checker(trust: Trust) -> Check:
    """Return what `papilar.audit.heads` asks: which country sealed a payload."""

    def check(kind: str, payload: bytes, signature: Signature, at: datetime) -> str:
        return trust.check(kind, payload, signature, at=at, kinds=SEALS).country

    return check


def to_head(signed: types_pb2.Signed) -> SignedHead:
    """Return a head as the contract carries it; raises `RequestInvalid` where it is none."""
    return SignedHead(read_payload(signed.statement), Signature(signed.certificate, signed.signature))


def from_head(signed: SignedHead) -> types_pb2.Signed:
    """Return a head for the contract to carry."""
    certificate, value = signed.signature
    return types_pb2.Signed(statement=signed.head.payload(), certificate=certificate, signature=value)


# ---- parts of an answer


def _require(holds: bool, flaw: str) -> None:
    if not holds:
        raise AnswerInvalid(f"an answer is refused: {flaw}", remedy=_REMEDY)


def _check_time(answer: peer_pb2.Answer, first_asked: datetime, at: datetime) -> None:
    stated = answer.create_time.seconds + answer.create_time.nanos / 1e9
    early, late = (first_asked - SKEW).timestamp(), (at + SKEW).timestamp()
    _require(early <= stated <= late, "it was signed before the search, or in the future")


def _check_outcome(answer: peer_pb2.Answer) -> None:
    known = set(peer_pb2.Outcome.values()) - {peer_pb2.OUTCOME_UNSPECIFIED}
    _require(answer.outcome in known, "its outcome is none of the contract's")
    _require(not answer.code or bool(_CODE.fullmatch(answer.code)), "its code is none")
    _require(bool(answer.code) or answer.outcome != peer_pb2.OUTCOME_REFUSED, "it refuses without saying why")
    _require(len(answer.policy_sha256) in (0, 32), "the hash of its law is none")
    _require(bool(_CALIBRATION.fullmatch(answer.calibration_id)), "its calibration is none")


def _check_candidates(answer: peer_pb2.Answer, search: peer_pb2.Search) -> None:
    found = answer.candidates
    _require(
        (answer.outcome == peer_pb2.OUTCOME_CANDIDATES) == bool(found), "outcome and candidates disagree"
    )
    _require(not found or bool(answer.calibration_id), "its scores are of no calibration")
    _require(len(found) <= search.limit, "more candidates than were asked for")
    _require(len({one.reference for one in found}) == len(found), "a reference is given twice")
    scores = [one.score for one in found]
    _require(scores == sorted(scores, reverse=True), "its candidates are out of order")
    for one in found:
        _require(bool(_REFERENCE.fullmatch(one.reference)), "a reference is none")
        _require(_sound(one.score, one.band), "a score or a band is none")
        for each in one.prints:
            _require(each.probe_index < len(search.prints), "a candidate met a print that was not sent")
            _require(_sound(each.score, each.band), "a score or a band is none")
            _check_print(each.print)


def _check_print(sent: types_pb2.Print) -> None:
    """Require a picture without room for a name, or nothing."""
    _require(sent.WhichOneof("data") != "template", "a candidate's print is no image")
    if sent.image:
        check_print(sent)


def _sound(score: float, band: int) -> bool:
    return math.isfinite(score) and band in types_pb2.Band.values()


def _check_rest(answer: peer_pb2.Answer, search: peer_pb2.Search) -> None:
    _require(set(answer.files) <= set(search.files), "it searched a file that was not asked for")
    _require(math.isfinite(answer.threshold), "its threshold is none")
    _require(not any(answer.padding), "its padding is not empty")
    if answer.prints:
        _require(len(answer.prints) == len(search.prints), "it assesses other prints")
        reasons = (reason for one in answer.prints for reason in one.reasons)
        _require(all(_CODE.fullmatch(reason) for reason in reasons), "a reason is none")
    if answer.outcome in _ERASING:
        sent = [sha256(data_of(one)).digest() for one in search.prints]
        _require(list(answer.erasure.print_sha256) == sent, "it does not state that the prints are erased")


def data_of(sent: types_pb2.Print) -> bytes:
    """Return the bytes of a print, image or template."""
    return sent.image or sent.template
