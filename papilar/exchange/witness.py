"""What two countries show each other beside searches: the heads of their logs, and what each offers.

Each keeps the other's heads, so that neither can rewrite its own log unseen.
"""

import re
from datetime import UTC, datetime

from papilar.api.peer.v1 import peer_pb2
from papilar.audit import merkle
from papilar.audit.heads import Forked, Kept, SignedHead, Unproven, keep_head, latest_head, sign_head
from papilar.audit.log import AuditLog
from papilar.errors import AnswerInvalid, LogForked
from papilar.exchange.answers import checker, from_head, to_head
from papilar.exchange.calls import PeerLine
from papilar.exchange.seal import SKEW, open_sealed
from papilar.signing import Signer
from papilar.trust import Trust

_VERSION = "[A-Za-z0-9._+-]{1,64}"  # what is shown to users holds no text of a peer's
_REMEDY = "tell the supervising authorities of both countries; papilar audit heads shows what was signed"


def exchange(
    line: PeerLine,
    peer: str,
    log: AuditLog,
    *,
    country: str,
    signer: Signer,
    trust: Trust,
    at: datetime,
    timeout: float,
    offered: SignedHead | None = None,
) -> Kept:
    """Exchange heads with a peer, and keep its present one.

    Parameters
    ----------
    line : PeerLine
    peer, country : str
        The other country, and ours.
    log : AuditLog
        Ours.
    signer : Signer
        Our seal.
    trust : Trust
    at : datetime
        Now, UTC.
    timeout : float
        Seconds.
    offered : SignedHead, optional
        A head that the peer signed under an answer, and whose place in its history is to be proven too.

    Raises
    ------
    LogForked
        What the peer signed does not fit together.
    NodeError, DeadlinePassed, CertificateRefused, SignatureRefused, RequestInvalid
        No answer, or one that is none.
    """
    own = from_head(sign_head(log, country, sign=signer.sign, now=at))

    def ask(size: int) -> tuple[SignedHead, tuple[bytes, ...]]:
        request = peer_pb2.ExchangeHeadsRequest(head=own, known_size=size)
        said = line.exchange_heads(request, timeout=timeout)
        return to_head(said.head), tuple(said.consistency)

    if offered is not None:
        head, proof = ask(offered.head.size)
        _check_follows(offered, head, proof, peer)
    kept = latest_head(log.store, peer)
    head, proof = ask(kept.head.size if kept else 0)
    if head.head.log_id != peer:
        raise LogForked(f"{peer} showed the log of another country", remedy=_REMEDY)
    verdict = keep_head(log.store, head, proof if kept else (), check=checker(trust), now=at)
    if isinstance(verdict, Forked | Unproven):
        raise LogForked(f"{peer} does not prove that its log goes on from what it signed", remedy=_REMEDY)
    return verdict


def describe(
    line: PeerLine, peer: str, *, country: str, trust: Trust, at: datetime, timeout: float
) -> peer_pb2.NodeDescription:
    """Ask a peer what it offers us; parameters as `exchange`.

    Raises
    ------
    AnswerInvalid
        It describes another node, or for another country, or it is an old description.
    NodeError, DeadlinePassed, NotPermitted, CertificateRefused, SignatureRefused, IdentityPresent
        No answer, or one that is none.
    """
    signed, empty = line.describe(timeout=timeout).description, peer_pb2.NodeDescription()
    said, _ = open_sealed("description", signed, empty, trust, country=peer, at=at)
    versions = said.extractor_version, said.matcher_version, said.calibration_id
    fits = (said.country, said.peer) == (peer, country) and all(re.fullmatch(_VERSION, v) for v in versions)
    if not fits or abs(said.create_time.ToDatetime(UTC) - at) > SKEW:
        raise AnswerInvalid(f"{peer} describes something else", remedy="tell that node's operator")
    return said


def _check_follows(before: SignedHead, after: SignedHead, proof: tuple[bytes, ...], peer: str) -> None:
    old, new = before.head, after.head
    if not merkle.holds_consistency(old.size, new.size, old.root, new.root, proof):
        raise LogForked(f"{peer} has signed a head that its log does not go on from", remedy=_REMEDY)
