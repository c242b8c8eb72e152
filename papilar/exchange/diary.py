"""What our log says of a search that we put to another country: sent, what came back, what was erased."""

from dataclasses import replace
from datetime import datetime

from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Act, Entry, Outcome, Sent, Side
from papilar.exchange.region import CountryAnswer, Gap, GapKind
from papilar.exchange.seal import content_hash
from papilar.exchange.words import to_word
from papilar.policy import Decision, LegalBasis, OffenceClass, Purpose, SearchType

_ANSWERED = {
    peer_pb2.OUTCOME_NO_HIT: Outcome.NO_HIT,
    peer_pb2.OUTCOME_CANDIDATES: Outcome.CANDIDATES,
    peer_pb2.OUTCOME_POOR_PRINTS: Outcome.ERROR,
}
_MISSED = {
    GapKind.REFUSED: Outcome.REFUSED,
    GapKind.NOT_PERMITTED_HERE: Outcome.REFUSED,
    GapKind.QUOTA: Outcome.QUOTA,
    GapKind.NEEDS_HUMAN: Outcome.NEEDS_HUMAN,
    GapKind.UNREACHABLE: Outcome.UNREACHABLE,
    GapKind.TIMED_OUT: Outcome.UNREACHABLE,
    GapKind.QUEUED: Outcome.UNREACHABLE,
    GapKind.INVALID_ANSWER: Outcome.ERROR,
}


def sent_out(search: peer_pb2.Search, decision: Decision, *, at: datetime) -> Entry:
    """Return the entry for prints that are about to be disclosed; its digest is what the answer names."""
    sent = Sent("PRINT", len(search.prints)), Sent("SEARCH", 1, content_hash(search).hex())
    entry = _entry(search, Act.DISCLOSURE, Outcome.DONE, at)
    note = "logged before it is sent; the entry that follows says whether the country was reached"
    return _under(replace(entry, sent=sent, recipients=(search.asked_country,), note=note), decision)


def refused_here(search: peer_pb2.Search, decision: Decision, gap: Gap, *, at: datetime) -> Entry:
    """Return the entry for a search that our own law did not let out."""
    entry = _entry(search, Act.REFUSAL, Outcome.REFUSED, at)
    return _under(replace(entry, code=gap.code), decision)


def came_back(search: peer_pb2.Search, came: CountryAnswer, *, at: datetime) -> Entry:
    """Return the entry for what a country answered, or that it did not."""
    if came.gap is not None:
        entry = _entry(search, Act.CONSULTATION, _MISSED[came.gap.kind], at)
        return replace(_by(entry, came.answer), code=came.gap.code, note=f"gap: {came.gap.kind}")
    answer = came.answer or peer_pb2.Answer()
    entry = _entry(search, Act.CONSULTATION, _ANSWERED[answer.outcome], at)
    sent = Sent("CANDIDATE", len(answer.candidates)), Sent("SEARCH", 1, answer.search_sha256.hex())
    return replace(_by(entry, answer), code=answer.code, sent=sent)


def searched_here(search: peer_pb2.Search, came: CountryAnswer, *, at: datetime) -> Entry:
    """Return the entry for a search of our own gallery, which no law of the exchange is about."""
    return replace(came_back(search, came, at=at), side=Side.OWN, sent=())


def not_proven(code: str, *, at: datetime, request_id: str, asking: str, asked: str) -> Entry:
    """Return the entry for a peer that did not prove that its log goes on from what it signed."""
    return Entry(
        time=at,
        side=Side.ASKING,
        act=Act.NOTICE,
        outcome=Outcome.ERROR,
        officer="node",
        justification="the head of the peer's log under its answer",
        request_id=request_id,
        asking=asking,
        asked=asked,
        code=code,
    )


def erased(search: peer_pb2.Search, why: str, *, at: datetime) -> Entry:
    """Return the entry for prints that waited here and are gone; `why` is a code."""
    return replace(_entry(search, Act.ERASURE, Outcome.DONE, at), code=why)


def confirmed(said: peer_pb2.Confirmation, examiner: str, *, answered: bool, at: datetime) -> Entry:
    """Return the entry for an examiner's conclusion: before it is sent, and once a receipt is there."""
    return Entry(
        time=at,
        side=Side.ASKING,
        act=Act.CONFIRMATION,
        outcome=_CONCLUDED[said.conclusion],
        officer=examiner,
        justification="conclusion on a candidate",
        request_id=said.request_id,
        asking=said.asking_country,
        asked=said.asked_country,
        note="a receipt came" if answered else "sent",
        recipients=(said.asked_country,),
    )


def not_concluded(
    said: peer_pb2.Confirmation, examiner: str, code: str, *, at: datetime, decision: Decision | None = None
) -> Entry:
    """Return the entry for a conclusion that was not let out; with the decision, where our law was asked."""
    entry = replace(
        confirmed(said, examiner, answered=False, at=at),
        act=Act.REFUSAL,
        outcome=Outcome.REFUSED,
        code=code,
        note="",
        recipients=(),
    )
    return entry if decision is None else _under(entry, decision)


_CONCLUDED = {
    peer_pb2.CONCLUSION_IDENTIFICATION: Outcome.CONFIRMED,
    peer_pb2.CONCLUSION_EXCLUSION: Outcome.REJECTED,
    peer_pb2.CONCLUSION_INCONCLUSIVE: Outcome.INCONCLUSIVE,
}


def _entry(search: peer_pb2.Search, act: Act, outcome: Outcome, at: datetime) -> Entry:
    purpose = to_word(Purpose, search.purpose).upper()
    return Entry(
        time=at,
        side=Side.ASKING,
        act=act,
        outcome=outcome,
        officer=search.officer,
        ordering_officer=search.ordering_officer,
        justification=f"{purpose}: {search.reason}",
        request_id=search.request_id,
        search_type=to_word(SearchType, search.search_type),
        asking=search.asking_country,
        asked=search.asked_country,
        purpose=purpose,
        reason=search.reason,
        legal_basis=to_word(LegalBasis, search.legal_basis).upper(),
        offence_class=to_word(OffenceClass, search.offence_class).upper(),
        case_reference=search.case_reference,
    )


def _under(entry: Entry, decision: Decision) -> Entry:
    return replace(entry, policy_version=str(decision.version), policy_hash=decision.sha256)


def _by(entry: Entry, answer: peer_pb2.Answer | None) -> Entry:
    """Name the law of the peer that decided, where the answer names one."""
    if answer is None or not answer.policy_sha256:
        return entry
    return replace(entry, policy_version=str(answer.policy_version), policy_hash=answer.policy_sha256.hex())
