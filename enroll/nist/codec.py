"""Bytes to a transaction and back, byte for byte.

A transaction is refused as soon as it contradicts itself: what cannot be cut into the records that it
announces might be cut into other people's. Nothing is copied but the fields, and the work is
proportional to the bytes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from enroll.errors import (
    RecordCharacterSet,
    RecordContentMismatch,
    RecordFieldInvalid,
    RecordLengthWrong,
    TransactionError,
    TransactionFormatUnknown,
    TransactionTooLarge,
    TransactionTruncated,
    TransactionVersionUnsupported,
    TransactionXml,
)
from enroll.nist.record import BINARY_TYPES, DATA, FS, GS, Field, Record, binary_layout, whole_number

VERSIONS = MappingProxyType(
    {
        "0200": "ANSI/NIST-CSL 1-1993",
        "0201": "ANSI/NIST-ITL 1a-1997",
        "0300": "ANSI/NIST-ITL 1-2000",
        "0400": "ANSI/NIST-ITL 1-2007",
        "0500": "ANSI/NIST-ITL 1-2011",
        "0501": "ANSI/NIST-ITL 1-2011 Update 2013",
        "0502": "ANSI/NIST-ITL 1-2011 Update 2015",
    }
)
"""Values of field 1.002 and the edition that each names."""

READ_TYPES = frozenset({1, 2, 4, 7, 9, 10, 13, 14, 15, 16})
"""Types whose fields are known here; every other record is kept as it is."""

_CHARACTER_SETS = MappingProxyType({0: "ascii", 1: "latin-1", 3: "utf-8"})  # Table 4, codes of 1.015
_REMEDY_WHOLE = "send the whole file, as it was written"
_REMEDY_SENDER = "have it written again by the system that it comes from"
_START = re.compile(rb"1\.0{1,8}1:([0-9]{1,9})" + GS)
_TAG = re.compile(rb"([0-9]{1,2})\.([0-9]{1,9}):")
_PADDING = b"\0\r\n\t \x1a"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken for a transaction."""

    size: int = 256 * 2**20  # bytes; ten rolled prints, slaps and palms at 1000 ppi, uncompressed, are 200 MB
    records: int = 999  # the record count of field 1.003 has three digits
    fields: int = 2_000  # of a record; field numbers have three digits
    padding: int = 4_096  # bytes behind the last record, of a tape or a disk


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction: records that were sent together.

    Attributes
    ----------
    records : tuple of Record
        The first is of Type 1.
    padding : bytes
        Blanks behind the last record, written again as they were.
    warnings : tuple of str
        What to know of how it was read; names records and fields, never their values.
    """

    records: tuple[Record, ...]
    padding: bytes = b""
    warnings: tuple[str, ...] = ()

    @property
    def header(self) -> Record:
        """The record of Type 1."""
        return self.records[0]

    def of_type(self, *kinds: int) -> Iterator[Record]:
        """Yield the records of these types, in their order.

        Parameters
        ----------
        *kinds : int
        """
        return (record for record in self.records if record.type in kinds)

    def with_records(self, records: Sequence[Record]) -> "Transaction":
        """Return the transaction with other records, and field 1.003 made right.

        Parameters
        ----------
        records : sequence of Record
            All of them, the one of Type 1 first.

        Raises
        ------
        RecordContentMismatch
            The first is not of Type 1, or another one is.
        """
        kinds = [record.type for record in records]
        if kinds[:1] != [1] or 1 in kinds[1:]:
            raise RecordContentMismatch("records without one of Type 1 at their head", remedy="put it first")
        return replace(self, records=(_counted(records[0], records[1:]), *records[1:]))

    def replaced(self, old: Record, new: Record) -> "Transaction":
        """Return the transaction with one record in the place of another, and field 1.003 made right.

        Parameters
        ----------
        old, new : Record
            Of equal records the first is replaced.

        Raises
        ------
        RecordContentMismatch
            There is no such record, or none of Type 1 would be left at the head.
        """
        if old not in self.records:
            raise RecordContentMismatch("no such record in the transaction", remedy="give one of its own")
        at = self.records.index(old)
        return self.with_records([*self.records[:at], new, *self.records[at + 1 :]])


def decode(data: bytes) -> Transaction:
    """Read a transaction in the traditional encoding.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    Transaction
        `encode` gives the same bytes again.

    Raises
    ------
    TransactionFormatUnknown, TransactionXml, TransactionVersionUnsupported
        It is none, or not in an encoding or a version that is read.
    TransactionTruncated, TransactionTooLarge
        It ends early, or is larger than any.
    RecordLengthWrong, RecordContentMismatch, RecordFieldInvalid, RecordCharacterSet
        It contradicts itself; the error names the record and the field.

    References
    ----------
    .. [1] ANSI/NIST-ITL 1-2011 Update 2015, NIST SP 500-290e3, Annex B and section 8.1.
       https://doi.org/10.6028/NIST.SP.500-290e3
    """
    header = _header(data)
    notes = list(_version_notes(header))
    encoding = _encoding(header)
    records, at = [header], _length_of(header)
    for place, (kind, idc) in enumerate(_content(header), start=2):
        record, length = _read(data, at, kind, place)
        record, found = _with_encoding(record, encoding, place)
        notes += [*_record_notes(record, idc, place), *found]
        records.append(record)
        at += length
    padding = _padding(data[at:], len(records))
    if padding:
        notes.append(f"{len(padding)} blank bytes behind the last record")
    return Transaction(tuple(records), padding, tuple(notes))


def encode(transaction: Transaction) -> bytes:
    """Write a transaction; what was not changed since it was read is written as it was.

    Parameters
    ----------
    transaction : Transaction

    Returns
    -------
    bytes
    """
    return b"".join(record.encode() for record in transaction.records) + transaction.padding


def _header(data: bytes) -> Record:
    """Read the record of Type 1."""
    if len(data) > LIMITS.size:
        raise TransactionTooLarge(f"{len(data)} bytes, more than {LIMITS.size}", remedy="send fewer records")
    if data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise TransactionXml(
            "the transaction is in the NIEM-XML encoding",
            remedy="have it written in the traditional encoding (ANSI/NIST-ITL 1-2011, Annex B)",
        )
    if not _START.match(data):
        raise _no_start(data)
    header, _ = _read_text(data, 0, 1, 1)
    if any(one.number == DATA or not one.value.isascii() for one in header.fields):
        raise RecordCharacterSet("record 1 (Type 1) is not 7-bit ASCII", remedy=_REMEDY_SENDER)
    return header


def _no_start(data: bytes) -> TransactionError:
    """Tell a transaction that is cut in its first field from bytes that are none."""
    if re.fullmatch(rb"1(\.(0{0,8}|0{1,8}1(:[0-9]{0,9})?))?", data):
        return TransactionTruncated(f"{len(data)} bytes, cut within field 1.001", remedy=_REMEDY_WHOLE)
    return TransactionFormatUnknown(
        "the bytes do not begin with field 1.001 of an ANSI/NIST-ITL transaction",
        remedy="send a transaction in the traditional encoding",
    )


def _length_of(record: Record) -> int:
    return sum(len(one.tag) + len(one.value) for one in record.fields) + len(record.fields)


def _version_notes(header: Record) -> Iterator[str]:
    version = header.get(2)
    if version in VERSIONS:
        return
    number = whole_number(version)
    if number is None or number > int(max(VERSIONS)):
        raise TransactionVersionUnsupported(
            "field 1.002 names no version of the standard that is read here",
            remedy="have it written as 0502 or earlier",
        )
    yield f"field 1.002: version {number} is none of the standard's"


def _encoding(header: Record) -> str | None:
    """Return the character set that field 1.015 declares, None where it declares none."""
    declared = [whole_number(items[0]) for items in header.items(15) if items[0]]
    if not declared:
        return None
    for code in declared:
        if code not in _CHARACTER_SETS:
            raise RecordCharacterSet(
                "field 1.015: a character set that is not read here",
                remedy="ASCII (000), Latin-1 (001) and UTF-8 (003) are read",
            )
    return _CHARACTER_SETS[declared[-1] or 0]


def _content(header: Record) -> list[tuple[int, int]]:
    """Return type and designation of the records that field 1.003 lists."""
    pairs = [tuple(map(whole_number, items)) for items in header.items(3)]
    numbers = [
        (a, b) for a, b in (pair for pair in pairs if len(pair) == 2) if a is not None and b is not None
    ]
    if not pairs or len(numbers) != len(pairs) or numbers[0][0] != 1:
        raise RecordFieldInvalid("field 1.003 is missing, or no list of records", remedy=_REMEDY_SENDER)
    count, listed = numbers[0][1], numbers[1:]
    if len(listed) > LIMITS.records:
        raise TransactionTooLarge(f"field 1.003 lists {len(listed)} records", remedy="send fewer in each")
    if count != len(listed):
        raise RecordContentMismatch(
            f"field 1.003 counts {count} records and lists {len(listed)}", remedy=_REMEDY_SENDER
        )
    if any(not 2 <= kind <= 99 for kind, _ in listed):
        raise RecordFieldInvalid("field 1.003 lists a type that is not 2 to 99", remedy=_REMEDY_SENDER)
    return listed


def _read(data: bytes, at: int, kind: int, place: int) -> tuple[Record, int]:
    """Read the record that begins at a byte, and return its length with it."""
    if at >= len(data):
        raise TransactionTruncated(f"record {place} (Type {kind}) is not there", remedy=_REMEDY_WHOLE)
    return (_read_binary if kind in BINARY_TYPES else _read_text)(data, at, kind, place)


def _read_binary(data: bytes, at: int, kind: int, place: int) -> tuple[Record, int]:
    length = int.from_bytes(data[at : at + 4], "big")
    layout = binary_layout(kind, length)
    if at + 4 <= len(data) and length < sum(layout.values()):
        raise _wrong_length(place, kind, length)
    _check_there(data, at, length, place, kind)
    fields, start = [], at
    for number, width in layout.items():
        fields.append(Field(number, b"", data[start : start + width]))
        start += width
    fields.append(Field(len(layout) + 1, b"", data[start : at + length]))
    return Record(kind, tuple(fields)), length


def _read_text(data: bytes, at: int, kind: int, place: int) -> tuple[Record, int]:
    start = re.compile(rb"%d\.0{1,8}1:([0-9]{1,9})" % kind + GS).match(data, at)
    if start is None:
        if len(data) - at < 24 and FS not in data[at:]:
            raise TransactionTruncated(f"record {place} (Type {kind}) is cut", remedy=_REMEDY_WHOLE)
        raise RecordContentMismatch(
            f"record {place}: no record of Type {kind}, which field 1.003 lists, begins at byte {at}",
            remedy=_REMEDY_SENDER,
        )
    length = int(start[1])
    if length <= start.end() - at:
        raise _wrong_length(place, kind, length)
    _check_there(data, at, length, place, kind)
    end = at + length - 1
    if data[end : end + 1] != FS:
        raise _wrong_length(place, kind, length)
    return Record(kind, tuple(_fields(data, at, end, kind, place))), length


def _fields(data: bytes, at: int, end: int, kind: int, place: int) -> Iterator[Field]:
    """Cut a record of text into fields; the image, which may hold any byte, is the last one."""
    for count in range(LIMITS.fields + 1):
        tag = _TAG.match(data, at, end)
        if tag is None or int(tag[1]) != kind:
            raise RecordFieldInvalid(
                f"record {place} (Type {kind}): no field begins where its field {count + 1} should",
                remedy=_REMEDY_SENDER,
            )
        number = int(tag[2])
        stop = data.find(GS, tag.end(), end) if number != DATA else -1
        value = data[tag.end() : stop if stop >= 0 else end]
        if number != DATA and FS in value:
            raise RecordLengthWrong(
                f"record {place} (Type {kind}) ends within field {kind}.{number:03d}", remedy=_REMEDY_SENDER
            )
        yield Field(number, tag[0], value)
        if stop < 0:
            return
        at = stop + 1
    raise TransactionTooLarge(f"record {place}: more than {LIMITS.fields} fields", remedy="send fewer")


def _wrong_length(place: int, kind: int, length: int) -> RecordLengthWrong:
    return RecordLengthWrong(
        f"record {place} (Type {kind}): its length is not the {length} bytes of field {kind}.001",
        remedy=_REMEDY_SENDER,
    )


def _check_there(data: bytes, at: int, length: int, place: int, kind: int) -> None:
    if at + max(length, 4) > len(data):
        raise TransactionTruncated(
            f"record {place} (Type {kind}): {len(data) - at} of {length} bytes", remedy=_REMEDY_WHOLE
        )


def _with_encoding(record: Record, declared: str | None, place: int) -> tuple[Record, list[str]]:
    """Settle the character set of a record; where none is declared it is seen from the bytes."""
    if record.binary:
        return record, []
    texts = [one for one in record.fields if one.number != DATA]
    for encoding in (declared,) if declared else ("ascii", "utf-8", "latin-1"):
        wrong = next((one.number for one in texts if not _is_text(one.value, encoding)), None)
        if wrong is None:
            foreign = declared is None and encoding != "ascii"
            note = (
                f"record {place} (Type {record.type}) is not ASCII, and declares nothing; read as {encoding}"
            )
            return replace(record, encoding=encoding), [note] if foreign else []
    raise RecordCharacterSet(
        f"record {place}: field {record.type}.{wrong:03d} is not {declared}, which field 1.015 declares",
        remedy=_REMEDY_SENDER,
    )


def _is_text(value: bytes, encoding: str) -> bool:
    try:
        value.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _record_notes(record: Record, idc: int, place: int) -> Iterator[str]:
    if record.type not in READ_TYPES:
        yield f"record {place}: Type {record.type} is kept as it is, and not read"
    if record.idc != idc:
        yield f"record {place}: field {record.type}.002 is not the {idc:02d} that field 1.003 lists"


def _padding(rest: bytes, count: int) -> bytes:
    """Return what follows the last record, if it is nothing that could be a record."""
    if len(rest) > LIMITS.padding or rest.strip(_PADDING):
        raise RecordContentMismatch(
            f"{len(rest)} bytes behind the last of {count} records that field 1.003 lists",
            remedy=_REMEDY_SENDER,
        )
    return rest


def _counted(header: Record, others: Sequence[Record]) -> Record:
    """Write field 1.003, unless it lists these records already: then its bytes stay as they are."""
    wanted = [(record.type, record.idc or 0) for record in others]
    try:
        listed = _content(header)
    except (RecordFieldInvalid, RecordContentMismatch):
        listed = []
    if listed == wanted and header.bytes_of(3) is not None:
        return header
    pairs = [(str(kind), f"{idc:02d}") for kind, idc in wanted]
    return header.with_field(3, [("1", str(len(wanted))), *pairs])
