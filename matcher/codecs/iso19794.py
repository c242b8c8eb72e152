"""Finger minutiae records of ISO/IEC 19794-2, editions 2005 and 2011 (the card formats are not read).

What a round trip keeps, both editions: positions, minutia types and qualities, finger and order of the views
exactly; directions to half a step of 2 pi / 256; the best 255 minutiae of a view.

================ ==================================== =================================================
field            2005                                 2011
================ ==================================== =================================================
size             one for all views: the largest       exact
print quality    1 to 100; None is written as 0,      exact; None is written as no quality block
                 0 as 1
impression       0 to 3 and 8 exact; latent ones as   exact
                 non-live plain (2), contactless,
                 other and unknown as live plain (0)
================ ==================================== =================================================

References
----------
.. [1] ISO/IEC 19794-2:2005, Biometric data interchange formats, part 2: finger minutiae data.
.. [2] ISO/IEC 19794-2:2011, second edition, finger minutiae record format, and its Cor.1:2012.
"""

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from matcher.codecs import record
from matcher.codecs.record import Cursor, Dialect, Raster, View
from matcher.errors import TemplateOutOfBounds
from matcher.template import Impression, Template

_ANGLE_UNIT = 2 * math.pi / 256

IMPRESSIONS_2005 = {
    0: Impression.LIVE_PLAIN,
    1: Impression.LIVE_ROLLED,
    2: Impression.NONLIVE_PLAIN,
    3: Impression.NONLIVE_ROLLED,
    8: Impression.LIVE_SWIPE,
}
"""Impression codes of ISO/IEC 19794-2:2005."""

IMPRESSIONS_2011 = {
    **IMPRESSIONS_2005,
    4: Impression.LATENT_IMPRESSION,
    5: Impression.LATENT_TRACING,
    6: Impression.LATENT_PHOTO,
    7: Impression.LATENT_LIFT,
    9: Impression.LIVE_ROLLED,
    20: Impression.LIVE_PLAIN,
    21: Impression.LIVE_ROLLED,
    22: Impression.LIVE_PLAIN,
    23: Impression.LIVE_ROLLED,
    24: Impression.LIVE_CONTACTLESS_PLAIN,
    25: Impression.LIVE_ROLLED,
    26: Impression.LIVE_CONTACTLESS_PLAIN,
    27: Impression.LIVE_ROLLED,
    28: Impression.OTHER,
    29: Impression.UNKNOWN,
}
"""Impression codes of ISO/IEC 19794-2:2011, with those of ISO/IEC 19794-4 that writers borrow.

9 is a vertical roll; 20 to 27 tell optical from other sensors, contact from contactless, plain from rolled.
Palms (10 to 15) are no fingers and are read as unknown.
"""

_DIALECT_2005 = Dialect(_ANGLE_UNIT, IMPRESSIONS_2005, record.NOT_REPORTED_EARLY)
_DIALECT_2011 = Dialect(_ANGLE_UNIT, IMPRESSIONS_2011, record.NOT_REPORTED)

_VERSION_2005 = record.MAGIC + b" 20\0"
_VERSION_2011 = record.MAGIC + b"030\0"

_HEAD_2005 = struct.Struct(">8sIH")  # magic and version; record length; capture equipment
_LEAST_2005 = 24

_HEAD_2011 = struct.Struct(">8sIHB")  # magic and version; record length; representations; certification flag
_CAPTURE_2011 = struct.Struct(">I9sBHHB")  # length; date and time; technology; vendor; device; quality blocks
_QUALITY_2011 = struct.Struct(">BHH")  # quality; vendor and identifier of the algorithm
_CERTIFICATES_2011 = struct.Struct(">B")
_CERTIFICATE_BYTES = 3
_VIEW_2011 = struct.Struct(
    ">BBHHBHHBB"
)  # finger, view, density x y, impression, width, height, flags, minutiae
_LEAST_VIEW_2011 = _CAPTURE_2011.size + _VIEW_2011.size + 2
_LENGTH = struct.Struct(">I")
_NO_DATE = b"\xff" * 9
_VALLEY_BIFURCATION = 0  # ridge ending type: where the valley skeleton forks


def read_2005(data: bytes) -> list[Template]:
    """Read a record of ISO/IEC 19794-2:2005.

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
    _, length, _ = cursor.take(_HEAD_2005)
    record.check_length(data, length, least=_LEAST_2005)
    return record.read_body(cursor, _DIALECT_2005)


def write_2005(templates: Sequence[Template]) -> bytes:
    """Write a record of ISO/IEC 19794-2:2005.

    Parameters
    ----------
    templates : sequence of Template
        At least one; at most 16 of one finger.

    Returns
    -------
    bytes
        The capture equipment is stated as unknown (0).

    Raises
    ------
    TemplateOutOfBounds
    """
    body = record.write_body(templates, _DIALECT_2005)
    return _HEAD_2005.pack(_VERSION_2005, _HEAD_2005.size + len(body), 0) + body


def is_2011(data: bytes) -> bool:
    """Tell a record of ISO/IEC 19794-2:2011 from one of ANSI INCITS 378-2009, which states the same version.

    Parameters
    ----------
    data : bytes
        A whole record of version 030.

    Returns
    -------
    bool
        Whether the lengths of its representations, each read where the last one ends, fill the record.
    """
    length: int
    _, length, count, _ = _HEAD_2011.unpack_from(data)
    at = _HEAD_2011.size
    for _ in range(count):
        if at + _LENGTH.size > length:
            return False
        view_bytes: int = _LENGTH.unpack_from(data, at)[0]
        if view_bytes < _LEAST_VIEW_2011:
            return False
        at += view_bytes
    return at == length


def read_2011(data: bytes) -> list[Template]:
    """Read a record of ISO/IEC 19794-2:2011, finger minutiae record format.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    list of Template
        Its representations, in their order. The print quality is the first quality block's.

    Raises
    ------
    TemplateTruncated, TemplateOutOfBounds
    """
    cursor = Cursor(data)
    _, length, count, certified = cursor.take(_HEAD_2011)
    record.check_length(data, length, least=_HEAD_2011.size)
    views = [_read_representation(cursor, bool(certified)) for _ in range(count)]
    cursor.finish()
    return [view.template(_DIALECT_2011) for view in views]


def _read_representation(record_cursor: Cursor, certified: bool) -> View:
    """Read one representation; its bytes are those that it states, no more and no fewer."""
    stated = record_cursor.piece(_LENGTH.size)
    (length,) = _LENGTH.unpack(stated)
    cursor = Cursor(stated + record_cursor.piece(max(length - _LENGTH.size, 0)))
    quality = _read_capture(cursor, certified)
    finger, _, density_x, density_y, impression, width, height, flags, count = cursor.take(_VIEW_2011)
    raster = record.checked(Raster(width, height, density_x, density_y))
    minutiae = record.read_minutiae(cursor, count, _minutia_layout(flags >> 4))
    cursor.finish()
    return View(finger, impression, quality, raster, minutiae)


def _read_capture(cursor: Cursor, certified: bool) -> int | None:
    """Read how the print was taken; return its quality, None where no block states one of 0 to 100."""
    *_, blocks = cursor.take(_CAPTURE_2011)
    qualities = [cursor.take(_QUALITY_2011)[0] for _ in range(blocks)]
    if certified:
        (certificates,) = cursor.take(_CERTIFICATES_2011)
        cursor.piece(certificates * _CERTIFICATE_BYTES)
    return next((quality for quality in qualities if quality <= 100), None)


def _minutia_layout(size: int) -> np.dtype[np.void]:
    layouts = {5: record.MINUTIA_WITHOUT_QUALITY, 6: record.MINUTIA}
    if size not in layouts:
        raise TemplateOutOfBounds(
            f"minutiae of {size} bytes",
            remedy="a record of ISO/IEC 19794-2:2011 has 5 or 6; check its source",
        )
    return layouts[size]


def write_2011(templates: Sequence[Template]) -> bytes:
    """Write a record of ISO/IEC 19794-2:2011, finger minutiae record format.

    Parameters
    ----------
    templates : sequence of Template
        At least one; at most 16 of one finger.

    Returns
    -------
    bytes
        Date, technology, vendor and device are stated as unknown; minutiae have 5 bytes where no minutia of
        the view has a quality.

    Raises
    ------
    TemplateOutOfBounds

    Notes
    -----
    The standard asks for at least one minutia in a view; a template without any is written all the same.
    """
    views = b"".join(_representations(templates))
    return _HEAD_2011.pack(_VERSION_2011, _HEAD_2011.size + len(views), len(templates), 0) + views


def _representations(templates: Sequence[Template]) -> Iterator[bytes]:
    for template, number in zip(templates, record.view_numbers(templates), strict=True):
        body = _quality_block(template) + _view_2011(template, number)
        blocks = int(template.print_quality is not None)
        yield _CAPTURE_2011.pack(_CAPTURE_2011.size + len(body), _NO_DATE, 0, 0, 0, blocks) + body


def _quality_block(template: Template) -> bytes:
    return b"" if template.print_quality is None else _QUALITY_2011.pack(template.print_quality, 0, 0)


def _view_2011(template: Template, number: int) -> bytes:
    kept = template.best(record.MOST_MINUTIAE)
    layout = record.MINUTIA if kept.quality.any() else record.MINUTIA_WITHOUT_QUALITY
    flags = layout.itemsize << 4 | _VALLEY_BIFURCATION
    density = record.DENSITY
    head = (template.finger, number, density, density, template.impression, *template.size, flags, len(kept))
    return _VIEW_2011.pack(*head) + record.write_minutiae(kept, _DIALECT_2011, layout)
