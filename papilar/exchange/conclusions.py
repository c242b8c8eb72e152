"""The asking side of a confirmation: an examiner's own signature goes out, a proven receipt comes back.

It is data on a person that leaves the country. So our law is asked about it too, with what it was asked when
the search was sent and with the roles of who concludes.
"""

import json

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.errors import (
    AnswerInvalid,
    CountryMismatch,
    NodeUnreachable,
    NotPermitted,
    ReferenceUnknown,
    RequestInvalid,
    SignatureRefused,
)
from papilar.exchange import diary
from papilar.exchange.answers import check_proof, keep_peers_head
from papilar.exchange.asking import FederatedSearcher
from papilar.exchange.seal import Opened, check_time, open_sealed
from papilar.exchange.words import canonical_uuid_only, why_refused
from papilar.identity import Kind, Role
from papilar.policy import Action, PolicyRequest

_CONCLUSIONS = set(peer_pb2.Conclusion.values()) - {peer_pb2.CONCLUSION_UNSPECIFIED}


def hand_on(
    searcher: FederatedSearcher, country: str, signed: types_pb2.Signed, *, examiner: str, seconds: float
) -> types_pb2.Signed:
    """Hand an examiner's conclusion to the country that the candidate is from, and return its receipt.

    Parameters
    ----------
    searcher : FederatedSearcher
    country : str
    signed : Signed
        Kind `confirmation`, signed by an examiner of our country.
    examiner : str
        Pseudonym of who calls: only one's own conclusion is handed on.
    seconds : float
        How long to wait.

    Raises
    ------
    CertificateRefused, SignatureRefused, CountryMismatch, IdentityPresent, RequestInvalid, ClockSkew
        It is no conclusion of this examiner on a candidate of that country. Nothing was sent.
    NotPermitted
        Our law does not let this examiner's conclusion out, and nothing was sent; or theirs does not take it.
    ReferenceUnknown
        No candidate of that country under this request_id is open here, and nothing was sent; or none there.
    NodeUnreachable, DeadlinePassed
        The other country does not answer. The same conclusion may be handed on again.
    AnswerInvalid
        The receipt does not fit, or is not proven.
    """
    said, opened = _checked(searcher, country, signed, examiner)
    if country not in searcher.peers:
        raise NodeUnreachable(f"{country} is no peer of this node", remedy="see papilar region peers")
    _check_permitted(searcher, said, opened)
    searcher.log.append(diary.confirmed(said, examiner, answered=False, at=searcher.clock()))
    line = searcher.peers[country].lines[0]
    receipt = line.confirm(peer_pb2.ConfirmRequest(confirmation=signed), timeout=seconds).receipt
    _check_receipt(searcher, country, receipt, said, opened)
    searcher.log.append(diary.confirmed(said, examiner, answered=True, at=searcher.clock()))
    return receipt


def _checked(
    searcher: FederatedSearcher, country: str, signed: types_pb2.Signed, examiner: str
) -> tuple[peer_pb2.Confirmation, Opened]:
    now, empty = searcher.clock(), peer_pb2.Confirmation()
    said, opened = open_sealed(
        "confirmation", signed, empty, searcher.trust, country=searcher.country, at=now, kinds={Kind.USER}
    )
    if Role.EXAMINER not in opened.signer.roles or opened.signer.name != examiner:
        raise SignatureRefused(
            "the conclusion is not signed by the examiner who calls", remedy="sign it with your own key"
        )
    if (said.asking_country, said.asked_country) != (searcher.country, country):
        raise CountryMismatch("the conclusion names other countries", remedy="state ours and theirs")
    canonical_uuid_only(said.confirmation_id, "confirmation_id")
    canonical_uuid_only(said.request_id, "request_id")
    if said.conclusion not in _CONCLUSIONS:
        raise RequestInvalid("no conclusion", remedy="state one of the contract's")
    check_time(said.create_time, at=now)
    return said, opened


def _check_permitted(searcher: FederatedSearcher, said: peer_pb2.Confirmation, opened: Opened) -> None:
    """Ask our law about a conclusion; raises `NotPermitted` or `ReferenceUnknown`, and logs it.

    A candidate does not say of which file it is. So the law must permit all files that the search was for.
    """
    now, examiner = searcher.clock(), opened.signer.name
    facts = searcher.own_searches.facts(said.asked_country, said.request_id, now=now)
    if facts is None:
        searcher.log.append(diary.not_concluded(said, examiner, ReferenceUnknown.reason, at=now))
        raise ReferenceUnknown(
            f"no candidate of {said.asked_country} is open under that request_id",
            remedy="search again, under a new request_id",
        )
    concludes = {"action": Action.CONFIRM, "roles": sorted(opened.signer.roles)}
    request = PolicyRequest.of(json.loads(facts) | concludes)
    decision = searcher.law(now).decide(request)
    code = why_refused(decision, request.files)
    if code:
        searcher.log.append(diary.not_concluded(said, examiner, code, at=now, decision=decision))
        raise NotPermitted(
            f"our law does not permit to send the conclusion ({code})",
            remedy="have it made by whom that law lets conclude",
        )


def _check_receipt(
    searcher: FederatedSearcher,
    country: str,
    signed: types_pb2.Signed,
    said: peer_pb2.Confirmation,
    opened: Opened,
) -> None:
    now = searcher.clock()
    receipt, _ = open_sealed("receipt", signed, peer_pb2.Receipt(), searcher.trust, country=country, at=now)
    if (receipt.confirmation_id, receipt.confirmation_sha256) != (said.confirmation_id, opened.sha256):
        raise AnswerInvalid("the receipt is for another conclusion", remedy="tell that node's operator")
    head = check_proof(receipt.log, country, searcher.trust, at=now)
    keep_peers_head(searcher.log.store, head, searcher.trust, at=now)
