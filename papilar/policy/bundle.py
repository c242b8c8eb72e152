"""The text of a law, as a folder and as one signed file, its bundle.

PAPLAW1 and a line feed; then three blocks: the law's text, the signer's certificate (DER), the signature.
The text is again three blocks: law.toml, rules.cedar, examples.toml. A block is its length, 4 bytes
big-endian, and its bytes. Nothing follows. What is signed, and hashed, is the text.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from papilar.errors import LawInvalid
from papilar.signing import Signature, Signer

MAGIC = b"PAPLAW1\n"
KIND = "law"
"""The kind of message that the signature of a law is bound to, and of the certificate that may sign one."""

MOST_BYTES = 1024 * 1024
"""Largest file of a law, and largest bundle, that is read."""


class LawText(NamedTuple):
    """The three files of a law, as they are written and signed."""

    terms: str
    rules: str
    examples: str

    def payload(self) -> bytes:
        """Return the one sequence of bytes that stands for the law: what is hashed and signed."""
        return _blocks(part.encode() for part in self)

    def sha256(self) -> str:
        """Return the hash of the law, hexadecimal."""
        return hashlib.sha256(self.payload()).hexdigest()


FILES = LawText("law.toml", "rules.cedar", "examples.toml")
"""What the three files are called."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A law's text and the signature on it, which nobody has checked yet."""

    text: LawText
    signature: Signature = field(repr=False)

    @classmethod
    def sign(cls, text: LawText, signer: Signer) -> Self:
        """Return the bundle of a law that a country's law key signs."""
        return cls(text, signer.sign(KIND, text.payload()))

    def pack(self) -> bytes:
        """Return the bytes of the bundle."""
        return MAGIC + _blocks((self.text.payload(), *self.signature))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Return the bundle of bytes that `pack` wrote; raises `LawInvalid` for any others."""
        if not data.startswith(MAGIC) or len(data) > MOST_BYTES:
            raise LawInvalid("this is no bundle of a law", remedy="make one with papilar policy pack")
        payload, certificate, value = _unblocked(data[len(MAGIC) :], 3)
        parts = (_text(part, name) for part, name in zip(_unblocked(payload, 3), FILES, strict=True))
        return cls(LawText(*parts), Signature(certificate, value))


def read_text(path: Path) -> LawText:
    """Return the text of a law: a folder of its three files, or a bundle, whose signature is not looked at.

    Raises
    ------
    LawInvalid
        A file cannot be read, is too long or no text; the bundle is none.
    """
    if path.is_dir():
        return LawText(*(_text(read_bytes(path / name), name) for name in FILES))
    return Bundle.unpack(read_bytes(path)).text


def read_bytes(path: Path) -> bytes:
    """Return a file of a law; raises `LawInvalid` where it cannot be read or is too long."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise LawInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error
    if len(data) > MOST_BYTES:
        raise LawInvalid(f"{path} is too long", remedy=f"use at most {MOST_BYTES} bytes")
    return data


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LawInvalid(f"{name} is no UTF-8 text", remedy="save the file as UTF-8") from error


def _blocks(parts: Iterable[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _unblocked(data: bytes, count: int) -> list[bytes]:
    """Return so many blocks; raises `LawInvalid` where there are fewer or more."""
    parts, at = [], 0
    for _ in range(count):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at + 4 : end])
        at = end
    if _blocks(parts) != data:
        raise LawInvalid("the bundle of the law is damaged", remedy="fetch it again from who signed it")
    return parts
