"""Proofs that an entry stands in the log, under a head that the node signs for all who ask at the time."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from threading import Lock

from papilar.api.peer.v1 import types_pb2
from papilar.audit.entry import Entry
from papilar.audit.heads import SignedHead, sign_head
from papilar.audit.log import AuditLog, Receipt
from papilar.exchange.answers import from_head
from papilar.signing import Signer


class Proofs:
    """Proves what a log holds; all threads may use one."""

    def __init__(self, log: AuditLog, country: str, signer: Signer, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._country = country
        self._signer = signer
        self._clock = clock
        self._lock = Lock()
        self._last: SignedHead | None = None

    def prove(self, receipt: Receipt) -> types_pb2.InclusionProof:
        """Return the proof for an entry that was appended."""
        return self.prove_all([receipt])[0]

    def prove_all(self, receipts: Sequence[Receipt]) -> tuple[types_pb2.InclusionProof, ...]:
        """Return the proofs for entries that were appended, all under one head."""
        head = self.head(1 + max(receipt.index for receipt in receipts))
        paths = self._log.inclusion_proofs([receipt.index for receipt in receipts], head.head.size)
        return tuple(
            types_pb2.InclusionProof(
                index=receipt.index, leaf_hash=receipt.leaf_hash, path=path, head=from_head(head)
            )
            for receipt, path in zip(receipts, paths, strict=True)
        )

    def head(self, least: int | None = None) -> SignedHead:
        """Return a signed head: of the log as it is, or one made a moment ago of `least` entries and more."""
        with self._lock:
            if least is None or self._last is None or self._last.head.size < least:
                self._last = sign_head(self._log, self._country, sign=self._signer.sign, now=self._clock())
            return self._last


class Together:
    """Logs and proves what is in no hurry together: many refusals cost one write, and one reading.

    Parameters
    ----------
    log : AuditLog
    proofs : Proofs
    pause : float
        Seconds that the first one waits for others.
    """

    def __init__(self, log: AuditLog, proofs: Proofs, *, pause: float) -> None:
        self._log = log
        self._proofs = proofs
        self._pause = pause
        self._lock = Lock()
        self._waiting: list[tuple[Entry, Future[types_pb2.InclusionProof]]] = []

    def append(self, entry: Entry) -> types_pb2.InclusionProof:
        """Append an entry and prove it; it is on the disk when this returns."""
        mine: Future[types_pb2.InclusionProof] = Future()
        with self._lock:
            first = not self._waiting
            self._waiting.append((entry, mine))
        if first:
            time.sleep(self._pause)
            self._write()
        return mine.result()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        try:
            proofs = self._proofs.prove_all(self._log.append_all([entry for entry, _ in waiting]))
        except BaseException as error:  # whatever it is: nobody is told of an entry that has no proof
            for _, one in waiting:
                one.set_exception(error)
            return
        for (_, one), proof in zip(waiting, proofs, strict=True):
            one.set_result(proof)
