"""What every finger minutiae record (FMR) has in common, whichever standard lays it out.

A record is a header and finger views; a view is its own header, minutiae of 6 bytes (5 without quality) and
an area of extended data. All numbers are big-endian. ISO/IEC 19794-2:2005 and ANSI INCITS 378-2004 lay out
their views alike and differ in the record header, the angle unit and the impression codes; the later versions
widen the view header. This module reads and writes the common parts; it knows no version.
"""

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.errors import TemplateOutOfBounds, TemplateTruncated
from matcher.template import PPI, Finger, Impression, Kind, Template

MAGIC = b"FMR\0"
"""First four bytes of every record; four more name the version."""

DENSITY = 197
"""Resolution that is written, pixels per centimetre: 500 ppi rounded to the unit of the record."""

MOST_MINUTIAE = 255
"""Minutiae of one view: their count is one byte."""

NOT_REPORTED_EARLY = 0
"""Minutia quality where none is stated: ISO/IEC 19794-2:2005, ANSI INCITS 378-2004."""

NOT_REPORTED = 254
"""The same: ISO/IEC 19794-2:2011, ANSI INCITS 378-2009; 255 is an attempt that failed. 0, there the worst, is
read as none stated as well, for writers carry it over from the earlier editions."""

MINUTIA = np.dtype([("x", ">u2"), ("y", ">u2"), ("angle", "u1"), ("quality", "u1")])
"""A minutia of 6 bytes: its type in the high 2 bits of `x`, 2 reserved bits in `y`; positions of 14 bits."""

MINUTIA_WITHOUT_QUALITY = np.dtype([("x", ">u2"), ("y", ">u2"), ("angle", "u1")])
"""A minutia of 5 bytes, as ISO/IEC 19794-2:2011 allows."""

_POSITION = 0x3FFF
_FINGERS = frozenset(Finger)
_VIEWS_PER_FINGER = 16
_RASTER = struct.Struct(">4H")
_VIEW = struct.Struct(">4B")
_LENGTH = struct.Struct(">H")
_COUNT = struct.Struct(">Bx")  # views; reserved

_NEAREST: Mapping[Impression, Impression] = {
    Impression.LATENT_IMPRESSION: Impression.NONLIVE_PLAIN,
    Impression.LATENT_TRACING: Impression.NONLIVE_PLAIN,
    Impression.LATENT_PHOTO: Impression.NONLIVE_PLAIN,
    Impression.LATENT_LIFT: Impression.NONLIVE_PLAIN,
    Impression.LIVE_CONTACTLESS_PLAIN: Impression.LIVE_PLAIN,
    Impression.OTHER: Impression.LIVE_PLAIN,
    Impression.UNKNOWN: Impression.LIVE_PLAIN,
}


class Cursor:
    """Reads a record from its front to its end; to run out of bytes is `TemplateTruncated`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def piece(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise TemplateTruncated(
                f"the record needs {end - len(self._data)} bytes more than its {len(self._data)}",
                remedy="fetch it again, whole; if it is whole, a count or length in it is wrong",
            )
        start, self._at = self._at, end
        return self._data[start:end]

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        """Return the next fields, laid out as `layout`."""
        return layout.unpack(self.piece(layout.size))

    def array(self, count: int, layout: np.dtype[np.void]) -> NDArray[np.void]:
        """Return the next `count` items of a structured type."""
        return np.frombuffer(self.piece(count * layout.itemsize), layout)

    def finish(self) -> None:
        """Check that nothing is left.

        Raises
        ------
        TemplateOutOfBounds
            Bytes are left: a length that lies.
        """
        left = len(self._data) - self._at
        if left:
            raise TemplateOutOfBounds(
                f"a stated length covers {left} bytes more than its content",
                remedy="have the record written again by its source",
            )


class Raster(NamedTuple):
    """Image that a view's positions lie in.

    Attributes
    ----------
    width, height : int
        Pixels of the record's own resolution.
    density_x, density_y : int
        Pixels per centimetre.
    """

    width: int
    height: int
    density_x: int
    density_y: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what the view of one standard differs from another's.

    Attributes
    ----------
    angle_unit : float
        Radians of one step of the angle code.
    impressions : mapping of int to Impression
        Meaning of the impression codes; a code that is not here is read as `Impression.UNKNOWN`.
    not_reported : int
        Minutia quality that is written where a template states none.
    """

    angle_unit: float
    impressions: Mapping[int, Impression]
    not_reported: int


@dataclass(frozen=True, slots=True)
class View:
    """One view as its record states it: positions in `raster`, angles in the dialect's unit."""

    finger: int
    impression: int
    quality: int | None
    raster: Raster
    minutiae: NDArray[np.void]

    def template(self, dialect: Dialect) -> Template:
        """Return the view at 500 ppi, in radians.

        Parameters
        ----------
        dialect : Dialect

        Returns
        -------
        Template

        Raises
        ------
        TemplateOutOfBounds
            A minutia outside the raster, or an image of more than 32767 pixels at 500 ppi.
        """
        scale = np.array([_scale(self.raster.density_x), _scale(self.raster.density_y)])
        stated = np.array(self.raster[:2])
        size = np.maximum(np.rint(stated * scale), 1).astype(np.int64)
        xy = np.rint(self._positions() * scale)
        return Template.of(
            np.minimum(xy, size - 1),
            _turned(self.minutiae["angle"] * dialect.angle_unit, scale),
            self._kinds(),
            _stated_qualities(self.minutiae),
            size=(int(size[0]), int(size[1])),
            finger=Finger(self.finger) if self.finger in _FINGERS else Finger.UNKNOWN,
            impression=dialect.impressions.get(self.impression, Impression.UNKNOWN),
            print_quality=self.quality,
        )

    def _positions(self) -> NDArray[np.int64]:
        """Positions in the raster; the reserved bits over y are ignored."""
        xy = np.stack([self.minutiae["x"], self.minutiae["y"]], axis=1).astype(np.int64) & _POSITION
        outside = np.flatnonzero((xy >= self.raster[:2]).any(axis=1))
        if outside.size:
            x, y = xy[outside[0]].tolist()
            raise TemplateOutOfBounds(
                f"minutia {outside[0]} at ({x}, {y}) lies outside its "
                f"{self.raster.width} x {self.raster.height} image",
                remedy="check the image size that the record's source wrote",
            )
        return xy

    def _kinds(self) -> NDArray[np.int64]:
        """Minutia types; the reserved code 3 is read as another type."""
        kinds = self.minutiae["x"].astype(np.int64) >> 14
        return np.where(kinds <= max(Kind), kinds, Kind.OTHER)


def check_length(data: bytes, stated: int, *, least: int, short_by: int = 0) -> None:
    """Compare the length that a record states with the bytes that are there.

    Parameters
    ----------
    data : bytes
    stated : int
        Length of the whole record, bytes.
    least : int
        Length of a record without views, bytes.
    short_by : int
        Bytes by which a writer may understate the length.

    Raises
    ------
    TemplateTruncated
        There are fewer bytes than stated.
    TemplateOutOfBounds
        There are more, `short_by` apart, or the stated length has no room for the header.
    """
    if stated < least - short_by:
        raise TemplateOutOfBounds(
            f"the record states a length of {stated} bytes, its header alone has {least}",
            remedy="have the record written again by its source",
        )
    if len(data) < stated:
        raise TemplateTruncated(
            f"the record states {stated} bytes, {len(data)} are here", remedy="fetch it again, whole"
        )
    if len(data) > stated + short_by:
        raise TemplateOutOfBounds(
            f"the record states {stated} bytes, {len(data)} are here", remedy="give one record alone"
        )


def read_raster(cursor: Cursor) -> Raster:
    """Read image size and resolution: four numbers of 16 bits.

    Parameters
    ----------
    cursor : Cursor

    Returns
    -------
    Raster

    Raises
    ------
    TemplateOutOfBounds
        One of them is zero.
    """
    return checked(Raster(*cursor.take(_RASTER)))


def checked(raster: Raster) -> Raster:
    """Return `raster`, or raise `TemplateOutOfBounds` where its size or resolution is zero."""
    if 0 in raster:
        raise TemplateOutOfBounds(
            f"an image of {raster.width} x {raster.height} pixels "
            f"at {raster.density_x} x {raster.density_y} pixels per centimetre",
            remedy="have the record written again with its true image size and resolution",
        )
    return raster


def read_minutiae(cursor: Cursor, count: int, layout: np.dtype[np.void] = MINUTIA) -> NDArray[np.void]:
    """Read minutiae and skip the extended data behind them.

    Parameters
    ----------
    cursor : Cursor
    count : int
    layout : dtype
        `MINUTIA` or `MINUTIA_WITHOUT_QUALITY`.

    Returns
    -------
    ndarray of `layout`, shape (count,)

    Notes
    -----
    Extended data (ridge counts, cores and deltas, zones, vendors' own) are skipped by the length of their
    whole area: writers disagree on whether a block's own length counts its 4-byte head.
    """
    minutiae = cursor.array(count, layout)
    (extended,) = cursor.take(_LENGTH)
    cursor.piece(extended)
    return minutiae


def read_view(cursor: Cursor, raster: Raster) -> View:
    """Read a view of ISO/IEC 19794-2:2005 or ANSI INCITS 378-2004.

    Parameters
    ----------
    cursor : Cursor
    raster : Raster
        From the record header: the views share it.

    Returns
    -------
    View
        Its quality is None where the record states 0 (not reported) or an undefined code.
    """
    finger, number_and_impression, quality, count = cursor.take(_VIEW)
    minutiae = read_minutiae(cursor, count)
    return View(
        finger, number_and_impression & 0xF, quality if 0 < quality <= 100 else None, raster, minutiae
    )


def write_raster(templates: Sequence[Template]) -> bytes:
    """Return size and resolution of the smallest image that holds those of all `templates`."""
    width = max(template.size[0] for template in templates)
    height = max(template.size[1] for template in templates)
    return _RASTER.pack(width, height, DENSITY, DENSITY)


def write_view(template: Template, number: int, dialect: Dialect) -> bytes:
    """Return a view of ISO/IEC 19794-2:2005 or ANSI INCITS 378-2004.

    Parameters
    ----------
    template : Template
    number : int
        View number among those of the same finger, 0 to 15.
    dialect : Dialect

    Returns
    -------
    bytes
        A print quality that was not assessed is written as 0, a stated 0 as 1.
    """
    kept = template.best(MOST_MINUTIAE)
    impression = _impression_code(template.impression, dialect.impressions)
    quality = 0 if template.print_quality is None else max(template.print_quality, 1)
    head = _VIEW.pack(template.finger, number << 4 | impression, quality, len(kept))
    return head + write_minutiae(kept, dialect)


def write_minutiae(template: Template, dialect: Dialect, layout: np.dtype[np.void] = MINUTIA) -> bytes:
    """Return the minutiae, and an empty area of extended data.

    Parameters
    ----------
    template : Template
        Of at most 255 minutiae.
    dialect : Dialect
    layout : dtype
        `MINUTIA` or `MINUTIA_WITHOUT_QUALITY`.

    Raises
    ------
    TemplateOutOfBounds
        A position over 16383, which the record's 14 bits cannot hold.
    """
    if (template.xy > _POSITION).any():
        raise TemplateOutOfBounds(
            f"a position of {int(template.xy.max())} pixels, a minutiae record holds {_POSITION}",
            remedy="crop the print before extraction, or encode as papilar-2",
        )
    records = np.zeros(len(template), layout)
    records["x"] = template.xy[:, 0] | template.kind.astype(np.uint16) << 14
    records["y"] = template.xy[:, 1]
    steps = round(2 * math.pi / dialect.angle_unit)
    records["angle"] = (
        np.rint(template.angle.astype(np.float64) / dialect.angle_unit).astype(np.int64) % steps
    )
    if layout is MINUTIA:
        records["quality"] = np.where(template.quality > 0, template.quality, dialect.not_reported)
    return records.tobytes() + _LENGTH.pack(0)


def read_body(cursor: Cursor, dialect: Dialect) -> list[Template]:
    """Read what follows the head in ISO/IEC 19794-2:2005 and ANSI INCITS 378-2004: image, count, views.

    Raises
    ------
    TemplateTruncated, TemplateOutOfBounds
    """
    raster = read_raster(cursor)
    (count,) = cursor.take(_COUNT)
    views = [read_view(cursor, raster) for _ in range(count)]
    cursor.finish()
    return [view.template(dialect) for view in views]


def write_body(templates: Sequence[Template], dialect: Dialect) -> bytes:
    """Return what follows the head in ISO/IEC 19794-2:2005 and ANSI INCITS 378-2004.

    Raises
    ------
    TemplateOutOfBounds
    """
    numbered = zip(templates, view_numbers(templates), strict=True)
    views = b"".join(write_view(template, number, dialect) for template, number in numbered)
    return write_raster(templates) + _COUNT.pack(len(templates)) + views


def view_numbers(templates: Sequence[Template]) -> list[int]:
    """Give numbers to the views of each finger from 0, in their order.

    Parameters
    ----------
    templates : sequence of Template

    Returns
    -------
    list of int

    Raises
    ------
    TemplateOutOfBounds
        More than 16 views of one finger: the number is of 4 bits.
    """
    seen: Counter[Finger] = Counter()
    numbers = []
    for template in templates:
        numbers.append(seen[template.finger])
        seen[template.finger] += 1
    if max(numbers) >= _VIEWS_PER_FINGER:
        raise TemplateOutOfBounds(
            f"{max(numbers) + 1} views of one finger, a minutiae record holds {_VIEWS_PER_FINGER}",
            remedy="write several records, or encode as papilar-2",
        )
    return numbers


def _impression_code(impression: Impression, codes: Mapping[int, Impression]) -> int:
    """Return the code of `impression`, or of the nearest one that the standard has."""
    by_impression = {meaning: code for code, meaning in codes.items()}
    return by_impression[impression if impression in by_impression else _NEAREST[impression]]


def _scale(density: int) -> float:
    """Return pixels at 500 ppi for one pixel at `density` per centimetre; 196 to 198 are 500 ppi, rounded."""
    return 1.0 if abs(density - DENSITY) <= 1 else PPI / (2.54 * density)


def _turned(angle: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles as they are after x and y were scaled: changed where the pixels were not square."""
    if scale[0] == scale[1]:
        return angle
    turned: NDArray[np.float64] = np.arctan2(np.sin(angle) * scale[1], np.cos(angle) * scale[0])
    return turned


def _stated_qualities(minutiae: NDArray[np.void]) -> NDArray[np.int64]:
    """Return minutia qualities; 0, the special codes 254 and 255 and undefined ones are none stated."""
    if minutiae.dtype == MINUTIA_WITHOUT_QUALITY:
        return np.zeros(len(minutiae), np.int64)
    quality = minutiae["quality"].astype(np.int64)
    return np.where(quality <= 100, quality, 0)
