"""The asked side of a confirmation: an examiner's conclusion uses a reference up, and gets a receipt."""

import json
import re
from datetime import datetime

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.errors import NotPermitted, ReferenceUnknown, RequestInvalid, SignatureRefused
from papilar.exchange import references
from papilar.exchange.office import Office, repeated
from papilar.exchange.seal import Opened, check_time, content_hash, open_sealed, seal, stamp
from papilar.exchange.words import canonical_uuid_only
from papilar.identity import Kind, Role
from papilar.policy import Action, Law, PolicyRequest, Verdict
from papilar.store.exchange import Name, ReferenceState

_SHA256_BYTES = 32


def confirm(office: Office, law: Law, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
    """Take a conclusion; see `papilar.exchange.asked.AskedNode.confirm`."""
    now = office.clock()
    empty = peer_pb2.Confirmation()
    said, opened = open_sealed(
        "confirmation", signed, empty, office.trust, country=peer, at=now, kinds={Kind.USER}
    )
    with office.logging_refusals(peer, said.request_id, opened.signer.name):
        if Role.EXAMINER not in opened.signer.roles:
            raise SignatureRefused("no examiner signed the conclusion", remedy="have an examiner conclude")
        office.check_countries(said, peer)
        _check(said)
        check_time(said.create_time, at=now)
        name = Name(peer, said.confirmation_id, content_hash(said))
        with office.once.alone(("confirmation", peer, name.id)):
            known = office.store.confirmation(name)
            receipt = repeated(known)
            if receipt is not None:
                return types_pb2.Signed.FromString(receipt)
            if known is None:
                _check_permitted(office, law, said, opened)
            # A conclusion that is kept without its receipt: the node ended in between. Its entry comes now.
            subject = office.store.taken(name) if known else _take(office, said, name, signed, opened, now)
            return _receipt(office, said, name, opened, subject)


def _check(said: peer_pb2.Confirmation) -> None:
    """Raise `RequestInvalid` where a confirmation is outside what its comments state."""
    canonical_uuid_only(said.confirmation_id, "confirmation_id")
    canonical_uuid_only(said.request_id, "request_id")
    known = set(peer_pb2.Conclusion.values()) - {peer_pb2.CONCLUSION_UNSPECIFIED}
    fits = {
        "reference": re.fullmatch(references.ALPHABET, said.reference) is not None,
        "conclusion": said.conclusion in known,
        "correspondences_sha256": len(said.correspondences_sha256) == _SHA256_BYTES,
    }
    wrong = [field for field, fit in fits.items() if not fit]
    if wrong:
        raise RequestInvalid(f"{wrong[0]} is not as the contract states", remedy="see its comment")


def _check_permitted(office: Office, law: Law, said: peer_pb2.Confirmation, opened: Opened) -> None:
    """Ask the law about a conclusion on what was found under it; raises `NotPermitted`.

    A reference that the country does not have is left to `_take`, which says as little of it as the contract.
    """
    facts = office.store.facts_of(references.digest(said.reference), opened.signer.country)
    if facts is None:
        return
    concludes = {"action": Action.CONFIRM, "roles": sorted(opened.signer.roles)}
    decision = law.decide(PolicyRequest.of(json.loads(facts) | concludes))
    if decision.verdict is not Verdict.ALLOW:
        raise NotPermitted(
            f"the law of {law.terms.country} does not permit the conclusion ({decision.code})",
            remedy="have it made by whom that law lets conclude",
        )


def _take(
    office: Office,
    said: peer_pb2.Confirmation,
    name: Name,
    signed: types_pb2.Signed,
    opened: Opened,
    now: datetime,
) -> str:
    taken = office.store.take(
        references.digest(said.reference),
        name,
        request_id=said.request_id,
        statement=signed.SerializeToString(),
        now=now,
    )
    if taken.state is not ReferenceState.TAKEN:
        office.log_refusal(name.peer, taken.state, said.request_id, opened.signer.name)
        raise ReferenceUnknown("there is no such reference", remedy="search again, under a new request_id")
    return taken.subject_id


def _receipt(
    office: Office, said: peer_pb2.Confirmation, name: Name, opened: Opened, subject: str
) -> types_pb2.Signed:
    now = office.clock()
    logged = office.log.append(office.records.of_confirmation(said, opened.signer, subject, at=now))
    receipt = peer_pb2.Receipt(
        confirmation_id=name.id,
        confirmation_sha256=opened.sha256,
        create_time=stamp(now),
        log=office.proofs.prove(logged),
    )
    signed = seal("receipt", receipt, office.signer)
    office.store.keep_receipt(name, signed.SerializeToString())
    return signed
