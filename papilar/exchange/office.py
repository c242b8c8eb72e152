"""What every answer to another country needs: who we are, whom we believe, our seal, our log, our store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from matcher.errors import InvalidInput
from papilar.api.peer.v1 import peer_pb2
from papilar.audit.log import AuditLog
from papilar.errors import ClockSkew, CountryMismatch, NotPermitted, RequestConflict, SignatureRefused
from papilar.exchange.proofs import Proofs
from papilar.exchange.records import Records
from papilar.exchange.turns import Once
from papilar.signing import Signer
from papilar.store.exchange import ExchangeStore, Known
from papilar.trust import Trust

_REFUSALS = (InvalidInput, ClockSkew, CountryMismatch, NotPermitted, RequestConflict, SignatureRefused)


@dataclass(frozen=True, slots=True)
class Office:
    """The parts that searches and conclusions share; see `papilar.exchange.asked.AskedNode`."""

    country: str
    trust: Trust
    signer: Signer
    log: AuditLog
    store: ExchangeStore
    records: Records
    proofs: Proofs
    once: Once
    clock: Callable[[], datetime]

    def check_countries(self, said: peer_pb2.Search | peer_pb2.Confirmation, peer: str) -> None:
        """Raise `CountryMismatch` unless a statement is the peer's and meant for us."""
        if (said.asking_country, said.asked_country) != (peer, self.country) or peer == self.country:
            raise CountryMismatch(
                "the statement names other countries than who sent it and who got it",
                remedy="state the country of the certificate, and the one that is asked",
            )

    @contextmanager
    def logging_refusals(self, peer: str, request_id: str, officer: str) -> Iterator[None]:
        """Log the statement that is no request, and refuse it."""
        try:
            yield
        except _REFUSALS as error:
            self.log_refusal(peer, error.reason, request_id, officer)
            raise

    def log_refusal(self, peer: str, code: str, request_id: str, officer: str) -> None:
        """Log that a statement was refused; the code may say more than the peer is told."""
        self.log.append(self.records.of_refused(peer, code, at=self.clock(), id_=request_id, officer=officer))


def repeated(known: Known | None) -> bytes | None:
    """Return the first answer to what comes again, None where it is to be done.

    Raises
    ------
    RequestConflict
        It came with other content, or its answer has been erased.
    """
    if known is None:
        return None
    if not known.same or (known.answered and known.answer is None):
        raise RequestConflict(
            "the id was used with other content, or its answer has been erased", remedy="take a new id"
        )
    return known.answer
