"""Papilar's own template format, lossless: what the store holds and nodes send one another.

=========== ============================================================================================
bytes       content, little-endian
=========== ============================================================================================
8           magic `PAPILAR` and a zero byte
2           version, 2
4           length of the whole record
2           count of views
view, 12    finger, impression, print quality (255: not assessed), 0, width, height (16 bits each),
            count of minutiae (32 bits)
minutia, 10 x, y (int16), angle (float32), kind, quality
2           length of the view's ridge description
that many   the ridge description, see `matcher.ridges`
4           CRC-32 (ISO 3309) of all bytes before it
=========== ============================================================================================

Version 1, which is read too, has no ridge descriptions and no lengths of them.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from matcher.codecs.record import Cursor, check_length
from matcher.errors import TemplateError, TemplateOutOfBounds, TemplateVersionUnsupported
from matcher.template import Finger, Impression, Template

MAGIC = b"PAPILAR\0"
"""First eight bytes."""

VERSION = 2
"""Version that is written; earlier ones are read."""

_HEAD = struct.Struct("<8sHIH")
_VIEW = struct.Struct("<BBBxHHI")
_CHECKSUM = struct.Struct("<I")
_RIDGES = struct.Struct("<H")
_LEAST = _HEAD.size + _CHECKSUM.size
_MINUTIA = np.dtype([("x", "<i2"), ("y", "<i2"), ("angle", "<f4"), ("kind", "u1"), ("quality", "u1")])
_NOT_ASSESSED = 255
_MOST_VIEWS = 0xFFFF


def read(data: bytes) -> list[Template]:
    """Read a record of format `papilar-2` or `papilar-1`.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    list of Template
        Its views, in their order, equal to those that were written.

    Raises
    ------
    TemplateVersionUnsupported
    TemplateTruncated, TemplateOutOfBounds
    TemplateError
        The checksum is not that of the bytes.
    """
    cursor = Cursor(data)
    _, version, length, count = cursor.take(_HEAD)
    if not 1 <= version <= VERSION:
        raise TemplateVersionUnsupported(
            f"a papilar template of version {version}, this software reads 1 to {VERSION}",
            remedy="update Papilar",
        )
    check_length(data, length, least=_LEAST)
    _check_sum(data)
    templates = [_read_view(cursor, version) for _ in range(count)]
    cursor.take(_CHECKSUM)
    cursor.finish()
    return templates


def _check_sum(data: bytes) -> None:
    stated = _CHECKSUM.unpack(data[-_CHECKSUM.size :])[0]
    actual = zlib.crc32(data[: -_CHECKSUM.size])
    if stated != actual:
        raise TemplateError(
            f"the template's checksum is {actual:08x}, it states {stated:08x}",
            remedy="fetch it again, unchanged",
        )


def _read_view(cursor: Cursor, version: int) -> Template:
    finger, impression, print_quality, width, height, count = cursor.take(_VIEW)
    minutiae = cursor.array(count, _MINUTIA)
    ridges = cursor.piece(cursor.take(_RIDGES)[0]) if version > 1 else b""
    with np.errstate(invalid="ignore"):  # a signalling NaN, which Template.of refuses
        angle = minutiae["angle"].astype(np.float64)
    if finger not in frozenset(Finger) or impression not in frozenset(Impression):
        raise TemplateOutOfBounds(
            f"finger code {finger}, impression code {impression}", remedy="use the codes of matcher.template"
        )
    return Template.of(
        np.stack([minutiae["x"], minutiae["y"]], axis=1),
        angle,
        minutiae["kind"],
        minutiae["quality"],
        size=(width, height),
        finger=Finger(finger),
        impression=Impression(impression),
        print_quality=None if print_quality == _NOT_ASSESSED else print_quality,
        ridges=ridges,
    )


def write(templates: Sequence[Template]) -> bytes:
    """Write a record of format `papilar-2`; see the module for its layout.

    Parameters
    ----------
    templates : sequence of Template
        At most 65535.

    Returns
    -------
    bytes

    Raises
    ------
    TemplateOutOfBounds
        More templates than that.
    """
    if len(templates) > _MOST_VIEWS:
        raise TemplateOutOfBounds(
            f"{len(templates)} views, a record holds {_MOST_VIEWS}", remedy="write several records"
        )
    views = b"".join(map(_write_view, templates))
    body = _HEAD.pack(MAGIC, VERSION, _LEAST + len(views), len(templates)) + views
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _write_view(template: Template) -> bytes:
    minutiae = np.empty(len(template), _MINUTIA)
    minutiae["x"], minutiae["y"] = template.xy.T
    minutiae["angle"] = template.angle
    minutiae["kind"] = template.kind
    minutiae["quality"] = template.quality
    quality = _NOT_ASSESSED if template.print_quality is None else template.print_quality
    head = (template.finger, template.impression, quality, *template.size, len(template))
    return _VIEW.pack(*head) + minutiae.tobytes() + _RIDGES.pack(len(template.ridges)) + template.ridges
