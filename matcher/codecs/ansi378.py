"""Finger minutiae records of ANSI INCITS 378: edition 2004 read and written, 2009 and its amendment 1 read.

What a round trip through the 2004 edition keeps: positions, minutia types and qualities, finger and order of
the views exactly; directions to half a step of 2 degrees; the best 255 minutiae of a view; one image size for
all views, the largest; print quality 1 to 100 (None is written as 0, 0 as 1). Impressions 0 to 3, swipe (8)
and contactless (9) are kept; latent ones are written as non-live plain (2), other and unknown ones as live
plain (0): the edition has no code for them.

An angle code is read as a multiple of 2 degrees whatever its value. Codes of 180 and above, which the
standard does not define and some writers emit, so turn beyond a full circle and are reduced to it.

References
----------
.. [1] ANSI INCITS 378-2004, Finger Minutiae Format for Data Interchange.
.. [2] ANSI INCITS 378-2009, and its amendment 1.
"""

import math
import struct
from collections.abc import Sequence

from matcher.codecs import record
from matcher.codecs.iso19794 import IMPRESSIONS_2005, IMPRESSIONS_2011
from matcher.codecs.record import Cursor, Dialect, View
from matcher.template import Impression, Template

_ANGLE_UNIT = math.radians(2)

IMPRESSIONS_2004 = {**IMPRESSIONS_2005, 9: Impression.LIVE_CONTACTLESS_PLAIN}
"""Impression codes of ANSI INCITS 378-2004."""

IMPRESSIONS_2009 = {
    code: meaning for code, meaning in IMPRESSIONS_2011.items() if not 4 <= code <= 9 or code == 8
}
"""Impression codes of ANSI INCITS 378-2009: no latent print, no vertical roll; palms (10, 11) are unknown."""

_DIALECT_2004 = Dialect(_ANGLE_UNIT, IMPRESSIONS_2004, record.NOT_REPORTED_EARLY)
_DIALECT_2009 = Dialect(_ANGLE_UNIT, IMPRESSIONS_2009, record.NOT_REPORTED)

SHORT_BY = 2
"""Bytes by which a record may be longer than it states: real writers count ISO's header of 24 bytes for the
26 of the 2004 edition, or 20 for the 21 of 2009. The content tells its own end, so nothing is guessed."""

_VERSION_2004 = record.MAGIC + b" 20\0"
_START_2004 = struct.Struct(">8sH")  # magic and version; record length, 0 where a long one follows
_LONG_LENGTH = struct.Struct(">I")
_PRODUCT_2004 = struct.Struct(">HHH")  # CBEFF owner and type of the writer; capture equipment
_LEAST_2004 = 26
_MOST_SHORT = 0xFFFF

_HEAD_2009 = struct.Struct(
    ">8sIHHBHBx"
)  # version; length; CBEFF owner and type; certification; device; views
_VIEW_2009 = struct.Struct(
    ">4BHH"
)  # finger, view, impression, quality; vendor and identifier of its algorithm
_COUNT_2009 = struct.Struct(">B")


def read_2004(data: bytes) -> list[Template]:
    """Read a record of ANSI INCITS 378-2004.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    list of Template
        Its views, in their order.

    Raises
    ------
    TemplateTruncated, TemplateOutOfBounds
    """
    cursor = Cursor(data)
    _, length = cursor.take(_START_2004)
    least = _LEAST_2004
    if length == 0:
        (length,) = cursor.take(_LONG_LENGTH)
        least += _LONG_LENGTH.size
    record.check_length(data, length, least=least, short_by=SHORT_BY)
    cursor.take(_PRODUCT_2004)
    return record.read_body(cursor, _DIALECT_2004)


def write_2004(templates: Sequence[Template]) -> bytes:
    """Write a record of ANSI INCITS 378-2004.

    Parameters
    ----------
    templates : sequence of Template
        At least one; at most 16 of one finger.

    Returns
    -------
    bytes
        Writer and capture equipment are stated as unknown (0). From 65536 bytes on the record has the long
        form of the length field.

    Raises
    ------
    TemplateOutOfBounds
    """
    body = record.write_body(templates, _DIALECT_2004)
    head = _PRODUCT_2004.pack(0, 0, 0)
    return _start_2004(_START_2004.size + len(head) + len(body)) + head + body


def _start_2004(length: int) -> bytes:
    """Return the record's first fields for a record of `length` bytes with the short length field."""
    if length <= _MOST_SHORT:
        return _START_2004.pack(_VERSION_2004, length)
    return _START_2004.pack(_VERSION_2004, 0) + _LONG_LENGTH.pack(length + _LONG_LENGTH.size)


def read_2009(data: bytes) -> list[Template]:
    """Read a record of ANSI INCITS 378-2009 (version 030) or of its amendment 1 (version 035).

    Parameters
    ----------
    data : bytes

    Returns
    -------
    list of Template
        Its views, in their order. A quality of 254 (not reported) or 255 (failed) is None for the print
        and 0 for a minutia.

    Raises
    ------
    TemplateTruncated, TemplateOutOfBounds
    """
    cursor = Cursor(data)
    _, length, *_, count = cursor.take(_HEAD_2009)
    record.check_length(data, length, least=_HEAD_2009.size, short_by=SHORT_BY)
    views = [_read_view_2009(cursor) for _ in range(count)]
    cursor.finish()
    return [view.template(_DIALECT_2009) for view in views]


def _read_view_2009(cursor: Cursor) -> View:
    finger, _, impression, quality, _, _ = cursor.take(_VIEW_2009)
    raster = record.read_raster(cursor)
    (count,) = cursor.take(_COUNT_2009)
    minutiae = record.read_minutiae(cursor, count)
    return View(finger, impression, quality if quality <= 100 else None, raster, minutiae)
