"""The asked side of an exchange of heads: keep theirs, prove that ours goes on from the one they have."""

from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Act
from papilar.audit.heads import Forked, keep_head, latest_head
from papilar.errors import CountryMismatch
from papilar.exchange.answers import checker, from_head, to_head
from papilar.exchange.office import Office
from papilar.exchange.records import of_own


def exchange_heads(
    office: Office, request: peer_pb2.ExchangeHeadsRequest, peer: str
) -> peer_pb2.ExchangeHeadsResponse:
    """Exchange heads; see `papilar.exchange.asked.AskedNode.exchange_heads`."""
    now, store = office.clock(), office.log.store
    offered = to_head(request.head)
    if offered.head.log_id != peer:
        raise CountryMismatch("the head of another country's log", remedy="send that of your own")
    before = latest_head(store, peer)
    if isinstance(keep_head(store, offered, (), check=checker(office.trust), now=now), Forked):
        why = "the country has signed two histories of its log"
        office.log.append(of_own(Act.NOTICE, at=now, officer=peer, justification=why, code="LOG_FORKED"))
    ours = office.proofs.head()
    return peer_pb2.ExchangeHeadsResponse(
        head=from_head(ours),
        consistency=office.log.consistency_proof(request.known_size, ours.head.size),
        known_size=before.head.size if before else 0,
    )
