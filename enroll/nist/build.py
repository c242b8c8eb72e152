"""Prints to a transaction: Types 1 and 2, a Type 14 for each print, a Type 9 where minutiae go with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from types import MappingProxyType

import numpy as np

from enroll.errors import ImageError
from enroll.image import GrayImage, encode_png
from enroll.nist.codec import VERSIONS, Transaction
from enroll.nist.pictures import Missing, Segment
from enroll.nist.record import Record, text_record
from enroll.nist.wsq_file import encode_wsq
from matcher.template import PPI, Template

_LATEST = max(VERSIONS)
_UTF8 = [("003", "UTF-8")]
_NO_RESOLUTION = "00.00"  # fields 1.011 and 1.012 where no record of Type 4 depends on them
_INCITS_OWNER, _INCITS_TYPE = "27", "513"  # CBEFF: format owner INCITS M1, ANSI 378 without extended data
_NO_QUALITY = "254"
_UNKNOWN_PRODUCT = ("0000", "0")
_ANGLE = 2  # degrees of one unit of field 9.137


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends what to whom: the fields of Type 1 that no program can know.

    Attributes
    ----------
    kind : str
        Type of transaction, field 1.004, as the receiver's profile names it.
    destination, origin : str
        Agencies, fields 1.007 and 1.008.
    control : str
        Transaction control number, 1.009.
    sent : datetime
        With its time zone.
    reference : str
        Control number of the transaction that this one answers, 1.010.
    priority : int or None
        1 (first) to 9.
    domain : tuple of str
        Name and version, 1.013; empty for the standard's own.
    """

    kind: str
    destination: str
    origin: str
    control: str
    sent: datetime
    reference: str = ""
    priority: int | None = None
    domain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SentPrint:
    """A print that is to be sent.

    Attributes
    ----------
    position, impression : int
        Codes of Tables 8 and 7.
    captured : date
    image : GrayImage or None
        None where there is nothing to print; `missing` must then say why.
    missing : tuple of Missing
    segments : tuple of Segment
        Of a slap; written as polygons, field 14.025.
    template : Template or None
        Its minutiae, for a record of Type 9.
    """

    position: int
    impression: int
    captured: date
    image: GrayImage | None
    missing: tuple[Missing, ...] = ()
    segments: tuple[Segment, ...] = ()
    template: Template | None = None


def build(
    envelope: Envelope, prints: Sequence[SentPrint], *, descriptive: Mapping[int, str] = MappingProxyType({})
) -> Transaction:
    """Make a transaction out of prints.

    Parameters
    ----------
    envelope : Envelope
    prints : sequence of SentPrint
        Their designations are 1, 2, ... in this order.
    descriptive : mapping of int to str
        Fields of Type 2 by number, from 3 on, as the receiver's profile has them.

    Returns
    -------
    Transaction
        Version 0502. Images at 500 ppi are WSQ at 0.75 bits a pixel, others PNG.

    Raises
    ------
    RecordFieldInvalid
        A value that its record cannot hold.
    """
    records = [text_record(2, {2: "00", **descriptive})]
    for designation, sent in enumerate(prints, start=1):
        records += _records(f"{designation:02d}", sent, envelope)
    return Transaction((_header(envelope),)).with_records([_header(envelope), *records])


def _header(envelope: Envelope) -> Record:
    moment = envelope.sent.astimezone(UTC)
    values: dict[int, str | Sequence[Sequence[str]]] = {
        2: _LATEST,
        4: envelope.kind,
        5: f"{moment:%Y%m%d}",
        7: envelope.destination,
        8: envelope.origin,
        9: envelope.control,
        11: _NO_RESOLUTION,
        12: _NO_RESOLUTION,
        14: f"{moment:%Y%m%d%H%M%S}Z",
        15: _UTF8,
    }
    if envelope.priority is not None:
        values[6] = str(envelope.priority)
    if envelope.reference:
        values[10] = envelope.reference
    if envelope.domain:
        values[13] = [envelope.domain]
    return replace(text_record(1, values), encoding="ascii")


def _records(designation: str, sent: SentPrint, envelope: Envelope) -> Iterator[Record]:
    values: dict[int, str | bytes | Sequence[Sequence[str]]] = {
        2: designation,
        3: str(sent.impression),
        4: envelope.origin,
        5: f"{sent.captured:%Y%m%d}",
        13: str(sent.position),
    }
    if sent.image is not None:
        values |= _image(sent.image)
    if sent.missing:
        values[18] = [(str(position), code) for position, code in sent.missing]
    if sent.segments:
        values[25] = [tuple(_corners(segment)) for segment in sent.segments]
    yield text_record(14, values)
    if sent.template is not None:
        yield _minutiae(designation, sent.template, sent)


def _image(image: GrayImage) -> dict[int, str | bytes | Sequence[Sequence[str]]]:
    height, width = image.pixels.shape
    code, data = _compressed(image)
    scale = str(round(image.ppi))
    return {
        6: str(width),
        7: str(height),
        8: "1",  # pixels per inch
        9: scale,
        10: scale,
        11: code,
        12: "8",
        999: data,
    }


def _compressed(image: GrayImage) -> tuple[str, bytes]:
    try:
        return "WSQ20", encode_wsq(image)
    except ImageError:  # not at 500 ppi, or nothing in it
        return "PNG", encode_png(image)


def _corners(segment: Segment) -> Iterator[str]:
    yield str(int(segment.finger))
    yield str(len(segment.corners))
    yield from (str(value) for corner in segment.corners for value in corner)


def _minutiae(designation: str, template: Template, sent: SentPrint) -> Record:
    """Write the INCITS 378 form of Type 9, Table 28 of the standard."""
    width, height = template.size
    quality = _NO_QUALITY if template.print_quality is None else str(template.print_quality)
    return text_record(
        9,
        {
            2: designation,
            3: str(sent.impression),
            4: "U",
            126: [(_INCITS_OWNER, _INCITS_TYPE, "0")],
            127: [("NONE", "0")],
            128: str(width),
            129: str(height),
            130: "1",  # pixels per inch
            131: str(PPI),
            132: str(PPI),
            134: str(int(template.finger)),
            135: [(quality, *_UNKNOWN_PRODUCT)],
            136: str(len(template)),
            **({137: list(_rows(template))} if len(template) else {}),
        },
    )


def _rows(template: Template) -> Iterator[tuple[str, ...]]:
    turns = np.rint(np.degrees(template.angle.astype(np.float64)) / _ANGLE).astype(int) % (360 // _ANGLE)
    found = zip(
        template.xy.tolist(), turns.tolist(), template.kind.tolist(), template.quality.tolist(), strict=True
    )
    for index, ((x, y), angle, kind, quality) in enumerate(found, start=1):
        yield f"{index:03d}", str(x), str(y), str(angle), str(kind), str(quality)
