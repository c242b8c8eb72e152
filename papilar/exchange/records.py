"""What the asked side writes into its log: a search, a refusal, a conclusion, as entries.

Each entry has a random salt in its note. Its hash goes out in proofs, and a peer that knows what it sent
could otherwise try which outcome has that hash.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Act, Entry, Outcome, Sent, Side, subject_mark
from papilar.identity import Identity
from papilar.policy import Law, PolicyRequest

_PSEUDONYM = re.compile(r"[a-z0-9-]{1,63}")
_IDENTIFIER = re.compile(r"[0-9a-f-]{36}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
_UNFIT = "the statement is outside the contract, or does not fit what is there"
_CONCLUDED = {
    peer_pb2.CONCLUSION_IDENTIFICATION: Outcome.CONFIRMED,
    peer_pb2.CONCLUSION_EXCLUSION: Outcome.REJECTED,
    peer_pb2.CONCLUSION_INCONCLUSIVE: Outcome.INCONCLUSIVE,
}


class Ended(NamedTuple):
    """How a search ended, as the log has it; `subjects` are those of the candidates."""

    outcome: Outcome
    code: str
    subjects: tuple[str, ...] = ()


class Records:
    """Makes the entries of one node.

    Parameters
    ----------
    country : str
    key : bytes
        For marks of subjects and digests of prints; see `subject_mark`.
    """

    def __init__(self, country: str, key: bytes) -> None:
        subject_mark(key, "")  # refuses a key that is too short
        self._country = country
        self._key = key

    def of_search(
        self,
        search: peer_pb2.Search,
        request: PolicyRequest,
        law: Law,
        ended: Ended,
        *,
        began: datetime,
        at: datetime,
        erased: bool = True,
    ) -> list[Entry]:
        """Return the entries of a search: what was done, what came, what was disclosed, what went.

        What was done comes first. A search that found nobody and one that was refused have the same number.
        One whose prints were not kept (not `erased`) has that entry alone.
        """
        refused = ended.outcome in (Outcome.REFUSED, Outcome.QUOTA)
        first = Entry(
            time=at,
            side=Side.ASKED,
            act=Act.REFUSAL if refused else Act.CONSULTATION,
            outcome=ended.outcome,
            code=ended.code,
            officer=f"{search.asking_country}:{search.officer}",
            ordering_officer=search.ordering_officer and f"{search.asking_country}:{search.ordering_officer}",
            justification=f"{search.reason}: {request.purpose}, files {' '.join(sorted(request.files))}",
            request_id=search.request_id,
            search_type=str(request.search_type),
            asking=search.asking_country,
            asked=self._country,
            purpose=str(request.purpose).upper(),
            reason=search.reason if _CODE.fullmatch(search.reason) else "",
            legal_basis=str(request.legal_basis),
            offence_class=str(request.offence_class).upper(),
            case_reference=search.case_reference,
            policy_version=str(law.terms.version),
            policy_hash=law.sha256,
            note=_salt(),
            sent=(self._prints(search),),
        )
        if not erased:
            return [first]
        came = replace(first, time=began, act=Act.COLLECTION, outcome=Outcome.DONE, code="", note=_salt())
        entries = [first, replace(came, justification="the prints, as they came")]
        if ended.subjects:
            entries.append(self._disclosure(first, ended.subjects))
        erasure = replace(first, act=Act.ERASURE, outcome=Outcome.DONE, code="", note=_salt())
        return [*entries, replace(erasure, justification="the probe, after the comparison")]

    def of_refused(
        self, peer: str, error: str, *, at: datetime, id_: str = "", officer: str = "", why: str = _UNFIT
    ) -> Entry:
        """Return the entry of what was no request, or not permitted: nothing is taken that does not fit."""
        return Entry(
            time=at,
            side=Side.ASKED,
            act=Act.REFUSAL,
            outcome=Outcome.REFUSED,
            code=error,
            officer=f"{peer}:{officer if _PSEUDONYM.fullmatch(officer) else 'unknown'}",
            justification=why,
            request_id=id_ if _IDENTIFIER.fullmatch(id_) else "unknown",
            asking=peer,
            asked=self._country,
            note=_salt(),
        )

    def of_confirmation(
        self, said: peer_pb2.Confirmation, examiner: Identity, subject_id: str, *, at: datetime
    ) -> Entry:
        """Return the entry of an examiner's conclusion."""
        marked = Sent("CORRESPONDENCE", said.correspondences, said.correspondences_sha256.hex())
        return Entry(
            time=at,
            side=Side.ASKED,
            act=Act.CONFIRMATION,
            outcome=_CONCLUDED[said.conclusion],
            officer=f"{examiner.country}:{examiner.name}",
            justification="an examiner's conclusion on a candidate",
            request_id=said.request_id,
            asking=said.asking_country,
            asked=self._country,
            note=_salt(),
            sent=(marked,),
            subjects=(subject_mark(self._key, subject_id),),
        )

    def _prints(self, search: peer_pb2.Search) -> Sent:
        keyed = hmac.digest(self._key, b"".join(print_digests(search)), "sha256").hex()
        return Sent("PRINT", len(search.prints), keyed)

    def _disclosure(self, first: Entry, subjects: Iterable[str]) -> Entry:
        marks = tuple(subject_mark(self._key, one) for one in subjects)
        sent = (Sent("CANDIDATE", len(marks)),)
        more: dict[str, Any] = {"note": _salt(), "sent": sent, "recipients": (first.asking,)}
        return replace(first, act=Act.DISCLOSURE, subjects=marks, **more)


def of_own(act: Act, *, at: datetime, officer: str, justification: str, **fields: Any) -> Entry:
    """Return an entry of what this node did by itself."""
    plain = {"side": Side.OWN, "act": act, "outcome": Outcome.DONE, "note": _salt(), **fields}
    return Entry(time=at, officer=officer, justification=justification, **plain)


def print_digests(search: peer_pb2.Search) -> list[bytes]:
    """Return the SHA-256 of each print of a search."""
    return [sha256(one.image or one.template).digest() for one in search.prints]


def _salt() -> str:
    return secrets.token_hex(16)
