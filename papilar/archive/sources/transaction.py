"""ANSI/NIST-ITL transactions in a source: each of their prints becomes an item.

Whose prints they are: what the manifest says; else the transaction's own reference, fields 1.008 and 1.009
together, of which only a digest is kept; else the name of the file. No field of Type 2, where names
stand, is read. Two transactions of one reference in a source are a fault: some systems number each `1`.

A print is read from its transaction when the item is, and a slap is cut then too; once, see
`papilar.archive.sources.sheet`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from enroll.errors import TransactionError
from enroll.nist.codec import Transaction, decode
from enroll.nist.codes import Content
from enroll.nist.pictures import PICTURE_TYPES, Picture, picture
from enroll.nist.record import Record
from enroll.slap import Hand, Segment
from matcher.errors import PapilarError
from matcher.template import Finger
from papilar.archive.cut import CutCall, SheetInput, cut_sheet
from papilar.archive.item import Item
from papilar.archive.sources.flaws import flawed
from papilar.archive.sources.member import Member
from papilar.archive.sources.sheet import LEFT_FINGERS, RIGHT_FINGERS, THUMBS, Shared, print_of
from papilar.errors import SourceFlaw, SourceInvalid
from papilar.store.values import MissingReason

_START = re.compile(rb"1\.0{1,8}1:[0-9]")
_XML = b"NISTBiometric"
_NO_PRINTS = (10, 11, 12, 17, 18, 19)  # faces and marks, voices, teeth, irises, DNA, soles
_OLD_PRINTS = (3, 5, 6)  # at 250 ppi, or of one bit a pixel
_MISSING = {"XX": MissingReason.AMPUTATED, "UP": MissingReason.UNABLE_TO_PRINT}
_RIGHT = frozenset(map(Finger, range(1, 6)))
_FINGERS = range(1, 11)
_OF_HAND: Mapping[Hand | None, tuple[Finger, ...]] = {Hand.RIGHT: RIGHT_FINGERS, Hand.LEFT: LEFT_FINGERS}


def is_transaction(head: bytes) -> bool:
    """Tell by its first bytes whether a file is a transaction, in the traditional encoding or in XML."""
    return _START.match(head) is not None or _XML in head


def transaction_items(member: Member, references: set[int], *, cut: CutCall = cut_sheet) -> Iterator[Item]:
    """Yield the prints of one transaction, or why there are none.

    Parameters
    ----------
    member : Member
        The file.
    references : set of int
        The hashes of the references that the source had before; its own is added.
    cut : callable
        Cuts slaps.
    """
    try:
        transaction = decode(member.read())
        subject, impression = _subject(member, transaction, references)
        said = member.said
        if said.finger is not Finger.UNKNOWN or said.sheet or said.missing or said.kind is not None:
            cause = "a transaction says itself which fingers it holds, which not, and how they were taken"
            raise flawed(SourceFlaw.FINGER_INVALID, cause)
    except PapilarError as error:
        yield member._replace(fault=error).item()
        return
    except OSError:
        fault = flawed(SourceFlaw.FILE_UNREADABLE, "the file cannot be read")
        yield member._replace(fault=fault).item()
        return
    whole = member._replace(said=member.said._replace(subject=subject, impression=impression)).item()
    reading = _Reading(member, cut)
    given = Counter[str]()
    for place, record in enumerate(transaction.records):
        for item in _prints(whole, reading, transaction, place, record):
            given[item.name] += 1
            again = given[item.name]
            yield item if again == 1 else replace(item, name=f"{item.name}~{again}")
            whole = replace(whole, held=0)


def _subject(member: Member, transaction: Transaction, references: set[int]) -> tuple[str, str]:
    said = member.said
    control = (transaction.header.get(9) or "").strip()
    if said.stated or not control:
        return said.subject, said.impression
    told = "\x1f".join((transaction.header.get(8) or "", control))
    digest = hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()
    if hash(digest) in references:
        raise flawed(SourceFlaw.TRANSACTION_TWICE, "an earlier transaction has the same reference, 1.009")
    references.add(hash(digest))
    return f"tcn-{digest[:32]}", "1"


def _prints(
    whole: Item, reading: "_Reading", transaction: Transaction, place: int, record: Record
) -> Iterator[Item]:
    """Yield the prints of one record."""
    item = replace(whole, name=f"{whole.name}#{record.label}")
    if record.type in _OLD_PRINTS:
        cause = f"a record of Type {record.type} is too coarse, or of one bit a pixel"
        yield replace(item, fault=flawed(SourceFlaw.ARCHIVE_METHOD_UNKNOWN, cause))
    elif record.type in _NO_PRINTS:
        yield replace(item, fault=_not_a_fingerprint(record))
    elif record.type in PICTURE_TYPES:
        try:
            found = picture(transaction, record)
        except TransactionError as error:
            yield replace(item, fault=error)
        else:
            yield from _of_picture(item, reading, place, found)


def _not_a_fingerprint(record: Record) -> SourceInvalid:
    return flawed(
        SourceFlaw.NOT_A_FINGERPRINT, f"what a record of Type {record.type} shows here is no finger"
    )


def _of_picture(item: Item, reading: "_Reading", place: int, found: Picture) -> Iterator[Item]:
    if found.content not in (Content.FINGER, Content.SLAP) and len(found.fingers) != 1:
        yield replace(item, fault=_not_a_fingerprint(found.record))
        return
    item = replace(item, kind=found.impression, ppi=item.ppi or found.ppi)
    missing = {each.position: _MISSING.get(each.code, MissingReason.NOT_TAKEN) for each in found.missing}
    if found.content is not Content.SLAP or not found.fingers:
        absent = missing.get(found.position) if not found.data else None
        read = reading.shared.reader(partial(reading.image, place))
        yield replace(item, finger=found.finger, read=read, missing=absent)
        return
    for finger in found.fingers:
        name = f"{item.name}-{int(finger)}"
        absent = missing.get(int(finger)) or (missing.get(found.position) if not found.data else None)
        read = reading.shared.reader(partial(reading.finger, place, finger))
        yield replace(item, name=name, finger=finger, read=read, missing=absent)


class _Reading:
    """A transaction for the items that are cut from it, which share what was decoded."""

    def __init__(self, member: Member, cut: CutCall) -> None:
        self._read = member.read
        self._cut = cut
        self.shared = Shared()

    def image(self, place: int) -> bytes:
        """Return the image file of a record."""
        return self._picture(place).data

    def finger(self, place: int, finger: Finger) -> bytes:
        """Return one finger of a slap as PNG; raises as `print_of`, and `ImageError`."""
        slap = self.shared.once(place, lambda: self._cut(_slap(self._picture(place))))
        return print_of(slap.prints, slap.reasons, finger)

    def _picture(self, place: int) -> Picture:
        transaction = self.shared.once("transaction", lambda: decode(self._read()))
        return picture(transaction, transaction.records[place])


def _slap(found: Picture) -> SheetInput:
    fingers = frozenset(found.fingers)
    hand = Hand.RIGHT if fingers <= _RIGHT else Hand.LEFT if not fingers & _RIGHT else None
    absent = {Finger(each.position) for each in found.missing if each.position in _FINGERS}
    return SheetInput(
        image=found.data,
        ppi=found.ppi,
        hand=hand,
        thumbs=fingers <= {*THUMBS},
        missing=frozenset(absent | ({*_OF_HAND.get(hand, ())} - fingers)),
        segments=tuple(Segment(each.finger, each.corners) for each in found.segments),
    )
