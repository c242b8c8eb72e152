"""What an image file says of itself, read from its first bytes without decoding it.

A record repeats kind, size and resolution of its image. Where the two differ, the file is what was written
by the scanner's software and the record what was typed beside it; so both must be known.
"""

import struct
from typing import NamedTuple

from enroll.errors import ImageError
from enroll.wsq_stream import header as wsq_header

_INCH = 0.0254  # metres
_JPEG_FRAMES = {0xC0: "JPEGB", 0xC1: "JPEGB", 0xC2: "JPEGB", 0xC3: "JPEGL"}
_JP2_CODESTREAM = b"\xff\x4f\xff\x51"
_NO_PPI = (0.0, 255.0)  # what encoders write for an unknown resolution: 0, or -1 in a byte
_LONGEST_HEAD = 1 << 20  # bytes before a JPEG's frame: comments and profiles


class FileHead(NamedTuple):
    """Kind of an image file as in Table 15 ("JP2" also for JP2L), its size in pixels, its ppi."""

    kind: str
    width: int
    height: int
    ppi: float | None


def read_head(data: bytes) -> FileHead | None:
    """Recognise an image file.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    FileHead or None
        None where the bytes are of no kind that a record may hold, or end within the header.
    """
    if data.startswith(b"\xff\xa0\xff"):
        return _wsq(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith((b"\0\0\0\x0cjP  ", _JP2_CODESTREAM)):
        return _jpeg2000(data)
    return None


def _wsq(data: bytes) -> FileHead | None:
    try:
        width, height, ppi = wsq_header(data)
    except ImageError:
        return None
    return FileHead("WSQ20", width, height, None if ppi in _NO_PPI else ppi)


def _png(data: bytes) -> FileHead | None:
    if len(data) < 33:
        return None
    width, height = struct.unpack(">II", data[16:24])
    at = data.find(b"pHYs", 33, data.find(b"IDAT"))
    ppi = None
    if at > 0 and len(data) >= at + 13:
        per_metre, _, unit = struct.unpack(">IIB", data[at + 4 : at + 13])
        ppi = round(per_metre * _INCH, 1) if unit == 1 else None
    return FileHead("PNG", width, height, ppi)


def _jpeg(data: bytes) -> FileHead | None:
    at, ppi = 2, None
    while at + 9 <= min(len(data), _LONGEST_HEAD) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return FileHead(_JPEG_FRAMES[marker], width, height, ppi)
        if marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0" and at + 14 <= len(data):
            unit, density = data[at + 11], int.from_bytes(data[at + 12 : at + 14], "big")
            ppi = {1: float(density), 2: density * 2.54}.get(unit)
        at += 2 + max(length, 2)
    return None


def _jpeg2000(data: bytes) -> FileHead | None:
    at = data.find(_JP2_CODESTREAM, 0, _LONGEST_HEAD)
    if at < 0 or len(data) < at + 24:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    return FileHead("JP2", max(right - left, 0), max(bottom - top, 0), None)
