"""A zip as a folder: names from its directory, each member read where it lies, nothing unpacked to a disk.

Members are refused by the directory where that is possible, and none gives more bytes than it announces.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import NamedTuple

from papilar.archive.folder import folder_of, is_person
from papilar.archive.sources.flaws import LIMITS, flawed, hidden, safe_path
from papilar.archive.sources.member import HEAD, Member, faulty, in_order, said_by
from papilar.archive.sources.place import Bounded, Place
from papilar.errors import SourceFlaw, SourceInvalid, SourceUnreachable

_LOCAL = struct.Struct("<4s22xHH")  # local file header, APPNOTE 6.3.10, 4.3.7: signature, two lengths
_FIRST = 1024  # bytes of a member that hold its header and how it begins, mostly
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # general purpose bits, 4.4.4: encrypted, strongly, the directory too


class _Packed(NamedTuple):
    """Where the bytes of a member lie, and what they must become."""

    place: Place
    start: int
    length: int
    method: int
    size: int
    crc: int


def zip_members(place: Place) -> Iterator[Member]:
    """Yield every file of a zip, folder by folder, those of one encounter together.

    Parameters
    ----------
    place : Place
        A local disk, or a store that can give a part of a file.

    Raises
    ------
    SourceInvalid
        It is no whole zip.
    SourceUnreachable
    """
    found, refused = _sorted_out(_directory(place))
    yield from (faulty(name, fault) for name, fault in refused)
    version = place.version()
    for _, some in groupby(sorted(found, key=_by_folder), folder_of):
        names = list(some)
        person = is_person(names)
        for name in in_order(names, person=person):
            yield _member(place, name, found.pop(name), version, person=person)


def _directory(place: Place) -> list[zipfile.ZipInfo]:
    try:
        with place.open() as file, zipfile.ZipFile(Bounded(file, LIMITS.directory)) as opened:
            return opened.infolist()
    except (SourceInvalid, SourceUnreachable):
        raise
    except Exception as error:  # of damaged bytes zipfile raises whatever it meets
        raise flawed(SourceFlaw.ARCHIVE_DAMAGED, f"no whole zip ({type(error).__name__})") from error


def _sorted_out(
    infos: list[zipfile.ZipInfo],
) -> tuple[dict[str, zipfile.ZipInfo], list[tuple[str, SourceInvalid]]]:
    """Return the members that are files by their names, and those that can be none."""
    found: dict[str, zipfile.ZipInfo] = {}
    refused: list[tuple[str, SourceInvalid]] = []
    for number, info in enumerate(infos, 1):
        name, fault = safe_path(info.filename.replace("\\", "/"))
        if fault is None and name in found:
            fault = flawed(SourceFlaw.ARCHIVE_NAME_TWICE, "another member has the same name")
        if fault is not None:
            refused.append((f"{name} (member {number})", fault))
        elif not info.is_dir() and not hidden(name):
            found[name] = info
    return found, refused


def _by_folder(name: str) -> tuple[list[str], str]:
    return folder_of(name).split("/"), name


def _member(place: Place, name: str, info: zipfile.ZipInfo, version: str, *, person: bool) -> Member:
    try:
        _check(info)
        packed, head = _begin(place, info)
    except (SourceInvalid, OSError) as error:
        unread = flawed(SourceFlaw.FILE_UNREADABLE, "the zip cannot be read")
        return faulty(name, error if isinstance(error, SourceInvalid) else unread)
    version = version and f"{version}@{info.header_offset}"
    return Member(name, said_by(name, person=person), partial(_read, packed), head, version)


def _check(info: zipfile.ZipInfo) -> None:
    """Refuse a member by what the directory says of it."""
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise flawed(SourceFlaw.ARCHIVE_LINK, "this is a link")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise flawed(SourceFlaw.ARCHIVE_DEVICE, "this is no file")
    if info.flag_bits & _ENCRYPTED:
        raise flawed(SourceFlaw.ARCHIVE_ENCRYPTED, "this is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise flawed(SourceFlaw.ARCHIVE_METHOD_UNKNOWN, f"packed by method {info.compress_type}")
    if max(info.file_size, info.compress_size) > LIMITS.file:
        raise flawed(SourceFlaw.FILE_TOO_LARGE, f"{info.file_size} bytes, more than {LIMITS.file}")
    if info.file_size > LIMITS.ratio_from and info.file_size > LIMITS.ratio * info.compress_size:
        raise flawed(SourceFlaw.ARCHIVE_RATIO, f"{info.file_size} bytes out of {info.compress_size}")


def _begin(place: Place, info: zipfile.ZipInfo) -> tuple[_Packed, bytes]:
    """Find where a member's bytes lie, and how they begin."""
    first = place.part(info.header_offset, info.header_offset + _FIRST)
    if len(first) < _LOCAL.size or first[:4] != b"PK\x03\x04":
        raise flawed(SourceFlaw.ARCHIVE_DAMAGED, "its header is not where the zip says")
    _, names, extras = _LOCAL.unpack_from(first)
    offset = _LOCAL.size + names + extras
    start = info.header_offset + offset
    begin = first[offset:] or place.part(start, start + _FIRST)
    packed = _Packed(place, start, info.compress_size, info.compress_type, info.file_size, info.CRC)
    return packed, _unpacked(packed, begin[: info.compress_size], HEAD)


def _read(packed: _Packed) -> bytes:
    data = packed.place.part(packed.start, packed.start + packed.length)
    content = _unpacked(packed, data, packed.size + 1)
    if len(content) > packed.size:
        raise flawed(SourceFlaw.ARCHIVE_RATIO, "it unpacks to more than it announces")
    if len(content) < packed.size or zlib.crc32(content) != packed.crc:
        raise flawed(SourceFlaw.ARCHIVE_DAMAGED, "its bytes are not those that were packed")
    return content


def _unpacked(packed: _Packed, data: bytes, most: int) -> bytes:
    """Unpack up to `most` bytes."""
    if packed.method == zipfile.ZIP_STORED:
        return data[:most]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most)
    except zlib.error as error:
        raise flawed(SourceFlaw.ARCHIVE_DAMAGED, "its bytes cannot be unpacked") from error
