"""Statements and their signatures: a message of the peer contract, sealed by one side, opened by the other.

A statement is opened in one order, always: the certificate and its country, the signature over the exact
bytes, then the bytes. What does not parse, or holds a field that the contract does not know, is refused: an
unknown field has room for a name.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from papilar.api.peer.v1 import types_pb2
from papilar.errors import ClockSkew, CountryMismatch, IdentityPresent, RequestInvalid
from papilar.identity import Identity, Kind
from papilar.signing import Signature, Signer
from papilar.trust import Trust

SKEW = timedelta(minutes=5)
"""How far a statement's time may be from ours; the contract's."""

SEALS = frozenset({Kind.SEAL})
M = TypeVar("M", bound=Message)


class Opened(NamedTuple):
    """Who made a statement: the country and, of a person, the pseudonym; and the SHA-256 of its bytes."""

    signer: Identity
    sha256: bytes


def seal(kind: str, statement: Message, signer: Signer) -> types_pb2.Signed:
    """Return a statement with its signature.

    Parameters
    ----------
    kind : str
        As the contract states beside the field.
    statement : Message
    signer : Signer
    """
    data = statement.SerializeToString(deterministic=True)
    signature = signer.sign(kind, data)
    return types_pb2.Signed(statement=data, certificate=signature.certificate, signature=signature.value)


def open_sealed(
    kind: str,
    signed: types_pb2.Signed,
    into: M,
    trust: Trust,
    *,
    country: str,
    at: datetime,
    kinds: Collection[str] = SEALS,
) -> tuple[M, Opened]:
    """Check a signature and read what it is on.

    Parameters
    ----------
    kind : str
        As the contract states beside the field.
    signed : Signed
    into : Message
        An empty message of the statement's type; it is filled and returned.
    trust : Trust
    country : str
        Country of the TLS certificate, or, of what was stored, of whom it came from.
    at : datetime
        UTC.
    kinds : collection of str
        Who may sign it.

    Raises
    ------
    CertificateRefused, SignatureRefused
    CountryMismatch
        The signer is of another country.
    IdentityPresent
        A field that the contract does not know.
    RequestInvalid
        No message of this type.
    """
    signer = trust.check(
        kind, signed.statement, Signature(signed.certificate, signed.signature), at=at, kinds=kinds
    )
    if signer.country != country:
        raise CountryMismatch(
            f"a {kind} sealed by {signer.country} came from {country}",
            remedy="send what your own node sealed",
        )
    return read_statement(kind, signed.statement, into), Opened(signer, sha256(signed.statement).digest())


def read_statement(kind: str, data: bytes, into: M) -> M:
    """Fill a message with bytes; raises `RequestInvalid` or `IdentityPresent` as `open_sealed` does."""
    try:
        into.ParseFromString(data)
    except DecodeError:
        raise RequestInvalid(f"the {kind} cannot be read", remedy="send what the contract states") from None
    if has_unknown_fields(into):
        raise IdentityPresent(
            f"the {kind} has a field that the contract does not know",
            remedy="leave it out: there is no room for more",
        )
    return into


def has_unknown_fields(message: Message) -> bool:
    """Return whether a message, or one within it, has a field that its type does not know."""
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is not None and any(
            map(has_unknown_fields, value if field.is_repeated else [value])
        ):
            return True
    return False


def check_time(stated: Timestamp, *, at: datetime) -> None:
    """Raise `ClockSkew` where a statement's time is more than `SKEW` from `at`."""
    seconds = stated.seconds + stated.nanos / 1e9 - at.timestamp()
    if abs(seconds) > SKEW.total_seconds():
        raise ClockSkew(
            f"the statement's time is {seconds:+.0f} s from ours", remedy="set the clock, and sign it again"
        )


def content_hash(statement: Message) -> bytes:
    """Return the SHA-256, 32 bytes, of a statement without its `create_time`: it outlives a new signature."""
    plain = type(statement)()
    plain.CopyFrom(statement)
    plain.ClearField("create_time")
    return sha256(plain.SerializeToString(deterministic=True)).digest()


def stamp(at: datetime) -> Timestamp:
    """Return a time as the contract writes it."""
    stated = Timestamp()
    stated.FromDatetime(at)
    return stated
