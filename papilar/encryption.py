"""Encryption of kept files with AES-256-GCM, and names that do not say what they name.

    offset  bytes
         0      8   magic and version, "PAPORIG" and 1
         8      8   which key
        16     12   nonce, random
        28      n   the content, encrypted
    28 + n     16   tag; the header and the file's name are under it too

A name is the HMAC-SHA256 of the content under a key of its own. So the same content has the same name, and
who holds a known image cannot tell by the names whether it is there. No file opens under another's name.

References
----------
.. [1] NIST SP 800-38D, "Galois/Counter Mode (GCM) and GMAC", section 8.3: at most 2^32 random nonces a key.
.. [2] RFC 5869, "HMAC-based Extract-and-Expand Key Derivation Function (HKDF)".
"""

import hmac
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from papilar.errors import ConfigInvalid, OriginalCorrupt, OriginalKeyUnknown

KEY_BYTES = 32
"""Of a key in the key file."""

_MAGIC = b"PAPORIG\x01"
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_HEAD_BYTES = len(_MAGIC) + _ID_BYTES
_BEGIN = _HEAD_BYTES + _NONCE_BYTES


class _Key(NamedTuple):
    id: bytes
    naming: bytes
    cipher: AESGCM


class Keys:
    """The keys of a store of files: the first encrypts, all decrypt.

    Parameters
    ----------
    secrets : sequence of bytes
        Each of `KEY_BYTES`, random.

    Raises
    ------
    ConfigInvalid
        None, or one of another length.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) != KEY_BYTES for secret in secrets):
            raise ConfigInvalid("no key, or one of the wrong length", remedy=f"it has {KEY_BYTES} bytes")
        keys = [_key(secret) for secret in secrets]
        self._first = keys[0]
        self._by_id = {key.id: key for key in keys}

    @classmethod
    def load(cls, path: Path) -> "Keys":
        """Read a key file: one key a line, hexadecimal; the newest first.

        Raises
        ------
        ConfigInvalid
            It cannot be read, is open to others on this machine, or a line is no key.
        """
        try:
            with path.open("rb") as file:
                mode, lines = os.fstat(file.fileno()).st_mode & 0o777, file.read().split()
        except OSError as error:
            raise ConfigInvalid(
                f"{path} cannot be read ({error.strerror})", remedy="check the path"
            ) from error
        if mode & 0o077:
            raise ConfigInvalid(
                f"the keys {path} are open to others on this machine (mode {mode:04o})",
                remedy=f"chmod 600 {path}, and take a new key if others have read it",
            )
        try:
            return cls([bytes.fromhex(line.decode("ascii")) for line in lines])
        except (ValueError, ConfigInvalid):  # not chained: the keys stay out of every message
            raise ConfigInvalid(
                f"{path} holds no keys", remedy=f"write {KEY_BYTES} random bytes a line, hexadecimal"
            ) from None

    def name(self, data: bytes) -> bytes:
        """Return the name of a content under the first key, 32 bytes."""
        return hmac.digest(self._first.naming, data, "sha256")

    def seal(self, name: bytes, data: bytes) -> bytes:
        """Encrypt a file with the first key; its name is not in it, but needed to open it."""
        head, nonce = _MAGIC + self._first.id, os.urandom(_NONCE_BYTES)
        return head + nonce + self._first.cipher.encrypt(nonce, data, head + name)

    def open(self, name: bytes, sealed: bytes) -> bytes:
        """Decrypt a file.

        Raises
        ------
        OriginalCorrupt
            Cut short, changed, or another file under this name.
        OriginalKeyUnknown
            Its key is none of these.
        """
        head, nonce = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:_BEGIN]
        if len(sealed) < _BEGIN + _TAG_BYTES or not head.startswith(_MAGIC):
            raise _corrupt(name, "is cut short, or none of ours")
        key = self._by_id.get(head[len(_MAGIC) :])
        if key is None:
            raise OriginalKeyUnknown(
                f"the original {name.hex()} is under a key that is not in the key file",
                remedy="add the key that it was written with; if all others open, the file is damaged",
            )
        try:
            return key.cipher.decrypt(nonce, sealed[_BEGIN:], head + name)
        except InvalidTag:
            raise _corrupt(name, "was changed, or is another's") from None

    def is_first(self, sealed: bytes) -> bool:
        """Tell whether a file is under the first key."""
        return sealed.startswith(_MAGIC + self._first.id)


def _key(secret: bytes) -> _Key:
    return _Key(
        _derived(secret, b"papilar original id")[:_ID_BYTES],
        _derived(secret, b"papilar original name"),
        AESGCM(_derived(secret, b"papilar original content")),
    )


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=sha256().digest_size, salt=None, info=purpose).derive(secret)


def _corrupt(name: bytes, how: str) -> OriginalCorrupt:
    return OriginalCorrupt(
        f"the original {name.hex()} {how}", remedy="restore it from a backup of the originals"
    )
