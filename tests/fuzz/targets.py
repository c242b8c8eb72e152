"""What is fuzzed: every decoder that takes bytes from outside, each as one function of bytes.

Any bytes are decoded or refused: a refusal is one of `PapilarError`, of its branch of broken input or, where
signatures are looked at, of a request that is not allowed. Anything else that leaves a target is a finding.

Checksums keep mutations out of what lies behind them. So each target sees the bytes as they come, and then
once more with checksums, lengths or signatures put right.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.message import DecodeError

from enroll import nist, wsq_stream
from enroll.errors import ResolutionImplausible, ResolutionUnknown
from enroll.image import read_image
from enroll.nist.pictures import PICTURE_TYPES
from matcher import ridges
from matcher.codecs import NATIVE, decode, encode
from matcher.codecs.native import MAGIC
from matcher.errors import InvalidInput
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.archive.receipt import read_lines, verify_receipt
from papilar.archive.sources import open_source
from papilar.errors import RequestRefused, SignatureRefused
from papilar.exchange.seal import open_sealed
from papilar.policy import Law, LawText
from papilar.policy.bundle import MAGIC as LAW
from papilar.policy.installed import open_law
from papilar.trust import Trust
from tests.fuzz import seeds

Decoder = Callable[[bytes], object]
MOST_ITEMS = 200
"""How many items of a source are read; its own listing goes on to the end."""


class Target(NamedTuple):
    """A decoder, what it may raise, and what to begin with."""

    decode: Decoder
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = (InvalidInput,)
    mended: Callable[[bytes], bytes] = bytes

    def run(self, data: bytes) -> None:
        """Decode bytes, as they are and mended; raises what is none of the refusals."""
        for each in dict.fromkeys((data, self.mended(data))):
            with suppress(*self.refusals):
                self.decode(each)


# ---- images, templates, transactions


def _image(data: bytes) -> None:
    try:
        read_image(data)
    except (ResolutionUnknown, ResolutionImplausible):
        read_image(data, ppi=500)


def _wsq(data: bytes) -> None:
    wsq_stream.header(data)
    wsq_stream.check(data)
    _image(data)


def _codecs(data: bytes) -> None:
    views = decode(data)
    if views and decode(encode(views, NATIVE)) != views:
        raise ValueError("what was read is not what is written")


def _ridges(data: bytes) -> None:
    ridges.check(data)
    if data:
        ridges.unpacked(data)
        ridges.mirrored(data, 300)


def _nist(data: bytes) -> None:
    transaction = nist.decode(data)
    if nist.encode(transaction) != data:
        raise ValueError("what was read is not what is written")
    for record in transaction.of_type(*PICTURE_TYPES):
        _unless_refused(lambda record=record: nist.picture(transaction, record).image())
    for record in transaction.of_type(9):
        _unless_refused(lambda record=record: list(nist.features(transaction, record)))
    _unless_refused(lambda: list(nist.templates(transaction)))
    _unless_refused(lambda: list(nist.pictures(transaction)))
    for profile in _profiles():
        nist.check(transaction, profile)


@cache
def _profiles() -> tuple[nist.Profile, ...]:
    return tuple(map(nist.load_profile, nist.profile_names()))


def _unless_refused(read: Callable[[], object]) -> None:
    """Read one thing of several: what is wrong with it keeps the next ones from nothing."""
    with suppress(InvalidInput):
        read()


# ---- files: what is opened by a path


@cache
def _folder() -> tuple[Path, TemporaryDirectory[str]]:
    """Return a folder of two small files; it goes when the process ends."""
    kept = TemporaryDirectory(prefix="papilar-fuzz-")
    folder = Path(kept.name)
    (folder / "a").mkdir()
    for name in ("a/1.png", "a/2.png"):
        (folder / name).write_bytes(seeds.picture("PNG"))
    return folder, kept


def _file(name: str, data: bytes) -> Path:
    path = _folder()[0] / name
    path.unlink(missing_ok=True)  # a file that is cut and written anew, some file systems write out at once
    path.write_bytes(data)
    return path


def _source(name: str, data: bytes) -> None:
    for item in islice(open_source(_file(name, data)), MOST_ITEMS):
        if item.fault is None:
            _unless_refused(item.read)


def _archive(data: bytes) -> None:
    _source("archive", data)


def _manifest(data: bytes) -> None:
    _source("m.csv", data)


def _receipt(data: bytes) -> None:
    path = _file("receipt", data)
    _unless_refused(lambda: verify_receipt(path))
    list(read_lines(path))


# ---- what is signed


@cache
def _trust() -> Trust:
    return Trust.load(seeds.authority()[0] / "trust")


def _law(data: bytes) -> None:
    """Open a bundle; any other bytes are the three texts of a law, parted by zero bytes."""
    if data.startswith(LAW):
        open_law(data, _trust(), country="SLV", at=seeds.AT)
    else:
        Law.read(LawText(*_texts(data)))


def _texts(data: bytes) -> list[str]:
    return [*data.decode("utf-8", "replace").split("\0", 2), "", ""][:3]


def _sealed(data: bytes) -> None:
    try:
        signed = types_pb2.Signed.FromString(data)
    except DecodeError:
        return  # gRPC refuses it before we see it
    try:
        open_sealed("search", signed, peer_pb2.Search(), _trust(), country="SLV", at=seeds.AT)
    except SignatureRefused:
        open_sealed("answer", signed, peer_pb2.Answer(), _trust(), country="SLV", at=seeds.AT)


# ---- checksums, lengths and signatures put right


def _png_mended(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = io.BytesIO(), 8
    out.write(data[:8])
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunk = data[at + 4 : at + 8 + length]
        out.write(data[at : at + 4] + chunk + zlib.crc32(chunk).to_bytes(4, "big"))
        at += 12 + length
    return out.getvalue()


def _native_mended(data: bytes) -> bytes:
    if not data.startswith(MAGIC) or len(data) < 18:
        return data
    body = data[:10] + len(data).to_bytes(4, "little") + data[14:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


_TEXT_RECORD = re.compile(rb"(\d{1,2}\.0?01:)(\d+)(\x1d[^\x1c]*\x1c)", re.DOTALL)


def _nist_mended(data: bytes) -> bytes:
    """State the true length in records that hold text alone."""

    def lengthened(found: "re.Match[bytes]") -> bytes:
        tag, digits, rest = found.groups()
        return tag + b"%0*d" % (len(digits), len(found[0])) + rest

    return _TEXT_RECORD.sub(lengthened, data)


def _tar_mended(data: bytes) -> bytes:
    """State the true sums of headers (POSIX.1-2017, pax, ustar Interchange Format: chksum)."""
    out = bytearray(data)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def _law_mended(data: bytes) -> bytes:
    """Have the texts signed."""
    return data if data.startswith(LAW) else seeds.bundle(LawText(*_texts(data)))


def _sealed_mended(data: bytes) -> bytes:
    """Have the statement signed anew."""
    try:
        statement = types_pb2.Signed.FromString(data).statement
    except DecodeError:
        return data
    return seeds.signed("search", statement).SerializeToString()


_SIGNED = (InvalidInput, RequestRefused)

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "image": Target(_image, seeds.images, mended=_png_mended),
        "wsq": Target(_wsq, seeds.wsqs),
        "codecs": Target(_codecs, seeds.records, mended=_native_mended),
        "ridges": Target(_ridges, seeds.descriptions),
        "nist": Target(_nist, seeds.transactions, mended=_nist_mended),
        "archive": Target(_archive, seeds.archives, mended=_tar_mended),
        "manifest": Target(_manifest, seeds.manifests),
        "receipt": Target(_receipt, seeds.receipts),
        "law": Target(_law, seeds.laws, _SIGNED, _law_mended),
        "sealed": Target(_sealed, seeds.statements, _SIGNED, _sealed_mended),
    }
)
"""Every target by its name; a file of `failures` begins with one."""
