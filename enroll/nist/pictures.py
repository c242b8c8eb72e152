"""The friction ridge images of a transaction, as files that the rest of the project reads.

Records of Types 4, 7, 13, 14 and 15. Faces and other photographs (Type 10), tests (Type 16) and whatever else
is in a transaction stay in it untouched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from enroll.errors import RecordCompressionWrong, RecordFieldInvalid, RecordImageMissing, RecordImageSize
from enroll.image import GrayImage, encode_png, read_image
from enroll.nist.codec import Transaction
from enroll.nist.codes import (
    COMPRESSIONS,
    JOINT_OR_TIP,
    UNKNOWN_FRICTION_RIDGE,
    Content,
    content_of,
    fingers_of,
    impression_of,
)
from enroll.nist.imagefile import FileHead, read_head
from enroll.nist.record import Record, whole_number
from matcher.template import PPI, Finger, Impression

PICTURE_TYPES = (4, 7, 13, 14, 15)
_REMEDY = "have the record written again by the system that it comes from"
_PER_CM, _PER_MM = 2.54, 25.4  # to pixels per inch
_NOMINAL = (500.0, 1000.0)
_ROUNDING = 0.005  # 500 ppi is 197 per cm, which is 500.4; half a per cent is what rounding may take
_DIFFERENT = 0.02  # as in enroll.image: twice the 1 % to which scanners are certified
_MOST_POINTS = 99  # of a polygon in field 14.025
_EBTS_MISSING = 84  # field 2.084 of the FBI's profile; another's that is laid out otherwise gives none
_MISSING_CODES = ("XX", "UP")


class Missing(NamedTuple):
    """A finger or palm that could not be printed: `position`, and "XX" for amputated or "UP" for bandaged."""

    position: int
    code: str


class Segment(NamedTuple):
    """Where one finger lies in a picture of several.

    `corners` are pixels of the picture as sent, x to the right and y down; `field` is where it was read.
    """

    finger: Finger
    corners: tuple[tuple[int, int], ...]
    field: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a transaction, and what its record says of it.

    Attributes
    ----------
    label : str
        Type and designation of its record, "14.3".
    position : int
        Friction ridge position, Table 8 of the standard; the first, where the record gives several.
    content : Content
    fingers : tuple of Finger
        What should be seen: one, those of a slap, or none where the position names no finger.
    impression : Impression
    data : bytes
        An image file that `enroll.image.read_image` takes: the very bytes of the record, or a PNG of pixels
        that were sent uncompressed. Empty where nothing could be printed; `missing` then says why.
    ppi : float or None
        Resolution, pixels per inch, of the record; None where it states none.
    missing : tuple of Missing
    segments : tuple of Segment
    warnings : tuple of str
        What record and file disagree about.
    record : Record
    """

    label: str
    position: int
    content: Content
    fingers: tuple[Finger, ...]
    impression: Impression
    data: bytes
    ppi: float | None
    missing: tuple[Missing, ...]
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...]
    record: Record

    @property
    def finger(self) -> Finger:
        """The finger, where it is one and known; else `UNKNOWN`."""
        return self.fingers[0] if len(self.fingers) == 1 else Finger.UNKNOWN

    @property
    def latent(self) -> bool:
        """Whether it was found and not taken."""
        return (
            self.record.type == 13
            or Impression.LATENT_IMPRESSION <= self.impression <= Impression.LATENT_LIFT
        )

    def image(self) -> GrayImage:
        """Decode it, at the resolution of the record, or of the file where the record states none.

        Raises
        ------
        ImageError
        """
        return read_image(self.data, ppi=self.ppi)


def pictures(transaction: Transaction) -> Iterator[Picture]:
    """Yield the friction ridge images of a transaction.

    Parameters
    ----------
    transaction : Transaction

    Yields
    ------
    Picture
        In the order of the records.

    Raises
    ------
    TransactionError
        See `picture`, which reads one record and so lets the others be read after an error.
    """
    return (picture(transaction, record) for record in transaction.of_type(*PICTURE_TYPES))


def picture(transaction: Transaction, record: Record) -> Picture:
    """Read the image of one record.

    Parameters
    ----------
    transaction : Transaction
        Which the record is of: records of Types 4 and 7 leave their resolution to its header.
    record : Record
        Of Type 4, 7, 13, 14 or 15.

    Returns
    -------
    Picture

    Raises
    ------
    RecordImageMissing
        There is neither an image nor a word of why there is none.
    RecordCompressionWrong
        The image is of another kind than its compression code says.
    RecordImageSize
        Uncompressed pixels that do not fill the size stated.
    RecordFieldInvalid
        No position, or no compression code.

    References
    ----------
    .. [1] ANSI/NIST-ITL 1-2011 Update 2015, sections 7.7 and 8.4, 8.7, 8.13 to 8.15.
    """
    if record.type not in PICTURE_TYPES:
        raise RecordFieldInvalid(
            f"a record of Type {record.type} is no friction ridge image", remedy="give one"
        )
    position = _position(record)
    missing = _missing(transaction, record, position)
    segments, notes = _segments(record)
    ppi = resolution(transaction, record)
    data, found = _image(record, ppi, missing)
    return Picture(
        record.label,
        position,
        content_of(position),
        _fingers(record, position),
        impression_of(record.number(3)),
        data,
        ppi,
        missing,
        segments,
        (*found, *notes),
        record,
    )


# ---- who it is of


def _position(record: Record) -> int:
    items = record.items(4 if record.binary else 13)
    position = whole_number(items[0][0]) if items else None
    if position is None and record.type == 13 and not items:
        return UNKNOWN_FRICTION_RIDGE
    if position is None:
        field = "004" if record.binary else "013"
        raise RecordFieldInvalid(
            f"record {record.label}: field {record.type}.{field} gives no position", remedy=_REMEDY
        )
    return position


def _fingers(record: Record, position: int) -> tuple[Finger, ...]:
    """Name the fingers; a tip is one by field 014, an image of all joints is not one print."""
    described = record.items(14) if position == JOINT_OR_TIP and not record.binary else ()
    if described and described[0][1:2] == ("TIP",):
        return fingers_of(whole_number(described[0][0]) or 0)
    several = len(record.items(4 if record.binary else 13)) > 1
    return () if several else fingers_of(position)


def _missing(transaction: Transaction, record: Record, position: int) -> tuple[Missing, ...]:
    """Read field 018; for Type 4, which has none, what Type 2 says of the fingers of this picture."""
    if record.type in (14, 15):
        return _pairs(record, 18)
    if record.type != 4:
        return ()
    shown = fingers_of(position)
    described = (one for other in transaction.of_type(2) for one in _pairs(other, _EBTS_MISSING))
    return tuple(one for one in described if one.position in shown and one.code in _MISSING_CODES)


def _pairs(record: Record, field: int) -> tuple[Missing, ...]:
    pairs = ((whole_number(items[0]), items[1]) for items in record.items(field) if len(items) >= 2)
    return tuple(Missing(position, code.strip()) for position, code in pairs if position is not None)


# ---- segments


def _segments(record: Record) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Read fields 14.021 and 14.025; what lies outside the picture is named and left out."""
    if record.type != 14:
        return (), ()
    read = [(21, items, _box(items)) for items in record.items(21)]
    read += [(25, items, _polygon(items)) for items in record.items(25)]
    good, notes = [], []
    for number, items, corners in read:
        finger = whole_number(items[0])
        if finger is not None and 1 <= finger <= 10 and corners and _within(record, corners):
            good.append(Segment(Finger(finger), corners, f"14.{number:03d}"))
        else:
            notes.append(
                f"record {record.label}: a segment of field 14.{number:03d} is left out, it lies nowhere"
            )
    return tuple(good), tuple(notes)


def _box(items: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Finger, left, right, top, bottom."""
    left, right, top, bottom = (whole_number(item) for item in (*items[1:5], "", "", "", "")[:4])
    if left is None or right is None or top is None or bottom is None or left >= right or top >= bottom:
        return ()
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _polygon(items: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Finger, number of points, then x and y of each."""
    count = (whole_number(items[1]) if len(items) > 1 else None) or 0
    values = [whole_number(item) for item in items[2:]]
    if not 3 <= count <= _MOST_POINTS or len(values) != 2 * count:
        return ()
    numbers = [value for value in values if value is not None]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) == len(values) else ()


def _within(record: Record, corners: tuple[tuple[int, int], ...]) -> bool:
    width, height = record.number(6), record.number(7)
    return width is None or height is None or all(x <= width and y <= height for x, y in corners)


# ---- resolution


def resolution(transaction: Transaction | None, record: Record, *, first: int = 8) -> float | None:
    """Return the resolution that a record states, pixels per inch, or None.

    Parameters
    ----------
    transaction : Transaction or None
        For binary records, whose resolution is that of the header.
    record : Record
    first : int
        Number of the field with the unit; those of both axes follow it.
    """
    if record.binary:
        return _header_resolution(transaction.header, record) if transaction else None
    scale = {1: 1.0, 2: _PER_CM}.get(record.number(first) or 0)
    across, down = record.number(first + 1), record.number(first + 2)
    if scale is None or not across or not down or abs(across - down) > _DIFFERENT * across:
        return None
    return _nominal(across * scale)


def _header_resolution(header: Record, record: Record) -> float:
    """Return that of a binary record: the least permitted, or with field 005 set that of the header."""
    if record.number(5) == 0:
        return float(PPI)
    for field in (12, 11):  # as sent, as scanned
        try:
            per_mm = float(header.get(field) or 0)
        except ValueError:
            continue
        if 1 < per_mm < 1000:
            return _nominal(per_mm * _PER_MM)
    return float(PPI)


def _nominal(ppi: float) -> float:
    return next((whole for whole in _NOMINAL if abs(ppi - whole) <= _ROUNDING * whole), ppi)


# ---- the image


def _image(record: Record, ppi: float | None, missing: tuple[Missing, ...]) -> tuple[bytes, tuple[str, ...]]:
    if not record.data:
        if not missing:
            raise RecordImageMissing(f"record {record.label} holds no image", remedy=_REMEDY)
        return b"", ()
    head = read_head(record.data)
    code = _compression(record)
    if code == "NONE":
        return _uncompressed(record, head, ppi), ()
    if head is None or head.kind != code:
        found = head.kind if head else "no image that is known here"
        raise RecordCompressionWrong(f"record {record.label} says {code} and holds {found}", remedy=_REMEDY)
    return record.data, tuple(_lies(record, head, ppi))


def _compression(record: Record) -> str:
    """Return the label of the compression; "JP2" for both kinds of JPEG 2000."""
    field = 8 if record.binary else 11
    text = (record.get(field) or "").strip()
    number = whole_number(text)
    if record.binary and number is not None and number < len(COMPRESSIONS):
        text = COMPRESSIONS[number]
    if text not in (*COMPRESSIONS, "WSQ"):
        raise RecordFieldInvalid(
            f"record {record.label}: field {record.type}.{field:03d} is no compression code", remedy=_REMEDY
        )
    return {"JP2L": "JP2", "WSQ": "WSQ20"}.get(text, text)


def _uncompressed(record: Record, head: FileHead | None, ppi: float | None) -> bytes:
    """Make a PNG of bare pixels, 8 bits each, row by row."""
    width, height = record.number(6) or 0, record.number(7) or 0
    depth = 8 if record.binary else record.number(12)
    if len(record.data) == width * height and depth == 8:
        pixels = np.frombuffer(record.data, np.uint8).reshape(height, width)
        return encode_png(GrayImage(pixels, ppi or PPI, ""))
    if head is not None:
        raise RecordCompressionWrong(f"record {record.label} says NONE and holds {head.kind}", remedy=_REMEDY)
    raise RecordImageSize(
        f"record {record.label}: {len(record.data)} bytes for {width} x {height} pixels of {depth} bits",
        remedy=_REMEDY,
    )


def _lies(record: Record, head: FileHead, ppi: float | None) -> Iterator[str]:
    """Yield what the record says otherwise than the file."""
    stated = record.number(6), record.number(7)
    if stated != (head.width, head.height):
        sizes = f"{stated[0]} x {stated[1]} pixels, the file has {head.width} x {head.height}"
        yield f"record {record.label}: the record states {sizes}"
    if ppi is None and record.number(9):
        yield f"record {record.label}: the resolution that it states cannot be used"
    if head.ppi and ppi and abs(head.ppi - ppi) > _DIFFERENT * ppi:
        yield f"record {record.label}: the record states {ppi:g} ppi, the file {head.ppi:g}"
