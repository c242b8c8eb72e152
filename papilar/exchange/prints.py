"""Prints that travel: what a file may hold beside the print itself, checked before it is decoded.

An image with room for words is refused, whatever stands there: a PNG may have the chunks that pixels need and
no byte more, a WSQ file no comment, a template no extended data. The asking side makes such images with
`clean_image`.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from enroll import wsq_stream
from enroll.errors import ImageFormatUnknown, ImageTooLarge, ImageTruncated, ResolutionImplausible
from enroll.image import LIMITS, GrayImage, encode_png, read_image
from matcher.codecs import decode, recognise
from matcher.errors import InvalidInput, TemplateFormatUnknown
from matcher.template import Finger, Impression
from papilar.api.peer.v1 import types_pb2
from papilar.errors import IdentityPresent, RequestInvalid
from papilar.requests import PrintInput

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ONCE = {b"IHDR": 13, b"PLTE": 768, b"pHYs": 9, b"gAMA": 4, b"sBIT": 4, b"IEND": 0}
"""Most bytes of a chunk that stands once at most; IDAT may be repeated."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG, section 11.2.1)
_DEPTHS = (1, 2, 4, 8, 16)
_WSQ = b"\xff\xa0"
_COMMENT, _BLOCK, _END = 0xA8, 0xA3, b"\xff\xa1"
_TEMPLATES = ("iso-19794-2:2005", "iso-19794-2:2011")
_PLAIN = "send pixels alone: an image of papilar's own making, or a template without extended data"


class _Header(NamedTuple):
    width: int
    height: int
    row_bytes: int


def clean_image(image: GrayImage | bytes, *, ppi: float | None = None) -> bytes:
    """Return an image as it may travel: written anew as PNG, with its pixels and its resolution alone.

    Parameters
    ----------
    image : GrayImage or bytes
        A file of any format that `enroll.image.read_image` takes.
    ppi : float, optional
        Resolution of a file, pixels per inch, over what it states.

    Raises
    ------
    ImageError
        As `read_image`.
    """
    return encode_png(image if isinstance(image, GrayImage) else read_image(image, ppi=ppi))


def check_prints(prints: Sequence[types_pb2.Print]) -> None:
    """Check each print as `check_print`; the message of an error names its index."""
    for index, one in enumerate(prints):
        try:
            check_print(one)
        except InvalidInput as error:
            raise type(error)(f"print {index}: {error.cause}", remedy=error.remedy) from error


def check_print(one: types_pb2.Print) -> None:
    """Refuse a print that carries more than a print. No pixel is decoded, and no print looked at.

    Raises
    ------
    IdentityPresent
        The file has room for text: another chunk, a comment, extended data, bytes behind its end.
    RequestInvalid
        A code that the contract does not have, or neither image nor template.
    ImageFormatUnknown, ImageTruncated, ImageTooLarge, ResolutionImplausible, TemplateError
        By its header.
    """
    print_input(one)
    if one.WhichOneof("data") == "template":
        _check_template(one.template)
        return
    if not LIMITS.ppi_low <= one.ppi <= LIMITS.ppi_high:
        raise ResolutionImplausible(
            f"{one.ppi:g} ppi, outside {LIMITS.ppi_low:g} to {LIMITS.ppi_high:g}",
            remedy="state the scanner's true resolution",
        )
    if one.image.startswith(_SIGNATURE):
        _check_png(one.image)
    elif one.image.startswith(_WSQ):
        _check_wsq(one.image)
    else:
        raise ImageFormatUnknown("neither PNG nor WSQ", remedy=_PLAIN)


def print_input(one: types_pb2.Print) -> PrintInput:
    """Return a print of the contract as a node takes it; raises `RequestInvalid` for a code that is none."""
    kind = one.WhichOneof("data")
    try:
        finger = Finger(one.position)
        impression = Impression(one.impression - 1) if one.impression else None
    except ValueError:
        raise RequestInvalid(
            f"finger position {one.position}, impression {one.impression}",
            remedy="use the codes of the contract",
        ) from None
    if kind is None:
        raise RequestInvalid("neither an image nor a template", remedy="send one of the two")
    if kind == "image":
        return PrintInput(finger, impression, image=one.image, ppi=one.ppi)
    return PrintInput(finger, impression, template=one.template)


# ---- PNG


def _check_png(data: bytes) -> None:
    """Walk the chunks; the compressed pixels must be exactly those that the header asks for.

    References
    ----------
    W3C, Portable Network Graphics, second edition, sections 5 and 11.
    """
    pixels = _Pixels()
    seen: set[bytes] = set()
    for kind, body in _chunks(data):
        if kind != b"IDAT" and (kind not in _ONCE or len(body) > _ONCE[kind]):
            raise IdentityPresent("a PNG chunk that pixels do not need, or a longer one", remedy=_PLAIN)
        if kind in seen - {b"IDAT"} or (kind == b"IHDR") != (not seen):
            raise _damaged("chunks out of their order")
        seen.add(kind)
        if kind == b"IHDR":
            pixels.begin(_header(body))
        elif kind == b"IDAT":
            pixels.take(body)
    pixels.end()


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) != 4 or int.from_bytes(check, "big") != zlib.crc32(kind + body):
            raise _damaged("a chunk is not whole")
        yield kind, body
        at += 12 + length
    if at != len(data):
        raise IdentityPresent("bytes behind the end of the PNG", remedy=_PLAIN)


def _header(body: bytes) -> _Header:
    if len(body) != 13 or body[9] not in _CHANNELS or body[8] not in _DEPTHS or any(body[10:12]):
        raise _damaged("its header is none")
    if body[12]:
        raise ImageFormatUnknown("an interlaced PNG", remedy=_PLAIN)
    width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    _check_size(width, height)
    return _Header(width, height, 1 + (width * _CHANNELS[body[9]] * body[8] + 7) // 8)


class _Pixels:
    """Counts what the compressed data unfold to, and stops where that is more than the header says."""

    def __init__(self) -> None:
        self._left = 0
        self._unfold = zlib.decompressobj()

    def begin(self, header: _Header) -> None:
        self._left = header.height * header.row_bytes

    def take(self, data: bytes) -> None:
        try:
            while data or self._unfold.unconsumed_tail:
                piece = self._unfold.decompress(data, 1 << 20)
                data = self._unfold.unconsumed_tail
                self._left -= len(piece)
                if self._left < 0 or self._unfold.unused_data:
                    raise IdentityPresent("more in the PNG than its pixels", remedy=_PLAIN)
                if not piece and not data:
                    return
        except zlib.error:
            raise _damaged("its pixels cannot be unfolded") from None

    def end(self) -> None:
        if self._left or not self._unfold.eof:
            raise _damaged("its pixels are not whole")


# ---- WSQ, templates


def _check_wsq(data: bytes) -> None:
    """Walk the segments, which `wsq_stream.header` has found to be in order."""
    head = wsq_stream.header(data)
    _check_size(head.width, head.height)
    at = 2
    while data[at : at + 2] != _END:
        marker = data[at + 1]
        if marker == _COMMENT:
            raise IdentityPresent("a WSQ file with a comment", remedy=_PLAIN)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        while marker == _BLOCK and (data[at] != 0xFF or data[at + 1] == 0):
            at = data.index(b"\xff", at + (data[at] == 0xFF))
    if at + 2 != len(data):
        raise IdentityPresent("bytes behind the end of the WSQ file", remedy=_PLAIN)


def _check_template(data: bytes) -> None:
    kind = recognise(data)
    if kind not in _TEMPLATES:
        raise TemplateFormatUnknown(f"a template of {kind}", remedy="send ISO/IEC 19794-2:2005 or :2011")
    if len(decode(data)) != 1:
        raise RequestInvalid("a template of several views", remedy="send each finger by itself")
    if len(data) != (_length_2005(data) if kind == _TEMPLATES[0] else _length_2011(data)):
        raise IdentityPresent("a template with extended data", remedy=_PLAIN)


def _length_2005(data: bytes) -> int:
    """Return how long a record of one view is without extended data: heads, minutiae, a length of zero."""
    return 28 + 6 * data[27] + 2


def _length_2011(data: bytes) -> int:
    """Likewise, with the quality blocks of 5 bytes that it states, and no block of certificates."""
    view = 15 + 19 + 5 * data[33] + data[14]
    size, count = data[view + 11] >> 4, data[view + 12]
    return view + 13 + size * count + 2 if not data[14] else -1


def _check_size(width: int, height: int) -> None:
    if not (0 < width <= LIMITS.side and 0 < height <= LIMITS.side and width * height <= LIMITS.pixels):
        raise ImageTooLarge(
            f"{width} x {height} pixels, more than {LIMITS.side} a side or {LIMITS.pixels} in all, or none",
            remedy="send one print, not a sheet",
        )


def _damaged(what: str) -> ImageTruncated:
    return ImageTruncated(f"the PNG file is damaged: {what}", remedy="send the whole file")
