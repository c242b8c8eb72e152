"""What fields of a transaction say of each other: the part of a profile that no table of fields can hold.

References
----------
.. [1] ANSI/NIST-ITL 1-2011 Update 2015, NIST SP 500-290e3: sections 7.3.1 (designations), 7.7.4 (positions
   and impressions), 7.7.8 (size and scale), 7.7.9 (compression), 8.1 (content).
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from enroll.errors import TransactionError
from enroll.nist.codec import Transaction
from enroll.nist.codes import Content, content_of
from enroll.nist.imagefile import read_head
from enroll.nist.pictures import PICTURE_TYPES, picture, resolution
from enroll.nist.record import DATA, Record, whole_number

_ROLLED = frozenset({1, 3, 21, 23, 25, 27})
_PALM_IMPRESSIONS = range(10, 16)
_PLAIN_THUMBS = (11, 12)
_DIFFERENT = 0.02  # of resolutions, as in enroll.nist.pictures
_REPEATABLE = (9,)  # several examiners' minutiae of one image


class Fault(NamedTuple):
    """One fault: the `place` and label of its `record`, the `field`, and in `text` what is wrong."""

    place: int
    record: str
    field: str
    text: str


Rule = Callable[[Transaction], Iterator[Fault]]


def _content(transaction: Transaction) -> Iterator[Fault]:
    """Hold field 1.003 against the records and their designations, in their order."""
    listed = transaction.header.items(3)[1:]
    for place, (record, items) in enumerate(zip(transaction.records[1:], listed, strict=False), start=2):
        if [whole_number(item) for item in items[:2]] != [record.type, record.idc]:
            yield Fault(place, record.label, f"{record.type}.002 IDC", "not the one that field 1.003 lists")


def _designations(transaction: Transaction) -> Iterator[Fault]:
    """Find records of a type that claim the same image."""
    seen: set[tuple[int, int | None]] = set()
    for place, record in enumerate(transaction.records[1:], start=2):
        key = (record.type, record.idc)
        if key in seen and record.type not in _REPEATABLE:
            yield Fault(place, record.label, f"{record.type}.002 IDC", "given to another record of this type")
        seen.add(key)


def _repeats(transaction: Transaction) -> Iterator[Fault]:
    """Find fields that stand twice in a record."""
    for place, record in enumerate(transaction.records, start=1):
        numbers = [field.number for field in record.fields]
        for number in sorted({number for number in numbers if numbers.count(number) > 1}):
            yield Fault(
                place, record.label, f"{record.type}.{number:03d}", "stands in the record more than once"
            )


def _size(transaction: Transaction) -> Iterator[Fault]:
    """Hold fields 006 and 007 against the width and height of the image."""
    for place, record in _images(transaction):
        head = read_head(record.data)
        for number, name, true in ((6, "HLL", head and head.width), (7, "VLL", head and head.height)):
            if true and record.number(number) != true:
                yield Fault(
                    place, record.label, f"{record.type}.{number:03d} {name}", f"the image has {true} pixels"
                )


def _compression(transaction: Transaction) -> Iterator[Fault]:
    """Hold the compression code against the kind of the image."""
    for place, record in _images(transaction):
        try:
            picture(transaction, record)
        except TransactionError as error:
            number = 8 if record.binary else 11
            yield Fault(place, record.label, f"{record.type}.{number:03d} CGA", error.cause)


def _resolution(transaction: Transaction) -> Iterator[Fault]:
    """Hold the resolution of the record against that of the file, where the file states one."""
    for place, record in _images(transaction):
        head, stated = read_head(record.data), resolution(transaction, record)
        if head and head.ppi and stated and abs(head.ppi - stated) > _DIFFERENT * stated:
            number, name = (5, "ISR") if record.binary else (9, "THPS")
            text = f"the record states {stated:g} ppi, the image {head.ppi:g}"
            yield Fault(place, record.label, f"{record.type}.{number:03d} {name}", text)


def _impression(transaction: Transaction) -> Iterator[Fault]:
    """Find slaps and plain thumbs that are rolled, and impressions of a palm that are none."""
    for place, record in enumerate(transaction.records, start=1):
        if record.type not in (4, 14):
            continue
        items, impression = record.items(4 if record.binary else 13), record.number(3)
        position = whole_number(items[0][0]) if items else None
        if position is None or impression is None:
            continue
        plain = content_of(position) is Content.SLAP or position in _PLAIN_THUMBS
        if (plain and impression in _ROLLED) or impression in _PALM_IMPRESSIONS:
            text = f"impression {impression} cannot be of position {position}"
            yield Fault(place, record.label, f"{record.type}.003 IMP", text)


def _image(transaction: Transaction) -> Iterator[Fault]:
    """Find records without an image that do not say why in field 018."""
    for place, record in enumerate(transaction.records, start=1):
        if record.type in (13, 14, 15) and not record.data and not record.items(18):
            yield Fault(
                place, record.label, f"{record.type}.{DATA} DATA", "missing, and field 018 does not say why"
            )


def _images(transaction: Transaction) -> Iterator[tuple[int, Record]]:
    for place, record in enumerate(transaction.records, start=1):
        if record.type in PICTURE_TYPES and record.data:
            yield place, record


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "content": _content,
        "designations": _designations,
        "repeats": _repeats,
        "size": _size,
        "compression": _compression,
        "resolution": _resolution,
        "impression": _impression,
        "image": _image,
    }
)
"""Rules by the names that profiles call them."""
