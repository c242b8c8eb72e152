"""Signed heads of the tree: what a country says its log is, and what others keep of it.

A country signs the size and the root of its log. Others keep that, and take the next head only with the proof
that it continues the one before (RFC 9162, section 2.1.4). A country that shows two histories has signed the
evidence itself.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from papilar.audit import merkle
from papilar.audit.entry import canonical, microseconds, moment
from papilar.audit.log import AuditLog
from papilar.errors import RequestInvalid, SignatureRefused
from papilar.signing import Signature
from papilar.store.log import HeadRow, LogStore

KIND = "log_head"
"""Kind of the signed message."""

VERSION = 1
"""Of the payload."""

OWN = ""
"""Stands in the store for this node's own log, whatever its country."""

Sign = Callable[[str, bytes], Signature]
"""Signs a payload of a kind: `papilar.signing.Signer.sign`."""

Check = Callable[[str, bytes, Signature, datetime], str]
"""Returns the country that signed a payload of a kind, at a time; raises `SignatureRefused` and the like."""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What is signed.

    Attributes
    ----------
    log_id : str
        The country whose log it is, ISO 3166-1 alpha-3.
    size : int
        Number of entries.
    root : bytes
        32 bytes.
    time : datetime
        When it was signed, UTC.
    """

    log_id: str
    size: int
    root: bytes
    time: datetime

    def payload(self) -> bytes:
        """Return the bytes that are signed: canonical JSON."""
        values = {"log": self.log_id, "size": self.size, "root": self.root.hex()}
        return canonical(values | {"time_us": microseconds(self.time), "version": VERSION})


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head with its signature."""

    head: TreeHead
    signature: Signature

    def to_json(self) -> dict[str, Any]:
        """Return it for a file: the payload as text, certificate and signature in base64."""
        certificate, value = (b64encode(part).decode() for part in self.signature)
        return {"payload": self.head.payload().decode(), "certificate": certificate, "signature": value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SignedHead":
        """Return what `to_json` gave; raises `RequestInvalid` for anything else."""
        try:
            parts = (b64decode(values[name], validate=True) for name in ("certificate", "signature"))
            return cls(read_payload(values["payload"].encode()), Signature(*parts))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _no_head() from None


@dataclass(frozen=True, slots=True)
class Kept:
    """The head continues the one before it, which is None for the first."""

    head: SignedHead
    before: SignedHead | None


@dataclass(frozen=True, slots=True)
class Forked:
    """Two heads of one size with different roots: their signer has shown two histories. Both are kept."""

    kept: SignedHead
    offered: SignedHead


@dataclass(frozen=True, slots=True)
class Unproven:
    """The proof does not show that one head continues the other. The offered one is not kept; ask again."""

    kept: SignedHead
    offered: SignedHead


def read_payload(data: bytes) -> TreeHead:
    """Return the head of a payload; nothing but what `TreeHead.payload` gives is taken.

    Raises
    ------
    RequestInvalid
    """
    try:
        values = json.loads(data)
        root = bytes.fromhex(values["root"])
        head = TreeHead(values["log"], values["size"], root, moment(values["time_us"]))
        sound = type(head.size) is int and head.size >= 0 and len(root) == merkle.HASH_BYTES
        sound = sound and isinstance(head.log_id, str) and head.payload() == data
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise _no_head() from None
    if not sound:
        raise _no_head()
    return head


def _no_head() -> RequestInvalid:
    return RequestInvalid("the bytes are not those of a log's head", remedy="send the head as it was signed")


# ---- one's own


def sign_head(log: AuditLog, country: str, *, sign: Sign, now: datetime) -> SignedHead:
    """Sign the present head of the own log, and keep it: `papilar.audit.check` holds the log to it."""
    size, root = log.head()
    head = TreeHead(country, size, root, now)
    signed = SignedHead(head, sign(KIND, head.payload()))
    with log.store.writing() as rows:
        rows.keep_head(_row(OWN, signed))
    return signed


# ---- those of others


def latest_head(store: LogStore, peer: str) -> SignedHead | None:
    """Return the largest head kept of a country's log: its next one needs a proof from this size."""
    with store.reading() as rows:
        kept = rows.heads(peer)
    return signed_head(kept[0]) if kept else None


def kept_heads(store: LogStore) -> tuple[SignedHead, ...]:
    """Return all heads on file, the own ones first."""
    with store.reading() as rows:
        return tuple(map(signed_head, rows.heads()))


def keep_head(
    store: LogStore, offered: SignedHead, proof: Sequence[bytes], *, check: Check, now: datetime
) -> Kept | Forked | Unproven:
    """Keep a head that another country offers, if it continues what it has signed before.

    Parameters
    ----------
    store : LogStore
    offered : SignedHead
    proof : sequence of bytes
        Consistency proof between the offered head and the latest kept; empty for the first.
    check : callable
        See `Check`.
    now : datetime
        UTC.

    Raises
    ------
    SignatureRefused
        The signature does not hold, or is of another country than the log.
    """
    head = offered.head
    signer = check(KIND, head.payload(), offered.signature, now)
    if signer != head.log_id:
        raise SignatureRefused(
            f"{signer} has signed a head of the log of {head.log_id}", remedy="a country signs its own log"
        )
    with store.writing() as rows:
        kept = [signed_head(row) for row in rows.heads(head.log_id)]
        verdict = _judge(kept, offered, proof)
        if not isinstance(verdict, Unproven):
            rows.keep_head(_row(head.log_id, offered))
    return verdict


def _judge(
    kept: Sequence[SignedHead], offered: SignedHead, proof: Sequence[bytes]
) -> Kept | Forked | Unproven:
    for other in kept:
        if other.head.size == offered.head.size and other.head.root != offered.head.root:
            return Forked(other, offered)
    if not kept:
        return Kept(offered, None)
    old, new = sorted((kept[0].head, offered.head), key=lambda head: head.size)
    holds = merkle.holds_consistency(old.size, new.size, old.root, new.root, proof)
    return Kept(offered, kept[0]) if holds else Unproven(kept[0], offered)


def signed_head(row: HeadRow) -> SignedHead:
    """Return a head as it was kept; raises `RequestInvalid` where its payload is none."""
    return SignedHead(read_payload(row.payload), Signature(row.certificate, row.signature))


def _row(peer: str, signed: SignedHead) -> HeadRow:
    head, (certificate, value) = signed.head, signed.signature
    time_us = microseconds(head.time)
    return HeadRow(peer, head.size, head.root, time_us, head.payload(), value, certificate)
