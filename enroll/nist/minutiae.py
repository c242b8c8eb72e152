"""Minutiae records (Type 9) to templates.

Four forms are read, each with its own axes. NIST's reference transactions hold the same finger in three of
them, and there all 48 minutiae agree within 0.1 pixel and one degree once turned as below.

==================  =============  =====================  ==========================  ==================
form                field          unit                   y                           angle
==================  =============  =====================  ==========================  ==================
standard            9.012          0.01 mm                up from the lower edge      away from the ridge
IAFIS (FBI)         9.023          0.01 mm                down from the upper edge    along the ridge
INCITS 378 (M1)     9.137          pixels of 9.131        down                        along, 2 degrees
EFS                 9.331          0.01 mm                down, within 9.300          along the ridge
==================  =============  =====================  ==========================  ==================

"Along the ridge" is the convention of `matcher.template`; the standard form is turned by half a turn.

References
----------
.. [1] ANSI/NIST-ITL 1-2007, NIST SP 500-271, section 16 (fields 9.005 to 9.012).
.. [2] ANSI/NIST-ITL 1-2011 Update 2015, NIST SP 500-290e3, section 8.9, Tables 28 and 30.
.. [3] FBI, "Electronic Biometric Transmission Specification", Appendix J (fields 9.013 to 9.030).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from enroll.errors import RecordFieldInvalid
from enroll.nist.codec import Transaction
from enroll.nist.codes import fingers_of, impression_of
from enroll.nist.pictures import PICTURE_TYPES, resolution
from enroll.nist.record import Record, whole_number
from matcher.errors import TemplateOutOfBounds
from matcher.template import PPI, Finger, Kind, Template

_PER_UNIT = PPI / 2540  # pixels in 0.01 mm
_HALF_ROW = 0.5  # the lower edge is that of the last row, y that of a row's middle: measured, see above
_POINT = re.compile(r"([0-9]{4})([0-9]{4})([0-9]{3})")
_MOST = 9_999  # minutiae of a record; the standard allows 999
_LARGEST = 2**15 - 1  # pixels of a side of a template
_LETTERS: Mapping[str, Kind] = MappingProxyType({"A": Kind.ENDING, "B": Kind.BIFURCATION})
_EFS_LETTERS: Mapping[str, Kind] = MappingProxyType({"E": Kind.ENDING, "B": Kind.BIFURCATION})


class Form(StrEnum):
    """Which fields of a Type 9 record hold the minutiae."""

    STANDARD = "standard"
    IAFIS = "iafis"
    INCITS_378 = "incits-378"
    EFS = "efs"


class Features(NamedTuple):
    """Minutiae of one record in one form: `label` of the record, "9.1", the `form` and the `template`."""

    label: str
    form: Form
    template: Template


class _Minutia(NamedTuple):
    x: float  # pixels at 500 ppi
    y: float  # down
    degrees: float
    kind: Kind
    quality: int


class _Frame(NamedTuple):
    """Width and height of the image that a record is about, pixels at 500 ppi."""

    width: float
    height: float


def templates(transaction: Transaction) -> Iterator[Features]:
    """Yield the minutiae of a transaction.

    Parameters
    ----------
    transaction : Transaction

    Yields
    ------
    Features
        In the order of the records; of a record that holds several forms, one after the other.

    Raises
    ------
    RecordFieldInvalid
        See `features`, which reads one record and so lets the others be read after an error.
    """
    for record in transaction.of_type(9):
        yield from features(transaction, record)


def features(transaction: Transaction, record: Record) -> Iterator[Features]:
    """Yield the minutiae of one record, a template for each form that it holds.

    Parameters
    ----------
    transaction : Transaction
        Which the record is of: the image with the same designation says how large the template is.
    record : Record
        Of Type 9.

    Yields
    ------
    Features

    Raises
    ------
    RecordFieldInvalid
        A minutia has no readable value, or lies outside its image.
    """
    image = _image_frame(transaction, record)
    for form, (field, read) in _FORMS.items():
        if record.bytes_of(field) is not None:
            found = read(record, image)
            frame = _own_frame(record, form, image) or _extent(found)
            yield Features(record.label, form, _template(record, found, frame, form))


def _image_frame(transaction: Transaction, record: Record) -> _Frame | None:
    """Find the image with the record's own designation, on which its minutiae lie."""
    for image in transaction.of_type(*PICTURE_TYPES):
        width, height = image.number(6), image.number(7)
        if image.idc == record.idc and width and height:
            scale = PPI / (resolution(transaction, image) or PPI)
            return _Frame(width * scale, height * scale)
    return None


def _template(record: Record, found: list[_Minutia], frame: _Frame, form: Form) -> Template:
    width, height = (min(max(round(side), 1), _LARGEST) for side in frame)
    edge = [width - 1, height - 1]
    points = np.array([(m.x, m.y) for m in found], np.float64).reshape(-1, 2)
    points = np.where(
        np.abs(points - np.clip(points, 0, edge)) <= 1, np.clip(points, 0, edge), points
    )  # rounding
    try:
        return Template.of(
            points,
            np.radians([m.degrees for m in found]),
            [m.kind for m in found],
            [m.quality for m in found],
            size=(width, height),
            finger=_finger(record, form),
            impression=impression_of(record.number(3)),
        )
    except TemplateOutOfBounds as error:
        raise RecordFieldInvalid(
            f"record {record.label}, {form}: {error.cause}", remedy=error.remedy
        ) from error


def _finger(record: Record, form: Form) -> Finger:
    items = record.items(_FINGERS[form])
    known = fingers_of(whole_number(items[0][0]) or 0) if items else ()
    return known[0] if len(known) == 1 else Finger.UNKNOWN


def _extent(found: list[_Minutia]) -> _Frame:
    """Return the least frame around minutiae of which no image is known."""
    return _Frame(max((m.x for m in found), default=0) + 1, max((m.y for m in found), default=0) + 1)


def _own_frame(record: Record, form: Form, image: _Frame | None) -> _Frame | None:
    """Return the frame that the record states itself, as two of the forms do, or else its image's."""
    if form is Form.INCITS_378:
        scale, width, height = _incits_scale(record), record.number(128), record.number(129)
        return _Frame(width * scale, height * scale) if width and height else image
    if form is Form.EFS and image is None and record.items(300):
        width, height, left, top = (whole_number(_item(record.items(300)[0], at)) or 0 for at in range(4))
        return _Frame((left + width) * _PER_UNIT, (top + height) * _PER_UNIT)
    return image


# ---- the forms


def _standard(record: Record, frame: _Frame | None) -> list[_Minutia]:
    rows = [(_encoded(record, items, 12), items) for items in _rows(record, 12)]
    # Without the image its height is unknown; the highest minutia is then as good an upper edge as any.
    height = frame.height if frame else max((y for (_, y, _), _ in rows), default=0) * _PER_UNIT + 1
    return [
        _Minutia(
            x * _PER_UNIT,
            height - _HALF_ROW - y * _PER_UNIT,
            degrees + 180,
            _LETTERS.get(_item(items, 3), Kind.OTHER),
            _quality(items),
        )
        for (x, y, degrees), items in rows
    ]


def _iafis(record: Record, frame: _Frame | None) -> list[_Minutia]:
    rows = ((_encoded(record, items, 23), items) for items in _rows(record, 23))
    return [
        _Minutia(
            x * _PER_UNIT, y * _PER_UNIT, degrees, _LETTERS.get(_item(items, 3), Kind.OTHER), _quality(items)
        )
        for (x, y, degrees), items in rows
    ]


def _incits(record: Record, frame: _Frame | None) -> list[_Minutia]:
    scale, found = _incits_scale(record), []
    for items in _rows(record, 137):
        x, y, angle, kind, quality = (_whole(record, items, at, 137) for at in range(1, 6))
        known = Kind(kind) if kind in (Kind.ENDING, Kind.BIFURCATION) else Kind.OTHER
        found.append(_Minutia(x * scale, y * scale, 2 * angle, known, min(quality, 100)))
    return found


def _efs(record: Record, frame: _Frame | None) -> list[_Minutia]:
    region = record.items(300)
    left, top = (whole_number(_item(region[0], at)) or 0 for at in (2, 3)) if region else (0, 0)
    found = []
    for items in _rows(record, 331):
        x, y, degrees = (_whole(record, items, at, 331) for at in range(3))
        kind = _EFS_LETTERS.get(_item(items, 3), Kind.OTHER)
        found.append(_Minutia((x + left) * _PER_UNIT, (y + top) * _PER_UNIT, degrees, kind, 0))
    return found


_FORMS: Mapping[Form, tuple[int, Callable[[Record, _Frame | None], list[_Minutia]]]] = MappingProxyType(
    {
        Form.STANDARD: (12, _standard),
        Form.IAFIS: (23, _iafis),
        Form.INCITS_378: (137, _incits),
        Form.EFS: (331, _efs),
    }
)
_FINGERS = MappingProxyType({Form.STANDARD: 6, Form.IAFIS: 14, Form.INCITS_378: 134, Form.EFS: 302})


# ---- their values


def _rows(record: Record, field: int) -> list[tuple[str, ...]]:
    rows = [items for items in record.items(field) if items != ("",)]
    if len(rows) > _MOST:
        raise RecordFieldInvalid(
            f"record {record.label}: {len(rows)} minutiae", remedy=f"send {_MOST} at most"
        )
    return rows


def _item(items: tuple[str, ...], at: int) -> str:
    return items[at].strip() if at < len(items) else ""


def _whole(record: Record, items: tuple[str, ...], at: int, field: int) -> int:
    value = whole_number(_item(items, at))
    if value is None:
        raise _unreadable(record, field)
    return value


def _encoded(record: Record, items: tuple[str, ...], field: int) -> tuple[int, int, int]:
    """Cut the eleven digits of x, y and angle."""
    point = _POINT.fullmatch(_item(items, 1))
    if point is None:
        raise _unreadable(record, field)
    return int(point[1]), int(point[2]), int(point[3])


def _unreadable(record: Record, field: int) -> RecordFieldInvalid:
    return RecordFieldInvalid(
        f"record {record.label}: a minutia of field 9.{field:03d} has no readable value",
        remedy="have the record written again by the system that it comes from",
    )


def _quality(items: tuple[str, ...]) -> int:
    """Turn 2 (best) to 63 (worst) into 100 to 1; 0, marked by a person, and 1 state no quality."""
    stated = whole_number(_item(items, 2)) or 0
    return round(100 - (min(stated, 63) - 2) * 99 / 61) if stated >= 2 else 0


def _incits_scale(record: Record) -> float:
    """Return the pixels at 500 ppi in one pixel of fields 9.128 to 9.132."""
    return PPI / (resolution(None, record, first=130) or PPI)
