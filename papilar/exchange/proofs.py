"""Proofs that an entry stands in the log, under a head that the node signs for all who ask at the time."""

import time
from collections.abc import Callable
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
        head = self.head(receipt.index + 1)
        return types_pb2.InclusionProof(
            index=receipt.index,
            leaf_hash=receipt.leaf_hash,
            path=self._log.inclusion_proof(receipt.index, head.head.size),
            head=from_head(head),
        )

    def head(self, least: int | None = None) -> SignedHead:
        """Return a signed head: of the log as it is, or one made a moment ago of `least` entries and more."""
        with self._lock:
            if least is None or self._last is None or self._last.head.size < least:
                self._last = sign_head(self._log, self._country, sign=self._signer.sign, now=self._clock())
            return self._last


class Together:
    """Logs what is in no hurry together: many refusals cost the disk one write.

    Parameters
    ----------
    log : AuditLog
    pause : float
        Seconds that the first one waits for others.
    """

    def __init__(self, log: AuditLog, *, pause: float) -> None:
        self._log = log
        self._pause = pause
        self._lock = Lock()
        self._waiting: list[tuple[Entry, Future[Receipt]]] = []

    def append(self, entry: Entry) -> Receipt:
        """Append an entry; it is on the disk when this returns."""
        mine: Future[Receipt] = Future()
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
            receipts = self._log.append_all([entry for entry, _ in waiting])
        except BaseException as error:  # whatever it is: none of them was written
            for _, one in waiting:
                one.set_exception(error)
            return
        for (_, one), receipt in zip(waiting, receipts, strict=True):
            one.set_result(receipt)
