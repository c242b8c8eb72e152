"""Template formats: `decode` recognises and reads them, `encode` writes them.

===================== ====== ======= ========================================================================
format                reads  writes  what it is
===================== ====== ======= ========================================================================
`papilar-2`           yes    yes     our own, lossless: `matcher.codecs.native`
`iso-19794-2:2005`    yes    yes     ISO/IEC 19794-2:2005, record format: `matcher.codecs.iso19794`
`iso-19794-2:2011`    yes    yes     ISO/IEC 19794-2:2011, record format: `matcher.codecs.iso19794`
`ansi-378:2004`       yes    yes     ANSI INCITS 378-2004: `matcher.codecs.ansi378`
`ansi-378:2009`       yes    no      ANSI INCITS 378-2009 and its amendment 1: `matcher.codecs.ansi378`
===================== ====== ======= ========================================================================

Each module states what a round trip through its formats keeps. Read records are brought to 500 ppi;
extended data are skipped, finger and impression codes that a template cannot hold become `UNKNOWN`, the
reserved minutia type 3 becomes `Kind.OTHER`, undefined quality codes become "not stated".
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from matcher.codecs import ansi378, iso19794, native, record
from matcher.errors import (
    TemplateFormatUnknown,
    TemplateOutOfBounds,
    TemplateTruncated,
    TemplateVersionUnsupported,
)
from matcher.template import Template

__all__ = ["CODECS", "NATIVE", "Codec", "decode", "encode", "recognise"]


@dataclass(frozen=True, slots=True)
class Codec:
    """How one format is read and written.

    Attributes
    ----------
    read : callable
        A whole record to its views.
    write : callable or None
        Views, at least one, to a record; None where the format is only read.
    """

    read: Callable[[bytes], list[Template]]
    write: Callable[[Sequence[Template]], bytes] | None = None


NATIVE = "papilar-2"
"""The lossless format: of the store, and between nodes."""

CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        NATIVE: Codec(native.read, native.write),
        "iso-19794-2:2005": Codec(iso19794.read_2005, iso19794.write_2005),
        "iso-19794-2:2011": Codec(iso19794.read_2011, iso19794.write_2011),
        "ansi-378:2004": Codec(ansi378.read_2004, ansi378.write_2004),
        "ansi-378:2009": Codec(ansi378.read_2009),
    }
)
"""Every format, by the name that `encode` takes and `recognise` gives."""

_LENGTH = struct.Struct(">I")
_SHORTEST_030 = 15
_SHORTEST_020 = 24


def decode(data: bytes) -> list[Template]:
    """Read a template record of any known format.

    Parameters
    ----------
    data : bytes
        One whole record; its format is recognised from the bytes.

    Returns
    -------
    list of Template
        All views, in the record's order, at 500 ppi.

    Raises
    ------
    TemplateFormatUnknown
        No format that is read here.
    TemplateVersionUnsupported
        A known format in another version.
    TemplateTruncated
        The record ends before its own lengths say.
    TemplateOutOfBounds
        A minutia outside its own image, a size or resolution of zero, a length that lies.
    TemplateError
        A wrong checksum.
    """
    return CODECS[recognise(data)].read(data)


def encode(templates: Sequence[Template] | Template, format: str) -> bytes:  # noqa: A002 (the field's word)
    """Write templates as one record.

    Parameters
    ----------
    templates : Template or sequence of Template
        The record's views, at least one. Of a view with more than 255 minutiae the best 255 are written,
        except in `papilar-2`.
    format : str
        A name of `CODECS`.

    Returns
    -------
    bytes

    Raises
    ------
    TemplateFormatUnknown
        `format` is none that is written here.
    TemplateOutOfBounds
        No view, more views than the format holds, or a position that it cannot hold.
    """
    codec = CODECS.get(format)
    if codec is None or codec.write is None:
        writable = ", ".join(name for name, each in CODECS.items() if each.write)
        raise TemplateFormatUnknown(
            f"the format {format!r} is not written here", remedy=f"use one of {writable}"
        )
    views = [templates] if isinstance(templates, Template) else list(templates)
    if not views:
        raise TemplateOutOfBounds("a record of no view", remedy="give at least one template")
    return codec.write(views)


def recognise(data: bytes) -> str:
    """Name the format of a template record.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    str
        A key of `CODECS`.

    Raises
    ------
    TemplateFormatUnknown, TemplateVersionUnsupported, TemplateTruncated, TemplateOutOfBounds
    """
    if data.startswith(native.MAGIC):
        return NATIVE
    if not data.startswith(record.MAGIC):
        raise TemplateFormatUnknown(
            f"bytes that begin with {data[:4].hex(' ') or 'nothing'} are no template record",
            remedy=f"give a record of {', '.join(CODECS)}",
        )
    return _recognise_record(data)


def _recognise_record(data: bytes) -> str:
    """Name the format of a finger minutiae record, by its version and, where that is shared, its lengths."""
    version = data[4:8]
    if len(version) < 4:
        raise _cut(data)
    match version:
        case b" 20\0" | b"020\0":
            return _recognise_020(data)
        case b"030\0":
            return _recognise_030(data)
        case b"035\0":
            return "ansi-378:2009"
    raise TemplateVersionUnsupported(
        f"a finger minutiae record of version {version!r}",
        remedy=f"ask its source for one of {', '.join(CODECS)}",
    )


def _recognise_020(data: bytes) -> str:
    """Tell ISO/IEC 19794-2:2005 from ANSI INCITS 378-2004 by the length field.

    ISO's has 4 bytes. ANSI's has 2, which are at least 26; or these are zero and 4 more follow, for records
    of 65536 bytes or more: then ISO would read a length below its own header's 24 bytes.
    """
    if len(data) < _SHORTEST_020:
        raise _cut(data)
    (as_iso,) = _LENGTH.unpack_from(data, 8)
    short_ansi = as_iso >= 26 << 16
    long_ansi = 0 < as_iso < _SHORTEST_020
    return "ansi-378:2004" if short_ansi or long_ansi else "iso-19794-2:2005"


def _recognise_030(data: bytes) -> str:
    """Tell ISO/IEC 19794-2:2011 from ANSI INCITS 378-2009 by the lengths of the representations.

    Where they do not add up, the reserved byte of the ANSI header tells whether it can be that one.
    """
    if len(data) < _SHORTEST_030:
        raise _cut(data)
    (length,) = _LENGTH.unpack_from(data, 8)
    record.check_length(data, length, least=_SHORTEST_030, short_by=ansi378.SHORT_BY)
    if iso19794.is_2011(data):
        return "iso-19794-2:2011"
    if len(data) > 20 and data[20] == 0:
        return "ansi-378:2009"
    raise TemplateOutOfBounds(
        "the lengths in this record of version 030 do not add up",
        remedy="have it written again by its source, in ISO/IEC 19794-2:2011 or ANSI INCITS 378-2009",
    )


def _cut(data: bytes) -> TemplateTruncated:
    return TemplateTruncated(f"the record ends after {len(data)} bytes", remedy="fetch it again, whole")
