"""Records and their fields as values, whose bytes are those of the file.

A record of text is `TYPE.NUMBER:VALUE` joined by GS and ended by FS; a value is subfields joined by RS, each
of them items joined by US (ANSI/NIST-ITL 1-2011 Update 2015, Annex B.1). Records of Types 3 to 8 are binary:
fields of fixed width without tags, then the image. Both are held the same way, so that whoever asks for a
field need not know which it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from enroll.errors import RecordFieldInvalid

FS, GS, RS, US = b"\x1c", b"\x1d", b"\x1e", b"\x1f"
BINARY_TYPES = range(3, 9)
DATA = 999
"""Number of the field that holds the image of a record of text; it is the last one."""

Items = tuple[tuple[str, ...], ...]
"""The value of a field: its subfields, each with its items."""

_IMAGE = MappingProxyType({1: 4, 2: 1, 3: 1, 4: 6, 5: 1, 6: 2, 7: 2, 8: 1})
_SIGNATURE = MappingProxyType({1: 4, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2})
_BARE = MappingProxyType({1: 4, 2: 1})
_POSITIONS = 4  # of an image record: six bytes, of which those not used are 255
_NONE = 255
_WIDEST_NUMBER = 9  # digits; enough for every length and coordinate, and too few to be slow


class Field(NamedTuple):
    """A field: its `number` within the record, its `tag` as in the file (empty if binary), its `value`."""

    number: int
    tag: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a transaction.

    Attributes
    ----------
    type : int
        1 to 99.
    fields : tuple of Field
        In the order of the file.
    encoding : str
        Python's name of the character set of its text.
    """

    type: int
    fields: tuple[Field, ...]
    encoding: str = "ascii"

    @property
    def binary(self) -> bool:
        """Whether its fields are of fixed width."""
        return self.type in BINARY_TYPES

    @property
    def idc(self) -> int | None:
        """The information designation character, by which records refer to each other; None in Type 1."""
        return None if self.type == 1 else self.number(2)

    @property
    def label(self) -> str:
        """Type and designation, as "14.3"."""
        return (
            str(self.type) if self.type == 1 else f"{self.type}.{self.idc if self.idc is not None else '?'}"
        )

    @property
    def data(self) -> bytes:
        """The image that it carries; empty where there is none."""
        last = len(binary_layout(self.type)) + 1 if self.binary else DATA
        return self.bytes_of(last) or b""

    def bytes_of(self, field: int | str) -> bytes | None:
        """Return the value of a field as in the file, or None.

        Parameters
        ----------
        field : int or str
            13 or "14.013".
        """
        number = self._number_of(field)
        return next((one.value for one in self.fields if one.number == number), None)

    def get(self, field: int | str) -> str | None:
        """Return the value of a field as text, or None where there is no such field.

        Parameters
        ----------
        field : int or str
            13 or "14.013".

        Returns
        -------
        str or None
            With its separators. A field of a binary record is decimal, finger positions separated by RS.
        """
        value = self.bytes_of(field)
        if value is None:
            return None
        if self.binary:
            return _binary_text(self._number_of(field), value)
        return value.decode(self.encoding, errors="replace")

    def items(self, field: int | str) -> Items:
        """Return the value of a field as subfields and items; empty where there is no such field.

        Parameters
        ----------
        field : int or str
        """
        text = self.get(field)
        if text is None:
            return ()
        return tuple(tuple(part.split("\x1f")) for part in text.split("\x1e"))

    def number(self, field: int | str) -> int | None:
        """Return the value of a field that is one whole number; None where it is missing or none.

        Parameters
        ----------
        field : int or str
        """
        return whole_number(self.get(field))

    def with_field(self, field: int | str, value: str | bytes | Sequence[Sequence[str]]) -> "Record":
        """Return the record with a field changed or added, and its length made right.

        Parameters
        ----------
        field : int or str
        value : str, bytes, or sequence of sequence of str
            The last are subfields and their items.

        Raises
        ------
        RecordFieldInvalid
            A binary record has no such field, or the value does not fit.
        """
        number = self._number_of(field)
        raw = self._raw(number, value)
        if any(one.number == number for one in self.fields):
            changed = tuple(one._replace(value=raw) if one.number == number else one for one in self.fields)
        else:
            at = sum(one.number < number for one in self.fields)
            new = Field(number, b"%d.%03d:" % (self.type, number), raw)
            changed = (*self.fields[:at], new, *self.fields[at:])
        return replace(self, fields=_measured(changed, binary=self.binary))

    def without_field(self, field: int | str) -> "Record":
        """Return the record of text without a field, and its length made right.

        Parameters
        ----------
        field : int or str

        Raises
        ------
        RecordFieldInvalid
            The record is binary, or the field is its length.
        """
        number = self._number_of(field)
        if self.binary or number == 1:
            raise RecordFieldInvalid(
                f"field {self.type}.{number:03d} cannot be left out", remedy="give it another value"
            )
        kept = tuple(one for one in self.fields if one.number != number)
        return replace(self, fields=_measured(kept, binary=False))

    def encode(self) -> bytes:
        """Return its bytes, with every separator."""
        parts = (one.tag + one.value for one in self.fields)
        return b"".join(parts) if self.binary else GS.join(parts) + FS

    def _number_of(self, field: int | str) -> int:
        if isinstance(field, int):
            return field
        kind, _, number = field.partition(".")
        if not (kind.isdecimal() and number.isdecimal()) or int(kind) != self.type:
            raise RecordFieldInvalid(
                f"no field {field} in a record of Type {self.type}", remedy="name its own"
            )
        return int(number)

    def _raw(self, number: int, value: str | bytes | Sequence[Sequence[str]]) -> bytes:
        refusal = RecordFieldInvalid(
            f"field {self.type}.{number:03d} cannot hold that value",
            remedy=f"give what fits its width and the character set {self.encoding}, without FS and GS",
        )
        try:
            raw = value if isinstance(value, bytes) else self._written(number, value)
        except (ValueError, OverflowError, KeyError) as error:
            raise refusal from error
        if not self.binary and number != DATA and (FS in raw or GS in raw):
            raise refusal
        return raw

    def _written(self, number: int, value: str | Sequence[Sequence[str]]) -> bytes:
        text = value if isinstance(value, str) else "\x1e".join("\x1f".join(part) for part in value)
        return _binary_value(self.type, number, text) if self.binary else text.encode(self.encoding)


def binary_layout(kind: int, length: int | None = None) -> Mapping[int, int]:
    """Return the width in bytes of each field of a binary record, by number; the image follows them.

    Parameters
    ----------
    kind : int
        Type of the record, 3 to 8.
    length : int, optional
        Length of the whole record. Type 7 is the user's own: it is taken to be laid out as Type 4, as NIST's
        reference transactions have it, unless it is too short for that.

    Returns
    -------
    mapping of int to int
    """
    if kind == 8:
        return _SIGNATURE
    short = kind == 7 and length is not None and length < sum(_IMAGE.values())
    return _BARE if short else _IMAGE


def whole_number(text: str | None) -> int | None:
    """Return the whole number that a text is, or None.

    Parameters
    ----------
    text : str or None
    """
    plain = (text or "").strip()
    return int(plain) if re.fullmatch(rf"[0-9]{{1,{_WIDEST_NUMBER}}}", plain, re.ASCII) else None


def text_record(kind: int, values: Mapping[int, str | bytes | Sequence[Sequence[str]]]) -> Record:
    """Make a record of text out of its values; the length is added.

    Parameters
    ----------
    kind : int
        Its type.
    values : mapping of int to str, bytes, or sequence of sequence of str
        By number of the field.

    Returns
    -------
    Record
        Its text is UTF-8.
    """
    record = Record(kind, (Field(1, b"%d.001:" % kind, b"0"),), "utf-8")
    for number, value in sorted(values.items()):
        record = record.with_field(number, value)
    return record


def _measured(fields: tuple[Field, ...], *, binary: bool) -> tuple[Field, ...]:
    """Write the length into the first field."""
    first, rest = fields[0], fields[1:]
    body = sum(len(one.tag) + len(one.value) for one in rest)
    if binary:
        return (first._replace(value=(body + 4).to_bytes(4, "big")), *rest)
    body += len(first.tag) + len(fields)  # a separator behind each field
    length = next(n for n in range(body + 1, body + 12) if n == body + len(str(n)))
    return (first._replace(value=b"%d" % length), *rest)


def _binary_text(number: int, value: bytes) -> str:
    if number == _POSITIONS and len(value) == _IMAGE[_POSITIONS]:
        used = [str(code) for code in value if code != _NONE]
        return "\x1e".join(used)
    return str(int.from_bytes(value, "big")) if len(value) <= 4 else ""


def _binary_value(kind: int, number: int, text: str) -> bytes:
    width = binary_layout(kind)[number]
    if number == _POSITIONS and width == _IMAGE[_POSITIONS]:
        codes = bytes(int(code) for code in text.split("\x1e"))
        if len(codes) > width:
            raise ValueError("too many positions")
        return codes.ljust(width, bytes([_NONE]))
    return int(text).to_bytes(width, "big")
