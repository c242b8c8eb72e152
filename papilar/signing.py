"""Signatures on messages between nodes: Ed25519 (RFC 8032), each bound to the kind of its message.

What is signed is `papilar-signature-1`, a zero byte, the kind, a zero byte, the payload. A kind holds no zero
byte, so a signature on one kind of message is none on another. `papilar.trust` checks signatures.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from papilar.errors import ConfigInvalid, RequestInvalid

_PREFIX = b"papilar-signature-1\0"


class Signature(NamedTuple):
    """A signature.

    Attributes
    ----------
    certificate : bytes
        The signer's own certificate, DER.
    value : bytes
        64 bytes.
    """

    certificate: bytes
    value: bytes


class Pair(NamedTuple):
    """A certificate and its key, each PEM; they belong together."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """One who signs.

    Attributes
    ----------
    key : Ed25519PrivateKey
    certificate : x509.Certificate
        Of that key.
    """

    key: Ed25519PrivateKey
    certificate: x509.Certificate

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read a signer's certificate and key, PEM files.

        Raises
        ------
        ConfigInvalid
            As `read_pair`; or the key is none of Ed25519.
        """
        pair = read_pair(certificate, key)
        secret = load_pem_private_key(pair.key, None)
        if not isinstance(secret, Ed25519PrivateKey):
            raise ConfigInvalid(
                f"{key} holds no Ed25519 key", remedy="sign with a seal, a law or a user's signing key"
            )
        return cls(secret, x509.load_pem_x509_certificate(pair.certificate))

    def sign(self, kind: str, payload: bytes) -> Signature:
        """Sign a message of a kind; raises `RequestInvalid` for a kind that cannot be."""
        value = self.key.sign(signed_bytes(kind, payload))
        return Signature(self.certificate.public_bytes(Encoding.DER), value)


def signed_bytes(kind: str, payload: bytes) -> bytes:
    """Return what a signature on a message of this kind is made over.

    Raises
    ------
    RequestInvalid
        The kind is empty, is not ASCII, or holds what cannot be printed, as a zero byte.
    """
    if not (kind and kind.isascii() and kind.isprintable()):
        raise RequestInvalid(f"a message of kind {kind!r}", remedy="a kind is a word of printable ASCII")
    return _PREFIX + kind.encode("ascii") + b"\0" + payload


def read_pair(certificate: Path, key: Path) -> Pair:
    """Read a certificate and its key, and see that they are PEM and of one pair.

    Raises
    ------
    ConfigInvalid
        A file cannot be read or is no PEM, the two do not belong together, or the key is open to others.
    """
    pair = Pair(_read(certificate), _read(key, secret=True))
    try:
        stated = x509.load_pem_x509_certificate(pair.certificate).public_key()
        held = load_pem_private_key(pair.key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        # Not chained: what the library says of a key stays out of every log.
        raise ConfigInvalid(
            f"{certificate} or {key} is not PEM that can be read",
            remedy="give a certificate, and a key without a pass phrase",
        ) from None
    if stated != held:
        raise ConfigInvalid(
            f"{certificate} is not the certificate of {key}", remedy="give two files of one pair"
        )
    return pair


def _read(path: Path, *, secret: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if secret and mode & 0o077:
                raise ConfigInvalid(
                    f"the key {path} is open to others on this machine (mode {mode:04o})",
                    remedy=f"chmod 600 {path}, and take a new key if others have read it",
                )
            return file.read()
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error
