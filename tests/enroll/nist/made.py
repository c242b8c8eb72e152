"""Transactions made up for the tests: waves for ridges, nobody's name."""

from datetime import UTC, date, datetime
from functools import cache

import numpy as np

from enroll.image import GrayImage
from enroll.nist import Envelope, Missing, Record, Segment, SentPrint, Transaction, build
from enroll.nist.record import Field, text_record
from matcher.template import Finger, Template

SENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ENVELOPE = Envelope("CAR", "SLVPOLICE", "HNDPOLICE", "2600000001", SENT, domain=("INT-I", "5.03"))


def waves(height=96, width=80, period=9.0, ppi=500.0):
    y, x = np.mgrid[:height, :width]
    pixels = np.uint8(127.5 + 120 * np.sin(2 * np.pi * np.hypot(x - width / 3, y + 20) / period))
    return GrayImage(pixels, ppi, "")


def template(size=(80, 96)):
    xy = [(10, 12), (40, 50), (79, 95), (0, 0)]
    angle = np.radians([0, 90, 182, 358])
    return Template.of(xy, angle, [1, 2, 1, 0], [90, 60, 30, 0], size=size, finger=Finger.RIGHT_INDEX)


def sent(position=2, impression=0, **changes):
    given = {"image": waves(), **changes}
    return SentPrint(position, impression, date(2026, 3, 4), **given)


@cache
def card() -> Transaction:
    """Two fingers, one with minutiae, a slap with segments and a finger missing, one not there."""
    segment = Segment(Finger.RIGHT_INDEX, ((1, 2), (30, 2), (30, 60), (1, 60)), "14.025")
    prints = [
        sent(template=template()),
        sent(3, 1, image=waves(160, 140, ppi=1000.0)),
        sent(13, 0, segments=(segment,), missing=(Missing(5, "UP"),)),
        sent(7, 0, image=None, missing=(Missing(7, "XX"),)),
    ]
    return build(ENVELOPE, prints, descriptive={3: "0503", 7: "SV/1", 18: "NOBODY, ÑAME"})


def with_record(transaction: Transaction, *new: Record) -> Transaction:
    return transaction.with_records([*transaction.records, *new])


def type_4(data, *, position=1, impression=1, native=0, size=(80, 96), compression=0, idc=9) -> Record:
    """Make a record of Type 4 out of its fields."""
    width, height = size
    values = [
        (18 + len(data)).to_bytes(4, "big"),
        bytes([idc]),
        bytes([impression]),
        bytes([position]).ljust(6, b"\xff"),
        bytes([native]),
        width.to_bytes(2, "big"),
        height.to_bytes(2, "big"),
        bytes([compression]),
        data,
    ]
    return Record(4, tuple(Field(number, b"", value) for number, value in enumerate(values, 1)))


def type_9(values, *, idc="01", impression="0") -> Record:
    return text_record(9, {2: idc, 3: impression, 4: "U", **values})
